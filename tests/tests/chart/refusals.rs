//! Refusals of the chart: values it does not know or cannot use, and clusters that are too old.

use std::{fmt::Write as _, fs};

use pd_tests::chart::{self, render, template};
use serde_json::{Value, json};

#[tokio::test]
async fn wrong_values_are_refused_by_name() {
    let cases = [
        (json!({ "replicaCount": 3 }), "'replicaCount' not allowed"),
        (
            json!({ "decisions": { "intervall": "15s" } }),
            "at '/decisions': additional properties 'intervall'",
        ),
        (
            json!({ "decisions": { "interval": 15 } }),
            "at '/decisions/interval': got number, want string",
        ),
        (
            json!({ "decisions": { "interval": "0s" } }),
            "at '/decisions/interval': '0s' does not match",
        ),
        (
            json!({ "decisions": { "concurrency": 0 } }),
            "at '/decisions/concurrency': minimum",
        ),
        (json!({ "replicas": -1 }), "at '/replicas': minimum"),
        (
            json!({ "prometheus": { "url": "prometheus:9090" } }),
            "at '/prometheus/url': 'prometheus:9090'",
        ),
        (
            json!({ "prometheus": { "podLabel": "a-b" } }),
            "at '/prometheus/podLabel'",
        ),
        (json!({ "watchNamespace": "a.b" }), "at '/watchNamespace'"),
        (
            json!({ "log": { "format": "xml" } }),
            "at '/log/format': value must be one of 'json', 'text'",
        ),
        (
            json!({ "admin": { "port": 70000 } }),
            "at '/admin/port': maximum",
        ),
        (
            json!({ "image": { "digest": "sha256:1" } }),
            "at '/image/digest'",
        ),
        (
            json!({ "leaderElection": { "enabled": false } }),
            "enable leader election, or set replicas to 1",
        ),
        (
            json!({ "autoscaler": { "console": { "enabled": true, "port": 8080 } } }),
            "both 8080",
        ),
        (
            json!({ "autoscaler": { "console": { "hosts": ["http://pd.example.com"] } } }),
            "at '/autoscaler/console/hosts/0'",
        ),
        (
            json!({ "service": { "enabled": false }, "serviceMonitor": { "enabled": true } }),
            "or use podMonitor",
        ),
        (
            json!({ "webhook": { "preferMargin": "best" } }),
            "at '/webhook/preferMargin': value must be one of 'most', 'least', 'none'",
        ),
        (
            json!({ "webhook": { "enabled": true }, "extender": { "enabled": true, "preferMargin": "least" } }),
            "choose one, or set webhook.preferMargin to none",
        ),
        (
            json!({ "extender": { "enabled": true, "scheduling": { "filter": false, "score": false } } }),
            "enable one, or disable the extender",
        ),
    ];
    refused(&cases).await;
}

#[tokio::test]
async fn margins_that_agree_are_rendered() {
    for (webhook, extender) in [("least", "least"), ("none", "least"), ("most", "most")] {
        let values = json!({ "webhook": { "enabled": true, "preferMargin": webhook },
            "extender": { "enabled": true, "preferMargin": extender } });
        render(&values).await.unwrap();
    }
}

#[tokio::test]
async fn ways_into_prometheus_that_do_not_fit_are_refused() {
    let cases = [
        (
            json!({ "prometheus": { "auth": { "username": "me" } } }),
            "prometheus.auth.secretName",
        ),
        (
            json!({ "prometheus": { "auth": { "secretName": "s", "serviceAccountToken": { "enabled": true } } } }),
            "choose one",
        ),
        (
            json!({ "prometheus": { "tls": { "caSecretName": "s", "caConfigMapName": "c" } } }),
            "choose one",
        ),
        (
            json!({ "tenants": { "allowServerUrls": ["prometheus:9090"] } }),
            "at '/tenants/allowServerUrls/0'",
        ),
    ];
    refused(&cases).await;
}

/// Renders each values, which must be refused with the text beside them.
async fn refused(cases: &[(Value, &str)]) {
    let mut wrong = String::new();
    for (values, want) in cases {
        match render(values).await {
            Ok(_) => writeln!(wrong, "{values} is accepted").unwrap(),
            Err(error) if error.to_string().contains(*want) => {}
            Err(error) => writeln!(wrong, "{values}: want `{want}`, got {error}").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn versions_agree_and_old_clusters_are_refused() {
    let chart = fs::read_to_string(chart::directory().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    for version in ["1.33.0", "1.33.2-gke.100", "1.37.1"] {
        template(&json!({}), &["--kube-version", version])
            .await
            .unwrap();
    }
    let error = template(&json!({}), &["--kube-version", "1.32.9"])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("chart requires kubeVersion"), "{error}");
}
