//! One estimate of a replica's capacity, from a profile or from nothing but metrics.
//!
//! [`Estimator`] is the memory: what was learnt and how wrong the predictions were. [`Capacity`]
//! is the answer for one decision, already corrected. With a profile its shape is used and its
//! scale corrected; without one the learnt models are used, and corrected the same way, because
//! they follow a change more slowly than a correction does. A correction belongs to the model it
//! was learnt for: it is dropped when the profile changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    calibrate::{Factor, Fading, RATIO_SCATTER_MIN, Residual, Routing},
    coefficients::{DecodeCoefficients, PrefillCoefficients},
    learn::{DecodeLearner, PrefillLearner, split},
    limits::{BATCH_LIMIT, PREFILL_TOKENS_MAX, size},
    profile::{DecodeModel, PrefillModel, Profile},
};

/// Relative error of a profile or a learnt model before it was compared with anything.
const ERROR_UNSEEN: f64 = 0.3;

/// Relative error of a model whose shape is only assumed.
const ERROR_ASSUMED: f64 = 0.5;

/// Least scatter of the time that KV transfer takes, seconds.
const TRANSFER_SCATTER_SECONDS_MIN: f64 = 0.005;

/// Largest relative error answered: beyond it a prediction is no prediction.
const ERROR_MAX: f64 = 1.0;

/// The memory of one service's replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Estimator {
    prefill: PrefillLearner,
    decode: DecodeLearner,
    /// Which profile the two factors belong to; none: to the learnt models.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<u64>,
    prefill_factor: Factor,
    decode_factor: Factor,
    ttft_residual: Residual,
    routing: Routing,
    /// Seconds from a request's arrival at decode to its first token there, with room for it.
    transfer: Fading,
}

/// Where an answer comes from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A profile, corrected.
    Profile,
    /// Learnt from work that varied enough.
    Learnt,
    /// The scale is observed, the shape assumed.
    Assumed,
    /// Nothing is known.
    Unknown,
}

impl Estimator {
    /// Takes in that prompts of a window took `mean_seconds` of compute on average, with `lengths`
    /// `(prompt tokens, share)`, empty when not known, of which `cached_share` (0 to 1) was cached.
    /// `elapsed` is the time since the observation before; none teaches nothing.
    pub fn observe_prefill(
        &mut self,
        profile: Option<&Profile>,
        mean_seconds: f64,
        lengths: &[(f64, f64)],
        cached_share: f64,
        elapsed: Duration,
    ) {
        self.belong_to(profile);
        let (_, model, _) = self.prefill_model(profile);
        if let Some(predicted) = model.mean_seconds(lengths, cached_share) {
            self.prefill_factor
                .observe(mean_seconds, predicted, elapsed);
        }
        self.prefill
            .observe(mean_seconds, lengths, cached_share, elapsed);
    }

    /// Takes in that decode replicas with `batch` running requests each, of `context_tokens` on
    /// average (0 when not known), took `itl_seconds` per token.
    pub fn observe_decode(
        &mut self,
        profile: Option<&Profile>,
        batch: f64,
        context_tokens: f64,
        itl_seconds: f64,
        elapsed: Duration,
    ) {
        self.belong_to(profile);
        let sane = batch > 0.0 && (0.0..=PREFILL_TOKENS_MAX).contains(&context_tokens);
        // Predicted before the model learns from it: afterwards it would seem better than it was.
        let (_, model, _) = self.decode_model(profile);
        if let Some(predicted) = model
            .itl_seconds(batch.max(1.0), context_tokens)
            .filter(|_| sane)
        {
            self.decode_factor.observe(itl_seconds, predicted, elapsed);
        }
        self.decode
            .observe(batch, context_tokens, itl_seconds, elapsed);
    }

    /// Takes in the mean wait of prompts, and the mean wait that the queueing formula gives for
    /// the same time, seconds.
    pub fn observe_wait(&mut self, observed_seconds: f64, formula_seconds: f64, elapsed: Duration) {
        self.routing
            .observe(observed_seconds, formula_seconds, elapsed);
    }

