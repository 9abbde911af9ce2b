//! Both models of a replica, learnt from plain engine metrics.
//!
//! Fading least squares over the terms of [`super::coefficients`]. Prefill regresses the mean
//! compute seconds of a window on the means of its terms, so that it needs no single request. What
//! has not varied cannot be separated from the rest: before it varied, prefill is taken as
//! proportional to tokens, and a decode step as doubling at a batch of 64 with a usual share for
//! context; once it varied, its shape is remembered, because it belongs to model and hardware, and
//! forgetting it would lower replicas only to find out again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    calibrate::{keep, weight_of},
    coefficients::{DecodeCoefficients, PrefillCoefficients, decode_features, prefill_features},
    fit::{Features, Sums},
    limits::{BATCH_LIMIT, PREFILL_TOKENS_MAX, size},
};

/// Observed seconds after which an observation's weight has halved.
const HALF_LIFE_SECONDS: f64 = 3_600.0;

/// Weight that must have gathered before the line is believed, seconds.
const LINE_SECONDS_MIN: f64 = 300.0;

/// Spread of the batch, as a share of its mean, that a line needs.
const LINE_SPREAD_MIN: f64 = 0.1;

/// Spread of the batch, in requests, that a line needs: between 1.0 and 1.2 there is only noise.
const LINE_SPREAD_REQUESTS_MIN: f64 = 2.0;

/// Batch at which a step takes twice as long as with hardly any request, before the line is known.
/// On the dense models measured it lies between 55 (contexts of 8,000 tokens) and 150 (of 1,000).
const BATCH_DOUBLING_ASSUMED: f64 = 64.0;

/// How far beyond the largest batch seen the line is followed. Time grows gently with the batch;
/// the cliffs, a full KV cache and a full batch, show in signals of their own.
const BATCH_BEYOND_SEEN: f64 = 4.0;

/// A batch that every engine in use holds, however little was seen.
const BATCH_TRUSTED_MIN: f64 = 32.0;

/// Seconds of evidence that the shape known before counts for. Little: it decides where nothing
/// varied and steadies where little did.
const PRIOR_SECONDS: f64 = 5.0;

/// Cost of a token of context as a share of that of a request, before contexts have varied. Dense
/// models have 0.0002 to 0.002, mixtures with sliding windows 0.00005.
const CONTEXT_SHARE_ASSUMED: f64 = 0.000_3;

/// Context at which a batch of 64 doubles a step, before anything varied, tokens.
const CONTEXT_TOKENS_USUAL: f64 = 5_000.0;

/// Relative distance from the prediction beyond which an observation is clipped. Windows of few
/// requests are this noisy.
const CLIP_SHARE: f64 = 0.3;

/// Clipped observations in a row on the same side that are believed.
const BELIEVED_RUN: i8 = 4;

/// Longest mean compute time or time per token that is taken for one, seconds.
const OBSERVED_SECONDS_MAX: f64 = 3_600.0;

/// The sums of one model, its remembered shape, and its guard against odd observations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Regression {
    sums: Sums,
    remembered: Option<Features>,
    run: i8,
}

impl Regression {
    /// Takes in one observation, by what `predicted` says about it if that is to be trusted.
    fn observe(&mut self, features: Features, seconds: f64, predicted: Option<f64>, weight: f64) {
        let taken = self.clipped(seconds, predicted);
        self.sums.fade(keep(weight, HALF_LIFE_SECONDS));
        self.sums.add(features, taken, weight);
    }

    fn clipped(&mut self, seconds: f64, predicted: Option<f64>) -> f64 {
        let Some(predicted) = predicted.filter(|predicted| *predicted > 0.0) else {
            return seconds;
        };
        let off = seconds / predicted - 1.0;
        if off.abs() <= CLIP_SHARE {
            self.run = 0;
            return seconds;
        }
        let side = if off > 0.0 { 1 } else { -1 };
        let run = if self.run * side > 0 {
            self.run + side
        } else {
            side
        };
        self.run = run.clamp(-BELIEVED_RUN, BELIEVED_RUN);
        if self.run.abs() >= BELIEVED_RUN {
            return seconds;
        }
        predicted * (1.0 + CLIP_SHARE.copysign(off))
    }

