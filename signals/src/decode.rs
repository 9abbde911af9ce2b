//! From the samples of the four queries to the core's signals.
//!
//! Gauges of pods that are gone are dropped, stale pods are not counted as scraped, a pod without a
//! number is left out of means, and everything that is missing becomes `Unknown` with its cause.
//! Each signal is read by the recipe that its query was made from. Pure: samples in, signals out.
//! Whether they can be true is the core's to judge.

mod answer;
mod by_pod;
mod detection;
mod gateway;
mod in_flight;
mod past;

use std::time::Duration;

use pd_core::{
    Gap, PerRole, Reading, Signals,
    signal::{
        Coverage, DISPERSION_SPAN, WIDE_WINDOW,
        name::{SignalName, SlotMut},
    },
};

use self::{answer::Answer, by_pod::ByPod};
pub use self::{
    detection::{Found, another, model, names_tried, prefix},
    gateway::{add_gateway, gateway_found},
    in_flight::in_flight,
    past::Past,
};
use crate::{
    engine::Recipe,
    queries::Scope,
    sample::Sample,
    tag::{METRIC, POD, Part, TAG, Tag},
};

/// Most names of metrics that a message lists, and pods.
const NAMED_MAX: usize = 3;

/// Requests that a span must hold on average for their dispersion to say anything.
const COUNT_MEAN_MIN: f64 = 1.0;

/// Answers of the queries of one reconcile; `E` is the error of whoever sent them.
#[derive(Debug)]
pub struct Answers<E> {
    /// Whether a server said that an answer is not whole, as Thanos and Mimir do when a part of
    /// them does not answer.
    pub partial: bool,
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

impl<T> Overrides<T> {
    /// That of `signal`, if it is one that users query.
    const fn of(&self, signal: SignalName) -> Option<&T> {
        match signal {
            SignalName::TtftOverride => Some(&self.ttft),
            SignalName::TpotOverride => Some(&self.tpot),
            SignalName::ArrivalRate => Some(&self.arrival_rate),
            SignalName::WakeRequests => Some(&self.wake),
            _ => None,
        }
    }
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

/// The signals in `answers` to the queries of `scope`, of the pods that are ready now. Samples may
/// be older, or from the future, by `age_max`.
pub fn signals<E>(
    answers: &Answers<E>,
    ready: PerRole<&[String]>,
    scope: &Scope,
    age_max: Duration,
) -> Signals {
    let state = Answer::of(&answers.state);
    let by_pod = ByPod::new(&state, ready, age_max);
    let numbers = Numbers {
        state: &state,
        by_pod: &by_pod,
        ready,
    };
    let [recent, wide, attainment] =
        [&answers.histograms, &answers.wide, &answers.attainment].map(Answer::of);
    let mut signals = Signals {
        coverage: PerRole::from_fn(|role| by_pod.coverage(role)),
        rate_window: scope.window,
        answer_partial: answers.partial,
        ..Signals::default()
    };
    for &signal in SignalName::ALL {
        // The gateway's are read from its own answer.
        if scope.engine.recipe(signal) == Recipe::Absent {
            continue;
        }
        match signals.slot_mut(signal) {
            SlotMut::Number(reading) => {
                *reading = match answers.overrides.of(signal) {
                    Some(own) => single(own.as_ref()),
                    None => numbers.read(signal, scope.engine.recipe(signal)),
                }
            }
            SlotMut::Distribution(over_recent, over_wide) => {
                *over_recent = recent.histogram(signal);
                *over_wide = wide.histogram(signal);
            }
            SlotMut::Attainment(reading) => *reading = attainment.histogram(signal),
        }
    }
    signals
}

/// The name of the engine whose metrics were found.
pub fn engine<E>(answers: &Answers<E>, scope: &Scope) -> Option<&'static str> {
    let state = Answer::of(&answers.state);
    let metrics = state.samples(Tag::Generation);
    let engine = scope.engine;
    let plain = |name: &'static str| name.strip_prefix(engine.prefix).unwrap_or(name);
    let found = |name: &&'static str| {
        let mut metrics = metrics.iter();
        metrics.any(|sample| sample.label(METRIC).ends_with(plain(name)))
    };
    let (newest, older) = engine.generation.names.split_first()?;
    match (found(newest), older.iter().any(found)) {
        (true, false) => Some(engine.name),
        (false, true) => Some(engine.name_of_older),
        (true, true) => Some(engine.name_of_several),
        (false, false) => None,
    }
}

