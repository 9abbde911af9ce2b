//! Pods whose places somebody else names, one by one, as Kueue's topology-aware scheduling does.

use std::collections::BTreeSet;

use pd_placement::{
    gate::GroupState,
    group::{Exclusive, Fallback},
    node::Node,
    resources::Resources,
};

use crate::cluster::{Cluster, GPU, HOST, OwnedGroup, group, node};

/// Two blocks of two racks of two nodes with eight GPUs.
fn blocks() -> Vec<Node> {
    let nodes = ["1", "2"].into_iter().flat_map(|block| {
        ["1", "2"].into_iter().flat_map(move |rack| {
            ["a", "b"].map(|name| {
                let full = format!("{block}{rack}{name}");
                node(&full, &format!("b{block}"), &format!("r{rack}"), 8)
            })
        })
    });
    nodes.collect()
}

fn directed(mut of: OwnedGroup, role: &str, key: &'static str, values: &[&str]) -> OwnedGroup {
    let labels = values.iter().map(|value| (key, (*value).to_owned()));
    of.directions.insert(role.to_owned(), labels.collect());
    of
}

fn within(mut of: OwnedGroup, level: &str) -> OwnedGroup {
    of.rules.required = Some(level.to_owned());
    of
}

fn nodes_of(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    cluster.nodes_of(name).into_values().collect()
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(ToString::to_string).collect()
}

fn reported(cluster: &Cluster, name: &str) -> (GroupState, String) {
    let record = &cluster.groups[name].record;
    (record.state, record.message.clone())
}

/// A cluster with one group after half a minute.
fn after(of: OwnedGroup) -> Cluster {
    let mut cluster = Cluster::new(blocks(), vec![of]);
    cluster.run(30);
    cluster
}

#[test]
fn each_pod_goes_to_the_node_that_it_names() {
    let gang = group("a", &[("prefill", 2, 2, 8), ("decode", 2, 2, 8)]);
    let gang = directed(gang, "prefill", HOST, &["12a", "11a"]);
    let gang = directed(gang, "decode", HOST, &["22b", "11b"]);
    let cluster = after(gang);
    assert_eq!(
        nodes_of(&cluster, "a"),
        names(&["11a", "11b", "12a", "22b"])
    );
    assert_eq!(reported(&cluster, "a"), (GroupState::Placed, String::new()));
    assert_eq!(cluster.groups["a"].record.failures, 0);
}

/// More nodes than the planner has kinds of pods.
#[test]
fn a_gang_of_many_named_nodes_is_placed_whole() {
    let gang = group("a", &[("prefill", 4, 4, 8), ("decode", 4, 4, 8)]);
    let gang = directed(gang, "prefill", HOST, &["11a", "12a", "21a", "22a"]);
    let gang = directed(gang, "decode", HOST, &["11b", "12b", "21b", "22b"]);
    let cluster = after(gang);
    assert_eq!(nodes_of(&cluster, "a").len(), 8);
    assert_eq!(cluster.groups["a"].record.plan, 1, "in one plan");
}

#[test]
fn each_pod_goes_to_the_rack_that_it_names() {
    let gang = within(group("a", &[("prefill", 4, 4, 4)]), "block");
    let cluster = after(directed(gang, "prefill", "rack", &["r1", "r2"]));
    assert_eq!(cluster.nodes_of("a").len(), 4);
    assert_eq!(cluster.racks_of("a").len(), 2);
    assert_eq!(nodes_of(&cluster, "a").len(), 2, "nodes are filled up");
}

/// One role is directed, the other goes where the group's level has it.
#[test]
fn a_role_that_is_free_joins_the_domain_of_one_that_is_not() {
    let gang = group("a", &[("prefill", 2, 2, 8), ("decode", 2, 2, 8)]);
    let gang = directed(within(gang, "block"), "decode", HOST, &["22a", "21b"]);
    let cluster = after(gang);
    assert_eq!(
        nodes_of(&cluster, "a"),
        names(&["21a", "21b", "22a", "22b"])
    );
}

#[test]
fn a_gang_one_of_whose_nodes_is_full_holds_nothing_until_it_is_free() {
    let gang = group("a", &[("prefill", 2, 2, 8)]);
    let mut cluster = Cluster::new(
        blocks(),
        vec![directed(gang, "prefill", HOST, &["11a", "12a"])],
    );
    cluster
        .fillers
        .insert("f".to_owned(), ("12a".to_owned(), 1));
    cluster.run(30);
    assert_eq!(cluster.nodes_of("a").len(), 0);
    let (state, message) = reported(&cluster, "a");
    assert_eq!(state, GroupState::WaitingForRoom);
    assert!(message.contains("may go to 12a alone"), "{message}");
    cluster.fillers.clear();
    cluster.run(30);
    assert_eq!(nodes_of(&cluster, "a"), names(&["11a", "12a"]));
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let gang = group("a", &[("prefill", 2, 2, 8)]);
    let cluster = after(directed(gang, "prefill", HOST, &["11a", "gone"]));
    let (state, message) = reported(&cluster, "a");
    assert_eq!(state, GroupState::WaitingForRoom);
    assert!(
        message.contains("no node is open to pod")
            && message.contains("`kubernetes.io/hostname=gone`"),
        "{message}"
    );
    assert_eq!(cluster.nodes_of("a").len(), 0);
}

