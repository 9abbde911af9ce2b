//! The controller on a real control plane: what users see when load moves and parts fail.
//!
//! The shipped binary runs as a process against a real API server and a real Prometheus; engines
//! are emulated, and replicas change latency only through the emulator's model.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::{Duration, Instant};

use pd_tests::{
    control_plane::eventually,
    dashboards,
    scrape::until_shown,
    stage::{DEADLINE, Stage, WINDOW, autoscaler, workload},
};
use serde_json::json;

const CALM: Duration = Duration::from_secs(6);

/// 4 requests/s of 1,500 prompt tokens keep a third of one prefill worker busy.
fn light(stage: &Stage) {
    stage.load(4.0, 1_500.0, 100.0).unwrap();
}

/// 4 requests/s of 12,000 prompt tokens keep 2.3 prefill workers busy.
fn long_prompts(stage: &Stage) {
    stage.load(4.0, 12_000.0, 100.0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn longer_prompts_grow_prefill_and_leave_decode() {
    let stage = Stage::set("isl").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let controller = stage.controller("one").await.unwrap();
    stage.scrape.add("one", &controller).await.unwrap();
    let before = stage.settled(CALM).await.unwrap();
    let watch = stage.watch();
    long_prompts(&stage);
    let after = stage
        .until_replicas("three prefill replicas", |p, _| p >= 3)
        .await
        .unwrap();
    assert_eq!(after.1, before.1, "decode stays");
    let note = stage.until_event("llama", "PrefillWork").await.unwrap();
    assert!(
        note.starts_with("prefill ") && note.contains("requests/s"),
        "{note}"
    );
    // Through the model, more prefill workers bring the queue and TTFT down.
    eventually("a prefill queue that is gone", DEADLINE, async || {
        let emulated = stage.emulator.state();
        let service = emulated.namespaces.get(stage.namespace.name()).cloned();
        match service {
            Some(service) if service.prefill.ready >= 3 && service.prefill.waiting < 4 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    stage
        .until_condition("llama", "RatioInBand", "True", &["InBand"])
        .await
        .unwrap();
    let outside = watch
        .pairs()
        .into_iter()
        .find(|&(_, p, d)| p * 6 < d || d * 6 < p);
    assert_eq!(outside, None, "every pair on the way lies in the band");
    dashboards_show(&stage).await;
}

/// Every panel about services and about the controller has data.
async fn dashboards_show(stage: &Stage) {
    let all = dashboards::all();
    let shown = all
        .iter()
        .filter(|dashboard| dashboard.uid != "pd-placement");
    let panels: Vec<_> = shown.flat_map(dashboards::Dashboard::panels).collect();
    let variables = [("namespace", stage.namespace.name()), ("name", "llama")];
    until_shown(&stage.prometheus, &panels, &variables)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn longer_answers_grow_decode_and_leave_prefill() {
    let stage = Stage::set("osl").await.unwrap();
    stage.load(4.0, 800.0, 60.0).unwrap();
    stage.deploy(1, 1).await.unwrap();
    // A strict limit, so that a batch of a laptop-sized load already needs several workers.
    let strict = json!({ "objective": { "tpot": { "target": "15ms" } } });
    stage.autoscale(&strict).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    let before = stage.settled(CALM).await.unwrap();
    stage.load(24.0, 800.0, 1_000.0).unwrap();
    let after = stage
        .until_replicas("more decode replicas", |_, d| d >= before.1 + 2)
        .await
        .unwrap();
    assert!(
        after.0 <= before.0 + 1,
        "prefill grows with the requests at most: {before:?} {after:?}"
    );
    stage
        .until_condition("llama", "RatioInBand", "True", &["InBand"])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_down_for_a_minute_loses_no_replica() {
    let stage = Stage::set("outage").await.unwrap();
    long_prompts(&stage);
    stage.deploy(4, 2).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    let before = stage.settled(CALM).await.unwrap();
    stage.prometheus.kill().await.unwrap();
    let down = Instant::now();
    let watch = stage.watch();
    // Nobody would notice an outage under load: without any, everything would be lowered.
    stage.load(0.01, 1_000.0, 10.0).unwrap();
    let reasons = ["PrometheusUnreachable"];
    stage
        .until_condition("llama", "MetricsAvailable", "False", &reasons)
        .await
        .unwrap();
    stage
        .until_condition("llama", "Ready", "False", &reasons)
        .await
        .unwrap();
    stage
        .until_event("llama", "PrometheusUnreachable")
        .await
        .unwrap();
    let minute = Duration::from_mins(1);
    eventually("a minute of outage", DEADLINE, async || {
        if down.elapsed() >= minute {
            Ok(())
        } else {
            Err(format!("{:?}", down.elapsed()))
        }
    })
    .await
    .unwrap();
    assert_eq!(stage.replicas().await.unwrap(), before);
    assert!(watch.falls().is_empty(), "{:?}", watch.pairs());
    let back = Instant::now();
    stage.prometheus.restart().await.unwrap();
    stage
        .until_condition(
            "llama",
            "MetricsAvailable",
            "True",
            &["AllMetricsAvailable"],
        )
        .await
        .unwrap();
    stage
        .until_replicas("fewer replicas once it is known", |p, _| p < before.0)
        .await
        .unwrap();
    assert!(
        watch.first_prefill_fall().await.unwrap() - back >= WINDOW,
        "a whole window is seen first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn less_load_lowers_replicas_only_after_the_window() {
    let stage = Stage::set("shrink").await.unwrap();
    long_prompts(&stage);
    stage.deploy(4, 2).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    let before = stage.settled(CALM).await.unwrap();
    // More than two workers are kept busy: a fall below three is the lighter load's.
    assert!(before.0 >= 3, "{before:?}");
    let watch = stage.watch();
    let calm = Instant::now();
    light(&stage);
    stage
        .until_condition("llama", "Ready", "True", &["Ready"])
        .await
        .unwrap();
    stage
        .until_replicas("fewer prefill replicas", |p, _| p < 3)
        .await
        .unwrap();
    let waited = watch.first_prefill_fall_below(3).await.unwrap() - calm;
    assert!(waited >= WINDOW, "lowered after {waited:?}");
    stage
        // One worker does; while the forecast's errors are still unknown, it may keep a second.
        .until_replicas("as few as the load needs", |p, d| p <= 2 && d == 1)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_in_a_burst_does_not_make_replicas_flap() {
    let stage = Stage::set("kill").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let first = stage.controller("first").await.unwrap();
    stage.settled(CALM).await.unwrap();
    let watch = stage.watch();
    long_prompts(&stage);
    stage
        .until_replicas("the first step up", |p, _| p >= 2)
        .await
        .unwrap();
    first.kill().await.unwrap();
    let _second = stage.controller("second").await.unwrap();
    stage
        .until_replicas("the burst is met", |p, _| p >= 3)
        .await
        .unwrap();
    let after = stage.settled(WINDOW).await.unwrap();
    assert!(watch.falls().is_empty(), "{:?}", watch.pairs());
    assert!(after.0 >= 3, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_acts_and_the_other_takes_over() {
    let stage = Stage::set("two").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let holder = async || {
        let path = [
            "get",
            "leases",
            "--output=jsonpath={.items[*].spec.holderIdentity}",
        ];
        stage.namespace.kubectl(&path).await.unwrap_or_default()
    };
    let first = stage.controller("first").await.unwrap();
    let until_held_by = async |name: &str| {
        eventually(&format!("the lease held by {name}"), DEADLINE, async || {
            let found = holder().await;
            if found == name { Ok(()) } else { Err(found) }
        })
        .await
        .unwrap();
    };
    until_held_by("first").await;
    let second = stage.controller("second").await.unwrap();
    stage.settled(CALM).await.unwrap();
    assert!(
        !second.log().contains("\"leading\""),
        "the second acts too: {}",
        second.log_tail()
    );
    first.kill().await.unwrap();
    long_prompts(&stage);
    until_held_by("second").await;
    stage
        .until_replicas("the second scales", |p, _| p >= 3)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_cannot_work_say_why_and_harm_no_other() {
    let stage = Stage::set("bad").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage.settled(CALM).await.unwrap();
    // Another pair of workloads with a query that Prometheus cannot read.
    let own = |role: &str| json!({ "target": { "name": format!("other-{role}") } });
    let wrong = json!({
        "prefill": own("prefill"), "decode": own("decode"),
        "metrics": { "overrides": { "ttft": "rate(this is no PromQL" } },
    });
    for role in ["prefill", "decode"] {
        let mut other = workload("Deployment", role, 1);
        other["metadata"]["name"] = json!(format!("other-{role}"));
        other["spec"]["selector"]["matchLabels"]["app"] = json!("other");
        other["spec"]["template"]["metadata"]["labels"]["app"] = json!("other");
        stage.namespace.apply(&other.to_string()).await.unwrap();
    }
    let object = autoscaler("wrong-query", "Deployment", &wrong).to_string();
    stage.namespace.apply(&object).await.unwrap();
    let message = stage
        .until_condition(
            "wrong-query",
            "MetricsAvailable",
            "False",
            &["QueryInvalid"],
        )
        .await
        .unwrap();
    assert!(message.contains("this is no PromQL"), "{message}");
    stage
        .until_event("wrong-query", "QueryInvalid")
        .await
        .unwrap();
    // A target that is not there, and then is.
    let missing = json!({ "prefill": { "target": { "name": "not-there" } } });
    let object = autoscaler("missing", "Deployment", &missing).to_string();
    stage.namespace.apply(&object).await.unwrap();
    let message = stage
        .until_condition("missing", "TargetResolved", "False", &["TargetNotFound"])
        .await
        .unwrap();
    assert!(message.contains("`not-there` does not exist"), "{message}");
    stage
        .until_event("missing", "TargetNotFound")
        .await
        .unwrap();
    long_prompts(&stage);
    stage
        .until_replicas("the good object still scales", |p, _| p >= 3)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stateful_sets_and_old_metric_names_work_and_recommend_only_recommends() {
    let stage = Stage::set("sts").await.unwrap();
    long_prompts(&stage);
    for role in ["prefill", "decode"] {
        let mut set = workload("StatefulSet", role, 1);
        set["spec"]["serviceName"] = json!("llama");
        set["spec"]["podManagementPolicy"] = json!("Parallel");
        set["spec"]["template"]["metadata"]["annotations"] =
            json!({ "emulator.pdautoscaler.io/dialect": "0.8.5" });
        stage.namespace.apply(&set.to_string()).await.unwrap();
    }
    let object =
        |mode: &str| autoscaler("llama", "StatefulSet", &json!({ "mode": mode })).to_string();
    stage.namespace.apply(&object("Recommend")).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Recommended"])
        .await
        .unwrap();
    let replicas = async || {
        let path = [
            "get",
            "statefulset",
            "llama-prefill",
            "--output=jsonpath={.spec.replicas}",
        ];
        stage.namespace.kubectl(&path).await.unwrap()
    };
    eventually("a recommendation", DEADLINE, async || {
        let status = stage
            .object("llama")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        let desired = status
            .prefill
            .and_then(|role| role.desired_replicas)
            .unwrap_or(0);
        if desired >= 3 {
            Ok(())
        } else {
            Err(format!("{desired}"))
        }
    })
    .await
    .unwrap();
    assert_eq!(replicas().await, "1");
    let engine = stage.object("llama").await.unwrap().status.unwrap().engine;
    assert_eq!(engine.as_deref(), Some("VLLM (names before 0.9.2)"));
    stage.namespace.apply(&object("Auto")).await.unwrap();
    eventually("three prefill replicas", DEADLINE, async || {
        let found = replicas().await;
        if found.parse::<u32>().is_ok_and(|n| n >= 3) {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_another_autoscaler_stop_writes_and_say_so() {
    let stage = Stage::set("stop").await.unwrap();
    light(&stage);
    stage.deploy(1, 1).await.unwrap();
    stage.autoscale(&json!({})).await.unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage.settled(CALM).await.unwrap();
    let annotate = async |value: &str| {
        stage
            .namespace
            .kubectl(&["annotate", "pda", "llama", "--overwrite", value])
            .await
            .unwrap();
    };
    annotate("pdautoscaler.io/paused-scale-up=true").await;
    stage
        .until_condition("llama", "Paused", "True", &["Paused"])
        .await
        .unwrap();
    long_prompts(&stage);
    stage
        .until_condition("llama", "ScalingLimited", "True", &["Paused"])
        .await
        .unwrap();
    assert_eq!(stage.replicas().await.unwrap().0, 1);
    stage
        .namespace
        .kubectl(&[
            "autoscale",
            "deployment",
            "llama-prefill",
            "--min=1",
            "--max=2",
            "--cpu=80%",
        ])
        .await
        .unwrap();
    annotate("pdautoscaler.io/paused-scale-up-").await;
    let message = stage
        .until_condition("llama", "TargetContended", "True", &["TargetContended"])
        .await
        .unwrap();
    assert!(
        message.contains("HorizontalPodAutoscaler `llama-prefill`"),
        "{message}"
    );
    assert_eq!(stage.replicas().await.unwrap().0, 1);
    stage
        .namespace
        .kubectl(&["delete", "hpa", "llama-prefill"])
        .await
        .unwrap();
    stage
        .until_replicas("scaling goes on", |p, _| p >= 3)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_and_explains_a_pdautoscaler() {
    let stage = Stage::set("kubectl").await.unwrap();
    light(&stage);
    stage.deploy(2, 1).await.unwrap();
    stage
        .autoscale(&json!({ "mode": "Recommend" }))
        .await
        .unwrap();
    let _controller = stage.controller("one").await.unwrap();
    stage
        .until_condition("llama", "Ready", "True", &["Recommended"])
        .await
        .unwrap();
    let table = stage.namespace.kubectl(&["get", "pda"]).await.unwrap();
    let header = [
        "NAME",
        "MODE",
        "PREFILL",
        "P-DESIRED",
        "DECODE",
        "D-DESIRED",
        "RATIO",
        "READY",
        "REASON",
        "AGE",
    ];
    let shown: Vec<&str> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(shown, header, "{table}");
    let row: Vec<&str> = table
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        (row[0], row[1], row[2], row[6]),
        ("llama", "Recommend", "2", "2:1"),
        "{table}"
    );
    let text = stage
        .namespace
        .kubectl(&["explain", "pda.spec.objective.ttft.target"])
        .await
        .unwrap();
    assert!(
        text.contains("DESCRIPTION") && text.contains("500ms"),
        "{text}"
    );
    let description = stage
        .namespace
        .kubectl(&["describe", "pda", "llama"])
        .await
        .unwrap();
    for word in ["Last Decision", "MetricsAvailable", "Attainment"] {
        assert!(
            description.contains(word),
            "{word} is not in\n{description}"
        );
    }
}
