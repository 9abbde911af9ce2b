//! Admission by example and by law: every kind, every place where a review can be wrong, and what
//! must hold of all answers.
//!
//! Answers are applied as patches by an independent reading of RFC 6902, so that what is looked at
//! is the object that the API server would store.

mod defaults;
mod edits;
mod kept;
mod live;
mod malformed;
mod preference;
mod scalers;

use k8s_openapi::ByteString;
use pd_tolerations::{
    Effect, ExtendedToleration, Operator, Toleration,
    mirror::{Constraints, Margin, PreferredTerm, Term, lower, prefer},
    rewrite::{ANNOTATION, restore},
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use self::scalers::Known;
use super::*;

const KINDS: [(&str, &str, &str); 9] = [
    ("", "Pod", ""),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("", "ReplicationController", "/spec/template"),
    ("", "PodTemplate", "/template"),
];

/// An object of a kind around its pod template.
fn object(kind: &str, template: Value) -> Value {
    let (group, _, path) = *KINDS.iter().find(|(_, name, _)| *name == kind).unwrap();
    let mut object = template;
    for part in path.rsplit('/').filter(|part| !part.is_empty()) {
        object = json!({ part: object });
    }
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    });
    object
}

fn review(kind: &str, object: &Value, old: Option<&Value>) -> Vec<u8> {
    let (group, ..) = *KINDS.iter().find(|(_, name, _)| *name == kind).unwrap();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": { "group": group, "version": "v1", "kind": kind }, "namespace": "ns", "dryRun": true,
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" }, "object": object, "oldObject": old,
        },
    });
    serde_json::to_vec(&review).unwrap()
}

/// As it is by default.
fn rewriting(gate: Comparison) -> Rewriting {
    Rewriting {
        gate,
        preferred: Some(Margin::Most),
    }
}

fn answered(body: &[u8], rewriting: Rewriting) -> Value {
    let answer = mutate(body, rewriting, &Known::default()).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "u-1");
    answer["response"].clone()
}

/// The object that is stored, or the reason why none is, and the warnings.
fn admitted(
    kind: &str,
    object: &Value,
    old: Option<&Value>,
    gate: Comparison,
) -> Result<(Value, Vec<String>), String> {
    admitted_as(kind, object, old, rewriting(gate))
}

/// The same with another setting.
fn admitted_as(
    kind: &str,
    object: &Value,
    old: Option<&Value>,
    rewriting: Rewriting,
) -> Result<(Value, Vec<String>), String> {
    let response = answered(&review(kind, object, old), rewriting);
    let warnings = serde_json::from_value(response["warnings"].clone()).unwrap_or_default();
    if response["allowed"] == false {
        return Err(response["status"]["message"].as_str().unwrap().to_owned());
    }
    let mut stored = object.clone();
    if !response["patch"].is_null() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        json_patch::patch(&mut stored, &patch).unwrap();
    }
    Ok((stored, warnings))
}

fn toleration(operator: &str, value: &str) -> Value {
    json!({ "key": "sla", "operator": operator, "value": value, "effect": "NoExecute", "tolerationSeconds": 30 })
}

fn with(tolerations: Value) -> Value {
    let mut template =
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [] } });
    template["spec"]["tolerations"] = tolerations;
    template
}

fn annotated(entries: &Value, tolerations: Value) -> Value {
    let mut template = with(tolerations);
    template["metadata"]["annotations"] =
        json!({ ANNOTATION: entries.to_string(), "other": "kept" });
    template
}

fn terms(template: &Value) -> &Value {
    &template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"]
}

