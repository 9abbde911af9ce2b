//! Pods, trimmed to what capacity depends on.
//!
//! A pod takes some 150 bytes: its name, its phase, and shares in the labels and the owner that it
//! has in common with others. Pods that no workload owns, and those of daemons and jobs, are not
//! kept. A workload's pods are found by the beginning of their names, without a look at all others.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    ops::Bound,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use pd_core::role_state::StuckCause;
use pd_systems::{
    pod::PodOwner,
    victims::{Cost, DELETION_COST},
};

use super::{
    pod_cause::pod_cause,
    pod_phase::{PodPhase, pod_phase},
    watched::Store,
};

/// Kinds whose pods nobody scales by us.
const OWNERS_IGNORED: [&str; 3] = ["DaemonSet", "Job", "Node"];

/// Labels that are each pod's own and that its name says as well.
const LABELS_DROPPED: [&str; 2] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its owner.
    pub owner: Arc<PodOwner>,
    /// Its phase, as far as capacity is concerned.
    pub phase: PodPhase,
    /// Why it will not serve without help, if it will not.
    pub stuck: Option<StuckCause>,
    /// Its deletion cost, if it has one.
    pub cost: Option<Cost>,
}

/// The deletion cost of `pod`. Few have one, so that only of those the metadata is looked through.
fn cost(pod: &Pod) -> Option<Cost> {
    pod.annotations().get(DELETION_COST)?;
    Cost::of(&serde_json::to_value(&pod.metadata).ok()?)
}

/// Pods in the order of their names.
#[derive(Debug, Clone)]
struct ByName(PodFacts);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

/// All pods that may matter.
#[derive(Debug, Default)]
pub(super) struct Pods {
    namespaces: HashMap<Box<str>, BTreeSet<ByName>>,
    labels: Shared<BTreeMap<String, String>>,
    owners: Shared<PodOwner>,
}

impl Pods {
    /// Those in `namespace` whose names begin with `prefix` and that are `wanted`, by name.
    pub(super) fn find(
        &self,
        namespace: &str,
        prefix: &str,
        wanted: impl Fn(&PodFacts) -> bool,
    ) -> Vec<PodFacts> {
        let Some(pods) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        let from = (Bound::Included(prefix), Bound::Unbounded);
        pods.range::<str, _>(from)
            .map(|pod| &pod.0)
            .take_while(|pod| pod.name.starts_with(prefix))
            .filter(|pod| wanted(pod))
            .cloned()
            .collect()
    }

    fn forget(&mut self, namespace: &str, name: &str) {
        let Some(pods) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let gone = pods.take(name);
        if pods.is_empty() {
            self.namespaces.remove(namespace);
        }
        if let Some(ByName(gone)) = gone {
            self.labels.release(&gone.labels);
            self.owners.release(&gone.owner);
        }
    }
}

impl Store for Pods {
    type Object = Pod;

    fn put(&mut self, pod: Pod) {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        self.forget(&namespace, &name);
        let owner = pod.owner_references().iter();
        let owner = owner.filter(|owner| owner.controller == Some(true));
        let mut owner = owner.filter(|owner| !OWNERS_IGNORED.contains(&owner.kind.as_str()));
        let Some(owner) = owner.next().cloned() else {
            return;
        };
        let (phase, stuck, cost) = (pod_phase(&pod), pod_cause(&pod), cost(&pod));
        let mut labels = pod.metadata.labels.unwrap_or_default();
        labels.retain(|label, _| !LABELS_DROPPED.contains(&label.as_str()));
        let facts = PodFacts {
            name: name.into(),
            labels: self.labels.share(labels),
            owner: self.owners.share(PodOwner {
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
            }),
            phase,
            stuck,
            cost,
        };
        self.namespaces
            .entry(namespace.into())
            .or_default()
            .insert(ByName(facts));
    }

    fn remove(&mut self, pod: &Pod) {
        self.forget(&pod.namespace().unwrap_or_default(), &pod.name_any());
    }
}

