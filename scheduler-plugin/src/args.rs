//! The command line of pd-scheduler-plugin.
//!
//! `explain` takes files and no cluster, `serve` and `control` a cluster. What belongs to one pod is in the pod, not here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use pd_core::toleration::{
    Comparison,
    eviction::{agenda::Options, pace::Pace},
};
use pd_runtime::{
    admin::AdminArgs, kubernetes::KubeArgs, leader::LeaderArgs, shutdown::ShutdownArgs,
    telemetry::TelemetryArgs,
};
use serde::Serialize;

use crate::extender::Margin;

/// Numeric SLA tolerations at the Kubernetes scheduler.
#[derive(Debug, Clone, Parser)]
#[command(name = crate::NAME, version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Say whether a pod fits nodes by taints and tolerations, and why. Needs no cluster.
    Explain(ExplainArgs),
    /// Answer the scheduler's filter and prioritize calls.
    Serve(Box<ServeArgs>),
    /// Run the controllers of nodes and evictions.
    Control(Box<ControlArgs>),
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

    /// Whether Gt and Lt compare: the feature gate `TaintTolerationComparisonOperators`, or this project in its place.
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
    /// Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubeArgs,
    /// Probes and metrics.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
}

/// How the extender answers.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Extender")]
pub struct ExtenderArgs {
    /// Address that serves /filter and /prioritize. Port 0 takes a free port, which is logged.
    #[arg(long, env = "PD_EXTENDER_ADDRESS", value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8888)))]
    pub extender_address: SocketAddr,

    /// Which nodes score best: those with the most SLA margin, or those with the least, which keeps the best nodes free.
    #[arg(long, env = "PD_PREFER_MARGIN", value_enum, default_value = "most")]
    pub prefer_margin: Margin,
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
    /// Kubernetes.
    #[command(flatten)]
    pub kubernetes: KubeArgs,
    /// Leader election.
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Probes and metrics.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
}

/// What holds for every controller.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Controllers")]
pub struct ControllersArgs {
    /// Change nothing: every write is the API server's dry run, and the log says what would be done.
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

/// When rewritten pods are evicted, and how.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Evictions")]
pub struct EvictionArgs {
    /// Evict pods whose numeric tolerations were rewritten when they do not tolerate their node any more.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub evict: bool,

    /// Keep deadlines in an annotation of the pod, so that a restart does not start them anew as it does upstream.
    #[arg(long)]
    pub eviction_persist: bool,

    /// Whether a change of taints or tolerations moves a deadline that runs already. Upstream's does not.
    #[arg(long, value_enum, value_name = "HOW", default_value = "never")]
    pub eviction_move_deadlines: MoveDeadlines,

    /// Delete pods as upstream does, or ask the eviction API, which respects disruption budgets.
    #[arg(long, value_enum, value_name = "HOW", default_value = "delete")]
    pub eviction_method: EvictionMethod,

    /// Pods of a namespace with the same value of this label leave together. By default each leaves by itself.
    #[arg(long, value_name = "LABEL")]
    pub eviction_group_label: Option<String>,

    /// Most pods evicted in a minute from nodes with the same value of the domain label. By default there is no limit.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub evictions_per_minute: Option<u32>,

    /// How many of them may leave at once after a calm time.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub eviction_burst: u32,

    /// Node label whose values are the domains of the limit.
    #[arg(
        long,
        value_name = "LABEL",
        default_value = "topology.kubernetes.io/zone"
    )]
    pub eviction_domain_label: String,

    /// How long nodes or pods may not be watched before evictions are held.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub eviction_hold_after: Duration,
}

/// Which deadlines a change moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MoveDeadlines {
    /// None.
    Never,
    /// Those that get shorter.
    Shorten,
    /// Those that get longer.
    Lengthen,
    /// All.
    Both,
}

/// How a pod is made to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvictionMethod {
    /// It is deleted.
    Delete,
    /// The eviction API decides.
    Evict,
}

impl EvictionArgs {
    /// What the agenda does beyond upstream.
    pub fn options(&self) -> Options {
        let moves = self.eviction_move_deadlines;
        Options {
            shorten: matches!(moves, MoveDeadlines::Shorten | MoveDeadlines::Both),
            lengthen: matches!(moves, MoveDeadlines::Lengthen | MoveDeadlines::Both),
            pace: self.evictions_per_minute.map(|count| Pace {
                interval: Duration::from_mins(1) / count.max(1),
                burst: self.eviction_burst,
            }),
        }
    }
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
