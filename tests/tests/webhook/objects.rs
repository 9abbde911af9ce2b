//! Objects that the tests write and wait for: nodes with labelled taints, an object of every kind,
//! and where its pods are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use pd_tests::control_plane::{ControlPlane, NodeSpec, eventually};
use pd_tolerations::{Effect, Taint, mirror};
use serde_json::{Value, json};

use super::{DEADLINE, SLA};

/// A node with the label that mirrors a taint of `value`; nodes count as ready without taints only,
/// so it comes later.
pub(crate) fn node(prefix: &str, value: &str) -> NodeSpec {
    let taint = Taint::new(SLA, value, Effect::NoExecute);
    NodeSpec {
        prefix: prefix.to_owned(),
        labels: mirror::labels(&[taint]),
        ..NodeSpec::default()
    }
}

pub(crate) fn above(value: &str) -> Value {
    json!([{ "key": SLA, "operator": "Gt", "value": value, "effect": "NoExecute" }])
}

pub(crate) fn pod_spec(tolerations: &Value) -> Value {
    json!({ "containers": [{ "name": "c", "image": "x" }], "tolerations": tolerations, "terminationGracePeriodSeconds": 0 })
}

pub(crate) fn template(app: &str, tolerations: &Value) -> Value {
    json!({ "metadata": { "labels": { "app": app } }, "spec": pod_spec(tolerations) })
}

pub(crate) fn pod(name: &str, tolerations: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": pod_spec(tolerations) })
}

pub(crate) fn deployment(name: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" }, "spec": {
        "replicas": 1, "selector": { "matchLabels": { "app": name } }, "template": template(name, &above("950")) } })
}

/// An object of every kind with a pod template, by the value of its pods' `app` label; none makes a
/// pod on a weak node.
pub(crate) fn workloads() -> BTreeMap<&'static str, Value> {
    let of = |version: &str, kind: &str, app: &str, spec: Value| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": app, "namespace": "default" }, "spec": spec });
    let tolerations = above("950");
    let selected = |app: &str| json!({ "replicas": 2, "selector": { "matchLabels": { "app": app } }, "template": template(app, &tolerations) });
    let mut set = selected("stateful");
    set["serviceName"] = json!("stateful");
    let mut daemon = selected("daemon");
    daemon.as_object_mut().unwrap().remove("replicas");
    let mut controller = selected("controller");
    controller["selector"] = json!({ "app": "controller" });
    let mut job = json!({ "template": template("job", &tolerations) });
    job["template"]["spec"]["restartPolicy"] = json!("Never");
    let cron = json!({ "schedule": "0 0 1 1 *", "jobTemplate": { "spec": job.clone() } });
    BTreeMap::from([
        (
            "deployment",
            of(
                "apps/v1",
                "Deployment",
                "deployment",
                selected("deployment"),
            ),
        ),
        (
            "replica",
            of("apps/v1", "ReplicaSet", "replica", selected("replica")),
        ),
        ("stateful", of("apps/v1", "StatefulSet", "stateful", set)),
        ("daemon", of("apps/v1", "DaemonSet", "daemon", daemon)),
        (
            "controller",
            of("v1", "ReplicationController", "controller", controller),
        ),
        ("job", of("batch/v1", "Job", "job", job)),
        ("cron", of("batch/v1", "CronJob", "cron", cron)),
        (
            "template",
            json!({ "apiVersion": "v1", "kind": "PodTemplate", "metadata": { "name": "template", "namespace": "default" },
            "template": template("template", &tolerations) }),
        ),
        ("pod", {
            let mut pod = pod("single", &tolerations);
            pod["metadata"]["labels"] = json!({ "app": "pod" });
            pod
        }),
    ])
}

pub(crate) async fn pods_of(client: &Client, app: &str) -> Vec<Pod> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let labelled = ListParams::default().labels(&format!("app={app}"));
    pods.list(&labelled).await.unwrap().items
}

