//! The chart as users meet it: rendered by helm, or installed into a control plane.
//!
//! An installed chart's pods are played by KWOK, so nothing runs in them. To test the controller
//! under the chart, its real binary is started beside the cluster with [`Installed::command_line`]:
//! the arguments that the chart rendered and the chart's service account, so that a right or a flag
//! that the chart forgets is missed.
//!
//! The CRD belongs to the whole cluster. On a shared one, the first release brings it and the
//! others use it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::{
    control_plane::{ControlPlane, ControlPlaneError, eventually, run},
    tools::{KubernetesVersion, Tools},
};

/// The CRD that the chart brings.
pub const CRD: &str = "pdautoscalers.pdautoscaler.io";

const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

static TOOLS: OnceCell<Tools> = OnceCell::const_new();
/// Held while a release is installed, so that only the first one brings the CRD.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// Why a chart was not rendered or installed.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The control plane or helm failed; for values that the schema refuses, with helm's words.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The API server refused.
    #[error("the API server refused")]
    Api(#[from] kube::Error),
    /// The values could not be handed to helm.
    #[error("cannot write the values for helm")]
    Values(#[from] io::Error),
    /// The text that helm rendered is no YAML.
    #[error("what helm rendered is no YAML: {0}")]
    Rendered(String),
    /// The release has not exactly one object of a kind.
    #[error("release `{release}` has {found} objects of kind `{kind}`, and must have one")]
    NotOne {
        /// The release.
        release: String,
        /// The kind.
        kind: &'static str,
        /// How many it has.
        found: usize,
    },
}

/// The chart's directory.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/pd-autoscaler")
}

/// Renders the chart as release `pd` in namespace `system`, with `values` over its own. Needs no
/// cluster.
pub async fn render(values: &Value) -> Result<Vec<Value>, ChartError> {
    let text = template(values, &[]).await?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| ChartError::Rendered(format!("{error}\n{text}")))?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// The text of [`render`], with more arguments for `helm template`.
pub async fn template(values: &Value, arguments: &[&str]) -> Result<String, ChartError> {
    template_as("pd", "system", values, arguments).await
}

/// The text that `helm template` gives for a release of that name in `namespace`.
pub async fn template_as(
    release: &str,
    namespace: &str,
    values: &Value,
    arguments: &[&str],
) -> Result<String, ChartError> {
    let tools = TOOLS.get_or_try_init(tools).await?;
    let home = tempfile::tempdir()?;
    let file = values_file(home.path(), values)?;
    let chart = directory();
    let mut command = vec![
        "template",
        release,
        text(&chart),
        "--namespace",
        namespace,
        "--values",
        text(&file),
    ];
    command.extend(arguments);
    Ok(run(&tools.helm, &command, home.path(), None, None).await?)
}

async fn tools() -> Result<Tools, ControlPlaneError> {
    let version = KubernetesVersion::from_environment()?;
    Ok(tokio::task::spawn_blocking(move || Tools::locate_or_build(version)).await??)
}

/// A release of the chart in a cluster.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The release, named after its namespace: objects of the whole cluster must not meet another
    /// release's.
    pub release: String,
    /// The namespace it is in.
    pub namespace: String,
    /// The arguments of the controller's container, as the API server has them.
    pub args: Vec<String>,
    /// The name of the controller's service account.
    pub service_account: String,
    /// A kubeconfig with a token of that service account, valid for an hour.
    pub service_account_kubeconfig: PathBuf,
}

/// Installs the chart into `namespace`, which must exist, with `values` over its own, and returns
/// when the CRD is established. The CRD is installed unless it is there already or `values` says
/// otherwise.
pub async fn install(
    plane: &ControlPlane,
    namespace: &str,
    values: &Value,
) -> Result<Installed, ChartError> {
    let _one_at_a_time = INSTALLING.lock().await;
    let crds = Api::<CustomResourceDefinition>::all(plane.client().await?);
    let mut values = values.clone();
    if values.get("crds").is_none() && crds.get_opt(CRD).await?.is_some() {
        values["crds"] = json!({ "enabled": false });
    }
    let installed = install_as_is(plane, namespace, &values).await?;
    eventually(
        "the CRD to be established",
        ESTABLISHED_WITHIN,
        async || {
            let crd = crds.get(CRD).await.map_err(|error| error.to_string())?;
            let conditions = crd
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let established = conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True");
            established
                .then_some(())
                .ok_or_else(|| format!("{conditions:?}"))
        },
    )
    .await?;
    Ok(installed)
}

/// As [`install`], with the values as they are and no word about the CRD, which may be missing.
pub async fn install_as_is(
    plane: &ControlPlane,
    namespace: &str,
    values: &Value,
) -> Result<Installed, ChartError> {
    let home = tempfile::tempdir()?;
    let file = values_file(home.path(), values)?;
    let release = namespace.to_owned();
    let chart = directory();
    let command = [
        "install",
        &release,
        text(&chart),
        "--namespace",
        namespace,
        "--values",
        text(&file),
    ];
    plane.helm(&command).await?;
    describe(plane, release, namespace).await
}

