//! From the samples of the four queries to the core's signals.
//!
//! Gauges of pods that are gone are dropped, stale pods are not counted as scraped, a pod without a
//! number is left out of means, and everything that is missing becomes `Unknown` with its cause.
//! Pure: samples in, signals out. Whether they can be true is the core's to judge.

use std::{collections::BTreeMap, time::Duration};

use pd_core::{
    Gap, PerRole, Reading, Role, Signals,
    histogram::Histogram,
    signal::{Coverage, Distributions, HistogramReading},
};

use crate::{
    queries::{POD, SIGNAL, Scope},
    sample::Sample,
};

/// Requests that a span must hold on average for their dispersion to say anything.
const COUNT_MEAN_MIN: f64 = 1.0;

/// Answers of the queries of one pass; `E` is the error of whoever asked.
#[derive(Debug)]
pub struct Answers<E> {
    /// Gauges and counters by pod.
    pub state: Result<Vec<Sample>, E>,
    /// Distributions over the window of rates.
    pub histograms: Result<Vec<Sample>, E>,
    /// Distributions over the wide window.
    pub wide: Result<Vec<Sample>, E>,
    /// Distributions over the attainment window.
    pub attainment: Result<Vec<Sample>, E>,
    /// The user's own queries, if any.
    pub overrides: Overrides<Option<Result<Vec<Sample>, E>>>,
}

/// One thing for each of the user's own queries.
#[derive(Clone, Debug, Default)]
pub struct Overrides<T> {
    /// TTFT at the objective's percentile, seconds.
    pub ttft: T,
    /// TPOT at the objective's percentile, seconds.
    pub tpot: T,
    /// Requests per second that arrive.
    pub arrival_rate: T,
    /// Requests that wait at the gateway while nothing serves.
    pub wake: T,
}

impl<E> Answers<E> {
    /// The first failure, the user's own queries first: they are the user's to fix.
    pub fn first_error(&self) -> Option<&E> {
        let own = [
            &self.overrides.ttft,
            &self.overrides.tpot,
            &self.overrides.arrival_rate,
            &self.overrides.wake,
        ];
        own.into_iter()
            .filter_map(|answer| answer.as_ref()?.as_ref().err())
            .chain(
                [&self.state, &self.histograms, &self.wide, &self.attainment]
                    .into_iter()
                    .filter_map(|a| a.as_ref().err()),
            )
            .next()
    }
}

/// The signals in `answers` to the queries of `scope`, of the pods that are ready now. Samples may be
/// older, or from the future, by `age_max`.
pub fn signals<E>(
    answers: &Answers<E>,
    ready: PerRole<&[String]>,
    scope: &Scope,
    age_max: Duration,
) -> Signals {
    let state = ByPod::new(&answers.state, ready, age_max);
    let coverage = PerRole::from_fn(|role| state.coverage(role));
    let both = |signal: &str| PerRole::from_fn(|role| state.sum(signal, role));
    let rate = |signal: &str, role: Role| {
        let total = total(&answers.state, signal);
        idle_if_zero(total, coverage[role], ready[role])
    };
    let attainment = |signal: &str| histogram(&answers.attainment, signal);
    let own = &answers.overrides;
    Signals {
        coverage,
        rate_window: scope.window,
        prefill_completion_rate_rps: rate("finished_rate", Role::Prefill),
        decode_completion_rate_rps: rate("decode_finished_rate", Role::Decode),
        prefill_queue_growth_rps: state.growth(),
        arrival_rate_rps_override: single(own.arrival_rate.as_ref()),
        arrival_dispersion: dispersion(&answers.state),
        waiting_requests: both("waiting"),
        running_requests: both("running"),
        requests_peak: PerRole {
            prefill: total(&answers.state, "prefill_peak"),
            decode: total(&answers.state, "decode_peak"),
        },
        decode_deferred_requests: state.sum("deferred", Role::Decode),
        wake_requests: single(own.wake.as_ref()),
        prefix_hit_share: prefix_hit_share(&answers.state),
        decode_kv_usage: state.mean("kv_usage", Role::Decode),
        decode_kv_capacity_tokens: state.kv_capacity(&answers.state),
        decode_preemption_rate_rps: rate("preemption_rate", Role::Decode),
        output_token_rate_tps: rate("output_token_rate", Role::Decode),
        recent: distributions(&answers.histograms),
        wide: distributions(&answers.wide),
        prefill_ttft_attainment: attainment("ttft_attainment"),
        tpot_attainment: attainment("tpot_attainment"),
        ttft_seconds_override: single(own.ttft.as_ref()),
        tpot_seconds_override: single(own.tpot.as_ref()),
    }
}

fn distributions<E>(answer: &Result<Vec<Sample>, E>) -> Distributions {
    let histogram = |signal: &str| histogram(answer, signal);
    Distributions {
        prefill_ttft: histogram("prefill_ttft"),
        decode_ttft: histogram("decode_ttft"),
        prefill_time: histogram("prefill_time"),
        prefill_step_tokens: histogram("prefill_step_tokens"),
        prompt_tokens: histogram("prompt_tokens"),
        output_tokens: histogram("output_tokens"),
        tpot: histogram("tpot"),
        inter_token_latency: histogram("itl"),
    }
}

