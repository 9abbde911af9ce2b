//! GPU budgets that cannot be read: nobody grows, for somebody else may hold the GPUs. Quotas that
//! have no room hold back, and those that cannot be read do not: the API server keeps them.

use axum::http::Method;
use rstest::rstest;
use serde_json::json;

use crate::{
    api_server::{ApiServer, Fault},
    stage::Stage,
};

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
    stage.wait(300).await;
    assert_eq!(
        (
            stage.server.replicas("llama-prefill"),
            stage.server.replicas("llama-decode")
        ),
        (1, 4),
        "four are the most, and none is taken to make room"
    );
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

/// A stage whose decode role has a GPU in each pod.
async fn stage_with_gpus(faults: impl FnOnce(&ApiServer)) -> Stage {
    Stage::after(20, |server| {
        server.edit("llama", |object| {
            for role in ["prefill", "decode"] {
                object["spec"][role]["gpusPerReplica"] = json!(1);
                object["spec"][role]["maxReplicas"] = json!(8);
            }
        });
        faults(server);
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_quota_without_room_holds_back_and_says_so() {
    let stage = stage_with_gpus(|server| server.set_quota(7, 7)).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 1);
    let (status, reason, message) = stage.server.condition("llama", "ScalingLimited");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "QuotaLimited"));
    assert!(
        message.contains("`gpus` has room for 0 of 7 GPUs"),
        "{message}"
    );
    stage.wait(300).await;
    assert_eq!(stage.server.replicas("llama-decode"), 6);
    stage.server.set_quota(8, 7);
    stage.wait(30).await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_cannot_be_read_holds_nothing_back() {
    let stage = stage_with_gpus(|server| {
        server.set_quota(7, 7);
        server.break_at(Method::GET, "resourcequotas", Fault::Code(403));
    })
    .await;
    assert_eq!(stage.server.replicas("llama-prefill"), 2);
    assert!(stage.metric("pd_autoscaler_api_errors_total{category=\"quota\"}") >= 1);
}
