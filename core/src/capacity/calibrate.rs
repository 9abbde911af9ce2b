//! Corrections of a model by what is observed, each with its own error.
//!
//! Engines take 1.05 to 2.2 times what profiles say, and first tokens wait for proxies, transfers
//! and sidecars that no profile knows. A multiple corrects the times of compute and of a decode
//! step, an addend the time to first token, and a multiple of 1 or more the wait, for routers that
//! do not know which worker is free.
//!
//! Every one is a fading mean that one odd observation moves little. Several odd ones on the same
//! side are no accident: then the past is dropped, so a new engine version is believed within a
//! minute.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Observed seconds after which an observation's weight has halved.
const HALF_LIFE_SECONDS: f64 = 180.0;

/// Weight of one observation at most, seconds: a pause between decisions is not many observations.
const OBSERVATION_SECONDS_MAX: f64 = 60.0;

/// How many times the scatter an observation may be off before it is clipped.
const CLIP_SCATTERS: f64 = 3.0;

/// Clipped observations in a row on the same side that are believed.
const BELIEVED_RUN: i8 = 4;

/// Share of the past that is kept when a run is believed.
const KEPT_AFTER_RUN: f64 = 0.05;

/// Weight of the error taken before anything is observed, seconds.
const UNSEEN_SECONDS: f64 = 60.0;

/// Least scatter of a ratio, relative: closer together no two windows of requests are.
pub(super) const RATIO_SCATTER_MIN: f64 = 0.03;

/// Multiples are kept within these: beyond them something else is wrong.
const FACTOR_MIN: f64 = 0.1;
const FACTOR_MAX: f64 = 10.0;

/// Least wait of the formula, seconds, that says something about routing.
const WAIT_SECONDS_MIN: f64 = 0.005;

/// Least scatter of the time to first token, seconds.
const TTFT_SCATTER_SECONDS_MIN: f64 = 0.005;

/// Longest time to first token that is taken for one, seconds.
const TTFT_SECONDS_MAX: f64 = 3_600.0;

/// A fading mean, robust against single odd observations, and their scatter about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fading {
    weight: f64,
    sum: f64,
    /// Squares of what observations differed from the mean before them.
    squares: f64,
    /// Clipped observations in a row, negative below the mean.
    run: i8,
}

impl Fading {
    /// Takes in `observed`, `elapsed` after the observation before, where scatter is at least
    /// `scatter_min`. No time passed, or no number, changes nothing.
    pub fn observe(&mut self, observed: f64, scatter_min: f64, elapsed: Duration) {
        let seconds = weight_of(elapsed);
        if seconds <= 0.0 || !observed.is_finite() || observed.abs() > 1e9 {
            return;
        }
        let taken = self.mean().map_or(observed, |mean| {
            let limit = CLIP_SCATTERS * self.scatter().unwrap_or(0.0).max(scatter_min);
            self.taken(observed, mean, limit)
        });
        let keep = keep(seconds, HALF_LIFE_SECONDS);
        // Off the mean before this observation: the scatter is then the error of a prediction.
        let off = self.mean().map_or(0.0, |mean| taken - mean);
        self.squares = self.squares * keep + seconds * off * off;
        self.sum = self.sum * keep + seconds * taken;
        self.weight = self.weight * keep + seconds;
    }

    /// `observed`, or as far from `mean` as a single observation may be; a believed run drops the
    /// past.
    fn taken(&mut self, observed: f64, mean: f64, limit: f64) -> f64 {
        let off = observed - mean;
        if off.abs() <= limit {
            self.run = 0;
            return observed;
        }
        let side = if off > 0.0 { 1 } else { -1 };
        self.run = if self.run * side > 0 {
            self.run + side
        } else {
            side
        };
        if self.run.abs() < BELIEVED_RUN {
            return mean + limit.copysign(off);
        }
        // The scatter stays as it was: what came now is a move, not scatter.
        self.run = 0;
        self.weight *= KEPT_AFTER_RUN;
        self.squares *= KEPT_AFTER_RUN;
        self.sum = observed * self.weight;
        observed
    }