#[test]
fn every_kind_is_rewritten_in_its_template_with_order_effects_and_seconds_kept() {
    for (_, kind, path) in KINDS {
        let list = json!([{ "operator": "Exists", "key": "gpu" }, toleration("Gt", "950"), toleration("Lt", "9")]);
        let (stored, warnings) =
            admitted(kind, &object(kind, with(list)), None, Comparison::Off).unwrap();
        let template = stored.pointer(path).unwrap();
        let exists = json!({ "key": "sla", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 });
        assert_eq!(
            template["spec"]["tolerations"],
            json!([{ "operator": "Exists", "key": "gpu" }, exists, exists])
        );
        let kept = template["metadata"]["annotations"][ANNOTATION]
            .as_str()
            .unwrap();
        let kept: Value = serde_json::from_str(kept).unwrap();
        assert_eq!(
            kept,
            json!([
                { "key": "sla", "operator": "Gt", "value": "950", "effect": "NoExecute", "tolerationSeconds": 30, "index": 1 },
                { "key": "sla", "operator": "Lt", "value": "9", "effect": "NoExecute", "tolerationSeconds": 30, "index": 2 },
            ]),
            "{kind}"
        );
        assert_eq!(terms(template).as_array().unwrap().len(), 3, "{kind}");
        assert_eq!(template["metadata"]["labels"]["a"], "b");
        assert!(
            warnings[0].contains("2 numeric tolerations became Exists") && warnings[0].len() <= 256
        );
        let (again, warnings) = admitted(kind, &stored, None, Comparison::Off).unwrap();
        assert_eq!((again, warnings.len()), (stored, 0), "{kind} twice");
    }
}

#[test]
fn with_the_gate_on_nothing_changes() {
    for (_, kind, _) in KINDS {
        let object = object(kind, with(json!([toleration("Gt", "950")])));
        assert_eq!(
            admitted(kind, &object, None, Comparison::On).unwrap(),
            (object, Vec::new()),
            "{kind}"
        );
    }
}

#[rstest]
#[case::nothing_of_ours(json!([{ "key": "sla", "operator": "Equal", "value": "950" }]))]
#[case::no_tolerations(json!(null))]
#[case::unknown_operator(json!([toleration("Ge", "1")]))]
fn what_the_api_server_judges_itself_is_left_to_it(#[case] list: Value) {
    let object = object("Deployment", with(list));
    let (stored, warnings) = admitted("Deployment", &object, None, Comparison::Off).unwrap();
    assert_eq!((stored, warnings.len()), (object, 0));
}

#[rstest]
#[case::not_canonical("Pod", "0950", "spec.tolerations[0].value", &["Invalid value: \"0950\": must be a valid decimal integer in canonical form"])]
#[case::in_a_template("CronJob", "abc", "spec.jobTemplate.spec.template.spec.tolerations[0].value", &[
    "Invalid value: \"abc\": must be a valid decimal integer in canonical form",
    "Invalid value: \"abc\": strconv.ParseInt: parsing \"abc\": invalid syntax",
])]
fn what_a_server_with_the_feature_refuses_is_refused_in_its_words(
    #[case] kind: &str,
    #[case] bound: &str,
    #[case] field: &str,
    #[case] words: &[&str],
) {
    let object = object(kind, with(json!([toleration("Gt", bound)])));
    let response = answered(&review(kind, &object, None), rewriting(Comparison::Off));
    assert_eq!(response["status"]["reason"], "Invalid");
    let details = &response["status"]["details"];
    let causes: Vec<Value> = words
        .iter()
        .map(|words| json!({ "reason": "FieldValueInvalid", "message": words, "field": field }))
        .collect();
    assert_eq!(details["kind"], kind);
    assert_eq!(details["causes"], json!(causes));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("{field}: {}", words[0])),
        "{message}"
    );
    let on = admitted(kind, &object, None, Comparison::On).unwrap();
    assert_eq!(
        on,
        (object, Vec::new()),
        "left to a server that knows it itself"
    );
}

