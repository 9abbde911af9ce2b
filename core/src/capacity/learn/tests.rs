//! Learning against replicas whose coefficients are known.
//!
//! Observations are made from coefficients, with noise that is the same on every run, and what was
//! learnt must predict what was not seen. The cases that need no spread are those of the line that
//! decisions hold today, and keep its behaviours.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const TICK: Duration = Duration::from_secs(15);

/// Noise of about one standard deviation, the same on every run.
fn noise(step: u32) -> f64 {
    let golden = f64::from(step) * 0.618_033_988_749_895;
    (golden.fract() - 0.5) * 12.0_f64.sqrt()
}

const DECODE: DecodeCoefficients = DecodeCoefficients {
    base_seconds: 0.008_64,
    seconds_per_request: 0.047e-3,
    seconds_per_context_token: 13.4e-9,
};

const PREFILL: PrefillCoefficients = PrefillCoefficients {
    base_seconds: 0.008,
    seconds_per_token: 41.9e-6,
    seconds_per_token_squared: 0.478e-9,
};

fn mean_seconds(lengths: &[(f64, f64)], cached_share: f64) -> f64 {
    split(lengths, cached_share)
        .map(|(new, cached, share)| share * PREFILL.seconds(new, cached))
        .sum()
}

/// Lengths of a window whose mean moves with `step`, as traffic does through a day.
fn lengths(step: u32) -> Vec<(f64, f64)> {
    let longer = 1.0 + 0.6 * noise(step);
    let long = 0.2 + 0.05 * noise(step.wrapping_mul(7));
    vec![
        (300.0 * longer.max(0.2), 0.5),
        (2_000.0, 0.5 - long),
        (12_000.0, long),
    ]
}

#[rstest]
#[case::exact(0.0, 0.01)]
#[case::noisy(0.05, 0.10)]
fn decode_is_learnt_from_batches_and_contexts_that_vary(#[case] scatter: f64, #[case] within: f64) {
    let mut learner = DecodeLearner::default();
    for step in 0..240 {
        let batch = 40.0 + 20.0 * noise(step * 3 + 1);
        let context = 3_000.0 + 800.0 * noise(step * 5 + 2);
        let itl = DECODE.itl_seconds(batch, context) * (1.0 + scatter * noise(step));
        learner.observe(batch, context, itl, TICK);
    }
    assert!(learner.is_learnt());
    let learnt = learner.coefficients().unwrap();
    for (batch, context) in [(10.0, 2_000.0), (60.0, 4_000.0), (120.0, 3_000.0)] {
        let off = learnt.itl_seconds(batch, context) / DECODE.itl_seconds(batch, context) - 1.0;
        assert!(
            off.abs() < within,
            "batch {batch}, context {context}: {off}"
        );
    }
}

#[rstest]
#[case::exact(0.0, 0.02)]
// Tokens and their squares rise together: noise moves cost between them, not their sum.
#[case::noisy(0.05, 0.15)]
fn prefill_is_learnt_from_means_of_windows(#[case] scatter: f64, #[case] within: f64) {
    let mut learner = PrefillLearner::default();
    for step in 0..240 {
        let lengths = lengths(step);
        let seconds = mean_seconds(&lengths, 0.3) * (1.0 + scatter * noise(step * 3));
        learner.observe(seconds, &lengths, 0.3, TICK);
    }
    assert!(learner.is_learnt());
    let learnt = learner.coefficients().unwrap();
    for tokens in [1_000.0, 4_000.0, 8_000.0] {
        let off = learnt.seconds(tokens, 0.0) / PREFILL.seconds(tokens, 0.0) - 1.0;
        assert!(off.abs() < within, "{tokens} tokens: {off}, {learnt:?}");
    }
    let usual = [(300.0, 0.5), (2_000.0, 0.3), (12_000.0, 0.2)];
    let learnt: f64 = split(&usual, 0.3)
        .map(|(new, cached, share)| share * learnt.seconds(new, cached))
        .sum();
    let off = learnt / mean_seconds(&usual, 0.3) - 1.0;
    assert!(off.abs() < 0.02, "{off}");
}

#[test]
fn prefill_is_proportional_to_tokens_before_lengths_vary() {
    let mut learner = PrefillLearner::default();
    for _ in 0..100 {
        learner.observe(0.2, &[(1_000.0, 0.5), (3_000.0, 0.5)], 0.0, TICK);
    }
    let learnt = learner.coefficients().unwrap();
    assert!(!learner.is_learnt());
    assert!(
        (learnt.seconds(1_000.0, 0.0) - 0.1).abs() < 1e-9,
        "{learnt:?}"
    );
}

#[test]
fn prompts_without_known_lengths_leave_their_mean() {
    let mut learner = PrefillLearner::default();
    learner.observe(0.2, &[], 0.0, TICK);
    assert_eq!(learner.coefficients(), None);
    assert_eq!(learner.mean_seconds(), Some(0.2));
}

