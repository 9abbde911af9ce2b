//! G6 and G7: exclusive domains with and without fallback, and groups of a set spread over domains.

use pd_placement::{
    Outcome, Problem,
    group::{Exclusive, Fallback, Group, Spread},
    topology::profiles::profile,
};

use crate::world::{
    assert_why, domain, faults, group, is_placed, member, node, placed, plan, pods, problem, rack,
    role, two_racks, within,
};

fn exclusive(level: &str, fallback: Fallback, group: Group) -> Group {
    Group {
        exclusive: Some(Exclusive {
            level: level.to_owned(),
            fallback,
        }),
        ..group
    }
}

/// NVLink domains of 18 nodes with 4 GPUs each.
fn nvl72(domains: &[&str]) -> Problem {
    let nodes = domains.iter().flat_map(|domain| {
        (0..18).map(move |index| {
            let mut node = node(&format!("{domain}-{index:02}"), ("", ""), 4);
            let clique = ("nvidia.com/gpu.clique".to_owned(), format!("{domain}.0"));
            node.labels.extend([clique]);
            node
        })
    });
    Problem {
        topology: profile("nvlink").unwrap(),
        ..problem(nodes.collect(), Vec::new())
    }
}

/// 3 prefill and 5 decode replicas of two pods with 4 GPUs: 16 of 18 nodes.
fn three_and_five(name: &str) -> Group {
    let mut roles = [role("prefill", 4, 3, 3), role("decode", 4, 5, 5)];
    for role in &mut roles {
        role.pods = vec![pods("engine", 2, 4)];
    }
    within("clique", group(name, &roles))
}

/// Another set with one pod, alone in the NVLink domain of its node.
fn claimant(node: &str) -> Group {
    let other = group("other", &[role("decode", 4, 1, 1)]);
    let mut other = exclusive("clique", Fallback::Wait, other);
    other.members = vec![member("decode", 0, node)];
    other
}

#[test]
fn g6_three_prefill_and_five_decode_go_to_the_domain_that_nobody_claims() {
    let mut problem = nvl72(&["x", "y"]);
    problem.groups = vec![claimant("x-00"), three_and_five("g")];
    let placement = placed(&problem);
    assert_eq!(domain(plan(&placement, "g")), "clique y.0");
    assert_eq!(plan(&placement, "g").slots.len(), 16);
}

#[test]
fn g6_with_one_domain_the_claim_keeps_others_out() {
    let mut problem = nvl72(&["x"]);
    problem.groups = vec![claimant("x-00"), three_and_five("g")];
    let placement = placed(&problem);
    assert_eq!(plan(&placement, "g").outcome, Outcome::Waiting);
    assert_why(
        &placement,
        "g",
        "18 nodes are out for all roles: kept for another group",
    );
    problem.groups[0].exclusive = None;
    assert!(is_placed(&placed(&problem), "g"));
}

#[test]
fn g6_a_claim_waits_for_a_domain_without_others() {
    let mut problem = nvl72(&["x", "y"]);
    let mut there = group("there", &[role("decode", 4, 1, 1)]);
    there.members = vec![member("decode", 0, "x-03")];
    problem.groups = vec![
        there.clone(),
        exclusive("clique", Fallback::Wait, three_and_five("g")),
    ];
    assert_eq!(domain(plan(&placed(&problem), "g")), "clique y.0");
    let mut also = there;
    also.name = "also".to_owned();
    also.members = vec![member("decode", 0, "y-07")];
    problem.groups.push(also);
    let placement = placed(&problem);
    assert_eq!(plan(&placement, "g").outcome, Outcome::Waiting);
    assert_why(
        &placement,
        "g",
        "must not be shared with the groups that are there",
    );
}

#[test]
fn g7_with_fallback_a_domain_is_shared_only_where_none_is_free() {
    let two = two_racks();
    let soft = |name: &str| {
        exclusive(
            "rack",
            Fallback::Share,
            group(name, &[role("prefill", 4, 2, 2)]),
        )
    };
    let placement = placed(&problem(two.clone(), vec![soft("g"), soft("h")]));
    assert_ne!(domain(plan(&placement, "g")), domain(plan(&placement, "h")));
    assert_eq!(plan(&placement, "h").objective.company, 0);
    let placement = placed(&problem(two, vec![soft("g"), soft("h"), soft("i")]));
    assert!(is_placed(&placement, "i"));
    assert!(plan(&placement, "i").objective.company > 0);
    // Without fallback the third one waits.
    let one = rack("a", ("b1", "r1"), &[8, 8]);
    let hard = exclusive(
        "rack",
        Fallback::Wait,
        group("h", &[role("prefill", 4, 2, 2)]),
    );
    let placement = placed(&problem(one, vec![soft("g"), hard]));
    assert!(is_placed(&placement, "g") && !is_placed(&placement, "h"));
}

#[test]
fn g7_others_come_into_a_soft_domain_last() {
    let nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b1", "r2"), &[8, 8, 8]),
    ]
    .concat();
    let soft = exclusive(
        "rack",
        Fallback::Share,
        group("a", &[role("prefill", 4, 2, 2)]),
    );
    // The rack of the soft claim is the tighter one, and would be taken for that.
    let plain = |name: &str, pods| within("rack", group(name, &[role("decode", 8, pods, pods)]));
    let placement = placed(&problem(nodes.clone(), vec![soft.clone(), plain("z", 1)]));
    assert_eq!(plan(&placement, "a").domain.as_ref().unwrap().0[1].1, "r1");
    assert_eq!(plan(&placement, "z").domain.as_ref().unwrap().0[1].1, "r2");
    let placement = placed(&problem(nodes, vec![soft, plain("y", 3), plain("z", 1)]));
    assert_eq!(plan(&placement, "z").domain.as_ref().unwrap().0[1].1, "r1");
}

fn of_set(name: &str, most_per_domain: Option<u32>) -> Group {
    Group {
        spread: Some(Spread {
            set: "service".to_owned(),
            level: "block".to_owned(),
            most_per_domain,
        }),
        ..within(
            "rack",
            group(name, &[role("prefill", 4, 2, 2), role("decode", 4, 2, 2)]),
        )
    }
}

#[test]
fn groups_of_a_set_are_in_different_blocks_and_each_in_one_rack() {
    let nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b1", "r2"), &[8, 8]),
        rack("c", ("b2", "r1"), &[8, 8, 8]),
    ]
    .concat();
    let sets = |most| vec![of_set("g", most), of_set("h", most), of_set("i", most)];
    let placement = placed(&problem(nodes.clone(), sets(None)));
    let block = |name: &str| {
        plan(&placement, name).domain.clone().unwrap().0[0]
            .1
            .clone()
    };
    assert_ne!(block("g"), block("h"));
    assert!(is_placed(&placement, "i"), "a preference keeps nobody out");
    let placement = placed(&problem(nodes, sets(Some(1))));
    assert!(!is_placed(&placement, "i"));
    assert_why(&placement, "i", "must not be shared");
}

#[test]
fn spread_without_co_location_is_refused() {
    let mut group = of_set("g", None);
    group.required = None;
    let placement = placed(&problem(rack("a", ("b1", "r1"), &[8]), vec![group]));
    assert!(faults(&placement, "g")[0].contains("set `required` to that level"));
}
