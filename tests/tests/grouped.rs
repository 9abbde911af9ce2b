//! A controller that reads objects together, on a real control plane and a real Prometheus: it
//! scales as one that asks about each by itself.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::Duration;

use pd_tests::{
    control_plane::eventually,
    stage::{DEADLINE, Stage},
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_read_together_are_scaled_up_and_down() {
    let stage = Stage::set("together").await.unwrap();
    // 4 requests/s of 1,500 prompt tokens keep a third of one prefill worker busy.
    stage.load(4.0, 1_500.0, 100.0).unwrap();
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let controller = stage.controller_with("one", true).await.unwrap();
    stage.scrape.add("one", &controller).await.unwrap();
    let before = stage.settled(Duration::from_secs(6)).await.unwrap();
    // 12,000 prompt tokens keep 2.3 of them busy.
    stage.load(4.0, 12_000.0, 100.0).unwrap();
    let up = stage
        .until_replicas("three prefill replicas", |prefill, _| prefill >= 3)
        .await
        .unwrap();
    assert_eq!(up.1, before.1, "decode stays");
    stage.load(4.0, 1_500.0, 100.0).unwrap();
    stage
        .until_replicas("fewer prefill replicas", |prefill, _| prefill < up.0)
        .await
        .unwrap();
    eventually("decisions on answers about many", DEADLINE, async || {
        let query = "sum by (result) (pd_autoscaler_grouped_passes_total)";
        let found = stage.prometheus.query(query).await;
        let found = found.map_err(|error| error.to_string())?;
        let of = |result: &str| {
            let mut found = found.iter();
            let of = found.find(|(labels, _)| labels.get("result").is_some_and(|r| r == result));
            of.map_or(0.0, |(_, value)| *value)
        };
        if of("served") > 10.0 && of("served") > 4.0 * of("alone") {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap();
}