/// Waits until `count` pods of `app` are on nodes, all of them good.
pub(crate) async fn placed(client: &Client, app: &str, count: usize) {
    eventually(
        &format!("{count} pods of {app} on good nodes"),
        DEADLINE,
        async || {
            let pods = pods_of(client, app).await;
            let nodes: Vec<String> = pods
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
                .collect();
            assert!(
                nodes.iter().all(|node| node.starts_with("good-")),
                "{app}: {nodes:?}"
            );
            if nodes.len() == count {
                Ok(())
            } else {
                Err(format!("{nodes:?}"))
            }
        },
    )
    .await
    .unwrap();
}

/// Why an object is not taken.
pub(crate) async fn refusal(plane: &ControlPlane, object: &Value) -> String {
    let answer = plane
        .kubectl_with_input(&["create", "--filename=-"], &object.to_string())
        .await;
    answer.unwrap_err().to_string()
}

/// All kinds, with the gate off: taken, on good nodes, the same again, and refused where they
/// disagree.
pub(crate) async fn every_kind_is_accepted_and_placed(plane: &ControlPlane, client: &Client) {
    for (app, object) in workloads() {
        plane
            .apply(&object.to_string())
            .await
            .unwrap_or_else(|error| panic!("{app}: {error}"));
    }
    for (app, count) in [
        ("deployment", 2),
        ("replica", 2),
        ("stateful", 2),
        ("controller", 2),
        ("daemon", 1),
        ("job", 1),
        ("pod", 1),
    ] {
        placed(client, app, count).await;
    }
    // The same manifests again change nothing: no rollout, no drift that fights.
    let generation = [
        "get",
        "deployment/deployment",
        "statefulset/stateful",
        "daemonset/daemon",
        "--output=jsonpath={.items[*].metadata.generation}",
    ];
    let before = plane.kubectl(&generation).await.unwrap();
    for object in workloads()
        .values()
        .filter(|object| object["kind"] != "Pod")
    {
        plane.apply(&object.to_string()).await.unwrap();
    }
    assert_eq!(plane.kubectl(&generation).await.unwrap(), before);
    plane
        .kubectl(&["create", "job", "made", "--from=cronjob/cron"])
        .await
        .unwrap();
    placed(client, "job", 2).await;
    // Seen in what is stored, and refused where it disagrees.
    let stored = plane
        .kubectl(&["get", "podtemplate", "template", "--output=json"])
        .await
        .unwrap();
    assert!(
        stored.contains("no-execute.taint.pdautoscaler.io/sla")
            && stored.contains("numeric-tolerations"),
        "{stored}"
    );
    let mut disagreeing = pod("disagreeing", &json!([]));
    disagreeing["metadata"]["annotations"] =
        json!({ "pdautoscaler.io/numeric-tolerations": "[{}]" });
    let reason = refusal(plane, &disagreeing).await;
    assert!(reason.contains("cannot be used"), "{reason}");
}

/// PDAutoscaler `llama`, whose prefill is Deployment `role-prefill` and whose decode is
/// `StatefulSet` `role-decode`.
pub(crate) fn llama() -> Value {
    let role = |kind: &str, name: &str, operator: &str, value: &str| {
        json!({ "maxReplicas": 4, "target": { "apiVersion": "apps/v1", "kind": kind, "name": name }, "numericTolerations": [
            { "key": SLA, "operator": operator, "value": value, "effect": "NoExecute", "mustBePresent": operator != "Gt" }] })
    };
    json!({ "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler", "metadata": { "name": "llama", "namespace": "default" },
        "spec": { "mode": "Off", "prefill": role("Deployment", "role-prefill", "Gt", "950"), "decode": role("StatefulSet", "role-decode", "Range", "951..999"),
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } } })
}

/// The workloads of `llama`, which say nothing of tolerations themselves.
pub(crate) fn roles() -> [Value; 2] {
    let of = |kind: &str, app: &str| {
        let mut template = template(app, &json!([]));
        template["spec"]
            .as_object_mut()
            .unwrap()
            .remove("tolerations");
        json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": app, "namespace": "default" },
            "spec": { "replicas": 2, "serviceName": app, "selector": { "matchLabels": { "app": app } }, "template": template } })
    };
    let mut prefill = of("Deployment", "role-prefill");
    prefill["spec"]
        .as_object_mut()
        .unwrap()
        .remove("serviceName");
    [prefill, of("StatefulSet", "role-decode")]
}

