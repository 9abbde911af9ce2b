//! Objects that a controller reads together, on a real control plane and a real Prometheus: they
//! are scaled as by their own queries, and no fault of the server scales them down.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod proxy;

use std::time::Duration;

use pd_tests::{
    control_plane::{eventually, throughout},
    stage::{DEADLINE, Stage, WINDOW, autoscaler, workload},
};
use serde_json::json;

use self::proxy::{Fault, Proxy};

/// 4 requests/s of 1,500 prompt tokens keep a third of one prefill worker busy.
fn light(stage: &Stage) {
    stage.load(4.0, 1_500.0, 100.0).unwrap();
}

/// 4 requests/s of 12,000 prompt tokens keep 2.3 of them busy.
fn long_prompts(stage: &Stage) {
    stage.load(4.0, 12_000.0, 100.0).unwrap();
}

/// Awaits that passes have been served by answers about many.
async fn until_read_together(stage: &Stage) {
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

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_read_together_are_scaled_up_and_down() {
    let stage = Stage::set("together").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let controller = stage.controller("one").await.unwrap();
    stage.scrape.add("one", &controller).await.unwrap();
    let before = stage.settled(Duration::from_secs(6)).await.unwrap();
    long_prompts(&stage);
    let up = stage
        .until_replicas("three prefill replicas", |prefill, _| prefill >= 3)
        .await
        .unwrap();
    assert_eq!(up.1, before.1, "decode stays");
    light(&stage);
    stage
        .until_replicas("fewer prefill replicas", |prefill, _| prefill < up.0)
        .await
        .unwrap();
    until_read_together(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_the_server_scales_anything_down() {
    let stage = Stage::set("faults").await.unwrap();
    let proxy = Proxy::before(&stage.prometheus.url()).await.unwrap();
    long_prompts(&stage);
    stage.deploy(3, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let mut controller = stage.controller_asking("one", proxy.url()).await.unwrap();
    for (fault, reasons) in [
        (Fault::Silence, &["PrometheusUnreachable"][..]),
        (Fault::Refusal, &["PrometheusUnreachable", "QueryInvalid"]),
        (Fault::Partial, &["MetricsPartial"]),
    ] {
        let held = stage.settled(Duration::from_secs(6)).await.unwrap();
        assert!(held.0 >= 3, "{held:?}");
        proxy.fail(fault.clone());
        stage
            .until_condition("llama", "MetricsAvailable", "False", reasons)
            .await
            .unwrap();
        light(&stage);
        if matches!(fault, Fault::Refusal) {
            // The next process has nothing but what is written.
            controller.kill().await.unwrap();
            controller = stage.controller_asking("two", proxy.url()).await.unwrap();
        }
        throughout("replicas under a fault", 2 * WINDOW, async || {
            let now = stage.replicas().await.map_err(|error| error.to_string())?;
            if now.0 >= held.0 && now.1 >= held.1 {
                Ok(())
            } else {
                Err(format!("{fault:?}: {held:?} became {now:?}"))
            }
        })
        .await
        .unwrap();
        long_prompts(&stage);
        proxy.fail(Fault::None);
    }
    // Without a fault the same load lowers replicas.
    let held = stage.settled(Duration::from_secs(6)).await.unwrap();
    light(&stage);
    stage
        .until_replicas("fewer prefill replicas", |prefill, _| prefill < held.0)
        .await
        .unwrap();
}

/// Adds a PDAutoscaler `poison` with Deployments of two replicas, which no engine is in.
async fn add_poison(stage: &Stage) {
    for role in ["prefill", "decode"] {
        let name = format!("poison-{role}");
        let mut deployment = workload("Deployment", role, 2);
        deployment["metadata"]["name"] = json!(name);
        deployment["spec"]["selector"]["matchLabels"] = json!({ "app": name });
        deployment["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
        let text = deployment.to_string();
        stage.namespace.apply(&text).await.unwrap();
    }
    let mut object = autoscaler("poison", "Deployment", &json!({}));
    for role in ["prefill", "decode"] {
        object["spec"][role]["target"]["name"] = json!(format!("poison-{role}"));
    }
    stage.namespace.apply(&object.to_string()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_spoils_the_answer_is_alone_with_it() {
    let stage = Stage::set("spoilt").await.unwrap();
    let proxy = Proxy::before(&stage.prometheus.url()).await.unwrap();
    proxy.fail(Fault::Spoilt("poison-".to_owned()));
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    add_poison(&stage).await;
    let controller = stage.controller_asking("one", proxy.url()).await.unwrap();
    stage.scrape.add("one", &controller).await.unwrap();
    stage.settled(Duration::from_secs(6)).await.unwrap();
    long_prompts(&stage);
    stage
        .until_replicas("three prefill replicas", |prefill, _| prefill >= 3)
        .await
        .unwrap();
    stage
        .until_condition(
            "poison",
            "MetricsAvailable",
            "False",
            &["PrometheusUnreachable", "QueryInvalid"],
        )
        .await
        .unwrap();
}