    /// The mean, once something was seen.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// How far observations lie from the mean, one standard deviation.
    pub fn scatter(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.squares / self.weight).max(0.0).sqrt())
    }

    /// The error of the mean as a prediction, one standard deviation: `unseen` before anything was
    /// seen, falling to the scatter as evidence gathers.
    pub fn error(&self, unseen: f64) -> f64 {
        // A steady stream gathers a weight of half-life / ln 2; the prior has faded by then.
        let faded = 1.0 - self.weight * std::f64::consts::LN_2 / HALF_LIFE_SECONDS;
        let prior = UNSEEN_SECONDS * faded.clamp(0.0, 1.0);
        let weight = prior + self.weight;
        if weight <= 0.0 {
            return unseen;
        }
        ((prior * unseen * unseen + self.squares) / weight).sqrt()
    }
}

/// The multiple by which a model is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Factor(Fading);

impl Factor {
    /// Takes in what was observed where the model, not corrected, predicts `predicted`.
    pub fn observe(&mut self, observed: f64, predicted: f64, elapsed: Duration) {
        if observed > 0.0 && predicted > 0.0 {
            let ratio = (observed / predicted).clamp(FACTOR_MIN, FACTOR_MAX).ln();
            self.0.observe(ratio, RATIO_SCATTER_MIN, elapsed);
        }
    }

    /// The multiple: 1 before anything was observed.
    pub fn value(&self) -> f64 {
        self.0.mean().map_or(1.0, f64::exp)
    }

    /// Relative error of a corrected prediction, one standard deviation: `unseen` before anything
    /// was observed, falling to the scatter as evidence gathers.
    pub fn error(&self, unseen: f64) -> f64 {
        self.0.error(unseen)
    }
}

/// How much longer prompts wait than the formula of a perfect router says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Routing(Fading);

impl Routing {
    /// Takes in the mean wait observed and the one that the formula gives, seconds. Waits too
    /// short to tell are left out.
    pub fn observe(&mut self, observed_seconds: f64, formula_seconds: f64, elapsed: Duration) {
        if formula_seconds >= WAIT_SECONDS_MIN && observed_seconds >= 0.0 {
            let ratio = (observed_seconds / formula_seconds).clamp(FACTOR_MIN, FACTOR_MAX);
            // Waits scatter widely, and their ratio does so evenly only as a logarithm.
            self.0.observe(ratio.ln(), 0.3, elapsed);
        }
    }

    /// The multiple, from 1 to 10; 1 before anything was observed.
    pub fn value(&self) -> f64 {
        self.0.mean().map_or(1.0, f64::exp).clamp(1.0, FACTOR_MAX)
    }
}

/// The part of the time to first token besides compute and wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Residual(Fading);

impl Residual {
    /// Takes in the mean time to first token measured, and the compute and wait predicted of it,
    /// seconds.
    pub fn observe(&mut self, measured_seconds: f64, predicted_seconds: f64, elapsed: Duration) {
        let times = [measured_seconds, predicted_seconds];
        if times
            .iter()
            .all(|time| (0.0..=TTFT_SECONDS_MAX).contains(time))
        {
            let scatter = TTFT_SCATTER_SECONDS_MIN.max(0.1 * measured_seconds);
            self.0
                .observe(measured_seconds - predicted_seconds, scatter, elapsed);
        }
    }

    /// Seconds, 0 or more: less than predicted is luck, and no reason to run later.
    pub fn seconds(&self) -> f64 {
        self.0.mean().unwrap_or(0.0).max(0.0)
    }

    /// How far single observations lie from it, seconds, one standard deviation.
    pub fn scatter_seconds(&self) -> Option<f64> {
        self.0.scatter()
    }
}

/// The weight of an observation, seconds.
pub(super) fn weight_of(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64().min(OBSERVATION_SECONDS_MAX)
}

