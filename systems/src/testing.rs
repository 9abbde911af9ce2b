//! Objects and pods for tests, and what becomes of them.

use json_patch::patch;
use pd_core::Role;
use serde_json::{Value, json};

use crate::{
    edit::{Change, Edit, Write, edits},
    kind::Kind,
    observe::{Observed, observe},
    place::Place,
    pod::PodFacts,
    refusal::Refusal,
    target::{Near, Target},
};

/// The target `name` of `kind`.
pub(crate) fn target(kind: &Kind, name: &str, role: Option<&str>, side: Role) -> Target {
    Target {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        name: name.to_owned(),
        role: role.map(str::to_owned),
        side,
    }
}

/// An object of `kind` at version 7.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a borrow"
)]
pub(crate) fn object(kind: &Kind, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": { "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "7" },
        "spec": spec,
    })
}

/// The place of a target of `kind`, by its system.
pub(crate) fn resolve(
    kind: &Kind,
    object: &Value,
    related: &[Value],
    role: Option<&str>,
    side: Role,
) -> Result<Place, Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap();
    let target = target(kind, name, role, side);
    let system = crate::system(&target.api_version, &target.kind);
    system.resolve(
        &target,
        &Near {
            object,
            scale: None,
            related,
        },
    )
}

/// The place of a role, which resolves.
pub(crate) fn place(kind: &Kind, object: &Value, role: &str) -> Place {
    let side = if role.contains("prefill") {
        Role::Prefill
    } else {
        Role::Decode
    };
    resolve(kind, object, &[], Some(role), side).unwrap()
}

/// A pod template with GPUs.
pub(crate) fn template(gpus: u32) -> Value {
    json!({ "spec": { "containers": [{ "name": "engine", "resources": { "limits": { "nvidia.com/gpu": gpus.to_string() } } }] } })
}

/// A pod with labels; ready, `starting`, `leaving`, `unschedulable`.
pub(crate) fn pod(name: &str, state: &str, labels: &[(&str, &str)]) -> PodFacts {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), json!(v)))
        .collect();
    let mut pod =
        json!({ "metadata": { "name": name, "labels": labels }, "spec": template(2)["spec"] });
    pod["status"] = match state {
        "ready" | "leaving" => {
            json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })
        }
        "unschedulable" => json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }] }),
        "starting" => json!({ "phase": "Pending" }),
        other => panic!("no such state: {other}"),
    };
    if state == "leaving" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    PodFacts::of(&pod)
}

/// Ready, starting and terminating replicas, and the serving pods.
pub(crate) fn counts(place: &Place, pods: &[PodFacts]) -> (u32, u32, u32, Vec<String>) {
    let Observed {
        state,
        serving_pods,
        ..
    } = observe(place, pods);
    (state.ready, state.starting, state.terminating, serving_pods)
}

/// The writes that bring each place to its wanted replicas.
pub(crate) fn wanted(places: &[(&Place, u32)]) -> Result<Vec<Edit>, Refusal> {
    let places = places.iter().copied();
    let changes: Vec<Change<'_>> = places
        .map(|(place, to)| Change {
            place,
            from: place.desired,
            to,
        })
        .collect();
    edits(&changes)
}

/// `object` after a JSON patch.
pub(crate) fn patched(object: &Value, edit: &Edit) -> Value {
    let Write::JsonPatch(operations) = &edit.write else {
        panic!("no JSON patch: {edit:?}")
    };
    let mut object = object.clone();
    patch(&mut object, operations).unwrap();
    object
}

/// Pointers of all values in which two objects differ, with those of the second.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    collect(String::new(), before, after, &mut found);
    found
}

fn collect(at: String, before: &Value, after: &Value, found: &mut Vec<(String, Value)>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(key).cloned().unwrap_or_default()
                };
                collect(
                    format!("{at}/{}", crate::json::escaped(key)),
                    &of(old),
                    &of(new),
                    found,
                );
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                collect(format!("{at}/{index}"), old, new, found);
            }
        }
        _ if before == after => {}
        _ => found.push((at, after.clone())),
    }
}

/// An autoscaler that refers to an object.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a borrow"
)]
pub(crate) fn autoscaler(
    api_version: &str,
    kind: &str,
    name: &str,
    refers: &str,
    to: Value,
) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": { refers: to } })
}

/// `object`, made by a controller.
pub(crate) fn made_by(mut object: Value, kind: &str, name: &str) -> Value {
    object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "x/v1", "kind": kind, "name": name, "uid": "1", "controller": true }]);
    object
}
