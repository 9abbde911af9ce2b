//! Version v1alpha1 of the API group `pdautoscaler.io`: the objects as users write them.
//!
//! [`PDAutoscaler`] scales one service: a prefill workload and a decode workload, together. Each
//! part of the spec has a module of its own; [`status`] is what the controller answers,
//! [`checkpoint`] what it remembers.
//!
//! Doc comments of these types are what `kubectl explain` prints, so they speak to users: unit,
//! default and bounds of every field. Rules are CEL in the schema and repeated in
//! [`crate::validate`], because an object may be older than the rule that refuses it.

#![expect(
    clippy::doc_markdown,
    reason = "kubectl explain prints these comments, and backticks are noise there"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of one type look like duplicates to the lint"
)]
#![cfg_attr(
    feature = "kube",
    expect(
        unreachable_pub,
        reason = "the KubeSchema derive repeats every public type inside a function"
    )
)]

pub mod behavior;
pub mod budget;
pub mod capacity;
#[cfg(feature = "kube")]
pub mod checkpoint;
pub mod class;
#[cfg(feature = "kube")]
pub mod cluster_topology;
pub mod duration;
#[cfg(feature = "kube")]
pub mod gpu_budget;
pub mod metrics;
pub mod objective;
pub mod placement;
#[cfg(feature = "kube")]
pub mod placement_group;
pub mod quantity;
pub mod ratio;
pub mod reserved;
#[cfg(feature = "kube")]
mod rules;
pub mod schedule;
#[cfg(feature = "kube")]
mod schema;
#[cfg(feature = "kube")]
pub mod status;
pub mod target;
pub mod toleration;
pub mod zero;

use pd_core::Role;
use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
pub use self::checkpoint::{PDAutoscalerCheckpoint, PDAutoscalerCheckpointSpec};
#[cfg(feature = "kube")]
pub use self::cluster_topology::{
    ClusterTopology, ClusterTopologySpec, TopologyLevelSpec, TopologyProfile,
};
#[cfg(feature = "kube")]
pub use self::gpu_budget::{
    BorrowingKind, BudgetAccountStatus, BudgetMemberSpec, GPUBudget, GPUBudgetSpec,
    GPUBudgetStatus, NamespaceLabels, PreemptionKind, SurgeKind,
};
#[cfg(feature = "kube")]
pub use self::placement_group::{PlacementGroup, PlacementGroupSpec, PlacementGroupStatus};
#[cfg(feature = "kube")]
use self::rules::rule_naming_value;
#[cfg(feature = "kube")]
pub use self::status::{
    AttainmentStatus, GpuStatus, LastDecision, LatencyStatus, LeadTimeStatus, PDAutoscalerStatus,
    RatioStatus, RoleStatus, SchedulesStatus, StepStatus,
};
pub use self::{
    behavior::{
        BehaviorSpec, FallbackSpec, LeadSpec, MissingMetricsBehavior, MissingMetricsSpec,
        ScaleDownRules, ScaleUpRules, ScalingPolicyKind, ScalingPolicySpec, SelectPolicyKind,
    },
    budget::BudgetSpec,
    capacity::{
        CapacitySpec, DecodeCapacitySpec, DecodeCoefficientsSpec, PrefillCapacitySpec,
        PrefillCoefficientsSpec, ProfileKind, ProfileReference,
    },
    class::{CONTROLLER_CLASS_REMEDY, is_controller_class},
    duration::{DurationText, ParseDurationError},
    metrics::{
        Engine, MetricsSource, MetricsSpec, QueryOverrides, SecretReference, Selectors,
        SourceHeaders, SourceSecret,
    },
    objective::{AttainmentSpec, LatencyTargetSpec, ObjectiveSpec},
    placement::{
        ExclusiveSpec, FallbackKind, OnLossKind, PlacementSpec, RolePlacementSpec, SpreadSpec,
    },
    quantity::QuantityText,
    ratio::{
        OperatingPointSpec, RatioEnforcement, RatioPolicyKind, RatioPreset, RatioRange, RatioSpec,
    },
    reserved::Reserved,
    schedule::{ScheduleSpec, ScheduledBoundsSpec},
    target::{RoleSpec, TargetReference},
    toleration::{NumericTolerationOperator, NumericTolerationSpec, TaintEffect},
    zero::ScaleToZeroSpec,
};
use crate::derives::{CustomResource, JsonSchema, KubeSchema};

