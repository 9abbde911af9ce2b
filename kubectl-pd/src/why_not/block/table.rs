//! The table of reasons that keep replicas from changing, the most important first.
//!
//! A test holds it to the reasons of pd-core, so that none is forgotten.

use pd_api::{ConditionType, ConditionType as C};
use pd_core::Reason;

use super::{
    Block,
    Direction::{self, Both, Down, Up},
    Importance::{self, Delayed, LessKnown, Limited, NotApplied, NotDecided, Stopped},
};

/// Every reason that keeps something back, the most important first.
pub(super) const BLOCKS: &[Block] = &[
    of(
        Reason::CrdMissing,
        NotDecided,
        Both,
        Some(C::Ready),
        "install the CRDs: helm upgrade with crds.enabled=true",
    ),
    of(
        Reason::ModeOff,
        NotDecided,
        Both,
        Some(C::Ready),
        "kubectl pd resume {name}, or set spec.mode to Recommend or Auto",
    ),
    of(
        Reason::SpecInvalid,
        NotDecided,
        Both,
        Some(C::Ready),
        "correct the field that the message names: kubectl edit pda {name}",
    ),
    of(
        Reason::TargetNotFound,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "create the workload in the namespace of {name}, or correct target.name",
    ),
    of(
        Reason::TargetKindAbsent,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "install the system whose kind it is, or correct target.apiVersion and target.kind",
    ),
    of(
        Reason::TargetKindUnsupported,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "name a workload of a kind that docs/systems.md lists",
    ),
    of(
        Reason::TargetRefused,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "do what the message says; docs/systems.md lists what is refused and why",
    ),
    of(
        Reason::TargetUnreadable,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "grant the controller the rights on that kind: helm upgrade with targets.<kind>.enabled=true, then kubectl pd preflight",
    ),
    of(
        Reason::GpusUnknown,
        NotDecided,
        Both,
        Some(C::TargetResolved),
        "state gpusPerReplica of the role, which a budget counts by",
    ),
    of(
        Reason::MemoryUnreadable,
        NotDecided,
        Both,
        Some(C::Ready),
        "grant the controller get, create and patch on pdautoscalercheckpoints: kubectl pd preflight",
    ),
    of(
        Reason::ObserveTooSlow,
        NotDecided,
        Both,
        Some(C::Ready),
        "look at how slow the API server and Prometheus answer, or raise --interval of the controller",
    ),
    of(
        Reason::Panicked,
        NotDecided,
        Both,
        Some(C::Ready),
        "report the message as a bug; the object is tried again at every interval",
    ),
    of(
        Reason::Recommended,
        NotApplied,
        Both,
        Some(C::Ready),
        "kubectl pd resume {name} --to=Auto, once the decisions are as wanted",
    ),
    of(
        Reason::TargetContended,
        NotApplied,
        Both,
        Some(C::TargetContended),
        "delete or stop the other autoscaler that the message names",
    ),
    of(
        Reason::ContentionUnknown,
        NotApplied,
        Both,
        Some(C::TargetContended),
        "grant the controller list on horizontalpodautoscalers and scaledobjects: kubectl pd preflight",
    ),
    of(
        Reason::AuditFailed,
        NotApplied,
        Both,
        Some(C::Ready),
        "report the message as a bug; the replicas stay as they are until then",
    ),
    of(
        Reason::ApplyFailed,
        NotApplied,
        Both,
        Some(C::Ready),
        "remove what the API server says in the message, such as a missing right or a quota: kubectl pd preflight",
    ),
    of(
        Reason::ApplyConflict,
        NotApplied,
        Both,
        Some(C::Ready),
        "find who else writes the replicas: kubectl get --show-managed-fields; it is tried again at every interval",
    ),
    of(
        Reason::AnnotationInvalid,
        Stopped,
        Both,
        Some(C::Paused),
        "give the pause annotation true or false, or remove it: kubectl pd resume {name}",
    ),
    of(
        Reason::Paused,
        Stopped,
        Both,
        Some(C::Paused),
        "kubectl pd resume {name}",
    ),
    of(
        Reason::PrometheusUnreachable,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "give the controller a server that answers: prometheus.url of the chart, or spec.metrics.source.serverUrl",
    ),
    of(
        Reason::LoginInvalid,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "correct the Secret of spec.metrics.source, and label it pdautoscaler.io/prometheus-login=true",
    ),
    of(
        Reason::LoginUnreadable,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "let the operator set tenants.secretReferences=true in the chart",
    ),
    of(
        Reason::SourceNotAllowed,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "let the operator add the address to tenants.allowServerUrls, or remove spec.metrics.source",
    ),
    of(
        Reason::QueryInvalid,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "correct the query of spec.metrics.overrides or spec.scaleToZero.wakeSignal that the message names",
    ),
    of(
        Reason::MetricsMissing,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "let Prometheus scrape the workers, with the labels namespace and pod: workerMonitors of the chart, docs/signals.md",
    ),
    of(
        Reason::MetricsPartial,
        Stopped,
        Down,
        Some(C::MetricsAvailable),
        "let Prometheus scrape every ready worker; new ones come within two scrape intervals",
    ),
    of(
        Reason::SignalsContradict,
        Stopped,
        Down,
        None,
        "compare the signals that the message names; two jobs may scrape different workers",
    ),
    of(
        Reason::WakeSignalMissing,
        Stopped,
        Both,
        Some(C::MetricsAvailable),
        "let spec.scaleToZero.wakeSignal give one value always, such as by: or vector(0)",
    ),
    of(
        Reason::BudgetUnsettled,
        Stopped,
        Up,
        Some(C::ScalingLimited),
        "let the controller read and patch gpubudgets: kubectl pd preflight, kubectl describe gpubudgets",
    ),
    of(
        Reason::QuotaLimited,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "raise the ResourceQuota that the message names: kubectl describe resourcequota",
    ),
    of(
        Reason::PlacementLimited,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "free the domain that the message names, or widen the group's level: kubectl pd explain placementgroup/NAME",
    ),
    of(
        Reason::BudgetInfeasible,
        Limited,
        Both,
        Some(C::BudgetFeasible),
        "raise the budget, or lower minReplicas or gpusPerReplica",
    ),
    of(
        Reason::BudgetReclaimed,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "raise the GPUBudget, or the weight of this service in it",
    ),
    of(
        Reason::BudgetWaitsForOthers,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "wait until the others have released GPUs: kubectl describe gpubudgets shows who holds them",
    ),
    of(
        Reason::BudgetShared,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "raise the GPUBudget, or the weight of this service in it",
    ),
    of(
        Reason::BudgetLimited,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "raise spec.budget.gpus",
    ),
    of(
        Reason::BudgetWaitsForRelease,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "wait until the other role has released its GPUs, or raise the budget",
    ),
    of(
        Reason::ScaleUpCancelled,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "find out why the pods do not come: kubectl get events, kubectl describe pod; it is requested again later",
    ),
    of(
        Reason::ScaleUpBackedOff,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "find out why the pods do not come: kubectl get events, kubectl describe pod; it is requested again later",
    ),
    of(
        Reason::ScheduleConflict,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "let the schedules that overlap set a maxReplicas of at least their minReplicas",
    ),
    of(
        Reason::AtMaximum,
        Limited,
        Up,
        Some(C::ScalingLimited),
        "raise maxReplicas of the role",
    ),
    of(
        Reason::RatioUnreachable,
        Limited,
        Both,
        Some(C::ScalingLimited),
        "widen the ratio band, the replica bounds or the budget; or set ratio.enforcement to Soft",
    ),
    of(
        Reason::ObjectiveUnreachable,
        Limited,
        Up,
        Some(C::ObjectiveMet),
        "raise the limit that the message names, or shorten prompts: more replicas do not help",
    ),
    of(
        Reason::AtMinReplicas,
        Limited,
        Down,
        None,
        "lower minReplicas of the role",
    ),
    of(
        Reason::ZeroNotSafe,
        Limited,
        Down,
        Some(C::ScalingLimited),
        "let spec.scaleToZero.wakeSignal give 0 when nothing waits",
    ),
    of(
        Reason::StillBusy,
        Delayed,
        Down,
        None,
        "wait until the role is no longer busy and its queue is empty",
    ),
    of(
        Reason::LoadHeldUp,
        Delayed,
        Down,
        None,
        "wait until the missing replicas serve; why they do not: kubectl get pods",
    ),
    of(
        Reason::RateLimitedUp,
        Delayed,
        Up,
        Some(C::ScalingLimited),
        "wait for the next period, or raise behavior.scaleUp.policies",
    ),
    of(
        Reason::RateLimitedDown,
        Delayed,
        Down,
        Some(C::ScalingLimited),
        "wait for the next period, or raise behavior.scaleDown.policies",
    ),
    of(
        Reason::BoundsStepDown,
        Delayed,
        Down,
        Some(C::ScalingLimited),
        "wait: replicas go down to the bound in the steps of behavior.scaleDown.policies",
    ),
    of(
        Reason::StabilizingUp,
        Delayed,
        Up,
        None,
        "wait for behavior.scaleUp.stabilizationWindowSeconds, or lower it",
    ),
    of(
        Reason::StabilizingDown,
        Delayed,
        Down,
        None,
        "wait for behavior.scaleDown.stabilizationWindowSeconds, or lower it",
    ),
    of(
        Reason::FlapDamped,
        Delayed,
        Down,
        Some(C::ScalingLimited),
        "wait: the longer window ends when the replicas have been calm for a while",
    ),
    of(
        Reason::WaitsForDrain,
        Delayed,
        Down,
        Some(C::ScalingLimited),
        "wait until the replicas that leave are gone, or lower behavior.scaleDown.drain.timeout",
    ),
    of(
        Reason::WithinTolerance,
        Delayed,
        Both,
        None,
        "lower behavior.scaleUp.tolerance or behavior.scaleDown.tolerance, if so small a change is worth it",
    ),
    of(
        Reason::RatioBand,
        Delayed,
        Down,
        None,
        "widen ratio.tolerancePercent: these replicas keep the ratio in its band",
    ),
    of(
        Reason::ScheduleAhead,
        Delayed,
        Down,
        None,
        "wait for the end of the schedule, or change spec.schedules",
    ),
    of(
        Reason::ReconciledLate,
        Delayed,
        Both,
        Some(C::OnTime),
        "let the operator give the controller more processor time, or find what it waits for in its metrics",
    ),
    of(
        Reason::FallbackReplicas,
        Delayed,
        Down,
        None,
        "wait until metrics are back: the fallback is the floor until then",
    ),
    of(
        Reason::ProfileNotFound,
        LessKnown,
        Both,
        Some(C::CapacityResolved),
        "create the ConfigMap that profileRef names, or remove profileRef",
    ),
    of(
        Reason::ProfileInvalid,
        LessKnown,
        Both,
        Some(C::CapacityResolved),
        "correct the key of the ConfigMap that the message names",
    ),
    of(
        Reason::ProfileUnreadable,
        LessKnown,
        Both,
        Some(C::CapacityResolved),
        "grant the controller get on configmaps: kubectl pd preflight",
    ),
];

