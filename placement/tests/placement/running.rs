//! Groups that run: lost members, scale-out, scale-in, policies. N7, N15 to N18, E1 to E6.

use pd_placement::{
    Outcome, Problem,
    group::{Group, Member, OnLoss},
    place,
    problem::Reservation,
};

use crate::world::{
    GPU, assert_why, domain, group, is_placed, member, node, nodes_of, occupant, placed, plan,
    pods, problem, rack, role, shape, shown, two_racks, why, within,
};

/// A gang of 2 prefill and 2 decode pods of 4 GPUs in one rack; those listed run.
fn gang(on_loss: OnLoss, running: &[(&str, u32, &str)]) -> Group {
    let roles = [role("prefill", 4, 2, 2), role("decode", 4, 2, 2)];
    let members = running
        .iter()
        .map(|(role, replica, node)| member(role, *replica, node));
    Group {
        on_loss,
        members: members.collect(),
        ..within("rack", group("g", &roles))
    }
}

/// All but the second decode pod, on the nodes of `r1`.
const DEGRADED: [(&str, u32, &str); 3] = [
    ("prefill", 0, "a-0"),
    ("prefill", 1, "a-0"),
    ("decode", 0, "a-1"),
];

#[test]
fn n15_a_lost_pod_is_replaced_in_the_domain_of_the_others() {
    // The other rack is the tighter one; the group is in this one.
    let mut nodes = two_racks();
    nodes[2].allocatable.set(GPU, 4);
    let placement = placed(&problem(nodes, vec![gang(OnLoss::Wait, &DEGRADED)]));
    let plan = plan(&placement, "g");
    let new: Vec<_> = plan
        .slots
        .iter()
        .filter(|slot| slot.pod.is_none())
        .collect();
    assert_eq!(new.len(), 1);
    assert_eq!((new[0].node.as_str(), new[0].replica), ("a-1", 1));
    assert!(plan.ends.is_empty());
}

#[test]
fn n15_each_policy_does_what_it_says_where_the_domain_is_full() {
    let mut nodes = two_racks();
    nodes[1].occupants.push(occupant("x/filler", 4));
    let run = |on_loss| {
        let placement = placed(&problem(nodes.clone(), vec![gang(on_loss, &DEGRADED)]));
        (plan(&placement, "g").clone(), why(&placement, "g"))
    };
    let (plan, why) = run(OnLoss::Wait);
    assert_eq!((plan.outcome, plan.slots.len()), (Outcome::Waiting, 3));
    assert!(
        why.contains("on a-1 these would have to move: x/filler"),
        "{why}"
    );
    let (plan, _) = run(OnLoss::Degrade);
    assert_eq!((plan.outcome, plan.slots.len()), (Outcome::Degraded, 3));
    let (plan, _) = run(OnLoss::Relocate);
    assert_eq!(plan.outcome, Outcome::Placed);
    assert_eq!(domain(&plan), "block b1 / rack r2");
    assert_eq!(plan.ends.len(), 3, "all of it moves");
    assert_eq!(plan.objective.moves, 3);
}

#[test]
fn n15_degraded_takes_what_fits() {
    let nodes = two_racks();
    let mut group = gang(OnLoss::Degrade, &DEGRADED[..2]);
    group.roles[1].min = 3;
    group.roles[1].desired = 3;
    let placement = placed(&problem(nodes, vec![group]));
    let plan = plan(&placement, "g");
    assert_eq!(plan.outcome, Outcome::Degraded);
    assert_eq!(plan.replicas["decode"], 2);
}

#[test]
fn relocation_needs_a_place_for_the_whole_group() {
    let mut nodes = two_racks();
    nodes[1].occupants.push(occupant("x/filler", 4));
    nodes[2].occupants.push(occupant("x/other", 4));
    let placement = placed(&problem(nodes, vec![gang(OnLoss::Relocate, &DEGRADED)]));
    let plan = plan(&placement, "g");
    assert_eq!((&plan.outcome, plan.slots.len()), (&Outcome::Waiting, 3));
    assert!(plan.ends.is_empty(), "nothing is given up for nothing");
}

#[test]
fn a_member_whose_node_is_gone_is_lost_and_replaced() {
    let mut nodes = two_racks();
    nodes.remove(1);
    nodes.push(node("a-2", ("b1", "r1"), 8));
    let placement = placed(&problem(nodes, vec![gang(OnLoss::Wait, &DEGRADED)]));
    let plan = plan(&placement, "g");
    assert_eq!(plan.lost, ["decode-0-a-1"]);
    assert_eq!(shown(plan)["a-2"], "2 decode");
}

#[test]
fn n7_a_label_that_changes_under_a_group_is_reported_and_moves_nothing_by_itself() {
    let mut nodes = two_racks();
    nodes[1].labels.insert("rack".to_owned(), "r9".to_owned());
    let mut problem = problem(nodes, vec![gang(OnLoss::Wait, &DEGRADED)]);
    let placement = placed(&problem);
    assert_eq!(plan(&placement, "g").outcome, Outcome::Waiting);
    assert_why(&placement, "g", "its pods run in more than one rack");
    problem.groups[0].on_loss = OnLoss::Relocate;
    assert_eq!(domain(plan(&placed(&problem), "g")), "block b1 / rack r2");
}

#[test]
fn e1_more_prefill_joins_the_domain_of_the_group() {
    let mut nodes = two_racks();
    nodes.extend(rack("a2", ("b1", "r1"), &[8]));
    let running = [DEGRADED.as_slice(), &[("decode", 1, "a-1")]].concat();
    let mut group = gang(OnLoss::Wait, &running);
    group.roles[0].desired = 4;
    let placement = placed(&problem(nodes, vec![group]));
    assert_eq!(shown(plan(&placement, "g"))["a2-0"], "2 prefill");
}

