//! The choices that a test has about its control plane.
//!
//! The default is what most tests want: the shipped Kubernetes version, all components, KWOK
//! playing the nodes, no nodes yet, no feature gate touched.

use std::{collections::BTreeMap, time::Duration};

use super::nodes::NodeSpec;
use crate::tools::KubernetesVersion;

/// One program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The store; all data is in it.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers of Deployments, `ReplicaSet`s, nodes, garbage and so on.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// Plays the kubelets of all nodes.
    Kwok,
}

impl Component {
    /// The name of its program and of its log file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// Choices for [`super::ControlPlane::start`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The Kubernetes release; by default `PD_KUBERNETES_VERSION`, else the shipped one.
    pub kubernetes_version: Option<KubernetesVersion>,
    /// Feature gates for the API server, the controller manager and the scheduler.
    pub feature_gates: BTreeMap<String, bool>,
    /// More arguments for the API server, such as `--runtime-config=...`.
    pub api_server_arguments: Vec<String>,
    /// More arguments for the controller manager.
    pub controller_manager_arguments: Vec<String>,
    /// More arguments for the scheduler.
    pub scheduler_arguments: Vec<String>,
    /// Scheduler extenders, each an entry of `extenders` in `KubeSchedulerConfiguration`.
    pub scheduler_extenders: Vec<serde_json::Value>,
    /// Scheduler profiles, each an entry of `profiles` in `KubeSchedulerConfiguration`; none means
    /// the default one.
    pub scheduler_profiles: Vec<serde_json::Value>,
    /// Whether the controller manager runs.
    pub controller_manager: bool,
    /// Whether the scheduler runs.
    pub scheduler: bool,
    /// Whether KWOK plays the nodes. Without it nodes are posted as ready and stay so only until
    /// the controller manager misses their heartbeats.
    pub kwok: bool,
    /// Nodes to add before the start is complete.
    pub nodes: Vec<NodeSpec>,
    /// How long each component may take to be ready.
    pub ready_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubernetes_version: None,
            feature_gates: BTreeMap::new(),
            api_server_arguments: Vec::new(),
            controller_manager_arguments: Vec::new(),
            scheduler_arguments: Vec::new(),
            scheduler_extenders: Vec::new(),
            scheduler_profiles: Vec::new(),
            controller_manager: true,
            scheduler: true,
            kwok: true,
            nodes: Vec::new(),
            ready_timeout: Duration::from_mins(1),
        }
    }
}
