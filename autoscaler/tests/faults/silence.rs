//! Silence: the API server takes a request and does not answer, or late.

use std::time::Duration;

use axum::http::Method;
use rstest::rstest;

use crate::{api_server::Fault, stage::Stage};

#[rstest]
#[case::workloads("v1/deployments?", "TargetUnreadable")]
#[case::pods("v1/pods?", "TargetUnreadable")]
#[case::scale("llama-prefill/scale", "ApplyFailed")]
#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_given_up_and_reported(
    #[case] place: &str,
    #[case] reason: &str,
) {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::GET, place, Fault::Silence);
    })
    .await;
    if place.contains("llama") {
        // The other object does not wait for this one.
        stage.assert_the_other_is_served();
    }
    stage.wait(30).await;
    stage.assert_reported(reason);
    let (_, _, message) = stage.server.condition("llama", "Ready");
    assert!(message.contains("did not answer within 30 s"), "{message}");
    stage.assert_nothing_is_scaled_down();
    // The reconcile under way still waits for its silent request.
    stage.assert_it_recovers_within(60).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_made_again_from_what_is_there() {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::PATCH, "llama-prefill/scale", Fault::Silence);
    })
    .await;
    stage.wait(30).await;
    stage.assert_reported("ApplyFailed");
    stage.assert_nothing_is_scaled_down();
    stage.assert_it_recovers_within(60).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_as_good_as_any() {
    let stage = Stage::after(2, |server| {
        let late = Fault::Late(Duration::from_secs(20));
        server.break_at(Method::GET, "v1/deployments?&limit", late);
    })
    .await;
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    stage.wait(45).await;
    stage.assert_all_is_applied();
}
