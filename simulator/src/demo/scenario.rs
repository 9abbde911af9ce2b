//! The day that the demo plays: the service, what its owner wants of it, and what is sent to it.
//!
//! Everything that shapes the result is stated here and shown on the page. The load is one of the
//! embedded `ServeGen` days, which the tables hold at a part of their published rate, or a trace.
//! Prompts and answers are as published. A trace is read through beforehand, so that nothing is
//! played of a broken one.

use std::path::Path;

use clap::ValueEnum;
use pd_core::PerRole;
use serde::Serialize;

use crate::clairvoyant;
use crate::compare::stem;
use crate::engine::Arrival;
use crate::scenario::{Scenario as ServiceScenario, ScenarioError as ServiceError};
use crate::simulate::Source;
use crate::time::{DAY, MINUTE, Nanos, SECOND, milliseconds};
use crate::trace::TraceError;
use crate::traffic::{Arrivals, Curve, CurveError, DayError, reasoning_day, servegen_day};

/// The service of the chat day, and of traces.
const CHAT: &str = include_str!("../../scenarios/demo-70b-h200-tp4.yaml");

/// The service of the reasoning day.
const REASONING: &str = include_str!("../../scenarios/reasoning-70b-h200-tp4.yaml");

/// Time between two decisions.
pub const INTERVAL: Nanos = 15 * SECOND;

/// Most replicas of either role.
const REPLICAS_MAX: u32 = 64;

/// An embedded day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Day {
    /// Chat: prompts grow and answers shrink within the day
    #[default]
    Chat,
    /// Reasoning: questions short and long, answers of thousands of tokens
    Reasoning,
}

impl Day {
    /// Multiple of the table's rates that is played unless told: of the chat day 16 of the 25 that
    /// would be the published rate; of the reasoning day three times the published rate, so that a
    /// pool is more than a few replicas.
    pub const fn rate_scale_default(self) -> f64 {
        match self {
            Self::Chat => 16.0,
            Self::Reasoning => 5.0,
        }
    }

    fn curve(self) -> Result<Curve, DayError> {
        match self {
            Self::Chat => servegen_day(),
            Self::Reasoning => reasoning_day(),
        }
    }

    fn service(self) -> Result<ServiceScenario, ServiceError> {
        let (text, name) = match self {
            Self::Chat => (CHAT, "demo-70b-h200-tp4.yaml"),
            Self::Reasoning => (REASONING, "reasoning-70b-h200-tp4.yaml"),
        };
        ServiceScenario::parse(text, Path::new(name))
    }

    /// Replicas for midnight's load at the rates of the table, somewhat more than it takes.
    const fn at_midnight(self) -> PerRole<f64> {
        match self {
            Self::Chat => PerRole {
                prefill: 0.25,
                decode: 0.35,
            },
            Self::Reasoning => PerRole {
                prefill: 1.0,
                decode: 2.0,
            },
        }
    }

    const fn model(self) -> &'static str {
        match self {
            Self::Chat => "Llama-70B FP8 on 4 x H200 per replica",
            Self::Reasoning => "a 70B reasoning model on 4 x H200 per replica",
        }
    }

    const fn traffic(self) -> &'static str {
        match self {
            Self::Chat => "ServeGen m-large, day 0",
            Self::Reasoning => "ServeGen deepseek-r1, day 0",
        }
    }
}

/// Everything that shapes a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The day whose service is played.
    pub day: Day,
    /// The service and what its owner wants.
    pub service: ServiceScenario,
    /// The traffic that is sent.
    pub load: Load,
    /// Replicas at midnight.
    pub replicas_at_start: PerRole<u32>,
    /// Length of the run in virtual time.
    pub length: Nanos,
    /// Seed of the requests.
    pub seed: u64,
    /// Multiple of the embedded table's rates.
    pub rate_scale: f64,
}

/// The traffic that is sent to the service.
#[derive(Clone, Debug)]
pub enum Load {
    /// Requests drawn from a curve.
    Day(Curve),
    /// Requests of a trace.
    Trace {
        /// The file without folder and endings.
        name: String,
        /// Where they come from.
        source: Source,
    },
}

/// Requests of either kind of load, in order of arrival.
pub(super) type Requests = Box<dyn Iterator<Item = Result<Arrival, TraceError>> + Send>;

