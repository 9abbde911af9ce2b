//! The node side of numeric tolerations on a real control plane: labels that follow taints, taints
//! that follow a real Prometheus, and what preflight says while the gate is off, on, and on in the
//! API server alone.
//!
//! Each test has a cluster of its own, for nodes belong to nobody. The controllers are the real
//! binary, killed without mercy where it matters.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod preflight;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use pd_tests::{
    add_ons::start_control_as,
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
    dashboards,
    prometheus::{Prometheus, PrometheusOptions},
    scrape::{Scrape, until_shown},
    supervisor::Process,
};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(40);
const SLA: &str = "node.kubernetes.io/sla";
const SLA_LABEL: &str = "node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla";

/// A cluster whose nodes are posted as ready and stay as they are.
async fn plain_cluster(nodes: Vec<NodeSpec>) -> ControlPlane {
    ControlPlane::start(Options {
        nodes,
        kwok: false,
        scheduler: false,
        controller_manager: false,
        ..Options::default()
    })
    .await
    .unwrap()
}

fn nodes(prefix: &str, count: usize) -> NodeSpec {
    NodeSpec {
        prefix: prefix.to_owned(),
        count,
        ..NodeSpec::default()
    }
}

async fn control(plane: &ControlPlane, name: &str, flags: &[&str]) -> Process {
    start_control_as(plane, name, plane.kubeconfig(), flags)
        .await
        .unwrap()
}

async fn labels(client: &Client, node: &str) -> BTreeMap<String, String> {
    let node = Api::<Node>::all(client.clone()).get(node).await.unwrap();
    node.metadata.labels.unwrap_or_default()
}

