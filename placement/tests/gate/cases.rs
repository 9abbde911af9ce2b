//! Named cases, each on a small cluster. Letters and numbers are those of the placement tests.

use pd_placement::gate::{Action, GroupState, PodState, step};
use pd_placement::group::OnLoss;

use crate::cluster::{Cluster, OwnedGroup, group, node};

fn two_racks() -> Vec<pd_placement::node::Node> {
    [("a1", "r1"), ("a2", "r1"), ("b1", "r2"), ("b2", "r2")]
        .map(|(name, rack)| node(name, "b1", rack, 8))
        .into()
}

fn within(level: &str, mut of: OwnedGroup) -> OwnedGroup {
    of.rules.required = Some(level.to_owned());
    of
}

/// The controller acts once, and nothing fails. The first time it plans, the second it releases.
fn act(cluster: &mut Cluster) {
    let versions = cluster.versions();
    for action in step(&cluster.seen()) {
        cluster.carry_out(&action, &versions).unwrap();
    }
}

fn state(cluster: &Cluster, name: &str) -> GroupState {
    cluster.groups[name].record.state
}

#[test]
fn d1_of_two_gangs_that_fit_alone_one_is_placed_and_the_other_holds_nothing() {
    let gang = |name| within("block", group(name, &[("prefill", 3, 3, 8)]));
    let mut cluster = Cluster::new(two_racks(), vec![gang("a"), gang("b")]);
    cluster.run(30);
    assert_eq!(cluster.nodes_of("a").len(), 3);
    assert_eq!(cluster.nodes_of("b").len(), 0);
    assert_eq!(state(&cluster, "a"), GroupState::Placed);
    assert_eq!(state(&cluster, "b"), GroupState::WaitingForRoom);
    let marks = |name| -> Vec<_> { cluster.pods_of(name).map(|pod| pod.marked).collect() };
    assert_eq!(marks("b"), [Some(GroupState::WaitingForRoom); 3]);
    assert_eq!(marks("a"), [None; 3]);
    let message = &cluster.groups["b"].record.message;
    assert!(message.contains("nvidia.com/gpu"), "{message}");
}

#[test]
fn pods_that_wait_for_a_moment_are_not_written_to_and_ones_that_wait_longer_say_so() {
    let large = within("rack", group("a", &[("prefill", 3, 3, 8)]));
    let mut cluster = Cluster::new(two_racks(), vec![large]);
    let after = cluster.settings.mark_seconds;
    let marks = |cluster: &Cluster| -> Vec<_> {
        let pods = cluster.pods_of("a");
        pods.filter_map(|pod| pod.marked).collect()
    };
    cluster.run(after);
    assert!(marks(&cluster).is_empty());
    cluster.run(2);
    assert_eq!(marks(&cluster), [GroupState::WaitingForRoom; 3]);
}

#[test]
fn d2_pods_that_come_one_by_one_are_not_placed_before_the_least_is_there() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 3, 2, 8)])]);
    cluster.run(5);
    assert!(cluster.released().is_empty() && cluster.nodes_of("a").is_empty());
    assert_eq!(state(&cluster, "a"), GroupState::WaitingForPods);
    assert_eq!(
        cluster.groups["a"].record.message,
        "2 of at least 3 replicas of prefill are there"
    );
    cluster
        .groups
        .get_mut("a")
        .unwrap()
        .owned
        .get_mut("prefill")
        .unwrap()
        .0 = 3;
    cluster.run(5);
    assert_eq!(cluster.nodes_of("a").len(), 3);
}

#[test]
fn a_plan_is_written_before_any_pod_is_touched() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 2, 2, 8)])]);
    cluster.owners_act();
    let first = step(&cluster.seen());
    assert!(
        matches!(first.as_slice(), [Action::Write { .. }]),
        "{first:?}"
    );
    let versions = cluster.versions();
    cluster.carry_out(&first[0], &versions).unwrap();
    let second = step(&cluster.seen());
    let is_release = |action: &Action| matches!(action, Action::Release { plan: 1, .. });
    assert_eq!(second.iter().filter(|action| is_release(action)).count(), 2);
}