/// Values that many have in common, each once, with how many they are.
#[derive(Debug)]
struct Shared<T>(HashMap<Arc<T>, usize>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Shared<T> {
    fn share(&mut self, value: T) -> Arc<T> {
        let value = match self.0.get_key_value(&value) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(value),
        };
        *self.0.entry(Arc::clone(&value)).or_default() += 1;
        value
    }

    /// One fewer has `value`.
    fn release(&mut self, value: &Arc<T>) {
        if let Some(count) = self.0.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, owner: &Value, labels: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "ns", "labels": labels, "ownerReferences": [owner] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .unwrap()
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true })
    }

    fn names(pods: &Pods, prefix: &str) -> Vec<String> {
        let found = pods.find("ns", prefix, |_| true);
        found.iter().map(|pod| pod.name.to_string()).collect()
    }

    #[test]
    fn the_pods_of_a_prefix_are_found_in_order_and_no_others() {
        let mut pods = Pods::default();
        for name in ["llama-p-b", "llama-p-a", "llama-d-a", "m", "a"] {
            pods.put(pod(name, &owner("ReplicaSet", "rs"), &json!({})));
        }
        assert_eq!(names(&pods, "llama-p-"), ["llama-p-a", "llama-p-b"]);
        assert_eq!(names(&pods, "").len(), 5);
        assert!(names(&pods, "x").is_empty());
        assert!(pods.find("other", "", |_| true).is_empty());
        assert!(pods.find("ns", "", |_| false).is_empty());
    }

    #[test]
    fn pods_that_nobody_scales_are_not_kept() {
        let mut pods = Pods::default();
        for kind in OWNERS_IGNORED {
            pods.put(pod("a", &owner(kind, "x"), &json!({})));
        }
        let mut loose = owner("ReplicaSet", "x");
        loose["controller"] = json!(false);
        pods.put(pod("b", &loose, &json!({})));
        assert!(pods.namespaces.is_empty() && pods.owners.0.is_empty());
    }

    #[test]
    fn a_pod_that_its_owner_lets_go_is_forgotten() {
        let mut pods = Pods::default();
        pods.put(pod("a", &owner("ReplicaSet", "x"), &json!({})));
        let mut free = pod("a", &owner("ReplicaSet", "x"), &json!({}));
        free.metadata.owner_references = None;
        pods.put(free);
        assert!(names(&pods, "").is_empty());
    }

    #[test]
    fn a_deletion_cost_is_ours_if_we_wrote_it() {
        let mut pods = Pods::default();
        for (name, manager) in [("a", crate::NAME), ("b", "kubectl")] {
            let mut value =
                serde_json::to_value(pod(name, &owner("ReplicaSet", "x"), &json!({}))).unwrap();
            value["metadata"]["annotations"] = json!({ DELETION_COST: "-1" });
            value["metadata"]["managedFields"] = json!([{ "manager": manager, "operation": "Update",
                "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:annotations": { format!("f:{DELETION_COST}"): {} } } } }]);
            pods.put(serde_json::from_value(value).unwrap());
        }
        pods.put(pod("c", &owner("ReplicaSet", "x"), &json!({})));
        let costs: Vec<_> = pods
            .find("ns", "", |_| true)
            .iter()
            .map(|pod| pod.cost)
            .collect();
        let cost = |is_ours| Some(Cost { value: -1, is_ours });
        assert_eq!(costs, [cost(true), cost(false), None]);
    }

    #[test]
    fn what_pods_have_in_common_is_kept_once_and_goes_with_the_last_of_them() {
        let mut pods = Pods::default();
        let of = |index: u32| {
            let name = format!("llama-{index}");
            let labels = json!({ "app": "llama", "statefulset.kubernetes.io/pod-name": name });
            pod(&name, &owner("StatefulSet", "llama"), &labels)
        };
        for index in 0..100 {
            pods.put(of(index));
            pods.put(of(index));
        }
        assert_eq!((pods.labels.0.len(), pods.owners.0.len()), (1, 1));
        let (first, last) = (
            pods.find("ns", "llama-0", |_| true),
            pods.find("ns", "llama-99", |_| true),
        );
        assert!(Arc::ptr_eq(&first[0].labels, &last[0].labels));
        assert_eq!(first[0].labels.len(), 1);
        for index in 0..100 {
            pods.remove(&of(index));
        }
        assert!(pods.labels.0.is_empty() && pods.owners.0.is_empty() && pods.namespaces.is_empty());
    }
}
