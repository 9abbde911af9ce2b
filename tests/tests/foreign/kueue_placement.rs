//! Pods that both Kueue and a placement group hold back: each takes its own gate off, in any order,
//! and neither waits for the other for ever.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::PlacementGroup;
use pd_tests::{
    add_ons::Controllers,
    control_plane::{
        BLOCK_LABEL, ControlPlane, GPU_RESOURCE, NodeSpec, Options, RACK_LABEL, eventually,
        throughout,
    },
    foreign::kueue::Kueue,
    stage::merge,
};
use serde_json::{Value, json};

use super::kueue::{QUEUE, QUEUE_GATE, any_node, has_gate, set_queue};

const DEADLINE: Duration = Duration::from_mins(2);
const GROUP: &str = "pdautoscaler.io/placement-group";
const ROLE: &str = "pdautoscaler.io/placement-role";
const GATE: &str = "pdautoscaler.io/placement";
const HOST_LABEL: &str = "kubernetes.io/hostname";

/// GPUs of a gang: four pods with a whole node each.
const GANG: u32 = 32;

/// A cluster of two blocks of two racks of two nodes with eight GPUs, the controllers of placement
/// and Kueue.
struct Scene {
    plane: ControlPlane,
    client: Client,
    controllers: Controllers,
    kueue: Kueue,
}

/// Where a gang's pods are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pods {
    nodes: BTreeSet<String>,
    queued: usize,
    gated_by_us: usize,
    all: usize,
}

/// How a gang is put in a queue.
#[derive(Clone, Copy)]
enum Queued {
    /// Each workload: Kueue admits its pods one by one.
    Workloads,
    /// All pods of the gang as one pod group: Kueue admits it whole.
    Together,
}

impl Scene {
    async fn set() -> Self {
        let plane = ControlPlane::start(Options {
            nodes: vec![NodeSpec {
                count: 8,
                gpus: 8,
                nodes_per_rack: 2,
                racks_per_block: 2,
                ..NodeSpec::default()
            }],
            ..Options::default()
        })
        .await
        .unwrap();
        let kueue = Kueue::start(&plane, &json!({})).await.unwrap();
        let values = json!({
            "control": { "placement": { "enabled": true, "window": "20s" } },
            "leaderElection": { "leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "300ms" },
        });
        let controllers = Controllers::start(&plane, &values).await.unwrap();
        let levels = json!([
            { "name": "block", "nodeLabels": [BLOCK_LABEL] },
            { "name": "rack", "nodeLabels": [RACK_LABEL] },
        ]);
        let topology = json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "ClusterTopology",
            "metadata": { "name": "default" }, "spec": { "levels": levels },
        });
        plane.apply(&topology.to_string()).await.unwrap();
        let client = plane.client().await.unwrap();
        Self {
            plane,
            client,
            controllers,
            kueue,
        }
    }

    async fn apply(&self, objects: &[Value]) {
        let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
        self.plane.apply(&objects.join("\n---\n")).await.unwrap();
    }

    async fn pods(&self, gang: &str) -> Pods {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let of_gang = ListParams::default().labels(&format!("{GROUP}={gang}"));
        let mut found = Pods::default();
        for pod in pods.list(&of_gang).await.unwrap() {
            if pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            found.all += 1;
            found.queued += usize::from(has_gate(&pod, QUEUE_GATE));
            found.gated_by_us += usize::from(has_gate(&pod, GATE));
            found.nodes.extend(pod.spec.and_then(|spec| spec.node_name));
        }
        found
    }

    async fn state(&self, gang: &str) -> (String, String) {
        let groups: Api<PlacementGroup> = Api::namespaced(self.client.clone(), "default");
        let status = groups.get(gang).await.unwrap().status.unwrap_or_default();
        (status.state, status.message)
    }

    /// Waits until the group is in `state` with `pods` of its pods on nodes; gives those.
    async fn until(&self, gang: &str, state: &str, pods: usize) -> BTreeSet<String> {
        let what = format!("{gang} to be {state} with {pods} pods on nodes");
        eventually(&what, DEADLINE, async || {
            let (now, message) = self.state(gang).await;
            let found = self.pods(gang).await;
            if now == state && found.nodes.len() == pods {
                return Ok(found.nodes);
            }
            let (ours, theirs) = (
                self.controllers.process.log_tail(),
                self.kueue.process.log_tail(),
            );
            Err(format!("{now}: {message} {found:?}\n{ours}\n{theirs}"))
        })
        .await
        .unwrap()
    }

    /// The domains of nodes, by the label of their level.
    async fn domains(&self, nodes: &BTreeSet<String>, label: &str) -> BTreeSet<String> {
        let all: Api<Node> = Api::all(self.client.clone());
        let all = all.list(&ListParams::default()).await.unwrap();
        let ours = all
            .into_iter()
            .filter(|node| nodes.contains(&node.name_any()));
        ours.map(|node| node.labels()[label].clone()).collect()
    }

    /// Deletes a gang. Kueue keeps deleted pods of a pod group, for others may take their place,
    /// until the group's Workload is deleted too.
    async fn delete(&self, gang: &str) {
        let (prefill, decode) = (format!("{gang}-prefill"), format!("{gang}-decode"));
        let workloads = ["delete", "deployment", &prefill, &decode];
        self.plane.kubectl(&workloads).await.unwrap();
        let group = ["delete", "placementgroup", gang];
        self.plane.kubectl(&group).await.unwrap();
        let together = [
            "delete",
            "workloads.kueue.x-k8s.io",
            gang,
            "--ignore-not-found",
        ];
        self.plane.kubectl(&together).await.unwrap();
    }
}

