//! The two formulas of a replica, and their fit to measured times.
//!
//! Prefill of a prompt with n computed and p cached tokens: `c0 + c1*n + c2*(n^2 + 2np)`. A decode
//! step of a batch of B requests with a context each: `a + b*B + g*B*context`. The cross term of
//! cached tokens and the term of context are what simpler models drop, and dearly: on a dense model
//! of 70 B the context is half of the time of a step at a batch of 128 and 8,000 tokens.
//!
//! Fits minimise relative errors, because a short prompt matters as much as a long one.

use serde::{Deserialize, Serialize};

use super::{
    fit::{Features, Sums},
    limits::{OutOfRange, not_negative, positive},
};

/// Tokens in a unit of the fits, so that all terms have a like size.
const KILO: f64 = 1e3;

/// Coefficients of prefill: `base + per_token*n + per_token_squared*(n^2 + 2np)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrefillCoefficients {
    /// Constant part, seconds; 0 or more.
    pub base_seconds: f64,
    /// Seconds per computed token; 0 or more.
    pub seconds_per_token: f64,
    /// Seconds per squared computed token, and per half a pair of computed and cached token; 0 or
    /// more.
    pub seconds_per_token_squared: f64,
}

/// Coefficients of decode: `base + per_request*B + per_context_token*B*context`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecodeCoefficients {
    /// Constant part, seconds; 0 or more.
    pub base_seconds: f64,
    /// Seconds per request of the batch; 0 or more.
    pub seconds_per_request: f64,
    /// Seconds per token of context in the batch; 0 or more.
    pub seconds_per_context_token: f64,
}

/// Measured: one forward pass over `batch` equal prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefillSample {
    /// Prompts computed together.
    pub batch: f64,
    /// Computed tokens of each.
    pub new_tokens: f64,
    /// Cached tokens of each.
    pub cached_tokens: f64,
    /// Seconds of the pass.
    pub seconds: f64,
}

/// Measured: one decode step of `batch` requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeSample {
    /// Requests in the step.
    pub batch: f64,
    /// Context of each, tokens.
    pub context_tokens: f64,
    /// Seconds of the step.
    pub seconds: f64,
}

impl PrefillCoefficients {
    /// Seconds to compute `new_tokens` of a prompt whose first `cached_tokens` are cached.
    pub fn seconds(&self, new_tokens: f64, cached_tokens: f64) -> f64 {
        self.base_seconds
            + self.seconds_per_token * new_tokens
            + self.seconds_per_token_squared * new_tokens * (new_tokens + 2.0 * cached_tokens)
    }

    /// The coefficients with the least squared relative error on `samples`, none of them negative.
    /// Nothing when the samples do not determine them.
    pub fn fitted(samples: &[PrefillSample]) -> Option<Self> {
        let fitted = fitted(samples.iter().map(|sample| {
            let (n, p) = (sample.new_tokens, sample.cached_tokens);
            (prefill_features(sample.batch, n, p), sample.seconds)
        }))?;
        Some(Self::of_terms(fitted))
    }

    /// Mean relative error on `samples`; nothing without samples.
    pub fn mean_relative_error(&self, samples: &[PrefillSample]) -> Option<f64> {
        mean_relative_error(samples.iter().map(|sample| {
            let (n, p) = (sample.new_tokens, sample.cached_tokens);
            let tokens = self.seconds(n, p) - self.base_seconds;
            (self.base_seconds + sample.batch * tokens, sample.seconds)
        }))
    }

    pub(super) fn of_terms([base, per_kilotoken, per_megatoken]: Features) -> Self {
        Self {
            base_seconds: base,
            seconds_per_token: per_kilotoken / KILO,
            seconds_per_token_squared: per_megatoken / (KILO * KILO),
        }
    }

    pub(super) fn terms(&self) -> Features {
        [
            self.base_seconds,
            self.seconds_per_token * KILO,
            self.seconds_per_token_squared * KILO * KILO,
        ]
    }

    pub(super) fn validate(&self) -> Result<(), OutOfRange> {
        not_negative("prefill.baseSeconds", self.base_seconds)?;
        not_negative(
            "prefill.secondsPerTokenSquared",
            self.seconds_per_token_squared,
        )?;
        // Without it long prompts cost nothing, and no number of them would ever need a replica.
        positive("prefill.secondsPerToken", self.seconds_per_token)
    }
}

impl DecodeCoefficients {
    /// Seconds of one step of `batch` requests with `context_tokens` each.
    pub fn itl_seconds(&self, batch: f64, context_tokens: f64) -> f64 {
        self.base_seconds + self.seconds_per_slot(context_tokens) * batch
    }

