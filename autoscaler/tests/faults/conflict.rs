//! Conflicts: somebody else wrote the object first.

use axum::http::Method;

use crate::{api_server::Fault, stage::Stage};

#[tokio::test(start_paused = true)]
async fn without_faults_the_plan_is_applied() {
    let stage = Stage::after(2, |_| {}).await;
    stage.assert_all_is_applied();
    // Growth comes first: the other order would leave too little if the second write failed.
    let names: Vec<String> = stage
        .server
        .scale_writes()
        .into_iter()
        .map(|write| write.0)
        .collect();
    let of_llama: Vec<&String> = names
        .iter()
        .filter(|name| name.starts_with("llama"))
        .collect();
    assert_eq!(of_llama, ["llama-prefill", "llama-decode"]);
}

#[tokio::test(start_paused = true)]
async fn one_conflict_of_versions_is_tried_again_at_once() {
    let stage = Stage::after(2, |server| {
        server.break_once(Method::PATCH, "llama-prefill/scale", Fault::Code(409));
    })
    .await;
    stage.assert_all_is_applied();
    assert_eq!(stage.metric("pd_autoscaler_apply_conflicts_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn versions_that_keep_changing_are_reported_and_the_next_reconcile_decides_again() {
    let stage = Stage::after(2, |server| {
        server.break_at(Method::PATCH, "llama-prefill/scale", Fault::Code(409));
    })
    .await;
    stage.assert_reported("ApplyConflict");
    assert!(stage.metric("pd_autoscaler_apply_conflicts_total") >= 1);
    // The growth was not made, so that the removal of the other role is not made either.
    stage.assert_nothing_is_scaled_down();
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(20).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_that_somebody_else_changed_are_not_overwritten() {
    let (stage, start) = Stage::new();
    // The scale is read late, and meanwhile somebody adds replicas by hand.
    let late = Fault::Late(std::time::Duration::from_secs(3));
    stage
        .server
        .break_once(Method::GET, "llama-prefill/scale", late);
    start.controller();
    stage.wait(1).await;
    stage.server.scale_by_hand("llama-prefill", 5);
    stage.wait(4).await;
    stage.assert_reported("ApplyConflict");
    assert!(stage.metric("pd_autoscaler_apply_conflicts_total") >= 1);
    assert_eq!(stage.server.replicas("llama-prefill"), 5);
    stage.assert_nothing_is_scaled_down();
    stage.wait(20).await;
    assert_eq!(
        stage.server.replicas("llama-prefill"),
        5,
        "more than the minimum stays"
    );
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_status_is_counted_and_tried_again() {
    let stage = Stage::after(2, |server| {
        server.break_at(
            Method::PATCH,
            "pdautoscalers/llama/status",
            Fault::Code(409),
        );
    })
    .await;
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"status\"}") >= 1);
    stage.assert_the_other_is_served();
    stage.assert_it_recovers_within(10).await;
}
