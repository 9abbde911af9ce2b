//! GPU budgets that cannot be read: nobody grows, for somebody else may hold the GPUs.

use axum::http::Method;
use rstest::rstest;

use crate::{api_server::Fault, stage::Stage};

#[rstest]
#[case::forbidden(Fault::Code(403))]
#[case::internal(Fault::Code(500))]
#[case::unavailable(Fault::Code(503))]
#[tokio::test(start_paused = true)]
async fn nothing_grows_while_it_is_not_known_whether_there_are_budgets(#[case] fault: Fault) {
    let stage = Stage::after(20, |server| {
        server.break_at(Method::GET, "gpubudgets", fault);
    })
    .await;
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    let (status, reason, message) = stage.server.condition("llama", "ScalingLimited");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "BudgetUnsettled")
    );
    assert!(message.contains("no GPUs are added"), "{message}");
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"budget\"}") >= 1);
    stage.server.repair();
    // The watch is made again after at most 30 s, and the next decision follows.
    stage.wait(60).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_resource_there_are_no_budgets() {
    let stage = Stage::after(5, |_| {}).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
    assert_eq!(
        stage.server.requests("gpubudgets/"),
        0,
        "and none is read or written"
    );
}
