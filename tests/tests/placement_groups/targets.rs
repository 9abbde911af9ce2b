//! Groups of PDAutoscalers with `spec.placement`: made, kept, and gone with what asked for them. No
//! pod template has a label here.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_systems::{
    kind::Kind,
    member::{Marks, marks},
    system::System,
};
use pd_tests::{
    add_ons::{Controllers, start_webhook},
    control_plane::{ControlPlane, eventually},
};
use serde_json::{Value, json};

use super::{
    DEADLINE, GATE, GROUP, ROLE, apply, cluster, gang, group, nothing_failed, placement, pods,
    racks, topology, until,
};

/// A PDAutoscaler over the Deployments `NAME-prefill` and `NAME-decode`.
fn autoscaler(name: &str, placement: &Value) -> Value {
    let role = |role: &str| {
        let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("{name}-{role}") });
        json!({ "target": target, "maxReplicas": 64 })
    };
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "prefill": role("prefill"), "decode": role("decode"), "placement": placement,
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } },
        },
    })
}

/// Its Deployments, as people write them.
fn workloads(name: &str, roles: &[(&str, u32, u32)]) -> Vec<Value> {
    let mut objects = gang(name, None, roles);
    objects.remove(0);
    for object in &mut objects {
        let labels = &mut object["spec"]["template"]["metadata"]["labels"];
        let labels = labels.as_object_mut().unwrap();
        labels.retain(|label, _| label != GROUP && label != ROLE);
    }
    objects
}

/// Waits until a pod of a Deployment joins: a policy or webhook is not in force at once.
async fn until_joined(plane: &ControlPlane, deployment: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "probe", "namespace": "default", "labels": { "pod-template-hash": "5f" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("{deployment}-5f"), "uid": "6f1c2f0a-0000-4000-8000-000000000000" }],
        },
        "spec": { "containers": [{ "name": "c", "image": "x" }] },
    });
    let create = ["create", "-f", "-", "--dry-run=server", "-o", "json"];
    let joined = eventually("pods of targets to join", DEADLINE, async || {
        let made = plane.kubectl_with_input(&create, &pod.to_string()).await;
        let made = made.map_err(|error| error.to_string())?;
        let made: Value = serde_json::from_str(&made).map_err(|error| error.to_string())?;
        let is_labelled = made["metadata"]["labels"][GROUP].is_string();
        let is_gated = made["spec"]["schedulingGates"] == json!([{ "name": GATE }]);
        if is_labelled && is_gated {
            Ok(())
        } else {
            Err(made.to_string())
        }
    });
    joined.await.unwrap();
}

/// The metadata of a pod as the system of a kind makes it for its object `o`, with the value of the
/// role's label.
fn made(kind: &Kind, marks: Marks, role: &str) -> Value {
    let owner = |kind: &str, name: &str| json!({ "apiVersion": "apps/v1", "kind": kind, "controller": true, "name": name, "uid": "6f1c2f0a-0000-4000-8000-000000000000" });
    let mut metadata = json!({ "name": "probe", "namespace": "default", "labels": {} });
    match marks {
        Marks::Controller => metadata["ownerReferences"] = json!([owner(kind.kind, "o")]),
        Marks::Deployment => {
            metadata["ownerReferences"] = json!([owner("ReplicaSet", "o-5f")]);
            metadata["labels"]["pod-template-hash"] = json!("5f");
        }
        Marks::Labels {
            name,
            role: of_role,
            fixed,
            ..
        } => {
            // Some controllers own their pods by sets of their own.
            metadata["ownerReferences"] = json!([owner("StatefulSet", "some-set")]);
            metadata["labels"][name] = json!("o");
            for (label, value) in fixed {
                metadata["labels"][*label] = json!(value);
            }
            if let Some(of_role) = of_role {
                metadata["labels"][of_role] = json!(role);
            }
        }
    }
    metadata
}

