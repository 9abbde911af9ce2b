//! The plain manifests in `deploy/`, for those without helm: what the chart renders by default, in
//! a namespace of its own.
//!
//! The CRDs are a file for themselves, because they are ten times as long as all the rest. Labels
//! by which helm knows its objects are left out: helm knows nothing of these.

use std::{fs, path::PathBuf, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use pd_tests::{
    chart::{self, template_as},
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
};
use serde_json::{Value, json};

/// Release and namespace, as the documents install the chart.
const RELEASE: &str = "pd-autoscaler";
const NAMESPACE: &str = "pd-system";

/// The command by which the documents apply them.
const COMMAND: &str =
    "kubectl apply --server-side -f deploy/crds.yaml -f deploy/pd-autoscaler.yaml";

const HEAD: &str = "# Made from charts/pd-autoscaler: `PD_UPDATE=1 cargo test -p pd-tests --test chart the_manifests`.\n";

const NAMESPACE_MANIFEST: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: pd-system\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n";

const DEADLINE: Duration = Duration::from_mins(1);

fn folder() -> PathBuf {
    chart::directory().join("../../deploy")
}

/// Both files with their contents.
async fn manifests() -> [(&'static str, String); 2] {
    let of = async |values: Value, arguments: &[&str]| {
        let mut all = vec!["--skip-tests"];
        all.extend(arguments);
        let text = template_as(RELEASE, NAMESPACE, &values, &all)
            .await
            .unwrap();
        without_helm(&text)
    };
    let crds = of(
        json!({ "crds": { "keep": false } }),
        &["--show-only=templates/crds.yaml"],
    );
    let rest = of(json!({ "crds": { "enabled": false } }), &[]);
    [
        ("crds.yaml", format!("{HEAD}{}", crds.await)),
        (
            "pd-autoscaler.yaml",
            format!("{HEAD}{NAMESPACE_MANIFEST}{}", rest.await),
        ),
    ]
}

/// The text without helm's own labels and comments.
fn without_helm(text: &str) -> String {
    let is_helms = |line: &str| {
        let line = line.trim_start();
        line.starts_with("helm.sh/chart:")
            || line == "app.kubernetes.io/managed-by: Helm"
            || line.starts_with("# Source: ")
    };
    let kept = text.lines().filter(|line| !is_helms(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects.collect()
}

#[tokio::test]
async fn the_manifests_are_those_of_the_chart() {
    let update = std::env::var_os("PD_UPDATE").is_some();
    for (name, made) in manifests().await {
        let path = folder().join(name);
        if update {
            fs::write(&path, made).unwrap();
            continue;
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == made,
            "deploy/{name} differs from the chart; run \
             `PD_UPDATE=1 cargo test -p pd-tests --test chart the_manifests` and commit the result"
        );
    }
}

/// The object without the labels and annotations by which helm knows it.
fn not_of_helm(mut object: Value) -> Value {
    match &mut object {
        Value::Object(map) => {
            map.retain(|key, value| !key.starts_with("helm.sh/") && *value != "Helm");
            let whole = std::mem::take(map).into_iter();
            *map = whole
                .map(|(key, value)| (key, not_of_helm(value)))
                .collect();
        }
        Value::Array(list) => *list = list.drain(..).map(not_of_helm).collect(),
        _ => {}
    }
    object
}

#[tokio::test]
async fn the_manifests_are_the_objects_of_the_chart_and_the_namespace() {
    let chart = template_as(RELEASE, NAMESPACE, &json!({}), &["--skip-tests"])
        .await
        .unwrap();
    let mut want: Vec<Value> = objects(&chart).into_iter().map(not_of_helm).collect();
    want.extend(objects(NAMESPACE_MANIFEST));
    let made = manifests().await;
    let mut found: Vec<Value> = made.iter().flat_map(|(_, text)| objects(text)).collect();
    for list in [&mut want, &mut found] {
        list.sort_by_cached_key(|object| {
            format!("{} {}", object["kind"], object["metadata"]["name"])
        });
    }
    assert!(found.len() > 10);
    assert!(
        found == want,
        "the manifests and the chart have other objects"
    );
    assert!(
        made.iter()
            .all(|(_, text)| !text.contains("helm.sh/") && !text.contains(": Helm"))
    );
}

#[test]
fn the_documents_apply_both_files_in_one_command() {
    let root = chart::directory().join("../..");
    for page in ["docs/release.md", "charts/pd-autoscaler/README.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        assert!(text.contains(COMMAND), "{page} does not say `{COMMAND}`");
    }
}

#[tokio::test]
async fn a_cluster_without_anything_runs_them_after_one_command() {
    let plane = ControlPlane::start(Options {
        nodes: vec![NodeSpec::default()],
        ..Options::default()
    })
    .await
    .unwrap();
    let path = |name: &str| folder().join(name).display().to_string();
    let (crds, rest) = (path("crds.yaml"), path("pd-autoscaler.yaml"));
    let command = ["apply", "--server-side", "-f", &crds, "-f", &rest];
    plane.kubectl(&command).await.unwrap();
    let deployments = Api::<Deployment>::namespaced(plane.client().await.unwrap(), NAMESPACE);
    eventually("both controllers to be available", DEADLINE, async || {
        let found = deployments
            .get(RELEASE)
            .await
            .map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        let ready = status.available_replicas == Some(2);
        ready.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await
    .unwrap();
    // Applied once more, nothing changes; the CRDs are served.
    plane.kubectl(&command).await.unwrap();
    plane
        .kubectl(&["get", "pdautoscalers", "-A"])
        .await
        .unwrap();
}
