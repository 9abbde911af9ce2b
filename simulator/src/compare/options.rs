//! The options of `pd-sim compare`, refused by name when they make no sense.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::simulate::options::{PolicyName, hours, lead, timeout};

/// What the user asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Request traces, separated by commas; without, the embedded day
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
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
    /// Seed of generated requests and of the shifts of copies; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// Play only the first hours
    #[arg(long, value_name = "H", value_parser = hours, allow_negative_numbers = true)]
    pub hours: Option<f64>,
    /// Lay so many copies of each trace over each other, each starting elsewhere within ten minutes
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub copies: u32,
    /// Runs at once; without, one per core
    #[arg(long, value_name = "N", hide_default_value = true, default_value_t = cores())]
    pub jobs: usize,
    /// How to print the results
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Form,
    /// File for a self-contained HTML report with plots
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// How to print the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A table per trace and lead time.
    Text,
    /// A JSON array with one object per run.
    Json,
    /// A header and one line per run.
    Csv,
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
