//! Longer work never needs fewer replicas: longer prompts, longer answers, and a mix in which more
//! of the requests are long.
//!
//! As with load, needs are compared with one memory and one forecast, on any history: what is
//! learnt from longer requests may well be that replicas are faster. Whole decisions are compared
//! on services that have come to rest.

use std::time::Duration;

use proptest::prelude::*;

use super::{at, carried_out, history};
use crate::{
    histogram::Histogram,
    memory::Memory,
    plan::{needs_under, plan},
    role::{PerRole, Role},
    signal::{HistogramReading, Reading, Signals},
    snapshot::Snapshot,
    testing::{self, Load, world::World},
};

/// The same requests, each `factor` times as long.
fn longer(reading: &mut HistogramReading, factor: f64) {
    let HistogramReading::Value(histogram) = reading else {
        return;
    };
    let buckets = histogram.cumulative().iter();
    let buckets = buckets.map(|&(edge, count)| (edge * factor, count));
    let sum = histogram.sum() * factor;
    if let Some(longer) = Histogram::from_cumulative(buckets.collect(), histogram.count(), sum) {
        *reading = HistogramReading::Value(longer);
    }
}

/// The same requests, of which the share `part` of those below the last edge is as long as that.
fn mixed(reading: &mut HistogramReading, part: f64) {
    let HistogramReading::Value(histogram) = reading else {
        return;
    };
    let Some((&(last, _), shorter)) = histogram.cumulative().split_last() else {
        return;
    };
    let Some(&(edge, below)) = shorter.last() else {
        return;
    };
    let moved = below * part;
    let mean = histogram.mean().unwrap_or(0.0).min(edge);
    let sum = histogram.sum() + moved * (last - mean);
    let mut buckets = histogram.cumulative().to_vec();
    let kept = buckets.len() - 1;
    for (_, count) in &mut buckets[..kept] {
        *count *= 1.0 - part;
    }
    if let Some(mixed) = Histogram::from_cumulative(buckets, histogram.count(), sum) {
        *reading = HistogramReading::Value(mixed);
    }
}

fn longer_prompts(mut signals: Signals, factor: f64) -> Signals {
    longer(&mut signals.recent.prompt_tokens, factor);
    longer(&mut signals.wide.prompt_tokens, factor);
    signals
}

fn more_long_prompts(mut signals: Signals, part: f64) -> Signals {
    mixed(&mut signals.recent.prompt_tokens, part);
    mixed(&mut signals.wide.prompt_tokens, part);
    signals
}

/// As many requests with longer answers are as many more tokens, and times between them.
fn longer_answers(mut signals: Signals, factor: f64) -> Signals {
    for window in [&mut signals.recent, &mut signals.wide] {
        longer(&mut window.output_tokens, factor);
        if let HistogramReading::Value(times) = &mut window.inter_token_latency {
            *times = times.clone().times(factor);
        }
    }
    if let Reading::Value(tokens) = &mut signals.output_token_rate_tps {
        *tokens *= factor;
    }
    signals
}

/// Replicas needed by the snapshots of `history`, and by the same with requests that are longer.
fn never_fewer(
    history: Vec<(u64, Snapshot)>,
    longer: impl Fn(Signals) -> Signals,
) -> Result<(), TestCaseError> {
    // Longer requests fill caches further. With the same use they would show larger caches.
    let unfilled = |(pause, mut snapshot): (u64, Snapshot)| {
        snapshot.signals.decode_kv_usage = Reading::default();
        (pause, snapshot)
    };
    let history: Vec<_> = history.into_iter().map(unfilled).collect();
    for (now, snapshot, _, decision) in carried_out(&history) {
        let long = Snapshot {
            signals: longer(snapshot.signals.clone()),
            ..snapshot.clone()
        };
        let needs = needs_under(&snapshot, &long, &decision.memory, now);
        for role in Role::ALL {
            if let Some((need, need_longer)) = needs[role] {
                prop_assert!(
                    need_longer >= need,
                    "{role:?}: {need} and {need_longer}\n{}",
                    decision.report.paragraph()
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn longer_prompts_never_need_fewer(history in history(2), factor in 1.0f64..8.0) {
        never_fewer(history, |signals| longer_prompts(signals, factor))?;
    }

    #[test]
    fn longer_answers_never_need_fewer(history in history(2), factor in 1.0f64..8.0) {
        never_fewer(history, |signals| longer_answers(signals, factor))?;
    }

    #[test]
    fn more_long_prompts_never_need_fewer(history in history(2), part in 0.0f64..=1.0) {
        never_fewer(history, |signals| more_long_prompts(signals, part))?;
    }
}

/// Replicas of a service that has served `load` for so long that nothing changes any more.
fn at_rest(load: Load) -> PerRole<u32> {
    let mut world = World::new(4, 4, load);
    world.run(Duration::from_hours(1));
    world.current
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_service_with_longer_work_comes_to_rest_with_no_fewer_replicas(
        rate_rps in 1.0f64..40.0, prefill_seconds in 0.02f64..0.3, output_tokens in 50.0f64..400.0,
        factor in 1.5f64..3.0,
    ) {
        let load = Load { rate_rps, prefill_seconds, output_tokens };
        let rest = at_rest(load);
        let longer = at_rest(Load { prefill_seconds: prefill_seconds * factor, ..load });
        prop_assert!(longer.prefill >= rest.prefill, "prefill {rest:?} {longer:?}");
        let longer = at_rest(Load { output_tokens: output_tokens * factor, ..load });
        prop_assert!(longer.decode >= rest.decode, "decode {rest:?} {longer:?}");
    }
}

#[test]
fn the_first_decision_on_prompts_past_the_limit_takes_no_fewer() {
    // 400 to 900 ms of compute against a limit of 500 ms.
    let prefill = [0.4, 0.45, 0.49, 0.51, 0.6, 0.9].map(|prefill_seconds| {
        let load = Load {
            rate_rps: 10.0,
            prefill_seconds,
            output_tokens: 100.0,
        };
        let decision = plan(&testing::snapshot(2, 2, load), &Memory::default(), at(0));
        decision.plan.replicas.prefill
    });
    assert!(prefill.is_sorted(), "{prefill:?}");
}
