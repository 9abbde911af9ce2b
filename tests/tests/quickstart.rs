//! `docs/quickstart.md` and `docs/migration.md` on a real control plane: the files that they name,
//! and the state that they promise after each step.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{fs, path::Path};

use pd_tests::stage::Stage;
use serde_json::json;

/// Applies a file of `examples/quickstart` to the namespace of `stage`.
async fn apply(stage: &Stage, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let manifest = fs::read_to_string(folder.join(name)).unwrap();
    let manifest = manifest.replace("inference", stage.namespace.name());
    stage.namespace.plane().apply(&manifest).await.unwrap();
}

async fn kubectl(stage: &Stage, arguments: &[&str]) {
    let mut all = vec!["--namespace", stage.namespace.name()];
    all.extend(arguments);
    stage.namespace.plane().kubectl(&all).await.unwrap();
}

async fn set_mode(stage: &Stage, mode: &str) {
    let patch = json!({ "spec": { "mode": mode } }).to_string();
    kubectl(
        stage,
        &["patch", "pda", "llama", "--type=merge", "-p", &patch],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_scales_its_workers() {
    let stage = Stage::set("quickstart").await.unwrap();
    apply(&stage, "workers.yaml").await;
    stage.load(20.0, 2_000.0, 200.0).unwrap();
    let _controller = stage.controller("quickstart").await.unwrap();
    apply(&stage, "pdautoscaler.yaml").await;
    stage
        .until_replicas("a second prefill replica", |p, _| p >= 2)
        .await
        .unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    // 60 requests/s of 2,000 prompt tokens keep more than five prefill workers busy.
    stage.load(60.0, 2_000.0, 200.0).unwrap();
    stage
        .until_replicas("six prefill replicas", |p, _| p >= 6)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hpa_hands_over_without_two_masters() {
    let stage = Stage::set("migration").await.unwrap();
    apply(&stage, "workers.yaml").await;
    stage.load(4.0, 1_500.0, 100.0).unwrap();
    let _controller = stage.controller("migration").await.unwrap();
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "llama-prefill" });
    let hpa = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "llama-prefill" },
        "spec": { "scaleTargetRef": target, "maxReplicas": 5 },
    });
    stage.namespace.apply(&hpa.to_string()).await.unwrap();
    apply(&stage, "pdautoscaler.yaml").await;

    // Beside it, and before the other one is gone, nothing is written.
    let contended = stage
        .until_condition("llama", "TargetContended", "True", &["TargetContended"])
        .await
        .unwrap();
    assert!(
        contended.contains("HorizontalPodAutoscaler `llama-prefill`"),
        "{contended}"
    );
    set_mode(&stage, "Recommend").await;
    stage
        .until_condition("llama", "Ready", "True", &["Recommended"])
        .await
        .unwrap();
    let beside = stage
        .until_condition("llama", "TargetContended", "False", &["NotContended"])
        .await
        .unwrap();
    assert!(
        beside.contains("HorizontalPodAutoscaler `llama-prefill`"),
        "{beside}"
    );

    set_mode(&stage, "Auto").await;
    kubectl(&stage, &["delete", "hpa", "llama-prefill"]).await;
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    set_mode(&stage, "Recommend").await;
    stage
        .until_condition("llama", "Ready", "True", &["Recommended"])
        .await
        .unwrap();
}
