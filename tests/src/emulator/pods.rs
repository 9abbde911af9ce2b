//! Follows the pods of the cluster and tells the world which of them serve.
//!
//! Owns the reading of a pod: its role by label, its model, and whether it is ready and staying. A
//! pod that the list at the start of a watch no longer names is gone, so that a broken watch loses
//! no departure.

use std::collections::BTreeSet;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use pd_sim::{engine::Role, exposition::Dialect};

use super::{
    Shared,
    options::{EmulatorOptions, parse_dialect},
};

/// Annotation of a pod that speaks another vLLM's metric names than the rest, as in a rolling
/// upgrade.
const DIALECT_ANNOTATION: &str = "emulator.pdautoscaler.io/dialect";

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodKey {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A serving pod, as far as the emulator needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServingPod {
    pub(super) uid: String,
    pub(super) role: Role,
    pub(super) model_name: String,
    pub(super) instance: String,
    pub(super) dialect: Dialect,
}

/// Watches for ever; errors are logged and retried with backoff.
pub(super) async fn watch(client: Client, options: EmulatorOptions, shared: Shared) {
    let api: Api<Pod> = match &options.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut config = watcher::Config::default();
    if let Some(selector) = server_selector(&options) {
        config = config.labels(&selector);
    }
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(key(&pod));
                apply(&pod, &options, &shared);
            }
            Ok(Event::InitDone) => {
                shared.with(|world, now| world.keep_only(now, &listed));
            }
            Ok(Event::Apply(pod)) => apply(&pod, &options, &shared),
            Ok(Event::Delete(pod)) => shared.with(|world, now| world.pod(now, key(&pod), None)),
            Err(error) => tracing::warn!(%error, "the watch of pods failed, trying again"),
        }
    }
}

fn apply(pod: &Pod, options: &EmulatorOptions, shared: &Shared) {
    let serving = serving_pod(pod, options);
    shared.with(|world, now| world.pod(now, key(pod), serving));
}

fn key(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
    }
}

/// Lets the API server filter by role where one key names both.
fn server_selector(options: &EmulatorOptions) -> Option<String> {
    let EmulatorOptions {
        prefill_label,
        decode_label,
        selector,
        ..
    } = options;
    let roles = (prefill_label.key == decode_label.key).then(|| {
        format!(
            "{} in ({},{})",
            prefill_label.key, prefill_label.value, decode_label.value
        )
    });
    let parts: Vec<String> = roles.into_iter().chain(selector.clone()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// A pod that takes requests, or `None` for one that is not ready, is leaving, or has no role.
fn serving_pod(pod: &Pod, options: &EmulatorOptions) -> Option<ServingPod> {
    let labels = pod.labels();
    let has = |label: &super::LabelValue| labels.get(&label.key) == Some(&label.value);
    let role = if has(&options.prefill_label) {
        Role::Prefill
    } else if has(&options.decode_label) {
        Role::Decode
    } else {
        return None;
    };
    let status = pod.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let address = status.pod_ip.clone().unwrap_or_else(|| pod.name_any());
    let dialect = pod
        .annotations()
        .get(DIALECT_ANNOTATION)
        .and_then(|d| parse_dialect(d).ok());
    Some(ServingPod {
        uid: pod.uid().unwrap_or_default(),
        role,
        model_name: labels
            .get(&options.model_label)
            .unwrap_or(&options.model_name)
            .clone(),
        instance: format!("{address}:8000"),
        dialect: dialect.unwrap_or(options.dialect),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(role: &str, ready: &str, leaving: bool) -> Pod {
        let mut value = json!({
            "metadata": {
                "namespace": "inference", "name": "p-0", "uid": "u",
                "labels": { "llm-d.ai/role": role, "model": "llama" },
            },
            "status": {
                "podIP": "10.0.0.7",
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        });
        if leaving {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_ready_pods_with_a_role_serve() {
        let options = EmulatorOptions::default();
        let serving = serving_pod(&pod("decode", "True", false), &options).unwrap();
        assert_eq!(serving.role, Role::Decode);
        assert_eq!(serving.model_name, "llama");
        assert_eq!(serving.instance, "10.0.0.7:8000");
        assert_eq!(serving_pod(&pod("decode", "False", false), &options), None);
        assert_eq!(serving_pod(&pod("decode", "True", true), &options), None);
        assert_eq!(serving_pod(&pod("router", "True", false), &options), None);
    }

    #[test]
    fn the_server_filters_by_role_and_selector() {
        let options = EmulatorOptions {
            selector: Some("app=x".into()),
            ..Default::default()
        };
        assert_eq!(
            server_selector(&options).unwrap(),
            "llm-d.ai/role in (prefill,decode),app=x"
        );
        let other: super::super::LabelValue = "part=d".parse().unwrap();
        let two_keys = EmulatorOptions {
            decode_label: other,
            ..Default::default()
        };
        assert_eq!(server_selector(&two_keys), None);
    }
}
