//! The scheduling gate of pods that belong to a placement group.
//!
//! A pod joins by a label of its own, or because a PDAutoscaler that asks for placement has its
//! workload for a target: then it gets that label here, and an annotation that says so. It gets the
//! gate when it is created, for later Kubernetes takes no gate. A pod that names its node is past
//! the scheduler, and only warned about. The annotation by which a released pod is known is ours to
//! write, and taken off new pods.

use json_patch::{PatchOperation, jsonptr::Pointer};
use pd_api::v1alpha1::placement_group::{
    GATE, GROUP_LABEL, NODE_ANNOTATION, ROLE_LABEL, SOURCE_ANNOTATION,
};
use pd_core::Role;
use pd_systems::member::Controller;
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
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    labels: Option<Map<String, Value>>,
    annotations: Option<Map<String, Value>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    scheduling_gates: Option<Vec<Value>>,
}

/// The group that a pod joins because a PDAutoscaler asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The PDAutoscaler, and the name of its group.
    pub autoscaler: String,
    /// The role of the pod.
    pub role: Role,
}

/// The PDAutoscalers that ask for placement.
pub trait Placing {
    /// The group that a pod of `namespace` joins, by its controller and its labels.
    fn membership(
        &self,
        namespace: &str,
        controller: Option<Controller<'_>>,
        labels: &Map<String, Value>,
    ) -> Option<Membership>;
}

/// Answers a review of a pod that is created. `placing` says what pods join which groups.
pub fn hold(body: &[u8], placing: &impl Placing) -> Result<Answered, ReviewError> {
    let request = Review::read(body)?;
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let is_new = request.changes_an_object() && request.operation == "CREATE";
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let verdict = match request.object.filter(|_| is_pod && is_new) {
        Some(object) => held(object, namespace, placing),
        None => AdmissionVerdict::allow(),
    };
    Ok(verdict.answer(&request))
}

fn held(object: &RawValue, namespace: &str, placing: &impl Placing) -> AdmissionVerdict {
    let pod: Pod = match serde_json::from_str(object.get()) {
        Ok(pod) => pod,
        Err(error) => return AdmissionVerdict::refuse(format!("Pod cannot be read: {error}")),
    };
    let Pod { metadata, spec } = pod;
    let labels = metadata.labels.as_ref();
    let stated = labels.and_then(|labels| labels.get(GROUP_LABEL)?.as_str());
    let is_bound = spec.node_name.as_ref().is_some_and(|node| !node.is_empty());
    let mut patch: Vec<PatchOperation> = Vec::new();
    match stated {
        // An empty label says that the pod is to be left alone.
        Some("") => return AdmissionVerdict::allow(),
        Some(group) if is_bound => {
            let node = spec.node_name.unwrap_or_default();
            let mut verdict = AdmissionVerdict::allow();
            verdict.warn(&format!(
                "the pod names node `{node}` itself, so PlacementGroup `{group}` does not place it"
            ));
            return verdict;
        }
        Some(_) => {}
        None => match joined(&metadata, namespace, placing).filter(|_| !is_bound) {
            Some(membership) => patch.extend(joining(&metadata, &membership)),
            None => return AdmissionVerdict::allow(),
        },
    }
    patch.extend(gating(&metadata, spec.scheduling_gates.as_deref()));
    AdmissionVerdict::change(AdmissionChange {
        patch,
        warnings: Vec::new(),
    })
}

/// The group that a pod without a label joins.
fn joined(metadata: &Metadata, namespace: &str, placing: &impl Placing) -> Option<Membership> {
    let owners = metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    let controller = controllers.next().map(|owner| Controller {
        api_version: &owner.api_version,
        kind: &owner.kind,
        name: &owner.name,
    });
    let none = Map::new();
    let labels = metadata.labels.as_ref().unwrap_or(&none);
    placing.membership(namespace, controller, labels)
}

fn joining(metadata: &Metadata, membership: &Membership) -> Vec<PatchOperation> {
    let Membership { autoscaler, role } = membership;
    let mut patch = Vec::new();
    let mut put = |map: &str, is_there: bool, entries: &[(&str, String)]| {
        let root = Pointer::root();
        if !is_there {
            patch.push(add(below(root, &["metadata", map]), json!({})));
        }
        for (key, value) in entries {
            patch.push(add(below(root, &["metadata", map, key]), json!(value)));
        }
    };
    let labels = [
        (GROUP_LABEL, autoscaler.clone()),
        (ROLE_LABEL, role.as_str().to_owned()),
    ];
    put("labels", metadata.labels.is_some(), &labels);
    let source = [(SOURCE_ANNOTATION, format!("{autoscaler}/{role}"))];
    put("annotations", metadata.annotations.is_some(), &source);
    patch
}

