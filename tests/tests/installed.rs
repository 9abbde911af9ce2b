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
    supervisor::{Process, Signal},
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

/// Waits until the answer at `url` has `status` and contains `text`.
async fn until_answer(url: &str, status: u16, text: &str) {
    eventually(
        &format!("{status} `{text}` at {url}"),
        DEADLINE,
        async || {
            let (got, body) = get(url).await;
            if got == status && body.contains(text) {
                Ok(())
            } else {
                Err(format!("{got} {body}"))
            }
        },
    )
    .await
    .unwrap();
}

/// Waits until the counter whose line begins with `series` is above zero, where it begins.
async fn until_counted(admin: &str, series: &str) {
    eventually(series, DEADLINE, async || {
        let body = get(&format!("{admin}/metrics")).await.1;
        let mut lines = body.lines();
        match lines.find_map(|line| line.strip_prefix(series)) {
            Some(count) if count != "0" => Ok(()),
            _ => Err(body),
        }
    })
    .await
    .unwrap();
}

/// Waits until kubectl's answer contains `text`.
async fn until_kubectl(namespace: &Namespace<'_>, arguments: &[&str], text: &str) {
    eventually(
        &format!("`{text}` from {arguments:?}"),
        DEADLINE,
        async || {
            let answer = namespace.kubectl(arguments).await.unwrap();
            if answer.contains(text) {
                Ok(())
            } else {
                Err(answer)
            }
        },
    )
    .await
    .unwrap();
}

/// Makes a service in a namespace of its own; no Prometheus is configured, so it says that and
/// holds.
async fn serve_without_prometheus(plane: &ControlPlane) {
    let inference = Namespace::create(plane, "inference").await.unwrap();
    for role in ["prefill", "decode"] {
        let deployment = workload("Deployment", role, 2);
        inference.apply(&deployment.to_string()).await.unwrap();
    }
    let object = autoscaler("llama", "Deployment", &json!({}));
    inference.apply(&object.to_string()).await.unwrap();
    let path = "--output=jsonpath={.status.conditions[?(@.type==\"MetricsAvailable\")].message}";
    let message = "no prometheus server is known";
    until_kubectl(&inference, &["get", "pda", "llama", path], message).await;
    let replicas = "--output=jsonpath={.spec.replicas}";
    until_kubectl(
        &inference,
        &["get", "deployment", "llama-decode", replicas],
        "2",
    )
    .await;
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
    until_answer(&ready, 503, "is not installed").await;
    until_answer(&format!("{admin}/livez"), 200, "").await;
    // There is no object that could carry a condition: the event is on the controller's own pod.
    until_kubectl(
        &system,
        &["get", "events.events.k8s.io", "--output=json"],
        "CrdMissing",
    )
    .await;

    // Spelled out: helm takes an empty map for "as before".
    let with_crd = json!({ "crds": { "enabled": true } });
    release.upgrade(&plane, &with_crd).await.unwrap();
    until_answer(&ready, 200, "").await;
    serve_without_prometheus(&plane).await;
    for metric in [
        "pd_build_info{",
        "process_resident_memory_bytes ",
        "pd_autoscaler_leader 1",
        "pd_autoscaler_reconciles_total{reason=\"PrometheusUnreachable\"}",
    ] {
        until_answer(&format!("{admin}/metrics"), 200, metric).await;
    }
    until_counted(
        &admin,
        "pd_autoscaler_prometheus_query_errors_total{category=\"no_server\"} ",
    )
    .await;
    // The service went with its namespace, and its series go with it though no object is left.
    eventually("metrics without the object", DEADLINE, async || {
        let body = get(&format!("{admin}/metrics")).await.1;
        if body.contains("name=\"llama\"") {
            Err(body)
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    let log = controller.log();
    // Nothing can be written in a namespace that goes, whatever the rights.
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("forbidden") && !line.contains("is being terminated"))
        .collect();
    assert!(refused.is_empty(), "a right is missing: {refused:#?}");
    controller.signal(Signal::Terminate).unwrap();
    assert!(controller.wait_exit(Duration::from_secs(30)).await.unwrap());
    assert!(
        controller.log().contains("\"ended\""),
        "{}",
        controller.log_tail()
    );
}
