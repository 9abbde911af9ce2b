//! Results of NVIDIA's `AIConfigurator` for disaggregated serving.
//!
//! `best_config_topn.csv` and `pareto.csv` hold one configuration per row: so many prefill and
//! decode workers of which sizes, and what they serve within which latency. They are operating
//! points, not models: each holds at its own lengths and batch. `generator_config.yaml` says how
//! one of them is deployed. Columns have names such as `(p)workers`; order and number vary with
//! the version.

use pd_core::{PerRole, capacity::limits::PREFILL_TOKENS_MAX};
use serde::Deserialize;

use super::{ImportError, Row, Sheet, TEXT_BYTES_MAX};

const RESULT: &str = "AIConfigurator result of a disaggregated run";

/// A configuration and what it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatingPoint {
    /// Prompt tokens of a request.
    pub input_tokens: f64,
    /// Output tokens of a request.
    pub output_tokens: f64,
    /// Prompt tokens that are cached.
    pub cached_tokens: f64,
    /// Time to first token, seconds.
    pub ttft_seconds: f64,
    /// Time per output token, seconds.
    pub tpot_seconds: f64,
    /// Workers of each role.
    pub workers: PerRole<u32>,
    /// Requests per second that one worker serves.
    pub rate_per_worker_rps: PerRole<f64>,
    /// GPUs of one worker.
    pub gpus_per_worker: PerRole<u32>,
    /// Batch of one worker.
    pub batch: PerRole<u32>,
    /// Requests per second that the whole serves.
    pub request_rate_rps: f64,
}

impl OperatingPoint {
    /// GPUs of all workers.
    pub fn gpus(&self) -> u64 {
        let of = |workers: u32, gpus: u32| u64::from(workers) * u64::from(gpus);
        of(self.workers.prefill, self.gpus_per_worker.prefill)
            .saturating_add(of(self.workers.decode, self.gpus_per_worker.decode))
    }
}

/// The configurations of `best_config_topn.csv` or `pareto.csv`, in their order.
pub fn operating_points(text: &str) -> Result<Vec<OperatingPoint>, ImportError> {
    let sheet = Sheet::parse(text, RESULT)?;
    sheet.rows().map(operating_point).collect()
}

fn operating_point(row: Row<'_>) -> Result<OperatingPoint, ImportError> {
    let tokens = |column, least| {
        row.number(
            column,
            least,
            PREFILL_TOKENS_MAX,
            "a number of tokens up to 1e8",
        )
    };
    let seconds = |column| {
        let wanted = "a number of milliseconds above 0";
        row.number(column, f64::MIN_POSITIVE, 1e9, wanted)
            .map(|milliseconds| milliseconds * 1e-3)
    };
    let rate = |column| {
        row.number(
            column,
            f64::MIN_POSITIVE,
            1e9,
            "a number of requests per second above 0",
        )
    };
    let count = |column| count(row, column);
    let gpus = |tp, pp, dp| -> Result<u32, ImportError> {
        let ranks = count(tp)?.saturating_mul(count(pp)?);
        Ok(ranks.saturating_mul(count(dp)?))
    };
    Ok(OperatingPoint {
        input_tokens: tokens("isl", 1.0)?,
        output_tokens: tokens("osl", 1.0)?,
        cached_tokens: tokens("prefix", 0.0)?,
        ttft_seconds: seconds("ttft")?,
        tpot_seconds: seconds("tpot")?,
        workers: PerRole {
            prefill: count("(p)workers")?,
            decode: count("(d)workers")?,
        },
        rate_per_worker_rps: PerRole {
            prefill: rate("(p)seq/s/worker")?,
            decode: rate("(d)seq/s/worker")?,
        },
        gpus_per_worker: PerRole {
            prefill: gpus("(p)tp", "(p)pp", "(p)dp")?,
            decode: gpus("(d)tp", "(d)pp", "(d)dp")?,
        },
        batch: PerRole {
            prefill: count("(p)bs")?,
            decode: count("(d)bs")?,
        },
        request_rate_rps: rate("request_rate")?,
    })
}

