//! The things that a node must have: amounts, places, ports, labels, tolerated taints, reachable
//! volumes.

use pd_placement::{
    group::Group, node::Node, pod::PodShape, port::HostPort, problem::Reservation, resources::PODS,
    selector::NodeSelector,
};
use pd_tolerations::{Comparison, Effect, Operator, Rule, Taint, Toleration};
use rstest::rstest;

use crate::world::{
    GPU, amounts, assert_why, group, is_placed, nodes_of, occupant, placed, plan, problem, rack,
    role, shape, shown, within,
};

/// A gang of two whose pods are `shape`.
fn pair(shape: PodShape) -> Group {
    let mut role = role("prefill", 1, 2, 2);
    role.pods[0].shape = shape;
    within("rack", group("g", &[role]))
}

/// Two nodes that would take the pair on one, and a change of the first.
fn nodes_after(change: impl Fn(&mut Node)) -> Vec<Node> {
    let mut nodes = rack("a", ("b1", "r1"), &[2, 2]);
    change(&mut nodes[0]);
    nodes
}

fn taint(value: &str, effect: Effect) -> Taint {
    Taint::new("sla", value, effect)
}

fn above(bound: &str) -> PodShape {
    let toleration = Toleration {
        key: "sla".to_owned(),
        operator: Operator::Gt,
        value: bound.to_owned(),
        ..Toleration::default()
    };
    PodShape {
        tolerations: vec![Rule::plain(&toleration, Comparison::On)],
        ..shape(1)
    }
}

