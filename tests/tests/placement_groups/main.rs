//! Placement groups on a real scheduler and controller-manager, with the chart's policy, account
//! and arguments: nothing here knows more than a user.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::PlacementGroup;
use pd_tests::{
    add_ons::{Controllers, start_webhook},
    control_plane::{
        BLOCK_LABEL, ControlPlane, GPU_RESOURCE, NodeSpec, Options, RACK_LABEL, eventually,
    },
};
use serde_json::{Value, json};

mod kills;
mod targets;

const DEADLINE: Duration = Duration::from_mins(1);
const GROUP: &str = "pdautoscaler.io/placement-group";
const ROLE: &str = "pdautoscaler.io/placement-role";
const GATE: &str = "pdautoscaler.io/placement";

fn topology() -> Value {
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "ClusterTopology", "metadata": { "name": "default" },
        "spec": { "levels": [
            { "name": "block", "nodeLabels": [BLOCK_LABEL] },
            { "name": "rack", "nodeLabels": [RACK_LABEL] },
        ] },
    })
}

/// A group and a Deployment for each role: name, replicas, GPUs of a pod.
fn gang(name: &str, level: Option<&str>, roles: &[(&str, u32, u32)]) -> Vec<Value> {
    let spec_of =
        |(role, replicas, _): &(&str, u32, u32)| json!({ "name": role, "minReplicas": replicas });
    let mut spec = json!({ "roles": roles.iter().map(spec_of).collect::<Vec<_>>() });
    if let Some(level) = level {
        spec["requiredLevel"] = json!(level);
    }
    let mut objects = vec![json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PlacementGroup",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    })];
    for (role, replicas, gpus) in roles {
        let full = format!("{name}-{role}");
        let limits = json!({ GPU_RESOURCE: gpus.to_string() });
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": full, "namespace": "default" },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": { "app": full } },
                "template": {
                    "metadata": { "labels": { "app": full, GROUP: name, ROLE: role } },
                    "spec": { "terminationGracePeriodSeconds": 0,
                        "containers": [{ "name": "c", "image": "x", "resources": { "limits": limits } }] },
                },
            },
        }));
    }
    objects
}

async fn apply(plane: &ControlPlane, objects: &[Value]) {
    for object in objects {
        plane.apply(&object.to_string()).await.unwrap();
    }
}

/// The pods of a group by their UIDs: node, if it has one, and whether it is gated.
async fn pods(client: &Client, group: &str) -> BTreeMap<String, (Option<String>, bool)> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let selected = ListParams::default().labels(&format!("{GROUP}={group}"));
    let pods = pods.list(&selected).await.unwrap();
    pods.into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| {
            let spec = pod.spec.as_ref().unwrap();
            let gates = spec.scheduling_gates.clone().unwrap_or_default();
            let is_gated = gates.iter().any(|gate| gate.name == GATE);
            (pod.uid().unwrap(), (spec.node_name.clone(), is_gated))
        })
        .collect()
}

async fn group(client: &Client, name: &str) -> PlacementGroup {
    let groups = Api::<PlacementGroup>::namespaced(client.clone(), "default");
    groups.get(name).await.unwrap()
}

/// Waits until pods with the label of a group get their gate: a policy is not in force at once.
async fn until_gated(plane: &ControlPlane) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "probe", "namespace": "default", "labels": { GROUP: "probe" } },
        "spec": { "containers": [{ "name": "c", "image": "x" }] },
    });
    let create = ["create", "-f", "-", "--dry-run=server", "-o", "json"];
    let gated = eventually("pods of groups to be gated", DEADLINE, async || {
        let made = plane.kubectl_with_input(&create, &pod.to_string()).await;
        let made = made.map_err(|error| error.to_string())?;
        let made: Value = serde_json::from_str(&made).map_err(|error| error.to_string())?;
        let mut gates = made["spec"]["schedulingGates"]
            .as_array()
            .into_iter()
            .flatten();
        if gates.any(|gate| gate["name"] == GATE) {
            Ok(())
        } else {
            Err(made.to_string())
        }
    });
    gated.await.unwrap();
}

/// Waits until a group has a state, and gives the nodes of its pods.
async fn until(
    client: &Client,
    controllers: &Controllers,
    name: &str,
    state: &str,
    bound: usize,
) -> BTreeSet<String> {
    let what = format!("{name} to be {state} with {bound} pods on nodes");
    eventually(&what, DEADLINE, async || {
        let status = group(client, name).await.status.unwrap_or_default();
        let pods = pods(client, name).await;
        let on: Vec<String> = pods.values().filter_map(|(node, _)| node.clone()).collect();
        if status.state == state && on.len() == bound {
            Ok(on.into_iter().collect())
        } else {
            let log = controllers.process.log_tail();
            Err(format!(
                "{} {:?}: {}\n{log}",
                status.state, pods, status.message
            ))
        }
    })
    .await
    .unwrap()
}

