//! Feasible nodes: a pod that may go to one node alone is bound by both schedulers or refused by both.

use std::collections::BTreeMap;

use pd_core::toleration::{Effect, Taint, Toleration};
use serde_json::{Value, json};

use crate::{difference::Tally, generate::Generator, planes::{Planes, Seen}};

/// Nodes that pods are pinned to.
const NODES: usize = 64;
const EFFECTS: [Effect; 4] = [Effect::NoSchedule, Effect::NoSchedule, Effect::NoExecute, Effect::PreferNoSchedule];

struct Case {
    name: String,
    node: usize,
    tolerations: Vec<Toleration>,
}

impl Case {
    fn pod(&self) -> Value {
        json!({
            "metadata": { "name": self.name },
            "spec": {
                "containers": [{ "name": "c", "image": "x" }],
                "terminationGracePeriodSeconds": 0,
                "nodeSelector": { "kubernetes.io/hostname": node(self.node) },
                "tolerations": self.tolerations,
            },
        })
    }
}

fn node(index: usize) -> String {
    format!("pinned-{index}-0")
}

/// Puts `count` pods, each pinned to a node, to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
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
    let pods: Vec<Value> = cases.iter().map(Case::pod).collect();
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    futures::future::join_all(planes.both().map(|plane| async {
        plane.create(&pods).await;
        let decided = |seen: &Seen| seen.node.is_some() || seen.unschedulable.is_some();
        plane.until("pods are bound or refused", &names, decided).await;
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
                taints[case.node].iter().map(ToString::to_string).collect::<Vec<_>>()
            ));
        }
    }
    eprintln!("feasibility: {count} pods, {feasible} bound");
}
