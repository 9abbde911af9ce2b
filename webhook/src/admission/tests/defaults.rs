//! Tolerations that pods get from the roles they play: whose they are, what they lack, and nobody
//! else's.

use pd_core::Role;
use pd_tolerations::extension::NumericOperator;
use serde_json::{Value, json};

use super::*;

/// A PDAutoscaler `llama` in `ns` whose prefill role is Deployment `p`.
struct Llama(Vec<ExtendedToleration>);

impl Claimed for Llama {
    fn claimant(&self, _: &Workload, _: &str) -> Option<String> {
        None
    }

    fn defaults(&self, workload: &Workload) -> Option<Arc<Defaults>> {
        let Workload {
            namespace,
            kind,
            name,
        } = workload;
        let is_ours = matches!(
            (namespace.as_str(), kind.as_str(), name.as_str()),
            ("ns", "Deployment", "p") | ("ns", "StatefulSet", "s")
        );
        is_ours.then(|| {
            Arc::new(Defaults {
                autoscaler: "llama".to_owned(),
                role: Role::Prefill,
                tolerations: self.0.clone(),
            })
        })
    }

    fn is_complete(&self) -> bool {
        true
    }
}

fn entry(operator: NumericOperator, value: &str) -> ExtendedToleration {
    serde_json::from_value(json!({ "key": "sla", "operator": operator, "value": value, "effect": "NoExecute", "tolerationSeconds": 30 }))
        .unwrap()
}

fn owned(template: Value, kind: &str, name: &str) -> Value {
    let mut pod = object("Pod", template);
    pod["metadata"]["labels"]["pod-template-hash"] = json!("6f4");
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true }]);
    pod
}

fn made(pod: &Value, gate: Comparison, gives: Vec<ExtendedToleration>) -> (Value, Vec<String>) {
    let body = review("Pod", pod, None);
    let answer = mutate(&body, rewriting(gate), &Llama(gives)).unwrap().body;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let response = &answer["response"];
    assert_eq!(response["allowed"], true, "{response}");
    let mut stored = pod.clone();
    if !response["patch"].is_null() {
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        json_patch::patch(&mut stored, &patch).unwrap();
    }
    let warnings = serde_json::from_value(response["warnings"].clone()).unwrap_or_default();
    (stored, warnings)
}

#[test]
fn a_pod_of_a_role_gets_what_the_role_asks_for_on_every_cluster() {
    let gives = || vec![entry(NumericOperator::Gt, "950")];
    for (kind, name) in [("ReplicaSet", "p-6f4"), ("StatefulSet", "s")] {
        let pod = owned(
            with(json!([{ "key": "gpu", "operator": "Exists" }])),
            kind,
            name,
        );
        let (native, warnings) = made(&pod, Comparison::On, gives());
        assert_eq!(native["spec"]["tolerations"][1], toleration("Gt", "950"));
        assert!(
            native["metadata"]["annotations"][ANNOTATION].is_null() && terms(&native).is_null()
        );
        assert_eq!(
            warnings,
            ["1 numeric toleration of PDAutoscaler `llama`, role prefill, added"]
        );
        let (rewritten, warnings) = made(&pod, Comparison::Off, gives());
        assert_eq!(
            rewritten["spec"]["tolerations"][1],
            json!({ "key": "sla", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 })
        );
        assert_eq!(
            rewritten["metadata"]["annotations"][ANNOTATION],
            r#"[{"key":"sla","operator":"Gt","value":"950","effect":"NoExecute","tolerationSeconds":30,"index":1}]"#
        );
        assert_eq!(terms(&rewritten).as_array().unwrap().len(), 2);
        assert_eq!(warnings.len(), 1);
        for (gate, stored) in [(Comparison::On, native), (Comparison::Off, rewritten)] {
            assert_eq!(
                stored["metadata"]["annotations"]["pdautoscaler.io/tolerations-from"],
                "llama/prefill"
            );
            assert_eq!(made(&stored, gate, gives()), (stored, Vec::new()), "twice");
        }
    }
}

#[test]
fn it_is_as_if_the_author_had_written_it() {
    let bare = owned(with(json!(null)), "ReplicaSet", "p-6f4");
    let (given, _) = made(
        &bare,
        Comparison::Off,
        vec![entry(NumericOperator::Lt, "7")],
    );
    let written = owned(with(json!([toleration("Lt", "7")])), "ReplicaSet", "p-6f4");
    let (mut same, _) = made(&written, Comparison::Off, Vec::new());
    same["metadata"]["annotations"]["pdautoscaler.io/tolerations-from"] = json!("llama/prefill");
    assert_eq!(given, same);
}

