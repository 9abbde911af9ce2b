//! Measurements, and how far they may be trusted.
//!
//! A [`Reading`] has three states. `Value` and `KnownZero` are evidence; `Unknown` is its absence,
//! whatever the cause, and never lowers replicas. A query that failed, an empty
//! result, NaN and a stale sample are all `Unknown`: an idle service is only believed when its
//! request counter says zero and its workers are being scraped.
//!
//! Sums over workers are partial when some ready workers were not scraped. A partial sum is a lower
//! bound of the load, so it may raise replicas but not lower them; [`Coverage`] says by how much.
//!
//! Observers report what they read. [`Signals::judged`] then refuses what cannot be true and
//! carries partial sums to the whole role; [`estimate`] turns distributions into numbers of known
//! quality, and [`inputs`] lists everything for the report.

pub mod estimate;
pub mod inputs;
pub mod judge;
pub mod name;
pub mod standstill;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::{histogram::Histogram, role::PerRole};

/// Window of [`Signals::wide`].
pub const WIDE_WINDOW: Duration = Duration::from_mins(10);

/// Span that requests are counted in for [`Signals::arrival_dispersion`].
pub const DISPERSION_SPAN: Duration = Duration::from_secs(30);

/// One measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reading {
    /// A finite, non-negative number.
    Value(f64),
    /// Nothing happened, and that is known: the counters are scraped and stand still.
    KnownZero,
    /// Not known.
    Unknown(Gap),
}

/// Why a reading is not known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, VariantArray,
)]
#[serde(rename_all = "camelCase")]
pub enum Gap {
    /// The query failed: Prometheus is down, timed out or refused the expression.
    QueryFailed,
    /// The query gave no series.
    Empty,
    /// The query gave NaN, an infinity or a negative number.
    NotANumber,
    /// The newest sample is older than the allowed age.
    Stale,
    /// Too few requests in the window to say.
    TooFewSamples,
    /// The signal was not asked for.
    NotAsked,
    /// The number is not plausible in its unit, alone or beside the others.
    OutOfRange,
    /// The newest sample is from the future by more than the allowed age.
    ClockSkew,
    /// Too few of the ready workers are scraped to speak for the role.
    NoQuorum,
    /// The server said that its answer is not whole.
    PartialAnswer,
}

impl Gap {
    /// Every cause.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// A fragment for texts, such as `the query failed`.
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::QueryFailed => "the query failed",
            Self::Empty => "the query gave no series",
            Self::NotANumber => "the query gave no finite, non-negative number",
            Self::Stale => "the newest sample is too old",
            Self::TooFewSamples => "there were too few requests in the window",
            Self::NotAsked => "it was not asked for",
            Self::OutOfRange => "the number is not plausible in its unit",
            Self::ClockSkew => "the newest sample is from the future, so clocks differ",
            Self::NoQuorum => "fewer than half of the ready workers are scraped",
            Self::PartialAnswer => "the server said that its answer is not whole",
        }
    }
}

impl Reading {
    /// A reading of `number`, which becomes `Unknown` unless finite and non-negative.
    pub fn of(number: f64) -> Self {
        if number.is_finite() && number >= 0.0 {
            Self::Value(number)
        } else {
            Self::Unknown(Gap::NotANumber)
        }
    }

    /// The number, with a known zero as 0. A value that was built by hand out of range counts as
    /// not known.
    pub fn known(self) -> Option<f64> {
        match self {
            Self::Value(value) if value.is_finite() && value >= 0.0 => Some(value),
            Self::KnownZero => Some(0.0),
            Self::Value(_) | Self::Unknown(_) => None,
        }
    }

    /// Why there is no number, if there is none.
    pub fn gap(self) -> Option<Gap> {
        match self {
            Self::Unknown(gap) => Some(gap),
            Self::Value(_) if self.known().is_none() => Some(Gap::NotANumber),
            Self::Value(_) | Self::KnownZero => None,
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::Unknown(Gap::NotAsked)
    }
}

/// How many of a role's ready workers are in the readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Ready workers with a fresh sample.
    pub scraped: u32,
    /// Ready workers with any sample within [`WIDE_WINDOW`]. Those that never had one are new: they
    /// have no part of the load yet that would be missing.
    #[serde(default)]
    pub seen: u32,
    /// Age of the oldest of those samples; nothing when none was scraped.
    pub oldest_age: Option<Duration>,
}

/// A histogram over a window, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HistogramReading {
    /// Observations of the window, summed over workers.
    Value(Histogram),
    /// Not known.
    Unknown(Gap),
}

impl HistogramReading {
    /// The histogram if it is known and holds at least `samples_min` observations.
    pub fn with_samples(&self, samples_min: f64) -> Result<&Histogram, Gap> {
        match self {
            Self::Value(histogram) if histogram.count() >= samples_min => Ok(histogram),
            Self::Value(_) => Err(Gap::TooFewSamples),
            Self::Unknown(gap) => Err(*gap),
        }
    }

    /// The mean, if there is an observation.
    pub fn mean(&self) -> Option<f64> {
        match self {
            Self::Value(histogram) => histogram.mean(),
            Self::Unknown(_) => None,
        }
    }

    /// Why there is no histogram, if there is none.
    pub const fn gap(&self) -> Option<Gap> {
        match self {
            Self::Value(_) => None,
            Self::Unknown(gap) => Some(*gap),
        }
    }
}