#[test]
fn places_that_are_missing_are_made_and_those_that_are_there_are_kept() {
    let bare = json!({ "spec": { "tolerations": [toleration("Gt", "1")] } });
    let (stored, _) = admitted("Pod", &object("Pod", bare), None, Comparison::Off).unwrap();
    assert!(stored["metadata"]["annotations"][ANNOTATION].is_string());
    let mut full = annotated(&json!([]), json!([toleration("Gt", "1")]));
    let zone = json!({ "key": "zone", "operator": "In", "values": ["a"] });
    let pods = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [] });
    full["spec"]["affinity"] = json!({ "podAffinity": pods, "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [],
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{ "matchExpressions": [zone] }] } } });
    let (stored, _) = admitted("Pod", &object("Pod", full), None, Comparison::Off).unwrap();
    assert_eq!(stored["metadata"]["annotations"]["other"], "kept");
    assert_eq!(stored["spec"]["affinity"]["podAffinity"], pods);
    for term in terms(&stored).as_array().unwrap() {
        assert_eq!(term["matchExpressions"][0], zone);
        assert_eq!(term["matchExpressions"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn what_users_write_into_the_annotation_becomes_a_toleration_of_the_pod() {
    let entries = json!([{ "key": "sla", "operator": "Range", "value": "900..990", "effect": "NoExecute", "tolerationSeconds": 5 }]);
    let template = annotated(&entries, json!(null));
    for gate in [Comparison::Off, Comparison::On] {
        let (pod, _) = admitted("Pod", &object("Pod", template.clone()), None, gate).unwrap();
        let exists = json!({ "key": "sla", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 });
        assert_eq!(pod["spec"]["tolerations"], json!([exists]));
        assert_eq!(
            terms(&pod)[1]["matchExpressions"].as_array().unwrap().len(),
            2
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            entries.to_string()
        );
        assert_eq!(admitted("Pod", &pod, None, gate).unwrap().0, pod, "twice");
        // No drift, but where a controller reads the template's tolerations itself.
        let deployment = object("Deployment", template.clone());
        assert_eq!(
            admitted("Deployment", &deployment, None, gate).unwrap().0,
            deployment
        );
        let (daemons, warnings) = admitted(
            "DaemonSet",
            &object("DaemonSet", template.clone()),
            None,
            gate,
        )
        .unwrap();
        assert_eq!(
            daemons.pointer("/spec/template/spec/tolerations"),
            Some(&json!([exists]))
        );
        assert!(warnings[0].contains("DaemonSet controller"), "{warnings:?}");
    }
}

#[test]
fn too_much_is_refused_with_the_limit() {
    let many: Vec<Value> = (0..65).map(|_| toleration("Gt", "1")).collect();
    let reason = admitted(
        "Pod",
        &object("Pod", with(json!(many))),
        None,
        Comparison::Off,
    )
    .unwrap_err();
    assert!(reason.contains("64"), "{reason}");
    let keys: Vec<Value> = (0..5)
        .map(|key| json!({ "key": format!("k{key}"), "operator": "Gt", "value": "1" }))
        .collect();
    let reason = admitted(
        "Job",
        &object("Job", with(json!(keys))),
        None,
        Comparison::Off,
    )
    .unwrap_err();
    assert!(
        reason.contains("128") && reason.contains("effect"),
        "{reason}"
    );
}

#[test]
fn an_update_that_leaves_the_template_alone_rolls_nothing_out() {
    for (_, kind, path) in KINDS
        .into_iter()
        .filter(|(_, kind, _)| *kind != "DaemonSet")
    {
        let old = object(kind, with(json!([toleration("Gt", "950")])));
        let mut new = old.clone();
        new["metadata"] = json!({ "labels": { "touched": "yes" } });
        if path.is_empty() {
            new["metadata"]["labels"]["a"] = json!("b");
        }
        assert_eq!(
            admitted(kind, &new, Some(&old), Comparison::Off).unwrap(),
            (new, Vec::new()),
            "{kind}"
        );
    }
    let mut broken = with(json!([]));
    broken["metadata"]["annotations"] = json!({ ANNOTATION: "[" });
    let broken = object("DaemonSet", broken);
    assert!(admitted("DaemonSet", &broken, Some(&broken), Comparison::Off).is_ok());
    let old = object("DaemonSet", with(json!([toleration("Gt", "950")])));
    let (stored, _) = admitted("DaemonSet", &old, Some(&old), Comparison::Off).unwrap();
    assert_eq!(
        stored["spec"]["template"]["spec"]["tolerations"][0]["operator"],
        "Exists"
    );
}

#[test]
fn a_manifest_applied_again_or_with_another_number_replaces_what_was_kept() {
    let manifest = |value: &str| object("Deployment", with(json!([toleration("Gt", value)])));
    let (stored, _) = admitted("Deployment", &manifest("950"), None, Comparison::Off).unwrap();
    for (value, image) in [("950", "x"), ("900", "x"), ("900", "y")] {
        // As an apply merges it: the list is replaced, annotation and affinity stay.
        let mut new = stored.clone();
        new["spec"]["template"]["spec"]["tolerations"] = json!([toleration("Gt", value)]);
        new["spec"]["template"]["spec"]["image"] = json!(image);
        let (stored_again, _) =
            admitted("Deployment", &new, Some(&stored), Comparison::Off).unwrap();
        let mut fresh = manifest(value);
        fresh["spec"]["template"]["spec"]["image"] = json!(image);
        let (want, _) = admitted("Deployment", &fresh, None, Comparison::Off).unwrap();
        assert_eq!(stored_again, want, "{value} {image}");
    }
    let mut removed = stored.clone();
    removed["spec"]["template"]["spec"]["tolerations"] = json!([]);
    let (stored_again, warnings) =
        admitted("Deployment", &removed, Some(&stored), Comparison::Off).unwrap();
    let template = &stored_again["spec"]["template"];
    assert!(template["metadata"]["annotations"][ANNOTATION].is_null() && terms(template).is_null());
    assert!(warnings[0].contains("dropped"), "{warnings:?}");
    // After an upgrade that turned the gate on, the manifest stays as its author wrote it.
    let mut new = stored.clone();
    new["spec"]["template"]["spec"]["tolerations"] = json!([toleration("Gt", "950")]);
    let (native, _) = admitted("Deployment", &new, Some(&stored), Comparison::On).unwrap();
    let template = &native["spec"]["template"];
    assert_eq!(
        template["spec"]["tolerations"],
        json!([toleration("Gt", "950")])
    );
    assert!(template["metadata"]["annotations"][ANNOTATION].is_null() && terms(template).is_null());
}

#[test]
fn a_replica_set_of_somebody_is_not_made_to_differ_from_its_owner() {
    let mut set = object("ReplicaSet", with(json!([toleration("Gt", "950")])));
    set["metadata"] = json!({ "ownerReferences": [{ "kind": "Deployment", "name": "llama", "controller": true }] });
    let reason = admitted("ReplicaSet", &set, None, Comparison::Off).unwrap_err();
    assert!(
        reason.contains("Deployment `llama`") && reason.contains("update the Deployment"),
        "{reason}"
    );
    assert_eq!(
        admitted("ReplicaSet", &set, None, Comparison::On)
            .unwrap()
            .0,
        set
    );
    let mut rewritten = object(
        "ReplicaSet",
        annotated(&json!([]), json!([{ "key": "sla", "operator": "Exists" }])),
    );
    rewritten["metadata"] = set["metadata"].clone();
    assert_eq!(
        admitted("ReplicaSet", &rewritten, None, Comparison::Off)
            .unwrap()
            .0,
        rewritten
    );
}

#[test]
fn a_live_pod_gains_numbers_and_keeps_its_affinity() {
    let (old, _) = admitted(
        "Pod",
        &object("Pod", with(json!([toleration("Gt", "950")]))),
        None,
        Comparison::Off,
    )
    .unwrap();
    let mut new = old.clone();
    let added = json!({ "key": "cost", "operator": "Lt", "value": "5", "effect": "NoSchedule" });
    new["spec"]["tolerations"]
        .as_array_mut()
        .unwrap()
        .push(added);
    let (stored, warnings) = admitted("Pod", &new, Some(&old), Comparison::Off).unwrap();
    assert_eq!(
        stored["spec"]["tolerations"][1],
        json!({ "key": "cost", "operator": "Exists", "effect": "NoSchedule" })
    );
    assert_eq!(stored["spec"]["affinity"], old["spec"]["affinity"]);
    assert!(
        warnings.iter().any(|warning| warning.contains("live pod")),
        "{warnings:?}"
    );
    // Stored while the gate was on: such tolerations must stay, and only they.
    let native = object("Pod", with(json!([toleration("Gt", "950")])));
    let mut both = native.clone();
    both["spec"]["tolerations"]
        .as_array_mut()
        .unwrap()
        .push(toleration("Lt", "5"));
    let (stored, _) = admitted("Pod", &both, Some(&native), Comparison::Off).unwrap();
    let operators: Vec<&Value> = stored["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["operator"])
        .collect();
    assert_eq!(operators, ["Gt", "Exists"]);
    // A broken annotation that is stored must not keep the pod from being finalized.
    let mut broken = old.clone();
    broken["metadata"]["annotations"][ANNOTATION] = json!("[");
    let mut touched = broken.clone();
    touched["metadata"]["finalizers"] = json!([]);
    assert!(admitted("Pod", &touched, Some(&broken), Comparison::Off).is_ok());
    assert!(admitted("Pod", &broken, Some(&old), Comparison::Off).is_err());
}

#[test]
fn what_nobody_asked_about_is_allowed() {
    let mut body: Value = serde_json::from_slice(&review("Pod", &json!({}), None)).unwrap();
    for (field, value) in [
        ("operation", json!("DELETE")),
        ("subResource", json!("status")),
        (
            "kind",
            json!({ "group": "x", "version": "v1", "kind": "Pod" }),
        ),
    ] {
        let mut other = body.clone();
        other["request"][field] = value;
        other["request"]["object"] = json!({ "spec": { "tolerations": [toleration("Gt", "1")] } });
        let response = answered(
            &serde_json::to_vec(&other).unwrap(),
            rewriting(Comparison::Off),
        );
        assert_eq!(
            response,
            json!({ "uid": "u-1", "allowed": true }),
            "{field}"
        );
    }
    body["request"]["object"] = json!({ "spec": null, "metadata": null });
    let response = answered(
        &serde_json::to_vec(&body).unwrap(),
        rewriting(Comparison::Off),
    );
    assert_eq!(response["allowed"], true);
    for template in [
        json!({}),
        json!({ "spec": null }),
        json!({ "spec": { "template": null } }),
    ] {
        assert!(
            admitted("Deployment", &template, None, Comparison::Off).is_ok(),
            "{template}"
        );
    }
}

fn arbitrary_toleration() -> impl Strategy<Value = Toleration> {
    let key = prop::sample::select(vec!["a/sla", "cost", ""]);
    let operator = prop::sample::select(vec!["Gt", "Lt", "Gt", "Lt", "Equal", "Exists", "", "Ge"]);
    let value = prop::sample::select(vec!["950", "-1", "0", "", "07", "x"]);
    let effect = prop::sample::select(vec!["", "NoSchedule", "NoExecute", "PreferNoSchedule"]);
    (key, operator, value, effect, prop::option::of(0..99_i64)).prop_map(
        |(key, operator, value, effect, seconds)| Toleration {
            key: key.to_owned(),
            operator: operator.into(),
            value: value.to_owned(),
            effect: effect.into(),
            toleration_seconds: seconds,
        },
    )
}

/// The tolerations and the node affinity of a template before it was rewritten.
fn restored(template: &Value) -> (Vec<Toleration>, NodeAffinity) {
    let spec: Vec<Toleration> =
        serde_json::from_value(template["spec"]["tolerations"].clone()).unwrap();
    let entries = template["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .unwrap_or("[]");
    let entries: Vec<ExtendedToleration> = serde_json::from_str(entries).unwrap();
    restore(&spec, &entries).unwrap();
    let mut list = spec;
    for entry in entries {
        let slot = &mut list[entry.index.unwrap()];
        slot.operator = Operator::from(entry.operator.as_str());
        slot.value = entry.value;
    }
    let terms: Option<Vec<_>> = serde_json::from_value(terms(template).clone()).unwrap();
    let required = lower(terms.as_deref(), &Constraints::default()).unwrap();
    (list, (required, unpreferred(template)))
}

type NodeAffinity = (Option<Vec<Term>>, Option<Vec<PreferredTerm>>);

/// The preferred terms of a template before it was rewritten.
fn unpreferred(template: &Value) -> Option<Vec<PreferredTerm>> {
    let place = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    let terms = template.pointer(place).cloned().unwrap_or_default();
    let terms: Option<Vec<PreferredTerm>> = serde_json::from_value(terms).unwrap();
    prefer(terms.as_deref(), &[], Margin::Most)
}

proptest! {
    #[test]
    fn rewriting_twice_is_once_and_restoring_is_identity(
        list in prop::collection::vec(arbitrary_toleration(), 0..5),
        kind in prop::sample::select(KINDS.to_vec()),
    ) {
        let (_, kind, path) = kind;
        let before = object(kind, with(json!(list)));
        if let Ok((once, _)) = admitted(kind, &before, None, Comparison::Off) {
            let (twice, _) = admitted(kind, &once, None, Comparison::Off).unwrap();
            prop_assert_eq!(&twice, &once);
            prop_assert_eq!(restored(once.pointer(path).unwrap()), (list, (None, None)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), annotation in ".{0,60}") {
        let _ = mutate(&body, rewriting(Comparison::Off), &Known::default());
        let mut pod = with(json!([toleration("Gt", "1")]));
        pod["metadata"]["annotations"] = json!({ ANNOTATION: annotation });
        let _ = mutate(&review("Pod", &object("Pod", pod), None), rewriting(Comparison::Off), &Known::default());
    }
}
