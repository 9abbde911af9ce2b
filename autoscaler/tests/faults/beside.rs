//! Beside others: an autoscaler that is to be replaced, a process that led before.

use rstest::rstest;
use serde_json::{Value, json};

use crate::{api_server::ApiServer, stage::Stage};

#[tokio::test(start_paused = true)]
async fn recommendations_work_beside_another_autoscaler() {
    let (stage, start) = Stage::new();
    stage.server.add_horizontal("llama-prefill");
    stage.server.edit("llama", |object| {
        object["spec"]["mode"] = json!("Recommend");
    });
    start.controller();
    stage.wait(2).await;
    let (holds, reason, _) = stage.server.condition("llama", "Ready");
    assert_eq!(
        (holds.as_str(), reason.as_str()),
        ("False", "PrometheusUnreachable")
    );
    let (holds, reason, message) = stage.server.condition("llama", "TargetContended");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "NotContended"));
    assert!(message.contains("`hpa` scales"), "{message}");
    let desired = &stage.server.autoscaler("llama")["status"]["prefill"]["desiredReplicas"];
    assert_eq!(*desired, 2);
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_only_recommends_takes_no_workload_from_another() {
    let (stage, start) = Stage::new();
    let mut shadow = stage.server.autoscaler("llama");
    shadow["metadata"]["name"] = json!("shadow");
    shadow["metadata"]["uid"] = json!("shadow");
    shadow["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
    shadow["spec"]["mode"] = json!("Recommend");
    stage.server.add(shadow);
    start.controller();
    stage.wait(2).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
    assert_eq!(
        stage.server.condition("llama", "TargetContended").0,
        "False"
    );
    assert_eq!(
        stage.server.condition("shadow", "TargetContended").0,
        "False"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_that_another_process_wrote_is_not_written_over() {
    let stage = Stage::after(2, |_| {}).await;
    let newer = json!({ "engine": "of the new leader" });
    stage
        .server
        .write_unseen("llama", |object| object["status"] = newer.clone());
    stage.wait(120).await;
    assert_eq!(stage.server.autoscaler("llama")["status"], newer);
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"status\"}") >= 1);
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_turned_off_shows_nothing_of_the_past() {
    let stage = Stage::after(2, |_| {}).await;
    assert_eq!(stage.server.condition("llama", "TargetResolved").0, "True");
    let gauge = "pd_autoscaler_current_replicas{namespace=\"ns\",name=\"llama\",role=\"decode\"}";
    assert!(stage.metric(gauge) > 0);
    let before = stage.server.autoscaler("llama")["status"].clone();
    stage.server.edit("llama", |object| {
        object["spec"]["mode"] = json!("Off");
        object["metadata"]["generation"] = json!(2);
    });
    stage.wait(20).await;
    for kind in ["TargetResolved", "MetricsAvailable", "ScalingLimited"] {
        let (holds, reason, _) = stage.server.condition("llama", kind);
        assert_eq!(
            (holds.as_str(), reason.as_str()),
            ("Unknown", "ModeOff"),
            "{kind}"
        );
    }
    let after = stage.server.autoscaler("llama")["status"].clone();
    assert_eq!(
        (&after["prefill"], &after["gpus"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(after["lastDecision"], before["lastDecision"]);
    assert!(after["lastDecision"].is_object());
    assert_eq!(stage.metric(gauge), 0);
}

fn made_by(kind: &str, name: &str) -> Value {
    json!({ "ownerReferences": [{
        "apiVersion": "x.io/v1", "kind": kind, "name": name, "uid": "1", "controller": true,
    }] })
}

fn managed_by(manager: &str, field: &str) -> Value {
    json!({ "managedFields": [{
        "manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { field: {} } },
    }] })
}

#[rstest]
#[case::made_by_an_operator(
    made_by("DynamoComponentDeployment", "g-prefill"),
    "DynamoComponentDeployment `g-prefill` sets the replicas of Deployment `llama-prefill` too"
)]
#[case::made_by_an_unknown_one(made_by("Thing", "t"), "Thing `t` sets the replicas")]
#[case::argo_cd(
    managed_by("argocd-controller", "f:replicas"),
    "Argo CD (field manager `argocd-controller`)"
)]
#[case::flux(
    managed_by("kustomize-controller", "f:replicas"),
    "Flux's Kustomization"
)]
#[tokio::test(start_paused = true)]
async fn a_workload_whose_replicas_somebody_else_sets_is_left_alone(
    #[case] metadata: Value,
    #[case] words: &str,
) {
    let stage = Stage::after(20, |server| with_metadata(server, &metadata)).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    let (holds, _, message) = stage.server.condition("llama", "TargetContended");
    assert_eq!(holds, "True");
    assert!(message.contains(words), "{message}");
}

#[rstest]
#[case::kubectl(managed_by("kubectl-client-side-apply", "f:replicas"))]
#[case::helm(managed_by("helm", "f:replicas"))]
#[case::argo_cd_without_replicas(managed_by("argocd-controller", "f:template"))]
#[tokio::test(start_paused = true)]
async fn a_workload_whose_replicas_nobody_keeps_is_scaled(#[case] metadata: Value) {
    let stage = Stage::after(20, |server| with_metadata(server, &metadata)).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
}

fn with_metadata(server: &ApiServer, metadata: &Value) {
    server.edit_deployment("llama-prefill", |deployment| {
        for (field, value) in metadata.as_object().into_iter().flatten() {
            deployment["metadata"][field] = value.clone();
        }
    });
}
