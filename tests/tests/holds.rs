//! Daemon pods on a real controller-manager, with the gate off and us: a `NoSchedule` number that
//! goes bad lets a pod run on that runs, as Kubernetes does with the gate on, and keeps new ones
//! away; a `NoExecute` number does not.
//!
//! Beside them a `DaemonSet` with the same affinity and nothing that holds its pods shows that the
//! controller deletes on a mismatch.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_tests::{
    add_ons::{start_control, start_webhook},
    control_plane::{ControlPlane, NodeSpec, Options, eventually},
};
use pd_tolerations::{
    Effect,
    mirror::{Requirement, label},
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_mins(1);

fn daemon_set(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["containers"] = json!([{ "name": "c", "image": "x" }]);
    spec["terminationGracePeriodSeconds"] = json!(0);
    json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name, "namespace": "default" }, "spec": {
        "selector": { "matchLabels": { "app": name } },
        "template": { "metadata": { "labels": { "app": name } }, "spec": spec } } })
}

fn numeric(name: &str, effect: &str) -> Value {
    let above = json!([{ "key": "sla", "operator": "Gt", "value": "950", "effect": effect }]);
    daemon_set(name, &json!({ "tolerations": above }))
}

/// A set with the affinity that the webhook would write without a hold.
fn unheld(name: &str) -> Value {
    let key = label("sla", &Effect::NoSchedule).unwrap();
    let above = Requirement::new(&key, "Gt", &["950".to_owned()]);
    daemon_set(
        name,
        &json!({
            "tolerations": [{ "key": "sla", "operator": "Exists", "effect": "NoSchedule" }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [above] }] } } },
        }),
    )
}

/// The UIDs of the pods of each app that are on a node and not going.
async fn running(client: &Client) -> BTreeMap<String, String> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    all.into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| {
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some())
        })
        .map(|pod| (pod.labels()["app"].clone(), pod.uid().unwrap()))
        .collect()
}

async fn until_running(client: &Client, apps: &[&str]) -> BTreeMap<String, String> {
    eventually(&format!("{apps:?} to run"), DEADLINE, async || {
        let running = running(client).await;
        if running.keys().map(String::as_str).eq(apps.iter().copied()) {
            Ok(running)
        } else {
            Err(format!("{running:?}"))
        }
    })
    .await
    .unwrap()
}

async fn taint(plane: &ControlPlane, taint: &str) {
    let arguments = ["taint", "node", "node-0", "--overwrite", taint];
    plane.kubectl(&arguments).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_about_placing_takes_no_daemon_pod_that_runs() {
    let plane = ControlPlane::start(Options {
        nodes: vec![NodeSpec {
            prefix: "node".to_owned(),
            ..NodeSpec::default()
        }],
        ..Options::default()
    })
    .await
    .unwrap();
    let client = plane.client().await.unwrap();
    let control = start_control(&plane, &[]).await.unwrap();
    let _webhook = start_webhook(&plane, &json!({})).await.unwrap();
    taint(&plane, "sla=990:NoSchedule").await;
    eventually("the label to mirror the taint", DEADLINE, async || {
        let node = plane
            .kubectl(&["get", "node", "node-0", "--output=json"])
            .await;
        let node = node.map_err(|error| error.to_string())?;
        if node.contains("no-schedule.taint.pdautoscaler.io/sla") {
            Ok(())
        } else {
            Err(control.log_tail())
        }
    })
    .await
    .unwrap();
    for set in [numeric("held", "NoSchedule"), unheld("unheld")] {
        plane.apply(&set.to_string()).await.unwrap();
    }
    let before = until_running(&client, &["held", "unheld"]).await;
    taint(&plane, "sla=900:NoSchedule").await;
    // The controller has looked at the node: it took the one that nothing holds.
    let after = until_running(&client, &["held"]).await;
    assert_eq!(after["held"], before["held"], "the same pod");
    // Nothing holds a place for a pod that is gone.
    plane
        .kubectl(&["delete", "pod", "--selector=app=held"])
        .await
        .unwrap();
    until_running(&client, &[]).await;
    // A NoExecute number is about pods that run.
    plane
        .kubectl(&["delete", "daemonset", "held", "unheld"])
        .await
        .unwrap();
    taint(&plane, "sla:NoSchedule-").await;
    taint(&plane, "sla=990:NoExecute").await;
    let set = numeric("executed", "NoExecute");
    plane.apply(&set.to_string()).await.unwrap();
    until_running(&client, &["executed"]).await;
    taint(&plane, "sla=900:NoExecute").await;
    until_running(&client, &[]).await;
    assert!(
        !control.log().contains("\"level\":\"ERROR\""),
        "{}",
        control.log_tail()
    );
}
