//! The options of `pd-sim calibrate`: a file of observed requests, or a range of a real Prometheus.

use std::path::PathBuf;
use std::time::Duration;

use pd_core::PerRole;

use crate::backtest::options::{BacktestOptions, Moment, RangeOptions, url};
use crate::scenario::Scenario;
use crate::simulate::options::Output;

/// How far back is read when nobody says.
const FROM: Moment = Moment::Ago(Duration::from_hours(24));

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "calibrate")]
pub struct CalibrateOptions {
    /// Observed requests: CSV with `timestamp_s,input_tokens,output_tokens,ttft_s,tpot_s`, plain or
    /// gzip; `tpot_s` is empty for answers of one token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prometheus", "config"])]
    pub observed: Option<PathBuf>,
    /// Prefill replicas that served them; without, the scenario's `replicasAtStart.prefill`, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub prefill_replicas: Option<u32>,
    /// Decode replicas that served them; without, the scenario's `replicasAtStart.decode`, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub decode_replicas: Option<u32>,
    /// Address of Prometheus, such as `http://127.0.0.1:9090`
    #[arg(long, value_name = "URL", value_parser = url, requires = "config")]
    pub prometheus: Option<String>,
    /// The PDAutoscaler whose service is observed, as YAML
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub config: Option<PathBuf>,
    /// Where its past is
    #[command(flatten)]
    pub range: RangeOptions,
    /// Scenario whose `profile` is corrected; without, Llama-70B on 4 x H200
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// File for the corrected profile, a scenario that `--scenario` and `--profile` take
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Seed of the requests that are drawn again; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// How to print the result
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: Output,
}

impl CalibrateOptions {
    /// The backtest that is calibrated on, if Prometheus is asked.
    pub(super) fn as_backtest(&self) -> Option<BacktestOptions> {
        let (config, prometheus) = (self.config.clone()?, self.prometheus.clone()?);
        Some(BacktestOptions {
            config,
            prometheus,
            range: RangeOptions {
                from: Some(self.range.from.unwrap_or(FROM)),
                ..self.range.clone()
            },
            config_maps: Vec::new(),
            profile: self.scenario.clone(),
            lead: None,
            gpus_per_replica: 1,
            seed: self.seed,
            decisions: 0,
            output: self.output,
        })
    }

    /// Replicas that served a file's requests.
    pub(super) fn replicas(&self, scenario: &Scenario) -> PerRole<u32> {
        let start = scenario.replicas_at_start;
        PerRole {
            prefill: self.prefill_replicas.or(start.prefill).unwrap_or(1),
            decode: self.decode_replicas.or(start.decode).unwrap_or(1),
        }
    }
}