fn gating(metadata: &Metadata, gates: Option<&[Value]>) -> Vec<PatchOperation> {
    let mut patch = Vec::new();
    let root = Pointer::root();
    let annotations = metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(NODE_ANNOTATION)) {
        patch.push(remove(below(
            root,
            &["metadata", "annotations", NODE_ANNOTATION],
        )));
    }
    let gate = json!({ "name": GATE });
    match gates {
        Some(gates) if gates.contains(&gate) => {}
        Some(_) => patch.push(add(below(root, &["spec", "schedulingGates", "-"]), gate)),
        None => patch.push(add(
            below(root, &["spec", "schedulingGates"]),
            json!([gate]),
        )),
    }
    patch
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rstest::rstest;

    use super::*;

    /// A PDAutoscaler `llama` in `ns` whose decode role has the pods with a label.
    struct Llama;

    impl Placing for Llama {
        fn membership(
            &self,
            namespace: &str,
            controller: Option<Controller<'_>>,
            labels: &Map<String, Value>,
        ) -> Option<Membership> {
            let by = controller.map(|controller| controller.name);
            let is_ours = namespace == "ns" && by == Some("d-7d9") && labels.contains_key("ours");
            is_ours.then(|| Membership {
                autoscaler: "llama".to_owned(),
                role: Role::Decode,
            })
        }
    }

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
        let answer = hold(&review(operation, &pod), &Llama).unwrap();
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

    fn of_a_target(labels: &Value, spec: &Value) -> Value {
        json!({ "metadata": { "labels": labels, "ownerReferences": [
            { "apiVersion": "v1", "kind": "Node", "name": "other" },
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "d-7d9", "controller": true },
        ] }, "spec": spec })
    }

    #[test]
    fn a_pod_of_a_target_joins_the_group_of_its_autoscaler_and_is_gated() {
        let (pod, warnings) = stored("CREATE", of_a_target(&json!({ "ours": "" }), &json!({})));
        let labels = json!({ "ours": "", GROUP_LABEL: "llama", ROLE_LABEL: "decode" });
        assert_eq!(pod["metadata"]["labels"], labels);
        let annotations = json!({ SOURCE_ANNOTATION: "llama/decode" });
        assert_eq!(pod["metadata"]["annotations"], annotations);
        assert_eq!(pod["spec"]["schedulingGates"], json!([{ "name": GATE }]));
        assert_eq!(warnings, 0);
        assert_eq!(stored("CREATE", pod.clone()), (pod, 0), "twice");
        let mut annotated = of_a_target(&json!({ "ours": "" }), &json!({}));
        annotated["metadata"]["annotations"] = json!({ "kept": "a", NODE_ANNOTATION: "n" });
        let (pod, _) = stored("CREATE", annotated);
        let annotations = json!({ "kept": "a", SOURCE_ANNOTATION: "llama/decode" });
        assert_eq!(pod["metadata"]["annotations"], annotations);
    }

    #[rstest]
    #[case::of_another_target(of_a_target(&json!({}), &json!({})))]
    #[case::on_a_node(of_a_target(&json!({ "ours": "" }), &json!({ "nodeName": "n" })))]
    #[case::that_stays_out(of_a_target(&json!({ "ours": "", GROUP_LABEL: "" }), &json!({})))]
    fn a_pod_that_joins_nothing_stays_as_it_is(#[case] pod: Value) {
        assert_eq!(stored("CREATE", pod.clone()), (pod, 0));
    }

    #[test]
    fn a_label_of_its_own_counts_more_than_what_an_autoscaler_asks_for() {
        let labels = json!({ "ours": "", GROUP_LABEL: "by-hand" });
        let (pod, _) = stored("CREATE", of_a_target(&labels, &json!({})));
        assert_eq!(pod["metadata"]["labels"], labels);
        assert_eq!(pod["spec"]["schedulingGates"], json!([{ "name": GATE }]));
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
        let review = review("CREATE", &json!({ "spec": { "schedulingGates": 3 } }));
        let answer = hold(&review, &Llama).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
    }
}