/// Names of engine metrics that were found, which tells the engine's generation.
pub fn engine<E>(answers: &Answers<E>) -> Option<&'static str> {
    let samples = answers.state.as_ref().ok()?;
    let found = |name: &str| {
        samples
            .iter()
            .any(|s| s.label(SIGNAL) == "names" && s.label("name") == name)
    };
    match (
        found("vllm:kv_cache_usage_perc"),
        found("vllm:gpu_cache_usage_perc"),
    ) {
        (true, false) => Some("VLLM"),
        (false, true) => Some("VLLM (names before 0.9.2)"),
        (true, true) => Some("VLLM (names of two generations)"),
        (false, false) => None,
    }
}

/// How the newest sample of a pod stands to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Fresh(Duration),
    Stale,
    FromTheFuture,
}

impl Freshness {
    fn of(age_seconds: f64, age_max: Duration) -> Self {
        let age_max_seconds = age_max.as_secs_f64();
        if age_seconds < -age_max_seconds {
            return Self::FromTheFuture;
        }
        match Duration::try_from_secs_f64(age_seconds.max(0.0)) {
            Ok(age) if age <= age_max => Self::Fresh(age),
            Ok(_) | Err(_) => Self::Stale,
        }
    }
}

/// Readings by signal and pod, of pods that are ready and fresh.
struct ByPod<'a> {
    values: BTreeMap<(&'a str, &'a str), f64>,
    fresh: PerRole<Vec<&'a str>>,
    coverage: PerRole<Coverage>,
    /// Why there is nothing of a role without a fresh pod.
    gaps: PerRole<Gap>,
}

