//! The options of `pd-sim compare`, refused by name when they make no sense.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::batch::cores;
use crate::simulate::options::{Output, PlayOptions, PolicyName, lead, timeout};

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareOptions {
    /// Request traces of any known format, separated by commas; without, the embedded day
    #[arg(
        long,
        visible_alias = "trace",
        value_name = "FILES",
        value_delimiter = ','
    )]
    pub traces: Vec<PathBuf>,
    /// Scenario for all traces, or one for each, separated by commas
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    pub scenario: Vec<PathBuf>,
    /// Who decides, separated by commas; without, everybody
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        hide_default_value = true,
        default_values_t = PolicyName::value_variants().iter().copied()
    )]
    pub policies: Vec<PolicyName>,
    /// Let a process decide as well, which the results call `command`
    #[arg(long, value_name = "CMD")]
    pub policy_command: Option<String>,
    /// Longest time the process may take for one decision
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout, requires = "policy_command")]
    pub policy_timeout: Duration,
    /// Times from asking for a replica to its serving, separated by commas
    #[arg(long, value_name = "TIMES", value_delimiter = ',', default_value = "0s,60s,120s,300s", value_parser = lead)]
    pub leads: Vec<Duration>,
    /// Which part of the traffic is played, and how.
    #[command(flatten)]
    pub play: PlayOptions,
    /// Runs at once; without, one per core
    #[arg(long, value_name = "N", hide_default_value = true, default_value_t = cores())]
    pub jobs: usize,
    /// How to print the results
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
    /// File for a self-contained HTML report with plots
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}