#[test]
fn extensions_go_through_the_annotation_whatever_the_gate() {
    let pod = owned(with(json!(null)), "ReplicaSet", "p-6f4");
    let present = ExtendedToleration {
        must_be_present: true,
        ..entry(NumericOperator::Gt, "950")
    };
    for one in [
        entry(NumericOperator::Range, "900..990"),
        entry(NumericOperator::Ge, "1"),
        present,
    ] {
        for gate in [Comparison::On, Comparison::Off] {
            let (stored, _) = made(&pod, gate, vec![one.clone()]);
            assert_eq!(stored["spec"]["tolerations"][0]["operator"], "Exists");
            let kept = stored["metadata"]["annotations"][ANNOTATION]
                .as_str()
                .unwrap();
            let kept: Vec<ExtendedToleration> = serde_json::from_str(kept).unwrap();
            assert_eq!(
                kept,
                [ExtendedToleration {
                    index: Some(0),
                    ..one.clone()
                }]
            );
            assert!(!terms(&stored).is_null());
        }
    }
}

#[rstest]
#[case::a_number_of_its_own(json!([toleration("Gt", "800")]))]
#[case::another_effect(json!([{ "key": "sla", "operator": "Equal", "value": "x", "effect": "NoSchedule" }]))]
#[case::every_value(json!([{ "key": "sla", "operator": "Exists" }]))]
#[case::every_taint(json!([{ "operator": "Exists" }]))]
fn what_a_pod_says_about_a_key_is_its_own_affair(#[case] list: Value) {
    let pod = owned(with(list), "ReplicaSet", "p-6f4");
    for gate in [Comparison::On, Comparison::Off] {
        let (alone, _) = made(&pod, gate, Vec::new());
        let (stored, _) = made(&pod, gate, vec![entry(NumericOperator::Gt, "950")]);
        assert_eq!(stored, alone);
    }
    let entries = json!([{ "key": "sla", "operator": "Ge", "value": "1" }]);
    let annotated = owned(annotated(&entries, json!(null)), "ReplicaSet", "p-6f4");
    let (alone, _) = made(&annotated, Comparison::Off, Vec::new());
    let (stored, _) = made(
        &annotated,
        Comparison::Off,
        vec![entry(NumericOperator::Gt, "950")],
    );
    assert_eq!(stored, alone);
}

#[rstest]
#[case::another_deployment("ReplicaSet", "q-6f4", "apps/v1")]
#[case::a_set_of_nobody("ReplicaSet", "p", "apps/v1")]
#[case::another_hash("ReplicaSet", "p-6f5", "apps/v1")]
#[case::another_kind("DaemonSet", "p", "apps/v1")]
#[case::another_group("StatefulSet", "s", "apps.kruise.io/v1")]
fn pods_of_others_are_left_alone(#[case] kind: &str, #[case] name: &str, #[case] version: &str) {
    let mut pod = owned(with(json!([])), kind, name);
    pod["metadata"]["ownerReferences"][0]["apiVersion"] = json!(version);
    assert_eq!(
        made(
            &pod,
            Comparison::Off,
            vec![entry(NumericOperator::Gt, "950")]
        ),
        (pod, Vec::new())
    );
    // One that is owned, but not controlled, and one that is live.
    let mut pod = owned(with(json!([])), "ReplicaSet", "p-6f4");
    pod["metadata"]["ownerReferences"][0]["controller"] = json!(false);
    assert_eq!(
        made(
            &pod,
            Comparison::Off,
            vec![entry(NumericOperator::Gt, "950")]
        ),
        (pod, Vec::new())
    );
    let pod = owned(with(json!([])), "ReplicaSet", "p-6f4");
    let live = review("Pod", &pod, Some(&pod));
    let llama = Llama(vec![entry(NumericOperator::Gt, "950")]);
    assert_eq!(
        mutate(&live, rewriting(Comparison::Off), &llama)
            .unwrap()
            .outcome,
        ReviewOutcome::Passed
    );
}

#[rstest]
#[case::another_effect(json!([{ "operator": "Exists", "effect": "NoSchedule" }]), true)]
#[case::its_effect(json!([{ "operator": "Exists", "effect": "NoExecute" }]), false)]
#[case::every_effect(json!([{ "operator": "Exists" }]), false)]
#[case::two_other_effects(json!([{ "operator": "Exists", "effect": "NoSchedule" }, { "operator": "Exists", "effect": "PreferNoSchedule" }]), true)]
fn a_pod_that_tolerates_everything_of_one_effect_gets_what_is_about_another(
    #[case] list: Value,
    #[case] is_given: bool,
) {
    let pod = owned(with(list.clone()), "ReplicaSet", "p-6f4");
    let (stored, _) = made(
        &pod,
        Comparison::Off,
        vec![entry(NumericOperator::Gt, "950")],
    );
    let count = stored["spec"]["tolerations"].as_array().unwrap().len();
    assert_eq!(
        count,
        list.as_array().unwrap().len() + usize::from(is_given)
    );
    // One of the role that is about every effect is given as well, unless all are tolerated.
    let every = ExtendedToleration {
        effect: Effect::Unset,
        toleration_seconds: None,
        ..entry(NumericOperator::Gt, "950")
    };
    let (stored, _) = made(&pod, Comparison::Off, vec![every]);
    let added =
        stored["spec"]["tolerations"].as_array().unwrap().len() > list.as_array().unwrap().len();
    let tolerates_all = list
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["effect"].is_null());
    assert_eq!(added, !tolerates_all);
}
