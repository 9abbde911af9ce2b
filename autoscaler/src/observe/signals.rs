//! From the samples of the three queries to the core's signals.
//!
//! Gauges of pods that are gone are dropped, stale pods are not counted as scraped, and
//! everything that is missing becomes `Unknown` with its cause. Pure: samples in, signals out.

use std::{collections::BTreeMap, time::Duration};

use pd_core::{
    Gap, PerRole, Reading, Role, Signals,
    histogram::Histogram,
    signal::{Coverage, Distributions, HistogramReading},
};

use crate::{
    prometheus::{QueryError, Sample},
    queries::{POD, SIGNAL},
};

/// Answers of the queries of one pass.
#[derive(Debug)]
pub struct Answers {
    /// Gauges and counters by pod.
    pub state: Result<Vec<Sample>, QueryError>,
    /// Distributions over the window.
    pub histograms: Result<Vec<Sample>, QueryError>,
    /// Distributions over the attainment window.
    pub attainment: Result<Vec<Sample>, QueryError>,
    /// The user's own queries, if any.
    pub overrides: Overrides<Option<Result<Vec<Sample>, QueryError>>>,
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
}

impl Answers {
    /// The first failure, the user's own queries first: they are his to mend.
    pub fn first_error(&self) -> Option<&QueryError> {
        let own = [
            &self.overrides.ttft,
            &self.overrides.tpot,
            &self.overrides.arrival_rate,
        ];
        own.into_iter()
            .filter_map(|answer| answer.as_ref()?.as_ref().err())
            .chain(
                [&self.state, &self.histograms, &self.attainment]
                    .into_iter()
                    .filter_map(|a| a.as_ref().err()),
            )
            .next()
    }
}

/// The signals in `answers`, of the pods that are ready now.
pub fn signals(answers: &Answers, ready: PerRole<&[String]>, age_max: Duration) -> Signals {
    let state = ByPod::new(&answers.state, ready, age_max);
    let coverage = PerRole::from_fn(|role| state.coverage(role));
    let both = |signal: &str| PerRole::from_fn(|role| state.sum(signal, role));
    let attainment = |signal: &str| histogram(&answers.attainment, signal);
    Signals {
        coverage,
        prefill_completion_rate_rps: idle_if_zero(
            total(&answers.state, "finished_rate"),
            coverage.prefill,
            ready.prefill,
        ),
        prefill_queue_growth_rps: state.growth(),
        arrival_rate_rps_override: single(answers.overrides.arrival_rate.as_ref()),
        waiting_requests: both("waiting"),
        running_requests: both("running"),
        decode_kv_usage: state.mean("kv_usage", Role::Decode),
        output_token_rate_tps: total(&answers.state, "output_token_rate"),
        recent: distributions(&answers.histograms),
        prefill_ttft_attainment: attainment("ttft_attainment"),
        tpot_attainment: attainment("tpot_attainment"),
        ttft_seconds_override: single(answers.overrides.ttft.as_ref()),
        tpot_seconds_override: single(answers.overrides.tpot.as_ref()),
        ..Signals::default()
    }
}

fn distributions(answer: &Result<Vec<Sample>, QueryError>) -> Distributions {
    let histogram = |signal: &str| histogram(answer, signal);
    Distributions {
        prefill_ttft: histogram("prefill_ttft"),
        decode_ttft: histogram("decode_ttft"),
        prefill_time: histogram("prefill_time"),
        prompt_tokens: histogram("prompt_tokens"),
        output_tokens: histogram("output_tokens"),
        tpot: histogram("tpot"),
        inter_token_latency: histogram("itl"),
    }
}

/// Names of engine metrics that were found, which tells the engine's generation.
pub fn engine(answers: &Answers) -> Option<&'static str> {
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

/// Readings by signal and pod, of pods that are ready and fresh.
struct ByPod<'a> {
    error: Option<Gap>,
    values: BTreeMap<(&'a str, &'a str), f64>,
    ages: PerRole<Vec<Duration>>,
    fresh: PerRole<Vec<&'a str>>,
    any_series: bool,
}

impl<'a> ByPod<'a> {
    fn new(
        answer: &'a Result<Vec<Sample>, QueryError>,
        ready: PerRole<&'a [String]>,
        age_max: Duration,
    ) -> Self {
        let (samples, error) = match answer {
            Ok(samples) => (samples.as_slice(), None),
            Err(_) => (&[][..], Some(Gap::QueryFailed)),
        };
        let values: BTreeMap<(&str, &str), f64> = samples
            .iter()
            .map(|s| ((s.label(SIGNAL), s.label(POD)), s.value))
            .collect();
        let age_of = |pod: &str| {
            let seconds = *values.get(&("age", pod))?;
            Duration::try_from_secs_f64(seconds.max(0.0)).ok()
        };
        let fresh_of = |pods: &'a [String]| -> Vec<(&'a str, Duration)> {
            let aged = pods
                .iter()
                .filter_map(|pod| Some((pod.as_str(), age_of(pod)?)));
            aged.filter(|(_, age)| *age <= age_max).collect()
        };
        let fresh = ready.map(fresh_of);
        Self {
            error,
            ages: PerRole::from_fn(|role| fresh.get(role).iter().map(|(_, age)| *age).collect()),
            fresh: PerRole::from_fn(|role| fresh.get(role).iter().map(|(pod, _)| *pod).collect()),
            any_series: ready
                .iter()
                .any(|(_, pods)| pods.iter().any(|pod| age_of(pod).is_some())),
            values,
        }
    }

    fn coverage(&self, role: Role) -> Coverage {
        Coverage {
            scraped: u32::try_from(self.fresh.get(role).len()).unwrap_or(u32::MAX),
            oldest_age: self.ages.get(role).iter().max().copied(),
        }
    }

    fn of_role(&self, signal: &str, role: Role) -> Result<Vec<f64>, Gap> {
        if let Some(gap) = self.error {
            return Err(gap);
        }
        let pods = self.fresh.get(role);
        let values: Vec<f64> = pods
            .iter()
            .filter_map(|pod| self.values.get(&(signal, *pod)).copied())
            .collect();
        match (values.is_empty(), self.any_series && pods.is_empty()) {
            (false, _) => Ok(values),
            (true, true) => Err(Gap::Stale),
            (true, false) => Err(Gap::Empty),
        }
    }

    fn sum(&self, signal: &str, role: Role) -> Reading {
        match self.of_role(signal, role) {
            Ok(values) => Reading::of(values.iter().sum()),
            Err(gap) => Reading::Unknown(gap),
        }
    }

    fn mean(&self, signal: &str, role: Role) -> Reading {
        match self.of_role(signal, role) {
            Ok(values) => Reading::of(values.iter().sum::<f64>() / values.len() as f64),
            Err(gap) => Reading::Unknown(gap),
        }
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
fn total(answer: &Result<Vec<Sample>, QueryError>, signal: &str) -> Reading {
    let Ok(samples) = answer else {
        return Reading::Unknown(Gap::QueryFailed);
    };
    let found = samples.iter().find(|sample| sample.label(SIGNAL) == signal);
    found.map_or(Reading::Unknown(Gap::Empty), |sample| {
        Reading::of(sample.value)
    })
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

fn single(answer: Option<&Result<Vec<Sample>, QueryError>>) -> Reading {
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

fn histogram(answer: &Result<Vec<Sample>, QueryError>, signal: &str) -> HistogramReading {
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
