//! Autoscalers of others, by the workload that they scale.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::{ResourceExt as _, api::DynamicObject};
use pd_systems::owner::is_paused;

use super::watched::{Key, Store, key};

/// The kind that KEDA takes where none is stated.
const KIND_DEFAULT: &str = "Deployment";

/// A workload: namespace, kind and name.
type Workload = (Box<str>, Box<str>, Box<str>);

/// The autoscalers of one kind.
#[derive(Debug, Default)]
pub(super) struct Scalers {
    /// The workload of each autoscaler, by namespace and name.
    scaled: BTreeMap<Key, Workload>,
    /// The names of the autoscalers of each workload.
    names: HashMap<Workload, BTreeSet<Box<str>>>,
}

impl Scalers {
    /// The name of an autoscaler of the workload `name` of `kind` in `namespace`; of several the
    /// first.
    pub(super) fn of(&self, namespace: &str, kind: &str, name: &str) -> Option<String> {
        let workload = (namespace.into(), kind.into(), name.into());
        let first = self.names.get(&workload)?.first()?;
        Some(first.to_string())
    }

    fn forget(&mut self, key: &Key) {
        let Some(workload) = self.scaled.remove(key) else {
            return;
        };
        if let Some(names) = self.names.get_mut(&workload) {
            names.remove(&key.1);
            if names.is_empty() {
                self.names.remove(&workload);
            }
        }
    }
}

impl Store for Scalers {
    type Object = DynamicObject;

    fn put(&mut self, object: DynamicObject) {
        let key = key(&object);
        self.forget(&key);
        let target = &object.data["spec"]["scaleTargetRef"];
        let Some(name) = target["name"].as_str() else {
            return;
        };
        let annotations = object.annotations();
        let annotation = |key: &str| annotations.get(key).map(String::as_str);
        if is_paused(annotation, &object.data["status"]) {
            return;
        }
        let kind = target["kind"].as_str().unwrap_or(KIND_DEFAULT);
        let workload: Workload = (key.0.clone(), kind.into(), name.into());
        self.names
            .entry(workload.clone())
            .or_default()
            .insert(key.1.clone());
        self.scaled.insert(key, workload);
    }

    fn remove(&mut self, object: &DynamicObject) {
        self.forget(&key(object));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn scaler(name: &str, target: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": { "name": name, "namespace": "ns" }, "spec": { "scaleTargetRef": target },
        }))
        .unwrap()
    }

    #[test]
    fn an_autoscaler_is_found_by_its_workload_and_follows_its_changes() {
        let mut scalers = Scalers::default();
        scalers.put(scaler(
            "b",
            &json!({ "kind": "StatefulSet", "name": "llama" }),
        ));
        scalers.put(scaler(
            "a",
            &json!({ "kind": "StatefulSet", "name": "llama" }),
        ));
        scalers.put(scaler("c", &json!({ "name": "llama" })));
        scalers.put(scaler("d", &json!({})));
        let of = |scalers: &Scalers, kind| scalers.of("ns", kind, "llama");
        assert_eq!(of(&scalers, "StatefulSet").as_deref(), Some("a"));
        assert_eq!(of(&scalers, "Deployment").as_deref(), Some("c"));
        assert_eq!(scalers.of("other", "Deployment", "llama"), None);
        scalers.put(scaler(
            "a",
            &json!({ "kind": "StatefulSet", "name": "other" }),
        ));
        assert_eq!(of(&scalers, "StatefulSet").as_deref(), Some("b"));
        let mut paused = scaler("b", &json!({ "kind": "StatefulSet", "name": "llama" }));
        let annotation = ("autoscaling.keda.sh/paused".to_owned(), "true".to_owned());
        paused.annotations_mut().extend([annotation]);
        scalers.put(paused.clone());
        assert!(
            of(&scalers, "StatefulSet").is_some(),
            "KEDA has not let go yet"
        );
        paused.data["status"] = json!({ "conditions": [{ "type": "Paused", "status": "True" }] });
        scalers.put(paused);
        assert_eq!(of(&scalers, "StatefulSet"), None);
        scalers.remove(&scaler("b", &json!({})));
        assert_eq!(of(&scalers, "StatefulSet"), None);
        scalers.remove(&scaler("c", &json!({})));
        scalers.remove(&scaler("a", &json!({})));
        assert!(scalers.names.is_empty() && scalers.scaled.is_empty());
    }
}
