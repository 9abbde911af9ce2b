//! The command line of pd-scheduler-plugin.
//!
//! `explain` takes files and no cluster, `serve` and `control` a cluster. What belongs to one pod
//! is in the pod, not here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use axum::http::Uri;
use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use pd_runtime::{
    kubernetes::KubeArgs, leader::LeaderArgs, process::ProcessArgs, prometheus::PrometheusArgs,
    rotation::CertificateArgs,
};
use pd_tolerations::Comparison;
use serde::Serialize;

use crate::{control::eviction::args::EvictionArgs, extender::Margin, preflight::judge::Component};

/// Numeric SLA tolerations at the Kubernetes scheduler.
#[derive(Debug, Clone, Parser)]
#[command(name = crate::NAME, version)]
pub struct Args {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommand.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Say whether a pod fits nodes by taints and tolerations, and why. Needs no cluster.
    Explain(ExplainArgs),
    /// Answer the scheduler's filter and prioritize calls.
    Serve(Box<ServeArgs>),
    /// Run the controllers of nodes and evictions.
    Control(Box<ControlArgs>),
    /// Say which components of the cluster compare numbers, what breaks if some do not, and what to
    /// do about it. The exit code is 0 if nothing breaks as far as can be seen, 1 if something
    /// does, 2 if the API server does not answer.
    Preflight(Box<PreflightArgs>),
}

/// Flags of `preflight`.
#[derive(Debug, Clone, ClapArgs)]
pub struct PreflightArgs {
    /// Shape of the answer.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Prometheus.
    #[command(flatten)]
    pub prometheus: PrometheusArgs,
    /// The places to look at.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubeArgs,
}

/// Where to look for who compares numbers.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Preflight")]
pub struct ProbeArgs {
    /// Namespace for the dry run of a pod with a numeric toleration; one that pd-webhook leaves
    /// alone: its own, or kube-system.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "kube-system"
    )]
    pub probe_namespace: String,

    /// Address of a component's metrics, such as `kube-scheduler=https://10.0.0.1:10259/metrics`;
    /// may be repeated. It gets the credentials that the API server gets, and its certificate must
    /// be the cluster's.
    #[arg(long, value_name = "COMPONENT=URL", value_parser = metrics_url)]
    pub metrics_url: Vec<(Component, Uri)>,

    /// Most kubelets whose metrics are read, through the API server.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub kubelets_max: usize,
}

fn metrics_url(text: &str) -> Result<(Component, Uri), String> {
    let (name, url) = text.split_once('=').ok_or(
        "write it as COMPONENT=URL, such as kube-scheduler=https://10.0.0.1:10259/metrics",
    )?;
    let component = Component::ALL
        .into_iter()
        .find(|component| component.as_str() == name)
        .ok_or_else(|| format!("component `{name}` is unknown: use kube-scheduler, kube-controller-manager or cluster-autoscaler"))?;
    let url: Uri = url
        .parse()
        .map_err(|error| format!("`{url}` is no URL: {error}"))?;
    if url.scheme().is_none() || url.authority().is_none() {
        return Err(format!("`{url}` is no URL: begin with https://"));
    }
    Ok((component, url))
}

/// Flags of `explain`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ExplainArgs {
    /// YAML or JSON file with one Pod, or one workload with a pod template.
    #[arg(long, value_name = "FILE")]
    pub pod: PathBuf,

    /// YAML or JSON file with Nodes; several documents, lists and files are fine.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub node: Vec<PathBuf>,

    /// Shape of the answer.
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,

    /// Whether Gt and Lt compare: the feature gate `TaintTolerationComparisonOperators`, or this
    /// project in its place.
    #[arg(long, value_enum, default_value = "on")]
    pub gate: Gate,
}

/// Shape of an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object, with keys that stay.
    Json,
}

/// The feature gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Numbers compare.
    On,
    /// They do not, as on every release unless switched on.
    Off,
}

impl From<Gate> for Comparison {
    fn from(gate: Gate) -> Self {
        match gate {
            Gate::On => Self::On,
            Gate::Off => Self::Off,
        }
    }
}