    /// `shape` scaled so that it gives the mean result at the mean features.
    fn through_means(&self, shape: Features) -> Option<Features> {
        let (means, result) = self.sums.means()?;
        let given: f64 = shape
            .iter()
            .zip(means)
            .map(|(term, mean)| term * mean)
            .sum();
        (given > 0.0).then(|| shape.map(|term| term * result / given))
    }

    /// The least-squares coefficients, drawn a little to `prior`.
    fn solve(&self, prior: Features) -> Option<Features> {
        let (means, _) = self.sums.means()?;
        let pull = means.map(|mean| PRIOR_SECONDS * mean * mean);
        self.sums.solve(prior, pull)
    }

    /// Whether the second feature, tokens or batch, varied enough to separate its cost from the
    /// base, by at least `spread_min` and enough for its mean.
    fn varied(&self, spread_min: f64) -> bool {
        let Some((means, _)) = self.sums.means() else {
            return false;
        };
        let spread = self.sums.spread();
        self.sums.weight >= LINE_SECONDS_MIN
            && spread >= (LINE_SPREAD_MIN * means[1]).max(spread_min)
    }

    /// The coefficients: fitted when the second feature varied, else the remembered shape or
    /// `assumed`, through what is seen now.
    fn terms(&self, assumed: Features, spread_min: f64) -> Option<Features> {
        let shape = self.remembered.unwrap_or(assumed);
        let prior = self
            .through_means(shape)
            .or_else(|| self.through_means(assumed))?;
        if self.varied(spread_min) {
            return self.solve(prior);
        }
        Some(prior)
    }

    fn remember(&mut self, assumed: Features, spread_min: f64) {
        if self.varied(spread_min)
            && let Some(terms) = self.terms(assumed, spread_min)
        {
            self.remembered = Some(terms);
        }
    }
}

/// Prefill, learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrefillLearner {
    regression: Regression,
    /// Mean compute seconds as last seen, for services that publish no prompt lengths.
    mean_seconds: Option<f64>,
}

/// Before lengths varied, compute is proportional to tokens.
const PREFILL_ASSUMED: Features = [0.0, 1.0, 0.0];

/// Spread of the mean length of windows, thousands of tokens, that says something.
const PREFILL_SPREAD_MIN: f64 = 0.01;

impl PrefillLearner {
    /// Takes in that prompts of a window took `mean_seconds` of compute on average, of which
    /// `lengths` has `(prompt tokens, share)` (empty when not known) and `cached_share` of the
    /// tokens was cached.
    pub fn observe(
        &mut self,
        mean_seconds: f64,
        lengths: &[(f64, f64)],
        cached_share: f64,
        elapsed: Duration,
    ) {
        let weight = weight_of(elapsed);
        let usable = mean_seconds > 0.0 && mean_seconds <= OBSERVED_SECONDS_MAX;
        if weight <= 0.0 || !usable {
            return;
        }
        self.mean_seconds = Some(mean_seconds);
        let Some(features) = mean_features(lengths, cached_share) else {
            return;
        };
        let learnt = self.coefficients().filter(|_| self.is_learnt());
        let predicted = learnt.map(|learnt| {
            let terms = learnt.terms();
            terms
                .iter()
                .zip(features)
                .map(|(term, feature)| term * feature)
                .sum()
        });
        self.regression
            .observe(features, mean_seconds, predicted, weight);
        self.regression
            .remember(PREFILL_ASSUMED, PREFILL_SPREAD_MIN);
    }

    /// The coefficients, once anything was seen with prompt lengths.
    pub fn coefficients(&self) -> Option<PrefillCoefficients> {
        let terms = self.regression.terms(PREFILL_ASSUMED, PREFILL_SPREAD_MIN)?;
        Some(PrefillCoefficients::of_terms(terms))
    }

    /// Mean compute seconds of a prompt as last seen.
    pub const fn mean_seconds(&self) -> Option<f64> {
        self.mean_seconds
    }

    /// Whether lengths have varied enough to show more than a proportion.
    pub const fn is_learnt(&self) -> bool {
        self.regression.remembered.is_some()
    }
}

