//! How fast replicas may change: windows, tolerances and rate policies of both directions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How fast replicas may change, per direction. Semantics of `HorizontalPodAutoscaler`
/// `spec.behavior` (autoscaling/v2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Rules for more replicas.
    pub scale_up: ScalingRules,
    /// Rules for fewer replicas.
    pub scale_down: ScalingRules,
    /// Longest wait for replicas of a role that leave, before more of them are taken away; none
    /// where nobody waits. At most [`CHANGE_PERIOD_MAX`](crate::replicas::CHANGE_PERIOD_MAX).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Duration>,
}

/// Rules of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Up: the least need seen in this window counts; down: the largest.
    pub stabilization_window: Duration,
    /// A need closer to the current replicas than this share of them changes nothing, parts per
    /// million: `HorizontalPodAutoscaler`'s is a quantity, which may be finer than a percent.
    pub tolerance_ppm: u32,
    /// Which of several policies counts.
    pub select: SelectPolicy,
    /// Limits on the change per period; none means no limit.
    pub policies: Vec<RatePolicy>,
}

/// Parts per million in one percent.
pub const PPM_PER_PERCENT: u32 = 10_000;

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