    /// Takes in the mean time to first token measured, and what [`Capacity`] and the formula
    /// predicted of it (compute and wait, both corrected), seconds.
    pub fn observe_ttft(
        &mut self,
        measured_seconds: f64,
        predicted_seconds: f64,
        elapsed: Duration,
    ) {
        self.ttft_residual
            .observe(measured_seconds, predicted_seconds, elapsed);
    }

    /// Takes in the mean time from a request's arrival at decode to its first token there, seconds,
    /// of a time when decode had room.
    pub fn observe_transfer(&mut self, seconds: f64, elapsed: Duration) {
        let scatter = TRANSFER_SCATTER_SECONDS_MIN.max(seconds * RATIO_SCATTER_MIN);
        self.transfer.observe(seconds, scatter, elapsed);
    }

    /// One replica's capacity, as far as it is known.
    pub fn capacity<'a>(&self, profile: Option<&'a Profile>) -> Capacity<'a> {
        let same = self.profile == profile.map(Profile::fingerprint);
        let factor = |factor: Factor| if same { factor } else { Factor::default() };
        let (prefill_factor, decode_factor) =
            (factor(self.prefill_factor), factor(self.decode_factor));
        let (prefill_source, prefill, prefill_unseen) = self.prefill_model(profile);
        let (decode_source, decode, decode_unseen) = self.decode_model(profile);
        Capacity {
            prefill,
            decode,
            profile,
            kv_measured_tokens: None,
            prefill_factor: prefill_factor.value(),
            decode_factor: decode_factor.value(),
            ttft_residual_seconds: self.ttft_residual.seconds(),
            routing_factor: self.routing.value(),
            transfer_seconds: self.transfer.mean().map(|seconds| seconds.max(0.0)),
            prefill_error: prefill_factor.error(prefill_unseen).min(ERROR_MAX),
            decode_error: decode_factor.error(decode_unseen).min(ERROR_MAX),
            prefill_source,
            decode_source,
        }
    }

    /// Drops the factors if they belong to another profile.
    fn belong_to(&mut self, profile: Option<&Profile>) {
        let fingerprint = profile.map(Profile::fingerprint);
        if self.profile != fingerprint {
            self.profile = fingerprint;
            self.prefill_factor = Factor::default();
            self.decode_factor = Factor::default();
        }
    }

    fn prefill_model<'a>(&self, profile: Option<&'a Profile>) -> (Source, Prefill<'a>, f64) {
        if let Some(model) = profile.and_then(|profile| profile.prefill.as_ref()) {
            return (Source::Profile, Prefill::Profile(model), ERROR_UNSEEN);
        }
        match (self.prefill.coefficients(), self.prefill.mean_seconds()) {
            (Some(learnt), _) if self.prefill.is_learnt() => {
                (Source::Learnt, Prefill::Learnt(learnt), ERROR_UNSEEN)
            }
            (Some(assumed), _) => (Source::Assumed, Prefill::Learnt(assumed), ERROR_ASSUMED),
            (None, Some(mean)) => (Source::Assumed, Prefill::Mean(mean), ERROR_ASSUMED),
            (None, None) => (Source::Unknown, Prefill::Unknown, ERROR_MAX),
        }
    }

    fn decode_model<'a>(&self, profile: Option<&'a Profile>) -> (Source, Decode<'a>, f64) {
        if let Some(model) = profile.and_then(|profile| profile.decode.as_ref()) {
            return (Source::Profile, Decode::Profile(model), ERROR_UNSEEN);
        }
        let trusted = self.decode.batch_trusted();
        match self.decode.coefficients() {
            Some(learnt) if self.decode.is_learnt() => (
                Source::Learnt,
                Decode::Learnt(learnt, trusted),
                ERROR_UNSEEN,
            ),
            Some(assumed) => (
                Source::Assumed,
                Decode::Learnt(assumed, trusted),
                ERROR_ASSUMED,
            ),
            None => (Source::Unknown, Decode::Unknown, ERROR_MAX),
        }
    }
}

