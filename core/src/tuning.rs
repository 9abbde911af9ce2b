//! Multiples of the constants that were chosen and not derived, to show what each of them does.
//!
//! Every constant stands where it is used, with its meaning. A decision takes it times its multiple
//! here, which is 1 for everybody but an experiment (`pd-sim sweep --vary constant=all`).

use serde::{Deserialize, Serialize};

/// Multiples, each above 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tuning {
    /// Misses that are planned while the error budget is full.
    pub planned_full: f64,
    /// Misses that are planned once it is spent.
    pub planned_spent: f64,
    /// Part of the planned misses that fewer prefill replicas than now must stay under.
    pub release_share: f64,
    /// Part of the TPOT limit above its floor that is aimed at; at most all of it.
    pub tpot_aim: f64,
    /// How far beyond proven batches decode replicas are taken away at once.
    pub batch_step: f64,
    /// How many times longer a decode step may take for being padded.
    pub padded: f64,
    /// Part of the dispersion of arrivals that a queue feels.
    pub bursts_felt: f64,
}

impl Tuning {
    /// Every constant as it is.
    pub const NONE: Self = Self {
        planned_full: 1.0,
        planned_spent: 1.0,
        release_share: 1.0,
        tpot_aim: 1.0,
        batch_step: 1.0,
        padded: 1.0,
        bursts_felt: 1.0,
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::NONE
    }
}
