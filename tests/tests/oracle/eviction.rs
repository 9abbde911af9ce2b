//! Evictions to the second: pods on nodes whose taints appear and then change leave both planes
//! after the same time, or stay.
//!
//! Pods are bound by hand before there is any taint, so that only the changes decide. What is
//! compared is which change a pod's time counts from and how many whole seconds it is, by the clock
//! of the controller that ended it ([`moments`](crate::moments)); that it is gone, or not, the
//! watch says. The changes are half a second off a whole number of seconds apart, so that no
//! deadline of one falls on the other. A case that differs or is unclear is put again, alone on a
//! node and with less else to do, up to twice.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use pd_tests::control_plane::{Component, eventually};
use pd_tolerations::{
    Comparison, Effect, Taint, Toleration,
    eviction::{TolerationPeriod, toleration_period},
    rewrite::rewrite,
};
use serde_json::{Value, json};
use tokio::time::sleep_until;

use crate::{
    difference::{Difference, Tally},
    generate::Generator,
    moments::{Moments, Outcome},
    planes::{Plane, Planes},
};

const EFFECTS: [Effect; 4] = [
    Effect::NoExecute,
    Effect::NoExecute,
    Effect::NoExecute,
    Effect::NoSchedule,
];
const PODS_PER_NODE: usize = 6;
/// From a node's first change to its second.
const SECOND_CHANGE: Duration = Duration::from_millis(3500);
/// From a node's first change until every bounded stay of a few seconds is over.
const END: Duration = Duration::from_millis(9500);
/// How long a pod that has to go may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// From one node to the next: all pods at once would be a test of the machine.
const PAUSE: Duration = Duration::from_millis(60);
const PAUSE_AGAIN: Duration = Duration::from_millis(250);
const AGAIN_MOST: usize = 2;

struct Case {
    /// Its node's taints after the first change and after the second.
    changes: [Vec<Taint>; 2],
    tolerations: Vec<Toleration>,
}

impl Case {
    fn pod(&self, name: &str, node: &str) -> Value {
        json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "c", "image": "x" }],
                "terminationGracePeriodSeconds": 0,
                "tolerations": self.tolerations,
            },
        })
    }

    /// Which of the changes controllers of evictions see.
    fn visible(&self) -> [bool; 2] {
        let [first, second] = self.changes.each_ref().map(|taints| {
            let evicting = taints
                .iter()
                .filter(|taint| taint.effect == Effect::NoExecute);
            evicting.collect::<Vec<_>>()
        });
        [!first.is_empty(), first != second]
    }

    fn told(&self, [native, ours]: &[Outcome; 2]) -> String {
        let taints = self
            .changes
            .each_ref()
            .map(|taints| taints.iter().map(ToString::to_string).collect::<Vec<_>>());
        let tolerations = json!(self.tolerations);
        format!("{tolerations} on {taints:?}\nnative: {native:?}\nours: {ours:?}")
    }
}

fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut generator = Generator::new(seed, 4);
    let nodes: Vec<[Vec<Taint>; 2]> = (0..count.div_ceil(PODS_PER_NODE))
        .map(|_| {
            let first = generator.taints(3, &EFFECTS);
            let mut second = first.clone();
            // Mostly the values change, which is what the numbers are for.
            if generator.once_in(4) {
                second = generator.taints(3, &EFFECTS);
            }
            for taint in &mut second {
                generator.taint_value().clone_into(&mut taint.value);
            }
            [first, second]
        })
        .collect();
    (0..count)
        .map(|index| {
            let changes = nodes[index / PODS_PER_NODE].clone();
            Case {
                tolerations: generator.tolerations(&changes.concat()),
                changes,
            }
        })
        .collect()
}

/// Puts `count` pods on nodes whose taints change to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
    let cases = cases(seed, count);
    let indexes: Vec<usize> = (0..count).collect();
    let together: Vec<&[usize]> = indexes.chunks(PODS_PER_NODE).collect();
    let mut differing = run(planes, "leave", &cases, &together, PAUSE).await;
    let (mut explained, mut put_again) = (0, Vec::new());
    for round in 1..=AGAIN_MOST {
        explained += take_explained(&cases, &mut differing);
        let again: Vec<usize> = differing.keys().copied().collect();
        if again.is_empty() {
            break;
        }
        put_again.push(again.len());
        let alone: Vec<&[usize]> = again.chunks(1).collect();
        differing = run(
            planes,
            &format!("again-{round}"),
            &cases,
            &alone,
            PAUSE_AGAIN,
        )
        .await;
    }
    explained += take_explained(&cases, &mut differing);
    (0..count).for_each(|_| tally.case("eviction"));
    (0..explained).for_each(|_| tally.differs(Difference::FirstExistsCounts));
    for (index, outcomes) in differing {
        tally.fail(cases[index].told(&outcomes));
    }
    eprintln!("evictions: {count} pods, put again by round: {put_again:?}");
}

/// Takes out what is clear and has a reason, and says how many that were.
fn take_explained(cases: &[Case], differing: &mut BTreeMap<usize, [Outcome; 2]>) -> usize {
    let before = differing.len();
    differing.retain(|index, outcomes| {
        let is_unclear = |outcome: &Outcome| matches!(outcome, Outcome::Unclear(_));
        outcomes.iter().any(is_unclear) || !seconds_of_exists_differ(&cases[*index])
    });
    before - differing.len()
}