impl<'a> ByPod<'a> {
    fn new<E>(
        answer: &'a Result<Vec<Sample>, E>,
        ready: PerRole<&'a [String]>,
        age_max: Duration,
    ) -> Self {
        let samples = answer.as_deref().unwrap_or_default();
        let values: BTreeMap<(&str, &str), f64> = samples
            .iter()
            .map(|s| ((s.label(SIGNAL), s.label(POD)), s.value))
            .collect();
        let freshness = ready.map(|pods| {
            let aged = pods.iter().filter_map(|pod| {
                let age_seconds = *values.get(&("age", pod.as_str()))?;
                Some((pod.as_str(), Freshness::of(age_seconds, age_max)))
            });
            aged.collect::<Vec<_>>()
        });
        let fresh = |role: Role| {
            let of_role = freshness[role].iter();
            of_role.filter_map(|&(pod, freshness)| match freshness {
                Freshness::Fresh(age) => Some((pod, age)),
                Freshness::Stale | Freshness::FromTheFuture => None,
            })
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let was_seen = |pod: &&String| values.contains_key(&("seen", pod.as_str()));
        let gap = |role: Role| match &freshness[role] {
            _ if answer.is_err() => Gap::QueryFailed,
            of_role if of_role.iter().any(|(_, f)| *f == Freshness::FromTheFuture) => {
                Gap::ClockSkew
            }
            of_role if !of_role.is_empty() => Gap::Stale,
            _ => Gap::Empty,
        };
        Self {
            fresh: PerRole::from_fn(|role| fresh(role).map(|(pod, _)| pod).collect()),
            coverage: PerRole::from_fn(|role| Coverage {
                scraped: count(fresh(role).count()),
                seen: count(ready[role].iter().filter(was_seen).count()),
                oldest_age: fresh(role).map(|(_, age)| age).max(),
            }),
            gaps: PerRole::from_fn(gap),
            values,
        }
    }

    fn coverage(&self, role: Role) -> Coverage {
        self.coverage[role]
    }

    fn of_role(&self, signal: &str, role: Role) -> Result<Vec<f64>, Gap> {
        let pods = &self.fresh[role];
        let values: Vec<f64> = pods
            .iter()
            .filter_map(|pod| self.values.get(&(signal, *pod)).copied())
            .collect();
        match (values.is_empty(), pods.is_empty()) {
            (false, _) => Ok(values),
            (true, true) => Err(self.gaps[role]),
            (true, false) => Err(Gap::Empty),
        }
    }

    fn sum(&self, signal: &str, role: Role) -> Reading {
        match self.of_role(signal, role) {
            Ok(values) => Reading::of(values.iter().sum()),
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// Mean over the pods that have a number: one that idles may say NaN.
    fn mean(&self, signal: &str, role: Role) -> Reading {
        match self.of_role(signal, role) {
            Ok(mut values) => {
                values.retain(|value| value.is_finite());
                Reading::of(values.iter().sum::<f64>() / values.len() as f64)
            }
            Err(gap) => Reading::Unknown(gap),
        }
    }

    /// Tokens that the KV cache of a decode pod holds, mean: blocks times their size, over the
    /// engines of the pod.
    fn kv_capacity<E>(&self, answer: &Result<Vec<Sample>, E>) -> Reading {
        let mut by_pod: BTreeMap<&str, f64> = BTreeMap::new();
        for sample in answer.as_deref().unwrap_or_default() {
            let pod = sample.label(POD);
            if sample.label(SIGNAL) != "kv_config" || !self.fresh.decode.contains(&pod) {
                continue;
            }
            let number = |label: &str| sample.label(label).parse::<f64>().ok();
            if let Some((size, blocks)) = number("block_size").zip(number("num_gpu_blocks")) {
                *by_pod.entry(pod).or_default() += size * blocks * sample.value;
            }
        }
        if by_pod.is_empty() {
            let pods_known = !self.fresh.decode.is_empty();
            let gap = if pods_known {
                Gap::Empty
            } else {
                self.gaps.decode
            };
            return Reading::Unknown(gap);
        }
        Reading::of(by_pod.values().sum::<f64>() / by_pod.len() as f64)
    }

    /// Growth of the prefill queue; a queue that shrinks does not grow.
    fn growth(&self) -> Reading {
        match self.of_role("waiting_growth", Role::Prefill) {
            Ok(values) => Reading::of(values.iter().sum::<f64>().max(0.0)),
            Err(gap) => Reading::Unknown(gap),
        }
    }
}

/// A sum that Prometheus made, workers that have left included: what they served was served.
fn total<E>(answer: &Result<Vec<Sample>, E>, signal: &str) -> Reading {
    let Ok(samples) = answer else {
        return Reading::Unknown(Gap::QueryFailed);
    };
    let found = samples.iter().find(|sample| sample.label(SIGNAL) == signal);
    found.map_or(Reading::Unknown(Gap::Empty), |sample| {
        Reading::of(sample.value)
    })
}

/// Share of prompt tokens found in the prefix caches; nothing while no prompt is looked up.
fn prefix_hit_share<E>(answer: &Result<Vec<Sample>, E>) -> Reading {
    let hits = total(answer, "prefix_hit_rate");
    let asked = total(answer, "prefix_query_rate");
    match (hits.known(), asked.known()) {
        (Some(_), Some(0.0)) => Reading::Unknown(Gap::TooFewSamples),
        (Some(hits), Some(asked)) => Reading::of(hits / asked),
        (None, _) => hits,
        (_, None) => asked,
    }
}

/// Variance over mean of the requests in a span: half of the mean squared difference of neighbours is
/// the variance, whatever the trend.
fn dispersion<E>(answer: &Result<Vec<Sample>, E>) -> Reading {
    let (mean, squared) = (
        total(answer, "count_mean"),
        total(answer, "count_change_squared"),
    );
    match (mean.known(), squared.known()) {
        (Some(mean), Some(_)) if mean < COUNT_MEAN_MIN => Reading::Unknown(Gap::TooFewSamples),
        (Some(mean), Some(squared)) => Reading::of(squared / 2.0 / mean),
        (None, _) => mean,
        (_, None) => squared,
    }
}

/// A zero is known when every ready worker was scraped.
fn idle_if_zero(reading: Reading, coverage: Coverage, ready: &[String]) -> Reading {
    let complete = coverage.scraped > 0 && coverage.scraped as usize == ready.len();
    if complete && reading == Reading::Value(0.0) {
        Reading::KnownZero
    } else {
        reading
    }
}

fn single<E>(answer: Option<&Result<Vec<Sample>, E>>) -> Reading {
    match answer {
        None => Reading::Unknown(Gap::NotAsked),
        Some(Err(_)) => Reading::Unknown(Gap::QueryFailed),
        Some(Ok(samples)) => match samples.as_slice() {
            [] => Reading::Unknown(Gap::Empty),
            [sample] => Reading::of(sample.value),
            [_, _, ..] => Reading::Unknown(Gap::NotANumber),
        },
    }
}

fn histogram<E>(answer: &Result<Vec<Sample>, E>, signal: &str) -> HistogramReading {
    let Ok(samples) = answer else {
        return HistogramReading::Unknown(Gap::QueryFailed);
    };
    let scalar = |suffix: &str| {
        let name = format!("{signal}_{suffix}");
        samples
            .iter()
            .find(|s| s.label(SIGNAL) == name)
            .map(|s| s.value)
    };
    let buckets: Vec<(f64, f64)> = samples
        .iter()
        .filter(|s| s.label(SIGNAL) == signal)
        .filter_map(|s| Some((s.label("le").parse().ok()?, s.value)))
        .collect();
    let (Some(count), Some(sum)) = (scalar("count"), scalar("sum")) else {
        return HistogramReading::Unknown(Gap::Empty);
    };
    Histogram::from_cumulative(buckets, count, sum).map_or(
        HistogramReading::Unknown(Gap::NotANumber),
        HistogramReading::Value,
    )
}

#[cfg(test)]
mod tests;
