//! The controller on a real control plane where sizing alone is not enough: at zero, ahead of a
//! schedule, without room in the cluster, and with a performance profile that somebody mistyped.
//!
//! Few stages with several acts each, because what takes time here is set by the API: a minute of
//! idleness before zero, a minute before an ask counts as stuck.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::Duration;

use k8s_openapi::{api::core::v1::Taint, jiff};
use pd_api::v1alpha1::PDAutoscalerStatus;
use pd_tests::{
    control_plane::{NodeSpec, eventually},
    stage::{DEADLINE, Stage, merge, prepared_cluster, workload},
};
use serde_json::{Value, json};

const CALM: Duration = Duration::from_secs(4);

async fn status(stage: &Stage) -> PDAutoscalerStatus {
    let object = stage.object("llama").await.unwrap();
    object.status.unwrap_or_default()
}

/// A daily schedule that starts between two and four minutes from now, in UTC, and lasts ten
/// minutes.
fn soon(prefill_least: u32) -> Value {
    let start = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(3);
    let start = start.to_zoned(jiff::tz::TimeZone::UTC);
    json!({
        "cron": format!("{} {} * * *", start.minute(), start.hour()),
        "duration": "10m",
        "prefill": { "minReplicas": prefill_least },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_acts_ahead_and_an_idle_service_goes_to_zero_and_back() {
    let stage = Stage::set("zero").await.unwrap();
    stage.load(4.0, 1_500.0, 100.0).unwrap();
    stage.deploy(1, 1).await.unwrap();
    // Replicas are assumed to take five minutes, so that the schedule is near enough already.
    let lead = json!({ "lead": { "assumed": "5m", "stuckAfter": "10m" } });
    let object = json!({ "schedules": [soon(3)], "behavior": lead });
    stage.autoscale(&object).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage
        .until_replicas("the schedule's minimum, ahead of it", |p, d| {
            (p, d) == (3, 1)
        })
        .await
        .unwrap();
    stage.settled(CALM).await.unwrap();
    let schedules = status(&stage).await.schedules.unwrap();
    assert!(schedules.active.is_empty(), "{schedules:?}");
    assert!(schedules.next_change.unwrap().0 > jiff::Timestamp::now());

    // Nobody asks any more, and the gateway says that nothing waits.
    stage.load(0.0, 1_500.0, 100.0).unwrap();
    let zero = |wake: &str| json!({ "scaleToZero": { "idleAfter": "1m", "wakeSignal": wake } });
    stage.autoscale(&zero("vector(0)")).await.unwrap();
    let watch = stage.watch();
    stage
        .until_replicas("both roles at zero", |p, d| (p, d) == (0, 0))
        .await
        .unwrap();
    let note = stage.until_event("llama", "ScaledToZero").await.unwrap();
    assert!(note.contains("idle for"), "{note}");
    stage
        .until_condition("llama", "RatioInBand", "True", &["ScaledToZero"])
        .await
        .unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    // At zero there is nothing to scrape, and that is no failure.
    let reasons = ["AllMetricsAvailable"];
    stage
        .until_condition("llama", "MetricsAvailable", "True", &reasons)
        .await
        .unwrap();

    stage.autoscale(&zero("vector(2)")).await.unwrap();
    stage
        .until_replicas("both roles back", |p, d| p >= 1 && d >= 1)
        .await
        .unwrap();
    let note = stage.until_event("llama", "Waking").await.unwrap();
    assert!(note.contains("2 requests wait"), "{note}");
    let alone =
        |(since, p, d): &(std::time::Instant, i32, i32)| ((*p == 0) != (*d == 0)).then_some(*since);
    let pairs = watch.pairs();
    for (at, pair) in pairs.iter().enumerate() {
        if let Some(since) = alone(pair) {
            let until = pairs
                .get(at + 1)
                .map_or_else(std::time::Instant::now, |next| next.0);
            let span = until - since;
            assert!(
                span < Duration::from_secs(5),
                "one role alone at zero for {span:?}"
            );
        }
    }
}

/// A decode workload that has one node with one GPU to itself, and no other.
async fn narrow_decode(stage: &Stage) -> Value {
    let pool = stage.namespace.name().to_owned();
    let taint = Taint {
        effect: "NoSchedule".to_owned(),
        key: "pool".to_owned(),
        value: Some(pool.clone()),
        ..Taint::default()
    };
    let nodes = NodeSpec {
        prefix: pool.clone(),
        gpus: 1,
        labels: [("pool".to_owned(), pool.clone())].into(),
        taints: vec![taint],
        ..NodeSpec::default()
    };
    let plane = prepared_cluster().await.unwrap();
    plane.add_nodes(&nodes).await.unwrap();
    let mut decode = workload("Deployment", "decode", 1);
    let there = json!({ "spec": { "template": { "spec": {
        "nodeSelector": { "pool": pool },
        "tolerations": [{ "key": "pool", "operator": "Exists" }],
    } } } });
    merge(&mut decode, &there);
    decode
}

fn config_map(prefill: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "measured" },
        "data": { "prefill.csv": prefill },
    })
    .to_string()
}

