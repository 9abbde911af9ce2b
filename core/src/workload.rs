//! The workload: rates, lengths and measured latency, condensed from the signals.
//!
//! Engines count requests when they finish, not when they arrive. Arrivals are therefore the
//! requests that finished prefill, those that it refused, and the growth of the prefill queue; or
//! what the gateway counts, if that is more; unless the user's own query states them. Lengths are
//! kept as moments: the work of a mean request is not the mean work, and a request holds its KV
//! cache for as long as it answers. Prompt and answer lengths are taken as independent, because
//! engines publish them apart.

mod legs;
mod observations;
mod sharing;

use serde::{Deserialize, Serialize};

use crate::{
    capacity::Capacity,
    histogram::{Histogram, Moments, Share, Span},
    objective::Objective,
    role::PerRole,
    signal::{
        Gap, HistogramReading, Reading, Signals,
        estimate::{self, Estimate},
    },
};

/// Fewest observations for a share over the attainment window: below, one slow request is 5 %.
const SHARE_SAMPLES_MIN: f64 = 20.0;

/// Fewest observations for a mean.
const MEAN_SAMPLES_MIN: f64 = 1.0;

/// Finished requests from which the share of those that used prefill is believed.
const PREFILL_SHARE_SAMPLES_MIN: f64 = 20.0;

/// Most that burstiness may count for: beyond, a few minutes' counts are no statistics.
const ARRIVAL_SCV_MAX: f64 = 10.0;

/// Part of the dispersion of half-minute counts that a queue feels within a service time of a
/// second or less: most of it is waves longer than that. Chosen on simulated days of three
/// production traces.
const BURSTS_FELT: f64 = 0.3;

/// The requests that arrive, and their latency.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// Requests per second that arrive.
    pub arrival_rate_rps: Option<f64>,
    /// Squared coefficient of variation of the times between arrivals, 1 to 10; 1 where not known.
    pub arrival_scv: f64,
    /// Compute seconds of a prompt, mean: its part of the steps that it shares with others.
    pub prefill_seconds_mean: Option<f64>,
    /// `(prompt tokens, share of requests)`; empty when not known.
    pub prompt_lengths: Vec<(f64, f64)>,
    /// The same as buckets, each spread evenly; empty when not known.
    pub prompt_spans: Vec<Span>,
    /// Prompts in the step of a prompt, itself included, mean over prompts; 1 or more.
    pub prompts_in_step: f64,
    /// Moments of prompt tokens per request.
    pub prompt_tokens: Option<Moments>,
    /// Share of prompt tokens found in prefix caches, 0 to 1.
    pub prefix_hit_share: Option<f64>,
    /// Share of requests that use prefill workers at all, 0 to 1: short prompts may go to decode.
    pub prefill_share: Option<f64>,
    /// Output tokens of a request, mean.
    pub output_tokens_mean: Option<f64>,
    /// Moments of output tokens per request.
    pub output_tokens: Option<Moments>,
    /// The resources that a request occupies on a decode worker over its stay.
    pub residence: Option<Residence>,
    /// Seconds between tokens, mean over the rate window: of the same steps as the token rate.
    pub itl_seconds_mean: Option<f64>,
    /// Seconds between a request's arrival at decode and its first token there, mean.
    pub transfer_seconds_mean: Option<f64>,
    /// TTFT at the objective's percentile: the user's own, else the gateway's, else that of the
    /// engines.
    pub ttft: Option<Estimate>,
    /// TTFT at the objective's percentile as the engines show it: the prefill quantile plus the
    /// decode mean, which add up where two quantiles would not.
    pub ttft_engines: Option<Estimate>,
    /// TPOT at the objective's percentile.
    pub tpot: Option<Estimate>,
    /// Share of requests within each role's limit over the attainment window, as far as buckets
    /// show: on the way through the workers, where those are known, for what is lost before them no
    /// replica wins back.
    pub attained: PerRole<Option<Share>>,
    /// Part of the attainment window's requests, 0 to 1, that the shares are of: not all of it
    /// while the window is not full yet, or was quieter than now.
    pub attained_part: PerRole<Option<f64>>,
    /// Values worth showing.
    pub observed: Observed,
}