async fn until_labelled(client: &Client, node: &str, label: &str, value: Option<&str>) {
    eventually(
        &format!("{label} of {node} to be {value:?}"),
        DEADLINE,
        async || {
            let labels = labels(client, node).await;
            if labels.get(label).map(String::as_str) == value {
                Ok(())
            } else {
                Err(format!("{labels:?}"))
            }
        },
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_follow_taints_and_touch_nothing_else() {
    let plane = plain_cluster(vec![nodes("n", 3)]).await;
    let client = plane.client().await.unwrap();
    let taint = async |node: &str, taint: &str| {
        let taint = format!("{SLA}{taint}");
        plane
            .kubectl(&["taint", "--overwrite", "node", node, &taint])
            .await
            .unwrap();
    };
    // Left by somebody before; and one that only looks like ours.
    let stale = "no-schedule.taint.pdautoscaler.io/gone=1";
    let foreign = "mytaint.pdautoscaler.io/keep=1";
    plane
        .kubectl(&["label", "node", "n-0", stale, foreign])
        .await
        .unwrap();
    taint("n-0", "=950:NoExecute").await;
    let before = labels(&client, "n-0").await;

    let process = control(&plane, "control-a", &[]).await;
    until_labelled(&client, "n-0", SLA_LABEL, Some("950")).await;
    let mut want = before;
    want.remove("no-schedule.taint.pdautoscaler.io/gone");
    want.insert(SLA_LABEL.to_owned(), "950".to_owned());
    // The API server's own taint of a new node, which nobody takes away here.
    let not_ready = "node.kubernetes.io.no-schedule.taint.pdautoscaler.io/not-ready";
    want.insert(not_ready.to_owned(), String::new());
    assert_eq!(labels(&client, "n-0").await, want);

    taint("n-1", "=0950:NoExecute").await;
    // A text that is no number keeps its own label.
    until_labelled(&client, "n-1", SLA_LABEL, Some("NaN-1-950")).await;
    taint("n-1", "=960:NoExecute").await;
    until_labelled(&client, "n-1", SLA_LABEL, Some("960")).await;
    // A change by hand is put right.
    plane
        .kubectl(&[
            "label",
            "--overwrite",
            "node",
            "n-1",
            &format!("{SLA_LABEL}=1"),
        ])
        .await
        .unwrap();
    until_labelled(&client, "n-1", SLA_LABEL, Some("960")).await;

    // Killed, and the world goes on: a value changes, a taint goes, a node comes.
    process.kill().await.unwrap();
    taint("n-0", "=900:NoExecute").await;
    taint("n-1", ":NoExecute-").await;
    plane.add_nodes(&nodes("late", 1)).await.unwrap();
    taint("late-0", "=990:NoExecute").await;
    let process = control(&plane, "control-b", &[]).await;
    until_labelled(&client, "n-0", SLA_LABEL, Some("900")).await;
    until_labelled(&client, "n-1", SLA_LABEL, None).await;
    until_labelled(&client, "late-0", SLA_LABEL, Some("990")).await;
    assert!(
        !labels(&client, "n-2")
            .await
            .keys()
            .any(|key| key == SLA_LABEL)
    );
    // Another in waiting takes over when the first is gone, and both never fight: versions stand
    // still.
    let waiting = control(&plane, "control-c", &[]).await;
    process.kill().await.unwrap();
    taint("n-2", "=1:NoExecute").await;
    until_labelled(&client, "n-2", SLA_LABEL, Some("1")).await;
    assert!(
        !waiting.log().contains("\"level\":\"ERROR\""),
        "{}",
        waiting.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_do() {
    let plane = plain_cluster(vec![nodes("n", 1)]).await;
    let client = plane.client().await.unwrap();
    plane
        .kubectl(&["taint", "node", "n-0", &format!("{SLA}=950:NoExecute")])
        .await
        .unwrap();
    let before = labels(&client, "n-0").await;
    let process = control(&plane, "control-dry", &["--dry-run"]).await;
    eventually("the log to tell", DEADLINE, async || {
        let log = process.log();
        if log.contains("labels would be written") && log.contains(SLA_LABEL) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await
    .unwrap();
    assert_eq!(labels(&client, "n-0").await, before);
}

/// The value of each node, as a real Prometheus scrapes it, and the publishers' file.
struct Measured {
    prometheus: Prometheus,
    scrape: Scrape,
    values: Arc<Mutex<BTreeMap<&'static str, f64>>>,
    file: PathBuf,
}

impl Measured {
    async fn start(plane: &ControlPlane, publisher: &str) -> Self {
        let values = Arc::<Mutex<BTreeMap<&'static str, f64>>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let shown = values.clone();
        let page = get(async move || {
            let values = shown.lock().unwrap().clone();
            let line = |(node, value)| format!("node_reliability{{node=\"{node}\"}} {value}\n");
            values.into_iter().map(line).collect::<String>()
        });
        let pages = Router::new().route("/metrics", page);
        tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        let scrape = Scrape::new().unwrap();
        let prometheus = Prometheus::start(&PrometheusOptions {
            targets: vec![target],
            scrape_configs: vec![scrape.config()],
            ..PrometheusOptions::default()
        })
        .await
        .unwrap();
        let file = plane.directory().join("publishers.yaml");
        let measured = Self {
            prometheus,
            scrape,
            values,
            file,
        };
        measured.configure(publisher);
        measured
    }

    /// Another version of the file, as a changed `ConfigMap` is another version of its mount.
    fn configure(&self, publisher: &str) {
        let text = format!("interval: 1s\nmaxNodesPerMinute: 3\npublishers:\n- {publisher}\n");
        std::fs::write(&self.file, text).unwrap();
    }

    fn set(&self, node: &'static str, value: f64) {
        self.values.lock().unwrap().insert(node, value);
    }

    async fn control(&self, plane: &ControlPlane, name: &str) -> Process {
        let flags = [
            format!("--prometheus-url={}", self.prometheus.url()),
            format!("--publisher-config={}", self.file.display()),
        ];
        control(plane, name, &flags.each_ref().map(String::as_str)).await
    }
}

/// The taints of a node with our key, as `value:effect` and the time they were added.
async fn slas(client: &Client, node: &str) -> Vec<(String, Option<String>)> {
    let node = Api::<Node>::all(client.clone()).get(node).await.unwrap();
    let taints = node.spec.unwrap().taints.unwrap_or_default();
    let ours = taints.into_iter().filter(|taint| taint.key == SLA);
    ours.map(|taint| {
        let value = taint.value.unwrap_or_default();
        let at = taint.time_added.map(|at| at.0.to_string());
        (format!("{value}:{}", taint.effect), at)
    })
    .collect()
}

async fn until_published(client: &Client, node: &str, want: &str) {
    eventually(&format!("{node} to have {want}"), DEADLINE, async || {
        let slas = slas(client, node).await;
        if slas.iter().any(|(sla, _)| sla == want) {
            Ok(())
        } else {
            Err(format!("{slas:?}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn taints_follow_prometheus_within_their_limits() {
    let plane = plain_cluster(vec![nodes("n", 6)]).await;
    let client = plane.client().await.unwrap();
    let publisher = "{name: sla, key: node.kubernetes.io/sla, effect: NoExecute, query: node_reliability, \
        scale: 10000, maximum: 10000, deadBand: 5, minInterval: 1s, addMissing: true}";
    let measured = Measured::start(&plane, publisher).await;
    // Somebody else's taint with the same key, which is not the publisher's.
    let theirs = format!("{SLA}=1:NoSchedule");
    plane
        .kubectl(&["taint", "node", "n-0", &theirs])
        .await
        .unwrap();
    measured.set("n-0", 0.9951);
    measured.set("n-1", f64::NAN);
    let process = measured.control(&plane, "publisher-a").await;
    measured.scrape.add("control", &process).await.unwrap();
    until_published(&client, "n-0", "9951:NoExecute").await;
    until_labelled(&client, "n-0", SLA_LABEL, Some("9951")).await;
    let added = slas(&client, "n-0").await[1].1.clone();
    assert!(added.is_some());

    // Less than the dead band is nothing; a fall is written, and since when the taint is there
    // stays.
    measured.set("n-0", 0.9954);
    measured.set("n-2", 0.98);
    until_published(&client, "n-2", "9800:NoExecute").await;
    assert_eq!(slas(&client, "n-0").await[1].0, "9951:NoExecute");
    measured.set("n-0", 0.9);
    until_published(&client, "n-0", "9000:NoExecute").await;
    assert_eq!(
        slas(&client, "n-0").await,
        [
            ("1:NoSchedule".to_owned(), None),
            ("9000:NoExecute".to_owned(), added)
        ]
    );
    assert!(slas(&client, "n-1").await.is_empty() && slas(&client, "n-3").await.is_empty());

    // The dashboard shows what was published.
    let all = dashboards::all();
    let panels = all.iter().flat_map(dashboards::Dashboard::panels);
    let of_publisher: Vec<_> = panels
        .filter(|panel| {
            let mut queries = panel.queries.iter();
            queries.any(|query| query.expression.contains("publisher"))
        })
        .collect();
    assert_eq!(of_publisher.len(), 3);
    until_shown(&measured.prometheus, &of_publisher, &[])
        .await
        .unwrap();

    // Three changes are made in this minute: the deepest fall has to wait, whoever runs the
    // controllers.
    process.kill().await.unwrap();
    measured.set("n-2", 0.5);
    let process = measured.control(&plane, "publisher-b").await;
    until_logged(&process, "more changes than allowed").await;
    assert_eq!(slas(&client, "n-2").await[0].0, "9800:NoExecute");

    // Without Prometheus nothing changes, and it is said; a bad file leaves the good one in force.
    measured.prometheus.kill().await.unwrap();
    until_logged(&process, "PublisherHasNoData").await;
    measured.configure("{name: sla}");
    until_logged(&process, "PublisherConfigInvalid").await;
    assert_eq!(slas(&client, "n-2").await[0].0, "9800:NoExecute");
    measured.prometheus.restart().await.unwrap();
    eventually(
        "the fall that waited",
        Duration::from_secs(90),
        async || match slas(&client, "n-2").await {
            slas if slas[0].0 == "5000:NoExecute" => Ok(()),
            slas => Err(format!("{slas:?}")),
        },
    )
    .await
    .unwrap();
    let events = ["get", "events", "--output=jsonpath={.items[*].reason}"];
    let told = plane.kubectl(&events).await.unwrap();
    assert!(told.contains("TaintValuePublished"), "{told}");
}

async fn until_logged(process: &Process, text: &str) {
    eventually(&format!("`{text}` in the log"), DEADLINE, async || {
        if process.log().contains(text) {
            Ok(())
        } else {
            Err(process.log_tail())
        }
    })
    .await
    .unwrap();
}
