//! Our programs beside a control plane that lacks numeric tolerations: webhook, extender, controllers.
//!
//! The webhook is installed by the chart, and its Service is replaced by one that leads to this machine. The extender
//! is what a scheduler configuration names, so its port is chosen before the control plane starts
//! ([`ExtenderPort`]) and the program follows. Everything is the real program; nothing here judges.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    binaries::workspace_binary,
    chart::{self, Installed},
    control_plane::{ControlPlane, eventually},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec},
};

/// The feature gate that our programs stand in for.
pub const GATE: &str = "TaintTolerationComparisonOperators";

/// How long a program may take until it does its work.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// The namespace of the programs.
const NAMESPACE: &str = "pd-system";

/// Where an extender will listen.
#[derive(Debug)]
pub struct ExtenderPort(ReservedPort);

impl ExtenderPort {
    /// Chooses a free port.
    pub fn reserve() -> std::io::Result<Self> {
        ReservedPort::reserve().map(Self)
    }

    /// The entry of `extenders` in the scheduler's configuration, as the documentation recommends it.
    pub fn configuration(&self) -> Value {
        json!({
            "urlPrefix": format!("http://127.0.0.1:{}", self.0.number()),
            "filterVerb": "filter",
            "prioritizeVerb": "prioritize",
            "weight": 3,
            "nodeCacheCapable": true,
            "httpTimeout": "5s",
        })
    }

    /// Starts the extender, and returns when it answers.
    pub async fn start(&self, plane: &ControlPlane) -> anyhow::Result<Process> {
        self.start_as(plane, plane.kubeconfig()).await
    }

    /// As [`Self::start`], with another way to the API server than the administrator's.
    pub async fn start_as(
        &self,
        plane: &ControlPlane,
        kubeconfig: &Path,
    ) -> anyhow::Result<Process> {
        let address = format!("127.0.0.1:{}", self.0.number());
        let process = plane
            .spawn(ProcessSpec {
                name: format!("pd-extender-{}", self.0.number()),
                program: program("pd-scheduler-plugin").await?,
                arguments: vec![
                    "serve".to_owned(),
                    format!("--extender-address={address}"),
                    "--admin-address=127.0.0.1:0".to_owned(),
                    format!("--kubeconfig={}", kubeconfig.display()),
                ],
                environment: Vec::new(),
                log: None,
            })
            .await?;
        self.until_it_fits(&process, &json!({}), &[]).await?;
        Ok(process)
    }

    /// Waits until the extender, asked itself, says that `pod` fits all of `nodes`.
    pub async fn until_it_fits(
        &self,
        process: &Process,
        pod: &Value,
        nodes: &[&str],
    ) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://127.0.0.1:{}/filter", self.0.number());
        let call = json!({ "Pod": pod, "Nodes": null, "NodeNames": nodes });
        let asked = async || -> Result<Value, reqwest::Error> {
            let answer = client.post(&url).json(&call).send().await?;
            answer.error_for_status()?.json().await
        };
        eventually(
            "the extender to say so",
            READY_WITHIN,
            async || match asked().await {
                Ok(answer) if answer["NodeNames"] == json!(nodes) => Ok(()),
                other => Err(format!("{other:?}\n{}", process.log_tail())),
            },
        )
        .await?;
        Ok(())
    }
}

/// Starts the controllers of nodes and evictions with quick elections, and `flags` besides. They log all they do unless a
/// flag says otherwise.
pub async fn start_control(plane: &ControlPlane, flags: &[&str]) -> anyhow::Result<Process> {
    let mut arguments: Vec<String> = [
        "control",
        "--admin-address=127.0.0.1:0",
        "--leader-election-lease-duration=3s",
        "--leader-election-renew-deadline=2s",
        "--leader-election-retry-period=300ms",
        "--leader-election-namespace=default",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--kubeconfig={}", plane.kubeconfig().display()));
    if !flags.iter().any(|flag| flag.starts_with("--log-filter")) {
        arguments.push("--log-filter=info,pd_scheduler_plugin=debug".to_owned());
    }
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    let process = plane
        .spawn(ProcessSpec {
            name: "pd-control".to_owned(),
            program: program("pd-scheduler-plugin").await?,
            arguments,
            environment: vec![("POD_NAME".to_owned(), "pd-control".to_owned())],
            log: None,
        })
        .await?;
    Ok(process)
}

/// A running webhook; it ends when dropped.
#[derive(Debug)]
pub struct Webhook {
    /// Its process.
    pub process: Process,
    port: ReservedPort,
}

impl Webhook {
    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

/// Installs the chart with the webhook, starts it beside the cluster, and returns when pods with numbers are accepted.
/// `values` go over those that the webhook needs here.
pub async fn start_webhook(plane: &ControlPlane, values: &Value) -> anyhow::Result<Webhook> {
    let port = ReservedPort::reserve()?;
    let installed = install(plane, port.number(), values).await?;
    let address = format!("127.0.0.1:{}", port.number());
    let flags = [("--webhook-address", address.as_str())];
    let process = plane
        .spawn(ProcessSpec {
            name: "pd-webhook".to_owned(),
            program: program("pd-webhook").await?,
            arguments: installed.command_line(&flags),
            environment: vec![("POD_NAMESPACE".to_owned(), installed.namespace.clone())],
            log: None,
        })
        .await?;
    let pods = Api::<Pod>::namespaced(plane.client().await?, "default");
    let numeric: Pod = serde_json::from_value(json!({
        "metadata": { "name": "numeric" },
        "spec": {
            "containers": [{ "name": "c", "image": "x" }],
            "tolerations": [{ "key": "sla", "operator": "Gt", "value": "950" }],
        },
    }))?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("a numeric pod to be accepted", READY_WITHIN, async || {
        let made = pods.create(&dry_run, &numeric).await;
        made.map_err(|error| format!("{error}\n{}", process.log_tail()))
    })
    .await?;
    Ok(Webhook { process, port })
}

async fn install(plane: &ControlPlane, port: u16, values: &Value) -> anyhow::Result<Installed> {
    plane.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let mut all = json!({ "webhook": { "enabled": true, "service": { "port": port } } });
    merge(&mut all, values);
    let controller = chart::install_as_is(plane, NAMESPACE, &all).await?;
    let client = plane.client().await?;
    let name = format!("{NAMESPACE}-pd-autoscaler-webhook");
    let deployment = Api::<Deployment>::namespaced(client.clone(), NAMESPACE)
        .get(&name)
        .await?;
    let pod = deployment.spec.and_then(|spec| spec.template.spec);
    let pod = pod.ok_or_else(|| anyhow!("Deployment `{name}` has no pod"))?;
    let services = Api::<Service>::namespaced(client, NAMESPACE);
    services.delete(&name, &DeleteParams::default()).await?;
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] },
    }))?;
    services.create(&PostParams::default(), &service).await?;
    let account = pod.service_account_name.unwrap_or_default();
    let container = pod.containers.into_iter().next();
    Ok(Installed {
        args: container
            .and_then(|container| container.args)
            .context("the webhook's container has no arguments")?,
        service_account_kubeconfig: plane
            .kubeconfig_for_service_account(NAMESPACE, &account)
            .await?,
        service_account: account,
        ..controller
    })
}

/// The values of `over` on top of `values`.
fn merge(values: &mut Value, over: &Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                merge(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (value, over) => value.clone_from(over),
    }
}

async fn program(name: &'static str) -> anyhow::Result<std::path::PathBuf> {
    Ok(tokio::task::spawn_blocking(move || workspace_binary(name)).await??)
}
