//! Refusals: the API server answers, and says no.

use axum::http::Method;
use rstest::rstest;

use crate::{
    api_server::{AUTOSCALERS, Fault},
    stage::Stage,
};

#[rstest]
#[case::forbidden(Fault::Code(403))]
#[case::gone_since_it_was_read(Fault::Code(404))]
#[case::version_expired(Fault::Code(410))]
#[case::too_many_requests(Fault::TooManyRequests(60))]
#[case::internal(Fault::Code(500))]
#[case::unavailable(Fault::Code(503))]
#[tokio::test(start_paused = true)]
async fn a_refused_write_of_replicas_is_reported_and_stops_the_removal(#[case] fault: Fault) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::PATCH, "llama-prefill/scale", fault);
    })
    .await;
    stage.assert_reported("ApplyFailed");
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"scale\"}") >= 1);
    stage.assert_nothing_is_scaled_down();
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(20).await;
}

#[rstest]
#[case::not_served(Fault::Code(404))]
#[case::forbidden(Fault::Code(403))]
#[case::version_expired(Fault::Code(410))]
#[case::too_many_requests(Fault::TooManyRequests(60))]
#[case::internal(Fault::Code(500))]
#[tokio::test(start_paused = true)]
async fn workloads_that_cannot_be_read_are_not_written(
    #[case] fault: Fault,
    #[values("v1/deployments?", "v1/pods?")] place: &str,
) {
    let stage = Stage::after(2, |server| server.break_at(Method::GET, place, fault)).await;
    stage.assert_reported("TargetUnreadable");
    assert_eq!(stage.server.scale_writes(), []);
    stage.assert_it_recovers_within(20).await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_does_not_exist_harms_no_other() {
    let (stage, start) = Stage::new();
    stage.server.undeploy("llama-decode");
    start.controller();
    stage.wait(2).await;
    stage.assert_reported("TargetNotFound");
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    stage.assert_the_other_is_served();
    stage.server.deploy("llama-decode", 6);
    stage.server.edit_deployment("llama-decode", |_| {});
    stage.wait(20).await;
    stage.assert_all_is_applied();
}

#[rstest]
#[case::forbidden(Fault::Code(403))]
#[case::too_many_requests(Fault::TooManyRequests(60))]
#[case::internal(Fault::Code(500))]
#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_other_autoscalers_cannot_be_read(#[case] fault: Fault) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::GET, "horizontalpodautoscalers", fault);
    })
    .await;
    stage.assert_reported("ContentionUnknown");
    assert_eq!(
        stage.server.condition("llama", "TargetContended").0,
        "Unknown"
    );
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"contention\"}") >= 1);
    assert_eq!(stage.server.scale_writes(), []);
    // It is tried again soon, for it is not the object's fault.
    stage.assert_it_recovers_within(8).await;
}

#[rstest]
#[case::version_expired(Fault::Code(410))]
#[case::too_many_requests(Fault::TooManyRequests(1))]
#[case::internal(Fault::Code(500))]
#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_counted_and_tried_again(#[case] fault: Fault) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::PATCH, "pdautoscalers/llama/status", fault);
    })
    .await;
    // Replicas do not wait for status, and are written once.
    let writes = stage.server.scale_writes();
    let of_prefill = writes.iter().filter(|(name, _, _)| name == "llama-prefill");
    assert_eq!(of_prefill.count(), 1);
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"status\"}") >= 1);
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(10).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_deleted_meanwhile_is_no_fault() {
    let stage = Stage::after(2, |server| {
        server.break_at(
            Method::PATCH,
            "pdautoscalers/llama/status",
            Fault::Code(404),
        );
    })
    .await;
    assert_eq!(
        stage.metric("pd_autoscaler_api_errors_total{category=\"status\"}"),
        0
    );
    stage.assert_the_other_is_served();
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_written_are_counted_and_stop_nothing() {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::POST, "events", Fault::Code(500));
    })
    .await;
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"event\"}") >= 1);
    stage.assert_all_is_applied();
}

#[rstest]
#[case::version_expired(Fault::Code(410))]
#[case::too_many_requests(Fault::TooManyRequests(1))]
#[case::internal(Fault::Code(500))]
#[case::no_json(Fault::Garbage)]
#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_listed_are_listed_later(#[case] fault: Fault) {
    let stage = Stage::after(5, |server| {
        server.break_at(Method::GET, AUTOSCALERS, fault);
    })
    .await;
    assert_eq!(stage.server.scale_writes(), []);
    stage.assert_it_recovers_within(60).await;
}