#[test]
fn p1_a_crash_after_each_release_ends_in_the_same_placement() {
    let gang = || {
        within(
            "rack",
            group("a", &[("prefill", 2, 2, 4), ("decode", 2, 2, 4)]),
        )
    };
    for killed_after in 0..=5 {
        let mut cluster = Cluster::new(two_racks(), vec![gang()]);
        cluster.owners_act();
        let mut left = killed_after;
        for _ in 0..2 {
            let versions = cluster.versions();
            for action in step(&cluster.seen()) {
                if left > 0 {
                    cluster.carry_out(&action, &versions).unwrap();
                    left -= 1;
                }
            }
        }
        cluster.schedule(&cluster.released());
        cluster.run(10);
        assert_eq!(
            cluster.nodes_of("a").len(),
            4,
            "killed after {killed_after}"
        );
        assert_eq!(
            cluster.racks_of("a").len(),
            1,
            "killed after {killed_after}"
        );
        assert_eq!(cluster.groups["a"].record.failures, 0);
    }
}

#[test]
fn p6_a_pod_made_again_under_its_name_gets_no_place_of_the_one_before() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 2, 2, 8)])]);
    cluster.owners_act();
    let write = step(&cluster.seen());
    let versions = cluster.versions();
    cluster.carry_out(&write[0], &versions).unwrap();
    let uid = cluster.pods.keys().next().unwrap().clone();
    let (of, mut pod) = cluster.pods.remove(&uid).unwrap();
    pod.uid = "uid-again".to_owned();
    cluster.pods.insert(pod.uid.clone(), (of, pod));
    let released = step(&cluster.seen());
    assert!(
        !released
            .iter()
            .any(|action| matches!(action, Action::Release { .. })),
        "the plan lost a pod that it needs: {released:?}"
    );
    cluster.run(5);
    assert_eq!(cluster.nodes_of("a").len(), 2);
}

#[test]
fn d9_a_place_that_a_filler_took_is_given_up_within_the_window() {
    let mut cluster = Cluster::new(
        two_racks(),
        vec![within("rack", group("a", &[("prefill", 2, 2, 8)]))],
    );
    cluster.owners_act();
    act(&mut cluster);
    act(&mut cluster);
    // Both are released to rack r1, and a filler is faster on a1.
    assert_eq!(cluster.released().len(), 2);
    cluster
        .fillers
        .insert("filler".to_owned(), ("a1".to_owned(), 8));
    cluster.run(59);
    assert_eq!(cluster.nodes_of("a").len(), 1, "the window is open");
    cluster.run(30);
    assert_eq!(cluster.nodes_of("a").len(), 2);
    let racks = cluster.racks_of("a");
    assert!(racks.iter().all(|(_, rack)| rack == "r2"), "{racks:?}");
}

#[test]
fn d12_pods_that_others_gate_are_left_alone_until_they_have_let_go() {
    let mut gang = group("a", &[("prefill", 2, 2, 8)]);
    gang.is_gated_by_others = true;
    let mut cluster = Cluster::new(two_racks(), vec![gang]);
    cluster.run(100);
    assert!(cluster.released().is_empty());
    for uid in cluster.pods.keys().cloned().collect::<Vec<_>>() {
        cluster.change(&uid, |pod| pod.state = PodState::Gated);
    }
    cluster.run(5);
    assert_eq!(cluster.nodes_of("a").len(), 2);
}

#[test]
fn n1_a_node_lost_before_the_release_makes_another_plan() {
    let mut cluster = Cluster::new(
        two_racks(),
        vec![within("rack", group("a", &[("prefill", 2, 2, 8)]))],
    );
    cluster.owners_act();
    act(&mut cluster);
    cluster.lose("a1");
    cluster.run(5);
    assert_eq!(cluster.racks_of("a").len(), 1);
    assert_eq!(cluster.nodes_of("a").len(), 2);
    assert_eq!(cluster.groups["a"].record.plan, 2);
}