/// The share of the past that is kept after `seconds`.
pub(super) fn keep(seconds: f64, half_life_seconds: f64) -> f64 {
    0.5_f64.powf(seconds / half_life_seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const TICK: Duration = Duration::from_secs(15);

    /// Noise of about one standard deviation, the same on every run.
    fn noise(step: u32) -> f64 {
        let golden = f64::from(step) * 0.618_033_988_749_895;
        (golden.fract() - 0.5) * 12.0_f64.sqrt()
    }

    #[rstest]
    fn a_model_wrong_by_a_multiple_is_corrected_within_ten_minutes(
        #[values(0.7, 1.0, 1.5, 2.2)] wrong: f64,
        #[values(0.0, 0.05, 0.1)] scatter: f64,
    ) {
        let mut factor = Factor::default();
        for step in 0..40 {
            let predicted = 0.01 + 0.001 * f64::from(step % 7);
            factor.observe(
                predicted * wrong * (1.0 + scatter * noise(step)),
                predicted,
                TICK,
            );
        }
        let off = factor.value() / wrong - 1.0;
        assert!(off.abs() < 0.03, "{off}");
        assert!(
            factor.error(0.3) < 0.05 + 1.2 * scatter,
            "{}",
            factor.error(0.3)
        );
    }

    #[test]
    fn a_change_in_the_middle_is_followed_within_minutes() {
        let mut factor = Factor::default();
        for step in 0..400 {
            factor.observe(1.0 + 0.02 * noise(step), 1.0, TICK);
        }
        for step in 0..12 {
            factor.observe(1.5 * (1.0 + 0.02 * noise(step)), 1.0, TICK);
        }
        assert!(
            (factor.value() / 1.5 - 1.0).abs() < 0.03,
            "{}",
            factor.value()
        );
    }

    #[test]
    fn one_odd_observation_moves_little() {
        let mut factor = Factor::default();
        for step in 0..40 {
            factor.observe(1.0 + 0.02 * noise(step), 1.0, TICK);
        }
        factor.observe(10.0, 1.0, TICK);
        assert!((factor.value() - 1.0).abs() < 0.03, "{}", factor.value());
    }

    #[test]
    fn the_error_falls_as_evidence_gathers() {
        let mut factor = Factor::default();
        let mut before = factor.error(0.3);
        assert!((before - 0.3).abs() < 1e-12);
        for step in 0..60 {
            factor.observe(1.4, 1.0, TICK);
            let error = factor.error(0.3);
            assert!(error <= before, "step {step}: {error} after {before}");
            before = error;
        }
        assert!(before < 0.03, "{before}");
    }

    #[test]
    fn routing_is_never_taken_for_better_than_perfect() {
        let mut routing = Routing::default();
        for _ in 0..100 {
            routing.observe(0.01, 0.1, TICK);
        }
        assert!((routing.value() - 1.0).abs() < 1e-12);
        for _ in 0..100 {
            routing.observe(0.3, 0.1, TICK);
        }
        assert!((routing.value() - 3.0).abs() < 0.1, "{}", routing.value());
        for _ in 0..200 {
            routing.observe(1e6, 0.1, TICK);
        }
        assert!(routing.value() <= 10.0 + 1e-9);
    }

    #[test]
    fn short_waits_say_nothing_about_routing() {
        let mut routing = Routing::default();
        routing.observe(0.1, 0.000_1, TICK);
        assert_eq!(routing, Routing::default());
    }

    #[test]
    fn what_the_prediction_lacks_of_the_first_token_is_added() {
        let mut residual = Residual::default();
        for step in 0..40 {
            let predicted = 0.2 + 0.01 * f64::from(step % 5);
            residual.observe(predicted + 0.12 + 0.01 * noise(step), predicted, TICK);
        }
        assert!((residual.seconds() - 0.12).abs() < 0.005, "{residual:?}");
        let mut early = Residual::default();
        early.observe(0.1, 0.2, TICK);
        assert!(early.seconds().abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn no_observation_breaks_the_estimates(
            observed in prop::collection::vec((any::<f64>(), any::<f64>(), 0u64..100_000), 0..50),
        ) {
            let (mut factor, mut routing) = (Factor::default(), Routing::default());
            let mut residual = Residual::default();
            for (one, other, seconds) in observed {
                let elapsed = Duration::from_secs(seconds);
                factor.observe(one, other, elapsed);
                routing.observe(one, other, elapsed);
                residual.observe(one, other, elapsed);
            }
            prop_assert!((FACTOR_MIN - 1e-9..=FACTOR_MAX + 1e-9).contains(&factor.value()));
            prop_assert!((1.0..=FACTOR_MAX).contains(&routing.value()));
            prop_assert!((0.0..=TTFT_SECONDS_MAX).contains(&residual.seconds()));
            prop_assert!(factor.error(0.3).is_finite());
        }
    }
}
