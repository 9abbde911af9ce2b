//! Feasible nodes: a pod that may go to one node alone is bound by both schedulers or refused by
//! both.
//!
//! Authored twice of us: with the extender, and without it, when node affinity on the mirrored
//! labels has to be enough. The latter is what cluster autoscalers see, which simulate the
//! scheduler and know no extenders.

use std::collections::BTreeMap;

use pd_tolerations::{Effect, Taint, Toleration};
use serde_json::{Value, json};

use crate::{
    difference::Tally,
    generate::Generator,
    planes::{Planes, Seen},
};

/// Nodes that pods are pinned to.
const NODES: usize = 64;
const EFFECTS: [Effect; 4] = [
    Effect::NoSchedule,
    Effect::NoSchedule,
    Effect::NoExecute,
    Effect::PreferNoSchedule,
];

struct Case {
    name: String,
    node: usize,
    tolerations: Vec<Toleration>,
}

impl Case {
    fn pod(&self, name: &str) -> Value {
        json!({
            "metadata": { "name": name },
            "spec": {
                "containers": [{ "name": "c", "image": "x" }],
                "terminationGracePeriodSeconds": 0,
                "nodeSelector": { "kubernetes.io/hostname": node(self.node) },
                "tolerations": self.tolerations,
            },
        })
    }
}

/// The cases, and the taints of their nodes.
pub(crate) struct Placement {
    cases: Vec<Case>,
    taints: Vec<Vec<Taint>>,
}

fn decided(seen: &Seen) -> bool {
    seen.node.is_some() || seen.unschedulable.is_some()
}

fn node(index: usize) -> String {
    format!("pinned-{index}-0")
}

/// Puts `count` pods, each pinned to a node, to both.
pub(crate) async fn compare(
    planes: &Planes,
    seed: u64,
    count: usize,
    tally: &mut Tally,
) -> Placement {
    let mut generator = Generator::new(seed, 2);
    let taints: Vec<Vec<Taint>> = (0..NODES).map(|_| generator.taints(4, &EFFECTS)).collect();
    let nodes: Vec<_> = taints
        .iter()
        .enumerate()
        .map(|(index, taints)| (format!("pinned-{index}"), BTreeMap::new(), taints.clone()))
        .collect();
    planes.add_nodes(&nodes).await;
    let cases: Vec<Case> = (0..count)
        .map(|index| {
            let node = generator.below(NODES);
            Case {
                name: format!("pinned-{index}"),
                node,
                tolerations: generator.tolerations(&taints[node]),
            }
        })
        .collect();
    let pods: Vec<Value> = cases.iter().map(|case| case.pod(&case.name)).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    futures::future::join_all(planes.both().map(|plane| async {
        plane.create(&pods).await;
        plane
            .until("pods are bound or refused", &names, decided)
            .await;
    }))
    .await;
    let mut feasible = 0;
    for case in &cases {
        tally.case("feasibility");
        let [native, ours] = planes.both().map(|plane| plane.seen(&case.name));
        feasible += usize::from(native.node.is_some());
        if native.node != ours.node {
            tally.fail(format!(
                "{} on {:?}\nnative: {native:?}\nours: {ours:?}",
                json!(case.tolerations),
                taints[case.node]
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
            ));
        }
    }
    eprintln!("feasibility: {count} pods, {feasible} bound");
    Placement { cases, taints }
}

impl Placement {
    /// Puts the cases to our plane once more, without the extender. Labels must be what taints are
    /// by then.
    pub(crate) async fn compare_affinity(&self, planes: &mut Planes, tally: &mut Tally) {
        planes.without_extender().await;
        let nodes: Vec<(String, &[Taint])> = self
            .taints
            .iter()
            .enumerate()
            .map(|(index, taints)| (node(index), taints.as_slice()))
            .collect();
        planes.ours.until_mirrored(&nodes).await;
        let alone = |case: &Case| format!("{}-alone", case.name);
        let pods: Vec<Value> = self
            .cases
            .iter()
            .map(|case| case.pod(&alone(case)))
            .collect();
        let names: Vec<String> = self.cases.iter().map(alone).collect();
        planes.ours.create(&pods).await;
        planes
            .ours
            .until("pods are bound or refused", &names, decided)
            .await;
        for case in &self.cases {
            tally.case("feasibility by affinity alone");
            let native = planes.native.seen(&case.name);
            let ours = planes.ours.seen(&alone(case));
            if native.node != ours.node {
                tally.fail(format!(
                    "by affinity alone: {} on {:?}\nnative: {native:?}\nours: {ours:?}",
                    json!(case.tolerations),
                    self.taints[case.node]
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                ));
            }
        }
    }
}
