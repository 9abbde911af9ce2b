//! A real Kubernetes control plane for a test: started in seconds, gone without a trace.
//!
//! [`ControlPlane::start`] runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and
//! KWOK as child processes on free loopback ports, in a temporary directory, with its own
//! certificates. It is ready when all of them say so. Any one can be killed, restarted, or stopped
//! and continued. Nothing outlives the owner: see [`crate::supervisor`].
//!
//! Tests of one program usually share one cluster ([`shared`]) and take a [`Namespace`] each. A
//! test that kills components starts its own.

mod certificates;
mod commands;
mod components;
mod error;
mod kubeconfig;
mod namespace;
mod nodes;
mod options;
mod readiness;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Node, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::OnceCell;

pub use certificates::CertificateError;
pub use error::ControlPlaneError;
pub use namespace::Namespace;
pub use nodes::{BLOCK_LABEL, GPU_RESOURCE, NodeSpec, RACK_LABEL, ZONE_LABEL};
pub use options::{Component, Options};
pub use readiness::{eventually, throughout, until_served};

pub(crate) use commands::run;
pub(crate) use readiness::wait_ready;

use certificates::Authority;
use components::{Layout, Ports};
use kubeconfig::Credential;

use crate::{
    supervisor::{Process, ProcessSpec, Supervisor, lock},
    tools::{KubernetesVersion, Tools},
};

static SHARED: OnceCell<Result<ControlPlane, ControlPlaneError>> = OnceCell::const_new();

/// The cluster that all tests of this process share: default options and no nodes. The first caller
/// starts it; if that fails, every caller gets the same error.
pub async fn shared() -> Result<&'static ControlPlane, &'static ControlPlaneError> {
    SHARED
        .get_or_init(|| ControlPlane::start(Options::default()))
        .await
        .as_ref()
}

/// Makes ring the process's TLS implementation, which every TLS client here needs; may be called
/// any number of times.
pub fn install_crypto_provider() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A running control plane; dropping it ends all its processes and removes its directory.
#[derive(Debug)]
pub struct ControlPlane {
    // Before the supervisor, so that the handles go first.
    processes: Mutex<HashMap<Component, Process>>,
    supervisor: Supervisor,
    authority: Authority,
    ports: Ports,
    tools: Tools,
    options: Options,
    admin: PathBuf,
}

impl ControlPlane {
    /// Starts a control plane and returns when it is ready, nodes included. The first start on a
    /// machine builds the programs, which takes many minutes and is reported on standard error.
    pub async fn start(options: Options) -> Result<Self, ControlPlaneError> {
        install_crypto_provider();
        let version = match options.kubernetes_version {
            Some(version) => version,
            None => KubernetesVersion::from_environment()?,
        };
        let tools = tokio::task::spawn_blocking(move || Tools::locate_or_build(version)).await??;
        let supervisor = Supervisor::start("pd-cluster-")?;
        let directory = supervisor.directory().to_owned();
        let authority = Authority::create(&directory.join("certificates"))?;
        let ports = Ports::reserve()?;
        let server = format!("https://127.0.0.1:{}", ports.api_server());
        let masters = Some("system:masters");
        for (user, group) in [
            ("admin", masters),
            ("system:kube-controller-manager", masters),
            ("system:kube-scheduler", None),
        ] {
            kubeconfig::write(
                &authority,
                &directory,
                &server,
                user,
                &Credential::Group(group),
            )?;
        }
        let admin = directory.join("kubeconfigs").join("admin");
        let processes = Mutex::default();
        let plane = Self {
            processes,
            supervisor,
            authority,
            ports,
            tools,
            options,
            admin,
        };
        plane.layout().write_files()?;
        plane.start_components().await?;
        let nodes = plane.options.nodes.clone();
        for spec in &nodes {
            plane.add_nodes(spec).await?;
        }
        Ok(plane)
    }