/// The times of an emulated prefill worker for prompts of three lengths.
const MEASURED: &str = "tp,batch,isl,cached_prefix_tokens,prefill_ms
1,1,1000,0,50.4
1,1,4000,0,183.2
1,1,16000,0,800.8
";

#[tokio::test(flavor = "multi_thread")]
async fn decode_without_room_does_not_stop_prefill_and_a_profile_is_read_once_it_is_right() {
    let stage = Stage::set("edges").await.unwrap();
    stage.load(4.0, 800.0, 60.0).unwrap();
    let decode = narrow_decode(&stage).await;
    stage.namespace.apply(&decode.to_string()).await.unwrap();
    let prefill = workload("Deployment", "prefill", 1).to_string();
    stage.namespace.apply(&prefill).await.unwrap();
    let object = json!({
        "objective": { "tpot": { "target": "15ms" } },
        "behavior": { "lead": { "assumed": "10s", "stuckAfter": "1m" } },
        "capacity": { "prefill": { "profileRef": { "kind": "ConfigMap", "name": "measured" } } },
    });
    stage.autoscale(&object).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    profile_is_fixed(&stage).await;

    // Far more tokens than one decode worker makes, and room for no other.
    stage.load(24.0, 800.0, 1_000.0).unwrap();
    let limited = async |reason: &str| {
        stage
            .until_condition("llama", "ScalingLimited", "True", &[reason])
            .await
            .unwrap()
    };
    let message = limited("ScaleUpBackedOff").await;
    assert!(
        message.starts_with("decode: ") && message.contains("Unschedulable"),
        "{message}"
    );
    stage.load(24.0, 4_000.0, 1_000.0).unwrap();
    stage
        .until_replicas("prefill grows without decode", |p, d| p >= 4 && d >= 2)
        .await
        .unwrap();
    let note = stage
        .until_event("llama", "ScaleUpCancelled")
        .await
        .unwrap();
    assert!(note.contains("cancelled down to 1"), "{note}");
    stage
        .until_replicas("decode with what serves", |p, d| p >= 4 && d == 1)
        .await
        .unwrap();
    let message = limited("ScaleUpBackedOff").await;
    assert!(message.contains("requested again in"), "{message}");
}

/// A profile that is missing, then has a broken line, then is right; the service runs meanwhile.
async fn profile_is_fixed(stage: &Stage) {
    let resolved = async |status: &str, reason: &str| {
        stage
            .until_condition("llama", "CapacityResolved", status, &[reason])
            .await
            .unwrap()
    };
    let message = resolved("False", "ProfileNotFound").await;
    assert!(
        message.contains("ConfigMap `measured` does not exist"),
        "{message}"
    );
    let broken = MEASURED.replace("183.2", "183,2");
    stage.namespace.apply(&config_map(&broken)).await.unwrap();
    let message = resolved("False", "ProfileInvalid").await;
    assert!(
        message.contains("key `prefill.csv` of ConfigMap `measured`: line 3"),
        "{message}"
    );
    stage.until_event("llama", "ProfileInvalid").await.unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    stage.namespace.apply(&config_map(MEASURED)).await.unwrap();
    resolved("True", "CapacityStated").await;
    eventually("a need from the profile", DEADLINE, async || {
        let source = |role: Option<pd_api::v1alpha1::RoleStatus>| role?.capacity_source;
        let status = status(stage).await;
        match (source(status.prefill), source(status.decode)) {
            (Some(prefill), decode)
                if prefill == "Profile" && decode.as_deref() != Some("Profile") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