/// API group of every resource.
pub const GROUP: &str = "pdautoscaler.io";

/// Remedy when both roles name one workload.
pub(crate) const SAME_TARGET_REMEDY: &str =
    "is the target of both prefill and decode; give each role its own workload";
/// Remedy when a fallback is out of its role's bounds.
pub(crate) const FALLBACK_BOUNDS_REMEDY: &str =
    "must lie within minReplicas and maxReplicas of the role";

/// The prefill and decode workloads of one LLM service, and what they must achieve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pdautoscaler.io",
    version = "v1alpha1",
    kind = "PDAutoscaler",
    plural = "pdautoscalers",
    singular = "pdautoscaler",
    shortname = "pda",
    category = "pdautoscaler",
    namespaced,
    status = "PDAutoscalerStatus",
    derive = "PartialEq",
    doc = "PDAutoscaler scales the prefill and decode workloads of one LLM service together, so that both meet the latency objective with the fewest GPUs.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.mode",
        description = "Off, Recommend or Auto"
    ),
    printcolumn(
        name = "Prefill",
        type_ = "integer",
        json_path = ".status.prefill.currentReplicas",
        description = "Prefill replicas requested now"
    ),
    printcolumn(
        name = "P-Desired",
        type_ = "integer",
        json_path = ".status.prefill.desiredReplicas",
        description = "Prefill replicas of the last decision"
    ),
    printcolumn(
        name = "Decode",
        type_ = "integer",
        json_path = ".status.decode.currentReplicas",
        description = "Decode replicas requested now"
    ),
    printcolumn(
        name = "D-Desired",
        type_ = "integer",
        json_path = ".status.decode.desiredReplicas",
        description = "Decode replicas of the last decision"
    ),
    printcolumn(
        name = "Ratio",
        type_ = "string",
        json_path = ".status.ratio.current",
        description = "Prefill to decode replicas"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether decisions are made and applied"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "TTFT-ms",
        type_ = "integer",
        json_path = ".status.latency.ttftMilliseconds",
        description = "Time to first token at the objective's percentile, milliseconds",
        priority = 1
    ),
    printcolumn(
        name = "TPOT-ms",
        type_ = "integer",
        json_path = ".status.latency.tpotMilliseconds",
        description = "Time per output token at the objective's percentile, milliseconds",
        priority = 1
    ),
    printcolumn(
        name = "Bottleneck",
        type_ = "string",
        json_path = ".status.bottleneck",
        description = "The limit of the service",
        priority = 1
    ),
    printcolumn(
        name = "GPUs",
        type_ = "integer",
        json_path = ".status.gpus.current",
        description = "GPUs of both roles",
        priority = 1
    ),
    printcolumn(
        name = "Decision",
        type_ = "string",
        json_path = ".status.lastDecision.message",
        description = "The last decision and its reason",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule_naming_value(
        &target::distinct_rule(),
        &format!("self.prefill.target.kind + ' `' + self.prefill.target.name + '` {SAME_TARGET_REMEDY}'"),
    ),
    validation = fallback_in_bounds(Role::Prefill),
    validation = fallback_in_bounds(Role::Decode),
    validation = schedule::bounds_do_not_cross(Role::Prefill),
    validation = schedule::bounds_do_not_cross(Role::Decode),
    validation = placement::target_is_known(Role::Prefill),
    validation = placement::target_is_known(Role::Decode),
    validation = placement::least_is_within_bounds(Role::Prefill),
    validation = placement::least_is_within_bounds(Role::Decode),
)]
pub struct PDAutoscalerSpec {
    /// Off: nothing is decided. Recommend: decisions are made and shown in status, and not applied.
    /// Auto: decisions are applied. Default Auto.
    #[serde(default)]
    pub mode: Mode,
    /// The controller that handles this object: the one started with this --controller-class. An
    /// object without a class is handled by the controller without one. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = class::CONTROLLER_CLASS_LENGTH_MAX))]
    #[x_kube(validation = rules::matching("controllerClass", class::CONTROLLER_CLASS_REGEX, CONTROLLER_CLASS_REMEDY))]
    pub controller_class: Option<String>,
    /// The workload that computes prompts.
    pub prefill: RoleSpec,
    /// The workload that generates tokens.
    pub decode: RoleSpec,
    /// Latency limits, and the share of requests that must keep them.
    pub objective: ObjectiveSpec,
    /// How many prefill replicas there are per decode replica. Default: as the traffic needs.
    #[serde(default)]
    pub ratio: RatioSpec,
    /// Where measurements come from. Default: the controller's Prometheus server, engine detected.
    #[serde(default)]
    pub metrics: MetricsSpec,
    /// Capacity of one replica. Default: learnt from the engines' metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<CapacitySpec>,
    /// A limit on the GPUs of both roles together. Default: none but maxReplicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
    /// Where the pods of both roles are placed, together and near each other. It acts in mode Auto,
    /// where the chart's control.placement.enabled is set. Default: the scheduler places each pod
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Box<PlacementSpec>>,
    /// How fast replicas may change: what spec.behavior of a HorizontalPodAutoscaler holds, and
    /// lead. Default: up at once, down after 300 seconds.
    #[serde(default)]
    pub behavior: BehaviorSpec,
    /// Replica bounds that hold at set times. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = schedule::MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub schedules: Vec<ScheduleSpec>,
    /// When both roles go to zero together. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_to_zero: Option<ScaleToZeroSpec>,
    /// Replicas while metrics are missing. Default: they are held.
    #[serde(default)]
    pub on_missing_metrics: MissingMetricsSpec,
}