/// A placement group in one block, and Deployments of two prefill and two decode pods.
fn gang(name: &str, queue: &str, queued: Queued) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PlacementGroup",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "requiredLevel": "block", "roles": [
            { "name": "prefill", "minReplicas": 2 }, { "name": "decode", "minReplicas": 2 },
        ] },
    })];
    for role in ["prefill", "decode"] {
        let full = format!("{name}-{role}");
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": full, "namespace": "default" },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": { "app": full } },
                "template": {
                    "metadata": { "labels": { "app": full, GROUP: name, ROLE: role } },
                    "spec": { "terminationGracePeriodSeconds": 0, "containers": [
                        { "name": role, "image": "x", "resources": { "limits": { GPU_RESOURCE: "8" } } },
                    ] },
                },
            },
        });
        let change = match queued {
            Queued::Workloads => json!({ "metadata": { "labels": { QUEUE: queue } } }),
            Queued::Together => json!({ "spec": { "template": { "metadata": {
                "labels": { QUEUE: queue, "kueue.x-k8s.io/pod-group-name": name },
                "annotations": { "kueue.x-k8s.io/pod-group-total-count": "4" },
            } } } }),
        };
        merge(&mut object, &change);
        objects.push(object);
    }
    objects
}

/// Kueue admits one gang as a whole, which is then placed in one block; the other holds nothing,
/// and gets its turn when the first is gone.
async fn exactly_one_of_two_runs(scene: &Scene) {
    set_queue(&scene.plane, "default", "one-gang", &any_node(), GANG).await;
    let both = [
        gang("left", "one-gang", Queued::Together),
        gang("right", "one-gang", Queued::Together),
    ];
    scene.apply(&both.concat()).await;
    let (winner, loser) = eventually("one of the gangs to run", DEADLINE, async || {
        for (one, other) in [("left", "right"), ("right", "left")] {
            if scene.pods(one).await.nodes.len() == 4 {
                return Ok((one, other));
            }
        }
        let states = [scene.state("left").await, scene.state("right").await];
        let log = scene.kueue.process.log_tail();
        Err(format!(
            "{states:?}\n{}\n{log}",
            scene.controllers.process.log_tail()
        ))
    })
    .await
    .unwrap();
    let nodes = scene.until(winner, "Placed", 4).await;
    assert_eq!(
        scene.domains(&nodes, BLOCK_LABEL).await.len(),
        1,
        "{nodes:?}"
    );
    let waits = Pods {
        queued: 4,
        gated_by_us: 4,
        all: 4,
        ..Pods::default()
    };
    throughout(
        "the other holds nothing",
        Duration::from_secs(10),
        async || {
            let pods = scene.pods(loser).await;
            if pods == waits {
                Ok(())
            } else {
                Err(format!("{pods:?}"))
            }
        },
    )
    .await
    .unwrap();
    let (state, message) = scene.state(loser).await;
    assert_eq!(state, "WaitingForPods", "{message}");
    a_pod_group_does_not_grow(scene, winner).await;
    scene.delete(winner).await;
    scene.until(loser, "Placed", 4).await;
    scene.delete(loser).await;
}

