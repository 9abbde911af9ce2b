//! What one replica can do.
//!
//! Either somebody measured it ([`profile`], read by [`import`]), or it is learnt online from plain
//! engine metrics ([`learn`]); both are corrected by what is observed now ([`calibrate`]). The
//! [`Estimator`] puts these together and answers with a [`Capacity`], which knows how wrong it may be.
//!
//! [`Learnt`] is the smaller memory that decisions hold today. Prefill: seconds of compute per prompt,
//! spread over prompt lengths in proportion. Decode: the time between tokens as a line over the batch,
//! `itl = base + slope * batch`, by least squares whose weights fade (the form of llm-d's
//! workload-variant-autoscaler). Before batches have varied enough to show the line, a step is taken to
//! double at a batch of 64. A batch beyond anything seen is trusted only a little way out.

pub mod calibrate;
pub mod ceiling;
pub mod coefficients;
pub mod estimator;
mod fit;
pub mod import;
pub mod learn;
pub mod profile;
pub mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use ceiling::Ceiling;
pub use estimator::{Capacity, Estimator, Source};
pub use profile::{DecodeModel, PrefillModel, Profile};

/// Observed seconds after which an observation's weight has halved.
const HALF_LIFE_SECONDS: f64 = 3_600.0;

/// Weight of one observation at most, seconds: a pause between decisions is not many observations.
const OBSERVATION_SECONDS_MAX: f64 = 60.0;

/// Weight that must have gathered before the line is believed, seconds.
const LINE_SECONDS_MIN: f64 = 300.0;

/// Spread of the batch, as a share of its mean, that a line needs.
const LINE_SPREAD_MIN: f64 = 0.1;

/// Spread of the batch, in requests, that a line needs: between 1.0 and 1.2 there is only noise.
const LINE_SPREAD_REQUESTS_MIN: f64 = 2.0;

/// Batch at which a step takes twice as long as with hardly any request, before the line is known.
/// On the dense models measured it lies between 55 (contexts of 8,000 tokens) and 150 (of 1,000).
const BATCH_DOUBLING_ASSUMED: f64 = 64.0;

/// How far beyond the largest batch seen the line is followed. Time grows gently with the batch; the
/// cliffs, a full KV cache and a full batch, show in signals of their own.
const BATCH_BEYOND_SEEN: f64 = 4.0;

/// A batch that every engine in use holds, however little was seen.
const BATCH_TRUSTED_MIN: f64 = 32.0;

/// What was learnt about one replica of each role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learnt {
    /// Mean compute seconds of a prompt, as last seen.
    pub prefill_seconds_per_request: Option<f64>,
    /// Output tokens of a request, mean, as last seen.
    pub output_tokens_per_request: Option<f64>,
    /// The decode line.
    pub decode: DecodeLine,
}

/// Fading sums of a weighted least-squares line of inter-token seconds over batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecodeLine {
    weight: f64,
    batch: f64,
    seconds: f64,
    batch_squared: f64,
    batch_seconds: f64,
    batch_seen_max: f64,
    base_seconds: Option<f64>,
}

impl DecodeLine {
    /// Takes in that a replica with `batch` running requests took `itl_seconds` per token, `elapsed`
    /// after the observation before. The same moment seen twice (`elapsed` zero) changes nothing.
    pub fn observe(&mut self, batch: f64, itl_seconds: f64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().min(OBSERVATION_SECONDS_MAX);
        let usable =
            batch.is_finite() && itl_seconds.is_finite() && batch > 0.0 && itl_seconds > 0.0;
        if !usable || seconds <= 0.0 {
            return;
        }
        // A step serves at least one request: below one, the mean only tells how long it idled.
        let batch = batch.max(1.0);
        let keep = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        let fade = |sum: f64, observed: f64| sum * keep + seconds * observed;
        self.weight = fade(self.weight, 1.0);
        self.batch = fade(self.batch, batch);
        self.seconds = fade(self.seconds, itl_seconds);
        self.batch_squared = fade(self.batch_squared, batch * batch);
        self.batch_seconds = fade(self.batch_seconds, batch * itl_seconds);
        self.batch_seen_max = batch.max(self.batch_seen_max * keep);
        if let Some((base, _)) = self.fitted() {
            self.base_seconds = Some(base);
        }
    }

    /// `(base seconds, slope seconds per request)`, or nothing before anything was seen.
    ///
    /// While batches do not vary, the base is the one last fitted: it belongs to model and hardware,
    /// and forgetting it would lower replicas only to find out again.
    pub fn coefficients(&self) -> Option<(f64, f64)> {
        if self.weight <= 0.0 {
            return None;
        }
        self.fitted().or_else(|| {
            let (x, y) = (self.batch / self.weight, self.seconds / self.weight);
            let assumed = y * BATCH_DOUBLING_ASSUMED / (x + BATCH_DOUBLING_ASSUMED);
            let base = self.base_seconds.map_or(assumed, |base| base.min(y));
            Some((base, (y - base) / x))
        })
    }

