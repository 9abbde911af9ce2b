//! One enum of reasons for the whole product.
//!
//! [`Reason`] names condition reasons, event reasons and the metric label alike, so a word seen in
//! `kubectl describe` can be searched for in Grafana. A new reason is one variant with its
//! sentence.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumMessage, IntoStaticStr, VariantArray};

/// Why something is as it is. `CamelCase` everywhere it is shown.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumMessage,
    IntoStaticStr,
    VariantArray,
)]
pub enum Reason {
    /// The replicas are those that the objective needs.
    Steady,
    /// No request arrives and none is in flight.
    Idle,
    /// The work that arrives.
    Workload,
    /// The performance that one replica is taken to have.
    Capacity,
    /// The work that is expected when replicas requested now will serve.
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
    /// No number of replicas serves enough requests within the limit.
    ObjectiveUnreachable,
    /// The role is busy or its queue stands, so replicas are not lowered.
    StillBusy,
    /// Nothing is learnt yet about a replica, and it is saturated.
    Saturated,
    /// Metrics are missing, so replicas are not lowered.
    MetricsMissing,
    /// Some ready workers are not scraped, so replicas are not lowered.
    MetricsPartial,
    /// Two signals contradict each other, and one of them is not believed.
    SignalsContradict,
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
    /// The GPU budget does not allow the replicas that the objective needs.
    BudgetLimited,
    /// The GPU budget does not even allow the least replicas.
    BudgetInfeasible,
    /// GPUs must be released by the other role before this one grows.
    BudgetWaitsForRelease,
    /// Other services must release GPUs of a shared budget before this one grows.
    BudgetWaitsForOthers,
    /// Replicas go, because others are short of their share of a budget or it is exceeded.
    BudgetReclaimed,
    /// A service shares a budget no longer, and still holds GPUs of it.
    BudgetLeft,
    /// A shared budget could not be read or written, so no GPUs are added.
    BudgetUnsettled,
    /// More GPUs are held than a shared budget has.
    BudgetExceeded,
    /// A ResourceQuota of the namespace has no room for more GPUs.
    QuotaLimited,
    /// The placement group has no room for more replicas.
    PlacementLimited,
    /// The replicas are at their minimum.
    AtMinReplicas,
    /// The objective needs more than the maximum replicas.
    AtMaximum,
    /// The scale-up policies allow no larger step now.
    RateLimitedUp,
    /// The scale-down policies allow no larger step now.
    RateLimitedDown,
    /// Replicas that were taken away are still leaving, so no more of them are.
    WaitsForDrain,
    /// The replicas are above their maximum or beyond the budget, and go down to it in steps.
    BoundsStepDown,
    /// Replicas that were requested did not come, and the scale-up request is cancelled.
    ScaleUpCancelled,
    /// Replicas that were requested do not come, and no more are requested until later.
    ScaleUpBackedOff,
    /// Broken replicas are no capacity, and others are requested in their place.
    BrokenReplaced,
    /// The load may be held up by replicas that are missing, so replicas are not lowered for it.
    LoadHeldUp,
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
    /// The performance of a replica is learnt from the engines' metrics.
    CapacityLearnt,
    /// The performance of a replica is stated, and was read.
    CapacityStated,
    /// The performance profile does not exist.
    ProfileNotFound,
    /// The performance profile holds values that cannot be used.
    ProfileInvalid,
    /// The performance profile could not be read.
    ProfileUnreadable,
    /// The CRD of PDAutoscaler is not installed.
    CrdMissing,
    /// A target does not exist.
    TargetNotFound,
    /// The kind of a target cannot be scaled by this version.
    TargetKindUnsupported,
    /// The cluster does not serve the kind of a target, or not yet.
    TargetKindAbsent,
    /// A target must not be scaled as it is: its system would lose pods or revert the change.
    TargetRefused,
    /// Pods that leave end their requests, as far as their templates show.
    DrainSafe,
    /// Pods that leave lose requests, by a setting of their template.
    DrainUnsafe,
    /// The pods with the least work could not be marked as those that go first.
    VictimsUnmarked,
    /// A target could not be read.
    TargetUnreadable,
    /// A budget counts GPUs, and those of a target's replicas are not known.
    GpusUnknown,
    /// It cannot be read what the process before remembered.
    MemoryUnreadable,
    /// Reading everything took too long.
    ObserveTooSlow,
    /// The controller failed while it decided, which is a bug.
    Panicked,
    /// Another autoscaler scales a target.
    TargetContended,
    /// It could not be read whether another autoscaler scales a target.
    ContentionUnknown,
    /// No other autoscaler scales the targets.
    NotContended,
    /// Every signal that the decision needs is known.
    AllMetricsAvailable,
    /// Prometheus does not answer.
    PrometheusUnreachable,
    /// Prometheus refuses a query.
    QueryInvalid,
    /// The operator of the controller does not allow the server or query that the object names.
    SourceNotAllowed,
    /// A Secret with the login for a server is missing, not lent, or has not the right keys.
    LoginInvalid,
    /// A Secret with the login for a server could not be read.
    LoginUnreadable,
    /// Decisions come when they are due.
    ReconciledOnTime,
    /// Decisions come long after they are due, because the controller or what it waits for is slow.
    ReconciledLate,
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

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name as shown in conditions, events and metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// One sentence of documentation.
    pub fn doc(self) -> &'static str {
        self.get_documentation().unwrap_or_default()
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
