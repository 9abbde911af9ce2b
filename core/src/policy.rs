//! The user's policy, after validation: the part of a PDAutoscaler that decides.
//!
//! Every value here is in range; `pd-api` turns the custom resource into this type and refuses the
//! rest with the field's path. Times are spans, shares are percent integers, there is no default:
//! defaults belong to the API. The types that single stages use are in files of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::{
    behavior::{Behavior, ChangeLimit, PPM_PER_PERCENT, RatePolicy, ScalingRules, SelectPolicy},
    bounds::Bounds,
    objective::{AttainmentTarget, LatencyTarget, Objective},
    operating_point::OperatingPoints,
    ratio::{Enforcement, RatioPolicy},
};
use crate::{
    capacity,
    role::{PerRole, Role},
    schedule::Schedule,
    zero::ScaleToZero,
};

/// Everything about one service that the user decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Replica bounds of each role.
    pub bounds: PerRole<Bounds>,
    /// Latency limits and the share of requests that must meet them.
    pub objective: Objective,
    /// The P:D band; absent when the ratio follows the traffic (policy Auto).
    pub ratio: Option<RatioPolicy>,
    /// Most GPUs both roles may hold together at any instant.
    pub budget_gpus: Option<u32>,
    /// How fast replicas may change.
    pub behavior: Behavior,
    /// Reaction to missing metrics.
    pub on_missing_metrics: OnMissingMetrics,
    /// Bounds that hold at set times, at most [`crate::schedule::SCHEDULES_MAX`].
    pub schedules: Vec<Schedule>,
    /// When both roles may go to zero together; absent when they may not.
    pub scale_to_zero: Option<ScaleToZero>,
    /// How long replicas take to serve.
    pub lead: LeadPolicy,
    /// Configurations to switch among by the traffic; absent unless the ratio policy is to use
    /// them.
    pub operating_points: Option<OperatingPoints>,
    /// Performance of one replica, where the user states it as numbers.
    pub coefficients: Coefficients,
}

/// Reaction to missing metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnMissingMetrics {
    /// Keep the replicas.
    Hold,
    /// Keep the replicas, and after a while raise them to a floor; never lower them.
    Fallback {
        /// Replicas to have at least.
        replicas: PerRole<u32>,
        /// How long metrics must have been missing.
        after: Duration,
    },
}

/// How long replicas take from being requested to serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadPolicy {
    /// Lead time that is assumed before any is measured, above zero.
    pub assumed: Duration,
    /// After so long a scale-up request counts as stuck, longer than `assumed`.
    pub stuck_after: Duration,
}

/// Performance of one replica of each role, as whole numbers; absent where it is not stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coefficients {
    /// Prefill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PrefillCoefficients>,
    /// Decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<DecodeCoefficients>,
}

/// Time to compute a prompt of n tokens of which p more are cached:
/// `base + per_token * n + per_token_squared * (n^2 + 2 n p)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefillCoefficients {
    /// Constant part, microseconds.
    pub base_micros: u32,
    /// Per computed token, nanoseconds, above zero.
    pub per_token_nanos: u32,
    /// Per squared computed token, picoseconds.
    pub per_token_squared_picos: u32,
}

/// Time of a decode step of a batch of B requests that hold c tokens of context together:
/// `base + per_request * B + per_context_token * c`; and the most that a replica holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecodeCoefficients {
    /// Constant part, microseconds, above zero.
    pub base_micros: u32,
    /// Per request of the batch, nanoseconds.
    pub per_request_nanos: u32,
    /// Per token of context in the batch, picoseconds.
    pub per_context_token_picos: u32,
    /// Tokens that the KV cache holds, above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_capacity_tokens: Option<u32>,
    /// Requests that a batch holds at most, above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_max: Option<u32>,
}

impl From<PrefillCoefficients> for capacity::coefficients::PrefillCoefficients {
    fn from(stated: PrefillCoefficients) -> Self {
        Self {
            base_seconds: f64::from(stated.base_micros) * 1e-6,
            seconds_per_token: f64::from(stated.per_token_nanos) * 1e-9,
            seconds_per_token_squared: f64::from(stated.per_token_squared_picos) * 1e-12,
        }
    }
}

impl From<DecodeCoefficients> for capacity::coefficients::DecodeCoefficients {
    fn from(stated: DecodeCoefficients) -> Self {
        Self {
            base_seconds: f64::from(stated.base_micros) * 1e-6,
            seconds_per_request: f64::from(stated.per_request_nanos) * 1e-9,
            seconds_per_context_token: f64::from(stated.per_context_token_picos) * 1e-12,
        }
    }
}

impl Policy {
    /// GPUs of `replicas` of both roles, given the GPUs of one replica of each.
    pub fn gpus(replicas: PerRole<u32>, gpus_per_replica: PerRole<u32>) -> u64 {
        Role::ALL
            .into_iter()
            .map(|role| u64::from(replicas[role]) * u64::from(gpus_per_replica[role]))
            .fold(0, u64::saturating_add)
    }
}