#[test]
fn e2_without_room_in_the_domain_the_rest_is_not_placed_elsewhere() {
    let running = [DEGRADED.as_slice(), &[("decode", 1, "a-1")]].concat();
    let mut group = gang(OnLoss::Relocate, &running);
    group.roles[0].desired = 4;
    let placement = placed(&problem(two_racks(), vec![group]));
    let plan = plan(&placement, "g");
    assert_eq!(plan.outcome, Outcome::Placed);
    assert_eq!(plan.replicas["prefill"], 2);
    assert_why(&placement, "g", "has less than it wants");
    assert_why(&placement, "g", "short for prefill");
}

#[test]
fn e4_scale_in_ends_the_pods_whose_loss_keeps_the_rest_together() {
    let nodes = two_racks();
    let mut group = group("g", &[role("prefill", 4, 1, 2)]);
    group.preferred = Some("rack".to_owned());
    group.members = [
        ("prefill", 0, "a-0"),
        ("prefill", 1, "b-0"),
        ("prefill", 2, "b-1"),
    ]
    .map(|(role, replica, node)| member(role, replica, node))
    .into();
    let placement = placed(&problem(nodes, vec![group]));
    let plan = plan(&placement, "g");
    assert_eq!(plan.ends, ["prefill-0-a-0"]);
    assert_eq!(nodes_of(plan), ["b-0", "b-1"].into());
}

#[test]
fn e5_a_group_starts_with_min_and_grows_later_without_moving() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    let grown = within(
        "rack",
        group("g", &[role("prefill", 4, 1, 3), role("decode", 4, 1, 3)]),
    );
    let mut problem = problem(nodes.clone(), vec![grown]);
    let placement = placed(&problem);
    let first = plan(&placement, "g").clone();
    assert_eq!(first.replicas.values().sum::<u32>(), 2);
    problem.groups[0].members = first
        .slots
        .iter()
        .map(|slot| member(&slot.role, slot.replica, &slot.node))
        .collect();
    nodes.extend(rack("b", ("b1", "r1"), &[8, 8]));
    problem.nodes = nodes;
    let placement = placed(&problem);
    let second = plan(&placement, "g");
    assert_eq!(second.replicas.values().sum::<u32>(), 6);
    assert!(second.ends.is_empty());
}

#[test]
fn lockstep_gives_no_role_a_larger_share_than_the_others() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let mut group = group("g", &[role("prefill", 2, 1, 4), role("decode", 8, 1, 4)]);
    let free = placed(&problem(nodes.clone(), vec![group.clone()]));
    assert_eq!(plan(&free, "g").replicas["prefill"], 4);
    group.lockstep = true;
    let even = placed(&problem(nodes, vec![group]));
    let replicas = &plan(&even, "g").replicas;
    assert_eq!((replicas["prefill"], replicas["decode"]), (1, 1));
}

#[test]
fn n18_a_reserved_slot_of_a_degraded_group_is_not_stolen() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let filler = group("filler", &[role("prefill", 4, 1, 1)]);
    let mut degraded = gang(OnLoss::Wait, &DEGRADED);
    let slot = Reservation {
        node: "a-1".to_owned(),
        requests: shape(4).requests,
        ports: Vec::new(),
        holder: Some("g".to_owned()),
    };
    // Its replacement may not come yet: a node is not ready.
    let mut problem: Problem = problem(nodes, vec![filler]);
    problem.nodes[1].is_ready = false;
    problem.groups.push(degraded.clone());
    problem.reservations = vec![slot];
    let placement = placed(&problem);
    assert!(!is_placed(&placement, "g"));
    // When it is back, the slot is there.
    problem.nodes[1].is_ready = true;
    degraded.priority = -1;
    problem.groups[1] = degraded;
    let placement = placed(&problem);
    assert!(is_placed(&placement, "g") && !is_placed(&placement, "filler"));
}

#[test]
fn a_lost_pod_of_a_replica_is_replaced_in_the_rack_of_its_replica() {
    let nodes = two_racks();
    let mut prefill = role("prefill", 8, 2, 2);
    prefill.pods = vec![pods("engine", 2, 8)];
    prefill.replica_required = Some("rack".to_owned());
    let mut group = within("block", group("g", &[prefill]));
    group.members = vec![
        member("prefill", 7, "a-0"),
        member("prefill", 3, "b-0"),
        member("prefill", 3, "b-1"),
    ];
    let placement = placed(&problem(nodes, vec![group]));
    let plan = plan(&placement, "g");
    let new = plan.slots.iter().find(|slot| slot.pod.is_none()).unwrap();
    assert_eq!((new.node.as_str(), new.replica), ("a-1", 7));
}

#[test]
fn halves_of_two_replicas_are_completed_and_not_taken_for_one() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let mut prefill = role("prefill", 4, 1, 2);
    prefill.pods = vec![pods("leader", 1, 4), pods("worker", 1, 4)];
    let mut group = group("g", &[prefill]);
    let half = |kind: &str, replica, node: &str| Member {
        kind: kind.to_owned(),
        ..member("prefill", replica, node)
    };
    group.members = vec![half("leader", 0, "a-0"), half("worker", 1, "a-1")];
    let placement = placed(&problem(nodes.clone(), vec![group.clone()]));
    assert_eq!(plan(&placement, "g").replicas["prefill"], 2);
    // With fewer desired all stay: the owner ends replicas, not this plan.
    group.roles[0].desired = 1;
    let placement = place(&problem(nodes, vec![group]));
    assert!(plan(&placement, "g").ends.is_empty());
}