/// Means of the terms over `lengths`; nothing without any length.
fn mean_features(lengths: &[(f64, f64)], cached_share: f64) -> Option<Features> {
    let mut means = [0.0; 3];
    let mut shares = 0.0;
    for (new, cached, share) in split(lengths, cached_share) {
        let features = prefill_features(1.0, new, cached);
        for (mean, feature) in means.iter_mut().zip(features) {
            *mean += share * feature;
        }
        shares += share;
    }
    (shares > 0.0).then(|| means.map(|mean| mean / shares))
}

/// `(computed tokens, cached tokens, share)` of usable lengths. At least one token is computed.
pub(super) fn split(
    lengths: &[(f64, f64)],
    cached_share: f64,
) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
    let cached_share = size(cached_share, 1.0);
    let usable = lengths.iter().filter(|(tokens, share)| {
        *tokens > 0.0 && *tokens <= PREFILL_TOKENS_MAX && *share > 0.0 && *share <= 1e9
    });
    usable.map(move |&(tokens, share)| {
        let cached = (tokens * cached_share).min(tokens - 1.0).max(0.0);
        (tokens - cached, cached, share)
    })
}

/// Decode, learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DecodeLearner {
    regression: Regression,
    batch_seen_max: f64,
}

impl DecodeLearner {
    /// Takes in that a replica with `batch` running requests of `context_tokens` each (0 when not
    /// known) took `itl_seconds` per token.
    pub fn observe(
        &mut self,
        batch: f64,
        context_tokens: f64,
        itl_seconds: f64,
        elapsed: Duration,
    ) {
        let weight = weight_of(elapsed);
        let usable = batch > 0.0
            && batch <= BATCH_LIMIT
            && (0.0..=PREFILL_TOKENS_MAX).contains(&context_tokens)
            && itl_seconds > 0.0
            && itl_seconds <= OBSERVED_SECONDS_MAX;
        if weight <= 0.0 || !usable {
            return;
        }
        // A step serves at least one request: below one, the mean only says how long it idled.
        let batch = batch.max(1.0);
        let learnt = self.coefficients().filter(|_| self.is_learnt());
        let predicted = learnt.map(|learnt| learnt.itl_seconds(batch, context_tokens));
        let features = decode_features(batch, context_tokens);
        self.regression
            .observe(features, itl_seconds, predicted, weight);
        self.batch_seen_max = batch.max(self.batch_seen_max * keep(weight, HALF_LIFE_SECONDS));
        let assumed = self.assumed();
        self.regression.remember(assumed, LINE_SPREAD_REQUESTS_MIN);
    }

    /// The coefficients, once anything was seen.
    pub fn coefficients(&self) -> Option<DecodeCoefficients> {
        let terms = self
            .regression
            .terms(self.assumed(), LINE_SPREAD_REQUESTS_MIN)?;
        Some(DecodeCoefficients::of_terms(terms))
    }

    /// The shape before batches varied: a step doubles at a batch of 64, with contexts that are
    /// known at that batch of a usual length.
    fn assumed(&self) -> Features {
        let context_known = self
            .regression
            .sums
            .means()
            .is_some_and(|(means, _)| means[2] > 0.0);
        let share = if context_known {
            CONTEXT_SHARE_ASSUMED
        } else {
            0.0
        };
        let slot = 1.0 + share * CONTEXT_TOKENS_USUAL;
        [BATCH_DOUBLING_ASSUMED * slot, 1.0, share * 1e3]
    }

    /// The largest batch that keeps `itl_seconds` with `context_tokens` of context each: at least
    /// 1, and at most as far beyond those seen as the model is trusted.
    pub fn batch_within(&self, itl_seconds: f64, context_tokens: f64) -> Option<f64> {
        let coefficients = self.coefficients()?;
        let within = coefficients
            .batch_within(itl_seconds, context_tokens)
            .unwrap_or(1.0);
        Some(within.min(self.batch_trusted()).max(1.0))
    }

    /// The largest batch that the model is trusted for.
    pub fn batch_trusted(&self) -> f64 {
        (self.batch_seen_max * BATCH_BEYOND_SEEN).clamp(BATCH_TRUSTED_MIN, BATCH_LIMIT)
    }

    /// Whether batches have varied enough to show their cost.
    pub const fn is_learnt(&self) -> bool {
        self.regression.remembered.is_some()
    }
}

#[cfg(test)]
mod tests;
