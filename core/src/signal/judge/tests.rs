//! Units that are wrong, workers that are missing, and services that are merely idle or bursting.

use rstest::rstest;

use super::*;
use crate::{
    signal::Distributions,
    snapshot::Snapshot,
    testing::{self, Load, around},
};

const LOAD: Load = Load {
    rate_rps: 10.0,
    prefill_seconds: 0.1,
    output_tokens: 200.0,
};

fn healthy() -> Snapshot {
    testing::snapshot(4, 8, LOAD)
}

fn doubted(signals: &Signals) -> Vec<(SignalName, Gap)> {
    let doubts = signals.doubts();
    doubts
        .iter()
        .map(|doubt| (doubt.signal, doubt.gap))
        .collect()
}

fn judged(snapshot: &Snapshot) -> Signals {
    snapshot
        .signals
        .judged(snapshot.roles.map(|state| state.ready))
}

#[test]
fn a_healthy_service_is_believed_as_it_is() {
    let snapshot = healthy();
    assert_eq!(snapshot.signals.doubts(), vec![]);
    assert_eq!(judged(&snapshot), snapshot.signals);
}

#[rstest]
#[case::itl_in_milliseconds(
    |s: &mut Signals| s.recent.inter_token_latency = around(25.0, 1e5),
    SignalName::InterTokenLatency
)]
#[case::itl_in_fast_milliseconds_that_pass_for_seconds(
    |s: &mut Signals| s.recent.inter_token_latency = around(8.0, 1e5),
    SignalName::InterTokenLatency
)]
#[case::ttft_in_milliseconds(
    |s: &mut Signals| s.recent.prefill_ttft = around(120.0, 600.0),
    SignalName::PrefillTtft
)]
#[case::tpot_in_microseconds(
    |s: &mut Signals| s.wide.tpot = around(25_000.0, 600.0),
    SignalName::Tpot
)]
#[case::kv_usage_in_percent(
    |s: &mut Signals| s.decode_kv_usage = Reading::of(45.0),
    SignalName::DecodeKvUsage
)]
#[case::hit_share_in_percent(
    |s: &mut Signals| s.prefix_hit_share = Reading::of(80.0),
    SignalName::PrefixHitShare
)]
#[case::own_tpot_query_in_milliseconds(
    |s: &mut Signals| s.tpot_seconds_override = Reading::of(42.0),
    SignalName::TpotOverride
)]
fn a_wrong_unit_is_refused_and_named(
    #[case] spoil: fn(&mut Signals),
    #[case] expected: SignalName,
) {
    let mut snapshot = healthy();
    spoil(&mut snapshot.signals);
    assert_eq!(
        doubted(&snapshot.signals),
        vec![(expected, Gap::OutOfRange)]
    );
    let message = &snapshot.signals.doubts()[0].message;
    assert!(message.contains(expected.as_str()), "{message}");
    let judged = judged(&snapshot);
    let numbers = judged.numbers().find(|(name, _)| *name == expected);
    let distribution = judged.distributions().find(|(name, ..)| *name == expected);
    let gap = numbers.map_or_else(|| distribution.unwrap().1.gap(), |(_, r)| r.gap());
    assert_eq!(gap, Some(Gap::OutOfRange));
}

#[test]
fn percent_is_recognised_as_percent() {
    let mut signals = healthy().signals;
    signals.decode_kv_usage = Reading::of(45.0);
    let message = &signals.doubts()[0].message;
    assert_eq!(
        message,
        "`decodeKvUsage` is 45 and is plausible from 0 to 1; it looks like percent"
    );
}

#[test]
fn a_burst_that_has_just_arrived_is_no_wrong_unit() {
    let mut signals = healthy().signals;
    signals.waiting_requests.prefill = Reading::of(5_000.0);
    signals.requests_peak.prefill = Reading::of(5_000.0);
    signals.running_requests.decode = Reading::of(4_000.0);
    signals.requests_peak.decode = Reading::of(4_000.0);
    assert_eq!(signals.doubts(), vec![]);
}

