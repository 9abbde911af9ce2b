//! The room for more replicas: what is answered comes true when they are made.

use std::collections::BTreeMap;

use pd_placement::{
    gate::{GroupState, Room, RoomError, room},
    what_if::WhatIfError,
};
use rstest::rstest;

use crate::{
    chance::Chance,
    cluster::{Cluster, OwnedGroup, group, node},
    promises::bound_replicas,
};

/// Two racks of two nodes with eight GPUs each.
fn two_racks() -> Vec<pd_placement::node::Node> {
    [("a1", "r1"), ("a2", "r1"), ("b1", "r2"), ("b2", "r2")]
        .map(|(name, rack)| node(name, "b1", rack, 8))
        .into()
}

fn in_a_rack(name: &str, of: &[(&str, u32, u32, i64)]) -> OwnedGroup {
    let mut made = group(name, of);
    made.rules.required = Some("rack".to_owned());
    made
}

fn more(of: &[(&str, u32)]) -> BTreeMap<String, u32> {
    let of = of.iter();
    of.map(|(role, replicas)| ((*role).to_owned(), *replicas))
        .collect()
}

fn asked(cluster: &Cluster, of: &[(&str, u32)]) -> Result<Room, RoomError> {
    room(&cluster.seen(), "a", &more(of))
}

/// A group with one prefill and one decode of four GPUs, in a rack of sixteen.
fn running() -> Cluster {
    let gang = in_a_rack("a", &[("prefill", 1, 1, 4), ("decode", 1, 1, 4)]);
    let mut cluster = Cluster::new(two_racks(), vec![gang]);
    cluster.run(10);
    cluster
}

#[test]
fn replicas_that_fit_into_the_rack_are_granted() {
    let room = asked(&running(), &[("prefill", 1), ("decode", 1)]).unwrap();
    assert!(room.fits && room.message.is_empty(), "{room:?}");
    assert_eq!(room.granted, more(&[("prefill", 1), ("decode", 1)]));
    assert_eq!(room.sets_at_most, 1);
}

#[test]
fn replicas_beyond_the_rack_are_refused_with_the_resource_though_another_rack_is_empty() {
    let room = asked(&running(), &[("decode", 3)]).unwrap();
    assert!(!room.fits);
    assert_eq!(room.granted, more(&[("prefill", 0), ("decode", 2)]));
    assert_eq!(room.sets_at_most, 0);
    assert!(
        room.message.contains("nvidia.com/gpu") && room.message.contains("rack"),
        "{}",
        room.message
    );
}

#[test]
fn pods_that_are_there_and_have_no_node_yet_take_room() {
    let mut cluster = running();
    cluster.groups.get_mut("a").unwrap().owned = [
        ("prefill".to_owned(), (1, 4)),
        ("decode".to_owned(), (3, 4)),
    ]
    .into();
    cluster.owners_act();
    let room = asked(&cluster, &[("decode", 1)]).unwrap();
    assert!(!room.fits);
    assert_eq!(room.granted["decode"], 0);
}

#[test]
fn places_that_another_group_is_planned_on_are_taken() {
    let mut cluster = running();
    let other = in_a_rack("b", &[("prefill", 2, 2, 8)]);
    cluster.groups.insert("b".to_owned(), other);
    let another = in_a_rack("c", &[("prefill", 1, 1, 8)]);
    cluster.groups.insert("c".to_owned(), another);
    cluster.owners_act();
    // One of them takes the other rack, and c the rest of this one.
    let room = asked(&cluster, &[("decode", 1)]).unwrap();
    assert!(!room.fits, "{room:?}");
}

#[test]
fn the_most_replicas_of_a_role_are_a_limit_like_room() {
    let mut cluster = running();
    let rules = &mut cluster.groups.get_mut("a").unwrap().rules;
    rules.roles.iter_mut().for_each(|role| role.desired = 2);
    let room = asked(&cluster, &[("decode", 2)]).unwrap();
    assert!(!room.fits);
    assert_eq!(room.granted["decode"], 1);
    assert_eq!(room.message, "decode has at most 2 replicas in its group");
}