/// The group and role that a pod with this metadata gets, if any.
async fn joined(plane: &ControlPlane, metadata: &Value) -> Option<(String, String)> {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": { "containers": [{ "name": "c", "image": "x" }] } });
    let create = ["create", "-f", "-", "--dry-run=server", "-o", "json"];
    let made = plane.kubectl_with_input(&create, &pod.to_string()).await;
    let made: Value = serde_json::from_str(&made.unwrap()).unwrap();
    let label = |label: &str| {
        let value = made["metadata"]["labels"][label].as_str();
        value.map(ToOwned::to_owned)
    };
    let found = label(GROUP).zip(label(ROLE));
    let is_gated = made["spec"]["schedulingGates"] == json!([{ "name": GATE }]);
    assert_eq!(found.is_some(), is_gated, "{made}");
    found
}

/// Pods of every system whose pods show whose they are join, by admission alone: no object of the
/// system is there.
async fn pods_of_every_system_join(plane: &ControlPlane) {
    let kinds = pd_systems::ALL.into_iter().flat_map(System::kinds);
    let known = kinds.filter_map(|kind| Some((kind, marks(&kind.api_version(), kind.kind)?)));
    for (kind, marks) in known {
        let mut object = autoscaler("system", &json!({}));
        object["spec"]["decode"]["target"] =
            json!({ "apiVersion": kind.api_version(), "kind": kind.kind, "name": "o" });
        apply(plane, &[object]).await;
        let decode = made(kind, marks, "decode");
        let what = format!("pods of {} to join", kind.kind);
        let joins = eventually(&what, DEADLINE, async || {
            match joined(plane, &decode).await {
                Some(found) => Ok(found),
                None => Err(decode.to_string()),
            }
        });
        let found = joins.await.unwrap();
        assert_eq!(found, ("system".to_owned(), "decode".to_owned()));
        let text = decode.to_string().replace("\"o\"", "\"another\"");
        let another: Value = serde_json::from_str(&text.replace("o-5f", "another-5f")).unwrap();
        assert_eq!(joined(plane, &another).await, None, "{}", kind.kind);
        if let Marks::Labels { role: Some(_), .. } = marks {
            let router = made(kind, marks, "router");
            assert_eq!(joined(plane, &router).await, None, "{}", kind.kind);
        }
        if let Marks::Labels {
            alias: Some((_, also)),
            ..
        } = marks
        {
            assert_eq!(joined(plane, &made(kind, marks, also)).await, Some(found));
        }
        // The next one has the same name.
        plane.kubectl(&["delete", "pda", "system"]).await.unwrap();
    }
}

async fn until_condition(plane: &ControlPlane, controllers: &Controllers, name: &str, want: &str) {
    let path = r#"-o=jsonpath={.status.conditions[?(@.type=="PlacementGroup")].reason}"#;
    let what = format!("{name} to be {want}");
    let found = eventually(&what, DEADLINE, async || {
        let reason = plane.kubectl(&["get", "pda", name, path]).await;
        let reason = reason.map_err(|error| error.to_string())?;
        if reason.trim() == want {
            Ok(())
        } else {
            Err(format!("{reason}\n{}", controllers.process.log_tail()))
        }
    });
    found.await.unwrap();
}

/// The pods of a Deployment: whether they have a node, and whether they are gated.
async fn of_deployment(client: &Client, app: &str) -> Vec<(bool, bool)> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let selected = ListParams::default().labels(&format!("app={app}"));
    let pods = pods.list(&selected).await.unwrap();
    let alive = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    alive
        .map(|pod| {
            let spec = pod.spec.unwrap();
            let gates = spec.scheduling_gates.unwrap_or_default();
            (
                spec.node_name.is_some(),
                gates.iter().any(|gate| gate.name == GATE),
            )
        })
        .collect()
}

async fn until_spec(client: &Client, name: &str, level: Option<&str>) {
    let brought = eventually("the group's spec", DEADLINE, async || {
        let spec = group(client, name).await.spec;
        if spec.required_level.as_deref() == level {
            Ok(())
        } else {
            Err(format!("{:?}", spec.required_level))
        }
    });
    brought.await.unwrap();
}

async fn patch(plane: &ControlPlane, kind: &str, name: &str, patch: &Value) {
    let patch = format!("--patch={patch}");
    plane
        .kubectl(&["patch", kind, name, "--type=merge", &patch])
        .await
        .unwrap();
}