/// Levels that the group requires are kept, whoever chose the places.
#[test]
fn places_in_two_domains_of_a_required_level_are_not_taken() {
    let gang = within(group("a", &[("prefill", 2, 2, 8)]), "block");
    let cluster = after(directed(gang, "prefill", HOST, &["11a", "21a"]));
    let (state, message) = reported(&cluster, "a");
    assert_eq!(state, GroupState::WaitingForRoom);
    assert!(message.contains("within the group's levels"), "{message}");
    assert_eq!(cluster.nodes_of("a").len(), 0);
}

#[test]
fn the_least_is_placed_where_one_place_more_is_missing() {
    let gang = group("a", &[("prefill", 2, 3, 8)]);
    let cluster = after(directed(gang, "prefill", HOST, &["11a", "21a", "gone"]));
    assert_eq!(nodes_of(&cluster, "a"), names(&["11a", "21a"]));
    assert_eq!(reported(&cluster, "a").0, GroupState::PlacedInPart);
}

#[test]
fn pods_that_come_later_go_to_their_nodes_too() {
    let gang = group("a", &[("prefill", 2, 2, 8)]);
    let hosts = ["11a", "21a", "22b", "12a"];
    let mut cluster = after(directed(gang, "prefill", HOST, &hosts));
    let role = cluster.groups.get_mut("a").unwrap();
    role.owned.get_mut("prefill").unwrap().0 = 4;
    cluster.run(30);
    assert_eq!(nodes_of(&cluster, "a"), names(&hosts));
    assert_eq!(reported(&cluster, "a").0, GroupState::Placed);
}

#[test]
fn pods_of_one_replica_go_to_the_nodes_that_each_names() {
    let mut gang = group("a", &[("decode", 2, 2, 8)]);
    gang.pods_per_replica.insert("decode".to_owned(), 2);
    let role = &mut gang.rules.roles[0];
    role.replica_required = Some("block".to_owned());
    let cluster = after(directed(
        gang,
        "decode",
        HOST,
        &["11a", "12b", "21a", "22b"],
    ));
    assert_eq!(
        nodes_of(&cluster, "a").len(),
        4,
        "{:?}",
        reported(&cluster, "a")
    );
}

/// Two gangs with places on one node: the first has it, the second holds nothing.
#[test]
fn a_node_is_not_given_to_two_gangs() {
    let gang = |name| {
        let gang = group(name, &[("prefill", 2, 2, 8)]);
        directed(gang, "prefill", HOST, &["11a", "12a"])
    };
    let mut cluster = Cluster::new(blocks(), vec![gang("a"), gang("b")]);
    cluster.run(30);
    assert_eq!(cluster.nodes_of("a").len(), 2);
    assert_eq!(cluster.nodes_of("b").len(), 0);
    assert_eq!(reported(&cluster, "b").0, GroupState::WaitingForRoom);
}

#[test]
fn a_domain_that_another_has_to_itself_is_closed() {
    let mut alone = group("a", &[("prefill", 1, 1, 8)]);
    alone.rules.exclusive = Some(Exclusive {
        level: "rack".to_owned(),
        fallback: Fallback::Wait,
    });
    let alone = directed(alone, "prefill", HOST, &["11a"]);
    let gang = group("b", &[("prefill", 2, 2, 8)]);
    let gang = directed(gang, "prefill", HOST, &["11b", "12a"]);
    let mut cluster = Cluster::new(blocks(), vec![alone, gang]);
    cluster.run(30);
    assert_eq!(nodes_of(&cluster, "a"), names(&["11a"]));
    assert_eq!(cluster.nodes_of("b").len(), 0);
    let (_, message) = reported(&cluster, "b");
    assert!(message.contains("no node is open to pod"), "{message}");
}

#[test]
fn rules_between_groups_are_refused_where_pods_have_places_of_their_own() {
    let mut gang = group("a", &[("prefill", 2, 2, 8)]);
    gang.rules.exclusive = Some(Exclusive {
        level: "rack".to_owned(),
        fallback: Fallback::Share,
    });
    let cluster = after(directed(gang, "prefill", HOST, &["11a", "11b"]));
    let (state, message) = reported(&cluster, "a");
    assert_eq!(state, GroupState::Refused);
    assert!(
        message.contains("exclusive: pods of role `prefill`"),
        "{message}"
    );
    assert_eq!(cluster.nodes_of("a").len(), 0);
}

/// A node's ports and amounts count whoever named it.
#[test]
fn a_named_node_takes_no_more_than_it_has() {
    let gang = group("a", &[("prefill", 3, 3, 4)]);
    let mut cluster = Cluster::new(
        blocks(),
        vec![directed(gang, "prefill", HOST, &["11a", "12a", "11a"])],
    );
    cluster.run(30);
    let free: Resources = [(GPU.to_owned(), cluster.free("11a"))]
        .into_iter()
        .collect();
    assert_eq!(free.get(GPU), 0, "two of them share a node");
    assert_eq!(cluster.nodes_of("a").len(), 3);
}
