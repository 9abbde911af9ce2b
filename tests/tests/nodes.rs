//! The node side of numeric tolerations on a real control plane: labels that follow taints.
//!
//! Each test has a cluster of its own, for nodes belong to nobody. The controllers are the real binary, killed without
//! mercy where it matters.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use pd_tests::{
    binaries::workspace_binary,
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
    supervisor::{Process, ProcessSpec},
};

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

/// Starts the controllers with quick elections.
async fn control(plane: &ControlPlane, name: &str, flags: &[&str]) -> Process {
    let program = tokio::task::spawn_blocking(|| workspace_binary("pd-scheduler-plugin"))
        .await
        .unwrap()
        .unwrap();
    let mut arguments: Vec<String> = [
        "control",
        "--admin-address=127.0.0.1:0",
        "--leader-election-lease-duration=3s",
        "--leader-election-renew-deadline=2s",
        "--leader-election-retry-period=300ms",
        "--leader-election-namespace=default",
        "--kubeconfig",
        &plane.kubeconfig().to_string_lossy(),
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    let spec = ProcessSpec {
        name: name.to_owned(),
        program,
        arguments,
        environment: vec![("POD_NAME".to_owned(), name.to_owned())],
        log: None,
    };
    plane.spawn(spec).await.unwrap()
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
    until_labelled(&client, "n-1", SLA_LABEL, Some("NaN")).await;
    taint("n-1", "=960:NoExecute").await;
    until_labelled(&client, "n-1", SLA_LABEL, Some("960")).await;
    // What a person changes by hand is put right.
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
    // Another in waiting takes over when the first is gone, and both never fight: versions stand still.
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