/// How often workers are scraped, once one was there for all of the wide window.
pub fn scrape_interval<E>(answers: &Answers<E>) -> Option<Duration> {
    let samples = Answer::of(&answers.state).total(Tag::Samples).known()?;
    (samples >= 1.0).then(|| WIDE_WINDOW.div_f64(samples))
}

/// A sentence without its full stop on engines that are scraped at several addresses, if any are.
/// Each counts once all the same.
pub fn scraped_twice<E>(answers: &Answers<E>) -> Option<String> {
    let state = Answer::of(&answers.state);
    let mut pods: Vec<&str> = state
        .samples(Tag::Addresses)
        .iter()
        .map(|sample| sample.label(POD))
        .collect();
    pods.sort_unstable();
    pods.dedup();
    let others = pods.len().saturating_sub(NAMED_MAX);
    let (first, rest) = pods.split_first()?;
    let named = rest.iter().take(NAMED_MAX - 1);
    let mut text = named.fold(format!("`{first}`"), |text, pod| format!("{text}, `{pod}`"));
    if others > 0 {
        text = format!("{text} and {others} others");
    }
    Some(format!(
        "an engine of {text} is scraped at several addresses or by several jobs, and counts once: \
         keep one of them"
    ))
}

/// The sources of single numbers.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    state: &'a Answer<'a>,
    by_pod: &'a ByPod<'a>,
    ready: PerRole<&'a [String]>,
}

impl Numbers<'_> {
    fn read(self, signal: SignalName, recipe: Recipe) -> Reading {
        let Some(role) = signal.role() else {
            return Reading::Unknown(Gap::NotAsked);
        };
        let value = Tag::Signal(signal, Part::Value);
        match recipe {
            Recipe::GaugeSum(_) | Recipe::GaugesSum(_) => self.by_pod.sum(value, role),
            Recipe::GaugeMean(_) | Recipe::WorkerMean(_) | Recipe::GaugeProduct(_) => {
                self.by_pod.mean(value, role)
            }
            Recipe::GaugeGrowth(_) => self.by_pod.growth(value, role),
            Recipe::GaugeShrinkage(_) => self.by_pod.shrinkage(value, role),
            // Pods that have left were part of the peak, so it is a total.
            Recipe::GaugePeak(_) => self.state.total(value),
            Recipe::CounterRate(_) => {
                let coverage = self.by_pod.coverage(role);
                idle_if_zero(self.state.total(value), coverage, self.ready[role])
            }
            Recipe::CounterShare { .. } => share(self.state, signal),
            Recipe::CounterDispersion(_) => dispersion(self.state, signal),
            Recipe::LabelProduct { labels, .. } => {
                self.by_pod
                    .label_product(self.state.samples(value), labels, role)
            }
            // Not read as numbers, or not at all.
            Recipe::Histogram(_)
            | Recipe::HistogramAt(..)
            | Recipe::Lengths { .. }
            | Recipe::Absent
            | Recipe::UserQuery => Reading::Unknown(Gap::NotAsked),
        }
    }
}

/// Makes samples of a state what they are `by` later, while no newer ones are known: each pod's
/// newest sample is older then.
pub fn grow_old(state: &mut [Sample], by: Duration) {
    let age = Tag::Age.to_string();
    for sample in state {
        if sample.label(TAG) == age {
            sample.value += by.as_secs_f64();
        }
    }
}

/// A share of a whole; nothing while the whole is zero.
fn share(state: &Answer<'_>, signal: SignalName) -> Reading {
    let part = state.total(Tag::Signal(signal, Part::Share));
    let whole = state.total(Tag::Signal(signal, Part::Whole));
    match (part.known(), whole.known()) {
        // Nothing was looked up, so nothing is known of the share.
        (Some(_), Some(0.0)) => Reading::Unknown(Gap::TooFewSamples),
        (Some(part), Some(whole)) => Reading::of(part / whole),
        (None, _) => part,
        (_, None) => whole,
    }
}

/// Variance over mean of the counts in a span: half of the mean squared difference of neighbours is
/// the variance, whatever the trend.
fn dispersion(state: &Answer<'_>, signal: SignalName) -> Reading {
    // Scraped less than once a span, neighbouring spans share what came in them.
    let samples = state.total(Tag::Samples).known();
    if samples.is_some_and(|samples| WIDE_WINDOW > DISPERSION_SPAN.mul_f64(samples + 1.0)) {
        return Reading::Unknown(Gap::TooFewSamples);
    }
    let mean = state.total(Tag::Signal(signal, Part::Mean));
    let squared = state.total(Tag::Signal(signal, Part::SquaredChange));
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

/// The one number of the user's own query.
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

#[cfg(test)]
mod tests;