#[test]
fn n2_a_pod_released_to_a_node_that_is_lost_ends_at_once() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 2, 2, 8)])]);
    cluster.owners_act();
    act(&mut cluster);
    act(&mut cluster);
    let node = cluster.groups["a"].record.assignments[0].node.clone();
    cluster.lose(&node);
    cluster.run(10);
    assert_eq!(
        cluster.nodes_of("a").len(),
        2,
        "without waiting for the window"
    );
    assert_eq!(cluster.groups["a"].record.failures, 0);
}

#[test]
fn n11_a_topology_that_is_gone_is_not_dropped_in_silence() {
    let mut gang = within("rack", group("a", &[("prefill", 2, 2, 8)]));
    gang.has_topology = false;
    let mut cluster = Cluster::new(two_racks(), vec![gang]);
    cluster.run(10);
    assert!(cluster.nodes_of("a").is_empty());
    assert_eq!(state(&cluster, "a"), GroupState::WaitingForTopology);
    cluster.groups.get_mut("a").unwrap().has_topology = true;
    cluster.run(5);
    assert_eq!(cluster.nodes_of("a").len(), 2);
}

#[test]
fn n15_a_lost_pod_is_made_again_in_the_domain_of_the_others() {
    for lost in ["a1", "b1"] {
        let mut cluster = Cluster::new(
            two_racks(),
            vec![within("rack", group("a", &[("prefill", 2, 2, 4)]))],
        );
        cluster.run(10);
        let racks = cluster.racks_of("a");
        cluster
            .nodes
            .insert("a3".to_owned(), node("a3", "b1", "r1", 8));
        cluster
            .nodes
            .insert("b3".to_owned(), node("b3", "b1", "r2", 8));
        let on = cluster.nodes_of("a").into_values().next().unwrap();
        cluster.lose(if on.starts_with(&lost[..1]) {
            &on
        } else {
            lost
        });
        cluster.run(10);
        assert_eq!(cluster.nodes_of("a").len(), 2);
        if !cluster.racks_of("a").is_empty() && on.starts_with(&lost[..1]) {
            assert_eq!(cluster.racks_of("a").len(), 1);
        } else {
            assert_eq!(cluster.racks_of("a"), racks);
        }
    }
}

#[test]
fn n16_a_node_that_refused_a_pod_gets_no_other_of_the_group() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 1, 1, 8)])]);
    cluster.run(5);
    let (uid, node) = cluster
        .pods
        .iter()
        .find_map(|(uid, (_, pod))| match &pod.state {
            PodState::Bound { node } => Some((uid.clone(), node.clone())),
            _ => None,
        })
        .unwrap();
    let refused_by = Some(node.clone());
    cluster.change(&uid, |pod| pod.state = PodState::Ended { refused_by });
    cluster.run(10);
    let nodes = cluster.nodes_of("a");
    assert!(
        nodes.len() == 1 && !nodes.values().any(|on| *on == node),
        "{nodes:?}"
    );
}

#[test]
fn relocation_moves_the_whole_group_and_waiting_moves_nothing() {
    for (on_loss, racks) in [(OnLoss::Relocate, "r2"), (OnLoss::Wait, "r1")] {
        let mut gang = within("rack", group("a", &[("prefill", 2, 2, 8)]));
        gang.rules.on_loss = on_loss;
        let mut cluster = Cluster::new(two_racks(), vec![gang]);
        cluster.run(10);
        assert!(cluster.racks_of("a").iter().all(|(_, rack)| rack == "r1"));
        cluster.lose("a1");
        cluster.run(200);
        let found = cluster.racks_of("a");
        assert!(found.iter().all(|(_, rack)| rack == racks), "{found:?}");
        let count = if on_loss == OnLoss::Wait { 1 } else { 2 };
        assert_eq!(cluster.nodes_of("a").len(), count);
    }
}