#[rstest]
#[case::no_role(&[("planner", 1)], WhatIfError::UnknownRole("planner".to_owned()))]
#[case::no_replica(&[("decode", 0)], WhatIfError::Nothing)]
#[case::no_word(&[], WhatIfError::Nothing)]
fn a_question_without_sense_is_refused(#[case] of: &[(&str, u32)], #[case] expected: WhatIfError) {
    let answer = asked(&running(), of).unwrap_err();
    assert_eq!(answer, RoomError::Question(expected));
}

#[test]
fn a_group_that_is_not_there_or_not_planned_has_no_answer() {
    let mut cluster = running();
    let answer = room(&cluster.seen(), "z", &more(&[("decode", 1)]));
    assert_eq!(answer.unwrap_err(), RoomError::NoGroup("z".to_owned()));
    cluster.groups.get_mut("a").unwrap().has_topology = false;
    let answer = asked(&cluster, &[("decode", 1)]).unwrap_err();
    assert!(answer.to_string().contains("ClusterTopology"), "{answer}");
    let cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 2, 1, 4)])]);
    let answer = asked(&cluster, &[("prefill", 1)]).unwrap_err();
    assert!(answer.to_string().contains("0 of at least 2"), "{answer}");
}

#[test]
fn the_answer_comes_true_when_the_replicas_are_made() {
    for seed in 0..200 {
        let mut chance = Chance::new(seed);
        let mut cluster = a_cluster(&mut chance);
        cluster.run(40);
        let roles = ["prefill", "decode"];
        let of = roles.map(|role| (role, u32::try_from(chance.below(3)).unwrap()));
        let of = more(&of);
        let Ok(answer) = room(&cluster.seen(), "a", &of) else {
            continue;
        };
        let before = bound(&cluster);
        if cluster.groups["a"].record.state != GroupState::Placed {
            continue;
        }
        let owned = &mut cluster.groups.get_mut("a").unwrap().owned;
        for (role, replicas) in &of {
            owned.get_mut(role).unwrap().0 += replicas;
        }
        cluster.run(60);
        let after = bound(&cluster);
        let has_all = of
            .iter()
            .all(|(role, replicas)| after[role] >= before[role] + replicas);
        assert_eq!(
            answer.fits, has_all,
            "seed {seed}: {of:?} of {before:?} became {after:?} after {answer:?}"
        );
        for (role, granted) in &answer.granted {
            let least = before[role] + granted;
            assert!(
                after[role] >= least,
                "seed {seed}: {role} was granted {granted} and went {before:?} to {after:?}"
            );
        }
    }
}

fn bound(cluster: &Cluster) -> BTreeMap<String, u32> {
    let replicas = bound_replicas(cluster, "a", &cluster.groups["a"]);
    let of = |role: &str| (role.to_owned(), replicas.get(role).copied().unwrap_or(0));
    ["prefill", "decode"].map(of).into()
}

fn a_cluster(chance: &mut Chance) -> Cluster {
    let nodes = (0..3 + chance.below(5)).map(|number| {
        let rack = ["r1", "r2"][chance.below(2)];
        node(&format!("n{number}"), "b1", rack, 8)
    });
    let nodes = nodes.collect();
    let gang = |name: &str, chance: &mut Chance| {
        let of = |role, chance: &mut Chance| {
            let min = 1 + u32::try_from(chance.below(2)).unwrap();
            (role, min, min, 1 + i64::try_from(chance.below(4)).unwrap())
        };
        let roles = [of("prefill", chance), of("decode", chance)];
        let mut made = group(name, &roles);
        made.rules.required =
            [None, Some("rack"), Some("block")][chance.below(3)].map(str::to_owned);
        made
    };
    let groups = vec![gang("a", chance), gang("b", chance)];
    Cluster::new(nodes, groups)
}
