//! Workloads in a queue of Kueue: replicas come as far as its quota goes, and what a PDAutoscaler
//! says of the others.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use pd_tests::{
    control_plane::{ControlPlane, GPU_RESOURCE, eventually, throughout},
    foreign::kueue::Kueue,
    stage::{DEADLINE, Stage, merge, prepared_cluster, workload},
    supervisor::Process,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The label that puts a workload, or a pod, in a queue.
pub(crate) const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The gate of a pod that waits in its queue.
pub(crate) const QUEUE_GATE: &str = "kueue.x-k8s.io/admission";

/// Kueue beside the shared cluster, for all tests of this process.
static KUEUE: OnceCell<Kueue> = OnceCell::const_new();

/// Brings Kueue up beside the shared cluster. Once its webhooks are there and until it answers, no
/// Deployment and no pod can be made: every test of that cluster waits for it first.
pub(crate) async fn brought_up() {
    let plane = prepared_cluster().await.unwrap();
    let kueue = KUEUE.get_or_try_init(async || Kueue::start(plane, &json!({})).await);
    kueue.await.unwrap();
}

/// A queue `name` of `namespace` with so many GPUs of `flavor`.
pub(crate) async fn set_queue(
    plane: &ControlPlane,
    namespace: &str,
    name: &str,
    flavor: &Value,
    gpus: u32,
) {
    let resources = json!([{ "name": GPU_RESOURCE, "nominalQuota": gpus.to_string() }]);
    let flavor_name = &flavor["metadata"]["name"];
    let objects = [
        flavor.clone(),
        json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": { "name": name },
            "spec": { "namespaceSelector": {}, "resourceGroups": [{
                "coveredResources": [GPU_RESOURCE],
                "flavors": [{ "name": flavor_name, "resources": resources }],
            }] },
        }),
        json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue",
            "metadata": { "name": name, "namespace": namespace }, "spec": { "clusterQueue": name },
        }),
    ];
    let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
    plane.apply(&objects.join("\n---\n")).await.unwrap();
}

/// A flavor of all nodes.
pub(crate) fn any_node() -> Value {
    json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor",
        "metadata": { "name": "any-node" },
    })
}

pub(crate) fn has_gate(pod: &Pod, name: &str) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| gates.iter().any(|gate| gate.name == name))
}

/// Pods of the stage that run, and those that wait in the queue.
async fn running_and_waiting(stage: &Stage) -> (usize, usize) {
    let pods: Api<Pod> = Api::default_namespaced(stage.client.clone());
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    // The controller's own pods are in the namespace, too.
    let there = pods.iter().filter(|pod| {
        pod.name_any().starts_with("llama-") && pod.metadata.deletion_timestamp.is_none()
    });
    let (mut running, mut waiting) = (0, 0);
    for pod in there {
        if has_gate(pod, QUEUE_GATE) {
            waiting += 1;
        } else if pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        {
            running += 1;
        } else {
            eprintln!("{} is neither", pod.name_any());
        }
    }
    (running, waiting)
}

/// The stage's namespace as the name of its queue, with so many GPUs.
async fn quota(stage: &Stage, gpus: u32) {
    let (plane, name) = (stage.namespace.plane(), stage.namespace.name());
    set_queue(plane, name, name, &any_node(), gpus).await;
}

async fn until_running(stage: &Stage, wanted: impl Fn(usize, usize) -> bool) -> (usize, usize) {
    eventually("pods as the quota has them", DEADLINE, async || {
        let (running, waiting) = running_and_waiting(stage).await;
        if wanted(running, waiting) {
            Ok((running, waiting))
        } else {
            let decision = stage.last_decision().await;
            Err(format!("{running} run, {waiting} wait; {decision}"))
        }
    })
    .await
    .unwrap()
}

/// A service in a queue with so many GPUs, one replica of each role running, under a load for which
/// eight more would not be enough.
async fn queued(prefix: &str, gpus: u32, change: &Value) -> (Stage, Process) {
    brought_up().await;
    let stage = Stage::set(prefix).await.unwrap();
    quota(&stage, gpus).await;
    stage.load(4.0, 1_500.0, 100.0).unwrap();
    for role in ["prefill", "decode"] {
        let mut object = workload("Deployment", role, 1);
        let queued = json!({ "metadata": { "labels": { QUEUE: stage.namespace.name() } } });
        merge(&mut object, &queued);
        stage.namespace.apply(&object.to_string()).await.unwrap();
    }
    stage.autoscale(change).await.unwrap();
    let controller = stage.controller("one").await.unwrap();
    let ready = stage.until_condition("llama", "Ready", "True", &["Ready"]);
    ready.await.unwrap();
    stage.load(20.0, 12_000.0, 100.0).unwrap();
    (stage, controller)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_as_far_as_the_quota_and_the_others_wait() {
    let (stage, _controller) = queued("kueue", 4, &json!({})).await;
    stage
        .until_replicas("more than the quota", |p, d| p + d > 4)
        .await
        .unwrap();
    until_running(&stage, |running, waiting| running == 4 && waiting > 0).await;
    let condition = stage.until_condition("llama", "ScalingLimited", "True", &["ScaleUpBackedOff"]);
    let message = condition.await.unwrap();
    assert!(message.contains("QuotaExceeded"), "{message}");

    // Those that wait come as soon as there is quota, and more with them.
    quota(&stage, 32).await;
    until_running(&stage, |running, waiting| running > 6 && waiting == 0).await;
}

/// After `stuckAfter` the request goes back to the replicas that run, and a single one tries later.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_stays_full_is_not_waited_for() {
    let soon = json!({ "behavior": { "lead": { "assumed": "10s", "stuckAfter": "1m" } } });
    let (stage, _controller) = queued("kueue-full", 2, &soon).await;
    until_running(&stage, |_, waiting| waiting > 0).await;
    // A minute must pass with one controller in the lead, and on a busy machine its lease may end.
    let cancelled = async || stage.until_event("llama", "ScaleUpCancelled").await;
    let note = match cancelled().await {
        Ok(note) => note,
        Err(_) => cancelled().await.unwrap(),
    };
    assert!(note.contains("QuotaExceeded"), "{note}");
    let (running, _) = until_running(&stage, |_, waiting| waiting == 0).await;
    assert_eq!(running, 2, "those that run stay");
    let span = Duration::from_secs(10);
    throughout("those that run stay", span, async || {
        let (now, waiting) = running_and_waiting(&stage).await;
        if now == running && waiting <= 1 {
            Ok(())
        } else {
            Err(format!("{now} run, {waiting} wait"))
        }
    })
    .await
    .unwrap();
}
