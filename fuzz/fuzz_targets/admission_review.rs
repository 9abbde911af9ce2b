//! Reviews to pd-webhook: whatever the bytes, an answer is a well-formed review, its patch can be
//! applied, and the object that comes of it needs no other.
//!
//! The first byte chooses the gate and whether pods get tolerations from a role, the length of the
//! rest which nodes pods prefer. The rest is a body as it is, or, so that the fuzzer need not find
//! the envelope by itself, the object of one, or annotation, tolerations and preferred terms of a
//! pod.

#![no_main]

use std::sync::Arc;

use k8s_openapi::ByteString;
use libfuzzer_sys::fuzz_target;
use pd_core::Role;
use pd_tolerations::{Comparison, ExtendedToleration, mirror::Margin};
use pd_webhook::admission::{Claimed, Defaults, Rewriting, Workload, mutate, validate};
use serde_json::{Value, json};

const KINDS: [(&str, &str); 5] = [
    ("", "Pod"),
    ("apps", "Deployment"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("batch", "CronJob"),
];

struct Cluster {
    gives: bool,
}

impl Claimed for Cluster {
    fn claimant(&self, workload: &Workload, except: &str) -> Option<String> {
        (workload.name == "taken" && except != "owner").then(|| "owner".to_owned())
    }

    fn defaults(&self, _: &Workload) -> Option<Arc<Defaults>> {
        let entry = json!({ "key": "sla", "operator": "Range", "value": "900..990", "effect": "NoExecute" });
        let number = json!({ "key": "cost", "operator": "Lt", "value": "7" });
        let read = |value: Value| serde_json::from_value::<ExtendedToleration>(value).ok();
        self.gives.then(|| {
            Arc::new(Defaults {
                autoscaler: "llama".to_owned(),
                role: Role::Prefill,
                tolerations: [entry, number].into_iter().filter_map(read).collect(),
            })
        })
    }

    fn is_complete(&self) -> bool {
        self.gives
    }
}

fn review(kind: (&str, &str), operation: &str, object: &Value, old: &Value) -> Vec<u8> {
    let (group, kind) = kind;
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "request": { "uid": "u", "namespace": "ns",
        "kind": { "group": group, "kind": kind }, "operation": operation, "object": object, "oldObject": old } });
    serde_json::to_vec(&review).expect("a value is JSON")
}

/// The object after the answer; nothing if it was refused.
fn admitted(body: &[u8], object: &Value, rewriting: Rewriting, cluster: &Cluster) -> Option<Value> {
    let answered = mutate(body, rewriting, cluster).expect("a well-formed review is answered");
    let answer: Value = serde_json::from_slice(&answered.body).expect("an answer is JSON");
    let response = &answer["response"];
    assert_eq!(response["uid"], "u");
    if response["allowed"] == false {
        assert!(response["status"]["message"].is_string() && response["patch"].is_null());
        return None;
    }
    let mut object = object.clone();
    if !response["patch"].is_null() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = serde_json::from_value::<ByteString>(response["patch"].clone());
        let patch: json_patch::Patch =
            serde_json::from_slice(&patch.expect("base64").0).expect("a patch");
        json_patch::patch(&mut object, &patch).expect("a patch that fits");
    }
    Some(object)
}

/// An object of the kind with the given pod template.
fn around(kind: &str, template: Value) -> Value {
    match kind {
        "Pod" => template,
        "CronJob" => json!({ "spec": { "jobTemplate": { "spec": { "template": template } } } }),
        _ => json!({ "spec": { "template": template } }),
    }
}

/// Where the tolerations of an object of the kind are.
fn tolerations<'a>(kind: &str, object: &'a mut Value) -> Option<&'a mut Vec<Value>> {
    let path = match kind {
        "Pod" => "/spec/tolerations",
        "CronJob" => "/spec/jobTemplate/spec/template/spec/tolerations",
        _ => "/spec/template/spec/tolerations",
    };
    object.pointer_mut(path)?.as_array_mut()
}

/// Edits what is stored: the last bytes say what is removed, moved, or comes first. Whatever comes
/// of it needs no other answer, and no number changes its seconds unasked.
fn edit(
    kind: (&str, &str),
    data: &[u8],
    stored: &Value,
    rewriting: Rewriting,
    cluster: &Cluster,
) {
    let mut edited = stored.clone();
    let Some(list) = tolerations(kind.1, &mut edited).filter(|list| !list.is_empty()) else {
        return;
    };
    for byte in data.iter().rev().take(3) {
        let place = usize::from(byte >> 2) % list.len().max(1);
        match byte & 3 {
            0 if list.len() > 1 => drop(list.remove(place)),
            1 => list.rotate_left(place),
            2 => list.insert(0, json!({ "key": "sla", "operator": "Gt", "value": "970", "effect": "NoExecute" })),
            _ => {}
        }
    }
    let body = review(kind, "UPDATE", &edited, stored);
    let Some(once) = admitted(&body, &edited, rewriting, cluster) else {
        return;
    };
    let again = review(kind, "UPDATE", &once, stored);
    let again = admitted(&again, &once, rewriting, cluster);
    assert_eq!(again.as_ref(), Some(&once), "an edit is not settled: {edited}");
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let gate = if choice & 1 == 0 {
        Comparison::Off
    } else {
        Comparison::On
    };
    let cluster = Cluster {
        gives: choice & 2 != 0,
    };
    let rewriting = Rewriting {
        gate,
        preferred: match data.len() % 3 {
            0 => None,
            1 => Some(Margin::Least),
            _ => Some(Margin::Most),
        },
    };
    let kind = KINDS[usize::from(choice >> 4) % KINDS.len()];
    let (object, old) = match (choice >> 2) & 3 {
        0 => {
            let _ = mutate(data, rewriting, &cluster);
            let _ = validate(data, &cluster);
            return;
        }
        1 => {
            let Ok(object) = serde_json::from_slice::<Value>(data) else {
                return;
            };
            let scaler = ("pdautoscaler.io", "PDAutoscaler");
            let _ = validate(&review(scaler, "CREATE", &object, &Value::Null), &cluster);
            (object, Value::Null)
        }
        way => {
            // Annotation, new and old tolerations, and preferred terms, a line each.
            let text = String::from_utf8_lossy(data);
            let mut lines = text.splitn(4, '\n');
            let mut line = || lines.next().unwrap_or_default();
            let annotation = line().to_owned();
            let mut list = || serde_json::from_str::<Value>(line()).unwrap_or_default();
            let (new, old, preferred) = (list(), list(), list());
            let template = |tolerations: Value| {
                json!({ "metadata": { "labels": { "pod-template-hash": "x" },
                        "annotations": { "pdautoscaler.io/numeric-tolerations": annotation },
                        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "p-x", "controller": true }] },
                    "spec": { "tolerations": tolerations, "affinity": { "nodeAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": preferred } } } })
            };
            let old = if way == 3 {
                around(kind.1, template(old))
            } else {
                Value::Null
            };
            (around(kind.1, template(new)), old)
        }
    };
    let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
    let once = admitted(
        &review(kind, operation, &object, &old),
        &object,
        rewriting,
        &cluster,
    );
    if let Some(once) = &once {
        edit(kind, data, once, rewriting, &cluster);
    }
    if let Some(once) = once {
        let again = admitted(&review(kind, operation, &once, &old), &once, rewriting, &cluster);
        assert_eq!(again.as_ref(), Some(&once), "not settled: {object}");
    }
});
