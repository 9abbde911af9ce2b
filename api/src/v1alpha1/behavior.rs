//! How fast replicas may change, per direction, and what happens without metrics.
//!
//! `scaleUp` and `scaleDown` take every field of a HorizontalPodAutoscaler's `spec.behavior`
//! (autoscaling/v2) with its values and its meaning, so that people paste what they have. Fields
//! left out have defaults of our own: HorizontalPodAutoscaler's limit growth, these do not. `lead`
//! and `scaleDown.drain` are our additions. The two directions have their own types because their
//! defaults differ: up is immediate, down waits.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{duration_within, rule, rule_naming_value};
use super::{
    duration::{
        DRAIN_TIMEOUT, DURATION_REGEX, DurationText, FALLBACK_AFTER, LEAD_ASSUMED, STUCK_AFTER,
    },
    quantity::QuantityText,
    target::REPLICAS_MAX,
};
use crate::derives::{JsonSchema, KubeSchema};

/// Longest stabilization window, seconds, as in HorizontalPodAutoscaler.
pub const STABILIZATION_WINDOW_SECONDS_MAX: i32 = 3_600;
/// Longest period of a scaling policy, seconds, as in HorizontalPodAutoscaler.
pub const PERIOD_SECONDS_MAX: i32 = 1_800;
/// Most scaling policies of a direction. HorizontalPodAutoscaler has no limit; the schema of a
/// custom resource needs one, and this is far above any in use.
pub const POLICIES_MAX: usize = 100;
/// Remedy when a scale-up request counts as stuck before it is expected to be served.
pub(crate) const LEAD_REMEDY: &str = "raise stuckAfter or lower assumed";
/// Remedy when Fallback has no numbers.
pub(crate) const FALLBACK_NEEDED: &str =
    "behavior `Fallback` needs fallback with prefill and decode";
/// Remedy when Hold has numbers.
pub(crate) const FALLBACK_UNUSED: &str =
    "fallback is only for behavior `Fallback`; remove it or set behavior to Fallback";

/// How fast replicas may change. scaleUp and scaleDown are those of HorizontalPodAutoscaler
/// (autoscaling/v2), with defaults of their own; lead is an addition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BehaviorSpec {
    /// Rules for more replicas. Default: at once, no tolerance, no limit on the rate.
    #[serde(default)]
    pub scale_up: ScaleUpRules,
    /// Rules for fewer replicas. Default: after 300s, tolerance 10 %, no limit on the rate.
    #[serde(default)]
    pub scale_down: ScaleDownRules,
    /// How long replicas take to serve; not in HorizontalPodAutoscaler. Default: 120s until it is
    /// measured, stuck after 10m.
    #[serde(default)]
    pub lead: LeadSpec,
}

/// How long replicas take from the request to serving. The need is forecast that far ahead.
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
    /// The lead time of both roles until it is measured, a duration from 1s to 2h. Default 120s.
    #[serde(default = "two_minutes")]
    #[x_kube(validation = duration_within("assumed", &LEAD_ASSUMED))]
    pub assumed: DurationText,
    /// Requested replicas for which there is no node, or of which nothing starts, count as stuck
    /// after this time, and the other role goes on without them; longer where a measured lead time
    /// or earlier requests show that it is too short. A pod that starts without trouble is waited
    /// for. A duration from 1m to 24h, longer than assumed. Default 10m.
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
    /// How long more replicas must be needed before any is added, seconds from 0 to 3600: the least
    /// need seen in this window counts. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = STABILIZATION_WINDOW_SECONDS_MAX))]
    pub stabilization_window_seconds: i32,
    /// A need above the current replicas by no more than this share of them changes nothing; a
    /// quantity of at least 0, such as 0.05 for 5 %. Default 0.
    #[serde(default = "no_tolerance")]
    pub tolerance: QuantityText,
    /// Which of several policies counts. Max: the one that allows the largest change. Min: the
    /// smallest. Disabled: replicas are never raised. Default Max.
    #[serde(default)]
    pub select_policy: SelectPolicyKind,
    /// Limits on how many replicas may be added per period. Default: none, no limit. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = POLICIES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub policies: Vec<ScalingPolicySpec>,
}

