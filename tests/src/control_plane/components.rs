//! The command line of each component, and the address at which it says that it is ready.
//!
//! A component's command line depends on nothing but the cluster's layout and options, so a
//! restarted component is the same as the first. Everything listens on loopback only.

use std::{fs, io, path::Path};

use serde_json::json;

use super::{
    certificates::Authority,
    options::{Component, Options},
};
use crate::{ports::ReservedPort, supervisor::ProcessSpec, tools::Tools};

/// KWOK exits without stages; these are ours, see `tests/tools/kwok/stages`.
const STAGES: [&str; 5] = [
    include_str!("../../tools/kwok/stages/node-initialize.yaml"),
    include_str!("../../tools/kwok/stages/node-heartbeat-with-lease.yaml"),
    include_str!("../../tools/kwok/stages/pod-ready.yaml"),
    include_str!("../../tools/kwok/stages/pod-complete.yaml"),
    include_str!("../../tools/kwok/stages/pod-delete.yaml"),
];

/// Loopback ports, reserved for as long as the cluster lives.
#[derive(Debug)]
pub(super) struct Ports {
    etcd: ReservedPort,
    etcd_peers: ReservedPort,
    api_server: ReservedPort,
    controller_manager: ReservedPort,
    scheduler: ReservedPort,
    kwok: ReservedPort,
}

impl Ports {
    pub(super) fn reserve() -> io::Result<Self> {
        Ok(Self {
            etcd: ReservedPort::reserve()?,
            etcd_peers: ReservedPort::reserve()?,
            api_server: ReservedPort::reserve()?,
            controller_manager: ReservedPort::reserve()?,
            scheduler: ReservedPort::reserve()?,
            kwok: ReservedPort::reserve()?,
        })
    }

    pub(super) fn api_server(&self) -> u16 {
        self.api_server.number()
    }
}

/// The values that all command lines are made from.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    pub(super) directory: &'a Path,
    pub(super) authority: &'a Authority,
    pub(super) ports: &'a Ports,
    pub(super) tools: &'a Tools,
    pub(super) options: &'a Options,
}

impl Layout<'_> {
    /// The command line of a component.
    pub(super) fn spec(&self, component: Component) -> ProcessSpec {
        let (program, arguments) = match component {
            Component::Etcd => (&self.tools.etcd, self.etcd()),
            Component::ApiServer => (&self.tools.kube_apiserver, self.api_server()),
            Component::ControllerManager => (
                &self.tools.kube_controller_manager,
                self.controller_manager(),
            ),
            Component::Scheduler => (&self.tools.kube_scheduler, self.scheduler()),
            Component::Kwok => (&self.tools.kwok, self.kwok()),
        };
        ProcessSpec {
            name: component.name().to_owned(),
            program: program.clone(),
            arguments,
            // KWOK reads configuration from the home directory; the developer's must not count.
            environment: vec![("HOME".to_owned(), self.path("home"))],
            log: None,
        }
    }

    /// Where a component says that it is ready.
    pub(super) fn ready_url(&self, component: Component) -> String {
        match component {
            Component::Etcd => format!("http://127.0.0.1:{}/health", self.ports.etcd.number()),
            Component::ApiServer => format!(
                "https://127.0.0.1:{}/readyz",
                self.ports.api_server.number()
            ),
            Component::ControllerManager => {
                format!(
                    "https://127.0.0.1:{}/healthz",
                    self.ports.controller_manager.number()
                )
            }
            Component::Scheduler => format!(
                "https://127.0.0.1:{}/healthz",
                self.ports.scheduler.number()
            ),
            Component::Kwok => format!("http://127.0.0.1:{}/healthz", self.ports.kwok.number()),
        }
    }

    /// Writes the files that components read: the scheduler's configuration and KWOK's stages.
    pub(super) fn write_files(&self) -> io::Result<()> {
        fs::create_dir_all(self.directory.join("home"))?;
        let mut scheduler = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": { "leaderElect": false },
            "clientConnection": {
                "kubeconfig": self.path("kubeconfigs/system-kube-scheduler"),
                "qps": 5000,
                "burst": 5000,
            },
            "extenders": self.options.scheduler_extenders,
        });
        if !self.options.scheduler_profiles.is_empty() {
            scheduler["profiles"] = json!(self.options.scheduler_profiles);
        }
        fs::write(self.directory.join("scheduler.json"), scheduler.to_string())?;
        fs::write(self.directory.join("stages.yaml"), STAGES.join("\n---\n"))
    }

    fn path(&self, relative: &str) -> String {
        self.directory.join(relative).to_string_lossy().into_owned()
    }

    fn etcd(&self) -> Vec<String> {
        let (client, peer) = (self.ports.etcd.number(), self.ports.etcd_peers.number());
        let (client, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        vec![
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // The data need not survive a power failure, only a killed process.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let authority = self.authority;
        let mut arguments = vec![
            format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.ports.etcd.number()
            ),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.api_server.number()),
            format!("--tls-cert-file={}", authority.path("serving.crt")),
            format!("--tls-private-key-file={}", authority.path("serving.key")),
            format!("--client-ca-file={}", authority.path("ca.crt")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!(
                "--service-account-signing-key-file={}",
                authority.path("service-accounts.key")
            ),
            format!(
                "--service-account-key-file={}",
                authority.path("service-accounts.pub")
            ),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // The `kubernetes` Service may not point at loopback, so nothing keeps its endpoints.
            "--endpoint-reconciler-type=none".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        arguments.extend(self.feature_gates());
        arguments.extend(self.options.api_server_arguments.iter().cloned());
        arguments
    }

    fn controller_manager(&self) -> Vec<String> {
        let authority = self.authority;
        let kubeconfig = self.path("kubeconfigs/system-kube-controller-manager");
        let mut arguments = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.controller_manager.number()),
            format!("--tls-cert-file={}", authority.path("serving.crt")),
            format!("--tls-private-key-file={}", authority.path("serving.key")),
            format!("--root-ca-file={}", authority.path("ca.crt")),
            format!(
                "--service-account-private-key-file={}",
                authority.path("service-accounts.key")
            ),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        arguments.extend(self.feature_gates());
        arguments.extend(self.options.controller_manager_arguments.iter().cloned());
        arguments
    }

    fn scheduler(&self) -> Vec<String> {
        let authority = self.authority;
        let kubeconfig = self.path("kubeconfigs/system-kube-scheduler");
        let mut arguments = vec![
            format!("--config={}", self.path("scheduler.json")),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.scheduler.number()),
            format!("--tls-cert-file={}", authority.path("serving.crt")),
            format!("--tls-private-key-file={}", authority.path("serving.key")),
        ];
        arguments.extend(self.feature_gates());
        arguments.extend(self.options.scheduler_arguments.iter().cloned());
        arguments
    }

    fn kwok(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.path("kubeconfigs/admin")),
            format!("--config={}", self.path("stages.yaml")),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            "--node-ip=127.0.0.1".to_owned(),
            "--cidr=10.64.0.1/10".to_owned(),
            format!("--server-address=127.0.0.1:{}", self.ports.kwok.number()),
        ]
    }

    fn feature_gates(&self) -> Option<String> {
        let gates: Vec<String> = self
            .options
            .feature_gates
            .iter()
            .map(|(name, on)| format!("{name}={on}"))
            .collect();
        (!gates.is_empty()).then(|| format!("--feature-gates={}", gates.join(",")))
    }
}
