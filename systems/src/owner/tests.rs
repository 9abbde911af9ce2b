//! Owners that are named, and those that are none.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    systems::{apps::DEPLOYMENT, rbg::ROLE_BASED_GROUP},
    testing::{autoscaler, made_by, object, resolve, template, wanted},
};

fn deployment() -> Value {
    object(
        &DEPLOYMENT,
        "llama",
        json!({ "replicas": 2, "selector": { "matchLabels": { "app": "a" } }, "template": template(1) }),
    )
}

/// The sentence that keeps the Deployment from being written, with `related` near.
fn contended(object: &Value, related: &[Value]) -> Option<String> {
    let place = resolve(&DEPLOYMENT, object, related, None, Role::Decode).unwrap();
    wanted(&[(&place, 3)])
        .err()
        .map(|refusal| refusal.to_string())
}

fn to(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name })
}

#[rstest]
#[case::hpa("autoscaling/v2", "HorizontalPodAutoscaler", to("Deployment", "llama"))]
#[case::keda("keda.sh/v1alpha1", "ScaledObject", to("Deployment", "llama"))]
#[case::keda_leaves_the_kind_out("keda.sh/v1alpha1", "ScaledObject", json!({ "name": "llama" }))]
#[case::aibrix(
    "autoscaling.aibrix.ai/v1alpha1",
    "PodAutoscaler",
    to("Deployment", "llama")
)]
#[case::of_another_version("autoscaling/v2", "HorizontalPodAutoscaler",
    json!({ "apiVersion": "apps/v1beta1", "kind": "Deployment", "name": "llama" }))]
#[case::wva("llmd.ai/v1alpha1", "VariantAutoscaling", to("Deployment", "llama"))]
fn an_autoscaler_on_the_target_is_named_with_what_to_do(
    #[case] api_version: &str,
    #[case] kind: &str,
    #[case] reference: Value,
) {
    let other = autoscaler(api_version, kind, "other", "scaleTargetRef", reference);
    let text = contended(&deployment(), &[other]).unwrap();
    assert!(
        text.contains(&format!("{kind} `other`")) && text.contains("Recommend"),
        "{text}"
    );
}

#[rstest]
#[case::at_what_is_there(&[("paused", "true")], true, false)]
#[case::by_any_text(&[("paused", "yes please")], true, false)]
#[case::not_yet(&[("paused", "true")], false, true)]
#[case::no_more(&[("paused", "false")], true, true)]
#[case::at_a_number(&[("paused", "true"), ("paused-replicas", "2")], true, true)]
#[case::downwards_alone(&[("paused-scale-in", "true")], true, true)]
#[case::by_nobody(&[], false, true)]
fn a_scaled_object_that_is_paused_is_no_owner(
    #[case] annotations: &[(&str, &str)],
    #[case] is_done: bool,
    #[case] want: bool,
) {
    let reference = to("Deployment", "llama");
    let api_version = "keda.sh/v1alpha1";
    let mut other = autoscaler(
        api_version,
        "ScaledObject",
        "other",
        "scaleTargetRef",
        reference,
    );
    for (key, value) in annotations {
        other["metadata"]["annotations"][format!("autoscaling.keda.sh/{key}")] = json!(value);
    }
    let done = if is_done { "True" } else { "False" };
    other["status"] = json!({ "conditions": [{ "type": "Paused", "status": done }] });
    assert_eq!(contended(&deployment(), &[other]).is_some(), want);
}

#[rstest]
#[case::another_name(to("Deployment", "llama-2"))]
#[case::another_kind(to("StatefulSet", "llama"))]
#[case::another_group(json!({ "apiVersion": "example.com/v1", "kind": "Deployment", "name": "llama" }))]
fn one_on_another_object_is_none_of_ours(#[case] reference: Value) {
    let other = autoscaler(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "other",
        "scaleTargetRef",
        reference,
    );
    assert_eq!(contended(&deployment(), &[other]), None);
}

#[test]
fn of_an_autoscaler_that_another_made_the_maker_is_named() {
    let hpa = autoscaler(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "keda-hpa-x",
        "scaleTargetRef",
        to("Deployment", "llama"),
    );
    let text = contended(&deployment(), &[made_by(hpa, "ScaledObject", "x")]).unwrap();
    assert!(
        text.contains("ScaledObject `x`") && text.contains("keda-hpa-x"),
        "{text}"
    );
}

#[test]
fn llm_ds_variant_autoscaler_is_named_by_its_annotation() {
    let mut hpa = autoscaler(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "h",
        "scaleTargetRef",
        to("Deployment", "llama"),
    );
    hpa["metadata"]["annotations"] = json!({ "llm-d.ai/managed": "true" });
    let text = contended(&deployment(), &[hpa]).unwrap();
    assert!(text.contains("variant autoscaler"), "{text}");
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a borrow"
)]
fn managed(manager: &str, fields: Value) -> Value {
    let mut deployment = deployment();
    deployment["metadata"]["managedFields"] =
        json!([{ "manager": manager, "operation": "Apply", "fieldsV1": fields }]);
    deployment
}

#[rstest]
#[case::argo_cd("argocd-controller", Some("Argo CD"))]
#[case::argo_cds_other_name("argocd-application-controller", Some("Argo CD"))]
#[case::flux("kustomize-controller", Some("Flux"))]
#[case::fluxs_helm("helm-controller", Some("Flux"))]
#[case::helm_acts_only_when_called("helm", None)]
#[case::a_person("kubectl-client-side-apply", None)]
#[case::ourselves("pd-autoscaler", None)]
fn a_deployer_that_keeps_the_replicas_is_named(#[case] manager: &str, #[case] who: Option<&str>) {
    let owns = managed(manager, json!({ "f:spec": { "f:replicas": {} } }));
    let text = contended(&owns, &[]);
    assert_eq!(text.is_some(), who.is_some(), "{text:?}");
    if let (Some(text), Some(who)) = (text, who) {
        assert!(text.contains(who) && text.contains("manifest"), "{text}");
    }
    // One that leaves the replicas out of the manifest is welcome.
    let other = managed(manager, json!({ "f:spec": { "f:template": {} } }));
    assert_eq!(contended(&other, &[]), None);
}

#[rstest]
#[case::the_role(json!({ "f:spec": { "f:roles": { "k:{\"name\":\"decode\"}": { "f:replicas": {} } } } }), true)]
#[case::another_role(json!({ "f:spec": { "f:roles": { "k:{\"name\":\"prefill\"}": { "f:replicas": {} } } } }), false)]
#[case::another_field_of_it(json!({ "f:spec": { "f:roles": { "k:{\"name\":\"decode\"}": { "f:name": {} } } } }), false)]
#[case::the_whole_list(json!({ "f:spec": { "f:roles": {} } }), true)]
fn of_a_list_the_roles_own_field_counts(#[case] fields: Value, #[case] owned: bool) {
    let mut group = object(
        &ROLE_BASED_GROUP,
        "g",
        json!({ "roles": [
        { "name": "prefill", "replicas": 1 }, { "name": "decode", "replicas": 1 }] }),
    );
    group["metadata"]["managedFields"] =
        json!([{ "manager": "argocd-controller", "fieldsV1": fields }]);
    let place = resolve(&ROLE_BASED_GROUP, &group, &[], Some("decode"), Role::Decode).unwrap();
    assert_eq!(wanted(&[(&place, 3)]).is_err(), owned);
}