    /// The least-squares line, if batches have varied enough to show one.
    fn fitted(&self) -> Option<(f64, f64)> {
        if self.weight < LINE_SECONDS_MIN {
            return None;
        }
        let (x, y) = (self.batch / self.weight, self.seconds / self.weight);
        let variance = (self.batch_squared / self.weight - x * x).max(0.0);
        if variance.sqrt() < (LINE_SPREAD_MIN * x).max(LINE_SPREAD_REQUESTS_MIN) {
            return None;
        }
        let covariance = self.batch_seconds / self.weight - x * y;
        let slope = (covariance / variance).clamp(0.0, y / x);
        Some((y - slope * x, slope))
    }

    /// The largest batch per replica that keeps `itl_seconds`, at least 1, and how far the line is
    /// trusted at most. Nothing before anything was seen.
    pub fn batch_within(&self, itl_seconds: f64) -> Option<f64> {
        let (base, slope) = self.coefficients()?;
        let trusted = (self.batch_seen_max * BATCH_BEYOND_SEEN).max(BATCH_TRUSTED_MIN);
        if slope <= 0.0 {
            return Some(trusted);
        }
        Some(((itl_seconds - base) / slope).clamp(1.0, trusted))
    }

    /// Seconds per token at `batch` by the line.
    pub fn itl_seconds(&self, batch: f64) -> Option<f64> {
        self.coefficients()
            .map(|(base, slope)| base + slope * batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(15);

    #[test]
    fn a_line_is_recovered_from_spread_batches() {
        let mut line = DecodeLine::default();
        for step in 0..40 {
            let batch = 10.0 + f64::from(step % 8) * 10.0;
            line.observe(batch, 0.008 + 0.000_2 * batch, TICK);
        }
        let (base, slope) = line.coefficients().unwrap();
        assert!(
            (base - 0.008).abs() < 1e-6 && (slope - 0.000_2).abs() < 1e-8,
            "{base} {slope}"
        );
    }

    #[test]
    fn without_spread_a_step_is_taken_to_double_at_a_batch_of_64() {
        let mut line = DecodeLine::default();
        for _ in 0..40 {
            line.observe(64.0, 0.02, TICK);
        }
        let (base, slope) = line.coefficients().unwrap();
        assert!((base - 0.01).abs() < 1e-12 && (base - 64.0 * slope).abs() < 1e-12);
    }

    #[test]
    fn a_worker_that_hardly_works_is_not_taken_for_a_slow_one() {
        let mut line = DecodeLine::default();
        for step in 0..40 {
            // Noise around a batch of one must not pass for a slope.
            let noise = f64::from(step % 3);
            line.observe(1.0 + 0.1 * noise, 0.009 + 0.000_3 * noise, TICK);
        }
        assert!(line.batch_within(0.045).unwrap() >= 32.0, "{line:?}");
    }

    #[test]
    fn the_base_is_remembered_when_batches_stop_to_vary() {
        let mut line = DecodeLine::default();
        for step in 0..30 {
            let batch = 10.0 + f64::from(step % 9) * 10.0;
            line.observe(batch, 0.008 + 0.000_2 * batch, TICK);
        }
        for _ in 0..10_000 {
            line.observe(50.0, 0.018, TICK);
        }
        let (base, slope) = line.coefficients().unwrap();
        assert!(
            (base - 0.008).abs() < 1e-3 && (slope - 0.000_2).abs() < 2e-5,
            "{base} {slope}"
        );
    }

    #[test]
    fn a_batch_never_seen_is_trusted_only_a_little_way() {
        let mut line = DecodeLine::default();
        line.observe(10.0, 0.010, TICK);
        assert_eq!(line.batch_within(1.0), Some(40.0));
    }

    #[test]
    fn the_same_moment_twice_teaches_nothing() {
        let mut line = DecodeLine::default();
        line.observe(10.0, 0.010, TICK);
        let before = line;
        line.observe(99.0, 0.5, Duration::ZERO);
        assert_eq!(line, before);
    }

    #[test]
    fn nonsense_is_not_learnt() {
        let mut line = DecodeLine::default();
        for (batch, itl) in [(f64::NAN, 0.1), (1.0, f64::NAN), (-1.0, 0.1), (1.0, 0.0)] {
            line.observe(batch, itl, TICK);
        }
        assert_eq!(line, DecodeLine::default());
    }
}
