//! Leadership that is lost between the decision and a write.

use axum::http::Method;
use rstest::rstest;

use crate::{api_server::Fault, stage::Stage};

#[rstest]
#[case::while_workloads_are_read(Method::GET, "v1/pods?&limit", 0)]
#[case::after_the_first_write(Method::PATCH, "llama-prefill/scale", 1)]
#[tokio::test(start_paused = true)]
async fn who_no_longer_leads_writes_nothing_more(
    #[case] method: Method,
    #[case] place: &str,
    #[case] written: usize,
) {
    let stage = Stage::after(2, |server| {
        server.break_once(method, place, Fault::LeadershipLost);
    })
    .await;
    let writes = stage.server.scale_writes();
    let of_llama = writes
        .iter()
        .filter(|(name, _, _)| name.starts_with("llama"));
    assert_eq!(of_llama.count(), written, "{writes:?}");
    stage.assert_nothing_is_scaled_down();
    // Status is the new leader's; an event about a write that was made is still ours.
    assert_eq!(stage.server.requests("pdautoscalers/llama/status"), 0);
    assert_eq!(stage.server.events("llama").len(), written);
    stage.wait(60).await;
    assert_eq!(stage.server.scale_writes(), writes);
}