const fn of(
    reason: Reason,
    importance: Importance,
    direction: Direction,
    shown_by: Option<ConditionType>,
    remedy: &'static str,
) -> Block {
    Block {
        reason,
        importance,
        direction,
        shown_by,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::VariantArray as _;

    use super::*;

    /// Reasons that keep nothing back: they describe, or report that all is well.
    const NOTHING: &[Reason] = &[
        Reason::Steady,
        Reason::Idle,
        Reason::Workload,
        Reason::Capacity,
        Reason::Forecast,
        Reason::PrefillWork,
        Reason::PrefillForecast,
        Reason::PrefillQueue,
        Reason::PrefillLatency,
        Reason::DecodeWork,
        Reason::DecodeForecast,
        Reason::DecodeQueue,
        Reason::DecodeKvCache,
        Reason::DecodeLatency,
        Reason::OperatingPoint,
        Reason::BudgetLeft,
        Reason::BrokenReplaced,
        Reason::ScheduleActive,
        Reason::ScaledToZero,
        Reason::Waking,
        Reason::ScaleDownCancelled,
        Reason::RoleAloneAtZero,
        Reason::NotPaused,
        Reason::Ready,
        Reason::TargetsFound,
        Reason::CapacityLearnt,
        Reason::CapacityStated,
        Reason::NotContended,
        Reason::AllMetricsAvailable,
        Reason::ReconciledOnTime,
        Reason::DrainSafe,
        Reason::DrainUnsafe,
        Reason::VictimsUnmarked,
        Reason::TooFewRequests,
        Reason::ObjectiveMet,
        Reason::ObjectiveMissed,
        Reason::NotLimited,
        Reason::InBand,
        Reason::FollowsTraffic,
        Reason::WithinBudget,
        Reason::NoBudget,
        Reason::Saturated,
        Reason::BudgetExceeded,
        Reason::RatioBreach,
    ];

    #[test]
    fn every_reason_keeps_something_back_or_nothing() {
        for reason in Reason::ALL {
            let blocks = BLOCKS
                .iter()
                .filter(|block| block.reason == *reason)
                .count();
            let nothing = NOTHING.contains(reason);
            assert_eq!(
                blocks + usize::from(nothing),
                1,
                "{reason}: {blocks} blocks"
            );
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_importance() {
        assert!(BLOCKS.is_sorted_by_key(|block| block.importance));
        let used: BTreeSet<Importance> = BLOCKS.iter().map(|block| block.importance).collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), Importance::VARIANTS);
    }

    #[test]
    fn every_remedy_says_how_to_act_or_that_waiting_is_enough() {
        for block in BLOCKS {
            let remedy = block.remedy;
            assert!(
                remedy.starts_with(|c: char| c.is_ascii_lowercase()),
                "{remedy}"
            );
            assert!(!remedy.ends_with('.'), "{remedy}");
            if remedy.starts_with("wait") {
                let ends = [Delayed, Limited].contains(&block.importance);
                assert!(ends, "{:?} does not end by itself", block.reason);
            }
        }
    }

    #[test]
    fn only_a_delay_may_be_shown_by_no_condition() {
        for block in BLOCKS.iter().filter(|block| block.shown_by.is_none()) {
            assert!(block.importance >= Stopped, "{:?}", block.reason);
        }
    }
}
