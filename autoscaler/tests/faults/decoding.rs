//! Bodies that do not decode: of the object itself, and of what is read for it.

use axum::http::Method;
use rstest::rstest;
use serde_json::json;

use crate::{api_server::Fault, stage::Stage};

#[rstest]
#[case::workloads("v1/deployments?", "TargetUnreadable")]
#[case::pods("v1/pods?", "TargetUnreadable")]
#[case::scale("llama-prefill/scale", "ApplyFailed")]
#[case::autoscalers("horizontalpodautoscalers", "ContentionUnknown")]
#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_decode_is_no_answer(#[case] place: &str, #[case] reason: &str) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::GET, place, Fault::Garbage);
    })
    .await;
    stage.assert_reported(reason);
    stage.assert_nothing_is_scaled_down();
    stage.assert_it_recovers_within(20).await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_does_not_decode_harms_no_other() {
    let (stage, start) = Stage::new();
    stage.server.edit_deployment("llama-decode", |deployment| {
        deployment["spec"]["selector"] = json!("app");
    });
    start.controller();
    stage.wait(2).await;
    stage.assert_reported("TargetUnreadable");
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    stage.assert_nothing_is_scaled_down();
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_decode_harms_no_other() {
    let (stage, start) = Stage::new();
    stage.server.add(json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama", "namespace": "ns", "uid": "llama", "generation": 1, "resourceVersion": "1" },
        "spec": { "mode": 7 },
    }));
    start.controller();
    stage.wait(2).await;
    stage.assert_reported("SpecInvalid");
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    stage.assert_nothing_is_scaled_down();
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_no_longer_decodes_keeps_its_status_and_memory_and_is_reported_once() {
    let stage = Stage::after(2, |_| {}).await;
    let last = stage.server.autoscaler("llama")["status"]["lastDecision"].clone();
    assert!(last.is_object());
    let checkpoint = stage.server.checkpoint("llama");
    stage.server.edit("llama", |object| {
        object["spec"]["mode"] = json!(7);
        object["metadata"]["generation"] = json!(2);
    });
    stage.wait(5).await;
    assert_eq!(stage.server.condition("llama", "Ready").1, "SpecInvalid");
    let writes = stage.server.requests("pdautoscalers/llama/status");
    let events = stage.server.events("llama").len();
    stage.wait(45).await;
    assert_eq!(stage.server.requests("pdautoscalers/llama/status"), writes);
    assert_eq!(stage.server.events("llama").len(), events);
    assert_eq!(
        stage.server.autoscaler("llama")["status"]["lastDecision"],
        last
    );
    assert_eq!(stage.server.checkpoint("llama"), checkpoint);
}