#[rstest]
#[case::cordoned(|node: &mut Node| node.is_cordoned = true, "cordoned")]
#[case::not_ready(|node: &mut Node| node.is_ready = false, "not ready")]
#[case::taint(
    |node: &mut Node| node.taints.push(taint("1", Effect::NoSchedule).into()),
    "taint sla=1:NoSchedule is not tolerated"
)]
#[case::no_places(|node: &mut Node| node.allocatable.set(PODS, 0), "")]
#[case::no_gpus(|node: &mut Node| node.allocatable.set(GPU, 0), "")]
#[case::full(|node: &mut Node| node.occupants.push(occupant("x/y", 2)), "")]
fn a_node_that_lacks_something_is_not_used(#[case] change: fn(&mut Node), #[case] reason: &str) {
    let placement = placed(&problem(nodes_after(change), vec![pair(shape(1))]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-1"].into());
    let mut nodes = nodes_after(change);
    nodes.truncate(1);
    let placement = placed(&problem(nodes, vec![pair(shape(1))]));
    assert!(!is_placed(&placement, "g"));
    assert_why(&placement, "g", reason);
}

#[rstest]
#[case::above("950", Effect::NoSchedule, true)]
#[case::strictly("900", Effect::NoSchedule, false)]
#[case::below("850", Effect::NoExecute, false)]
#[case::no_number("high", Effect::NoSchedule, false)]
#[case::not_canonical("0950", Effect::NoSchedule, false)]
#[case::only_preferred("850", Effect::PreferNoSchedule, true)]
fn numbers_of_taints_are_compared(#[case] value: &str, #[case] effect: Effect, #[case] fits: bool) {
    let nodes = nodes_after(|node| node.taints.push(taint(value, effect.clone()).into()));
    let mut problem = problem(nodes, vec![pair(above("900"))]);
    problem.nodes.truncate(1);
    assert_eq!(is_placed(&placed(&problem), "g"), fits);
}

#[test]
fn a_number_that_must_be_present_keeps_pods_from_nodes_without_it() {
    let mut shape = above("900");
    shape.tolerations[0].must_be_present = true;
    let nodes = nodes_after(|node| node.taints.push(taint("950", Effect::NoSchedule).into()));
    let placement = placed(&problem(nodes, vec![pair(shape)]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-0"].into());
}

#[test]
fn the_larger_margin_decides_among_nodes_that_are_alike() {
    let mut nodes = rack("a", ("b1", "r1"), &[2, 2, 2]);
    for (node, value) in nodes.iter_mut().zip(["920", "990", "950"]) {
        node.taints.push(taint(value, Effect::NoSchedule).into());
    }
    let placement = placed(&problem(nodes.clone(), vec![pair(above("900"))]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-1"].into());
    // Untolerated preferences come before margins.
    let avoid = Taint::new("old", "", Effect::PreferNoSchedule);
    nodes[1].taints.push(avoid.into());
    let placement = placed(&problem(nodes, vec![pair(above("900"))]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-2"].into());
}

#[test]
fn a_pod_that_tolerates_cordons_goes_to_cordoned_nodes() {
    let everything = Toleration {
        operator: Operator::Exists,
        ..Toleration::default()
    };
    let shape = PodShape {
        tolerations: vec![Rule::plain(&everything, Comparison::On)],
        ..shape(1)
    };
    let mut nodes = nodes_after(|node| node.is_cordoned = true);
    nodes.truncate(1);
    assert!(is_placed(&placed(&problem(nodes, vec![pair(shape)])), "g"));
}

#[test]
fn pods_with_a_host_port_are_on_different_nodes() {
    let with_port = |port| PodShape {
        ports: vec![HostPort::tcp(port)],
        ..shape(1)
    };
    let nodes = rack("a", ("b1", "r1"), &[8, 8]);
    let placement = placed(&problem(nodes.clone(), vec![pair(with_port(80))]));
    assert_eq!(shown(plan(&placement, "g")).len(), 2);
    // Two roles with one port conflict, with two ports they do not.
    let mut two = group("g", &[role("prefill", 1, 2, 2), role("decode", 1, 1, 1)]);
    two.roles[0].pods[0].shape = with_port(80);
    two.roles[1].pods[0].shape = with_port(80);
    assert!(!is_placed(
        &placed(&problem(nodes.clone(), vec![two.clone()])),
        "g"
    ));
    two.roles[1].pods[0].shape = with_port(81);
    assert!(is_placed(&placed(&problem(nodes.clone(), vec![two])), "g"));
    // A port that somebody else has.
    let mut nodes = nodes;
    let mut other = occupant("x/y", 0);
    other.ports = vec![HostPort::tcp(80)];
    nodes[0].occupants.push(other);
    assert!(!is_placed(
        &placed(&problem(nodes, vec![pair(with_port(80))])),
        "g"
    ));
}

#[test]
fn selectors_affinity_and_volumes_must_all_match() {
    let mut nodes = rack("a", ("b1", "r1"), &[2, 2, 2, 2]);
    let mut label = |node: usize, pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        nodes[node].labels.extend(pairs);
    };
    label(0, &[("gpu", "h100"), ("zone", "a")]);
    label(1, &[("gpu", "h100"), ("zone", "b"), ("sla", "950")]);
    label(2, &[("gpu", "h200"), ("zone", "b"), ("sla", "950")]);
    label(3, &[("gpu", "h100"), ("zone", "b"), ("sla", "1")]);
    let shape = PodShape {
        node_selector: [("gpu".to_owned(), "h100".to_owned())].into(),
        affinity: Some(
            serde_json::from_str(
                r#"{"nodeSelectorTerms": [{"matchExpressions":
                    [{"key": "sla", "operator": "Gt", "values": ["900"]}]}]}"#,
            )
            .unwrap(),
        ),
        volumes: vec![NodeSelector::label_in("zone", ["b".to_owned()])],
        ..shape(1)
    };
    let placement = placed(&problem(nodes, vec![pair(shape)]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-1"].into());
}

#[test]
fn n16_a_node_on_which_the_group_failed_is_not_used_again() {
    let mut gang = pair(shape(1));
    gang.excluded_nodes = ["a-0".to_owned()].into();
    let placement = placed(&problem(rack("a", ("b1", "r1"), &[2, 2]), vec![gang]));
    assert_eq!(nodes_of(plan(&placement, "g")), ["a-1"].into());
}

#[test]
fn reservations_are_taken_unless_they_are_the_groups_own() {
    let nodes = rack("a", ("b1", "r1"), &[2]);
    let mut problem = problem(nodes, vec![pair(shape(1))]);
    let reserved = |holder: Option<&str>| Reservation {
        node: "a-0".to_owned(),
        requests: amounts(&[(GPU, 2), (PODS, 2)]),
        holder: holder.map(str::to_owned),
        ..Reservation::default()
    };
    for (holder, fits) in [(None, false), (Some("other"), false), (Some("g"), true)] {
        problem.reservations = vec![reserved(holder)];
        assert_eq!(is_placed(&placed(&problem), "g"), fits, "{holder:?}");
    }
}

#[test]
fn every_resource_counts_not_only_devices() {
    let mut nodes = rack("a", ("b1", "r1"), &[8, 8]);
    for node in &mut nodes {
        node.allocatable.set("cpu", 4_000);
        node.allocatable.set("rdma/hca", 1);
    }
    let mut wide = shape(1);
    wide.requests.set("cpu", 1_500);
    let placement = placed(&problem(nodes.clone(), vec![pair(wide.clone())]));
    assert_eq!(nodes_of(plan(&placement, "g")).len(), 1);
    wide.requests.set("rdma/hca", 1);
    let placement = placed(&problem(nodes.clone(), vec![pair(wide.clone())]));
    assert_eq!(nodes_of(plan(&placement, "g")).len(), 2);
    wide.requests.set("cpu", 4_001);
    let placement = placed(&problem(nodes, vec![pair(wide)]));
    assert_why(&placement, "g", "cpu");
}