#[test]
fn without_spread_a_step_is_taken_to_double_at_a_batch_of_64() {
    let mut learner = DecodeLearner::default();
    for _ in 0..40 {
        learner.observe(64.0, 0.0, 0.02, TICK);
    }
    let learnt = learner.coefficients().unwrap();
    assert!((learnt.base_seconds - 0.01).abs() < 1e-9, "{learnt:?}");
    assert!((learnt.itl_seconds(64.0, 0.0) - 0.02).abs() < 1e-9);
}

#[test]
fn a_worker_that_hardly_works_is_not_taken_for_a_slow_one() {
    let mut learner = DecodeLearner::default();
    for step in 0..40 {
        // Noise around a batch of one must not pass for a slope.
        let noise = f64::from(step % 3);
        learner.observe(1.0 + 0.1 * noise, 1_000.0, 0.009 + 0.000_3 * noise, TICK);
    }
    assert!(
        learner.batch_within(0.045, 1_000.0).unwrap() >= 32.0,
        "{learner:?}"
    );
}

#[test]
fn the_base_is_remembered_when_batches_stop_to_vary() {
    let mut learner = DecodeLearner::default();
    for step in 0..30 {
        let batch = 10.0 + f64::from(step % 9) * 10.0;
        learner.observe(batch, 0.0, 0.008 + 0.000_2 * batch, TICK);
    }
    for _ in 0..10_000 {
        learner.observe(50.0, 0.0, 0.018, TICK);
    }
    let learnt = learner.coefficients().unwrap();
    assert!((learnt.base_seconds - 0.008).abs() < 1e-3, "{learnt:?}");
    assert!(
        (learnt.seconds_per_request - 0.000_2).abs() < 2e-5,
        "{learnt:?}"
    );
}

#[test]
fn a_batch_never_seen_is_trusted_only_a_little_way() {
    let mut learner = DecodeLearner::default();
    learner.observe(10.0, 0.0, 0.010, TICK);
    assert_eq!(learner.batch_within(1.0, 0.0), Some(40.0));
}

#[test]
fn the_same_moment_twice_teaches_nothing() {
    let mut decode = DecodeLearner::default();
    decode.observe(10.0, 1_000.0, 0.010, TICK);
    let before = decode;
    decode.observe(99.0, 1_000.0, 0.5, Duration::ZERO);
    assert_eq!(decode, before);
    let mut prefill = PrefillLearner::default();
    prefill.observe(0.5, &[(100.0, 1.0)], 0.0, Duration::ZERO);
    assert_eq!(prefill, PrefillLearner::default());
}

#[test]
fn an_odd_window_moves_little_and_a_new_engine_is_followed() {
    let mut learner = DecodeLearner::default();
    let feed = |learner: &mut DecodeLearner, steps: u32, slower: f64| {
        for step in 0..steps {
            let batch = 40.0 + 15.0 * noise(step * 3 + 1);
            learner.observe(batch, 0.0, slower * (0.008 + 0.000_2 * batch), TICK);
        }
    };
    feed(&mut learner, 120, 1.0);
    learner.observe(40.0, 0.0, 5.0, TICK);
    let itl = learner.coefficients().unwrap().itl_seconds(60.0, 0.0);
    assert!((itl / 0.020 - 1.0).abs() < 0.03, "{itl}");
    feed(&mut learner, 2_000, 2.0);
    let itl = learner.coefficients().unwrap().itl_seconds(60.0, 0.0);
    assert!((itl / 0.040 - 1.0).abs() < 0.03, "{itl}");
}

proptest! {
    #[test]
    fn no_observation_breaks_what_is_learnt(
        seen in prop::collection::vec(
            (any::<f64>(), any::<f64>(), any::<f64>(), 0u64..1_000), 0..40),
        sane in prop::collection::vec((0.0f64..1e7, 0.0f64..1e9, 0.0f64..4e3), 0..40),
    ) {
        let (mut decode, mut prefill) = (DecodeLearner::default(), PrefillLearner::default());
        let sane = sane.into_iter().map(|(a, b, c)| (a, b, c, 15));
        for (a, b, c, seconds) in seen.into_iter().chain(sane) {
            let elapsed = Duration::from_secs(seconds);
            decode.observe(a, b, c, elapsed);
            prefill.observe(c, &[(a, b), (b, a), (a, 0.5)], b, elapsed);
        }
        if let Some(learnt) = decode.coefficients() {
            prop_assert!(learnt.terms().iter().all(|term| term.is_finite() && *term >= 0.0));
            prop_assert!(decode.batch_within(0.05, 1_000.0).unwrap() >= 1.0);
        }
        if let Some(learnt) = prefill.coefficients() {
            prop_assert!(learnt.terms().iter().all(|term| term.is_finite() && *term >= 0.0));
        }
    }
}
