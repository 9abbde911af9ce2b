//! How fast replicas may change, per direction, and what happens without metrics.
//!
//! The words and their meaning are those of the HorizontalPodAutoscaler's `spec.behavior`, so that
//! what operators know holds here. The two directions have their own types because their defaults
//! differ: up is immediate, down waits.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{duration_within, refused, rule, rule_naming_value};
use super::{
    duration::{
        DURATION_REGEX, DurationText, FALLBACK_AFTER, LEAD_ASSUMED, RATE_PERIOD,
        STABILIZATION_WINDOW, STUCK_AFTER,
    },
    reserved::{self, Reserved},
    target::REPLICAS_MAX,
};
use crate::derives::{JsonSchema, KubeSchema};

/// Most tolerance of a direction, percent.
pub const TOLERANCE_PERCENT_MAX: i32 = 50;
/// Most rate policies of a direction.
pub const POLICIES_MAX: usize = 8;
/// Largest change of a rate policy, replicas or percent.
pub const POLICY_VALUE_MAX: i32 = 10_000;
/// What to do when an ask is stuck before it is expected.
pub(crate) const LEAD_REMEDY: &str = "raise stuckAfter or lower assumed";
/// What to do when Fallback has no numbers.
pub(crate) const FALLBACK_NEEDED: &str =
    "behavior `Fallback` needs fallback with prefill and decode";
/// What to do when Hold has numbers.
pub(crate) const FALLBACK_UNUSED: &str =
    "fallback is only for behavior `Fallback`; remove it or set behavior to Fallback";

/// How fast replicas may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BehaviorSpec {
    /// Rules for more replicas. Default: at once, no tolerance, no limit on the rate.
    #[serde(default)]
    pub scale_up: ScaleUpRules,
    /// Rules for fewer replicas. Default: after 300s, tolerance 10 %, no limit on the rate.
    #[serde(default)]
    pub scale_down: ScaleDownRules,
    /// How long replicas take to serve. Default: 120s until it is measured, stuck after 10m.
    #[serde(default)]
    pub lead: LeadSpec,
}

/// How long replicas take from being asked for to serving. Need is forecast that far ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule_naming_value(
    &format!(
        "!self.assumed.matches('{DURATION_REGEX}') || !self.stuckAfter.matches('{DURATION_REGEX}') || \
         duration(self.assumed) < duration(self.stuckAfter)"
    ),
    &format!("'assumed `' + self.assumed + '` is not below stuckAfter `' + self.stuckAfter + '`; {LEAD_REMEDY}'"),
))]
pub struct LeadSpec {
    /// What is assumed of both roles until their lead times are measured, a duration from 1s to 2h.
    /// Default 120s.
    #[serde(default = "two_minutes")]
    #[x_kube(validation = duration_within("assumed", &LEAD_ASSUMED))]
    pub assumed: DurationText,
    /// After so long, replicas that were asked for and do not serve count as stuck, and the other
    /// role goes on without them; a duration from 1m to 24h, longer than assumed. Default 10m.
    #[serde(default = "ten_minutes")]
    #[x_kube(validation = duration_within("stuckAfter", &STUCK_AFTER))]
    pub stuck_after: DurationText,
}

impl Default for LeadSpec {
    fn default() -> Self {
        Self {
            assumed: two_minutes(),
            stuck_after: ten_minutes(),
        }
    }
}

/// Rules for more replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleUpRules {
    /// How long more replicas must be needed before any is added, a duration from 0s to 1h: the
    /// least need seen in this window counts. Default 0s.
    #[serde(default = "no_window")]
    #[x_kube(validation = duration_within("stabilizationWindow", &STABILIZATION_WINDOW))]
    pub stabilization_window: DurationText,
    /// A need above the current replicas by less than this percentage changes nothing, 0 to 50.
    /// Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = TOLERANCE_PERCENT_MAX))]
    pub tolerance_percent: i32,
    /// Which of several policies counts. Max: the one that allows the largest change. Min: the
    /// smallest. Disabled: replicas are never raised. Default Max.
    #[serde(default)]
    pub select_policy: SelectPolicyKind,
    /// Limits on how many replicas may be added per period. None: no limit. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = POLICIES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub policies: Vec<RatePolicySpec>,
}

