//! Why: one typed step per stage of a decision, and one enum of reasons for the whole product.
//!
//! [`Reason`] names condition reasons, event reasons and the metric label alike, so a word seen in
//! `kubectl describe` can be searched for in Grafana. A [`Report`] renders as one paragraph for
//! people and serialises for status and logs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    capacity,
    error_budget::RiskTarget,
    forecast::Forecast,
    policy::{Bounds, RatioPolicy},
    ratio::{Breach, Ratio},
    role::{PerRole, Role},
    signal::inputs::Input,
};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why something is as it is. `CamelCase` everywhere it is shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name as shown in conditions, events and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// One sentence of documentation.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+),)+ }
            }
        }
    };
}

reasons! {
    /// The replicas are what the objective needs.
    Steady,
    /// No request arrives and none is in flight.
    Idle,
    /// What arrives.
    Workload,
    /// What one replica can do.
    Capacity,
    /// How much work is expected when replicas asked for now will serve.
    Forecast,
    /// Arriving prompts need this many prefill replicas for the TTFT objective.
    PrefillWork,
    /// Prompts expected within the lead time need this many prefill replicas.
    PrefillForecast,
    /// Waiting prompts need more prefill replicas to drain.
    PrefillQueue,
    /// Measured TTFT misses the objective and prefill is why.
    PrefillLatency,
    /// Arriving tokens need this many decode replicas for the TPOT objective.
    DecodeWork,
    /// Tokens expected within the lead time need this many decode replicas.
    DecodeForecast,
    /// Requests wait for a decode replica.
    DecodeQueue,
    /// KV-cache blocks in use need this many decode replicas.
    DecodeKvCache,
    /// Measured TPOT misses the objective.
    DecodeLatency,
    /// Nothing is learnt yet about a replica, and it is saturated.
    Saturated,
    /// Metrics are missing, so replicas are not lowered.
    MetricsMissing,
    /// Some ready workers are not scraped, so replicas are not lowered.
    MetricsPartial,
    /// Metrics have been missing for long, and the fallback replicas are the floor.
    FallbackReplicas,
    /// The need is too close to the current replicas to act.
    WithinTolerance,
    /// More replicas must stay needed for the stabilization window first.
    StabilizingUp,
    /// Fewer replicas must stay enough for the stabilization window first.
    StabilizingDown,
    /// Replicas were added to stay inside the ratio band.
    RatioBand,
    /// The ratio lies outside its band.
    RatioBreach,
    /// The ratio band cannot be reached inside the replica bounds and budget.
    RatioUnreachable,
    /// The ratio follows an operating point that was found for traffic like this.
    OperatingPoint,
    /// Services that share a GPU budget leave less than this one needs.
    BudgetShared,
    /// The GPU budget does not allow what the objective needs.
    BudgetLimited,
    /// The GPU budget does not even allow the least replicas.
    BudgetInfeasible,
    /// GPUs must be released by the other role before this one grows.
    BudgetWaitsForRelease,
    /// The replicas are at their minimum.
    AtMinReplicas,
    /// The objective needs more than the maximum replicas.
    AtMaxReplicas,
    /// The scale-up policies allow no larger step now.
    RateLimitedUp,
    /// The scale-down policies allow no larger step now.
    RateLimitedDown,
    /// The replicas are above their maximum and go down to it in steps.
    BoundsStepDown,
    /// Replicas that were asked for did not come, and the ask is taken back.
    ScaleUpCancelled,
    /// Replicas that were asked for do not come, and no more are asked for until later.
    ScaleUpBackedOff,
    /// The replicas went back and forth, so that lowering them waits longer for a while.
    FlapDamped,
    /// A schedule sets the replica bounds now.
    ScheduleActive,
    /// A schedule starts within the lead time, and its minimum holds already.
    ScheduleAhead,
    /// Schedules set a minimum above the maximum, and the maximum gives way.
    ScheduleConflict,
    /// The service has been idle for long enough, and both roles go to zero.
    ScaledToZero,
    /// The idle service cannot go to zero, because it is not known whether requests wait.
    ZeroNotSafe,
    /// Requests wait for a service at zero, and both roles get replicas.
    Waking,
    /// A request arrived while the last replicas of both roles were leaving.
    ScaleDownCancelled,
    /// At zero it is not known whether requests wait.
    WakeSignalMissing,
    /// One role alone was at zero, and gets replicas.
    RoleAloneAtZero,
    /// A person has paused this direction.
    Paused,
    /// Scaling is not paused.
    NotPaused,
    /// The mode is Off: nothing is decided.
    ModeOff,
    /// The mode is Recommend: the decision is shown and not applied.
    Recommended,
    /// Everything works.
    Ready,
    /// The spec holds a value that cannot be used.
    SpecInvalid,
    /// An annotation holds a value that cannot be used.
    AnnotationInvalid,
    /// Both targets exist and can be scaled.
    TargetsFound,
    /// What one replica can do is learnt from the engines' metrics.
    CapacityLearnt,
    /// What one replica can do is stated, and was read.
    CapacityStated,
    /// The performance profile does not exist.
    ProfileNotFound,
    /// The performance profile holds what cannot be used.
    ProfileInvalid,
    /// The performance profile could not be read.
    ProfileUnreadable,
    /// The CRD of PDAutoscaler is not installed.
    CrdMissing,
    /// A target does not exist.
    TargetNotFound,
    /// The kind of a target cannot be scaled by this version.
    TargetKindUnsupported,
    /// A target could not be read.
    TargetUnreadable,
    /// Another autoscaler scales a target.
    TargetContended,
    /// No other autoscaler scales the targets.
    NotContended,
    /// Every signal that the decision needs is known.
    AllMetricsAvailable,
    /// Prometheus does not answer.
    PrometheusUnreachable,
    /// Prometheus refuses a query.
    QueryInvalid,
    /// Too few requests in the window to judge the objective.
    TooFewRequests,
    /// The objective holds over the attainment window.
    ObjectiveMet,
    /// The objective is missed over the attainment window.
    ObjectiveMissed,
    /// Nothing limits the replicas.
    NotLimited,
    /// The ratio lies inside its band.
    InBand,
    /// The ratio follows the traffic.
    FollowsTraffic,
    /// The GPUs of both roles lie inside the budget.
    WithinBudget,
    /// No GPU budget is set.
    NoBudget,
    /// The API server refused or did not take a scale write.
    ApplyFailed,
    /// Somebody else changed the target at the same time.
    ApplyConflict,
    /// The plan breaks an invariant and was not applied: a bug in this program.
    AuditFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stage of a decision, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// What is known.
    Signals,
    /// What arrives.
    Workload,
    /// What one replica can do.
    Capacity,
    /// How much work will come within the lead time.
    Forecast,
    /// Replicas the objective takes.
    Need,
    /// The replica bounds in force: schedules, and scale to zero.
    Bounds,
    /// Whether a need is large and lasting enough.
    Stabilize,
    /// Both roles in ratio, bounds and budget.
    Solve,
    /// How fast replicas may change.
    Guard,
}

