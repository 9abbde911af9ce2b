//! Order between groups, and that none starves. D1 to D8.

use std::collections::BTreeMap;

use pd_placement::{Outcome, Placement, Problem, group::Group};

use crate::world::{
    assert_why, group, is_placed, member, node, occupant, placed, plan, problem, rack, role, within,
};

fn gang(name: &str, pods: u32) -> Group {
    within("rack", group(name, &[role("prefill", 4, pods, pods)]))
}

#[test]
fn d1_of_two_gangs_that_fit_alone_exactly_one_is_placed() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let placement = placed(&problem(nodes, vec![gang("g", 3), gang("h", 3)]));
    assert!(is_placed(&placement, "g"));
    let other = plan(&placement, "h");
    assert_eq!((&other.outcome, other.slots.len()), (&Outcome::Waiting, 0));
    assert!(
        placement.holds.is_empty(),
        "it has not waited long, and holds nothing"
    );
}

#[test]
fn d3_three_gangs_over_two_domains_do_not_block_each_other() {
    let nodes = [rack("a", ("b1", "r1"), &[8]), rack("b", ("b1", "r2"), &[8])].concat();
    let wide = |name: &str| group(name, &[role("prefill", 4, 3, 3)]);
    let placement = placed(&problem(nodes, vec![wide("x"), wide("y"), gang("z", 1)]));
    let count = ["x", "y", "z"]
        .iter()
        .filter(|name| is_placed(&placement, name))
        .count();
    assert_eq!(count, 2, "one wide gang, and the small one beside it");
}

#[test]
fn d5_a_gang_larger_than_any_domain_is_explained_by_level_domain_and_deficit() {
    let nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b1", "r2"), &[8, 4]),
    ]
    .concat();
    let placement = placed(&problem(nodes, vec![gang("g", 5)]));
    for part in [
        "no rack holds 5 prefill",
        "the best is block b1 / rack r1, which takes 4 prefill",
        "4 nvidia.com/gpu short for prefill",
        "1 of 1 domains of level `block` would hold it",
    ] {
        assert_why(&placement, "g", part);
    }
}

#[test]
fn d7_a_gang_that_fits_only_if_others_move_says_which_and_moves_none() {
    let mut nodes = rack("a", ("b1", "r1"), &[8, 8]);
    nodes[0].occupants.push(occupant("x/web", 2));
    let mut daemon = occupant("x/daemon", 0);
    daemon.stays = true;
    nodes[0].occupants.push(daemon);
    let placement = placed(&problem(nodes, vec![gang("g", 4)]));
    let explanation = plan(&placement, "g").explanation.clone().unwrap();
    let moves: BTreeMap<String, Vec<String>> =
        [("a-0".to_owned(), vec!["x/web".to_owned()])].into();
    assert_eq!(explanation.would_move, moves);
}

#[test]
fn d8_the_order_is_priority_then_running_then_age_then_name() {
    let nodes = rack("a", ("b1", "r1"), &[64]);
    let with = |name: &str, priority, age_seconds| Group {
        priority,
        age_seconds,
        ..gang(name, 1)
    };
    let mut running = with("running", 0, 0);
    running.members = vec![member("prefill", 0, "a-0")];
    let groups = vec![
        with("c", 0, 5),
        with("b", 0, 5),
        with("old", 0, 9),
        running,
        with("high", 1, 0),
    ];
    let mut shuffled = groups.clone();
    shuffled.reverse();
    let order = placed(&problem(nodes.clone(), groups)).order;
    assert_eq!(order, ["high", "running", "old", "b", "c"]);
    assert_eq!(placed(&problem(nodes, shuffled)).order, order);
}

/// One step of a cluster in which small groups come and go: each runs for `LIFE` steps, and as many
/// as fit are there. Returns whether the large group was placed, and the small ones that run.
fn step(
    problem: &mut Problem,
    running: &mut BTreeMap<String, (u32, String)>,
    now: u32,
) -> (Placement, bool) {
    const LIFE: u32 = 4;
    running.retain(|_, (until, _)| *until > now);
    let mut groups = vec![Group {
        age_seconds: u64::from(now) * 60,
        ..gang("large", 4)
    }];
    for (name, (_, node)) in &*running {
        let mut small = group(name, &[role("prefill", 4, 1, 1)]);
        small.members = vec![member("prefill", 0, node)];
        groups.push(small);
    }
    // More new ones than fit, at every step.
    groups.extend((0..4).map(|n| group(&format!("s{now:03}-{n}"), &[role("prefill", 4, 1, 1)])));
    problem.groups = groups;
    let placement = placed(problem);
    problem.holds.clone_from(&placement.holds);
    for (name, plan) in &placement.groups {
        if name != "large" && !running.contains_key(name) && plan.outcome == Outcome::Placed {
            running.insert(name.clone(), (now + LIFE, plan.slots[0].node.clone()));
        }
    }
    let is_there = is_placed(&placement, "large");
    (placement, is_there)
}

