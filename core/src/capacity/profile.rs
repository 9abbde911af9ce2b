//! The profile of a replica: how long prefill and decode take it, and how much it holds.
//!
//! A profile is what somebody measured or computed before the service ran: coefficients, or a
//! table where coefficients fit badly. It is believed in its shape; its scale is corrected online,
//! because real engines took 1.05 to 2.2 times what such profiles say.
//!
//! Every number is checked before it is used, and every function answers for any argument: sizes
//! that are not numbers count as zero, those beyond all engines as the largest there is.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    coefficients::{DecodeCoefficients, PrefillCoefficients},
    limits::{BATCH_LIMIT, KV_TOKENS_MAX, OutOfRange, PREFILL_TOKENS_MAX, SECONDS_MAX, size},
    table::{DecodeTable, PrefillTable, TableError},
};

/// A replica's times and limits. A role that nobody measured is learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// Prefill times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PrefillModel>,
    /// Decode times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<DecodeModel>,
    /// Tokens that the KV cache holds; above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_capacity_tokens: Option<f64>,
    /// Requests that a decode batch holds at most; 1 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max: Option<u32>,
}

/// A number that no replica can have.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ProfileError {
    /// A field out of range.
    #[error(transparent)]
    Field(#[from] OutOfRange),
    /// A table that cannot be.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Prefill seconds by computed and cached tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrefillModel {
    /// By formula.
    Coefficients(PrefillCoefficients),
    /// By table.
    Table(PrefillTable),
}

/// Seconds between tokens by batch and context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DecodeModel {
    /// By formula.
    Coefficients(DecodeCoefficients),
    /// By table.
    Table(DecodeTable),
}

impl PrefillModel {
    /// Seconds to compute `new_tokens` of a prompt whose first `cached_tokens` are cached.
    pub fn seconds(&self, new_tokens: f64, cached_tokens: f64) -> f64 {
        let new = size(new_tokens, PREFILL_TOKENS_MAX);
        let cached = size(cached_tokens, PREFILL_TOKENS_MAX);
        let seconds = match self {
            Self::Coefficients(coefficients) => coefficients.seconds(new, cached),
            Self::Table(table) => table.seconds(new, cached),
        };
        size(seconds, SECONDS_MAX)
    }
}

impl DecodeModel {
    /// Seconds of one step of `batch` requests with `context_tokens` each.
    pub fn itl_seconds(&self, batch: f64, context_tokens: f64) -> f64 {
        let batch = size(batch, BATCH_LIMIT);
        let context = size(context_tokens, PREFILL_TOKENS_MAX);
        let seconds = match self {
            Self::Coefficients(coefficients) => coefficients.itl_seconds(batch, context),
            Self::Table(table) => table.itl_seconds(batch, context),
        };
        size(seconds, SECONDS_MAX)
    }

    /// The largest batch up to `batch_max` that keeps `itl_limit_seconds` with `context_tokens` of
    /// context each; nothing when not even a batch of one does. A table answers no batch beyond
    /// those measured.
    fn batch_within(
        &self,
        itl_limit_seconds: f64,
        context_tokens: f64,
        batch_max: f64,
    ) -> Option<f64> {
        if itl_limit_seconds.is_nan() {
            return None;
        }
        let context = size(context_tokens, PREFILL_TOKENS_MAX);
        match self {
            Self::Coefficients(coefficients) => coefficients
                .batch_within(itl_limit_seconds, context)
                .map(|batch| batch.min(batch_max)),
            Self::Table(table) => {
                let batch_max = batch_max.min(table.batch_measured(context)).max(1.0);
                table.batch_within(itl_limit_seconds, context, batch_max)
            }
        }
    }
}

impl Profile {
    /// The largest batch of requests with `context_tokens` each that keeps `itl_limit_seconds` and
    /// fits into the batch and the KV cache: at least 1, for a replica that is there serves
    /// somebody.
    pub fn batch_within(&self, itl_limit_seconds: f64, context_tokens: f64) -> f64 {
        let batch_max = self.batch_held(context_tokens);
        self.batch_up_to(itl_limit_seconds, context_tokens, batch_max)
    }

    /// The same with a KV cache of `kv_tokens`, whatever the profile states.
    pub fn batch_with_kv(
        &self,
        itl_limit_seconds: f64,
        context_tokens: f64,
        kv_tokens: f64,
    ) -> f64 {
        let batch_max = self.batch_holding(context_tokens, Some(kv_tokens));
        self.batch_up_to(itl_limit_seconds, context_tokens, batch_max)
    }

    fn batch_up_to(&self, itl_limit_seconds: f64, context_tokens: f64, batch_max: f64) -> f64 {
        self.decode
            .as_ref()
            .and_then(|decode| decode.batch_within(itl_limit_seconds, context_tokens, batch_max))
            .unwrap_or(1.0)
    }

    /// The largest batch of requests with `context_tokens` each that fits, at least 1.
    pub fn batch_held(&self, context_tokens: f64) -> f64 {
        self.batch_holding(context_tokens, self.kv_capacity_tokens)
    }

    fn batch_holding(&self, context_tokens: f64, kv_tokens: Option<f64>) -> f64 {
        let context = size(context_tokens, PREFILL_TOKENS_MAX).max(1.0);
        let kv = kv_tokens.map_or(BATCH_LIMIT, |tokens| tokens / context);
        let batch = self.batch_max.map_or(BATCH_LIMIT, f64::from);
        size(kv.min(batch), BATCH_LIMIT).max(1.0)
    }

    /// This profile, if every number in it can be. Tables were checked when they were made.
    pub fn validated(self) -> Result<Self, ProfileError> {
        if let Some(PrefillModel::Coefficients(coefficients)) = &self.prefill {
            coefficients.validate()?;
        }
        if let Some(DecodeModel::Coefficients(coefficients)) = &self.decode {
            coefficients.validate()?;
        }
        if let Some(tokens) = self.kv_capacity_tokens
            && !(tokens.is_finite() && (1.0..=KV_TOKENS_MAX).contains(&tokens))
        {
            return Err(ProfileError::Field(OutOfRange {
                field: "kvCapacityTokens",
                value: tokens,
                remedy: "give a number from 1 to 1e12, or leave it out",
            }));
        }
        if self.batch_max == Some(0) {
            return Err(ProfileError::Field(OutOfRange {
                field: "batchMax",
                value: 0.0,
                remedy: "give 1 or more, or leave it out",
            }));
        }
        Ok(self)
    }

    /// A number that changes when the profile does, so that a correction learnt for another one is
    /// not applied to it. Fits into the 53 bits that every JSON reader keeps.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut mixed = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |value: f64| {
            mixed = (mixed ^ value.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^= mixed >> 29;
        };
        match &self.prefill {
            None => mix(-1.0),
            Some(PrefillModel::Coefficients(c)) => c.terms().into_iter().for_each(&mut mix),
            Some(PrefillModel::Table(table)) => {
                mix(table.seconds(1.0, 1e6));
                table.points().for_each(|(tokens, seconds)| {
                    mix(tokens);
                    mix(seconds);
                });
            }
        }
        match &self.decode {
            None => mix(-2.0),
            Some(DecodeModel::Coefficients(c)) => c.terms().into_iter().for_each(&mut mix),
            Some(DecodeModel::Table(table)) => {
                table.points().for_each(|(batch, context, seconds)| {
                    mix(batch);
                    mix(context);
                    mix(seconds);
                });
            }
        }
        mixed >> 11
    }
}

#[cfg(test)]
mod tests;