/// Made, placed in one rack, and kept as the PDAutoscaler says.
async fn a_group_is_made_and_kept(
    plane: &ControlPlane,
    client: &Client,
    controllers: &Controllers,
) {
    apply(
        plane,
        &[autoscaler("llama", &json!({ "requiredLevel": "rack" }))],
    )
    .await;
    until_joined(plane, "llama-decode").await;
    apply(
        plane,
        &workloads("llama", &[("prefill", 2, 2), ("decode", 2, 2)]),
    )
    .await;
    let nodes = until(client, controllers, "llama", "Placed", 4).await;
    assert_eq!(racks(client, &nodes).await.len(), 1, "{nodes:?}");
    until_condition(plane, controllers, "llama", "GroupMade").await;
    let owners = group(client, "llama").await.metadata.owner_references;
    assert_eq!(owners.unwrap()[0].kind, "PDAutoscaler");

    patch(
        plane,
        "placementgroup",
        "llama",
        &json!({ "spec": { "requiredLevel": "block" } }),
    )
    .await;
    until_spec(client, "llama", Some("rack")).await;
    let other = json!({ "spec": { "placement": { "requiredLevel": "block" } } });
    patch(plane, "pda", "llama", &other).await;
    until_spec(client, "llama", Some("block")).await;
}

/// Replicas that find no place wait, and are free once nobody asks for placement.
async fn pods_are_freed_with_it(plane: &ControlPlane, client: &Client, controllers: &Controllers) {
    let many = ["scale", "deployment", "llama-decode", "--replicas=20"];
    plane.kubectl(&many).await.unwrap();
    let gated = eventually("pods without a place to wait", DEADLINE, async || {
        let pods = of_deployment(client, "llama-decode").await;
        let waiting = pods.iter().filter(|(_, gated)| *gated).count();
        if pods.len() == 20 && waiting > 0 {
            Ok(())
        } else {
            Err(format!("{pods:?}\n{}", controllers.process.log_tail()))
        }
    });
    gated.await.unwrap();
    plane.kubectl(&["delete", "pda", "llama"]).await.unwrap();
    let freed = eventually(
        "the group to go and its pods to be free",
        DEADLINE,
        async || {
            let groups =
                Api::<pd_api::v1alpha1::PlacementGroup>::namespaced(client.clone(), "default");
            let is_there = groups
                .get_opt("llama")
                .await
                .map_err(|error| error.to_string())?;
            let of_decode = of_deployment(client, "llama-decode").await;
            let gated = of_decode.iter().filter(|(_, gated)| *gated).count();
            let labelled = pods(client, "llama").await.len();
            if is_there.is_none() && gated == 0 && labelled == 0 {
                Ok(())
            } else {
                let log = controllers.process.log_tail();
                Err(format!("{gated} gated, {labelled} labelled\n{log}"))
            }
        },
    );
    freed.await.unwrap();
    let deployments = ["delete", "deployment", "llama-prefill", "llama-decode"];
    plane.kubectl(&deployments).await.unwrap();
}

/// Somebody's group of the same name is not touched, and has none of our pods.
async fn a_foreign_group_is_left_alone(
    plane: &ControlPlane,
    client: &Client,
    controllers: &Controllers,
) {
    let by_hand = gang(
        "other",
        Some("block"),
        &[("prefill", 1, 1), ("decode", 1, 1)],
    );
    apply(plane, &by_hand[..1]).await;
    let before = group(client, "other").await;
    apply(plane, &[autoscaler("other", &json!({}))]).await;
    until_condition(plane, controllers, "other", "GroupForeign").await;
    until_joined(plane, "other-decode").await;
    apply(
        plane,
        &workloads("other", &[("prefill", 1, 1), ("decode", 1, 1)]),
    )
    .await;
    let path = r#"-o=jsonpath={.items[*].status.conditions[?(@.type=="pdautoscaler.io/placement")].reason}"#;
    let waits = eventually("its pods to say why they wait", DEADLINE, async || {
        let found = plane
            .kubectl(&["get", "pods", "-l=app=other-decode", path])
            .await;
        let found = found.map_err(|error| error.to_string())?;
        if found.trim() == "NoGroup" {
            Ok(())
        } else {
            Err(format!("{found}\n{}", controllers.process.log_tail()))
        }
    });
    waits.await.unwrap();
    let after = group(client, "other").await;
    assert_eq!((after.uid(), &after.spec), (before.uid(), &before.spec));
    assert_eq!(after.metadata.owner_references, None);
    assert!(
        of_deployment(client, "other-decode")
            .await
            .iter()
            .all(|(_, gated)| *gated)
    );

    plane
        .kubectl(&["delete", "placementgroup", "other"])
        .await
        .unwrap();
    until_condition(plane, controllers, "other", "GroupMade").await;
    until(client, controllers, "other", "Placed", 2).await;
}