impl Stage {
    /// The word used in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Workload => "workload",
            Self::Capacity => "capacity",
            Self::Forecast => "forecast",
            Self::Need => "need",
            Self::Bounds => "bounds",
            Self::Stabilize => "stabilize",
            Self::Solve => "solve",
            Self::Guard => "guard",
        }
    }
}

/// What one stage found or did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// The role it is about; both when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<Role>,
    /// Why.
    pub reason: Reason,
    /// A sentence without its full stop, with the numbers.
    pub message: String,
}

/// Where requests lose time, as far as metrics tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bottleneck {
    /// The objective holds, or nothing is known.
    #[default]
    None,
    /// Prompts wait for a prefill replica.
    PrefillQueue,
    /// Prompts take longer to compute than the limit allows.
    PrefillCompute,
    /// Requests wait for decode admission: KV cache or batch is full.
    DecodeAdmission,
    /// Decode steps are slow because batches are large.
    DecodeBatch,
    /// Between the roles: KV transfer. More replicas do not help.
    KvTransfer,
    /// Before the engines: the gateway holds requests that the engines answer in time.
    Outside,
}

impl Bottleneck {
    /// The name as shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::PrefillQueue => "PrefillQueue",
            Self::PrefillCompute => "PrefillCompute",
            Self::DecodeAdmission => "DecodeAdmission",
            Self::DecodeBatch => "DecodeBatch",
            Self::KvTransfer => "KvTransfer",
            Self::Outside => "Outside",
        }
    }
}

/// Measured values worth showing beside a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Requests per second that arrive.
    pub arrival_rate_rps: Option<f64>,
    /// TTFT at the objective's percentile, seconds: the prefill quantile plus the decode mean.
    pub ttft_seconds: Option<f64>,
    /// TPOT at the objective's percentile, seconds.
    pub tpot_seconds: Option<f64>,
    /// Share of requests within the TTFT limit over the attainment window, 0 to 1.
    pub ttft_attainment: Option<f64>,
    /// Share of requests within the TPOT limit over the attainment window, 0 to 1.
    pub tpot_attainment: Option<f64>,
    /// Prompt tokens per request, mean.
    pub prompt_tokens_mean: Option<f64>,
    /// Output tokens per request, mean.
    pub output_tokens_mean: Option<f64>,
}

