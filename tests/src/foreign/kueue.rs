//! Kueue's manager, installed by its own chart.
//!
//! Its Deployment is left out, for the manager runs beside the cluster, and with it what needs a
//! pod's address: the visibility API and the service of its metrics. Its webhooks' Service leads to
//! this machine. Its certificates are its own: it makes them, keeps them in its Secret, and waits
//! until a kubelet has mounted that, which here is copied.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use super::{documents, program_and_source, text};
use crate::{
    control_plane::{ControlPlane, eventually, until_served, wait_ready},
    ports::ReservedPort,
    supervisor::{Process, ProcessSpec},
};

/// The manager's module, as `tests/tools/kueue` requires it.
const MODULE: (&str, &str) = ("kueue", "sigs.k8s.io/kueue");

/// The namespace of the manager.
const NAMESPACE: &str = "kueue-system";

/// The Service of its webhooks.
const SERVICE: &str = "kueue-webhook-service";

/// The Secret with its certificates.
const SECRET: &str = "kueue-webhook-server-cert";

/// How long the manager may take to make its certificates, and then to be ready.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// A running manager; it ends when dropped, and with it all making of pods: its webhooks fail.
#[derive(Debug)]
pub struct Kueue {
    /// Its process.
    pub process: Process,
    _ports: [ReservedPort; 2],
}

impl Kueue {
    /// Installs its chart and starts it with its own service account; returns when its webhooks
    /// answer. `configuration` goes over the one that it needs here.
    pub async fn start(plane: &ControlPlane, configuration: &Value) -> anyhow::Result<Self> {
        let (program, source) = program_and_source("kueue", MODULE).await?;
        let ports = [ReservedPort::reserve()?, ReservedPort::reserve()?];
        install(plane, &source, ports[0].number()).await?;
        let kubeconfig = plane
            .kubeconfig_for_service_account(NAMESPACE, "kueue-controller-manager")
            .await?;
        let folder = plane.directory().join("kueue");
        let certificates = folder.join("certificates");
        fs::create_dir_all(&certificates)?;
        let health = format!("127.0.0.1:{}", ports[1].number());
        let mut all = json!({
            "apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration",
            "namespace": NAMESPACE,
            "health": { "healthProbeBindAddress": health },
            "metrics": { "bindAddress": "0" },
            "webhook": { "host": "127.0.0.1", "port": ports[0].number(), "certDir": certificates },
            "leaderElection": { "leaderElect": false },
            "internalCertManagement": { "enable": true },
            "integrations": { "frameworks": ["pod", "deployment", "statefulset"] },
            "featureGates": { "VisibilityOnDemand": false },
        });
        crate::stage::merge(&mut all, configuration);
        let file = folder.join("configuration.json");
        fs::write(&file, all.to_string())?;
        let process = plane
            .spawn(ProcessSpec {
                name: "kueue".to_owned(),
                program,
                arguments: vec![
                    format!("--kubeconfig={}", kubeconfig.display()),
                    format!("--config={}", file.display()),
                    "--zap-log-level=2".to_owned(),
                ],
                environment: Vec::new(),
                log: None,
            })
            .await?;
        mount(plane, &process, &certificates).await?;
        let url = format!("http://{health}/readyz");
        wait_ready(&process, &url, None, READY_WITHIN).await?;
        until_its_webhooks_answer(plane, &process).await?;
        Ok(Self {
            process,
            _ports: ports,
        })
    }
}

/// Applies the chart's objects, the webhooks under `port` of this machine.
async fn install(plane: &ControlPlane, source: &Path, port: u16) -> anyhow::Result<()> {
    let chart = source.join("charts").join("kueue");
    let chart = chart
        .to_str()
        .context("the path of Kueue's chart is no text")?;
    let rendered = ["template", "kueue", chart, "--namespace", NAMESPACE];
    let mut objects = documents(&plane.helm(&rendered).await?)?;
    objects.retain(|object| {
        let kind = object["kind"].as_str().unwrap_or_default();
        let is_its_service = object["metadata"]["name"] == SERVICE;
        match kind {
            "Deployment" | "APIService" => false,
            "Service" => is_its_service,
            _ => true,
        }
    });
    for object in &mut objects {
        if object["kind"] == "Service" {
            object["spec"] = json!({
                "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }],
            });
        }
        lead_to(object, port);
    }
    plane.kubectl(&["create", "namespace", NAMESPACE]).await?;
    plane.apply(&text(&objects)).await?;
    for object in objects {
        if object["kind"] == "CustomResourceDefinition" {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            until_served(plane, name).await?;
        }
    }
    Ok(())
}

/// States `port` wherever an object names the Service of the webhooks.
fn lead_to(object: &mut Value, port: u16) {
    match object {
        Value::Object(fields) => {
            if let Some(service) = fields.get_mut("service")
                && service["name"] == SERVICE
            {
                service["port"] = json!(port);
            }
            fields.values_mut().for_each(|value| lead_to(value, port));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| lead_to(item, port)),
        _ => {}
    }
}

/// Copies the certificates that it makes to where it looks for them.
async fn mount(plane: &ControlPlane, process: &Process, folder: &Path) -> anyhow::Result<()> {
    let secrets = Api::<Secret>::namespaced(plane.client().await?, NAMESPACE);
    let data = eventually("Kueue's certificates", READY_WITHIN, async || {
        let secret = secrets.get(SECRET).await;
        let data = secret.map_err(|error| error.to_string())?.data;
        let made = data.filter(|data| data.contains_key("tls.crt") && data.contains_key("tls.key"));
        made.ok_or_else(|| process.log_tail())
    });
    for (name, bytes) in data.await? {
        fs::write(folder.join(name), bytes.0)?;
    }
    Ok(())
}

async fn until_its_webhooks_answer(plane: &ControlPlane, process: &Process) -> anyhow::Result<()> {
    let flavor = json!({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor",
        "metadata": { "name": "is-it-there" },
    })
    .to_string();
    let apply = ["apply", "--server-side", "--dry-run=server", "--filename=-"];
    eventually("Kueue's webhooks", READY_WITHIN, async || {
        let answer = plane.kubectl_with_input(&apply, &flavor).await;
        answer.map_err(|error| format!("{error}\n{}", process.log_tail()))
    })
    .await?;
    Ok(())
}
