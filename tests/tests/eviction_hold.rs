//! A controller that cannot see nodes and pods evicts nobody, says so, and goes on when it sees
//! them again.
//!
//! Only its watches are broken, by a proxy: it still leads, and everything it would do to a pod
//! would work. Deadlines end meanwhile, one value falls unseen, and another one rises.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use pd_tests::{
    add_ons::{LOG_ALL, start_control_as},
    control_plane::{ControlPlane, NodeSpec, Options, eventually, throughout},
    late::LateWatches,
    meter,
    supervisor::Process,
};
use pd_tolerations::{Toleration, rewrite};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

const DEADLINE: Duration = Duration::from_mins(1);
const NODES: [&str; 3] = ["due", "unseen", "rise"];
/// How long a pod may stay on a node whose value has fallen a little.
const STAY: Duration = Duration::from_secs(6);

/// As the webhook would store it: above 950 for ever, above 800 for a while.
fn pod(node: &str) -> Pod {
    let above = |value: &str, seconds: Option<u64>| json!({ "key": "sla", "operator": "Gt", "value": value, "effect": "NoExecute", "tolerationSeconds": seconds });
    let list = json!([above("950", None), above("800", Some(STAY.as_secs()))]);
    let list: Vec<Toleration> = serde_json::from_value(list).unwrap();
    let (tolerations, originals) = rewrite::rewrite(&list);
    let originals = serde_json::to_string(&originals).unwrap();
    let pod = json!({
        "metadata": { "name": node, "annotations": { rewrite::ANNOTATION: originals } },
        "spec": {
            "nodeName": format!("{node}-0"),
            "containers": [{ "name": "c", "image": "x" }],
            "terminationGracePeriodSeconds": 0,
            "tolerations": tolerations,
        },
    });
    serde_json::from_value(pod).unwrap()
}

struct Story {
    nodes: Api<Node>,
    pods: Api<Pod>,
    control: Process,
}

impl Story {
    async fn set(&self, node: &str, value: &str) {
        let taint = json!({ "key": "sla", "value": value, "effect": "NoExecute" });
        let patch = Patch::Merge(json!({ "spec": { "taints": [taint] } }));
        let node = format!("{node}-0");
        self.nodes
            .patch(&node, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn is_there(&self, pod: &str) -> bool {
        self.pods.get_opt(pod).await.unwrap().is_some()
    }

    /// The value of a metric.
    async fn metric(&self, name: &str) -> Option<f64> {
        meter::metrics(&self.control).await.ok()?.value(name, &[])
    }

    /// Waits until the metric `name` has `value`.
    async fn until(&self, name: &str, value: f64) {
        eventually(&format!("{name} {value}"), DEADLINE, async || {
            let found = self.metric(name).await;
            (found == Some(value))
                .then_some(())
                .ok_or_else(|| format!("{found:?}\n{}", self.control.log_tail()))
        })
        .await
        .unwrap();
    }
}

/// 1 while evictions are due and may not be made.
const HELD: &str = "pd_scheduler_plugin_evictions_held";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_evicted_while_nodes_and_pods_cannot_be_watched() {
    let node = |prefix: &str| NodeSpec {
        prefix: prefix.to_owned(),
        ..NodeSpec::default()
    };
    let plane = ControlPlane::start(Options {
        nodes: NODES.map(node).to_vec(),
        scheduler: false,
        ..Options::default()
    })
    .await
    .unwrap();
    let way = LateWatches::start(&plane, Duration::ZERO).await.unwrap();
    let flags = ["--eviction-hold-after=2s", LOG_ALL];
    let control = start_control_as(&plane, "pd-control", way.kubeconfig(), &flags)
        .await
        .unwrap();
    let client = plane.client().await.unwrap();
    let story = Story {
        nodes: Api::all(client.clone()),
        pods: Api::default_namespaced(client),
        control,
    };
    for node in NODES {
        story.set(node, "960").await;
        story
            .pods
            .create(&PostParams::default(), &pod(node))
            .await
            .unwrap();
    }
    let before = Instant::now();
    story.set("due", "900").await;
    story.set("rise", "900").await;
    story
        .until("pd_scheduler_plugin_evictions_pending", 2.0)
        .await;

    way.break_watches(true);
    story.set("unseen", "700").await;
    story.set("rise", "960").await;
    story.until(HELD, 1.0).await;
    assert!(before.elapsed() >= STAY, "held before anything was due");
    sleep_until(before + STAY + Duration::from_secs(4)).await;
    for pod in NODES {
        assert!(story.is_there(pod).await, "{pod} went");
    }

    way.break_watches(false);
    for pod in ["due", "unseen"] {
        eventually(&format!("{pod} to go"), DEADLINE, async || {
            let is_there = story.is_there(pod).await;
            (!is_there)
                .then_some(())
                .ok_or_else(|| story.control.log_tail())
        })
        .await
        .unwrap();
    }
    story.until(HELD, 0.0).await;
    throughout(
        "the pod whose value rose stays",
        Duration::from_secs(2),
        async || {
            let stays = story.is_there("rise").await;
            stays.then_some(()).ok_or_else(|| "it went".to_owned())
        },
    )
    .await
    .unwrap();
}
