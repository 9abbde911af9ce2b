//! Workloads of any kind, as the text of those of their fields that are read.
//!
//! The fields that make objects large and say nothing about scaling are dropped: who wrote which
//! field, but for deployers, and everything of a container but its name, its resources and what
//! ends its requests. The rest is kept as compact text, for trees of it take ten times as much.

use std::{collections::BTreeMap, sync::Arc};

use kube::api::DynamicObject;
use pd_systems::{drain, owner::is_deployers};
use serde_json::Value;

use super::watched::{Key, Store, key};

/// Fields of containers that are kept as they are. Values of environment variables may be secrets,
/// and so may commands.
const OF_CONTAINER: [&str; 4] = ["name", "image", "resources", "restartPolicy"];

/// Fields that hold containers.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Fields of pod templates that are dropped.
const DROPPED: [&str; 5] = [
    "volumes",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "volumeClaimTemplates",
];

/// The field that says who wrote which field: deployers' entries are kept.
const MANAGED: &str = "managedFields";

/// The annotation in which kubectl keeps a second copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The objects of one kind.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<Key, Arc<[u8]>>);

impl Objects {
    /// The JSON text of the object `name` in `namespace`.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<[u8]>> {
        self.0.get(&(namespace.into(), name.into())).cloned()
    }
}

impl Store for Objects {
    type Object = DynamicObject;

    fn put(&mut self, object: DynamicObject) {
        let key = key(&object);
        // An object that was decoded from JSON encodes to it.
        let value = serde_json::to_value(object).map(trimmed);
        if let Ok(text) = value.and_then(|value| serde_json::to_vec(&value)) {
            self.0.insert(key, text.into());
        }
    }

    fn remove(&mut self, object: &DynamicObject) {
        self.0.remove(&key(object));
    }
}

/// `value` without what nobody reads.
fn trimmed(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|field, _| !DROPPED.contains(&field.as_str()) && field != LAST_APPLIED);
            for (field, inner) in fields.iter_mut() {
                *inner = match inner.take() {
                    Value::Array(mut entries) if field == MANAGED => {
                        entries.retain(is_deployers);
                        Value::Array(entries)
                    }
                    Value::Array(containers) if CONTAINERS.contains(&field.as_str()) => {
                        containers.into_iter().map(trimmed_container).collect()
                    }
                    other => trimmed(other),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = trimmed(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

fn trimmed_container(mut container: Value) -> Value {
    let ending = drain::kept(&container);
    if let Some(fields) = container.as_object_mut() {
        fields.retain(|field, _| OF_CONTAINER.contains(&field.as_str()));
        fields.extend(ending);
    }
    container
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_keeps_what_scaling_reads_and_no_secrets() {
        let container = json!({
            "name": "engine", "image": "vllm", "restartPolicy": "Always",
            "env": [{ "name": "TOKEN", "value": "secret" }],
            "resources": { "limits": { "nvidia.com/gpu": "4" } },
            "livenessProbe": { "httpGet": { "path": "/" } },
            "args": ["vllm serve m --api-key=secret --shutdown-timeout 60"],
            "lifecycle": { "preStop": { "exec": { "command": ["curl", "secret"] } } },
        });
        let object = json!({
            "apiVersion": "x.io/v1", "kind": "Group",
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "1", "generation": 2,
                "managedFields": [{ "manager": "kubectl" }, { "manager": "argocd-controller" }],
                "annotations": { LAST_APPLIED: "{}", "team": "chat" },
            },
            "spec": { "roles": [{ "replicas": 3, "template": { "spec": {
                "containers": [container.clone()], "initContainers": [container],
                "volumes": [{ "name": "cache" }],
            } } }] },
            "status": { "replicas": 3 },
        });
        let mut objects = Objects::default();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        objects.put(object.clone());
        let text = objects.get("ns", "a").unwrap();
        let kept: Value = serde_json::from_slice(&text).unwrap();
        let engine = json!({
            "name": "engine", "image": "vllm", "restartPolicy": "Always",
            "resources": { "limits": { "nvidia.com/gpu": "4" } },
            "command": ["vllm serve", "--shutdown-timeout=60"],
            "lifecycle": { "preStop": { "exec": {} } },
        });
        let template = &kept["spec"]["roles"][0]["template"]["spec"];
        assert_eq!(
            *template,
            json!({ "containers": [engine.clone()], "initContainers": [engine] })
        );
        assert_eq!(kept["metadata"]["annotations"], json!({ "team": "chat" }));
        assert_eq!(
            kept["metadata"]["managedFields"],
            json!([{ "manager": "argocd-controller" }])
        );
        assert_eq!(
            (&kept["status"]["replicas"], &kept["kind"]),
            (&json!(3), &json!("Group"))
        );
        objects.remove(&object);
        assert!(objects.get("ns", "a").is_none());
    }
}
