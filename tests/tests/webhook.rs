//! The webhook on a real control plane, as the chart installs it: gate on, off and on again, all kinds, all the time with
//! calls in flight while certificates and authorities are replaced.
//!
//! One cluster and one story, because the gate is the whole cluster's. The API server reaches the webhook through the
//! chart's own configurations; only the Service is replaced by one that leads to this machine. Nodes carry the labels that
//! mirror their taints, set here by hand.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use pd_core::toleration::{Effect, Taint, mirror};
use pd_tests::{
    binaries::workspace_binary,
    chart::{self, Installed},
    control_plane::{Component, ControlPlane, NodeSpec, Options, eventually},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec},
};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(40);
const GATE: &str = "TaintTolerationComparisonOperators";
const SLA: &str = "node.kubernetes.io/sla";

/// A node with the label that mirrors a taint of `value`; nodes count as ready without taints only, so it comes later.
fn node(prefix: &str, value: &str) -> NodeSpec {
    let taint = Taint::new(SLA, value, Effect::NoExecute);
    NodeSpec {
        prefix: prefix.to_owned(),
        labels: mirror::labels(&[taint]),
        ..NodeSpec::default()
    }
}

fn above(value: &str) -> Value {
    json!([{ "key": SLA, "operator": "Gt", "value": value, "effect": "NoExecute" }])
}

fn pod_spec(tolerations: &Value) -> Value {
    json!({ "containers": [{ "name": "c", "image": "x" }], "tolerations": tolerations, "terminationGracePeriodSeconds": 0 })
}

fn template(app: &str, tolerations: &Value) -> Value {
    json!({ "metadata": { "labels": { "app": app } }, "spec": pod_spec(tolerations) })
}

fn pod(name: &str, tolerations: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": pod_spec(tolerations) })
}

fn deployment(name: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" }, "spec": {
        "replicas": 1, "selector": { "matchLabels": { "app": name } }, "template": template(name, &above("950")) } })
}

/// An object of every kind with a pod template, by the value of its pods' `app` label; none makes a pod on a weak node.
fn workloads() -> BTreeMap<&'static str, Value> {
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

async fn pods_of(client: &Client, app: &str) -> Vec<Pod> {
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let labelled = ListParams::default().labels(&format!("app={app}"));
    pods.list(&labelled).await.unwrap().items
}

/// Waits until `count` pods of `app` are on nodes, all of them good.
async fn placed(client: &Client, app: &str, count: usize) {
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

/// Waits until the gate's roll-back has taken the service down, which is what happens without the webhook.
async fn until_no_pod_of(client: &Client, app: &str) {
    eventually("the pods to be evicted for good", DEADLINE, async || {
        let left = pods_of(client, app).await.len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        }
    })
    .await
    .unwrap();
}

/// The webhook's process, and what it takes to start it again.
struct Running {
    process: Process,
    installed: Installed,
    port: ReservedPort,
}

impl Running {
    async fn start(
        plane: &ControlPlane,
        installed: Installed,
        port: ReservedPort,
        changes: &[(&str, &str)],
    ) -> Self {
        let program = tokio::task::spawn_blocking(|| workspace_binary("pd-webhook"))
            .await
            .unwrap()
            .unwrap();
        let address = format!("127.0.0.1:{}", port.number());
        let mut flags = vec![
            ("--webhook-address", address.as_str()),
            ("--linger", "200ms"),
        ];
        flags.extend(changes);
        let spec = ProcessSpec {
            name: format!("{}-webhook-{}", installed.namespace, port.number()),
            program,
            arguments: installed.command_line(&flags),
            environment: vec![("POD_NAMESPACE".to_owned(), installed.namespace.clone())],
            log: None,
        };
        let process = plane.spawn(spec).await.unwrap();
        Self {
            process,
            installed,
            port,
        }
    }