/// Measured values worth showing beside a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Requests per second that arrive.
    pub arrival_rate_rps: Option<f64>,
    /// TTFT at the objective's percentile, seconds: the prefill quantile plus the decode mean.
    pub ttft_seconds: Option<f64>,
    /// TPOT at the objective's percentile, seconds.
    pub tpot_seconds: Option<f64>,
    /// Share of requests within the TTFT limit over the attainment window, 0 to 1: the gateway's,
    /// else that of the engines.
    pub ttft_attainment: Option<f64>,
    /// Share of requests within the TPOT limit over the attainment window, 0 to 1.
    pub tpot_attainment: Option<f64>,
    /// Prompt tokens per request, mean.
    pub prompt_tokens_mean: Option<f64>,
    /// Output tokens per request, mean.
    pub output_tokens_mean: Option<f64>,
}

/// Sums over the decode steps of one request, in expectation. A step lasts one inter-token latency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residence {
    /// Steps: E\[output\].
    pub steps: f64,
    /// KV tokens summed over steps: E\[output (prompt + output / 2)\].
    pub kv_token_steps: f64,
    /// Squared KV tokens summed over steps: E\[output prompt² + output² prompt + output³ / 3\].
    pub kv_token_squared_steps: f64,
}

impl Residence {
    /// Of requests with these lengths, independent of each other; `prompt` of those that reach
    /// decode.
    pub fn of(prompt: Moments, output: Moments) -> Self {
        Self {
            steps: output.first,
            kv_token_steps: output.first * prompt.first + output.second / 2.0,
            kv_token_squared_steps: output.first * prompt.second
                + output.second * prompt.first
                + output.third / 3.0,
        }
    }

    /// KV tokens of a request at a random step, mean: long answers count for longer.
    pub fn context_tokens_mean(&self) -> Option<f64> {
        (self.steps > 0.0).then(|| self.kv_token_steps / self.steps)
    }

    /// `(mean, variance)` of the KV tokens held at once, in tokens and tokens squared, when
    /// `rate_rps` requests per second arrive as a Poisson stream and a step takes `itl_seconds`.
    pub fn kv_tokens(&self, rate_rps: f64, itl_seconds: f64) -> (f64, f64) {
        let steps_per_second = rate_rps * itl_seconds;
        (
            steps_per_second * self.kv_token_steps,
            steps_per_second * self.kv_token_squared_steps,
        )
    }
}

impl Workload {
    /// The workload in `signals`, judged by `objective`.
    pub fn estimate(signals: &Signals, objective: &Objective) -> Self {
        let (recent, wide) = (&signals.recent, &signals.wide);
        let transfer_seconds_mean = mean(&recent.decode_ttft, &wide.decode_ttft);
        let prefill_share = prefill_share(signals);
        let ttft_engines = legs::ttft(
            signals,
            share(objective.ttft.percentile),
            prefill_share.unwrap_or(1.0),
            transfer_seconds_mean.unwrap_or(0.0),
        );
        let per_observation = observations::tokens(signals);
        let per_tpot = observations::tokens_of_tpot(signals);
        let tpot = estimate::quantile(&recent.tpot, &wide.tpot, share(objective.tpot.percentile))
            .ok()
            .map(|tpot| tpot.over(per_tpot));
        let stated = |reading: Reading| reading.known().map(Estimate::stated);
        let prompts = estimate::better(&recent.prompt_tokens, &wide.prompt_tokens).ok();
        let outputs = estimate::better(&recent.output_tokens, &wide.output_tokens).ok();
        let prompt_tokens = prompts.and_then(|(histogram, _)| histogram.moments());
        let output_tokens = outputs.and_then(|(histogram, _)| histogram.moments());
        let prompts_in_step = sharing::prompts_in_step(signals);
        let mut workload = Self {
            arrival_rate_rps: arrival_rate(signals),
            arrival_scv: arrival_scv(signals),
            prefill_seconds_mean: mean(&recent.prefill_time, &wide.prefill_time)
                .map(|seconds| seconds / prompts_in_step),
            prompt_lengths: prompts.map_or_else(Vec::new, |(histogram, _)| histogram.points()),
            prompt_spans: prompts.map_or_else(Vec::new, |(histogram, _)| histogram.spans()),
            prompts_in_step,
            prompt_tokens,
            prefix_hit_share: signals.prefix_hit_share.known(),
            prefill_share,
            output_tokens_mean: output_tokens.map(|moments| moments.first),
            output_tokens,
            residence: prompt_tokens
                .zip(output_tokens)
                .map(|(prompt, output)| Residence::of(prompt, output)),
            itl_seconds_mean: recent
                .inter_token_latency
                .with_samples(MEAN_SAMPLES_MIN)
                .ok()
                .and_then(Histogram::mean)
                .map(|seconds| seconds / per_observation),
            transfer_seconds_mean,
            ttft: stated(signals.ttft_seconds_override)
                .or_else(|| gateway_ttft(signals, objective))
                .or(ttft_engines),
            ttft_engines,
            tpot: stated(signals.tpot_seconds_override).or(tpot),
            attained: PerRole::default(),
            attained_part: PerRole::default(),
            observed: Observed::default(),
        };
        workload.attained = workload.attained(signals, objective);
        workload.attained_part = workload.attained_part(signals, objective);
        workload.observed = workload.observe(signals, objective);
        workload
    }