/// Kueue ends pods beyond the count of their pod group, whoever makes them.
async fn a_pod_group_does_not_grow(scene: &Scene, gang: &str) {
    let decode = format!("{gang}-decode");
    let scale = ["scale", "deployment", &decode, "--replicas=3"];
    scene.plane.kubectl(&scale).await.unwrap();
    let events: Api<Event> = Api::namespaced(scene.client.clone(), "default");
    let ended = eventually("Kueue to end the fifth pod", DEADLINE, async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let mut reasons = events.into_iter().filter_map(|event| event.reason);
        reasons
            .find(|reason| reason == "ExcessPodDeleted")
            .ok_or_else(|| scene.kueue.process.log_tail())
    });
    ended.await.unwrap();
    let nodes = scene.pods(gang).await.nodes;
    assert_eq!(nodes.len(), 4, "{nodes:?}");
}

/// Of two services in one queue that scale, all pods of the one with the higher priority go first:
/// Kueue takes the quota back that pods of the other hold, and those wait in the queue again.
async fn a_service_with_priority_gets_the_quota(scene: &Scene) {
    set_queue(&scene.plane, "default", "by-priority", &any_node(), GANG).await;
    let preempts = json!({ "spec": { "preemption": { "withinClusterQueue": "LowerPriority" } } });
    let patch = [
        "patch",
        "clusterqueue",
        "by-priority",
        "--type=merge",
        "-p",
        &preempts.to_string(),
    ];
    scene.plane.kubectl(&patch).await.unwrap();
    let mut objects = Vec::new();
    for (name, priority) in [("minor", 100), ("major", 200)] {
        objects.push(json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass",
            "metadata": { "name": name }, "value": priority,
        }));
        let mut of_gang = gang(name, "by-priority", Queued::Workloads);
        for workload in &mut of_gang[1..] {
            let label =
                json!({ "metadata": { "labels": { "kueue.x-k8s.io/priority-class": name } } });
            merge(workload, &label);
        }
        objects.extend(of_gang);
    }
    // Two pods of the minor one hold quota, and wait for the others of their gang.
    let of_minor: Vec<Value> = objects[..3].to_vec();
    scene.apply(&of_minor).await;
    eventually(
        "a part of the minor gang to be admitted",
        DEADLINE,
        async || {
            let pods = scene.pods("minor").await;
            if (pods.all, pods.queued, pods.gated_by_us) == (2, 0, 2) {
                Ok(())
            } else {
                Err(format!("{pods:?}"))
            }
        },
    )
    .await
    .unwrap();
    scene.apply(&objects[3..]).await;
    scene.until("major", "Placed", 4).await;
    eventually(
        "the minor gang to wait in the queue",
        DEADLINE,
        async || {
            let pods = scene.pods("minor").await;
            if (pods.all, pods.queued) == (4, 4) && pods.nodes.is_empty() {
                Ok(())
            } else {
                Err(format!("{pods:?}\n{}", scene.kueue.process.log_tail()))
            }
        },
    )
    .await
    .unwrap();
    scene.delete("major").await;
    scene.until("minor", "Placed", 4).await;
    scene.delete("minor").await;
}