    /// How many lines of the log hold `text`.
    fn logged(&self, text: &str) -> usize {
        self.process
            .log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// The authorities whose certificates were served.
    fn signers(&self) -> BTreeSet<String> {
        let log = self.process.log();
        log.lines()
            .filter(|line| line.contains("certificate served"))
            .filter_map(|line| {
                line.split("pd-webhook authority ")
                    .nth(1)?
                    .split('"')
                    .next()
            })
            .map(str::to_owned)
            .collect()
    }

    async fn until_logged(&self, text: &str, times: usize) {
        eventually(&format!("{times} times `{text}`"), DEADLINE, async || {
            if self.logged(text) >= times {
                Ok(())
            } else {
                Err(self.process.log_tail())
            }
        })
        .await
        .unwrap();
    }
}

/// Installs the chart with the webhook, and leads the webhook's Service to `port` of this machine.
async fn install(plane: &ControlPlane, client: &Client, port: u16) -> Installed {
    plane
        .kubectl(&["create", "namespace", "pd-system"])
        .await
        .unwrap();
    let values = json!({ "webhook": {
        "enabled": true, "service": { "port": port }, "probeInterval": "500ms",
        "certificates": { "interval": "500ms", "validity": "12s", "authorityValidity": "24s", "authorityOverlap": "3s" },
    } });
    let controller = chart::install_as_is(plane, "pd-system", &values)
        .await
        .unwrap();
    let name = "pd-system-pd-autoscaler-webhook";
    let deployment = Api::<Deployment>::namespaced(client.clone(), "pd-system")
        .get(name)
        .await
        .unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let services = Api::<Service>::namespaced(client.clone(), "pd-system");
    services
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    let service: Service = serde_json::from_value(json!({ "metadata": { "name": name },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] } })).unwrap();
    services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let account = pod.service_account_name.unwrap();
    Installed {
        args: pod.containers[0].args.clone().unwrap(),
        service_account_kubeconfig: plane
            .kubeconfig_for_service_account("pd-system", &account)
            .await
            .unwrap(),
        service_account: account,
        ..controller
    }
}

/// Creates numeric pods without storing them until told to stop; each that fails is kept with its reason.
fn load(
    client: Client,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let pods = Api::<Pod>::namespaced(client, "default");
        let wanted: Pod = serde_json::from_value(pod("load", &above("950"))).unwrap();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match pods.create(&dry, &wanted).await {
                Ok(made) => assert_eq!(
                    made.spec.unwrap().tolerations.unwrap()[0]
                        .operator
                        .as_deref(),
                    Some("Exists")
                ),
                Err(error) => failed.push(error.to_string()),
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
        failed
    })
}

async fn set_gate(plane: &mut ControlPlane, on: bool) {
    plane.set_feature_gate(GATE, on);
    for component in [
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
    ] {
        plane.restart(component).await.unwrap();
    }
}

async fn refusal(plane: &ControlPlane, object: &Value) -> String {
    let answer = plane
        .kubectl_with_input(&["create", "--filename=-"], &object.to_string())
        .await;
    answer.unwrap_err().to_string()
}