    async fn start_components(&self) -> Result<(), ControlPlaneError> {
        // The API server waits for etcd by itself; the others would only retry, more slowly.
        self.spawn_component(Component::Etcd).await?;
        self.spawn_component(Component::ApiServer).await?;
        self.wait_component(Component::ApiServer).await?;
        let optional = [
            (
                Component::ControllerManager,
                self.options.controller_manager,
            ),
            (Component::Scheduler, self.options.scheduler),
            (Component::Kwok, self.options.kwok),
        ];
        let wanted: Vec<Component> = optional
            .iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(component, _)| *component)
            .collect();
        for component in &wanted {
            self.spawn_component(*component).await?;
        }
        for component in wanted {
            self.wait_component(component).await?;
        }
        Ok(())
    }

    fn layout(&self) -> Layout<'_> {
        Layout {
            directory: self.supervisor.directory(),
            authority: &self.authority,
            ports: &self.ports,
            tools: &self.tools,
            options: &self.options,
        }
    }

    async fn spawn_component(&self, component: Component) -> Result<(), ControlPlaneError> {
        let process = self.supervisor.spawn(self.layout().spec(component)).await?;
        lock(&self.processes).insert(component, process);
        Ok(())
    }

    /// Waits until a running component says that it is ready.
    pub async fn wait_component(&self, component: Component) -> Result<(), ControlPlaneError> {
        let process = self.process(component)?;
        let url = self.layout().ready_url(component);
        let authority = self.authority.certificate();
        wait_ready(&process, &url, Some(&authority), self.options.ready_timeout).await
    }

    /// Kills a component with SIGKILL; returns when it is gone. No error when it was not running.
    pub async fn kill(&self, component: Component) -> Result<(), ControlPlaneError> {
        let process = lock(&self.processes).remove(&component);
        match process {
            Some(process) => Ok(process.kill().await?),
            None => Ok(()),
        }
    }

    /// Starts a component again, killing it first if it still runs; returns when it is ready.
    pub async fn restart(&self, component: Component) -> Result<(), ControlPlaneError> {
        self.kill(component).await?;
        self.spawn_component(component).await?;
        self.wait_component(component).await
    }

    /// Sets a feature gate for components that are started or restarted from now on.
    pub fn set_feature_gate(&mut self, gate: &str, on: bool) {
        self.options.feature_gates.insert(gate.to_owned(), on);
    }

    /// Sets the extenders and profiles of schedulers that are started or restarted from now on.
    pub fn set_scheduler(
        &mut self,
        extenders: Vec<serde_json::Value>,
        profiles: Vec<serde_json::Value>,
    ) -> Result<(), ControlPlaneError> {
        self.options.scheduler_extenders = extenders;
        self.options.scheduler_profiles = profiles;
        Ok(self.layout().write_files()?)
    }

    /// Makes a component hang (SIGSTOP) until [`Self::resume`].
    pub async fn pause(&self, component: Component) -> Result<(), ControlPlaneError> {
        Ok(self.process(component)?.pause().await?)
    }

    /// Ends the hang of a component (SIGCONT).
    pub async fn resume(&self, component: Component) -> Result<(), ControlPlaneError> {
        Ok(self.process(component)?.resume().await?)
    }

    /// The process of a component, for its id and log.
    pub fn process(&self, component: Component) -> Result<Process, ControlPlaneError> {
        let processes = lock(&self.processes);
        processes
            .get(&component)
            .cloned()
            .ok_or(ControlPlaneError::NotRunning(component.name()))
    }

    /// Runs any other program (a controller, an emulator) under the same supervision, with its log
    /// in [`Self::logs_directory`]; it ends when the returned handle is dropped, or with the
    /// cluster.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Process, ControlPlaneError> {
        Ok(self.supervisor.spawn(spec).await?)
    }

    /// Adds nodes and returns when they are ready for pods.
    pub async fn add_nodes(&self, spec: &NodeSpec) -> Result<Vec<String>, ControlPlaneError> {
        let client = self.client().await?;
        nodes::create(&client, spec, !self.options.kwok).await?;
        let names = spec.names();
        if !self.options.kwok {
            return Ok(names);
        }
        let api = Api::<Node>::all(client);
        let timeout = Duration::from_secs(60 + spec.count as u64 / 10);
        eventually("nodes to be ready", timeout, async || {
            let nodes = api
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let usable = nodes
                .iter()
                .filter(|node| nodes::is_usable(node))
                .filter(|node| {
                    node.metadata
                        .name
                        .as_ref()
                        .is_some_and(|name| names.contains(name))
                })
                .count();
            if usable == names.len() {
                return Ok(());
            }
            Err(format!("{usable} of {} are", names.len()))
        })
        .await?;
        Ok(names)
    }

    /// A new administrator's client. Clients belong to the runtime they are made in, so every test
    /// makes its own.
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        self.client_in("default").await
    }

    /// A new administrator's client with a default namespace.
    pub async fn client_in(&self, namespace: &str) -> Result<Client, ControlPlaneError> {
        let mut config = config_from(&self.admin).await?;
        namespace.clone_into(&mut config.default_namespace);
        Ok(Client::try_from(config)?)
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// A kubeconfig file for a user without any group but those all users are in; what it may do
    /// is up to RBAC.
    pub fn kubeconfig_for_user(&self, user: &str) -> Result<PathBuf, ControlPlaneError> {
        Ok(self.write_kubeconfig(user, &Credential::Group(None))?)
    }

    /// A kubeconfig file for a service account, with a token valid for an hour.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, ControlPlaneError> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Ok(self.write_kubeconfig(&user, &Credential::Token(&token))?)
    }

    fn write_kubeconfig(
        &self,
        user: &str,
        credential: &Credential<'_>,
    ) -> Result<PathBuf, CertificateError> {
        let directory = self.supervisor.directory();
        kubeconfig::write(
            &self.authority,
            directory,
            &self.api_server_url(),
            user,
            credential,
        )
    }

    /// Runs kubectl as the administrator and gives its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, ControlPlaneError> {
        run(
            &self.tools.kubectl,
            arguments,
            &self.home(),
            Some(&self.admin),
            None,
        )
        .await
    }

    /// Runs kubectl with text on its standard input.
    pub async fn kubectl_with_input(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, ControlPlaneError> {
        run(
            &self.tools.kubectl,
            arguments,
            &self.home(),
            Some(&self.admin),
            Some(input),
        )
        .await
    }

    /// Applies manifests (YAML or JSON) as the administrator.
    pub async fn apply(&self, manifests: &str) -> Result<String, ControlPlaneError> {
        self.kubectl_with_input(&["apply", "--server-side", "--filename=-"], manifests)
            .await
    }

    /// Runs helm as the administrator and gives its standard output.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, ControlPlaneError> {
        run(
            &self.tools.helm,
            arguments,
            &self.home(),
            Some(&self.admin),
            None,
        )
        .await
    }

    /// The API server's address.
    pub fn api_server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api_server())
    }

    /// Where a component shows its metrics, to those who may read them.
    pub fn metrics_url(&self, component: Component) -> String {
        let ready = self.layout().ready_url(component);
        let server = ready.rsplit_once('/').map_or("", |(server, _)| server);
        format!("{server}/metrics")
    }

    /// The certificate authority of all servers and clients, PEM.
    pub fn certificate_authority(&self) -> String {
        self.authority.certificate()
    }

    /// The directory of everything that belongs to this cluster.
    pub fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    /// The directory with one log file per process.
    pub fn logs_directory(&self) -> PathBuf {
        self.supervisor.directory().join("logs")
    }

    /// The programs in use.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The choices this cluster was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn home(&self) -> PathBuf {
        self.supervisor.directory().join("home")
    }
}

/// Client settings from a kubeconfig file, for clients as another user than the administrator.
pub async fn config_from(kubeconfig: &Path) -> Result<Config, ControlPlaneError> {
    install_crypto_provider();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
