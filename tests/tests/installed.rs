//! The chart's release for a whole cluster: the controller waits for its CRD, says so, and then
//! works in every namespace with no right more than the chart gives.
//!
//! It has a cluster of its own, because here the CRD is missing and the controller acts everywhere.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::Duration;

use pd_tests::{
    chart,
    control_plane::{ControlPlane, Namespace, NodeSpec, Options, eventually},
    stage::{DEADLINE, autoscaler, run_controller, workload},
    supervisor::Process,
};
use serde_json::{Value, json};

/// The admin address that the controller logged.
async fn admin_url(controller: &Process) -> String {
    eventually("the admin address", DEADLINE, async || {
        let log = controller.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let address = lines.find_map(|line| line["address"].as_str().map(str::to_owned));
        address.ok_or(log)
    })
    .await
    .map(|address| format!("http://{address}"))
    .unwrap()
}

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_for_its_crd_and_then_works_everywhere() {
    let nodes = vec![NodeSpec {
        count: 2,
        ..NodeSpec::default()
    }];
    let plane = ControlPlane::start(Options {
        nodes,
        ..Options::default()
    })
    .await
    .unwrap();
    let system = Namespace::create(&plane, "pd-system").await.unwrap();
    let values = json!({ "crds": { "enabled": false } });
    let release = chart::install_as_is(&plane, system.name(), &values)
        .await
        .unwrap();
    let controller = run_controller(&plane, &release, "one", &[]).await.unwrap();
    let admin = admin_url(&controller).await;
    let ready = format!("{admin}/readyz");
    eventually(
        "a controller that waits for the CRD",
        DEADLINE,
        async || {
            let (status, text) = get(&ready).await;
            if status == 503 && text.contains("is not installed") {
                Ok(())
            } else {
                Err(text)
            }
        },
    )
    .await
    .unwrap();
    assert_eq!(get(&format!("{admin}/livez")).await.0, 200);
    eventually(
        "an event on the controller's own pod",
        DEADLINE,
        async || {
            let events = system
                .kubectl(&["get", "events.events.k8s.io", "--output=json"])
                .await
                .unwrap();
            if events.contains("CrdMissing") {
                Ok(())
            } else {
                Err("no event".to_owned())
            }
        },
    )
    .await
    .unwrap();

    // Spelled out: helm takes an empty map for "as before".
    release
        .upgrade(&plane, &json!({ "crds": { "enabled": true } }))
        .await
        .unwrap();
    eventually("a controller that is ready", DEADLINE, async || {
        let (status, text) = get(&ready).await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    // No Prometheus is configured: it says so, and holds.
    let inference = Namespace::create(&plane, "inference").await.unwrap();
    for role in ["prefill", "decode"] {
        inference
            .apply(&workload("Deployment", role, 2).to_string())
            .await
            .unwrap();
    }
    inference
        .apply(&autoscaler("llama", "Deployment", &json!({})).to_string())
        .await
        .unwrap();
    let path = "--output=jsonpath={.status.conditions[?(@.type==\"MetricsAvailable\")].message}";
    eventually("a status in another namespace", DEADLINE, async || {
        let message = inference
            .kubectl(&["get", "pda", "llama", path])
            .await
            .unwrap();
        if message.contains("no prometheus server is known") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await
    .unwrap();
    let metrics = get(&format!("{admin}/metrics")).await.1;
    for name in [
        "pd_build_info{",
        "process_resident_memory_bytes ",
        "pd_autoscaler_leader 1",
        "pd_autoscaler_passes_total{reason=\"PrometheusUnreachable\"}",
        "pd_autoscaler_prometheus_query_errors_total{category=\"no_server\"}",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    let log = controller.log();
    assert!(!log.contains("forbidden"), "a right is missing: {log}");
    controller
        .signal(pd_tests::supervisor::Signal::Terminate)
        .unwrap();
    assert!(controller.wait_exit(Duration::from_secs(30)).await.unwrap());
    assert!(
        controller.log().contains("\"ended\""),
        "{}",
        controller.log_tail()
    );
}