impl Default for ScaleUpRules {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: 0,
            tolerance: no_tolerance(),
            select_policy: SelectPolicyKind::Max,
            policies: Vec::new(),
        }
    }
}

/// Rules for fewer replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDownRules {
    /// How long fewer replicas must suffice before any is removed, seconds from 0 to 3600: the
    /// largest need seen in this window counts. Default 300.
    #[serde(default = "three_hundred")]
    #[schemars(range(min = 0, max = STABILIZATION_WINDOW_SECONDS_MAX))]
    pub stabilization_window_seconds: i32,
    /// A need below the current replicas by less than this share of them changes nothing, and half
    /// of it stays as slack when replicas are removed; a quantity of at least 0, such as 0.05 for
    /// 5 %. Default 0.1.
    #[serde(default = "a_tenth")]
    pub tolerance: QuantityText,
    /// Which of several policies counts. Max: the one that allows the largest change. Min: the
    /// smallest. Disabled: replicas are never lowered. Default Max.
    #[serde(default)]
    pub select_policy: SelectPolicyKind,
    /// Limits on how many replicas may be removed per period. Default: none, no limit. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = POLICIES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub policies: Vec<ScalingPolicySpec>,
    /// Which replicas go first, and how long those that leave are waited for; not in
    /// HorizontalPodAutoscaler. Default: the workload's controller chooses, and nobody waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSpec>,
}

impl Default for ScaleDownRules {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: three_hundred(),
            tolerance: a_tenth(),
            select_policy: SelectPolicyKind::Max,
            policies: Vec::new(),
            drain: None,
        }
    }
}

/// How replicas are taken away. Pods still need a terminationGracePeriodSeconds and an engine that
/// let them end their requests; the condition DrainSafe says where they do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// Which pods go first. LeastWork: those with the fewest requests, by annotation
    /// controller.kubernetes.io/pod-deletion-cost, where the workload's controller heeds it: pods
    /// of Deployments and ReplicaSets, of LeaderWorkerSets with groupIdentity Hash, and of
    /// ModelServings. It takes drain.enabled in the chart. Any: the controller chooses. Default
    /// LeastWork.
    #[serde(default)]
    pub victims: VictimsKind,
    /// While replicas that were taken away from a role are leaving, no more of it are, for at most
    /// this time; a duration from 0s to 30m, and with 0s nobody waits. Default 10m.
    #[serde(default = "ten_minutes")]
    #[x_kube(validation = duration_within("timeout", &DRAIN_TIMEOUT))]
    pub timeout: DurationText,
}

/// Which pods go first when replicas are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VictimsKind {
    /// Those with the fewest requests in flight.
    #[default]
    LeastWork,
    /// Those that the workload's controller chooses.
    Any,
}

/// Which of several scaling policies counts.
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
pub struct ScalingPolicySpec {
    /// The unit of value. Pods: replicas. Percent: percent of the replicas at the start of the
    /// period.
    #[serde(rename = "type")]
    pub kind: ScalingPolicyKind,
    /// Largest change within a period, at least 1, in replicas or percent.
    #[schemars(range(min = 1))]
    pub value: i32,
    /// The period, seconds from 1 to 1800.
    #[schemars(range(min = 1, max = PERIOD_SECONDS_MAX))]
    pub period_seconds: i32,
}

/// The unit of a scaling policy's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingPolicyKind {
    /// Replicas.
    Pods,
    /// Percent of the replicas at the start of the period.
    Percent,
}

/// Replicas while metrics are missing.
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

/// Replicas while metrics are missing.
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

fn no_tolerance() -> QuantityText {
    QuantityText("0".to_owned())
}

fn a_tenth() -> QuantityText {
    QuantityText("0.1".to_owned())
}

const fn three_hundred() -> i32 {
    300
}

fn two_minutes() -> DurationText {
    DurationText("120s".to_owned())
}

fn ten_minutes() -> DurationText {
    DurationText("10m".to_owned())
}