#[test]
fn e1_more_replicas_join_the_domain_of_the_others_or_wait_for_it() {
    let mut cluster = Cluster::new(
        two_racks(),
        vec![within(
            "rack",
            group("a", &[("prefill", 1, 1, 8), ("decode", 1, 1, 4)]),
        )],
    );
    cluster.run(10);
    let racks = cluster.racks_of("a");
    cluster
        .groups
        .get_mut("a")
        .unwrap()
        .owned
        .get_mut("decode")
        .unwrap()
        .0 = 4;
    cluster.run(10);
    assert_eq!(cluster.racks_of("a"), racks);
    assert_eq!(
        cluster.nodes_of("a").len(),
        3,
        "two of the rack's nodes are full"
    );
    assert_eq!(state(&cluster, "a"), GroupState::PlacedInPart);
}

#[test]
fn replicas_of_several_pods_are_released_whole() {
    let mut gang = within("rack", group("a", &[("decode", 1, 2, 8)]));
    gang.pods_per_replica.insert("decode".to_owned(), 2);
    let mut cluster = Cluster::new(two_racks(), vec![gang]);
    cluster.run(10);
    assert_eq!(cluster.nodes_of("a").len(), 2, "a rack takes one replica");
    let nodes = cluster.nodes_of("a");
    assert!(
        nodes.contains_key("a-decode-0-0") && nodes.contains_key("a-decode-0-1"),
        "{nodes:?}"
    );
}

#[test]
fn pods_that_nobody_makes_again_are_never_ended() {
    let mut gang = group("a", &[("prefill", 2, 2, 8)]);
    gang.has_owner = false;
    let mut cluster = Cluster::new(two_racks(), vec![gang]);
    cluster.owners_act();
    act(&mut cluster);
    act(&mut cluster);
    let node = cluster.groups["a"].record.assignments[0].node.clone();
    cluster.lose(&node);
    let before = cluster.pods.len();
    cluster.run(200);
    assert_eq!(cluster.pods.len(), before);
}

#[test]
fn p14_a_pod_that_somebody_else_released_runs_on_and_is_never_ended() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 5, 5, 8)])]);
    cluster.owners_act();
    let uid = cluster.pods.keys().next().unwrap().clone();
    cluster.change(&uid, |pod| pod.state = PodState::Released { node: None });
    cluster.run(300);
    let (_, pod) = &cluster.pods[&uid];
    assert!(
        matches!(pod.state, PodState::Bound { .. }),
        "{:?}",
        pod.state
    );
    assert_eq!(cluster.nodes_of("a").len(), 1, "five do not fit");
}

#[test]
fn a_part_that_no_window_is_open_for_gets_one() {
    let mut cluster = Cluster::new(two_racks(), vec![group("a", &[("prefill", 5, 5, 8)])]);
    cluster.owners_act();
    let uid = cluster.pods.keys().next().unwrap().clone();
    // It was released, and nobody saw it when the window ended.
    cluster.change(&uid, |pod| {
        pod.is_ours = true;
        pod.state = PodState::Bound {
            node: "a1".to_owned(),
        };
    });
    cluster.run(30);
    assert_eq!(cluster.nodes_of("a").len(), 1, "the window is open");
    cluster.run(60);
    assert_eq!(cluster.nodes_of("a").len(), 0);
}

#[test]
fn p10_a_clock_set_back_does_not_lengthen_the_window() {
    let mut cluster = Cluster::new(
        two_racks(),
        vec![within("rack", group("a", &[("prefill", 2, 2, 8)]))],
    );
    cluster.owners_act();
    act(&mut cluster);
    act(&mut cluster);
    cluster
        .fillers
        .insert("filler".to_owned(), ("a1".to_owned(), 8));
    cluster.now_seconds -= 3_600;
    cluster.run(120);
    assert_eq!(cluster.nodes_of("a").len(), 2);
    assert_eq!(cluster.racks_of("a").len(), 1);
}
