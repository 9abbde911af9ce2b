//! The scheduling gate of pods that belong to a placement group.
//!
//! A pod joins by a label of its own, so that no other pod is ever sent here. It gets the gate when
//! it is created, for later Kubernetes takes no gate. A pod that names its node is past the
//! scheduler, and only warned about. The annotation by which a released pod is known is ours to
//! write, and taken off new pods.

use json_patch::{PatchOperation, jsonptr::Pointer};
use pd_api::v1alpha1::placement_group::{GATE, GROUP_LABEL, NODE_ANNOTATION};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Answered, ReviewError,
    patch::{add, below, remove},
    wire::{AdmissionChange, AdmissionVerdict, Review},
};

/// The parts that are read of a pod.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: Option<Map<String, Value>>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    scheduling_gates: Option<Vec<Value>>,
}

/// Answers a review of a pod that is created.
pub fn hold(body: &[u8]) -> Result<Answered, ReviewError> {
    let request = Review::read(body)?;
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let is_new = request.changes_an_object() && request.operation == "CREATE";
    let verdict = match request.object.filter(|_| is_pod && is_new) {
        Some(object) => held(object),
        None => AdmissionVerdict::allow(),
    };
    Ok(verdict.answer(&request))
}

fn held(object: &RawValue) -> AdmissionVerdict {
    let pod: Pod = match serde_json::from_str(object.get()) {
        Ok(pod) => pod,
        Err(error) => return AdmissionVerdict::refuse(format!("Pod cannot be read: {error}")),
    };
    let group = pod.metadata.labels.and_then(|labels| {
        let group = labels.get(GROUP_LABEL)?.as_str()?;
        (!group.is_empty()).then(|| group.to_owned())
    });
    let Some(group) = group else {
        return AdmissionVerdict::allow();
    };
    if let Some(node) = pod.spec.node_name.filter(|node| !node.is_empty()) {
        let mut verdict = AdmissionVerdict::allow();
        verdict.warn(&format!(
            "the pod names node `{node}` itself, so PlacementGroup `{group}` does not place it"
        ));
        return verdict;
    }
    let mut patch: Vec<PatchOperation> = Vec::new();
    let root = Pointer::root();
    let annotations = pod.metadata.annotations.unwrap_or_default();
    if annotations.contains_key(NODE_ANNOTATION) {
        patch.push(remove(below(
            root,
            &["metadata", "annotations", NODE_ANNOTATION],
        )));
    }
    let gate = json!({ "name": GATE });
    match pod.spec.scheduling_gates {
        Some(gates) if gates.contains(&gate) => {}
        Some(_) => patch.push(add(below(root, &["spec", "schedulingGates", "-"]), gate)),
        None => patch.push(add(
            below(root, &["spec", "schedulingGates"]),
            json!([gate]),
        )),
    }
    AdmissionVerdict::change(AdmissionChange {
        patch,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rstest::rstest;

    use super::*;

    fn review(operation: &str, pod: &Value) -> Vec<u8> {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "namespace": "ns", "operation": operation, "object": pod,
            },
        });
        serde_json::to_vec(&review).unwrap()
    }

    /// The pod as the API server would store it, and the warnings.
    fn stored(operation: &str, mut pod: Value) -> (Value, usize) {
        let answer = hold(&review(operation, &pod)).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let response = &answer["response"];
        assert_eq!(response["allowed"], true);
        if response["patch"].is_string() {
            let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            json_patch::patch(&mut pod, &patch).unwrap();
        }
        let warnings = response["warnings"].as_array().map_or(0, Vec::len);
        (pod, warnings)
    }

    fn labelled(spec: &Value) -> Value {
        json!({ "metadata": { "labels": { GROUP_LABEL: "g" } }, "spec": spec })
    }

    #[rstest]
    #[case::bare(json!({}), json!([{ "name": GATE }]))]
    #[case::null(json!({ "schedulingGates": null }), json!([{ "name": GATE }]))]
    #[case::others(json!({ "schedulingGates": [{ "name": "a/b" }] }), json!([{ "name": "a/b" }, { "name": GATE }]))]
    #[case::twice(json!({ "schedulingGates": [{ "name": GATE }] }), json!([{ "name": GATE }]))]
    fn a_pod_of_a_group_is_gated_once_and_foreign_gates_stay(
        #[case] spec: Value,
        #[case] want: Value,
    ) {
        let (pod, warnings) = stored("CREATE", labelled(&spec));
        assert_eq!(pod["spec"]["schedulingGates"], want);
        assert_eq!(warnings, 0);
        let (again, _) = stored("CREATE", pod.clone());
        assert_eq!(again, pod);
    }

    #[rstest]
    #[case::without_label("CREATE", json!({ "metadata": {}, "spec": {} }))]
    #[case::with_an_empty_label("CREATE", json!({ "metadata": { "labels": { GROUP_LABEL: "" } }, "spec": {} }))]
    #[case::updated("UPDATE", labelled(&json!({})))]
    #[case::deleted("DELETE", labelled(&json!({})))]
    fn other_pods_stay_as_they_are(#[case] operation: &str, #[case] pod: Value) {
        assert_eq!(stored(operation, pod.clone()), (pod, 0));
    }

    #[test]
    fn a_pod_that_names_its_node_is_let_through_with_a_warning() {
        let pod = labelled(&json!({ "nodeName": "n" }));
        assert_eq!(stored("CREATE", pod.clone()), (pod, 1));
    }

    #[test]
    fn nobody_creates_a_pod_that_seems_released() {
        let mut pod = labelled(&json!({}));
        pod["metadata"]["annotations"] = json!({ NODE_ANNOTATION: "n", "kept": "a" });
        let (pod, _) = stored("CREATE", pod);
        assert_eq!(pod["metadata"]["annotations"], json!({ "kept": "a" }));
    }

    #[test]
    fn what_is_no_pod_is_refused_with_the_fault() {
        let answer = hold(&review(
            "CREATE",
            &json!({ "spec": { "schedulingGates": 3 } }),
        ))
        .unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
    }
}
