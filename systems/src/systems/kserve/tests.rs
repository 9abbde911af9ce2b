//! LLMInferenceServices in their three cases.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::LLM_INFERENCE_SERVICE;
use crate::{
    edit::Write,
    refusal::Refusal,
    systems::{apps::DEPLOYMENT, lws::LEADER_WORKER_SET},
    testing::{counts, differences, made_by, object, patched, pod, resolve, template, wanted},
};

fn service(decode: Value, prefill: Value) -> Value {
    let block = |more: Value| {
        let mut block = json!({ "template": template(2)["spec"] });
        block
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        block
    };
    let mut spec = block(decode);
    if prefill.is_object() {
        spec["prefill"] = block(prefill);
    }
    object(&LLM_INFERENCE_SERVICE, "q", spec)
}

fn of(service: &Value, related: &[Value], side: Role) -> Result<crate::place::Place, Refusal> {
    resolve(&LLM_INFERENCE_SERVICE, service, related, None, side)
}

fn child(kind: &crate::kind::Kind, name: &str, component: &str) -> Value {
    let spec = json!({ "replicas": 3, "selector": { "matchLabels": { "app": "q" } }, "template": template(2),
        "leaderWorkerTemplate": { "size": 2, "workerTemplate": template(2) } });
    let mut child = made_by(object(kind, name, spec), "LLMInferenceService", "q");
    child["metadata"]["labels"] = json!({ "app.kubernetes.io/component": component });
    child
}

#[test]
fn with_replicas_the_service_is_written_both_roles_at_once() {
    let service = service(json!({ "replicas": 1 }), json!({ "replicas": 2 }));
    let (p, d) = (
        of(&service, &[], Role::Prefill).unwrap(),
        of(&service, &[], Role::Decode).unwrap(),
    );
    assert_eq!((p.desired, d.desired, d.gpus.clone()), (2, 1, Ok(2)));
    let edits = wanted(&[(&p, 4), (&d, 3)]).unwrap();
    let changed = differences(&service, &patched(&service, &edits[0]));
    assert_eq!(edits.len(), 1);
    assert_eq!(changed.len(), 2);
    assert!(
        changed.contains(&("/spec/prefill/replicas".to_owned(), json!(4))),
        "{changed:?}"
    );
    assert!(
        changed.contains(&("/spec/replicas".to_owned(), json!(3))),
        "{changed:?}"
    );
}

#[rstest]
#[case::decode(json!({ "scaling": { "maxReplicas": 4 } }), json!({ "replicas": 1 }), Role::Decode)]
#[case::prefill(json!({ "replicas": 1 }), json!({ "scaling": { "maxReplicas": 4 } }), Role::Prefill)]
fn with_scaling_the_controllers_autoscaler_owns_them(
    #[case] decode: Value,
    #[case] prefill: Value,
    #[case] owned: Role,
) {
    let service = service(decode, prefill);
    for side in Role::ALL {
        let place = of(&service, &[], side).unwrap();
        let result = wanted(&[(&place, 3)]);
        assert_eq!(
            matches!(result, Err(Refusal::Contended(_))),
            side == owned,
            "{result:?}"
        );
    }
}

#[test]
fn with_neither_the_child_is_scaled() {
    let service = service(json!({}), json!({}));
    let related = [
        child(&DEPLOYMENT, "q-kserve-a1b2", "llminferenceservice-workload"),
        child(
            &LEADER_WORKER_SET,
            "q-kserve-mn-prefill",
            "llminferenceservice-workload-leader-prefill",
        ),
    ];
    let d = of(&service, &related, Role::Decode).unwrap();
    let p = of(&service, &related, Role::Prefill).unwrap();
    assert_eq!(
        (d.object.kind.as_str(), d.object.name.as_str(), d.desired),
        ("Deployment", "q-kserve-a1b2", 3)
    );
    assert_eq!(
        (p.object.kind.as_str(), p.unit.pods),
        ("LeaderWorkerSet", 2)
    );
    assert!(matches!(
        wanted(&[(&d, 5)]).unwrap()[0].write,
        Write::Scale { replicas: 5, .. }
    ));
}

#[test]
fn replicas_that_base_refs_may_state_are_written_in_the_service() {
    let service = service(json!({ "baseRefs": [{ "name": "base" }] }), Value::Null);
    let related = [child(
        &DEPLOYMENT,
        "q-kserve",
        "llminferenceservice-workload",
    )];
    let place = of(&service, &related, Role::Decode).unwrap();
    assert_eq!(
        (place.object.kind.as_str(), place.desired),
        ("LLMInferenceService", 3)
    );
    let edits = wanted(&[(&place, 5)]).unwrap();
    let changed = differences(&service, &patched(&service, &edits[0]));
    assert_eq!(changed, [("/spec/replicas".to_owned(), json!(5))]);
}

#[test]
fn a_service_without_prefill_and_a_stopped_one_are_refused() {
    let mut service = service(json!({ "replicas": 1 }), Value::Null);
    let refusal = of(&service, &[], Role::Prefill).unwrap_err();
    assert!(matches!(refusal, Refusal::RoleUnknown { .. }), "{refusal}");
    service["metadata"]["annotations"] = json!({ "serving.kserve.io/stop": "true" });
    let refusal = of(&service, &[], Role::Decode).unwrap_err();
    assert!(matches!(refusal, Refusal::Stopped { .. }), "{refusal}");
}

#[rstest]
#[case::data(json!({ "data": 16, "dataLocal": 8 }), 2, Ok(4))]
#[case::pipeline(json!({ "pipeline": 4 }), 4, Ok(8))]
fn workers_make_a_group(
    #[case] parallelism: Value,
    #[case] pods: u32,
    #[case] gpus: Result<u32, crate::gpus::GpusUnknown>,
) {
    let block = json!({ "replicas": 1, "worker": template(2)["spec"], "parallelism": parallelism });
    let place = of(&service(block, Value::Null), &[], Role::Decode).unwrap();
    assert_eq!((place.unit.pods, place.gpus), (pods, gpus));
}

#[test]
fn limits_that_presets_fill_in_follow_from_parallelism() {
    let mut service = service(
        json!({ "replicas": 1, "parallelism": { "tensor": 4 } }),
        Value::Null,
    );
    service["spec"]["template"] = json!({ "containers": [{ "name": "main" }] });
    assert_eq!(of(&service, &[], Role::Decode).unwrap().gpus, Ok(4));
}

#[test]
fn pods_belong_to_a_role_by_llm_ds_label() {
    let service = service(json!({ "replicas": 1 }), json!({ "replicas": 1 }));
    let labels = |role| {
        [
            ("app.kubernetes.io/name", "q"),
            ("app.kubernetes.io/part-of", "llminferenceservice"),
            ("kserve.io/component", "workload"),
            ("llm-d.ai/role", role),
        ]
    };
    let pods = [
        pod("p", "ready", &labels("prefill")),
        pod("d", "ready", &labels("decode")),
        pod("b", "ready", &labels("both")),
    ];
    assert_eq!(
        counts(&of(&service, &[], Role::Prefill).unwrap(), &pods).3,
        ["p"]
    );
    assert_eq!(
        counts(&of(&service, &[], Role::Decode).unwrap(), &pods).3,
        ["b", "d"]
    );
}