/// A scenario that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The embedded service is broken.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The embedded table is broken.
    #[error(transparent)]
    Day(#[from] DayError),
    /// The scaled load cannot be drawn from.
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl Scenario {
    /// An embedded day with its rates multiplied by `rate_scale`.
    pub fn day(day: Day, seed: u64, rate_scale: f64) -> Result<Self, ScenarioError> {
        Ok(Self {
            day,
            service: day.service()?,
            load: Load::Day(day.curve()?.scaled(rate_scale)?),
            replicas_at_start: day
                .at_midnight()
                .map(|replicas| at_start(replicas, rate_scale)),
            length: DAY,
            seed,
            rate_scale,
        })
    }

    /// A trace with `rate_scale` times its requests, played `time_scale` times as fast.
    pub fn trace(
        path: &Path,
        rate_scale: f64,
        time_scale: f64,
        seed: u64,
    ) -> Result<Self, ScenarioError> {
        let source = Source::of_trace(path.to_owned(), rate_scale, time_scale, seed);
        let day = Day::Chat;
        let service = day.service()?;
        let mut load = clairvoyant::load::Load::new(&service);
        for arrival in source.open()? {
            load.add(&arrival?);
        }
        let length = source.length(load.last_at(), INTERVAL);
        load.end(length);
        let bound = clairvoyant::bound(&service, &load);
        let replicas = bound.at_start(10 * MINUTE);
        Ok(Self {
            day,
            service,
            load: Load::Trace {
                name: stem(path),
                source,
            },
            replicas_at_start: replicas.map(|count| count.min(REPLICAS_MAX)),
            length,
            seed,
            rate_scale,
        })
    }

    /// The requests of the run from its start.
    pub(super) fn requests(&self) -> Result<Requests, TraceError> {
        Ok(match &self.load {
            Load::Day(curve) => {
                let day = Arrivals::new(curve.clone(), self.seed, 0, self.length);
                Box::new(day.map(Ok))
            }
            Load::Trace { source, .. } => Box::new(source.open()?),
        })
    }

    /// The page's text about this scenario.
    pub fn about(&self) -> About {
        let policy = self.service.policy();
        let objective = &policy.objective;
        About {
            model: self.day.model(),
            traffic: match &self.load {
                Load::Day(_) => self.day.traffic().to_owned(),
                Load::Trace { name, .. } => name.clone(),
            },
            rate_scale: self.rate_scale,
            seed: self.seed,
            day_seconds: crate::time::seconds(self.length),
            interval_seconds: INTERVAL / SECOND,
            startup_seconds: self.service.profile.prefill_startup_seconds,
            gpus_per_replica: self.service.spec.gpus_per_replica(),
            ttft_limit_ms: milliseconds(objective.ttft.limit),
            tpot_limit_ms: milliseconds(objective.tpot.limit),
            percentile: objective.ttft.percentile,
            attainment_goal: f64::from(objective.attainment.percent) / 100.0,
            ratio_band: policy.ratio.map(|ratio| Band {
                lowest: ratio.band.lowest.to_string(),
                highest: ratio.band.highest.to_string(),
                least: ratio.band.bounds().0,
                most: ratio.band.bounds().1,
            }),
        }
    }
}

/// The scenario as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Model and hardware of a replica.
    pub model: &'static str,
    /// Where the load comes from.
    pub traffic: String,
    /// Multiple of the embedded table's rates.
    pub rate_scale: f64,
    /// Seed of the requests.
    pub seed: u64,
    /// Length of the run in virtual time, seconds.
    pub day_seconds: f64,
    /// Time between two decisions, seconds.
    pub interval_seconds: u64,
    /// Time from adding a worker to its being ready, seconds.
    pub startup_seconds: f64,
    /// GPUs of one replica of each role.
    pub gpus_per_replica: PerRole<u32>,
    /// TTFT limit, milliseconds.
    pub ttft_limit_ms: f64,
    /// TPOT limit, milliseconds.
    pub tpot_limit_ms: f64,
    /// Percentile that both limits are for.
    pub percentile: u8,
    /// Share of requests that must meet both limits, 0 to 1.
    pub attainment_goal: f64,
    /// The P:D band, if one is set.
    pub ratio_band: Option<Band>,
}

/// A P:D band as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Band {
    /// Least prefill per decode, as `1:4`.
    pub lowest: String,
    /// Most prefill per decode, as `4:1`.
    pub highest: String,
    /// Least prefill per decode, tolerance included.
    pub least: f64,
    /// Most prefill per decode, tolerance included.
    pub most: f64,
}

/// Replicas to start the day with: somewhat more than midnight takes.
fn at_start(replicas_per_scale: f64, rate_scale: f64) -> u32 {
    let wanted = (replicas_per_scale * rate_scale).ceil();
    (1..REPLICAS_MAX)
        .find(|replicas| f64::from(*replicas) >= wanted)
        .unwrap_or(REPLICAS_MAX)
}