/// Puts the cases of `groups` to both, each group on a node, and returns those that differ or are
/// unclear.
async fn run(
    planes: &Planes,
    prefix: &str,
    cases: &[Case],
    groups: &[&[usize]],
    pause: Duration,
) -> BTreeMap<usize, [Outcome; 2]> {
    let node = |group: usize| format!("{prefix}-{group}-0");
    let name = |index: usize| format!("{prefix}-{index}");
    let posted: Vec<_> = (0..groups.len())
        .map(|group| (format!("{prefix}-{group}"), BTreeMap::new(), Vec::new()))
        .collect();
    planes.add_nodes(&posted).await;
    let placed = || {
        let groups = groups.iter().enumerate();
        groups.flat_map(|(group, indexes)| indexes.iter().map(move |&index| (group, index)))
    };
    let pods: Vec<Value> = placed()
        .map(|(group, index)| cases[index].pod(&name(index), &node(group)))
        .collect();
    let names: Vec<String> = placed().map(|(_, index)| name(index)).collect();
    let changes: Vec<(String, &[Vec<Taint>; 2])> = groups
        .iter()
        .enumerate()
        .map(|(group, indexes)| (node(group), &cases[indexes[0]].changes))
        .collect();
    let (pods, names, changes) = (&pods, &names, &changes);
    join_all(planes.both().map(|plane| async move {
        plane.create(pods).await;
        plane
            .until("pods are there", names, |seen| seen.node.is_some())
            .await;
        change(plane, changes, pause).await;
        until_gone(planes, plane, names).await;
    }))
    .await;
    let moments = planes.both().map(|plane| moments(planes, plane));
    let outcomes = placed().filter_map(|(group, index)| {
        let outcome = |which: usize| {
            let is_gone = planes.both()[which].seen(&name(index)).deleted.is_some();
            outcome(
                &moments[which],
                is_gone,
                &name(index),
                &node(group),
                &cases[index],
            )
        };
        let outcomes = [outcome(0), outcome(1)];
        let is_unclear = matches!(outcomes[0], Outcome::Unclear(_));
        (is_unclear || outcomes[0] != outcomes[1]).then_some((index, outcomes))
    });
    outcomes.collect()
}

/// Changes the taints of all nodes twice, one node after the other, and waits until the
/// consequences are due.
async fn change(plane: &Plane, nodes: &[(String, &[Vec<Taint>; 2])], pause: Duration) {
    let start = Instant::now();
    let changes = nodes
        .iter()
        .zip(0..)
        .map(|((node, [first, second]), place)| async move {
            let at = start + pause * place;
            sleep_until(at.into()).await;
            plane.taint(node, first).await;
            sleep_until((at + SECOND_CHANGE).into()).await;
            plane.taint(node, second).await;
            sleep_until((at + END).into()).await;
        });
    join_all(changes).await;
}

/// The logs of a plane's controllers.
fn moments(planes: &Planes, plane: &Plane) -> Vec<Moments> {
    let kubernetes = plane.cluster.process(Component::ControllerManager).unwrap();
    let mut moments = vec![Moments::of_kubernetes(&kubernetes.log())];
    if plane.name == planes.ours.name {
        moments.push(Moments::of_ours(&planes.control.log()));
    }
    moments
}

/// Waits until the pods that have to go are gone. A decision may have been cancelled since, so pods
/// that stay are no failure here: the comparison of both planes judges them.
async fn until_gone(planes: &Planes, plane: &Plane, names: &[String]) {
    let _ = eventually("pods to go", GONE_WITHIN, async || {
        let moments = moments(planes, plane);
        let goes = |name: &&String| moments.iter().any(|one| one.decisions.contains_key(*name));
        let is_there = |name: &&String| plane.seen(name).deleted.is_none();
        match names.iter().find(|name| goes(name) && is_there(name)) {
            Some(name) => Err(format!("{name} is there")),
            None => Ok(()),
        }
    })
    .await;
}

fn outcome(moments: &[Moments], is_gone: bool, pod: &str, node: &str, case: &Case) -> Outcome {
    if !is_gone {
        return Outcome::Stays;
    }
    let by_each = moments
        .iter()
        .filter_map(|one| one.outcome(pod, node, case.visible()));
    let mut by_each: Vec<Outcome> = by_each.collect();
    match (by_each.pop(), by_each.pop()) {
        (Some(one), None) => one,
        (None, _) => Outcome::Unclear("nobody says that it went".to_owned()),
        // The cluster's own and ours at once: the same pod, so the same answer.
        (Some(one), Some(other)) if one == other => one,
        (one, other) => Outcome::Unclear(format!("{one:?} and {other:?}")),
    }
}

/// Whether the cluster's own controller, which sees `Exists`, bounds a stay that the numbers do not
/// bound as much.
fn seconds_of_exists_differ(case: &Case) -> bool {
    let (rewritten, _) = rewrite(&case.tolerations);
    let seconds = |stay: TolerationPeriod| match stay {
        TolerationPeriod::Over => Duration::ZERO,
        TolerationPeriod::For(span) => span,
        TolerationPeriod::Forever => Duration::MAX,
    };
    case.changes.iter().any(|taints| {
        let by_exists = seconds(toleration_period(taints, &rewritten, Comparison::Off));
        by_exists < seconds(toleration_period(taints, &case.tolerations, Comparison::On))
    })
}