/// Workloads in a queue are admitted pod by pod, so they can be scaled: a further replica waits for
/// quota, and then joins the others in their block.
async fn a_replica_that_waits_for_quota_joins_its_block(scene: &Scene) {
    set_queue(&scene.plane, "default", "by-pod", &any_node(), GANG - 8).await;
    scene
        .apply(&gang("grows", "by-pod", Queued::Workloads))
        .await;
    let short = eventually("three pods to be admitted", DEADLINE, async || {
        let pods = scene.pods("grows").await;
        if pods.all == 4 && pods.queued == 1 {
            Ok(pods)
        } else {
            Err(format!("{pods:?}\n{}", scene.kueue.process.log_tail()))
        }
    });
    let short = short.await.unwrap();
    assert_eq!(
        (short.gated_by_us, short.nodes.len()),
        (4, 0),
        "a part of a gang is of no use"
    );
    set_queue(&scene.plane, "default", "by-pod", &any_node(), GANG).await;
    let nodes = scene.until("grows", "Placed", 4).await;
    let block = scene.domains(&nodes, BLOCK_LABEL).await;
    assert_eq!(block.len(), 1);

    // The block is full: with quota for one more, the room of the block is what is missing.
    let scale = ["scale", "deployment", "grows-decode", "--replicas=3"];
    scene.plane.kubectl(&scale).await.unwrap();
    eventually("a fifth pod in the queue", DEADLINE, async || {
        let pods = scene.pods("grows").await;
        if (pods.all, pods.queued) == (5, 1) {
            Ok(())
        } else {
            Err(format!("{pods:?}"))
        }
    })
    .await
    .unwrap();
    set_queue(&scene.plane, "default", "by-pod", &any_node(), GANG + 8).await;
    scene.until("grows", "PlacedInPart", 4).await;
    let pods = scene.pods("grows").await;
    assert_eq!(
        (pods.queued, pods.gated_by_us),
        (0, 1),
        "admitted, and without room: {pods:?}"
    );
    scene.delete("grows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gangs_of_two_gates_run_or_hold_nothing() {
    let scene = Scene::set().await;
    exactly_one_of_two_runs(&scene).await;
    a_replica_that_waits_for_quota_joins_its_block(&scene).await;
    a_service_with_priority_gets_the_quota(&scene).await;
    let log = scene.controllers.process.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    assert!(!log.contains("forbidden"), "{log}");
}

/// A queue whose flavor has a topology of Kueue's with these levels, by their node labels.
async fn set_queue_with_topology(scene: &Scene, name: &str, labels: &[&str]) {
    let levels = labels.iter().map(|label| json!({ "nodeLabel": label }));
    let topology = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Topology", "metadata": { "name": name },
        "spec": { "levels": levels.collect::<Vec<_>>() },
    });
    scene.apply(&[topology]).await;
    let flavor = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor",
        "metadata": { "name": name },
        "spec": { "nodeLabels": { "kubernetes.io/os": "linux" }, "topologyName": name },
    });
    set_queue(&scene.plane, "default", name, &flavor, GANG).await;
}

/// A gang in such a queue, its pods in one domain of `label`. To Kueue pods with the same requests
/// and ports are of one pod set, unless an annotation says otherwise: then each role is in one
/// domain for itself.
fn gang_with_topology(name: &str, queue: &str, label: &str, is_by_role: bool) -> Vec<Value> {
    let mut objects = gang(name, queue, Queued::Together);
    for (object, role) in objects[1..].iter_mut().zip(["prefill", "decode"]) {
        let mut annotations = json!({ "kueue.x-k8s.io/podset-required-topology": label });
        if is_by_role {
            annotations["kueue.x-k8s.io/role-hash"] = json!(role);
        }
        let level =
            json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        merge(object, &level);
    }
    objects
}

/// The values of a label that the node selectors of a gang's pods name. Each pod is on a node that
/// has all labels of its selector.
async fn named(scene: &Scene, gang: &str, label: &str) -> Vec<String> {
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), "default");
    let of_gang = ListParams::default().labels(&format!("{GROUP}={gang}"));
    let mut named = Vec::new();
    for pod in pods.list(&of_gang).await.unwrap() {
        let spec = pod.spec.unwrap();
        let selector = spec.node_selector.unwrap_or_default();
        let node = nodes.get(&spec.node_name.unwrap()).await.unwrap();
        let has_label = |(key, value)| node.labels().get(key) == Some(value);
        assert!(selector.iter().all(has_label), "{selector:?}");
        named.extend(selector.get(label).cloned());
    }
    named
}

