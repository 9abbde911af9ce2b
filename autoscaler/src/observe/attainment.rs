//! Attainment on its own slower tick.
//!
//! The distributions over the attainment window change little from one reconcile to the next, and
//! are the most that a server has to read for an object. They are kept for a small part of their
//! window, as long as they would be asked for in the same words.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use pd_core::{
    Signals,
    signal::{
        HistogramReading,
        name::{Kind, SignalName, SlotMut},
    },
};
use pd_signals::queries::Scope;
use tokio::time::Instant;

/// Parts of its window for one of which a distribution is kept: it is wrong by what came within
/// that part, which is less than two in a hundred.
const PARTS: u32 = 60;

/// Longest time for which a distribution is kept, however long its window: budgets that burn fast
/// show in minutes.
const KEPT_MAX: Duration = Duration::from_mins(5);

/// The distributions over the attainment window as last read.
#[derive(Clone, Debug)]
pub struct KeptAttainment {
    query: u64,
    read_at: Instant,
    readings: Vec<(SignalName, HistogramReading)>,
}

impl KeptAttainment {
    /// Those among `signals`, which were read at `read_at` by the query of `scope`.
    pub fn of(signals: &mut Signals, scope: &Scope, read_at: Instant) -> Self {
        let mut readings = Vec::new();
        each(signals, |signal, reading| {
            readings.push((signal, reading.clone()));
        });
        Self {
            query: hash(scope),
            read_at,
            readings,
        }
    }

    /// Whether they are what the query of `scope` would give, but for a small part.
    pub fn is_fresh(&self, scope: &Scope) -> bool {
        self.read_at.elapsed() < kept_for(scope) && self.query == hash(scope)
    }

    /// Puts them among `signals`.
    pub fn restore(&self, signals: &mut Signals) {
        each(signals, |signal, reading| {
            let mut kept = self.readings.iter();
            if let Some((_, kept)) = kept.find(|(known, _)| *known == signal) {
                reading.clone_from(kept);
            }
        });
    }
}

/// How long the distributions of the query of `scope` are kept.
pub fn kept_for(scope: &Scope) -> Duration {
    (scope.attainment_window / PARTS).min(KEPT_MAX)
}

/// Hands each distribution over the attainment window to `visit`.
fn each(signals: &mut Signals, mut visit: impl FnMut(SignalName, &mut HistogramReading)) {
    for &signal in SignalName::ALL {
        if signal.kind() == Kind::Attainment
            && let SlotMut::Attainment(reading) = signals.slot_mut(signal)
        {
            visit(signal, reading);
        }
    }
}

fn hash(scope: &Scope) -> u64 {
    let mut hasher = DefaultHasher::new();
    scope.attainment_query().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use pd_core::{Gap, histogram::Histogram};
    use pd_signals::engine::VLLM;

    use super::*;

    fn scope(window: Duration) -> Scope {
        Scope {
            engine: &VLLM,
            prefix: None,
            namespace_label: "namespace".into(),
            pod_label: "pod".into(),
            namespace: "ns".into(),
            prefill_pods: "p".into(),
            decode_pods: "d".into(),
            selectors: Vec::new(),
            window: Duration::from_mins(2),
            attainment_window: window,
        }
    }

    fn signals(count: f64) -> Signals {
        let mut signals = Signals::default();
        each(&mut signals, |_, reading| {
            let histogram = Histogram::from_cumulative(vec![(1.0, count)], count, count);
            *reading = HistogramReading::Value(histogram.unwrap());
        });
        signals
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_kept_for_a_small_part_of_its_window_and_for_minutes_at_most() {
        for (window_s, kept_s) in [(300, 5), (3_600, 60), (2_592_000, 300)] {
            let scope = scope(Duration::from_secs(window_s));
            let kept = KeptAttainment::of(&mut signals(3.0), &scope, Instant::now());
            tokio::time::advance(
                Duration::from_secs(kept_s)
                    .checked_sub(Duration::from_millis(1))
                    .unwrap(),
            )
            .await;
            assert!(kept.is_fresh(&scope), "{window_s}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!kept.is_fresh(&scope), "{window_s}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_of_no_use_to_another_question() {
        let hour = scope(Duration::from_hours(1));
        let kept = KeptAttainment::of(&mut signals(3.0), &hour, Instant::now());
        let other_pods = Scope {
            decode_pods: "e".into(),
            ..hour.clone()
        };
        let other_model = Scope {
            selectors: vec![("model_name".into(), "m".into())],
            ..hour.clone()
        };
        let other_window = Scope {
            attainment_window: Duration::from_hours(2),
            ..hour.clone()
        };
        assert!(kept.is_fresh(&hour));
        for other in [other_pods, other_model, other_window] {
            assert!(!kept.is_fresh(&other), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_comes_back_as_it_was_and_nothing_else_does() {
        let kept = KeptAttainment::of(
            &mut signals(3.0),
            &scope(Duration::from_hours(1)),
            Instant::now(),
        );
        let mut next = Signals::default();
        each(&mut next, |_, reading| {
            *reading = HistogramReading::Unknown(Gap::Empty);
        });
        let mut expected = signals(3.0);
        expected.rate_window = next.rate_window;
        kept.restore(&mut next);
        assert_eq!(format!("{next:?}"), format!("{expected:?}"));
    }
}