/// A prefill model, not corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Prefill<'a> {
    Profile(&'a PrefillModel),
    Learnt(PrefillCoefficients),
    /// Only the mean is known, and no lengths.
    Mean(f64),
    Unknown,
}

impl Prefill<'_> {
    fn seconds(&self, new_tokens: f64, cached_tokens: f64) -> Option<f64> {
        match self {
            Self::Profile(model) => Some(model.seconds(new_tokens, cached_tokens)),
            Self::Learnt(learnt) => Some(learnt.seconds(
                size(new_tokens, PREFILL_TOKENS_MAX),
                size(cached_tokens, PREFILL_TOKENS_MAX),
            )),
            Self::Mean(_) | Self::Unknown => None,
        }
    }

    /// Mean seconds over `lengths`; nothing without any.
    fn mean_seconds(&self, lengths: &[(f64, f64)], cached_share: f64) -> Option<f64> {
        let (mut sum, mut shares) = (0.0, 0.0);
        for (new, cached, share) in split(lengths, cached_share) {
            sum += share * self.seconds(new, cached)?;
            shares += share;
        }
        (shares > 0.0).then(|| sum / shares)
    }
}

/// A decode model, not corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decode<'a> {
    Profile(&'a DecodeModel),
    /// Coefficients, and the largest batch they are trusted for.
    Learnt(DecodeCoefficients, f64),
    Unknown,
}

impl Decode<'_> {
    fn itl_seconds(&self, batch: f64, context_tokens: f64) -> Option<f64> {
        match self {
            Self::Profile(model) => Some(model.itl_seconds(batch, context_tokens)),
            Self::Learnt(learnt, _) => Some(learnt.itl_seconds(
                size(batch, BATCH_LIMIT),
                size(context_tokens, PREFILL_TOKENS_MAX),
            )),
            Self::Unknown => None,
        }
    }
}

/// One replica's capacity, corrected by observation, and how wrong it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity<'a> {
    prefill: Prefill<'a>,
    decode: Decode<'a>,
    profile: Option<&'a Profile>,
    kv_measured_tokens: Option<f64>,
    /// Multiple that prefill times were corrected by.
    pub prefill_factor: f64,
    /// Multiple that times per token were corrected by.
    pub decode_factor: f64,
    /// Seconds of the time to first token beyond compute and wait, 0 or more.
    pub ttft_residual_seconds: f64,
    /// Multiple, from 1 to 10, of the wait that the formula gives.
    pub routing_factor: f64,
    /// Seconds from a request's arrival at decode to its first token there while decode has room;
    /// nothing when that was not seen yet.
    pub transfer_seconds: Option<f64>,
    /// Relative error of prefill times, one standard deviation, from 0 to 1.
    pub prefill_error: f64,
    /// Relative error of times per token, one standard deviation, from 0 to 1.
    pub decode_error: f64,
    /// Where prefill times come from.
    pub prefill_source: Source,
    /// Where times per token come from.
    pub decode_source: Source,
}

