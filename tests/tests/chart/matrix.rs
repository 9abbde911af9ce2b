//! Everything the chart can render is taken by a real API server, with the CRDs of the Prometheus
//! operator: `helm template | kubectl apply --dry-run=server`, over a matrix of values.

use std::{fs, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use pd_tests::{
    chart::template,
    control_plane::{ControlPlane, Namespace, eventually, shared},
    tools,
};
use serde_json::{Value, json};

use super::everything;

const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";

/// Installs the operator's CRDs of what the chart makes for it.
async fn operator_crds(plane: &ControlPlane) {
    let source = tokio::task::spawn_blocking(|| tools::source("prometheus-operator", OPERATOR));
    let directory = source
        .await
        .unwrap()
        .unwrap()
        .join("example/prometheus-operator-crd");
    let crds = Api::<CustomResourceDefinition>::all(plane.client().await.unwrap());
    for kind in ["podmonitors", "servicemonitors", "prometheusrules"] {
        let text = fs::read_to_string(directory.join(format!("monitoring.coreos.com_{kind}.yaml")))
            .unwrap();
        let crd: Value = serde_saphyr::from_str(&text).unwrap();
        let name = format!("{kind}.monitoring.coreos.com");
        // They are too large for the annotation of a client-side apply.
        let apply = PatchParams::apply("matrix").force();
        crds.patch(&name, &apply, &Patch::Apply(&crd))
            .await
            .unwrap();
        eventually(&name, Duration::from_secs(30), async || {
            let crd = crds.get(&name).await.map_err(|error| error.to_string())?;
            let status = crd
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let served = status
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True");
            served.then_some(()).ok_or_else(|| format!("{status:?}"))
        })
        .await
        .unwrap();
    }
}

/// Values that bring every template, and every branch of one.
fn matrix(namespace: &str) -> Vec<(&'static str, Value)> {
    let enabled = json!({ "enabled": true });
    let monitoring = |mut values: Value| {
        for part in [
            "serviceMonitor",
            "podMonitor",
            "prometheusRule",
            "dashboards",
        ] {
            values[part] = enabled.clone();
        }
        let selector = json!({ "matchLabels": { "app": "llama" } });
        values["workerMonitors"] = json!([
            { "name": "llama", "selector": selector, "ports": ["http", 8200] },
            { "name": "trt", "engine": "TensorRTLLM", "selector": selector, "ports": [8000], "namespaces": ["a"] },
        ]);
        values
    };
    let mut all = everything();
    all["watchNamespace"] = namespace.into();
    vec![
        ("the defaults", json!({})),
        (
            "one replica",
            json!({ "replicas": 1, "leaderElection": { "enabled": false } }),
        ),
        (
            "one namespace",
            json!({ "watchNamespace": namespace, "crds": { "enabled": false } }),
        ),
        (
            "no rights and no service",
            json!({
                "rbac": { "create": false }, "serviceAccount": { "create": false }, "service": { "enabled": false },
                "podDisruptionBudget": { "enabled": false },
            }),
        ),
        ("everything about the controller", monitoring(all)),
        (
            "every part",
            monitoring(json!({
                "webhook": enabled, "extender": enabled,
                "prometheus": { "url": "http://prometheus:9090", "auth": { "serviceAccountToken": { "enabled": true } } },
                "control": { "enabled": true, "publisher": { "config": { "interval": "30s" } },
                    "eviction": { "method": "evict", "groupLabel": "app", "perMinute": 6 },
                    "preflight": { "tryWebhook": true } },
            })),
        ),
        (
            "policies, plain HTTP and another's certificate",
            monitoring(json!({
                "webhook": { "enabled": true, "edition": "policy" },
                "extender": { "enabled": true, "tls": { "secretName": "theirs" }, "service": { "type": "NodePort", "nodePort": 31234 } },
                "control": { "enabled": true, "dryRun": true },
                "prometheus": { "tls": { "caSecretName": "ca" } },
            })),
        ),
        (
            "extender without TLS",
            json!({ "extender": { "enabled": true, "replicas": 1, "tls": { "enabled": false } } }),
        ),
    ]
}

#[tokio::test]
async fn the_api_server_takes_what_the_chart_renders() {
    let plane = shared().await.unwrap();
    operator_crds(plane).await;
    let namespace = Namespace::create(plane, "matrix").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut refused = Vec::new();
    for (name, values) in matrix(namespace.name()) {
        let text = template(&values, &["--namespace", namespace.name()])
            .await
            .unwrap();
        let file = directory.path().join("rendered.yaml");
        fs::write(&file, text).unwrap();
        let file = file.to_string_lossy();
        // On the server's side, since tests beside this one install and remove the same CRDs: what
        // is there at one moment need not be at the next.
        let command = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            &file,
        ];
        if let Err(error) = plane.kubectl(&command).await {
            refused.push(format!("{name}: {error}"));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