/// A pod as the `ReplicaSet` of the prefill role makes it.
pub(crate) fn role_pod() -> Value {
    let mut pod = pod("role", &json!([]));
    pod["metadata"]["labels"] = json!({ "pod-template-hash": "6f4" });
    pod["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "role-prefill-6f4", "uid": "u", "controller": true }]);
    pod
}

/// Pods get what their roles ask for, templates stay as they were written.
pub(crate) async fn roles_are_given_what_they_ask_for(plane: &ControlPlane, client: &Client) {
    for object in roles() {
        plane.apply(&object.to_string()).await.unwrap();
    }
    for (app, source) in [
        ("role-prefill", "llama/prefill"),
        ("role-decode", "llama/decode"),
    ] {
        placed(client, app, 2).await;
        for pod in pods_of(client, app).await {
            let annotations = pod.metadata.annotations.unwrap();
            assert_eq!(annotations["pdautoscaler.io/tolerations-from"], source);
            assert!(annotations["pdautoscaler.io/numeric-tolerations"].contains(SLA));
        }
    }
    for kind in ["deployment/role-prefill", "statefulset/role-decode"] {
        let template = "--output=jsonpath={.spec.template}";
        let stored = plane.kubectl(&["get", kind, template]).await.unwrap();
        assert!(
            !stored.contains("tolerations") && !stored.contains("affinity"),
            "{stored}"
        );
    }
}

/// A `RuntimeClass` cannot hold numbers; what it can hold is merged with what was rewritten, and
/// weakens it.
pub(crate) async fn runtime_classes_hold_no_numbers(plane: &ControlPlane) {
    let class = |name: &str, tolerations: Value| {
        json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name },
            "handler": "h", "scheduling": { "tolerations": tolerations } })
    };
    let reason = refusal(plane, &class("numeric", above("950"))).await;
    assert!(reason.contains("operator: Unsupported value"), "{reason}");
    let exists = json!([{ "key": SLA, "operator": "Exists", "effect": "NoExecute" }]);
    plane
        .apply(&class("exists", exists.clone()).to_string())
        .await
        .unwrap();
    let mut pod = pod("classed", &above("950"));
    pod["spec"]["runtimeClassName"] = json!("exists");
    let dry = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
    ];
    let stored = plane
        .kubectl_with_input(&dry, &pod.to_string())
        .await
        .unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let list = stored["spec"]["tolerations"].as_array().unwrap();
    let same = list.iter().filter(|one| **one == exists[0]).count();
    assert_eq!(
        same, 1,
        "the class's and the rewritten one are one: {list:?}"
    );
    assert!(
        stored["spec"]["affinity"].is_null(),
        "an Exists of the class tolerates every number: {stored}"
    );
}

/// The second PDAutoscaler of a workload is refused.
pub(crate) async fn no_two_pdautoscalers_take_one_workload(plane: &ControlPlane) {
    let role = |target: &str| {
        json!({ "maxReplicas": 4,
        "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target } })
    };
    let scaler = |name: &str, decode: &str| {
        json!({ "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "prefill": role(&format!("{name}-prefill")), "decode": role(decode),
            "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } } })
    };
    plane
        .apply(&scaler("first", "shared").to_string())
        .await
        .unwrap();
    // The watch of the webhook is a moment behind.
    eventually("the second to be refused", DEADLINE, async || {
        let dry = ["create", "--dry-run=server", "--filename=-"];
        match plane
            .kubectl_with_input(&dry, &scaler("second", "shared").to_string())
            .await
        {
            Err(error)
                if error
                    .to_string()
                    .contains("is scaled by PDAutoscaler `first` too") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    plane
        .apply(&scaler("third", "own").to_string())
        .await
        .unwrap();
}
