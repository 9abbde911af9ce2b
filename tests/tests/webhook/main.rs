//! The webhook on a real control plane, as the chart installs it: gate on, off and on again, all
//! kinds, all the time with calls in flight while certificates and authorities are replaced.
//!
//! One cluster and one story, because the gate is the whole cluster's. The API server reaches the
//! webhook through the chart's own configurations; only the Service is replaced by one that leads
//! to this machine. Nodes carry the labels that mirror their taints, set here by hand.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

mod generated;
mod objects;
mod policies;

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
    api::{DeleteParams, PostParams},
};
use pd_tests::{
    binaries::workspace_binary,
    chart::{self, Installed},
    control_plane::{Component, ControlPlane, Options, eventually},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec},
};
use serde_json::json;

use self::objects::{
    above, deployment, every_kind_is_accepted_and_placed, llama,
    no_two_pdautoscalers_take_one_workload, node, placed, pod, pods_of, refusal, role_pod,
    roles_are_given_what_they_ask_for, runtime_classes_hold_no_numbers, workloads,
};

const DEADLINE: Duration = Duration::from_secs(40);
const GATE: &str = "TaintTolerationComparisonOperators";
const SLA: &str = "node.kubernetes.io/sla";

/// Waits until the gate's roll-back has taken the service down, which is what happens without the
/// webhook.
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

/// Creates numeric pods without storing them until told to stop; each that fails is kept with its
/// reason.
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

/// A cluster that was given a Deployment with numbers while the gate was on, and then had it turned
/// off.
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

/// Starts the webhook, and another replica, which the API server does not call and which keeps the
/// same certificates.
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

/// Waits until the API server sends pods because of their roles.
async fn role_pods_are_sent(plane: &ControlPlane) {
    eventually("pods of roles to be sent", DEADLINE, async || {
        let dry = [
            "create",
            "--dry-run=server",
            "--output=json",
            "--filename=-",
        ];
        match plane
            .kubectl_with_input(&dry, &role_pod().to_string())
            .await
        {
            Ok(stored) if stored.contains("llama/prefill") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

/// All that works with the gate off, with calls in flight until two further authorities have
/// signed.
async fn all_works(plane: &ControlPlane, client: &Client, webhook: &Running, replica: &Running) {
    let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let loads: Vec<_> = (0..4)
        .map(|_| load(client.clone(), stop.clone(), calls.clone()))
        .collect();
    // Stored with numbers while the gate was on, and evicted when it went: its pods come up again,
    // and more of them.
    plane
        .kubectl(&["scale", "deployment", "stored", "--replicas=2"])
        .await
        .unwrap();
    placed(client, "stored", 2).await;
    every_kind_is_accepted_and_placed(plane, client).await;
    what_users_write_into_the_annotation_is_placed(plane, client).await;
    no_two_pdautoscalers_take_one_workload(plane).await;
    runtime_classes_hold_no_numbers(plane).await;
    plane.apply(&llama().to_string()).await.unwrap();
    role_pods_are_sent(plane).await;
    roles_are_given_what_they_ask_for(plane, client).await;
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

async fn uids(client: &Client, app: &str) -> BTreeSet<String> {
    let pods = pods_of(client, app).await.into_iter();
    pods.filter_map(|pod| pod.metadata.uid).collect()
}

async fn daemon_operator(plane: &ControlPlane) -> String {
    let operator = "--output=jsonpath={.spec.template.spec.tolerations[0].operator}";
    plane
        .kubectl(&["get", "daemonset", "daemon", operator])
        .await
        .unwrap()
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

    let before = uids(&client, "stateful").await;
    set_gate(&mut plane, true).await;
    let Running {
        installed, port, ..
    } = webhook;
    let webhook = Running::start(&plane, installed, port, &[]).await;
    numbers_are_left_alone(&plane, &webhook).await;
    // Rewritten workloads go on: the same pods where they were, and new ones.
    assert_eq!(uids(&client, "stateful").await, before);
    plane
        .kubectl(&["scale", "statefulset", "stateful", "--replicas=3"])
        .await
        .unwrap();
    placed(&client, "stateful", 3).await;
    // A DaemonSet that is stored with numbers now.
    plane
        .apply(&workloads()["daemon"].to_string())
        .await
        .unwrap();
    assert_eq!(daemon_operator(&plane).await, "Gt");
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
    // Nobody writes the DaemonSet by itself; any update of it is enough.
    plane
        .kubectl(&["annotate", "daemonset", "daemon", "touched=yes"])
        .await
        .unwrap();
    assert_eq!(daemon_operator(&plane).await, "Exists");
    placed(&client, "daemon", 1).await;
    let log = webhook.process.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}