impl Capacity<'_> {
    /// Seconds of compute for a prompt with `new_tokens` after `cached_tokens`.
    pub fn prefill_seconds(&self, new_tokens: f64, cached_tokens: f64) -> Option<f64> {
        let seconds = self.prefill.seconds(new_tokens, cached_tokens)?;
        Some(seconds * self.prefill_factor)
    }

    /// `(compute seconds, share)` for each of `lengths` `(prompt tokens, share)` of which
    /// `cached_share` is cached. One entry with the mean when no lengths are known; empty when
    /// nothing is.
    pub fn service_times(&self, lengths: &[(f64, f64)], cached_share: f64) -> Vec<(f64, f64)> {
        if let Prefill::Mean(mean) = self.prefill {
            return proportional(lengths, mean);
        }
        split(lengths, cached_share)
            .filter_map(|(new, cached, share)| Some((self.prefill_seconds(new, cached)?, share)))
            .collect()
    }

    /// Seconds per token with `batch` requests of `context_tokens` each.
    pub fn itl_seconds(&self, batch: f64, context_tokens: f64) -> Option<f64> {
        let seconds = self.decode.itl_seconds(batch, context_tokens)?;
        Some(seconds * self.decode_factor)
    }

    /// The largest batch of requests with `context_tokens` each that keeps `itl_limit_seconds` and
    /// fits: at least 1, and no further than the model is trusted.
    pub fn batch_within(&self, itl_limit_seconds: f64, context_tokens: f64) -> Option<f64> {
        let limit = itl_limit_seconds / self.decode_factor;
        match (self.decode, self.profile) {
            (Decode::Profile(_), Some(profile)) => Some(match self.kv_measured_tokens {
                Some(tokens) => profile.batch_with_kv(limit, context_tokens, tokens),
                None => profile.batch_within(limit, context_tokens),
            }),
            (Decode::Learnt(learnt, trusted), _) => {
                let context = size(context_tokens, PREFILL_TOKENS_MAX);
                let within = learnt.batch_within(limit, context).unwrap_or(1.0);
                Some(size(within, trusted).max(1.0))
            }
            _ => None,
        }
    }

    /// Tokens that the KV cache holds, if a profile says so and its use does not contradict it.
    pub fn kv_capacity_tokens(&self) -> Option<f64> {
        self.kv_measured_tokens.or(self.profile?.kv_capacity_tokens)
    }

    /// The same with a KV cache that was seen to hold `tokens`, whatever a profile states.
    #[must_use]
    pub fn with_kv_measured(self, tokens: f64) -> Self {
        Self {
            kv_measured_tokens: Some(tokens),
            ..self
        }
    }

    /// The weaker of both sources.
    pub fn source(&self) -> Source {
        self.prefill_source.max(self.decode_source)
    }

    /// One sentence for the report.
    pub fn message(&self) -> String {
        let prefill = role_message(
            "prefill",
            self.prefill_source,
            self.prefill_factor,
            self.prefill_error,
        );
        let decode = role_message(
            "decode",
            self.decode_source,
            self.decode_factor,
            self.decode_error,
        );
        let mut parts = vec![prefill, decode];
        let residual_milliseconds = self.ttft_residual_seconds * 1e3;
        if residual_milliseconds >= 1.0 {
            parts.push(format!(
                "TTFT has {residual_milliseconds:.0} ms beyond compute and wait"
            ));
        }
        if self.routing_factor >= 1.05 {
            parts.push(format!(
                "prompts wait {:.1} times as long as with perfect routing",
                self.routing_factor
            ));
        }
        parts.join(", ")
    }
}

fn role_message(role: &str, source: Source, factor: f64, error: f64) -> String {
    let error = error * 100.0;
    match source {
        Source::Profile => {
            format!("{role} times are {factor:.2} times the profile's, give or take {error:.0} %")
        }
        Source::Learnt => format!("{role} times are learnt, give or take {error:.0} %"),
        Source::Assumed => {
            format!("{role} times are assumed from the mean, give or take {error:.0} %")
        }
        Source::Unknown => format!("{role} times are not known yet"),
    }
}

/// Service times in proportion to tokens with the mean `mean_seconds`.
fn proportional(lengths: &[(f64, f64)], mean_seconds: f64) -> Vec<(f64, f64)> {
    let (tokens, shares) = split(lengths, 0.0)
        .fold((0.0, 0.0), |(tokens, shares), (new, _, share)| {
            (tokens + new * share, shares + share)
        });
    if shares <= 0.0 || tokens <= 0.0 {
        return vec![(mean_seconds, 1.0)];
    }
    let seconds_per_token = mean_seconds * shares / tokens;
    split(lengths, 0.0)
        .map(|(new, _, share)| (new * seconds_per_token, share))
        .collect()
}

#[cfg(test)]
mod tests;
