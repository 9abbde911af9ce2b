//! The controller's answer: what it observed, what it decided and why.
//!
//! Everything is optional: a part that is absent is not known. There are no floating-point numbers;
//! milliseconds are whole, shares are text with two decimals. All lists and texts are bounded, so
//! that a status never grows into the API server's limits.

#![expect(
    clippy::struct_field_names,
    reason = "the unit is the last word of a name, and the KubeSchema derive repeats the type"
)]

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use pd_core::{Step, schedule::SCHEDULES_MAX};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Most characters of a message in status.
pub const MESSAGE_LENGTH_MAX: usize = 1_024;
/// Most steps of a decision.
pub const STEPS_MAX: usize = 32;
/// Most conditions.
pub const CONDITIONS_MAX: usize = 16;
/// Most characters of a reason, role, stage or engine.
const WORD_LENGTH_MAX: usize = 64;

/// The last observation, decision and what was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PDAutoscalerStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, TargetResolved, CapacityResolved, MetricsAvailable, ObjectiveMet, ScalingLimited,
    /// RatioInBand, BudgetFeasible, TargetContended, Paused, OnTime and DrainSafe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Replicas of the prefill role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<RoleStatus>,
    /// Replicas of the decode role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<RoleStatus>,
    /// The P:D ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RatioStatus>,
    /// GPUs of both roles together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuStatus>,
    /// Measured latency at the objective's percentiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyStatus>,
    /// Measured share of requests that kept the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attainment: Option<AttainmentStatus>,
    /// Which schedules hold. Absent without schedules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedules: Option<SchedulesStatus>,
    /// The limit of the service now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub bottleneck: Option<String>,
    /// The engine whose metrics are read, with the generation of its metric names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub engine: Option<String>,
    /// The gateway whose metrics are read, such as EPP; absent while none is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub gateway: Option<String>,
    /// The last decision, and why it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
}

/// Replicas of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// Replicas requested now: spec.replicas of the target.
    #[serde(default)]
    pub current_replicas: u32,
    /// Replicas of the last decision. Absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<u32>,
    /// Replicas that serve.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Replicas that exist and do not serve yet.
    #[serde(default)]
    pub starting_replicas: u32,
    /// Replicas that are on their way out.
    #[serde(default)]
    pub terminating_replicas: u32,
    /// GPUs that one replica holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus_per_replica: Option<u32>,
    /// Measured time from asking for a replica to its serving. Absent before it is measured, while
    /// behavior.lead.assumed counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<LeadTimeStatus>,
    /// The source of the need: Profile, Coefficients, Learnt, Assumed while the work has not
    /// varied enough to learn from, or Saturation before anything is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub capacity_source: Option<String>,
}

/// Measured time from asking for a replica to its serving, whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeadTimeStatus {
    /// Half of the replicas served after so long, seconds.
    #[serde(default)]
    pub p50_seconds: u32,
    /// Nine of ten replicas served after so long, seconds.
    #[serde(default)]
    pub p90_seconds: u32,
}

/// The P:D ratio.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RatioStatus {
    /// Prefill to decode replicas requested now, such as 3:5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub current: Option<String>,
    /// Prefill to decode replicas of the last decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub target: Option<String>,
    /// The band of the ratio policy, such as 1:2 within 20 %. Absent for policy Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub band: Option<String>,
    /// Whether the current ratio lies in the band. Absent for policy Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_band: Option<bool>,
    /// Why the current ratio lies outside the band, one word, as in events. Absent inside the band
    /// and without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub breach: Option<String>,
    /// The operating point in force. Absent unless policy is OperatingPoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub operating_point: Option<String>,
}

/// GPUs of both roles together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuStatus {
    /// GPUs of the replicas requested now.
    #[serde(default)]
    pub current: i64,
    /// GPUs of the last decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i64>,
    /// Most GPUs allowed. Absent without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<i64>,
}

/// Measured latency at the objective's percentiles, whole milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyStatus {
    /// Time to first token, milliseconds. Absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_milliseconds: Option<i64>,
    /// Time per output token, milliseconds. Absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_milliseconds: Option<i64>,
}

