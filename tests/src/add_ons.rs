//! Our programs beside a control plane that lacks numeric tolerations: webhook, extender,
//! controllers.
//!
//! The webhook is installed by the chart, and its Service is replaced by one that leads to this
//! machine. The extender is what a scheduler configuration names, so its port is chosen before the
//! control plane starts ([`ExtenderPort`]) and the program follows. [`Everything`] has all of it
//! from the chart, and the scheduler configured as the chart's notes say, over TLS. Everything is
//! the real program; nothing here judges.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret, Service},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    binaries::workspace_binary,
    chart::{self, Installed},
    control_plane::{Component, ControlPlane, eventually},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec, Signal},
};

/// The feature gate that our programs stand in for.
pub const GATE: &str = "TaintTolerationComparisonOperators";

/// How long a program may take until it does its work.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// The flag with which the controllers log all that they do.
pub const LOG_ALL: &str = "--log-filter=info,pd_scheduler_plugin=debug";

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

    /// The entry of `extenders` in the scheduler's configuration, as the documentation recommends
    /// it.
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

/// Starts the controllers of nodes and evictions with quick elections, and `flags` besides. They
/// log all that they do.
pub async fn start_control(plane: &ControlPlane, flags: &[&str]) -> anyhow::Result<Process> {
    let flags = [&[LOG_ALL], flags].concat();
    start_control_as(plane, "pd-control", plane.kubeconfig(), &flags).await
}

/// As [`start_control`], as pod `name` and with another way to the API server than the
/// administrator's, and logging what the controllers log by themselves.
pub async fn start_control_as(
    plane: &ControlPlane,
    name: &str,
    kubeconfig: &Path,
    flags: &[&str],
) -> anyhow::Result<Process> {
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
    arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
    arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    let process = plane
        .spawn(ProcessSpec {
            name: name.to_owned(),
            program: program("pd-scheduler-plugin").await?,
            arguments,
            environment: vec![("POD_NAME".to_owned(), name.to_owned())],
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
    installed: Installed,
    port: ReservedPort,
}

impl Webhook {
    /// Its port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

/// Installs the chart with the webhook, starts it beside the cluster, and returns when pods with
/// numbers are accepted. `values` go over those that the webhook needs here.
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
    Ok(Webhook {
        process,
        installed,
        port,
    })
}

async fn install(plane: &ControlPlane, port: u16, values: &Value) -> anyhow::Result<Installed> {
    plane.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let mut all = json!({ "webhook": { "enabled": true, "service": { "port": port } } });
    merge(&mut all, values);
    let controller = chart::install_as_is(plane, NAMESPACE, &all).await?;
    let client = plane.client().await?;
    let name = format!("{NAMESPACE}-pd-autoscaler-webhook");
    let services = Api::<Service>::namespaced(client, NAMESPACE);
    services.delete(&name, &DeleteParams::default()).await?;
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] },
    }))?;
    services.create(&PostParams::default(), &service).await?;
    part(plane, &name, controller).await
}

/// The arguments and the account of the chart's Deployment `name`.
async fn part(plane: &ControlPlane, name: &str, installed: Installed) -> anyhow::Result<Installed> {
    let deployments = Api::<Deployment>::namespaced(plane.client().await?, NAMESPACE);
    let pod = deployments.get(name).await?.spec;
    let pod = pod.and_then(|spec| spec.template.spec);
    let pod = pod.ok_or_else(|| anyhow!("Deployment `{name}` has no pod"))?;
    let account = pod.service_account_name.unwrap_or_default();
    let container = pod.containers.into_iter().next();
    Ok(Installed {
        args: container
            .and_then(|container| container.args)
            .with_context(|| format!("the container of Deployment `{name}` has no arguments"))?,
        service_account_kubeconfig: plane
            .kubeconfig_for_service_account(NAMESPACE, &account)
            .await?,
        service_account: account,
        ..installed
    })
}

/// All that the chart runs for numeric tolerations, beside the cluster, with the chart's arguments
/// and accounts.
#[derive(Debug)]
pub struct Everything {
    /// The webhook.
    pub webhook: Webhook,
    /// The extender, which the scheduler asks over TLS.
    pub extender: Process,
    /// The controllers.
    pub control: Process,
    control_spec: ProcessSpec,
    _port: ReservedPort,
}

impl Everything {
    /// Installs the chart with `values`, starts its programs, and restarts the scheduler with the
    /// extender in its configuration; returns when all of them do their work.
    pub async fn start(plane: &mut ControlPlane, values: &Value) -> anyhow::Result<Self> {
        let enabled = json!({ "enabled": true });
        let mut all = json!({ "extender": enabled, "control": enabled });
        merge(&mut all, values);
        let webhook = start_webhook(plane, &all).await?;
        let port = ReservedPort::reserve()?;
        let address = format!("127.0.0.1:{}", port.number());
        let flags = [("--extender-address", address.as_str())];
        let extender = plane
            .spawn(spec(plane, &webhook.installed, "extender", &flags).await?)
            .await?;
        let control_spec = spec(plane, &webhook.installed, "control", &[]).await?;
        let control = start_leading(plane, &control_spec).await?;
        let configuration = over_tls(plane, port.number(), &extender).await?;
        let profiles = plane.options().scheduler_profiles.clone();
        plane.set_scheduler(vec![configuration], profiles)?;
        plane.restart(Component::Scheduler).await?;
        Ok(Self {
            webhook,
            extender,
            control,
            control_spec,
            _port: port,
        })
    }

