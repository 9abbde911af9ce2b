//! The options of `pd-sim simulate`, refused by name when they make no sense.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use pd_core::Tuning;
use serde_json::{Value, json};

pub use super::play_options::PlayOptions;
pub use super::policy_name::PolicyName;
pub use super::traffic_options::TrafficOptions;

/// Longest lead time: a day.
const LEAD_MAX: Duration = Duration::from_hours(24);

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateOptions {
    /// Request trace, plain or gzip: CSV with `timestamp_s,input_tokens,output_tokens`, or a trace
    /// of Azure, `BurstGPT` or Mooncake as published; without, the embedded day
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Traffic that is drawn instead
    #[command(flatten)]
    pub traffic: TrafficOptions,
    /// Service, objective and limits as YAML; without, Llama-70B on 4 x H200, 500 ms, 25 ms, 99 %
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Time from asking for a replica to its serving, both roles; without, the scenario's
    #[arg(long, value_name = "TIME", value_parser = lead)]
    pub lead: Option<Duration>,
    /// Who decides
    #[arg(long, value_name = "NAME", default_value = "pdautoscaler")]
    pub policy: PolicyName,
    /// Let a process decide instead: one JSON snapshot per line in, one decision per line out
    #[arg(long, value_name = "CMD", conflicts_with = "policy")]
    pub policy_command: Option<String>,
    /// Longest time the process may take for one decision
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout, requires = "policy_command")]
    pub policy_timeout: Duration,
    /// Play the product with one of its constants multiplied, such as `releaseShare*0.7`: a field
    /// of `pd_core::Tuning`
    #[arg(long, value_name = "NAME*FACTOR", value_parser = constant)]
    pub constant: Option<Tuning>,
    /// Write every snapshot and decision to this file, one JSON per line, for `pd-sim replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Which part of the traffic is played, and how.
    #[command(flatten)]
    pub play: PlayOptions,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
}

/// How to print the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    Text,
    /// JSON: one object, or an array with one object per run.
    Json,
    /// CSV: a header and one line per run.
    Csv,
}

pub(crate) fn lead(text: &str) -> Result<Duration, String> {
    let parsed = if text == "0" {
        Ok(Duration::ZERO)
    } else {
        humantime::parse_duration(text)
    };
    parsed
        .ok()
        .filter(|lead| *lead <= LEAD_MAX)
        .ok_or_else(|| "give a time with its unit, such as 120s or 5m, at most 24h".to_owned())
}

/// One constant multiplied; `none` is none.
pub(crate) fn constant(text: &str) -> Result<Tuning, String> {
    if text == "none" {
        return Ok(Tuning::NONE);
    }
    let wanted = || {
        let names = constants().join(", ");
        format!(
            "give a constant and a factor from 0.01 to 100, such as `releaseShare*0.7`: {names}"
        )
    };
    let (name, factor) = text.split_once('*').ok_or_else(wanted)?;
    let factor: f64 = factor.parse().map_err(|_| wanted())?;
    if !(0.01..=100.0).contains(&factor) {
        return Err(wanted());
    }
    serde_json::from_value(json!({ name: factor })).map_err(|_| wanted())
}

/// Names of the constants that can be multiplied.
pub(crate) fn constants() -> Vec<String> {
    match serde_json::to_value(Tuning::NONE) {
        Ok(Value::Object(fields)) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// A time-out of a process.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|timeout| (Duration::from_millis(1)..=Duration::from_hours(1)).contains(timeout))
        .ok_or_else(|| "give a time with its unit, such as 10s, from 1ms to 1h".to_owned())
}
