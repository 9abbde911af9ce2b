//! The estimator as decisions use it: fed every 15 s, read at once, kept as JSON between.
//!
//! The replica behind the observations has coefficients of its own, so that every answer can be
//! compared with the truth. Profiles are wrong by a multiple, as real ones are.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const TICK: Duration = Duration::from_secs(15);

/// Largest JSON of an estimator, bytes: it shares the memory of an object with everything else.
const JSON_BYTES_MAX: usize = 3 << 10;

fn noise(step: u32) -> f64 {
    let golden = f64::from(step) * 0.618_033_988_749_895;
    (golden.fract() - 0.5) * 12.0_f64.sqrt()
}

/// A profile of a replica, all times multiplied by `slower`.
fn profile(slower: f64) -> Profile {
    Profile {
        prefill: Some(PrefillModel::Coefficients(PrefillCoefficients {
            base_seconds: 0.008 * slower,
            seconds_per_token: 41.9e-6 * slower,
            seconds_per_token_squared: 0.478e-9 * slower,
        })),
        decode: Some(DecodeModel::Coefficients(DecodeCoefficients {
            base_seconds: 0.008_64 * slower,
            seconds_per_request: 0.047e-3 * slower,
            seconds_per_context_token: 13.4e-9 * slower,
        })),
        kv_capacity_tokens: Some(2_760_000.0),
        batch_max: Some(256),
    }
}

/// Feeds `steps` observations of the replica `truth`.
fn feed(estimator: &mut Estimator, given: Option<&Profile>, truth: &Profile, steps: u32) {
    for step in 0..steps {
        let moves = noise(step * 3 + 1);
        let longer = 1.0 + 0.25 * moves;
        let lengths = [(300.0, 0.6), (3_000.0, 0.3), (9_000.0, 0.1)];
        let lengths = lengths.map(|(tokens, share)| (tokens * longer, share));
        let mean: f64 = split(&lengths, 0.2)
            .map(|(new, cached, share)| {
                share * truth.prefill.as_ref().unwrap().seconds(new, cached)
            })
            .sum();
        let seen = |seconds: f64| seconds * (1.0 + 0.05 * noise(step));
        estimator.observe_prefill(given, seen(mean), &lengths, 0.2, TICK);
        let (batch, context) = (40.0 + 15.0 * moves, 3_000.0 + 500.0 * noise(step * 5));
        let itl = truth.decode.as_ref().unwrap().itl_seconds(batch, context);
        estimator.observe_decode(given, batch, context, seen(itl), TICK);
        estimator.observe_wait(0.06, 0.04, TICK);
        estimator.observe_ttft(0.35, 0.25, TICK);
    }
}

#[rstest]
fn a_wrong_profile_is_right_within_3_percent_after_ten_minutes(#[values(0.7, 1.5)] wrong: f64) {
    let (given, truth) = (profile(1.0), profile(wrong));
    let mut estimator = Estimator::default();
    let before = estimator.capacity(Some(&given));
    assert!((before.prefill_error - 0.3).abs() < 1e-12);
    feed(&mut estimator, Some(&given), &truth, 40);
    let capacity = estimator.capacity(Some(&given));
    let near = |found: Option<f64>, wanted: f64| {
        let off = found.unwrap() / wanted - 1.0;
        assert!(off.abs() < 0.03, "{off}");
    };
    near(
        capacity.prefill_seconds(2_000.0, 500.0),
        truth.prefill.as_ref().unwrap().seconds(2_000.0, 500.0),
    );
    near(
        capacity.itl_seconds(64.0, 3_000.0),
        truth.decode.as_ref().unwrap().itl_seconds(64.0, 3_000.0),
    );
    let limit = truth.decode.as_ref().unwrap().itl_seconds(80.0, 3_000.0);
    near(capacity.batch_within(limit, 3_000.0), 80.0);
    near(Some(capacity.routing_factor), 1.5);
    near(Some(capacity.ttft_residual_seconds), 0.1);
    assert!(
        capacity.prefill_error < 0.09 && capacity.decode_error < 0.09,
        "{capacity:?}"
    );
    assert_eq!(
        (capacity.source(), capacity.kv_capacity_tokens()),
        (Source::Profile, Some(2_760_000.0))
    );
}

#[test]
fn without_a_profile_the_replica_is_learnt() {
    let truth = profile(1.0);
    let mut estimator = Estimator::default();
    assert_eq!(estimator.capacity(None).source(), Source::Unknown);
    feed(&mut estimator, None, &truth, 3);
    assert_eq!(estimator.capacity(None).source(), Source::Assumed);
    feed(&mut estimator, None, &truth, 120);
    let capacity = estimator.capacity(None);
    assert_eq!(capacity.source(), Source::Learnt);
    for (new, cached) in [(500.0, 0.0), (2_000.0, 0.0), (6_000.0, 1_000.0)] {
        let off = capacity.prefill_seconds(new, cached).unwrap()
            / truth.prefill.as_ref().unwrap().seconds(new, cached);
        assert!((off - 1.0).abs() < 0.12, "{new} tokens: {off}");
    }
    for batch in [20.0, 60.0] {
        let off = capacity.itl_seconds(batch, 3_000.0).unwrap()
            / truth.decode.as_ref().unwrap().itl_seconds(batch, 3_000.0);
        assert!((off - 1.0).abs() < 0.05, "batch {batch}: {off}");
    }
    assert!(
        capacity.prefill_error < 0.08 && capacity.decode_error < 0.08,
        "{capacity:?}"
    );
}

