//! A bug of ours, in one reconcile.

use crate::stage::{Stage, break_clock};

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_reconcile_and_not_the_process() {
    let stage = Stage::after(2, |_| {}).await;
    break_clock(true);
    stage.wait(16).await;
    let panics = "pd_autoscaler_reconcile_panics_total";
    assert!(stage.metric(panics) >= 1);
    break_clock(false);
    let before = stage.metric(panics);
    stage.wait(60).await;
    assert_eq!(stage.metric(panics), before);
    stage.assert_all_is_applied();
}
