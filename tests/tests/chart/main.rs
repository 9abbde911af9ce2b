//! The chart: what it renders, what it refuses, what its documents say, and what a real control
//! plane makes of it.
//!
//! Rendering needs helm alone, so most tests look at rendered objects. [`installation`] installs
//! the chart into the shared control plane. This file holds what they share: the values to render
//! with and the way into what came out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

mod alerts;
mod control;
mod dashboards;
mod documentation;
mod extender;
mod installation;
mod manifest;
mod matrix;
mod monitors;
mod options;
mod parts;
mod refusals;
mod rendering;
mod rights;
mod running;
mod scheduler;
mod webhook;

use clap::Parser as _;
use pd_autoscaler::args::Args;
use pd_tests::chart::render;
use serde_json::{Value, json};

/// A value for everything that is empty by default, and another than the default for everything
/// that is a flag.
pub(crate) fn everything() -> Value {
    json!({
        "autoscaler": { "console": { "enabled": true, "port": 9085, "hosts": ["pd.example.com", "pd.test"] } },
        "watchNamespace": "inference",
        "controllerClass": "blue",
        "objectSelector": "team in (a, b)",
        "shard": { "count": 4, "index": 3 },
        "drain": { "enabled": true },
        "decisions": { "interval": "7s", "statusInterval": "2m", "checkpointInterval": "3m", "concurrency": 3, "namespaceConcurrency": 2, "placementUrl": "http://pd-control:8082" },
        "prometheus": {
            "url": "http://prometheus:9090", "timeout": "4s", "metricsWindow": "3m",
            "metricsAgeMax": "45s", "namespaceLabel": "ns", "podLabel": "pod_name",
            "gatewayNamespaces": ["aibrix-system", "kthena-system"],
            "groupedQueries": false,
            "auth": { "secretName": "login", "username": "me" },
            "tls": { "caConfigMapName": "authorities", "clientSecretName": "client" },
            "headers": { "X-Scope-OrgID": "a" },
        },
        "tenants": { "allowServerUrls": ["http://p.*.svc:9090", "http://q"], "secretReferences": true, "objectQueries": "Refused" },
        "leaderElection": { "leaseDuration": "30s", "renewDeadline": "20s", "retryPeriod": "5s" },
        "admin": { "host": "[::]", "port": 9000 },
        "log": { "format": "text", "filter": "info,kube=warn" },
        "shutdown": { "gracePeriod": "50s", "terminationGracePeriodSeconds": 60 },
        "kubeconfig": { "secretName": "elsewhere", "key": "config" },
        "imagePullSecrets": [{ "name": "registry" }],
        "extraEnv": [{ "name": "NO_COLOR", "value": "1" }],
        "serviceAccount": { "annotations": { "a": "b" } },
        "podAnnotations": { "a": "b" },
        "podLabels": { "team": "inference", "app.kubernetes.io/name": "mine" },
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [{ "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
        "service": { "annotations": { "a": "b" } },
        "serviceMonitor": { "enabled": true, "interval": "30s", "scrapeTimeout": "10s", "labels": { "a": "b" },
            "relabelings": [{ "action": "labeldrop" }], "metricRelabelings": [{ "action": "drop" }] },
        "podMonitor": { "enabled": true, "interval": "30s", "scrapeTimeout": "10s" },
    })
}

pub(crate) async fn rendered(values: Value) -> Vec<Value> {
    render(&values).await.unwrap()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

pub(crate) fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

pub(crate) fn container(objects: &[Value]) -> &Value {
    let containers = &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 1);
    &containers[0]
}

pub(crate) fn args(objects: &[Value]) -> Vec<String> {
    let args = container(objects)["args"].as_array().unwrap();
    args.iter()
        .map(|arg| arg.as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn parsed(args: &[String]) -> Args {
    let command = std::iter::once("pd-autoscaler".to_owned()).chain(args.iter().cloned());
    Args::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"))
}