async fn every_kind_is_accepted_and_placed(plane: &ControlPlane, client: &Client) {
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

async fn what_users_write_into_the_annotation_is_placed(plane: &ControlPlane, client: &Client) {
    let entries = json!([{ "key": SLA, "operator": "Range", "value": "960..999", "effect": "NoExecute", "mustBePresent": true }]);
    let mut object = deployment("annotated");
    let template = &mut object["spec"]["template"];
    template["metadata"]["annotations"] =
        json!({ "pdautoscaler.io/numeric-tolerations": entries.to_string() });
    template["spec"]
        .as_object_mut()
        .unwrap()
        .remove("tolerations");
    plane.apply(&object.to_string()).await.unwrap();
    placed(client, "annotated", 1).await;
    let stored = plane
        .kubectl(&[
            "get",
            "deployment",
            "annotated",
            "--output=jsonpath={.spec.template.spec}",
        ])
        .await
        .unwrap();
    assert!(
        !stored.contains("tolerations") && !stored.contains("affinity"),
        "drift: {stored}"
    );
}

async fn no_two_pdautoscalers_take_one_workload(plane: &ControlPlane) {
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

async fn without_the_webhook_only_numbers_wait(plane: &ControlPlane, client: &Client) {
    let plain = Api::<Pod>::namespaced(client.clone(), "default");
    for name in ["plain", "tolerant"] {
        let tolerations = if name == "plain" {
            json!([])
        } else {
            json!([{ "operator": "Exists" }])
        };
        let wanted: Pod = serde_json::from_value(pod(name, &tolerations)).unwrap();
        plain.create(&PostParams::default(), &wanted).await.unwrap();
    }
    plane
        .kubectl(&["label", "pod", "single", "touched=yes"])
        .await
        .unwrap();
    plane
        .kubectl(&["scale", "deployment", "deployment", "--replicas=3"])
        .await
        .unwrap();
    let reason = refusal(plane, &pod("numeric", &above("950"))).await;
    assert!(reason.contains("failed calling webhook"), "{reason}");
}

/// A cluster that was given a Deployment with numbers while the gate was on, and then had it turned off.
async fn rolled_back() -> ControlPlane {
    let mut plane = ControlPlane::start(Options {
        nodes: vec![node("good", "990"), node("weak", "900")],
        feature_gates: BTreeMap::from([(GATE.to_owned(), true)]),
        ..Options::default()
    })
    .await
    .unwrap();
    let client = plane.client().await.unwrap();
    for (node, value) in [("good-0", "990"), ("weak-0", "900")] {
        let taint = format!("{SLA}={value}:NoExecute");
        plane
            .kubectl(&["taint", "node", node, &taint])
            .await
            .unwrap();
    }
    plane
        .apply(&deployment("stored").to_string())
        .await
        .unwrap();
    placed(&client, "stored", 1).await;
    set_gate(&mut plane, false).await;
    let reason = refusal(&plane, &pod("numeric", &above("950"))).await;
    assert!(reason.contains("operator: Unsupported value"), "{reason}");
    until_no_pod_of(&client, "stored").await;
    plane
}

/// Starts the webhook, and another replica, which the API server does not call and which keeps the same certificates.
async fn started(plane: &ControlPlane, client: &Client) -> (Running, Running) {
    let port = ReservedPort::reserve().unwrap();
    let installed = install(plane, client, port.number()).await;
    let webhook = Running::start(plane, installed, port, &[]).await;
    let another = ReservedPort::reserve().unwrap();
    let replica = Running::start(plane, webhook.installed.clone(), another, &[]).await;
    webhook.until_logged("certificate served", 1).await;
    webhook.until_logged("gate known", 1).await;
    eventually("the first numeric pod", DEADLINE, async || {
        let dry = ["create", "--dry-run=server", "--filename=-"];
        let answer = plane
            .kubectl_with_input(&dry, &pod("first", &above("950")).to_string())
            .await;
        answer.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    (webhook, replica)
}

/// All that works with the gate off, with calls in flight until two further authorities have signed.
async fn all_works(plane: &ControlPlane, client: &Client, webhook: &Running, replica: &Running) {
    let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let loads: Vec<_> = (0..4)
        .map(|_| load(client.clone(), stop.clone(), calls.clone()))
        .collect();
    // Stored with numbers while the gate was on, and evicted when it went: its pods come up again, and more of them.
    plane
        .kubectl(&["scale", "deployment", "stored", "--replicas=2"])
        .await
        .unwrap();
    placed(client, "stored", 2).await;
    every_kind_is_accepted_and_placed(plane, client).await;
    what_users_write_into_the_annotation_is_placed(plane, client).await;
    no_two_pdautoscalers_take_one_workload(plane).await;
    // Certificates by at least two further authorities.
    eventually("two further authorities", DEADLINE, async || {
        let (signers, others) = (webhook.signers(), replica.signers());
        if signers.len() >= 3 && signers == others {
            Ok(())
        } else {
            Err(format!("{signers:?} {others:?}"))
        }
    })
    .await
    .unwrap();
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        let failed = load.await.unwrap();
        assert!(
            failed.is_empty(),
            "{} calls failed, such as: {}",
            failed.len(),
            failed[0]
        );
    }
    eprintln!(
        "{} calls answered over {} certificates",
        calls.load(Ordering::Relaxed),
        webhook.logged("certificate served")
    );
}

async fn numbers_are_left_alone(plane: &ControlPlane, webhook: &Running) {
    webhook.until_logged("\"is_on\":true", 1).await;
    eventually("numbers to be left alone", DEADLINE, async || {
        let dry = [
            "create",
            "--dry-run=server",
            "--output=jsonpath={.spec.tolerations[0].operator}",
            "--filename=-",
        ];
        let answer = plane
            .kubectl_with_input(&dry, &pod("native", &above("950")).to_string())
            .await;
        match answer {
            Ok(operator) if operator == "Gt" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_work_with_the_gate_off_and_are_left_alone_with_it_on() {
    let mut plane = rolled_back().await;
    let client = plane.client().await.unwrap();
    let (webhook, replica) = started(&plane, &client).await;
    all_works(&plane, &client, &webhook, &replica).await;
    replica.process.kill().await.unwrap();
    webhook.process.kill().await.unwrap();
    without_the_webhook_only_numbers_wait(&plane, &client).await;

    set_gate(&mut plane, true).await;
    let Running {
        installed, port, ..
    } = webhook;
    let webhook = Running::start(&plane, installed, port, &[]).await;
    numbers_are_left_alone(&plane, &webhook).await;
    // Rolled back while the webhook runs: it notices.
    set_gate(&mut plane, false).await;
    eventually("numbers to be rewritten again", DEADLINE, async || {
        let answer = plane
            .kubectl_with_input(
                &["create", "--filename=-"],
                &pod("again", &above("950")).to_string(),
            )
            .await;
        answer.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let log = webhook.process.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}