/// Replicas of both roles after one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The stage.
    pub stage: Stage,
    /// Replicas; nothing where the stage cannot say.
    pub replicas: PerRole<Option<u32>>,
}

/// How long replicas of a role take from being asked for to serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadTime {
    /// Half of them take no longer, seconds.
    pub p50_seconds: f64,
    /// Nine of ten take no longer, seconds.
    pub p90_seconds: f64,
    /// Measured replicas that this rests on; 0 means that it is assumed.
    pub samples: u32,
}

/// What a replica of a role was taken to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleCapacity {
    /// Where its times come from.
    pub source: capacity::Source,
    /// Multiple of them that is measured.
    pub factor: f64,
    /// Their relative error, one standard deviation, from 0 to 1.
    pub error: f64,
}

/// The P:D ratio as judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatioReport {
    /// The policy in force; nothing when the ratio follows the traffic.
    pub policy: Option<RatioPolicy>,
    /// The ratio that the traffic asks for, smoothed.
    pub traffic: Option<Ratio>,
    /// The band is left, since when and why.
    pub breach: Option<Breach>,
    /// The operating point in force, if there are any.
    pub operating_point: Option<String>,
}

/// Why a plan is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The reason that decided.
    pub reason: Reason,
    /// What every stage found or did.
    pub steps: Vec<Step>,
    /// Measured values.
    pub observed: Observed,
    /// Replicas the objective needs, before any limit; nothing when not known.
    pub need: PerRole<Option<u32>>,
    /// What each stage made of the need, in their order.
    pub proposals: Vec<Proposal>,
    /// What was read, with ages and samples.
    pub inputs: Vec<Input>,
    /// Whether every signal needed for a full decision about the role is known.
    pub metrics_complete: PerRole<bool>,
    /// How careful sizing was, and what is left of the error budget.
    pub risk_target: PerRole<RiskTarget>,
    /// What a replica was taken to do.
    pub capacity: PerRole<RoleCapacity>,
    /// Work expected when replicas asked for now serve: of prefill in busy replicas, of decode in tokens
    /// per second.
    pub forecast: PerRole<Option<Forecast>>,
    /// How long replicas take from being asked for to serving.
    pub lead: PerRole<LeadTime>,
    /// Replica bounds in force.
    pub bounds: PerRole<Bounds>,
    /// The ratio band in force, and since when it is left and why.
    pub ratio: RatioReport,
    /// Where requests lose time.
    pub bottleneck: Bottleneck,
    /// Replicas before.
    pub from: PerRole<u32>,
    /// Replicas after.
    pub to: PerRole<u32>,
}

impl Report {
    /// Whether some step has `reason`.
    pub fn has(&self, reason: Reason) -> bool {
        self.steps.iter().any(|step| step.reason == reason)
    }

    /// The first step with `reason`.
    pub fn step(&self, reason: Reason) -> Option<&Step> {
        self.steps.iter().find(|step| step.reason == reason)
    }

    /// What changes, in a few words: `prefill 4 -> 6, decode stays 8`.
    pub fn headline(&self) -> String {
        let change = |role: Role| {
            let (from, to) = (*self.from.get(role), *self.to.get(role));
            if from == to {
                format!("{role} stays {to}")
            } else {
                format!("{role} {from} -> {to}")
            }
        };
        format!("{}, {}", change(Role::Prefill), change(Role::Decode))
    }

    /// The whole report as one paragraph.
    pub fn paragraph(&self) -> String {
        use fmt::Write as _;
        let mut text = format!("{} ({})", self.headline(), self.reason);
        for step in &self.steps {
            let separator = if step.stage == Stage::Signals {
                ". Known: "
            } else {
                ". "
            };
            let role = step.role.map_or(String::new(), |role| format!("{role}: "));
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{role}{}", step.message);
        }
        text.push('.');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_unique_camel_case_words_that_explain_themselves() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let name = reason.as_str();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(
                reason.doc().trim_end().ends_with('.'),
                "{name}: {}",
                reason.doc()
            );
            assert!(
                !Reason::ALL[..index].contains(reason),
                "{name} is listed twice"
            );
        }
    }
}