#[test]
fn d4_a_stream_of_small_groups_does_not_starve_a_large_one() {
    let nodes = rack("a", ("b1", "r1"), &[4, 4, 4, 4, 4]);
    let first: Vec<(String, (u32, String))> = (0..5)
        .map(|n| (format!("first-{n}"), (n + 1, format!("a-{n}"))))
        .collect();
    let run = |patience_seconds: u64| {
        let mut problem = problem(nodes.clone(), Vec::new());
        problem.settings.patience_seconds = patience_seconds;
        let mut running: BTreeMap<String, (u32, String)> = first.iter().cloned().collect();
        let mut held = Vec::new();
        for now in 0..60 {
            let (placement, is_there) = step(&mut problem, &mut running, now);
            if let Some(hold) = placement.holds.first() {
                held.push(hold.nodes.clone());
            }
            if is_there {
                return (Some(now), held);
            }
        }
        (None, held)
    };
    assert_eq!(run(u64::MAX).0, None, "without holds it never comes");
    let (placed_at, held) = run(600);
    // Ten minutes of patience, then the longest life of those that are in its way.
    assert!(placed_at.is_some_and(|at| at <= 10 + 4), "{placed_at:?}");
    assert!(
        held.windows(2).all(|pair| pair[0] == pair[1]),
        "the hold stays where it is: {held:?}"
    );
}

#[test]
fn d4_a_hold_keeps_out_later_groups_only() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes[0].occupants.push(occupant("x/y", 4));
    let aged = |pods| Group {
        age_seconds: 6_000,
        ..gang("aged", pods)
    };
    let mut problem = problem(nodes, vec![aged(2), gang("later", 1)]);
    let placement = placed(&problem);
    assert_eq!(placement.holds[0].group, "aged");
    assert!(!is_placed(&placement, "later"));
    assert_why(&placement, "later", "kept for another group");
    problem.groups[1].priority = 7;
    assert!(
        is_placed(&placed(&problem), "later"),
        "a higher priority goes before"
    );
    // Where the group could never fit, nothing is closed for it.
    problem.groups[1].priority = 0;
    problem.groups[0] = aged(3);
    let placement = placed(&problem);
    assert!(placement.holds.is_empty() && is_placed(&placement, "later"));
}

#[test]
fn one_group_at_a_time_has_a_hold() {
    let mut nodes = [rack("a", ("b1", "r1"), &[8]), rack("b", ("b1", "r2"), &[8])].concat();
    for node in &mut nodes {
        node.occupants
            .push(occupant(&format!("x/{}", node.name), 4));
    }
    let aged = |name: &str, age_seconds| Group {
        age_seconds,
        ..gang(name, 2)
    };
    let placement = placed(&problem(nodes, vec![aged("g", 700), aged("h", 800)]));
    let holders: Vec<&str> = placement
        .holds
        .iter()
        .map(|hold| hold.group.as_str())
        .collect();
    assert_eq!(holders, ["h"]);
}

#[test]
fn d2_the_order_in_which_pods_and_groups_came_does_not_matter() {
    let nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b2", "r1"), &[8]),
    ]
    .concat();
    let groups = vec![gang("g", 3), gang("h", 2), gang("i", 2), gang("j", 1)];
    let first = placed(&problem(nodes.clone(), groups.clone()));
    let (mut nodes, mut groups) = (nodes, groups);
    nodes.reverse();
    groups.rotate_left(2);
    assert_eq!(placed(&problem(nodes, groups)), first);
}

#[test]
fn a_gang_of_sixty_four_is_placed_or_not_at_all() {
    let nodes: Vec<_> = (0..16)
        .map(|n| {
            node(
                &format!("n{n:02}"),
                ("b1", if n < 8 { "r1" } else { "r2" }),
                8,
            )
        })
        .collect();
    let big = |pods| group("g", &[role("prefill", 2, pods, pods)]);
    let placement = placed(&problem(nodes.clone(), vec![big(64)]));
    assert_eq!(plan(&placement, "g").slots.len(), 64);
    assert!(!is_placed(&placed(&problem(nodes, vec![big(65)])), "g"));
}