/// A whole number of 1 or more. Some versions write `4.0`.
fn count(row: Row<'_>, column: &'static str) -> Result<u32, ImportError> {
    let cell = row.cell(column)?;
    let whole = cell.strip_suffix(".0").unwrap_or(cell);
    match whole.parse::<u32>() {
        Ok(count) if (1..=1_000_000).contains(&count) => Ok(count),
        _ => Err(row.refuse(column, cell, "a whole number from 1 to 1000000")),
    }
}

/// How one configuration is deployed, from `generator_config.yaml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Workers of each role.
    pub workers: PerRole<u32>,
    /// GPUs of one worker.
    pub gpus_per_worker: PerRole<u32>,
    /// Largest batch of one worker.
    pub batch_max: PerRole<Option<u32>>,
    /// Prompt tokens of a request.
    pub input_tokens: f64,
    /// Output tokens of a request.
    pub output_tokens: f64,
    /// Time to first token, seconds.
    pub ttft_seconds: f64,
    /// Time per output token, seconds.
    pub tpot_seconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Generator {
    worker_config: Workers,
    sla_config: Sla,
    #[serde(default, rename = "params")]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Workers {
    #[serde(rename = "prefill_workers")]
    prefill: u32,
    #[serde(rename = "decode_workers")]
    decode: u32,
    prefill_gpus_per_worker: Option<u32>,
    decode_gpus_per_worker: Option<u32>,
}

#[derive(Deserialize)]
struct Sla {
    isl: f64,
    osl: f64,
    ttft: f64,
    tpot: f64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    prefill: RoleParameters,
    decode: RoleParameters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoleParameters {
    max_batch_size: Option<u32>,
    gpus_per_worker: Option<u32>,
}

/// The deployment in a `generator_config.yaml` of a disaggregated configuration.
pub fn deployment(text: &str) -> Result<Deployment, ImportError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ImportError::TooLarge { bytes: text.len() });
    }
    let generator: Generator = super::inline::yaml(text)?;
    let (workers, sla) = (generator.worker_config, generator.sla_config);
    let parameters = generator.parameters;
    let gpus = |stated: Option<u32>, other: Option<u32>, field| {
        let value = stated.or(other);
        at_least_one(
            value.unwrap_or(0),
            field,
            "give the GPUs of a worker, 1 or more",
        )
    };
    let disaggregated = "import the configuration of a disaggregated run, with 1 or more";
    Ok(Deployment {
        workers: PerRole {
            prefill: at_least_one(
                workers.prefill,
                "WorkerConfig.prefill_workers",
                disaggregated,
            )?,
            decode: at_least_one(workers.decode, "WorkerConfig.decode_workers", disaggregated)?,
        },
        gpus_per_worker: PerRole {
            prefill: gpus(
                workers.prefill_gpus_per_worker,
                parameters.prefill.gpus_per_worker,
                "WorkerConfig.prefill_gpus_per_worker",
            )?,
            decode: gpus(
                workers.decode_gpus_per_worker,
                parameters.decode.gpus_per_worker,
                "WorkerConfig.decode_gpus_per_worker",
            )?,
        },
        batch_max: PerRole {
            prefill: parameters.prefill.max_batch_size.filter(|batch| *batch > 0),
            decode: parameters.decode.max_batch_size.filter(|batch| *batch > 0),
        },
        input_tokens: above_zero(sla.isl, "SlaConfig.isl")?,
        output_tokens: above_zero(sla.osl, "SlaConfig.osl")?,
        ttft_seconds: above_zero(sla.ttft, "SlaConfig.ttft")? * 1e-3,
        tpot_seconds: above_zero(sla.tpot, "SlaConfig.tpot")? * 1e-3,
    })
}

fn at_least_one(value: u32, field: &'static str, remedy: &'static str) -> Result<u32, ImportError> {
    if (1..=1_000_000).contains(&value) {
        return Ok(value);
    }
    let value = value.to_string();
    Err(ImportError::Field {
        field,
        value,
        remedy,
    })
}

fn above_zero(value: f64, field: &'static str) -> Result<f64, ImportError> {
    if value.is_finite() && value > 0.0 && value <= 1e9 {
        return Ok(value);
    }
    Err(ImportError::Field {
        field,
        value: value.to_string(),
        remedy: "give a number above 0 and up to 1e9",
    })
}
