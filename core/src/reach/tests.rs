//! Limits below, near and above the floor, in terms of a replica that is known exactly.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::{
    capacity::{
        DecodeModel, Estimator, PrefillModel, Profile,
        coefficients::{DecodeCoefficients, PrefillCoefficients},
    },
    histogram::Histogram,
    signal::HistogramReading,
    testing::{self, Load},
};

/// Steps of 8 ms and 0.2 ms more per request, prompts of 0.1 ms per token.
fn profile() -> Profile {
    Profile {
        prefill: Some(PrefillModel::Coefficients(PrefillCoefficients {
            base_seconds: 0.0,
            seconds_per_token: 1e-4,
            seconds_per_token_squared: 0.0,
        })),
        decode: Some(DecodeModel::Coefficients(DecodeCoefficients {
            base_seconds: 0.008,
            seconds_per_request: 0.000_2,
            seconds_per_context_token: 0.0,
        })),
        ..Profile::default()
    }
}

fn found(ttft_ms: u64, tpot_us: u64, prompts: HistogramReading) -> PerRole<Reach> {
    let load = Load {
        rate_rps: 10.0,
        prefill_seconds: 0.1,
        output_tokens: 200.0,
    };
    let mut snapshot = testing::snapshot(2, 4, load);
    let mut objective = snapshot.policy.objective;
    objective.ttft.limit = Duration::from_millis(ttft_ms);
    objective.tpot.limit = Duration::from_micros(tpot_us);
    snapshot.signals.recent.prompt_tokens = prompts;
    // Nothing is measured but lengths, so that the model alone speaks.
    snapshot.signals.recent.prefill_time = HistogramReading::default();
    snapshot.signals.recent.prefill_ttft = HistogramReading::default();
    snapshot.signals.recent.decode_ttft = HistogramReading::default();
    snapshot.signals.wide.decode_ttft = HistogramReading::default();
    let workload = Workload::estimate(&snapshot.signals, &objective);
    let profile = profile();
    let capacity = Estimator::default().capacity(Some(&profile));
    reach(&objective, &snapshot.signals, &workload, &capacity).map(Option::unwrap)
}

/// Half of the prompts have 1,000 to 2,000 tokens and half 4,000 to 8,000.
fn two_kinds() -> HistogramReading {
    let buckets = vec![(1e3, 0.0), (2e3, 300.0), (4e3, 300.0), (8e3, 600.0)];
    HistogramReading::Value(Histogram::from_cumulative(buckets, 600.0, 600.0 * 3_750.0).unwrap())
}

#[rstest]
#[case::far_above(50_000, 0.0, 0.050)]
#[case::just_above(8_900, 0.0, 0.008_9)]
#[case::nearer_than_workers_are_alike(8_300, 0.0, 0.008_61)]
#[case::below(6_000, 1.0, 0.016_4)]
fn a_tpot_limit_below_the_floor_is_out_of_reach_of_all(
    #[case] limit_us: u64,
    #[case] share: f64,
    #[case] held_seconds: f64,
) {
    let decode = found(500, limit_us, two_kinds()).decode;
    assert!(
        (decode.unreachable_share - share).abs() < 1e-9,
        "{decode:?}"
    );
    assert!(
        (decode.held_seconds - held_seconds).abs() < 1e-9,
        "{decode:?}"
    );
    assert!(decode.attainable_seconds >= 0.008_61 - 1e-9);
}

#[rstest]
#[case::none(900, 0.0)]
#[case::a_half_of_the_longer(600, 0.25)]
#[case::the_longer(300, 0.5)]
#[case::all(50, 1.0)]
fn the_part_of_a_bucket_beyond_the_limit_is_out_of_reach(#[case] ttft_ms: u64, #[case] share: f64) {
    let prefill = found(ttft_ms, 50_000, two_kinds()).prefill;
    assert!(
        (prefill.unreachable_share - share).abs() < 2e-3,
        "{prefill:?}"
    );
    // One in a hundred of the prompts may miss: those of more than 7,920 tokens.
    let shortest = if share > 0.0 {
        0.792 / (1.0 - NEAR)
    } else {
        0.9
    };
    assert!(
        (prefill.attainable_seconds / shortest - 1.0).abs() < 1e-2,
        "{prefill:?}"
    );
}

#[test]
fn a_minute_out_of_reach_is_a_small_part_of_the_hour() {
    let hour = Duration::from_hours(1);
    let mut share = UnreachableShare::default();
    share.observe(0.0, None, hour);
    for _ in 0..4 {
        share.observe(0.6, Some(Duration::from_secs(15)), hour);
    }
    assert!((0.005..0.015).contains(&share.share()), "{share:?}");
}
