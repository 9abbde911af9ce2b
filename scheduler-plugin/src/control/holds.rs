//! Pods that run where they would not be placed now, and the labels by which their nodes hold them.
//!
//! Node affinity on the mirror's labels is looked at again while a pod runs: by the controller of
//! `DaemonSets` at every change of a node, by a kubelet that starts again. `NoSchedule`, and a
//! taint that must be present, are about new pods alone. So the mirror writes such a label beside
//! the one that would make the pod illegal, in the same write, and takes it away with the pod, or
//! when the node's value is good again. Nothing is written for pods that fit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::ResourceExt as _;
use pd_tolerations::{
    Rule,
    extension::ParsedTaint,
    mirror::{HOLD, hold_of_daemon_set, hold_of_pod, is_held},
};

use super::objects::WatchedPod;

/// Namespace and name.
type PodKey = (String, String);

/// A pod that runs, and the labels that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    node: String,
    rules: Vec<Rule>,
    labels: Vec<String>,
}

/// All pods with numbers that run, by node. Pure: fed by the cache's changes.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pods: HashMap<PodKey, Running>,
    by_node: BTreeMap<String, BTreeSet<PodKey>>,
}

impl Holds {
    /// Takes a pod as it is now, nothing if it is gone. Gives the nodes whose labels may change.
    pub(super) fn pod(&mut self, key: PodKey, pod: Option<&WatchedPod>) -> Vec<String> {
        let now = pod.and_then(running);
        if self.pods.get(&key) == now.as_ref() {
            return Vec::new();
        }
        let mut nodes = Vec::new();
        if let Some(before) = self.pods.remove(&key) {
            if let Some(pods) = self.by_node.get_mut(&before.node) {
                pods.remove(&key);
                if pods.is_empty() {
                    self.by_node.remove(&before.node);
                }
            }
            nodes.push(before.node);
        }
        if let Some(now) = now {
            let pods = self.by_node.entry(now.node.clone()).or_default();
            pods.insert(key.clone());
            nodes.push(now.node.clone());
            self.pods.insert(key, now);
        }
        nodes
    }

    /// The pods that are known.
    pub(super) fn known(&self) -> impl Iterator<Item = &PodKey> {
        self.pods.keys()
    }

    /// The labels that hold the pods of `node` while it has `taints`.
    pub(super) fn labels(&self, node: &str, taints: &[ParsedTaint]) -> BTreeMap<String, String> {
        let keys = self.by_node.get(node).into_iter().flatten();
        let pods = keys.filter_map(|key| self.pods.get(key));
        let held = pods.filter(|pod| is_held(&pod.rules, taints));
        held.flat_map(|pod| &pod.labels)
            .map(|label| (label.clone(), String::new()))
            .collect()
    }
}

/// The pod, if it runs on a node and something can hold it there.
fn running(pod: &WatchedPod) -> Option<Running> {
    let node = pod.spec.node_name.clone().filter(|node| !node.is_empty())?;
    let is_over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let rules = pod.numeric_rules().filter(|_| !is_over)?;
    let own = pod.annotations().get(HOLD);
    let own = own.and_then(|token| hold_of_pod(token));
    let daemon_set = pod.owner_references().iter().find(|owner| {
        let is_daemon_set = owner.kind == "DaemonSet" && owner.api_version.starts_with("apps/");
        owner.controller == Some(true) && is_daemon_set
    });
    let namespace = pod.namespace().unwrap_or_default();
    let of_set = daemon_set.and_then(|set| hold_of_daemon_set(&namespace, &set.name));
    let labels: Vec<String> = own.into_iter().chain(of_set).collect();
    (!labels.is_empty()).then_some(Running {
        node,
        rules,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use pd_tolerations::{Effect, Taint};
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> WatchedPod {
        let entries =
            r#"[{"key":"sla","operator":"Gt","value":"950","effect":"NoSchedule","index":0}]"#;
        let mut pod = json!({
            "metadata": { "name": "p", "namespace": "ns", "annotations": {
                "pdautoscaler.io/numeric-tolerations": entries, HOLD: "t-1" } },
            "spec": { "nodeName": "n", "tolerations": [{ "key": "sla", "operator": "Exists", "effect": "NoSchedule" }] },
            "status": { "phase": "Running" },
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn key() -> PodKey {
        ("ns".to_owned(), "p".to_owned())
    }

    fn labels(holds: &Holds, value: &str) -> Vec<String> {
        let taint = Taint::new("sla", value, Effect::NoSchedule);
        let labels = holds.labels("n", &[ParsedTaint::from(taint)]);
        labels.into_keys().collect()
    }

    #[test]
    fn a_pod_is_held_while_it_runs_where_it_would_not_be_placed() {
        let mut holds = Holds::default();
        assert_eq!(holds.pod(key(), Some(&pod(|_| {}))), ["n"]);
        assert!(holds.pod(key(), Some(&pod(|_| {}))).is_empty(), "no change");
        assert_eq!(labels(&holds, "951"), [""; 0]);
        assert_eq!(labels(&holds, "900"), ["held.taint.pdautoscaler.io/t-1"]);
        assert!(holds.labels("other", &[]).is_empty());
        assert_eq!(holds.pod(key(), None), ["n"]);
        assert_eq!(labels(&holds, "900"), [""; 0]);
        assert_eq!(holds.known().count(), 0);
    }

    #[test]
    fn the_pod_of_a_daemon_set_is_held_in_the_eyes_of_its_controller_too() {
        let mut holds = Holds::default();
        let daemon = pod(|pod| {
            pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true }]);
        });
        holds.pod(key(), Some(&daemon));
        assert_eq!(
            labels(&holds, "900"),
            [
                "held.taint.pdautoscaler.io/t-1",
                "ns.held.taint.pdautoscaler.io/d"
            ]
        );
    }

    #[test]
    fn pods_that_wait_are_over_or_have_no_numbers_hold_nothing() {
        for change in [
            |pod: &mut Value| pod["spec"]["nodeName"] = json!(null),
            |pod: &mut Value| pod["status"]["phase"] = json!("Failed"),
            |pod: &mut Value| pod["metadata"]["annotations"] = json!({ HOLD: "t-1" }),
            |pod: &mut Value| pod["metadata"]["annotations"][HOLD] = json!("no label/at all"),
        ] {
            let mut holds = Holds::default();
            assert!(holds.pod(key(), Some(&pod(change))).is_empty());
        }
    }
}