    /// Seconds that prefill may take of the TTFT limit: the part that transfer and decode admission
    /// leave.
    pub fn prefill_limit_seconds(&self, objective: &Objective) -> f64 {
        objective.ttft.limit.as_secs_f64() - self.transfer_seconds_mean.unwrap_or(0.0)
    }

    /// `(compute seconds, share)` of the prompts on a replica of `capacity`; empty when not known.
    pub fn service_times(&self, capacity: &Capacity<'_>) -> Vec<(f64, f64)> {
        capacity.service_times(&self.prompt_lengths, self.cached_share())
    }

    /// Share of prompt tokens found in prefix caches, 0 to 1; 0 when not known.
    pub fn cached_share(&self) -> f64 {
        self.prefix_hit_share.unwrap_or(0.0)
    }

    /// Tokens of context of a request in flight, by how long requests stay; 0 when not known.
    pub fn context_tokens(&self) -> f64 {
        let residence = self.residence;
        residence
            .and_then(|residence| residence.context_tokens_mean())
            .unwrap_or(0.0)
    }

    /// Whether nothing arrives, waits or runs, as far as `signals` show for sure.
    pub fn idle(&self, signals: &Signals) -> bool {
        let none = |reading: Reading| reading.known() == Some(0.0);
        self.arrival_rate_rps == Some(0.0)
            && none(signals.waiting_requests.prefill)
            && none(signals.waiting_requests.decode)
            && none(signals.running_requests.decode)
            // A prompt of minutes is in no counter before its end.
            && signals.running_prompts().is_none_or(none)
    }