async fn describe(
    plane: &ControlPlane,
    release: String,
    namespace: &str,
) -> Result<Installed, ChartError> {
    let client = plane.client().await?;
    let labels =
        format!("app.kubernetes.io/instance={release},app.kubernetes.io/component=autoscaler");
    let of_release = ListParams::default().labels(&labels);
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let found = deployments.list(&of_release).await?.items;
    let [deployment] = <[Deployment; 1]>::try_from(found).map_err(|found| ChartError::NotOne {
        release: release.clone(),
        kind: "Deployment",
        found: found.len(),
    })?;
    let pod = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .unwrap_or_default();
    let args = pod
        .containers
        .into_iter()
        .next()
        .and_then(|container| container.args);
    let service_account = pod
        .service_account_name
        .unwrap_or_else(|| "default".to_owned());
    // Asked for first, for a message that names the account when the chart forgot it.
    Api::<ServiceAccount>::namespaced(client, namespace)
        .get(&service_account)
        .await?;
    let kubeconfig = plane
        .kubeconfig_for_service_account(namespace, &service_account)
        .await?;
    Ok(Installed {
        release,
        namespace: namespace.to_owned(),
        args: args.unwrap_or_default(),
        service_account,
        service_account_kubeconfig: kubeconfig,
    })
}

impl Installed {
    /// The name of the controller's lease, empty without leader election.
    pub fn lease(&self) -> &str {
        let mut args = self.args.iter();
        args.find_map(|arg| arg.strip_prefix("--leader-election-lease="))
            .unwrap_or_default()
    }

    /// The arguments to run the controller with outside of its pod: as rendered, but with the
    /// service account's kubeconfig, a free admin port (it is logged), and `changes` by flag, such
    /// as `("--interval", "1s")`.
    pub fn command_line(&self, changes: &[(&str, &str)]) -> Vec<String> {
        let kubeconfig = self.service_account_kubeconfig.to_string_lossy();
        let mut flags: BTreeMap<&str, Option<&str>> = self
            .args
            .iter()
            .map(|arg| match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (arg.as_str(), None),
            })
            .collect();
        flags.insert("--kubeconfig", Some(&kubeconfig));
        for address in ["--admin-address", "--what-if-address"] {
            let is_served = address == "--admin-address" || flags.contains_key(address);
            if is_served {
                flags.insert(address, Some("127.0.0.1:0"));
            }
        }
        flags.extend(changes.iter().map(|&(flag, value)| (flag, Some(value))));
        flags
            .into_iter()
            .map(|(flag, value)| match value {
                Some(value) => format!("{flag}={value}"),
                None => flag.to_owned(),
            })
            .collect()
    }

    /// Upgrades the release to the chart's own values with `values` over them.
    pub async fn upgrade(&self, plane: &ControlPlane, values: &Value) -> Result<(), ChartError> {
        let home = tempfile::tempdir()?;
        let file = values_file(home.path(), values)?;
        let chart = directory();
        let namespace = &self.namespace;
        let command = [
            "upgrade",
            &self.release,
            text(&chart),
            "--namespace",
            namespace,
            "--values",
            text(&file),
        ];
        plane.helm(&command).await?;
        Ok(())
    }

    /// Uninstalls the release and returns when its objects are deleted.
    pub async fn uninstall(&self, plane: &ControlPlane) -> Result<(), ChartError> {
        plane
            .helm(&[
                "uninstall",
                &self.release,
                "--namespace",
                &self.namespace,
                "--wait",
            ])
            .await?;
        Ok(())
    }
}

/// Values as a file, because `--set` has a syntax of its own that would change some of them.
fn values_file(directory: &Path, values: &Value) -> Result<PathBuf, io::Error> {
    let path = directory.join("values.json");
    std::fs::write(&path, values.to_string())?;
    Ok(path)
}

/// Paths of this repository and of temporary directories are UTF-8 on every machine we know; helm
/// would report another one as a missing file.
fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_rendered_one_with_changes() {
        let args = [
            "--interval=15s",
            "--admin-address=0.0.0.0:8080",
            "--log-filter=info,kube=warn",
            "--tls",
        ];
        let installed = Installed {
            release: "r".to_owned(),
            namespace: "n".to_owned(),
            args: args.map(str::to_owned).to_vec(),
            service_account: "s".to_owned(),
            service_account_kubeconfig: "k".into(),
        };
        let want = [
            "--admin-address=127.0.0.1:0",
            "--interval=1s",
            "--kubeconfig=k",
            "--log-filter=info,kube=warn",
            "--tls",
        ];
        assert_eq!(installed.command_line(&[("--interval", "1s")]), want);
    }
}
