//! The options of `pd-sim simulate`, refused by name when they make no sense.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Longest lead time: a day.
const LEAD_MAX: Duration = Duration::from_hours(24);

/// What the user asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Request trace, CSV or CSV.gz with `timestamp_s,input_tokens,output_tokens`; without, the embedded day
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Service, objective and limits as YAML; without, Llama-70B on 4 x H200, 500 ms, 25 ms, 99 %
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Time from asking for a replica to its serving, both roles; without, the scenario's
    #[arg(long, value_name = "TIME", value_parser = lead)]
    pub lead: Option<Duration>,
    /// Who decides
    #[arg(long, value_name = "NAME", default_value = "pdautoscaler")]
    pub policy: PolicyName,
    /// Seed of generated requests and of the shifts of copies; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// Play only the first hours
    #[arg(long, value_name = "H", value_parser = hours, allow_negative_numbers = true)]
    pub hours: Option<f64>,
    /// Lay so many copies of the trace over each other, each starting elsewhere within ten minutes
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub copies: u32,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
}

/// How to print the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A short table.
    Text,
    /// One JSON object.
    Json,
}

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The product.
    Pdautoscaler,
    /// The fewest fixed replicas that attain the objective, found by search.
    StaticPeak,
    /// The clairvoyant plan that holds the objective in every minute, carried out.
    Clairvoyant,
    /// The clairvoyant plan that holds the objective over the run, carried out.
    ClairvoyantOverall,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pdautoscaler => "pdautoscaler",
            Self::StaticPeak => "static-peak",
            Self::Clairvoyant => "clairvoyant",
            Self::ClairvoyantOverall => "clairvoyant-overall",
        })
    }
}

fn lead(text: &str) -> Result<Duration, String> {
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

fn hours(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|hours| (0.01..=100_000.0).contains(hours))
        .ok_or_else(|| "give a number of hours from 0.01 to 100000".to_owned())
}