impl Default for HistogramReading {
    fn default() -> Self {
        Self::Unknown(Gap::NotAsked)
    }
}

/// Distributions over one window, summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Distributions {
    /// Time from a request's arrival at the gateway to its first token there, seconds: the user's
    /// own, whatever the legs behind it.
    pub gateway_ttft: HistogramReading,
    /// Time from arrival at a prefill worker to the first token there, seconds.
    pub prefill_ttft: HistogramReading,
    /// Time from arrival at a decode worker to the first token there, seconds: KV transfer and
    /// admission.
    pub decode_ttft: HistogramReading,
    /// Time a prefill worker computed on a prompt, seconds.
    pub prefill_time: HistogramReading,
    /// Prompt tokens of a prefill step, of those in which any prompt became complete.
    pub prefill_step_tokens: HistogramReading,
    /// Prompt tokens per request.
    pub prompt_tokens: HistogramReading,
    /// Output tokens per request.
    pub output_tokens: HistogramReading,
    /// Time per output token of finished requests, seconds.
    pub tpot: HistogramReading,
    /// Time between tokens, seconds.
    pub inter_token_latency: HistogramReading,
}

/// Everything measured about a service at one moment.
///
/// Rates and `recent` are over `rate_window`, `wide` over [`WIDE_WINDOW`]; gauges are means over a
/// short window. Quantities of a role are sums over its workers unless named otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// Whether a server said that its answer is not whole: then the numbers are lower bounds.
    pub answer_partial: bool,
    /// Workers that were scraped.
    pub coverage: PerRole<Coverage>,
    /// Window of rates and of `recent`: a rate is of half of it ago, on average.
    pub rate_window: Duration,
    /// Requests per second that finished prefill.
    pub prefill_completion_rate_rps: Reading,
    /// Requests per second that finished decode.
    pub decode_completion_rate_rps: Reading,
    /// Change of the prefill queue, requests per second; negative change reads as zero.
    pub prefill_queue_growth_rps: Reading,
    /// How fast the prefill queue shrinks, requests per second; growth reads as zero.
    pub prefill_queue_drain_rps: Reading,
    /// Requests per second that prefill workers refused or dropped and that no completion rate
    /// counts; not asked for where the engine does not publish it.
    pub prefill_unserved_rate_rps: Reading,
    /// Requests per second that arrive at the gateway, those that it has not sent on included.
    pub gateway_arrival_rate_rps: Reading,
    /// Requests per second that arrive, stated by the user's own query, as of a gateway's metrics.
    /// Wins over what the engines count.
    pub arrival_rate_rps_override: Reading,
    /// Index of dispersion of request counts in [`DISPERSION_SPAN`]: their variance over their
    /// mean. 1 is Poisson, above is bursty.
    pub arrival_dispersion: Reading,
    /// Requests that wait for a worker of the role.
    pub waiting_requests: PerRole<Reading>,
    /// Requests that a worker of the role works on.
    pub running_requests: PerRole<Reading>,
    /// Most requests that waited or ran at the role's workers at once in the rate window, or more:
    /// each worker's most, summed.
    pub requests_peak: PerRole<Reading>,
    /// Requests at decode workers that have room there and wait for their KV cache to arrive; they
    /// are in `waiting_requests` too.
    pub decode_deferred_requests: Reading,
    /// Requests that wait at the gateway while nothing serves, by the user's own query.
    pub wake_requests: Reading,
    /// Share of prompt tokens that prefill workers found in their prefix caches, 0 to 1.
    pub prefix_hit_share: Reading,
    /// Share of KV-cache blocks in use, mean over the decode workers, 0 to 1.
    pub decode_kv_usage: Reading,
    /// Tokens that the KV cache of one decode worker holds, mean over them.
    pub decode_kv_capacity_tokens: Reading,
    /// Requests per second that decode workers put back because their KV cache was full.
    pub decode_preemption_rate_rps: Reading,
    /// Output tokens per second of the decode workers.
    pub output_token_rate_tps: Reading,
    /// Distributions over the rate window.
    pub recent: Distributions,
    /// The same over [`WIDE_WINDOW`], for services with few requests.
    pub wide: Distributions,
    /// `gateway_ttft` over the attainment window.
    pub gateway_ttft_attainment: HistogramReading,
    /// `prefill_ttft` over the attainment window.
    pub prefill_ttft_attainment: HistogramReading,
    /// `decode_ttft` over the attainment window.
    pub decode_ttft_attainment: HistogramReading,
    /// `tpot` over the attainment window.
    pub tpot_attainment: HistogramReading,
    /// TTFT at the objective's percentile by the user's own query, seconds.
    pub ttft_seconds_override: Reading,
    /// TPOT at the objective's percentile by the user's own query, seconds.
    pub tpot_seconds_override: Reading,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nan(f64::NAN)]
    #[case::infinite(f64::INFINITY)]
    #[case::negative(-1.0)]
    fn what_is_no_measurement_is_unknown(#[case] number: f64) {
        assert_eq!(Reading::of(number), Reading::Unknown(Gap::NotANumber));
        assert_eq!(Reading::Value(number).known(), None);
        assert_eq!(Reading::Value(number).gap(), Some(Gap::NotANumber));
    }

    #[test]
    fn a_known_zero_is_evidence_and_an_unknown_is_not() {
        assert_eq!(Reading::KnownZero.known(), Some(0.0));
        assert_eq!(Reading::Unknown(Gap::Empty).known(), None);
    }
}
