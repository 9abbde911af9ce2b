//! What the user asked for, after validation: the part of a PDAutoscaler that decides.
//!
//! Every value here is in range; `pd-api` turns the custom resource into this type and refuses the
//! rest with the field's path. Times are spans, shares are percent integers, there is no default:
//! defaults belong to the API.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    capacity,
    operating_point::OperatingPoint,
    ratio::RatioBand,
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
    /// What to do while metrics are missing.
    pub on_missing_metrics: OnMissingMetrics,
    /// Bounds that hold at set times, at most [`crate::schedule::SCHEDULES_MAX`].
    pub schedules: Vec<Schedule>,
    /// When both roles may go to zero together; absent when they may not.
    pub scale_to_zero: Option<ScaleToZero>,
    /// How long replicas take to serve.
    pub lead: LeadPolicy,
    /// Configurations to switch among by the traffic; absent unless the ratio policy asks for them.
    pub operating_points: Option<OperatingPoints>,
    /// What one replica can do, where the user states it as numbers.
    pub coefficients: Coefficients,
}

/// Replica bounds of a role, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Fewest replicas, at least 1.
    pub min_replicas: u32,
    /// Most replicas, at least `min_replicas`.
    pub max_replicas: u32,
}

impl Bounds {
    /// `replicas` moved into the bounds.
    pub fn clamp(&self, replicas: u32) -> u32 {
        replicas.clamp(self.min_replicas, self.max_replicas.max(self.min_replicas))
    }
}

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

/// A P:D band and what wins when it and the objective disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatioPolicy {
    /// The pairs that are in the band.
    pub band: RatioBand,
    /// What wins.
    pub enforcement: Enforcement,
}

/// What wins when the ratio band and the objective disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enforcement {
    /// The objective; the breach is reported.
    Soft,
    /// The band; the unmet need is reported.
    Hard,
}

/// How fast replicas may change, per direction. Semantics of `HorizontalPodAutoscaler`
/// `spec.behavior` (autoscaling/v2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Rules for more replicas.
    pub scale_up: ScalingRules,
    /// Rules for fewer replicas.
    pub scale_down: ScalingRules,
}

/// Rules of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Up: the least need seen in this window counts; down: the largest.
    pub stabilization_window: Duration,
    /// A need closer to the current replicas than this share of them changes nothing, percent.
    pub tolerance_percent: u8,
    /// Which of several policies counts.
    pub select: SelectPolicy,
    /// Limits on the change per period; none means no limit.
    pub policies: Vec<RatePolicy>,
}

/// Which of several rate policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction at all.
    Disabled,
}

/// A limit on the change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatePolicy {
    /// Largest change.
    pub change: ChangeLimit,
    /// The period it is counted over, above zero.
    pub period: Duration,
}

/// The size of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeLimit {
    /// So many replicas.
    Replicas(u32),
    /// Percent of the replicas at the start of the period.
    Percent(u32),
}

/// What to do while metrics are missing.
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

/// How long replicas take from being asked for to serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadPolicy {
    /// What is assumed before lead times are measured, above zero.
    pub assumed: Duration,
    /// After so long an ask counts as stuck, longer than `assumed`.
    pub stuck_after: Duration,
}

/// Configurations found offline, each for a kind of traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatingPoints {
    /// The configurations, 1 to 32, with names that differ.
    pub points: Vec<OperatingPoint>,
    /// How far the ratio may leave that of the point in force, percent, 0 to 99.
    pub tolerance_percent: u8,
    /// What wins when that band and the objective disagree.
    pub enforcement: Enforcement,
}

/// What one replica of each role can do, as whole numbers; absent where it is not stated.
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
/// `base + per_request * B + per_context_token * c`; and what a replica holds at most.
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
            .map(|role| u64::from(*replicas.get(role)) * u64::from(*gpus_per_replica.get(role)))
            .fold(0, u64::saturating_add)
    }
}