/// Pods of before join where they run, and further ones are placed near them.
async fn pods_of_before_join(plane: &ControlPlane, client: &Client, controllers: &Controllers) {
    apply(
        plane,
        &workloads("late", &[("prefill", 1, 1), ("decode", 1, 1)]),
    )
    .await;
    for role in ["late-prefill", "late-decode"] {
        let runs = eventually(
            "a pod of before to run",
            DEADLINE,
            async || match of_deployment(client, role).await.as_slice() {
                [(true, false)] => Ok(()),
                pods => Err(format!("{pods:?}")),
            },
        );
        runs.await.unwrap();
    }
    apply(plane, &[autoscaler("late", &json!({}))]).await;
    until_condition(plane, controllers, "late", "GroupMade").await;
    until(client, controllers, "late", "Placed", 2).await;
    until_joined(plane, "late-decode").await;
    let more = ["scale", "deployment", "late-decode", "--replicas=3"];
    plane.kubectl(&more).await.unwrap();
    until(client, controllers, "late", "Placed", 4).await;
    // Another mode changes nothing of pods, and lets go of them.
    patch(
        plane,
        "pda",
        "late",
        &json!({ "spec": { "mode": "Recommend" } }),
    )
    .await;
    until_condition(plane, controllers, "late", "GroupIdle").await;
    let gone = eventually("its pods to leave", DEADLINE, async || {
        match pods(client, "late").await.len() {
            0 => Ok(()),
            labelled => Err(format!("{labelled} are labelled")),
        }
    });
    gone.await.unwrap();
    assert_eq!(of_deployment(client, "late-decode").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdautoscaler_that_asks_for_it_has_a_group() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let controllers = Controllers::start(&plane, &placement()).await.unwrap();
    plane.apply(&topology().to_string()).await.unwrap();
    pods_of_every_system_join(&plane).await;
    a_group_is_made_and_kept(&plane, &client, &controllers).await;
    pods_are_freed_with_it(&plane, &client, &controllers).await;
    a_foreign_group_is_left_alone(&plane, &client, &controllers).await;
    pods_of_before_join(&plane, &client, &controllers).await;
    nothing_failed(&controllers);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_has_pods_of_targets_join_and_no_others() {
    let plane = cluster().await;
    let client = plane.client().await.unwrap();
    let values = json!({
        "control": { "enabled": true, "placement": { "enabled": true } },
        "webhook": { "edition": "webhook" },
    });
    let webhook = start_webhook(&plane, &values).await.unwrap();
    pods_of_every_system_join(&plane).await;
    apply(&plane, &[autoscaler("llama", &json!({}))]).await;
    until_joined(&plane, "llama-prefill").await;
    apply(&plane, &workloads("llama", &[("prefill", 2, 1)])).await;
    apply(&plane, &workloads("free", &[("prefill", 1, 1)])).await;
    let found = eventually("all pods", DEADLINE, async || {
        let found = pods(&client, "llama").await;
        let free = of_deployment(&client, "free-prefill").await;
        if found.len() == 2 && free.len() == 1 {
            Ok((found, free))
        } else {
            Err(webhook.process.log_tail())
        }
    });
    let (found, free) = found.await.unwrap();
    assert!(found.values().all(|(_, gated)| *gated), "{found:?}");
    assert!(free.iter().all(|(_, gated)| !gated), "{free:?}");
}
