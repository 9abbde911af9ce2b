//! Evictions to the second: pods on nodes whose taints appear and then change leave both planes after the same time, or stay.
//!
//! Pods are bound by hand before there is any taint, so that only the change decides. Times count from the answer to the
//! change, on each plane for itself. A case that differs is put again with other pods, once: what differs twice is no
//! slow moment of the machine.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use pd_core::toleration::{
    Comparison, Effect, Taint, Toleration,
    eviction::{Stay, stay},
    rewrite::rewrite,
};
use serde_json::{Value, json};

use crate::{
    difference::{Difference, Tally},
    generate::Generator,
    planes::{Plane, Planes, Seen},
};

const EFFECTS: [Effect; 4] = [
    Effect::NoExecute,
    Effect::NoExecute,
    Effect::NoExecute,
    Effect::NoSchedule,
];
const PODS_PER_NODE: usize = 6;
/// When the taints change again.
const SECOND_CHANGE: Duration = Duration::from_secs(3);
/// When every bounded stay of a few seconds is over.
const END: Duration = Duration::from_secs(10);
/// How far apart two planes may be.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A node's taints after the first change and after the second.
type Changes = [Vec<Taint>; 2];

struct Case {
    node: usize,
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
}

/// Puts `count` pods on nodes whose taints change to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
    let mut generator = Generator::new(seed, 4);
    let nodes: Vec<Changes> = (0..count.div_ceil(PODS_PER_NODE))
        .map(|_| {
            let first = generator.taints(3, &EFFECTS);
            let mut second = first.clone();
            // Mostly the values change, which is what the numbers are for.
            if generator.once_in(4) {
                second = generator.taints(3, &EFFECTS);
            }
            for taint in &mut second {
                taint.value = generator.taint_value().to_owned();
            }
            [first, second]
        })
        .collect();
    let cases: Vec<Case> = (0..count)
        .map(|index| {
            let node = index % nodes.len();
            Case {
                node,
                tolerations: generator.tolerations(&nodes[node].concat()),
            }
        })
        .collect();
    let all: Vec<usize> = (0..count).collect();
    let differing = run(planes, "leave", &nodes, &cases, &all).await;
    let again: Vec<usize> = differing.into_keys().collect();
    let left = if again.is_empty() {
        BTreeMap::new()
    } else {
        run(planes, "again", &nodes, &cases, &again).await
    };
    for (index, case) in cases.iter().enumerate() {
        tally.case("eviction");
        let Some(told) = left.get(&index) else {
            continue;
        };
        if seconds_of_exists_differ(&case.tolerations, &nodes[case.node]) {
            tally.differs(Difference::FirstExistsCounts);
        } else {
            tally.fail(told.clone());
        }
    }
    eprintln!("evictions: {count} pods, {} put again", again.len());
}

/// Puts the cases `which` to both, and tells those that differ.
async fn run(
    planes: &Planes,
    prefix: &str,
    nodes: &[Changes],
    cases: &[Case],
    which: &[usize],
) -> BTreeMap<usize, String> {
    let node = |index: usize| format!("{prefix}-{index}-0");
    let name = |index: usize| format!("{prefix}-{index}");
    let posted: Vec<_> = (0..nodes.len())
        .map(|index| (format!("{prefix}-{index}"), BTreeMap::new(), Vec::new()))
        .collect();
    planes.add_nodes(&posted).await;
    let pods: Vec<Value> = which
        .iter()
        .map(|&index| cases[index].pod(&name(index), &node(cases[index].node)))
        .collect();
    let names: Vec<String> = which.iter().map(|&index| name(index)).collect();
    let changed = join_all(planes.both().map(|plane| async {
        plane.create(&pods).await;
        plane
            .until("pods are there", &names, |seen| seen.node.is_some())
            .await;
        join_all((0..nodes.len()).map(|index| change(plane, node(index), &nodes[index]))).await
    }))
    .await;
    let stayed = |plane: &Plane, changed: &[Instant], index: usize| {
        let Seen { deleted, .. } = plane.seen(&name(index));
        deleted.map(|deleted| deleted.saturating_duration_since(changed[cases[index].node]))
    };
    let mut differing = BTreeMap::new();
    for &index in which {
        let [native, ours] =
            [0, 1].map(|which| stayed(planes.both()[which], &changed[which], index));
        let agree = match (native, ours) {
            (Some(native), Some(ours)) => native.abs_diff(ours) < TOLERANCE,
            (native, ours) => native == ours,
        };
        if !agree {
            let case = &cases[index];
            let taints = nodes[case.node]
                .each_ref()
                .map(|taints| taints.iter().map(ToString::to_string).collect::<Vec<_>>());
            differing.insert(
                index,
                format!(
                    "{} on {taints:?}\nnative: {native:?}\nours: {ours:?}",
                    json!(case.tolerations)
                ),
            );
        }
    }
    differing
}

/// Makes both changes of a node, waits until their consequences are over, and returns when the first was made.
async fn change(plane: &Plane, node: String, [first, second]: &Changes) -> Instant {
    plane.taint(&node, first).await;
    let changed = Instant::now();
    tokio::time::sleep_until((changed + SECOND_CHANGE).into()).await;
    plane.taint(&node, second).await;
    tokio::time::sleep_until((changed + END).into()).await;
    changed
}

/// Whether the cluster's own controller, which sees `Exists`, bounds a stay that the numbers do not bound as much.
fn seconds_of_exists_differ(tolerations: &[Toleration], changes: &Changes) -> bool {
    let (rewritten, _) = rewrite(tolerations);
    let seconds = |stay: Stay| match stay {
        Stay::Over => Duration::ZERO,
        Stay::For(span) => span,
        Stay::Forever => Duration::MAX,
    };
    changes.iter().any(|taints| {
        let by_exists = seconds(stay(taints, &rewritten, Comparison::Off));
        by_exists < seconds(stay(taints, tolerations, Comparison::On))
    })
}
