//! What arrives: rates, lengths and measured latency, condensed from the signals.
//!
//! Engines count requests when they finish, not when they arrive. Arrivals are therefore the
//! requests that finished prefill plus the growth of the prefill queue, unless the user's own query
//! states them.

use crate::{
    histogram::Histogram,
    policy::Objective,
    report::{Bottleneck, Observed},
    signal::{Gap, HistogramReading, Reading, Signals},
};

/// Fewest observations for a quantile: below, one slow request is 5 %.
const QUANTILE_SAMPLES_MIN: f64 = 20.0;

/// Fewest observations for a mean.
const MEAN_SAMPLES_MIN: f64 = 1.0;

/// What arrives and how it fares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// Requests per second that arrive.
    pub arrival_rate_rps: Option<f64>,
    /// Compute seconds of a prompt, mean.
    pub prefill_seconds_mean: Option<f64>,
    /// `(prompt tokens, share of requests)`; empty when not known.
    pub prompt_lengths: Vec<(f64, f64)>,
    /// Output tokens of a request, mean.
    pub output_tokens_mean: Option<f64>,
    /// Seconds between tokens, mean.
    pub itl_seconds_mean: Option<f64>,
    /// Seconds between a request's arrival at decode and its first token there, mean.
    pub transfer_seconds_mean: Option<f64>,
    /// Values worth showing.
    pub observed: Observed,
}

impl Workload {
    /// The workload in `signals`, judged by `objective`.
    pub fn estimate(signals: &Signals, objective: &Objective) -> Self {
        let transfer_seconds_mean = mean(&signals.recent.decode_ttft);
        let observed = observe(signals, objective, transfer_seconds_mean.unwrap_or(0.0));
        Self {
            arrival_rate_rps: observed.arrival_rate_rps,
            prefill_seconds_mean: mean(&signals.recent.prefill_time),
            prompt_lengths: signals
                .recent
                .prompt_tokens
                .with_samples(MEAN_SAMPLES_MIN)
                .map(Histogram::points)
                .unwrap_or_default(),
            output_tokens_mean: observed.output_tokens_mean,
            itl_seconds_mean: mean(&signals.recent.inter_token_latency),
            transfer_seconds_mean,
            observed,
        }
    }

    /// Whether nothing arrives, waits or runs, as far as `signals` tell for sure.
    pub fn idle(&self, signals: &Signals) -> bool {
        let none = |reading: Reading| reading.known() == Some(0.0);
        self.arrival_rate_rps == Some(0.0)
            && none(signals.waiting_requests.prefill)
            && none(signals.waiting_requests.decode)
            && none(signals.running_requests.decode)
    }

    /// Where requests lose time when the objective is missed.
    pub fn bottleneck(&self, signals: &Signals, objective: &Objective) -> Bottleneck {
        let ttft_limit = objective.ttft.limit.as_secs_f64();
        let waiting = |reading: Reading| reading.known().is_some_and(|n| n >= 1.0);
        if self
            .observed
            .ttft_seconds
            .is_some_and(|ttft| ttft > ttft_limit)
        {
            let transfer = self.transfer_seconds_mean.unwrap_or(0.0);
            let compute = self.prefill_seconds_mean.unwrap_or(0.0);
            return match () {
                () if transfer > ttft_limit / 2.0 && waiting(signals.waiting_requests.decode) => {
                    Bottleneck::DecodeAdmission
                }
                () if transfer > ttft_limit / 2.0 => Bottleneck::KvTransfer,
                () if compute > ttft_limit / 2.0 && !waiting(signals.waiting_requests.prefill) => {
                    Bottleneck::PrefillCompute
                }
                () => Bottleneck::PrefillQueue,
            };
        }
        let tpot_limit = objective.tpot.limit.as_secs_f64();
        if self.itl_seconds_mean.is_some_and(|itl| itl > tpot_limit) {
            return Bottleneck::DecodeBatch;
        }
        Bottleneck::None
    }
}

fn mean(reading: &HistogramReading) -> Option<f64> {
    let histogram = reading.with_samples(MEAN_SAMPLES_MIN).ok()?;
    histogram.mean()
}

fn observe(signals: &Signals, objective: &Objective, transfer_seconds: f64) -> Observed {
    let share = |percentile: u8| f64::from(percentile) / 100.0;
    let quantile = |reading: &HistogramReading, percentile: u8| {
        let histogram = reading.with_samples(QUANTILE_SAMPLES_MIN).ok()?;
        histogram.quantile(share(percentile)).map(|q| q.value)
    };
    let attained = |reading: &HistogramReading, limit_seconds: f64| {
        let histogram = reading.with_samples(QUANTILE_SAMPLES_MIN).ok()?;
        histogram.share_at_or_below(limit_seconds)
    };
    let (ttft, tpot) = (objective.ttft, objective.tpot);
    let ttft_seconds = signals.ttft_seconds_override.known().or_else(|| {
        quantile(&signals.recent.prefill_ttft, ttft.percentile)
            .map(|prefill| prefill + transfer_seconds)
    });
    Observed {
        arrival_rate_rps: arrival_rate(signals),
        ttft_seconds,
        tpot_seconds: signals
            .tpot_seconds_override
            .known()
            .or_else(|| quantile(&signals.recent.tpot, tpot.percentile)),
        ttft_attainment: attained(
            &signals.prefill_ttft_attainment,
            ttft.limit.as_secs_f64() - transfer_seconds,
        ),
        tpot_attainment: attained(&signals.tpot_attainment, tpot.limit.as_secs_f64()),
        prompt_tokens_mean: mean(&signals.recent.prompt_tokens),
        output_tokens_mean: mean(&signals.recent.output_tokens),
    }
}

fn arrival_rate(signals: &Signals) -> Option<f64> {
    match signals.arrival_rate_rps_override.gap() {
        Some(Gap::NotAsked) => {
            let finished = signals.prefill_completion_rate_rps.known()?;
            Some(finished + signals.prefill_queue_growth_rps.known().unwrap_or(0.0))
        }
        _ => signals.arrival_rate_rps_override.known(),
    }
}
