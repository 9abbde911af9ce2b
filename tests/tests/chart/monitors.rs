//! Monitors: they find the pods of all programs and keep the metrics' own labels, and those of
//! engine workers find the workers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{of_kind, one, rendered};

fn parts() -> Value {
    let enabled = json!({ "enabled": true });
    json!({
        "webhook": enabled, "extender": enabled, "control": enabled,
        "serviceMonitor": { "enabled": true, "interval": "30s" }, "podMonitor": { "enabled": true },
    })
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
}

#[tokio::test]
async fn monitors_find_every_program_of_the_release() {
    let objects = rendered(parts()).await;
    let pods: Vec<&Value> = of_kind(&objects, "Deployment");
    assert_eq!(pods.len(), 4);
    let monitor = &one(&objects, "PodMonitor")["spec"];
    let endpoint = &monitor["podMetricsEndpoints"][0];
    for pod in &pods {
        let template = &pod["spec"]["template"];
        assert!(selects(
            &monitor["selector"]["matchLabels"],
            &template["metadata"]["labels"]
        ));
        let ports = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap();
        assert!(
            ports.iter().any(|port| port["name"] == endpoint["port"]),
            "{ports:?}"
        );
    }
    let monitor = &one(&objects, "ServiceMonitor")["spec"];
    assert_eq!(monitor["endpoints"][0]["interval"], "30s");
    let scraped: BTreeSet<&str> = of_kind(&objects, "Service")
        .into_iter()
        .filter(|service| {
            selects(
                &monitor["selector"]["matchLabels"],
                &service["metadata"]["labels"],
            )
        })
        .filter_map(|service| {
            let port = &service["spec"]["ports"][0];
            (port["name"] == monitor["endpoints"][0]["port"])
                .then_some(&service["spec"]["selector"])
        })
        .map(|selector| selector["app.kubernetes.io/component"].as_str().unwrap())
        .collect();
    assert_eq!(
        scraped,
        BTreeSet::from(["autoscaler", "control", "extender", "webhook"])
    );
}

/// The metrics' label `namespace` is that of the PDAutoscaler: without this it would be renamed.
#[tokio::test]
async fn the_labels_of_our_metrics_are_honoured() {
    let objects = rendered(parts()).await;
    assert_eq!(
        one(&objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["honorLabels"],
        true
    );
    assert_eq!(
        one(&objects, "ServiceMonitor")["spec"]["endpoints"][0]["honorLabels"],
        true
    );
}

async fn workers(monitor: Value, others: Value) -> Value {
    let mut values = others;
    values["workerMonitors"] = json!([monitor]);
    one(&rendered(values).await, "PodMonitor").clone()
}

#[tokio::test]
async fn workers_are_scraped_where_their_engine_is() {
    let selector = json!({ "matchLabels": { "app": "llama" } });
    let vllm = json!({ "name": "llama", "selector": selector, "ports": ["http", 8200] });
    let found = workers(vllm, json!({})).await;
    assert_eq!(found["metadata"]["name"], "pd-pd-autoscaler-llama");
    let want = json!([
        { "port": "http", "path": "/metrics", "interval": "15s" },
        { "portNumber": 8200, "path": "/metrics", "interval": "15s" },
    ]);
    assert_eq!(found["spec"]["podMetricsEndpoints"], want);
    assert_eq!(found["spec"]["selector"], selector);
    assert_eq!(found["spec"]["namespaceSelector"], json!({ "any": true }));

    let tensor_rt = json!({
        "name": "trt", "engine": "TensorRTLLM", "selector": selector, "ports": [8000], "interval": "5s",
        "namespaces": ["a", "b"], "labels": { "release": "p" },
    });
    let found = workers(tensor_rt, json!({})).await;
    let endpoint = &found["spec"]["podMetricsEndpoints"][0];
    assert_eq!(
        (&endpoint["path"], &endpoint["interval"]),
        (&json!("/prometheus/metrics"), &json!("5s"))
    );
    assert_eq!(
        found["spec"]["namespaceSelector"],
        json!({ "matchNames": ["a", "b"] })
    );
    assert_eq!(found["metadata"]["labels"]["release"], "p");

    let own_path = json!({ "name": "x", "selector": selector, "ports": [1], "path": "/m" });
    let found = workers(own_path, json!({ "watchNamespace": "inference" })).await;
    assert_eq!(found["spec"]["podMetricsEndpoints"][0]["path"], "/m");
    assert_eq!(
        found["spec"]["namespaceSelector"],
        json!({ "matchNames": ["inference"] })
    );
}

/// Every series of a worker needs the labels of its pod, which an honoured label could replace.
#[tokio::test]
async fn the_labels_of_workers_are_those_of_their_pods() {
    let monitor = json!({ "name": "l", "selector": { "matchLabels": { "a": "b" } }, "ports": [1] });
    let found = workers(monitor, json!({})).await;
    assert!(found["spec"]["podMetricsEndpoints"][0]["honorLabels"].is_null());
}
