//! VLLMRuntimes and the Deployments of the production stack.

use pd_core::Role;
use serde_json::{Value, json};

use super::VLLM_RUNTIME;
use crate::{
    edit::Write,
    refusal::Refusal,
    testing::{counts, object, pod, resolve, wanted},
};

fn runtime() -> Value {
    let spec = json!({ "deploymentConfig": { "replicas": 2, "resources": { "gpu": "2", "gpuType": "nvidia.com/gpu" } } });
    let mut runtime = object(&VLLM_RUNTIME, "r", spec);
    runtime["status"] = json!({ "selector": "app=r" });
    runtime
}

#[test]
fn a_runtime_is_written_through_scale() {
    let place = resolve(&VLLM_RUNTIME, &runtime(), &[], None, Role::Prefill).unwrap();
    assert_eq!((place.desired, place.gpus.clone()), (2, Ok(2)));
    assert!(matches!(
        wanted(&[(&place, 0)]).unwrap()[0].write,
        Write::Scale { replicas: 0, .. }
    ));
    let pods = [
        pod("r-1", "ready", &[("app", "r")]),
        pod("x", "ready", &[("app", "x")]),
    ];
    assert_eq!(counts(&place, &pods), (1, 0, 0, vec!["r-1".to_owned()]));
}

#[test]
fn before_its_first_status_no_pod_is_its_own() {
    let mut fresh = runtime();
    fresh.as_object_mut().unwrap().remove("status");
    let place = resolve(&VLLM_RUNTIME, &fresh, &[], None, Role::Prefill).unwrap();
    assert_eq!(counts(&place, &[pod("x", "ready", &[("app", "x")])]).0, 0);
}

#[test]
fn its_own_autoscaler_is_named() {
    let mut scaled = runtime();
    scaled["spec"]["autoscalingConfig"] = json!({ "enabled": true });
    let place = resolve(&VLLM_RUNTIME, &scaled, &[], None, Role::Prefill).unwrap();
    assert!(matches!(wanted(&[(&place, 3)]), Err(Refusal::Contended(_))));
    scaled["spec"]["autoscalingConfig"]["enabled"] = json!(false);
    let place = resolve(&VLLM_RUNTIME, &scaled, &[], None, Role::Prefill).unwrap();
    assert!(wanted(&[(&place, 3)]).is_ok());
}