/// Flags of `serve`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ServeArgs {
    /// The extender.
    #[command(flatten)]
    pub extender: ExtenderArgs,
    /// Certificates.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// Kubernetes, probes, logs and shutdown.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// How the extender answers.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Extender")]
pub struct ExtenderArgs {
    /// Address that serves /filter and /prioritize. Port 0 takes a free port, which is logged.
    #[arg(long, env = "PD_EXTENDER_ADDRESS", value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8888)))]
    pub extender_address: SocketAddr,

    /// Which nodes score best: those with the most SLA margin, or those with the least, which keeps
    /// the best nodes free.
    #[arg(long, env = "PD_PREFER_MARGIN", value_enum, default_value = "most")]
    pub prefer_margin: Margin,

    /// Serve over TLS, with an own authority unless certificate files are given. The scheduler
    /// trusts what the Secret's ca.crt says, as caData in the extender's tlsConfig.
    #[arg(long)]
    pub tls: bool,
}

/// Flags of `control`.
#[derive(Debug, Clone, ClapArgs)]
pub struct ControlArgs {
    /// All controllers.
    #[command(flatten)]
    pub control: ControllersArgs,
    /// The label mirror.
    #[command(flatten)]
    pub mirror: MirrorArgs,
    /// Evictions.
    #[command(flatten)]
    pub eviction: EvictionArgs,
    /// The SLA publisher.
    #[command(flatten)]
    pub publisher: PublisherArgs,
    /// Placement groups.
    #[command(flatten)]
    pub placement: PlacementArgs,
    /// Prometheus.
    #[command(flatten)]
    pub prometheus: PrometheusArgs,
    /// The places that preflight looks at.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Time between two looks at who compares numbers; their outcome is a condition of every
    /// PDAutoscaler.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration, help_heading = "Preflight")]
    pub preflight_interval: Duration,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Kubernetes, probes, logs and shutdown.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Flags for every controller.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Controllers")]
pub struct ControllersArgs {
    /// Change nothing: every write is the API server's dry run, and the log says what would be
    /// done.
    #[arg(long)]
    pub dry_run: bool,
}

/// How taints are mirrored to node labels.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Label mirror")]
pub struct MirrorArgs {
    /// Mirror the taints of nodes to labels, which the webhook's node affinity is about.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub mirror_labels: bool,

    /// Most nodes whose labels are written in a second.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub label_writes_per_second: u32,
}

/// How taints get their values.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "SLA publisher")]
pub struct PublisherArgs {
    /// YAML file that says which taints get their values from which queries; read again before each
    /// evaluation. Without it nothing is published.
    #[arg(long, value_name = "FILE", requires = "prometheus_url")]
    pub publisher_config: Option<PathBuf>,
}

/// How placement groups are placed.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Placement groups")]
pub struct PlacementArgs {
    /// Place the pods of PlacementGroups. It needs the CRDs, and the webhook or policy that gates
    /// pods.
    #[arg(long)]
    pub placement: bool,

    /// Time in which the pods of a plan must have nodes. Those that have none by then are deleted
    /// and planned again; a group that never had its least replicas then gives up all that it has.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub placement_window: Duration,

    /// Have the scheduler keep the planned node's room for a pod before it is released, by its
    /// status.nominatedNodeName.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub placement_nominate: bool,

    /// Address that serves /what-if, where pd-autoscaler and people ask whether more replicas of a
    /// group would have places. Port 0 takes a free port, which is logged. Not served when not
    /// given.
    #[arg(
        long,
        env = "PD_WHAT_IF_ADDRESS",
        value_name = "ADDRESS",
        requires = "placement"
    )]
    pub what_if_address: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_parse_and_defaults_are_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        Args::try_parse_from([crate::NAME, "serve"]).unwrap();
        Args::try_parse_from([crate::NAME, "control"]).unwrap();
        let explain = ["explain", "--pod", "p", "--node", "a", "b", "--node", "c"];
        let args = Args::try_parse_from([crate::NAME].into_iter().chain(explain)).unwrap();
        assert!(matches!(args.command, Command::Explain(args) if args.node.len() == 3));
    }
}