    /// Caveats about latencies, each a sentence without its full stop; none when they are as good
    /// as any.
    pub fn remarks(&self) -> Vec<String> {
        let remark = |name: &str, estimate: Option<Estimate>| {
            let estimate = estimate?;
            let milliseconds = estimate.value * 1e3;
            let remark = estimate.remark()?;
            Some(format!("{name} is {milliseconds:.0} ms, {remark}"))
        };
        [remark("TTFT", self.ttft), remark("TPOT", self.tpot)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn attained(&self, signals: &Signals, objective: &Objective) -> PerRole<Option<Share>> {
        let ttft_limit_seconds = objective.ttft.limit.as_secs_f64();
        let by_legs = || {
            legs::within(
                signals,
                ttft_limit_seconds,
                self.prefill_share.unwrap_or(1.0),
                SHARE_SAMPLES_MIN,
            )
        };
        PerRole {
            prefill: by_legs()
                .or_else(|| within(&signals.gateway_ttft_attainment, ttft_limit_seconds)),
            decode: within(
                &signals.tpot_attainment,
                objective.tpot.limit.as_secs_f64() * observations::tokens_of_tpot(signals),
            ),
        }
    }

    fn attained_part(&self, signals: &Signals, objective: &Objective) -> PerRole<Option<f64>> {
        let window_requests = self
            .arrival_rate_rps
            .map(|rate| rate * objective.attainment.window.as_secs_f64());
        let part = |reading: &HistogramReading| {
            let counted = reading.with_samples(SHARE_SAMPLES_MIN).ok()?.count();
            let all = window_requests.filter(|all| *all > 0.0)?;
            Some((counted / all).min(1.0))
        };
        PerRole {
            prefill: part(&signals.prefill_ttft_attainment),
            decode: part(&signals.tpot_attainment),
        }
    }

    /// The shares by which the error budget is counted: requests of the window that are not there
    /// yet have missed nothing.
    pub fn budget_attained(&self) -> PerRole<Option<Share>> {
        PerRole::from_fn(|role| {
            let part = self.attained_part[role].unwrap_or(1.0);
            let of_window = |share: f64| 1.0 - (1.0 - share) * part;
            self.attained[role].map(|share| Share {
                value: of_window(share.value),
                low: of_window(share.low),
                high: of_window(share.high),
            })
        })
    }

    fn observe(&self, signals: &Signals, objective: &Objective) -> Observed {
        let value = |share: Option<Share>| share.map(|share| share.value);
        let limit_seconds = objective.ttft.limit.as_secs_f64();
        let at_gateway = within(&signals.gateway_ttft_attainment, limit_seconds);
        Observed {
            arrival_rate_rps: self.arrival_rate_rps,
            ttft_seconds: self.ttft.map(|ttft| ttft.value),
            tpot_seconds: self.tpot.map(|tpot| tpot.value),
            ttft_attainment: value(at_gateway.or(self.attained.prefill)),
            tpot_attainment: value(self.attained.decode),
            prompt_tokens_mean: self.prompt_tokens.map(|moments| moments.first),
            output_tokens_mean: self.output_tokens_mean,
        }
    }
}

/// Share of the observations within a limit; nothing where they are too few.
fn within(reading: &HistogramReading, limit_seconds: f64) -> Option<Share> {
    let histogram = reading.with_samples(SHARE_SAMPLES_MIN).ok()?;
    histogram.share_within(limit_seconds)
}

/// TTFT at the objective's percentile as the gateway shows it; nothing where it has too few
/// requests for a percentile.
fn gateway_ttft(signals: &Signals, objective: &Objective) -> Option<Estimate> {
    let (recent, wide) = (&signals.recent.gateway_ttft, &signals.wide.gateway_ttft);
    let quantile = share(objective.ttft.percentile);
    let ttft = estimate::quantile(recent, wide, quantile).ok()?;
    (!ttft.is_mean).then(|| ttft.at_gateway())
}

fn share(percentile: u8) -> f64 {
    f64::from(percentile) / 100.0
}

fn mean(recent: &HistogramReading, wide: &HistogramReading) -> Option<f64> {
    estimate::mean(recent, wide).ok().map(|mean| mean.value)
}

fn arrival_rate(signals: &Signals) -> Option<f64> {
    match signals.arrival_rate_rps_override.gap() {
        Some(Gap::NotAsked) => {
            let at_engines = arrivals_at_engines(signals);
            let at_gateway = signals.gateway_arrival_rate_rps.known();
            // A gateway counts requests when they come, and those that it holds back. One that is
            // not wholly scraped, or that some clients go past, counts less than the engines serve.
            match (at_gateway, at_engines) {
                (Some(gateway), Some(engines)) => Some(gateway.max(engines)),
                (gateway, engines) => engines.or(gateway),
            }
        }
        _ => signals.arrival_rate_rps_override.known(),
    }
}

fn arrivals_at_engines(signals: &Signals) -> Option<f64> {
    let finished = signals.prefill_completion_rate_rps.known()?;
    let known = |reading: Reading| reading.known().unwrap_or(0.0);
    // A backlog that drains is served and does not arrive.
    let waits = known(signals.prefill_queue_growth_rps) - known(signals.prefill_queue_drain_rps);
    Some((finished + known(signals.prefill_unserved_rate_rps) + waits).max(0.0))
}

/// Over spans long against the time between arrivals, the index of dispersion of the counts is the
/// squared coefficient of variation of a renewal stream, and counts correlation besides.
fn arrival_scv(signals: &Signals) -> f64 {
    let dispersion = signals.arrival_dispersion.known().unwrap_or(1.0);
    (1.0 + (dispersion - 1.0) * BURSTS_FELT).clamp(1.0, ARRIVAL_SCV_MAX)
}

fn prefill_share(signals: &Signals) -> Option<f64> {
    let prefill = signals.prefill_completion_rate_rps.known()?;
    let decode = signals.decode_completion_rate_rps.known()?;
    let finished = decode * signals.rate_window.as_secs_f64();
    (finished >= PREFILL_SHARE_SAMPLES_MIN).then(|| (prefill / decode).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