/// With topology-aware scheduling Kueue names the domain of each pod, too: its own gate goes when
/// it has added that to the pod's node selector, and ours keeps to it.
async fn pods_go_to_the_racks_that_kueue_names(scene: &Scene) {
    set_queue_with_topology(scene, "in-racks", &[BLOCK_LABEL, RACK_LABEL]).await;
    for (name, label, is_by_role) in [("near", RACK_LABEL, true), ("split", BLOCK_LABEL, false)] {
        let mut objects = gang_with_topology(name, "in-racks", label, is_by_role);
        let spec = objects[0]["spec"].as_object_mut().unwrap();
        spec.remove("requiredLevel");
        scene.apply(&objects).await;
        let nodes = scene.until(name, "Placed", 4).await;
        let racks = scene.domains(&nodes, RACK_LABEL).await;
        assert_eq!(racks.len(), 2, "{racks:?}");
        let named = named(scene, name, RACK_LABEL).await;
        assert_eq!(named.len(), 4, "a rack for each pod: {named:?}");
        scene.delete(name).await;
    }
}

/// Down to the node's name Kueue gives each pod of a role a node selector of its own.
async fn pods_go_to_the_nodes_that_kueue_names(scene: &Scene) {
    let levels = [BLOCK_LABEL, RACK_LABEL, HOST_LABEL];
    set_queue_with_topology(scene, "on-nodes", &levels).await;
    let objects = gang_with_topology("exact", "on-nodes", BLOCK_LABEL, false);
    scene.apply(&objects).await;
    scene.until("exact", "Placed", 4).await;
    let named: BTreeSet<String> = named(scene, "exact", HOST_LABEL)
        .await
        .into_iter()
        .collect();
    assert_eq!(named.len(), 4, "each pod has a node of its own: {named:?}");
    scene.delete("exact").await;
}

/// A level that the group requires and Kueue's choice breaks is kept: nothing is placed, and the
/// group says which pod has no place. Kueue then holds quota for a gang that waits.
async fn a_level_that_kueue_breaks_is_kept(scene: &Scene) {
    set_queue_with_topology(scene, "anywhere", &[RACK_LABEL, HOST_LABEL]).await;
    let mut objects = gang_with_topology("torn", "anywhere", RACK_LABEL, true);
    objects[0]["spec"]["requiredLevel"] = json!("rack");
    scene.apply(&objects).await;
    let waits = eventually("the gang to wait", DEADLINE, async || {
        let (state, message) = scene.state("torn").await;
        if state == "WaitingForRoom" {
            Ok(message)
        } else {
            Err(format!("{state}: {message}"))
        }
    });
    let message = waits.await.unwrap();
    assert!(message.contains("within the group's levels"), "{message}");
    let span = Duration::from_secs(10);
    throughout("nothing is placed", span, async || {
        let pods = scene.pods("torn").await;
        if (pods.all, pods.queued, pods.gated_by_us) == (4, 0, 4) && pods.nodes.is_empty() {
            Ok(())
        } else {
            Err(format!("{pods:?}"))
        }
    })
    .await
    .unwrap();
    let patch = json!({ "spec": { "requiredLevel": null } }).to_string();
    let patch = [
        "patch",
        "placementgroup",
        "torn",
        "--type=merge",
        "-p",
        &patch,
    ];
    scene.plane.kubectl(&patch).await.unwrap();
    scene.until("torn", "Placed", 4).await;
    scene.delete("torn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gangs_that_kueue_gives_a_topology_are_placed_where_it_says() {
    let scene = Scene::set().await;
    pods_go_to_the_racks_that_kueue_names(&scene).await;
    pods_go_to_the_nodes_that_kueue_names(&scene).await;
    a_level_that_kueue_breaks_is_kept(&scene).await;
    let log = scene.controllers.process.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}
