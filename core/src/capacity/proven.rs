//! The largest batch that a decode replica was seen to keep the TPOT limit with.
//!
//! A model of decode is a line, and engines are staircases: what it says beyond the batches that
//! were seen is a guess. So the largest batch that kept the limit is remembered, fading over an
//! hour as the traffic changes, and sizing goes beyond it by one step at a time. It is also the
//! batch that replicas may always run: without it the model would follow batches that new replicas
//! make smaller, and ask for more of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calibrate::{keep, weight_of};

/// Seconds after which a batch that was not seen again counts for half.
const HALF_LIFE_SECONDS: f64 = 3_600.0;

/// The part of a batch that missed the limit which is taken to keep it: the step that is tried
/// again is then no larger than the batch that missed.
const BELOW_A_MISS: f64 = 0.9;

/// How a batch kept the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The limit was kept.
    Kept,
    /// Some requests missed it, too few to be sure.
    Unsure,
    /// It was missed.
    Missed,
}

/// The batch, and the context it was seen with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proven {
    batch: f64,
    context_tokens: f64,
}

impl Proven {
    /// Takes in that replicas with `batch` requests each, of `context_tokens` on average, kept or
    /// missed the limit.
    pub fn observe(&mut self, batch: f64, context_tokens: f64, fit: Fit, elapsed: Duration) {
        if !(batch.is_finite() && batch >= 1.0 && context_tokens.is_finite()) {
            return;
        }
        let faded = self.batch * keep(weight_of(elapsed), HALF_LIFE_SECONDS);
        let known = self.batch(context_tokens).unwrap_or(0.0);
        match fit {
            Fit::Kept if batch >= known => {
                (self.batch, self.context_tokens) = (batch, context_tokens);
            }
            Fit::Missed if batch <= known => {
                (self.batch, self.context_tokens) = (batch * BELOW_A_MISS, context_tokens);
            }
            _ => self.batch = faded,
        }
    }

    /// The batch with contexts of `context_tokens`; nothing while none is known. Longer contexts
    /// make it smaller, as if a step did nothing but read them.
    pub fn batch(&self, context_tokens: f64) -> Option<f64> {
        let longer = if self.context_tokens > 0.0 {
            (context_tokens / self.context_tokens).max(1.0)
        } else {
            1.0
        };
        let batch = self.batch / longer;
        (batch >= 1.0).then_some(batch)
    }
}