/// Measured share of requests that kept the limits, percent with two decimals, such as 99.12.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttainmentStatus {
    /// Percent of requests that kept the TTFT limit. Absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6))]
    pub ttft_percent: Option<String>,
    /// Percent of requests that kept the TPOT limit. Absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6))]
    pub tpot_percent: Option<String>,
    /// Percent of the requests that may miss the objective in its window and have not yet, 0 to
    /// 100; 0 when it is used up. Absent when not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub error_budget_left_percent: Option<i32>,
}

/// Which schedules hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulesStatus {
    /// Those of spec.schedules that hold now, by their place in the list, the first being 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = SCHEDULES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub active: Vec<u32>,
    /// When one of them next begins or ceases to hold. Absent when none does within 7 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub next_change: Option<Time>,
}

/// A decision, and why it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastDecision {
    /// When it was taken.
    #[schemars(schema_with = "time_schema")]
    pub time: Time,
    /// The main reason, one word, as in events and metric labels.
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub reason: String,
    /// The decision as a sentence. At most 1024 characters.
    #[schemars(length(max = MESSAGE_LENGTH_MAX))]
    pub message: String,
    /// The stages of the decision in order. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = STEPS_MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub steps: Vec<StepStatus>,
}

/// One stage of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The stage, such as Need or Guard.
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub stage: String,
    /// prefill or decode. Absent when it is about both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub role: Option<String>,
    /// Why, one word.
    #[schemars(length(max = WORD_LENGTH_MAX))]
    pub reason: String,
    /// Why, as a sentence. At most 1024 characters.
    #[schemars(length(max = MESSAGE_LENGTH_MAX))]
    pub message: String,
}

impl From<&Step> for StepStatus {
    fn from(step: &Step) -> Self {
        Self {
            stage: step.stage.as_str().to_owned(),
            role: step.role.map(|role| role.as_str().to_owned()),
            reason: step.reason.as_str().to_owned(),
            message: truncated(&step.message, MESSAGE_LENGTH_MAX).into_owned(),
        }
    }
}

/// A share from 0 to 1 as percent with two decimals, rounded down so that only a share without a
/// miss is `100.00`. Nothing when it is no share.
pub fn percent_text(share: f64) -> Option<String> {
    // The nudge undoes what 0.9912 * 10000 loses; a hundredth of a percent is far larger.
    (0.0..=1.0).contains(&share).then(|| {
        let hundredths = (share * 10_000.0 + 1e-6).floor();
        format!("{:.2}", hundredths / 100.0)
    })
}

/// RFC 3339 time.
fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// The schema that Kubernetes itself uses for conditions, with our own bound on messages.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": CONDITIONS_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the current state.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "The aspect, such as Ready.",
                    "maxLength": 316,
                },
                "status": {
                    "type": "string",
                    "description": "True, False or Unknown.",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "Generation of the spec that this condition is about.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status last changed.",
                },
                "reason": {
                    "type": "string",
                    "description": "Why, one word, as in events and metric labels.",
                    "minLength": 1,
                    "maxLength": WORD_LENGTH_MAX,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, as a sentence. At most 1024 characters.",
                    "maxLength": MESSAGE_LENGTH_MAX,
                },
            },
        },
    })
}

/// `text` cut to `length_max` characters, the cut marked by an ellipsis.
pub fn truncated(text: &str, length_max: usize) -> Cow<'_, str> {
    if text.chars().count() <= length_max {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(length_max.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all(1.0, Some("100.00"))]
    #[case::one_miss_in_a_million(0.999_999, Some("99.99"))]
    #[case::two_decimals(0.9912, Some("99.12"))]
    #[case::none(0.0, Some("0.00"))]
    #[case::not_a_number(f64::NAN, None)]
    #[case::more_than_all(1.1, None)]
    fn shares_are_percent_rounded_down(#[case] share: f64, #[case] want: Option<&str>) {
        assert_eq!(percent_text(share).as_deref(), want);
    }
}
