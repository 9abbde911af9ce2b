//! Memory between processes, and checkpoints that cannot be read or written.

use axum::http::Method;
use rstest::rstest;
use serde_json::json;

use crate::{
    api_server::Fault,
    stage::{Stage, Start},
};

/// The stage of a process that starts after another, which decided and ended.
async fn second_process() -> (Stage, Start) {
    let stage = Stage::after(2, |_| {}).await;
    let start = stage.another_process();
    (stage, start)
}

#[tokio::test(start_paused = true)]
async fn memory_is_written_once_a_minute_and_belongs_to_its_object() {
    let stage = Stage::after(2, |_| {}).await;
    let first = stage.server.checkpoint("llama");
    assert_eq!(first["spec"]["uid"], "llama");
    assert_eq!(
        first["metadata"]["ownerReferences"][0]["kind"],
        "PDAutoscaler"
    );
    stage.wait(50).await;
    assert_eq!(stage.server.checkpoint("llama"), first);
    stage.wait(25).await;
    let second = stage.server.checkpoint("llama");
    assert_ne!(second["spec"]["memory"], first["spec"]["memory"]);
    let writes = stage.server.requests(
        "PATCH /apis/pdautoscaler.io/v1alpha1/namespaces/ns/pdautoscalercheckpoints/llama",
    );
    assert_eq!(writes, 1);
    // It is not in the object that people read.
    let status = stage.server.autoscaler("llama")["status"].to_string();
    assert!(!status.contains("samplesSeconds"), "{status}");
}

#[rstest]
#[case::internal(Fault::Code(500))]
#[case::forbidden(Fault::Code(403))]
#[case::garbage(Fault::Garbage)]
#[tokio::test(start_paused = true)]
async fn nothing_is_decided_while_memory_cannot_be_read(#[case] fault: Fault) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::GET, "pdautoscalercheckpoints/llama", fault);
    })
    .await;
    stage.assert_reported("MemoryUnreadable");
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(20).await;
}

#[tokio::test(start_paused = true)]
async fn memory_that_cannot_be_written_is_counted_and_scaling_goes_on() {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::POST, "pdautoscalercheckpoints", Fault::Code(500));
    })
    .await;
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"checkpoint\"}") >= 1);
    stage.assert_all_is_applied();
    stage.server.repair();
    stage.wait(20).await;
    assert!(stage.server.checkpoint("llama").is_object());
}

#[tokio::test(start_paused = true)]
async fn the_next_process_goes_on_from_the_checkpoint() {
    let (stage, start) = second_process().await;
    start.controller();
    stage.wait(2).await;
    assert_eq!(
        stage.server.requests(
            "GET /apis/pdautoscaler.io/v1alpha1/namespaces/ns/pdautoscalercheckpoints/llama"
        ),
        2
    );
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_no_memory_costs_the_memory_and_nothing_else() {
    let (stage, start) = Stage::new();
    stage.server.put_checkpoint(
        "llama",
        &json!({ "uid": "llama", "subject": "s", "memory": "!" }),
    );
    start.controller();
    stage.wait(2).await;
    stage.assert_all_is_applied();
    assert_eq!(stage.server.checkpoint("llama")["spec"]["uid"], "llama");
    assert_ne!(stage.server.checkpoint("llama")["spec"]["memory"], "!");
}