#[test]
fn a_profile_that_comes_later_starts_with_a_correction_of_its_own() {
    let truth = profile(1.0);
    let given = profile(0.5);
    let mut estimator = Estimator::default();
    feed(&mut estimator, None, &truth, 60);
    let capacity = estimator.capacity(Some(&given));
    assert!((capacity.prefill_factor - 1.0).abs() < 1e-12);
    feed(&mut estimator, Some(&given), &truth, 40);
    assert!((estimator.capacity(Some(&given)).decode_factor - 2.0).abs() < 0.06);
    // Without it, what was learnt meanwhile is there.
    assert_eq!(estimator.capacity(None).source(), Source::Learnt);
}

#[test]
fn a_mean_without_lengths_is_spread_over_lengths_that_come_later() {
    let mut estimator = Estimator::default();
    estimator.observe_prefill(None, 0.3, &[], 0.0, TICK);
    let capacity = estimator.capacity(None);
    assert_eq!(capacity.service_times(&[], 0.0), vec![(0.3, 1.0)]);
    let times = capacity.service_times(&[(1_000.0, 0.5), (2_000.0, 0.5)], 0.0);
    assert!(
        (times[0].0 - 0.2).abs() < 1e-12 && (times[1].0 - 0.4).abs() < 1e-12,
        "{times:?}"
    );
    assert_eq!(capacity.prefill_seconds(1_000.0, 0.0), None);
    assert_eq!(capacity.prefill_source, Source::Assumed);
}

#[test]
fn cached_tokens_cost_less_than_computed_ones() {
    let given = profile(1.0);
    let capacity = Estimator::default();
    let capacity = capacity.capacity(Some(&given));
    let mean = |cached_share| -> f64 {
        let times = capacity.service_times(&[(1_000.0, 0.5), (8_000.0, 0.5)], cached_share);
        times.iter().map(|(seconds, share)| seconds * share).sum()
    };
    assert!(mean(0.5) < 0.7 * mean(0.0) && mean(1.0) > 0.0);
}

#[test]
fn the_report_gets_one_sentence() {
    let (given, truth) = (profile(1.0), profile(1.5));
    let mut estimator = Estimator::default();
    let unknown = "prefill times are not known yet, decode times are not known yet";
    assert_eq!(estimator.capacity(None).message(), unknown);
    feed(&mut estimator, Some(&given), &truth, 200);
    let message = estimator.capacity(Some(&given)).message();
    assert_eq!(
        message,
        "prefill times are 1.50 times the profile's, give or take 5 %, decode times are 1.50 times the \
         profile's, give or take 5 %, TTFT has 100 ms beyond compute and wait, prompts wait 1.5 times as \
         long as with perfect routing"
    );
}

#[test]
fn memory_stays_small_and_survives_json() {
    let mut estimator = Estimator::default();
    let (given, truth) = (profile(1.0), profile(1.37));
    feed(&mut estimator, None, &truth, 2_000);
    feed(&mut estimator, Some(&given), &truth, 2_000);
    let json = serde_json::to_string(&estimator).unwrap();
    assert!(json.len() <= JSON_BYTES_MAX, "{} bytes", json.len());
    // Every number at its longest, about 25 characters, still fits.
    let numbers = json.matches([':', ',']).count();
    assert!(
        json.len() + numbers * 6 <= JSON_BYTES_MAX,
        "{numbers} numbers"
    );
    assert_eq!(serde_json::from_str::<Estimator>(&json).unwrap(), estimator);
    assert_eq!(
        serde_json::from_str::<Estimator>("{}").unwrap(),
        Estimator::default()
    );
}

proptest! {
    #[test]
    fn nothing_observed_breaks_an_answer(
        seen in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>(), 0u64..200), 0..30),
        with_profile in any::<bool>(), one in any::<f64>(), other in any::<f64>(),
    ) {
        let given = profile(1.0);
        let given = with_profile.then_some(&given);
        let mut estimator = Estimator::default();
        feed(&mut estimator, given, &profile(1.2), 3);
        for (a, b, c, seconds) in seen {
            let elapsed = Duration::from_secs(seconds);
            estimator.observe_prefill(given, a, &[(b, c), (c, b)], a, elapsed);
            estimator.observe_decode(given, a, b, c, elapsed);
            estimator.observe_wait(a, b, elapsed);
            estimator.observe_ttft(a, b, elapsed);
        }
        let capacity = estimator.capacity(given);
        for answer in [capacity.prefill_seconds(one, other), capacity.itl_seconds(one, other)] {
            prop_assert!(answer.is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0));
        }
        prop_assert!(capacity.batch_within(one, other).is_none_or(|b| (1.0..=1e6).contains(&b)));
        prop_assert!((0.0..=1.0).contains(&capacity.prefill_error));
        prop_assert!((0.0..=1.0).contains(&capacity.decode_error));
        prop_assert!(capacity.routing_factor >= 1.0 && capacity.ttft_residual_seconds >= 0.0);
        let json = serde_json::to_string(&estimator).unwrap();
        prop_assert!(json.len() <= JSON_BYTES_MAX);
        prop_assert_eq!(serde_json::from_str::<Estimator>(&json).unwrap(), estimator);
    }

    #[test]
    fn no_time_teaches_nothing(a in any::<f64>(), b in any::<f64>(), c in any::<f64>()) {
        let mut estimator = Estimator::default();
        feed(&mut estimator, None, &profile(1.2), 3);
        let before = estimator;
        estimator.observe_prefill(None, a, &[(b, c)], c, Duration::ZERO);
        estimator.observe_decode(None, a, b, c, Duration::ZERO);
        estimator.observe_wait(a, b, Duration::ZERO);
        estimator.observe_ttft(a, b, Duration::ZERO);
        prop_assert_eq!(estimator, before);
    }
}