#[rstest]
#[case::just_now(false)]
#[case::minutes_ago(true)]
fn traffic_that_has_stopped_is_no_wrong_unit(#[case] out_of_the_rate_window: bool) {
    let mut signals = healthy().signals;
    signals.waiting_requests = PerRole::from_fn(|_| Reading::KnownZero);
    signals.running_requests = PerRole::from_fn(|_| Reading::KnownZero);
    if out_of_the_rate_window {
        signals.requests_peak = PerRole::from_fn(|_| Reading::KnownZero);
        signals.recent = Distributions::default();
    }
    assert_eq!(signals.doubts(), vec![]);
}

#[test]
fn one_of_eight_workers_unscraped_is_made_up_for() {
    let mut snapshot = healthy();
    snapshot.signals.coverage.decode.scraped = 7;
    snapshot.signals.output_token_rate_tps = Reading::of(1_750.0);
    let judged = judged(&snapshot);
    assert_eq!(judged.output_token_rate_tps, Reading::of(2_000.0));
    assert_eq!(judged.decode_kv_usage, Reading::of(0.2), "means stay");
    assert_eq!(
        judged.decode_preemption_rate_rps,
        Reading::Value(0.0),
        "the zero is no longer known"
    );
    assert_eq!(
        judged.prefill_completion_rate_rps,
        Reading::of(10.0),
        "the other role stays"
    );
}

#[test]
fn workers_that_have_just_become_ready_are_not_made_up_for() {
    let mut snapshot = healthy();
    snapshot.roles.decode = testing::serving(16);
    let judged = judged(&snapshot);
    assert_eq!(judged.output_token_rate_tps, Reading::of(2_000.0));
}

#[rstest]
#[case::half(4, None)]
#[case::fewer(3, Some(Gap::NoQuorum))]
#[case::none(0, Some(Gap::NoQuorum))]
fn a_role_speaks_from_half_of_its_workers(#[case] scraped: u32, #[case] gap: Option<Gap>) {
    let mut snapshot = healthy();
    snapshot.signals.coverage.decode.scraped = scraped;
    let judged = judged(&snapshot);
    assert_eq!(judged.output_token_rate_tps.gap(), gap);
    assert_eq!(judged.decode_kv_usage.gap(), gap);
    assert_eq!(judged.prefill_completion_rate_rps.gap(), None);
}

#[rstest]
#[case::idle(Reading::KnownZero, Some(0.0))]
#[case::busy(Reading::Value(3.0), None)]
#[case::blind(Reading::Unknown(Gap::QueryFailed), None)]
fn a_quantile_that_is_nan_is_zero_only_when_the_request_counter_says_so(
    #[case] completions: Reading,
    #[case] expected: Option<f64>,
) {
    let mut snapshot = healthy();
    snapshot.signals.prefill_completion_rate_rps = completions;
    snapshot.signals.ttft_seconds_override = Reading::of(f64::NAN);
    assert_eq!(judged(&snapshot).ttft_seconds_override.known(), expected);
}

#[test]
fn a_usage_a_hair_over_one_is_one() {
    let mut snapshot = healthy();
    snapshot.signals.decode_kv_usage = Reading::of(1.000_001);
    assert_eq!(judged(&snapshot).decode_kv_usage, Reading::of(1.0));
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            Just(0.0),
            Just(f64::NAN),
            Just(f64::MAX),
            0.0..1e4_f64
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_read_judging_never_makes_up_a_number_below_it(
            number in any_number(), scraped in 0u32..9, seen in 0u32..9, ready in 0u32..9,
        ) {
            let mut snapshot = healthy();
            snapshot.roles.decode = testing::serving(ready);
            snapshot.signals.coverage.decode = Coverage { scraped, seen, oldest_age: None };
            snapshot.signals.update_numbers(|_, reading| *reading = Reading::of(number));
            let before: Vec<_> = snapshot.signals.numbers().collect();
            for ((name, before), (_, after)) in before.into_iter().zip(judged(&snapshot).numbers()) {
                if let (Some(before), Some(after)) = (before.known(), after.known()) {
                    let share = name.unit() == Unit::Share;
                    prop_assert!(after >= before || share, "{name:?}: {before} -> {after}");
                }
            }
        }
    }
}
