//! The objective: latency limits, and the share of requests that must meet them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// Latency limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Time to first token.
    pub ttft: LatencyTarget,
    /// Time per output token.
    pub tpot: LatencyTarget,
    /// Share of requests that must meet both, over a window.
    pub attainment: AttainmentTarget,
}

/// One latency limit at one percentile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyTarget {
    /// The limit, above zero.
    pub limit: Duration,
    /// The percentile that must stay under the limit, 50 to 99.
    pub percentile: u8,
}

/// Share of requests that must meet the limits, over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttainmentTarget {
    /// Percent of requests, 1 to 100.
    pub percent: u8,
    /// The window the share is taken over.
    pub window: Duration,
}

impl Objective {
    /// The latency that `role` decides.
    pub const fn of_role(&self, role: Role) -> LatencyTarget {
        match role {
            Role::Prefill => self.ttft,
            Role::Decode => self.tpot,
        }
    }

    /// Share of requests, 0 to 1, that may miss within the attainment window.
    pub fn miss_share_allowed(&self) -> f64 {
        1.0 - f64::from(self.attainment.percent) / 100.0
    }
}
