//! What-if: would more replicas find a place, how many, and why not.

use std::collections::BTreeMap;

use pd_placement::{
    Session,
    group::Group,
    what_if::{SETS_MAX, WhatIfError},
};

use crate::world::{group, node, occupant, problem, rack, role, within};

fn more(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs
        .iter()
        .map(|(role, replicas)| ((*role).to_owned(), *replicas))
        .collect()
}

fn service() -> Group {
    within(
        "rack",
        group("g", &[role("prefill", 4, 1, 1), role("decode", 2, 2, 2)]),
    )
}

#[test]
fn more_replicas_fit_in_the_domain_of_the_group_or_not_at_all() {
    let nodes = [
        rack("a", ("b1", "r1"), &[8, 8]),
        rack("b", ("b1", "r2"), &[8, 8, 8]),
    ]
    .concat();
    let problem = problem(nodes, vec![service()]);
    let mut session = Session::new(&problem);
    let before = session.placement();
    // 16 GPUs, of which the group has 8: one more set of 4 + 2 x 2.
    let answer = session
        .what_if("g", &more(&[("prefill", 1), ("decode", 2)]))
        .unwrap();
    assert_eq!((answer.fits, answer.sets_at_most), (true, 1));
    let answer = session
        .what_if("g", &more(&[("prefill", 2), ("decode", 4)]))
        .unwrap();
    assert_eq!((answer.fits, answer.sets_at_most), (false, 0));
    let why = answer.explanation.unwrap().to_string();
    assert!(why.contains("8 nvidia.com/gpu short"), "{why}");
    let answer = session.what_if("g", &more(&[("decode", 1)])).unwrap();
    assert_eq!((answer.fits, answer.sets_at_most), (true, 4));
    assert_eq!(session.placement(), before, "a question changes nothing");
}

#[test]
fn lockstep_grants_no_replica_whose_partner_has_no_place() {
    let nodes = rack("a", ("b1", "r1"), &[8, 8, 2, 2, 2]);
    let mut group = within(
        "rack",
        group("g", &[role("prefill", 2, 1, 1), role("decode", 8, 1, 1)]),
    );
    group.lockstep = true;
    let problem = problem(nodes, vec![group.clone()]);
    let question = more(&[("prefill", 3), ("decode", 3)]);
    let answer = Session::new(&problem).what_if("g", &question).unwrap();
    assert!(!answer.fits);
    assert_eq!(answer.granted, more(&[("prefill", 1), ("decode", 1)]));
    let mut alone = problem.clone();
    alone.groups[0].lockstep = false;
    let answer = Session::new(&alone).what_if("g", &question).unwrap();
    assert_eq!(answer.granted["decode"], 1);
    assert!(answer.granted["prefill"] > 1);
}

#[test]
fn a_group_that_waits_is_asked_about_as_a_whole() {
    let mut nodes = rack("a", ("b1", "r1"), &[8]);
    nodes[0].occupants.push(occupant("x/y", 1));
    let problem = problem(nodes, vec![service()]);
    let mut session = Session::new(&problem);
    let answer = session
        .what_if("g", &more(&[("prefill", 1), ("decode", 2)]))
        .unwrap();
    assert!(!answer.fits);
    assert_eq!(answer.granted, more(&[("prefill", 0), ("decode", 0)]));
}

#[test]
fn other_groups_keep_their_place() {
    let other = group("other", &[role("prefill", 8, 1, 1)]);
    let problem = problem(rack("a", ("b1", "r1"), &[8, 8]), vec![service(), other]);
    let mut session = Session::new(&problem);
    assert!(!session.what_if("g", &more(&[("prefill", 1)])).unwrap().fits);
}

#[test]
fn an_endless_cluster_is_bounded() {
    let problem = problem(vec![node("n", ("b", "r"), 4_096)], vec![service()]);
    let answer = Session::new(&problem)
        .what_if("g", &more(&[("decode", 1)]))
        .unwrap();
    assert_eq!(answer.sets_at_most, SETS_MAX);
}

#[test]
fn questions_about_nothing_are_refused() {
    let bad = group("bad", &[role("p", 1, 2, 1)]);
    let problem = problem(rack("a", ("b1", "r1"), &[8, 8]), vec![service(), bad]);
    let mut session = Session::new(&problem);
    let mut answer = |group: &str, pairs: &[(&str, u32)]| session.what_if(group, &more(pairs));
    assert_eq!(
        answer("x", &[("p", 1)]),
        Err(WhatIfError::UnknownGroup("x".to_owned()))
    );
    assert_eq!(
        answer("g", &[("p", 1)]),
        Err(WhatIfError::UnknownRole("p".to_owned()))
    );
    assert_eq!(
        answer("bad", &[("p", 1)]),
        Err(WhatIfError::Refused("bad".to_owned()))
    );
    assert_eq!(answer("g", &[("prefill", 0)]), Err(WhatIfError::Nothing));
    assert_eq!(answer("g", &[]), Err(WhatIfError::Nothing));
    assert!(matches!(
        answer("g", &[("decode", 9_000)]),
        Err(WhatIfError::TooMany(_))
    ));
}