impl PDAutoscalerSpec {
    /// The spec of one role.
    pub const fn role(&self, role: Role) -> &RoleSpec {
        match role {
            Role::Prefill => &self.prefill,
            Role::Decode => &self.decode,
        }
    }

    /// Whether its pods are to be placed. In modes that change nothing they are not.
    pub fn asks_for_placement(&self) -> bool {
        self.mode == Mode::Auto && self.placement.is_some()
    }

    /// The performance profile that `role` names, if it names one.
    pub fn profile_ref(&self, role: Role) -> Option<&ProfileReference> {
        let capacity = self.capacity.as_ref()?;
        match role {
            Role::Prefill => capacity.prefill.as_ref()?.profile_ref.as_ref(),
            Role::Decode => capacity.decode.as_ref()?.profile_ref.as_ref(),
        }
    }
}

/// A rule that keeps the fallback of `role` inside the role's bounds, unless these cross: that has
/// its own message.
#[cfg(feature = "kube")]
fn fallback_in_bounds(role: Role) -> kube::core::Rule {
    let fallback = format!("self.onMissingMetrics.fallback.{role}");
    rule_naming_value(
        &format!(
            "!has(self.onMissingMetrics.fallback) || self.{role}.minReplicas > self.{role}.maxReplicas || \
             ({fallback} >= self.{role}.minReplicas && {fallback} <= self.{role}.maxReplicas)"
        ),
        &format!(
            "'onMissingMetrics.fallback.{role} `%d` {FALLBACK_BOUNDS_REMEDY} (%d to %d)'\
             .format([{fallback}, self.{role}.minReplicas, self.{role}.maxReplicas])"
        ),
    )
}

/// Use of decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Nothing is decided.
    Off,
    /// Decisions are shown, not applied.
    Recommend,
    /// Decisions are applied.
    #[default]
    Auto,
}

impl Mode {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Recommend => "Recommend",
            Self::Auto => "Auto",
        }
    }
}
