//! Small clusters and groups that the tests change.

use std::collections::{BTreeMap, BTreeSet};

use pd_placement::{
    GroupPlan, Outcome, Placement, Problem,
    audit::audit,
    group::{Group, Member, PodKind, Role},
    node::{Node, Occupant},
    place,
    pod::PodShape,
    resources::{PODS, Resources},
    topology::{Level, Topology},
};

pub(crate) const GPU: &str = "nvidia.com/gpu";

/// Two levels, as most clusters have.
pub(crate) fn topology() -> Topology {
    Topology::new(vec![
        Level::new("block", "block"),
        Level::new("rack", "rack"),
    ])
    .unwrap()
}

pub(crate) fn amounts(pairs: &[(&str, i64)]) -> Resources {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

/// A node in `block` and `rack`; an empty name is a missing label.
pub(crate) fn node(name: &str, (block, rack): (&str, &str), gpus: i64) -> Node {
    let labels = [("block", block), ("rack", rack)];
    let there = labels.into_iter().filter(|(_, value)| !value.is_empty());
    Node {
        name: name.to_owned(),
        labels: there
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        is_ready: true,
        allocatable: amounts(&[(GPU, gpus), (PODS, 110)]),
        ..Node::default()
    }
}

/// A rack of nodes `PREFIX-0`, `PREFIX-1`, with these GPUs.
pub(crate) fn rack(prefix: &str, place: (&str, &str), gpus: &[i64]) -> Vec<Node> {
    let each = gpus.iter().enumerate();
    each.map(|(index, gpus)| node(&format!("{prefix}-{index}"), place, *gpus))
        .collect()
}

/// Two racks of two nodes with 8 GPUs, in one block.
pub(crate) fn two_racks() -> Vec<Node> {
    [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b1", "r2"), &[8, 8]),
    ]
    .concat()
}

/// A pod outside of all groups.
pub(crate) fn occupant(name: &str, gpus: i64) -> Occupant {
    Occupant {
        name: name.to_owned(),
        requests: amounts(&[(GPU, gpus), (PODS, 1)]),
        ..Occupant::default()
    }
}

pub(crate) fn shape(gpus: i64) -> PodShape {
    PodShape {
        requests: amounts(&[(GPU, gpus), (PODS, 1)]),
        ..PodShape::default()
    }
}

/// A role whose replicas are one pod.
pub(crate) fn role(name: &str, gpus: i64, min: u32, desired: u32) -> Role {
    Role {
        name: name.to_owned(),
        pods: vec![pods("engine", 1, gpus)],
        min,
        desired,
        ..Role::default()
    }
}

pub(crate) fn pods(name: &str, count: u32, gpus: i64) -> PodKind {
    PodKind {
        name: name.to_owned(),
        count,
        shape: shape(gpus),
    }
}

pub(crate) fn group(name: &str, roles: &[Role]) -> Group {
    Group {
        name: name.to_owned(),
        roles: roles.to_vec(),
        ..Group::default()
    }
}

/// The same, all in one domain of `level`.
pub(crate) fn within(level: &str, group: Group) -> Group {
    Group {
        required: Some(level.to_owned()),
        ..group
    }
}

pub(crate) fn member(role: &str, replica: u32, node: &str) -> Member {
    Member {
        pod: format!("{role}-{replica}-{node}"),
        role: role.to_owned(),
        kind: "engine".to_owned(),
        replica,
        node: node.to_owned(),
    }
}

pub(crate) fn problem(nodes: Vec<Node>, groups: Vec<Group>) -> Problem {
    Problem {
        nodes,
        topology: topology(),
        groups,
        ..Problem::default()
    }
}

/// Places, and has every promise checked.
pub(crate) fn placed(problem: &Problem) -> Placement {
    let placement = place(problem);
    assert_eq!(audit(problem, &placement), Vec::<String>::new());
    placement
}

/// The plan of the only group, or of the one with that name.
pub(crate) fn plan<'a>(placement: &'a Placement, name: &str) -> &'a GroupPlan {
    placement
        .groups
        .get(name)
        .unwrap_or_else(|| panic!("no plan of {name}"))
}

pub(crate) fn is_placed(placement: &Placement, name: &str) -> bool {
    plan(placement, name).outcome == Outcome::Placed
}

/// Pods of each role by node, as `2 prefill + 1 decode`.
pub(crate) fn shown(plan: &GroupPlan) -> BTreeMap<String, String> {
    let mut by_node: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for slot in &plan.slots {
        let roles = by_node.entry(slot.node.clone()).or_default();
        *roles.entry(slot.role.clone()).or_default() += 1;
    }
    let said = |roles: BTreeMap<String, u32>| {
        let each = roles.into_iter().rev();
        let each: Vec<String> = each
            .map(|(role, count)| format!("{count} {role}"))
            .collect();
        each.join(" + ")
    };
    by_node
        .into_iter()
        .map(|(node, roles)| (node, said(roles)))
        .collect()
}

/// The nodes of a plan.
pub(crate) fn nodes_of(plan: &GroupPlan) -> BTreeSet<&str> {
    plan.slots.iter().map(|slot| slot.node.as_str()).collect()
}

/// The words of why a group waits.
pub(crate) fn why(placement: &Placement, name: &str) -> String {
    let explanation = plan(placement, name).explanation.as_ref();
    explanation.map(ToString::to_string).unwrap_or_default()
}

/// Asserts that `part` is among the words of why a group waits.
#[track_caller]
pub(crate) fn assert_why(placement: &Placement, name: &str, part: &str) {
    let why = why(placement, name);
    assert!(why.contains(part), "{part}: {why}");
}

/// The faults for which a group is refused; none if it is not.
pub(crate) fn faults(placement: &Placement, name: &str) -> Vec<String> {
    match &plan(placement, name).outcome {
        Outcome::Refused(faults) => faults.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// The plan's domain in words.
pub(crate) fn domain(plan: &GroupPlan) -> String {
    plan.domain
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}
