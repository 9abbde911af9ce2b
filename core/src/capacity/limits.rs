//! The largest sizes that anything about a replica can have, and how a number beyond them is
//! refused.
//!
//! They are far beyond any engine and model: they keep sums finite, and judge nothing.

use thiserror::Error;

/// Tokens of a prompt or a context at most, far beyond any model.
pub const PREFILL_TOKENS_MAX: f64 = 1e8;

/// Seconds of one pass at most.
pub const SECONDS_MAX: f64 = 86_400.0;

/// Requests in a batch at most, far beyond any engine.
pub const BATCH_LIMIT: f64 = 1e6;

/// Tokens in a KV cache at most.
pub const KV_TOKENS_MAX: f64 = 1e12;

/// A number that no replica can have.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("profile field `{field}` is `{value}`: {remedy}")]
pub struct OutOfRange {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: f64,
    /// The remedy: a value to give instead.
    pub remedy: &'static str,
}

/// `value` within `0..=most`; zero if it is no number.
pub(super) fn size(value: f64, most: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, most)
    }
}

pub(super) fn not_negative(field: &'static str, value: f64) -> Result<(), OutOfRange> {
    if value.is_finite() && (0.0..=SECONDS_MAX).contains(&value) {
        return Ok(());
    }
    let remedy = "give a number from 0 to 86400";
    Err(OutOfRange {
        field,
        value,
        remedy,
    })
}

pub(super) fn positive(field: &'static str, value: f64) -> Result<(), OutOfRange> {
    if value.is_finite() && value > 0.0 && value <= SECONDS_MAX {
        return Ok(());
    }
    let remedy = "give a number above 0 and up to 86400";
    Err(OutOfRange {
        field,
        value,
        remedy,
    })
}