    /// The batch at which a step takes `limit_seconds`: not bounded, infinite when batches cost
    /// nothing, nothing when not even a batch of one keeps the limit.
    pub fn batch_within(&self, limit_seconds: f64, context_tokens: f64) -> Option<f64> {
        if self.itl_seconds(1.0, context_tokens) > limit_seconds {
            return None;
        }
        let slope = self.seconds_per_slot(context_tokens);
        if slope <= 0.0 {
            return Some(f64::INFINITY);
        }
        Some((limit_seconds - self.base_seconds) / slope)
    }

    /// The coefficients with the least squared relative error on `samples`, none of them negative.
    /// Nothing when the samples do not determine them.
    pub fn fitted(samples: &[DecodeSample]) -> Option<Self> {
        let fitted = fitted(samples.iter().map(|sample| {
            let features = decode_features(sample.batch, sample.context_tokens);
            (features, sample.seconds)
        }))?;
        Some(Self::of_terms(fitted))
    }

    /// Mean relative error on `samples`; nothing without samples.
    pub fn mean_relative_error(&self, samples: &[DecodeSample]) -> Option<f64> {
        mean_relative_error(samples.iter().map(|sample| {
            let predicted = self.itl_seconds(sample.batch, sample.context_tokens);
            (predicted, sample.seconds)
        }))
    }

    /// Seconds that one more request with `context_tokens` adds to a step.
    fn seconds_per_slot(&self, context_tokens: f64) -> f64 {
        self.seconds_per_request + self.seconds_per_context_token * context_tokens
    }

    pub(super) fn of_terms([base, per_request, per_kilotoken]: Features) -> Self {
        Self {
            base_seconds: base,
            seconds_per_request: per_request,
            seconds_per_context_token: per_kilotoken / KILO,
        }
    }

    pub(super) fn terms(&self) -> Features {
        [
            self.base_seconds,
            self.seconds_per_request,
            self.seconds_per_context_token * KILO,
        ]
    }

    pub(super) fn validate(&self) -> Result<(), OutOfRange> {
        not_negative("decode.secondsPerRequest", self.seconds_per_request)?;
        not_negative(
            "decode.secondsPerContextToken",
            self.seconds_per_context_token,
        )?;
        positive("decode.baseSeconds", self.base_seconds)
    }
}

/// Features of a pass over `batch` prompts, in terms of like size.
pub(super) fn prefill_features(batch: f64, new_tokens: f64, cached_tokens: f64) -> Features {
    let (n, p) = (new_tokens / KILO, cached_tokens / KILO);
    [1.0, batch * n, batch * n * (n + 2.0 * p)]
}

/// Features of a decode step, in terms of like size.
pub(super) fn decode_features(batch: f64, context_tokens: f64) -> Features {
    [1.0, batch, batch * context_tokens / KILO]
}

fn fitted(samples: impl Iterator<Item = (Features, f64)>) -> Option<Features> {
    let mut sums = Sums::default();
    let usable = samples.filter(|(features, seconds)| {
        features.iter().all(|feature| feature.is_finite()) && seconds.is_finite() && *seconds > 0.0
    });
    for (features, seconds) in usable {
        sums.add(features.map(|feature| feature / seconds), 1.0, 1.0);
    }
    sums.solve([0.0; 3], [0.0; 3])
}

/// Mean of `|predicted / measured - 1|`.
pub(super) fn mean_relative_error(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, count) = pairs
        .map(|(predicted, measured)| (predicted / measured - 1.0).abs())
        .filter(|error| error.is_finite())
        .fold((0.0, 0.0), |(sum, count), error| (sum + error, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_finds_the_coefficients_that_made_the_times() {
        let made = PrefillCoefficients {
            base_seconds: 0.008,
            seconds_per_token: 41.9e-6,
            seconds_per_token_squared: 0.478e-9,
        };
        let samples: Vec<PrefillSample> = [64.0, 512.0, 2_048.0, 8_192.0, 32_768.0]
            .into_iter()
            .flat_map(|n| [0.0, 4_096.0].map(|p| (n, p)))
            .map(|(new_tokens, cached_tokens)| PrefillSample {
                batch: 1.0,
                new_tokens,
                cached_tokens,
                seconds: made.seconds(new_tokens, cached_tokens),
            })
            .collect();
        let found = PrefillCoefficients::fitted(&samples).unwrap();
        assert!(found.mean_relative_error(&samples).unwrap() < 1e-6);
        assert!((found.seconds_per_token_squared / 0.478e-9 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn one_prompt_length_alone_determines_nothing_and_does_not_panic() {
        assert_eq!(PrefillCoefficients::fitted(&[]), None);
        assert_eq!(DecodeCoefficients::fitted(&[]), None);
        let nonsense = DecodeSample {
            batch: f64::NAN,
            context_tokens: f64::INFINITY,
            seconds: -1.0,
        };
        assert_eq!(DecodeCoefficients::fitted(&[nonsense]), None);
    }
}