impl Default for ScaleUpRules {
    fn default() -> Self {
        Self {
            stabilization_window: no_window(),
            tolerance_percent: 0,
            select_policy: SelectPolicyKind::Max,
            policies: Vec::new(),
        }
    }
}

/// Rules for fewer replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDownRules {
    /// How long fewer replicas must suffice before any is removed, a duration from 0s to 1h: the
    /// largest need seen in this window counts. Default 300s.
    #[serde(default = "five_minutes")]
    #[x_kube(validation = duration_within("stabilizationWindow", &STABILIZATION_WINDOW))]
    pub stabilization_window: DurationText,
    /// A need below the current replicas by less than this percentage changes nothing, 0 to 50.
    /// Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = TOLERANCE_PERCENT_MAX))]
    pub tolerance_percent: i32,
    /// Which of several policies counts. Max: the one that allows the largest change. Min: the
    /// smallest. Disabled: replicas are never lowered. Default Max.
    #[serde(default)]
    pub select_policy: SelectPolicyKind,
    /// Limits on how many replicas may be removed per period. None: no limit. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = POLICIES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub policies: Vec<RatePolicySpec>,
    /// Not supported by this version. Will choose which replicas go first, and wait for their work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = refused("drain", reserved::DRAIN))]
    pub drain: Option<Reserved>,
}

impl Default for ScaleDownRules {
    fn default() -> Self {
        Self {
            stabilization_window: five_minutes(),
            tolerance_percent: ten(),
            select_policy: SelectPolicyKind::Max,
            policies: Vec::new(),
            drain: None,
        }
    }
}

/// Which of several rate policies counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicyKind {
    /// The one that allows the largest change.
    #[default]
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// A limit on the change within a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RatePolicySpec {
    /// What value counts. Replicas: replicas. Percent: percent of the replicas at the start of the
    /// period.
    #[serde(rename = "type")]
    pub kind: RatePolicyKind,
    /// Largest change within a period, 1 to 10000, in replicas or percent.
    #[schemars(range(min = 1, max = POLICY_VALUE_MAX))]
    pub value: i32,
    /// The period, a duration from 1s to 30m.
    #[x_kube(validation = duration_within("period", &RATE_PERIOD))]
    pub period: DurationText,
}

/// What the value of a rate policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RatePolicyKind {
    /// Replicas.
    Replicas,
    /// Percent of the replicas at the start of the period.
    Percent,
}

/// What happens while metrics are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule("self.behavior != 'Fallback' || has(self.fallback)", FALLBACK_NEEDED),
    validation = rule("self.behavior == 'Fallback' || !has(self.fallback)", FALLBACK_UNUSED),
)]
pub struct MissingMetricsSpec {
    /// Hold: keep the replicas. Fallback: keep them, and after a while raise them to stated
    /// numbers. Replicas are never lowered without metrics. Default Hold.
    #[serde(default)]
    pub behavior: MissingMetricsBehavior,
    /// The numbers for behavior Fallback only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackSpec>,
}

/// What happens while metrics are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MissingMetricsBehavior {
    /// Keep the replicas.
    #[default]
    Hold,
    /// Keep the replicas, and after a while raise them to stated numbers.
    Fallback,
}

/// Replicas to have at least when metrics have been missing for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FallbackSpec {
    /// Prefill replicas to have at least; from minReplicas to maxReplicas of the role.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub prefill: i32,
    /// Decode replicas to have at least; from minReplicas to maxReplicas of the role.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub decode: i32,
    /// How long metrics must have been missing, a duration from 1s to 24h. Default 10m.
    #[serde(default = "ten_minutes")]
    #[x_kube(validation = duration_within("after", &FALLBACK_AFTER))]
    pub after: DurationText,
}

fn no_window() -> DurationText {
    DurationText("0s".to_owned())
}

fn five_minutes() -> DurationText {
    DurationText("300s".to_owned())
}

fn two_minutes() -> DurationText {
    DurationText("120s".to_owned())
}

fn ten_minutes() -> DurationText {
    DurationText("10m".to_owned())
}

const fn ten() -> i32 {
    10
}
