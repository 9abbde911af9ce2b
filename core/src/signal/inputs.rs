//! The list of the signals that a decision saw: every signal with value or gap, age, samples,
//! coverage, source.
//!
//! For the report. It is made from the judged signals, so a refused reading shows as not known, and
//! signals that nobody asked for are left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Gap, Reading, Signals, WIDE_WINDOW,
    estimate::{self, Source},
    name::{SignalName, Unit},
};
use crate::role::PerRole;

/// One signal as a decision saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Which.
    pub signal: SignalName,
    /// Its value, of a distribution the mean, or why there is none.
    pub reading: Reading,
    /// Unit of the value.
    pub unit: Unit,
    /// How long ago, on average, its events happened, seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_seconds: Option<f64>,
    /// Observations behind it, of a distribution.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub samples: Option<f64>,
    /// Workers in it, and ready workers of the role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workers: Option<Workers>,
    /// Where it comes from.
    pub source: Source,
}

/// How many workers a signal speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// Scraped, with a fresh sample.
    pub scraped: u32,
    /// Ready.
    pub ready: u32,
}

/// Everything in `signals` that was asked for, in the order of [`SignalName`].
pub fn inputs(signals: &Signals, ready: PerRole<u32>) -> Vec<Input> {
    let about = |signal: SignalName, reading, source, samples, window: Duration| {
        let coverage = signal.role().map(|role| signals.coverage[role]);
        let oldest = coverage.and_then(|coverage| coverage.oldest_age);
        Input {
            signal,
            reading,
            unit: signal.unit(),
            // Events of a window happened half of it ago, on average.
            age_seconds: oldest.map(|age| age.as_secs_f64() + window.as_secs_f64() / 2.0),
            samples,
            workers: signal.role().zip(coverage).map(|(role, coverage)| Workers {
                scraped: coverage.scraped,
                ready: ready[role],
            }),
            source,
        }
    };
    let asked = |reading: &Reading| *reading != Reading::Unknown(Gap::NotAsked);
    let mut inputs: Vec<Input> = signals
        .numbers()
        .filter(|(_, reading)| asked(reading))
        .map(|(signal, reading)| {
            about(
                signal,
                reading,
                publisher(signal),
                None,
                window(signals, signal),
            )
        })
        .collect();
    inputs.extend(
        signals
            .distributions()
            .filter_map(|(signal, recent, wide)| {
                let (reading, source, samples) = match estimate::mean(recent, wide) {
                    Ok(mean) => (Reading::of(mean.value), mean.source, mean.samples),
                    Err(gap) => (Reading::Unknown(gap), Source::Engine, None),
                };
                let window = match source {
                    Source::WideWindow => WIDE_WINDOW,
                    Source::Engine | Source::Gateway | Source::UserQuery => signals.rate_window,
                };
                let source = match publisher(signal) {
                    Source::Engine => source,
                    other => other,
                };
                asked(&reading).then(|| about(signal, reading, source, samples, window))
            }),
    );
    inputs.sort_by_key(|input| input.signal);
    inputs
}

/// Who publishes a signal.
fn publisher(signal: SignalName) -> Source {
    if signal.is_override() {
        Source::UserQuery
    } else if signal.is_gateway() {
        Source::Gateway
    } else {
        Source::Engine
    }
}

/// The window that a single number is over; gauges are of now.
fn window(signals: &Signals, signal: SignalName) -> Duration {
    match signal.unit() {
        Unit::RequestsPerSecond | Unit::TokensPerSecond => signals.rate_window,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_signal_of_a_healthy_service_is_listed_with_its_age_and_workers() {
        let load = testing::Load {
            rate_rps: 10.0,
            prefill_seconds: 0.1,
            output_tokens: 200.0,
        };
        let snapshot = testing::snapshot(2, 3, load);
        let ready = snapshot.roles.map(|state| state.ready);
        let inputs = inputs(&snapshot.signals, ready);
        let named = |name| inputs.iter().find(|input| input.signal == name);
        let rate = named(SignalName::OutputTokenRate).unwrap();
        assert_eq!(rate.reading, Reading::Value(2_000.0));
        // The sample is 5 s old and the rate is over a minute.
        assert_eq!(rate.age_seconds, Some(35.0));
        let workers = Workers {
            scraped: 3,
            ready: 3,
        };
        assert_eq!(rate.workers, Some(workers));
        let usage = named(SignalName::DecodeKvUsage).unwrap();
        assert_eq!(usage.age_seconds, Some(5.0));
        assert_eq!(named(SignalName::Tpot).unwrap().samples, Some(600.0));
        assert_eq!(named(SignalName::TtftOverride), None);
        let json = serde_json::to_string(&inputs).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Input>>(&json).unwrap(), inputs);
    }
}