    /// Ends the controllers in order and starts others; returns when they lead.
    pub async fn restart_control(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        self.control.signal(Signal::Terminate)?;
        let ended = self.control.wait_exit(READY_WITHIN).await?;
        anyhow::ensure!(ended, "the controllers do not end");
        self.control = start_leading(plane, &self.control_spec).await?;
        Ok(())
    }
}

/// The controllers of the chart installed with `values`, as the chart runs them: its arguments, its
/// account. They can be started again.
#[derive(Debug)]
pub struct Controllers {
    /// The process that runs now.
    pub process: Process,
    spec: ProcessSpec,
}

impl Controllers {
    /// Installs the chart with its controllers on and `values` over that, and starts them; returns
    /// when they lead.
    pub async fn start(plane: &ControlPlane, values: &Value) -> anyhow::Result<Self> {
        plane.kubectl(&["create", "namespace", NAMESPACE]).await?;
        let mut all = json!({ "control": { "enabled": true } });
        merge(&mut all, values);
        let installed = chart::install_as_is(plane, NAMESPACE, &all).await?;
        let spec = spec(plane, &installed, "control", &[]).await?;
        let process = start_leading(plane, &spec).await?;
        Ok(Self { process, spec })
    }

    /// Kills the process, with no chance to end anything, and starts another.
    pub async fn kill_and_start(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        self.process.kill().await?;
        self.process = start_leading(plane, &self.spec).await?;
        Ok(())
    }
}

/// How to run the chart's part `name` of pd-scheduler-plugin here. Its first argument is the
/// subcommand.
async fn spec(
    plane: &ControlPlane,
    installed: &Installed,
    name: &str,
    flags: &[(&str, &str)],
) -> anyhow::Result<ProcessSpec> {
    let full_name = format!("{NAMESPACE}-pd-autoscaler-{name}");
    let mut part = part(plane, &full_name, installed.clone()).await?;
    let mut arguments = vec![part.args.remove(0)];
    arguments.extend(part.command_line(flags));
    Ok(ProcessSpec {
        name: format!("pd-{name}"),
        program: program("pd-scheduler-plugin").await?,
        arguments,
        environment: vec![
            ("POD_NAMESPACE".to_owned(), part.namespace),
            ("POD_NAME".to_owned(), format!("pd-{name}")),
        ],
        log: None,
    })
}

async fn start_leading(plane: &ControlPlane, spec: &ProcessSpec) -> anyhow::Result<Process> {
    let process = plane.spawn(spec.clone()).await?;
    eventually("the controllers to lead", READY_WITHIN, async || {
        let log = process.log();
        if log.contains("\"leading\"") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    Ok(process)
}

/// The entry of `extenders` that the chart's notes give, once the extender answers under it.
async fn over_tls(plane: &ControlPlane, port: u16, extender: &Process) -> anyhow::Result<Value> {
    let name = format!("{NAMESPACE}-pd-autoscaler-extender");
    let server_name = format!("{name}.{NAMESPACE}.svc");
    let secrets = Api::<Secret>::namespaced(plane.client().await?, NAMESPACE);
    let call = json!({ "Pod": {}, "Nodes": null, "NodeNames": [] });
    let authority = eventually("the extender to answer", READY_WITHIN, async || {
        let told = |error: &dyn std::fmt::Display| format!("{error}\n{}", extender.log_tail());
        let secret = secrets.get(&format!("{name}-certificates")).await;
        let data = secret
            .map_err(|error| told(&error))?
            .data
            .unwrap_or_default();
        let authority = data.get("ca.crt").cloned().unwrap_or_default();
        let trusted = reqwest::Certificate::from_pem(&authority.0).map_err(|error| told(&error))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([trusted])
            .resolve(&server_name, ([127, 0, 0, 1], port).into())
            .build();
        let url = format!("https://{server_name}:{port}/filter");
        let client = client.map_err(|error| told(&error))?;
        let answer = client.post(url).json(&call).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.map(|_| authority).map_err(|error| told(&error))
    })
    .await?;
    Ok(json!({
        "urlPrefix": format!("https://127.0.0.1:{port}"),
        "filterVerb": "filter",
        "prioritizeVerb": "prioritize",
        "weight": 3,
        "nodeCacheCapable": true,
        "httpTimeout": "2s",
        "enableHTTPS": true,
        "tlsConfig": { "serverName": server_name, "caData": authority },
    }))
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