/// The answer about more replicas of a group.
async fn what_if(controllers: &Controllers, question: &str) -> Value {
    let log = controllers.process.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The last: those before are of processes that were killed.
    let mut lines = lines.rev();
    let listens = lines.find(|line| line["message"] == "what-if listens");
    let address = listens.unwrap()["address"].as_str().unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/what-if/default/{question}");
    client.get(url).send().await.unwrap().json().await.unwrap()
}

async fn racks(client: &Client, nodes: &BTreeSet<String>) -> BTreeSet<String> {
    let all = Api::<Node>::all(client.clone());
    let all = all.list(&ListParams::default()).await.unwrap();
    all.into_iter()
        .filter(|node| nodes.contains(&node.name_any()))
        .map(|node| node.labels()[RACK_LABEL].clone())
        .collect()
}

async fn cluster() -> ControlPlane {
    ControlPlane::start(Options {
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
    .unwrap()
}

fn placement() -> Value {
    json!({
        "control": { "placement": { "enabled": true, "window": "10s" } },
        "leaderElection": { "leaseDuration": "3s", "renewDeadline": "2s", "retryPeriod": "300ms" },
    })
}

/// Two gangs that fit alone and not together: one is placed, the other holds nothing. The first
/// goes, and the second gets its place, though the controllers are killed meanwhile.
async fn one_of_two_is_placed(
    plane: &ControlPlane,
    client: &Client,
    controllers: &mut Controllers,
) {
    apply(
        plane,
        &gang("one", None, &[("prefill", 3, 8), ("decode", 2, 8)]),
    )
    .await;
    until(client, controllers, "one", "Placed", 5).await;
    apply(
        plane,
        &gang("two", None, &[("prefill", 3, 8), ("decode", 2, 8)]),
    )
    .await;
    until(client, controllers, "two", "WaitingForRoom", 0).await;
    let waiting = pods(client, "two").await;
    assert!(
        waiting.len() == 5 && waiting.values().all(|(_, gated)| *gated),
        "{waiting:?}"
    );
    let status = group(client, "two").await.status.unwrap();
    assert!(
        status.message.contains("nvidia.com/gpu short"),
        "{}",
        status.message
    );
    assert_eq!(status.conditions[0].status, "False");
    let deployments = ["delete", "deployment", "one-prefill", "one-decode"];
    plane.kubectl(&deployments).await.unwrap();
    controllers.kill_and_start(plane).await.unwrap();
    until(client, controllers, "two", "Placed", 5).await;
    plane
        .kubectl(&["delete", "placementgroup", "one", "two"])
        .await
        .unwrap();
    plane
        .kubectl(&["delete", "deployment", "two-prefill", "two-decode"])
        .await
        .unwrap();
}

/// A rack for all of it, the same rack after a node is lost, and for more replicas as far as it has
/// room.
async fn all_are_in_one_rack(plane: &ControlPlane, client: &Client, controllers: &Controllers) {
    apply(
        plane,
        &gang("near", Some("rack"), &[("prefill", 2, 2), ("decode", 2, 2)]),
    )
    .await;
    let nodes = until(client, controllers, "near", "Placed", 4).await;
    let before = racks(client, &nodes).await;
    assert_eq!(before.len(), 1, "{nodes:?}");
    // The rack has two nodes of eight GPUs, and four pods of two are there.
    let room = what_if(controllers, "near?prefill=1&decode=3").await;
    assert_eq!(room["fits"], true, "{room}");
    let room = what_if(controllers, "near?decode=5").await;
    assert_eq!(
        (&room["fits"], &room["granted"]["decode"]),
        (&json!(false), &json!(4))
    );
    let message = room["message"].as_str().unwrap();
    assert!(message.contains("nvidia.com/gpu"), "{message}");
    let lost = nodes.iter().next().unwrap();
    plane.kubectl(&["delete", "node", lost]).await.unwrap();
    let on_lost = format!("--field-selector=spec.nodeName={lost}");
    plane
        .kubectl(&["delete", "pod", &on_lost, "--force"])
        .await
        .unwrap();
    let nodes = until(client, controllers, "near", "Placed", 4).await;
    assert!(!nodes.contains(lost));
    assert_eq!(racks(client, &nodes).await, before);

    // More replicas join the others, as far as the rack has room.
    plane
        .kubectl(&["scale", "deployment", "near-decode", "--replicas=4"])
        .await
        .unwrap();
    let nodes = until(client, controllers, "near", "PlacedInPart", 4).await;
    assert_eq!(racks(client, &nodes).await, before);
    let room = what_if(controllers, "near?prefill=1").await;
    assert_eq!(
        (&room["fits"], &room["granted"]["prefill"]),
        (&json!(false), &json!(0))
    );
    let unknown = what_if(controllers, "nobody?prefill=1").await;
    assert!(
        unknown["error"]
            .as_str()
            .unwrap()
            .contains("default/nobody"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_placed_whole_near_each_other_and_again_after_a_loss() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let mut controllers = Controllers::start(&plane, &placement()).await.unwrap();
    plane.apply(&topology().to_string()).await.unwrap();
    until_gated(&plane).await;

    // Pods that are of no group are not touched.
    let free = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "free", "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "x" }] },
    });
    plane.apply(&free.to_string()).await.unwrap();

    one_of_two_is_placed(&plane, &client, &mut controllers).await;
    // Now, for it goes with its node if that is the one to be lost.
    let kept = eventually("the free pod to have a node", DEADLINE, async || {
        let pod = Api::<Pod>::namespaced(client.clone(), "default")
            .get("free")
            .await;
        let pod = pod.map_err(|error| error.to_string())?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        node.ok_or_else(|| format!("it has none: {:?}", pod.status))
    });
    kept.await.unwrap();
    all_are_in_one_rack(&plane, &client, &controllers).await;
    nothing_failed(&controllers);
}

/// The controllers had the rights that they need, and nothing went wrong in them.
fn nothing_failed(controllers: &Controllers) {
    let log = controllers.process.log();
    for word in ["\"level\":\"ERROR\"", "forbidden"] {
        assert!(!log.contains(word), "{}", controllers.process.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_others_took_is_given_up_and_all_of_it() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let mut values = placement();
    values["control"]["placement"]["nominate"] = json!(false);
    let controllers = Controllers::start(&plane, &values).await.unwrap();
    plane.apply(&topology().to_string()).await.unwrap();
    until_gated(&plane).await;
    // A pod of a scheduler that is not there holds what no cache of ours can see before it is on a
    // node: it is bound by hand to the node of a plan as soon as there is one.
    plane
        .kill(pd_tests::control_plane::Component::Scheduler)
        .await
        .unwrap();
    apply(&plane, &gang("held", Some("rack"), &[("prefill", 2, 8)])).await;
    let status = eventually("a plan", DEADLINE, async || {
        let status = group(&client, "held").await.status.unwrap_or_default();
        let released = pods(&client, "held").await;
        let all = released.len() == 2 && released.values().all(|(_, gated)| !gated);
        if all {
            Ok(status)
        } else {
            Err(controllers.process.log_tail())
        }
    })
    .await
    .unwrap();
    let stolen = status.planned[0].node.clone();
    let thief = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "thief", "namespace": "default" },
        "spec": { "nodeName": stolen, "containers": [{ "name": "c", "image": "x",
            "resources": { "limits": { GPU_RESOURCE: "8" } } }] },
    });
    plane.apply(&thief.to_string()).await.unwrap();
    plane
        .restart(pd_tests::control_plane::Component::Scheduler)
        .await
        .unwrap();
    let nodes = until(&client, &controllers, "held", "Placed", 2).await;
    assert!(!nodes.contains(&stolen), "{nodes:?}");
    assert_eq!(racks(&client, &nodes).await.len(), 1);
    let after = group(&client, "held").await.status.unwrap();
    assert!(after.plan > status.plan);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_gates_pods_of_groups_and_no_others() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let values = json!({
        "control": { "enabled": true, "placement": { "enabled": true } },
        "webhook": { "edition": "webhook" },
    });
    let webhook = start_webhook(&plane, &values).await.unwrap();
    apply(&plane, &gang("gated", None, &[("prefill", 2, 1)])).await;
    let found = eventually("both pods", DEADLINE, async || {
        let found = pods(&client, "gated").await;
        if found.len() == 2 {
            Ok(found)
        } else {
            Err(webhook.process.log_tail())
        }
    })
    .await
    .unwrap();
    assert!(found.values().all(|(_, gated)| *gated), "{found:?}");
}
