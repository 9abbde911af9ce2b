//! The flags of evictions: all that goes beyond upstream is off by default, and has a name.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use pd_tolerations::eviction::{rate_limit::RateLimit, request::EvictionOptions};

/// When rewritten pods are evicted, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Evictions")]
pub struct EvictionArgs {
    /// Evict pods whose numeric tolerations were rewritten when they do not tolerate their node any
    /// more.
    #[arg(
        long, action = ArgAction::Set, value_name = "BOOL",
        default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    pub evict: bool,

    /// Keep deadlines in an annotation of the pod, so that a restart does not start them again as
    /// it does upstream.
    #[arg(long)]
    pub eviction_persist: bool,

    /// Whether a change of taints or tolerations moves a deadline that runs already. Upstream's
    /// does not.
    #[arg(long, value_enum, value_name = "HOW", default_value = "never")]
    pub eviction_move_deadlines: MoveDeadlines,

    /// Delete pods as upstream does, or ask the eviction API, which respects disruption budgets.
    #[arg(long, value_enum, value_name = "HOW", default_value = "delete")]
    pub eviction_method: EvictionMethod,

    /// Pods of a namespace with the same value of this label leave together. By default each leaves
    /// by itself.
    #[arg(long, value_name = "LABEL")]
    pub eviction_group_label: Option<String>,

    /// Most pods evicted in a minute from nodes with the same value of the domain label. By default
    /// there is no limit.
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
    /// The options of the queue beyond upstream.
    pub fn options(&self) -> EvictionOptions {
        let moves = self.eviction_move_deadlines;
        EvictionOptions {
            shorten: matches!(moves, MoveDeadlines::Shorten | MoveDeadlines::Both),
            lengthen: matches!(moves, MoveDeadlines::Lengthen | MoveDeadlines::Both),
            rate: self.evictions_per_minute.map(|count| RateLimit {
                interval: Duration::from_mins(1) / count.max(1),
                burst: self.eviction_burst,
            }),
        }
    }
}
