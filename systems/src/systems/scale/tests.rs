//! Any kind with the `scale` subresource.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::AnyScale;
use crate::{
    edit::Write,
    place::Place,
    refusal::Refusal,
    system::System as _,
    target::{Near, Target},
    testing::{counts, pod, template, wanted},
};

fn resolve(
    kind: &str,
    group: &str,
    scale: Option<&Value>,
    role: Option<&str>,
) -> Result<Place, Refusal> {
    let target = Target {
        api_version: format!("{group}/v1"),
        kind: kind.into(),
        name: "r".into(),
        role: role.map(str::to_owned),
        side: Role::Decode,
    };
    let object = json!({ "metadata": { "name": "r" }, "spec": { "template": template(2) } });
    AnyScale.resolve(
        &target,
        &Near {
            object: &object,
            scale,
            related: &[],
        },
    )
}

#[test]
fn anything_with_scale_is_written_through_it() {
    let scale = json!({ "metadata": { "resourceVersion": "9" }, "spec": { "replicas": 2 }, "status": { "replicas": 2, "selector": "app=r" } });
    let place = resolve("Rollout", "argoproj.io", Some(&scale), None).unwrap();
    assert_eq!((place.desired, place.gpus.clone()), (2, Ok(2)));
    assert_eq!(counts(&place, &[pod("r-1", "ready", &[("app", "r")])]).0, 1);
    let version = Some("9".to_owned());
    let edits = wanted(&[(&place, 3)]).unwrap();
    assert_eq!(
        edits[0].write,
        Write::Scale {
            replicas: 3,
            resource_version: version
        }
    );
    assert_eq!(edits[0].object.kind, "Rollout");
}

#[test]
fn scale_leaves_a_zero_out_and_a_missing_selector_matches_nothing() {
    let place = resolve(
        "Rollout",
        "argoproj.io",
        Some(&json!({ "spec": {}, "status": {} })),
        None,
    )
    .unwrap();
    assert_eq!(place.desired, 0);
    assert_eq!(counts(&place, &[pod("r-1", "ready", &[("app", "r")])]).0, 0);
}

#[rstest]
#[case::no_scale("Widget", "example.com", None, None)]
#[case::a_role("Rollout", "argoproj.io", Some(json!({})), Some("decode"))]
#[case::whole_copies("RoleBasedGroupSet", "workloads.x-k8s.io", Some(json!({})), None)]
#[case::dynamos_part("DynamoComponentDeployment", "nvidia.com", Some(json!({})), None)]
#[case::a_pool("InferencePool", "inference.networking.k8s.io", None, None)]
#[case::an_unreadable_selector("Rollout", "argoproj.io", Some(json!({ "status": { "selector": "a b" } })), None)]
fn what_cannot_be_scaled_by_role_is_refused(
    #[case] kind: &str,
    #[case] group: &str,
    #[case] scale: Option<Value>,
    #[case] role: Option<&str>,
) {
    assert!(resolve(kind, group, scale.as_ref(), role).is_err());
}
