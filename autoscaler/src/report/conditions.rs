//! Conditions of a reconcile: one finding for each that can be judged.

mod drain;
pub mod lateness;

use pd_api::{
    ConditionState::{self, False, True, Unknown},
    ConditionType,
    condition::Finding,
};
use pd_core::{PerRole, Reason, Report, policy::Policy};
use pd_signals::{profile::ProfileError, stated::Origin};
use pd_systems::refusal::Refusal;

use self::drain::{drain_safe, target_resolved};
use super::sentence::with_role;
use crate::{
    apply::scale::ScaleError,
    cluster::Unseen,
    observe::target::TargetError,
    outcome::{Applied, ApplyOutcome, ReconcileOutcome, Stopped},
    prometheus::QueryError,
    workload::WorkloadError,
};

fn finding(
    condition: ConditionType,
    state: ConditionState,
    reason: Reason,
    message: impl Into<String>,
) -> Finding {
    Finding {
        condition,
        state,
        reason,
        message: message.into(),
    }
}

/// Every condition that `outcome` decides.
pub fn findings(outcome: &ReconcileOutcome) -> Vec<Finding> {
    let mut findings = vec![ready(outcome)];
    match outcome {
        Err(
            Stopped::Off
            | Stopped::Undecodable(_)
            | Stopped::Invalid(_)
            | Stopped::MemoryUnreadable(_)
            | Stopped::TooSlow(_)
            | Stopped::Panicked(_),
        ) => {}
        Err(Stopped::Untargeted { role, error }) => {
            let message = format!("{role}: {error}");
            findings.push(finding(
                ConditionType::TargetResolved,
                False,
                target_reason(error),
                message,
            ));
        }
        Ok(applied) => findings.extend(of_decision(applied)),
    }
    findings
}

/// The condition that sums up the others.
pub fn ready(outcome: &ReconcileOutcome) -> Finding {
    let of = |state, reason, message: String| finding(ConditionType::Ready, state, reason, message);
    match outcome {
        Err(Stopped::Off) => of(
            False,
            Reason::ModeOff,
            "spec.mode is Off: nothing is decided".to_owned(),
        ),
        Err(Stopped::Undecodable(error)) => of(False, Reason::SpecInvalid, error.clone()),
        Err(Stopped::Invalid(errors)) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            of(False, Reason::SpecInvalid, texts.join("; "))
        }
        Err(Stopped::Untargeted { role, error }) => {
            of(False, target_reason(error), format!("{role}: {error}"))
        }
        Err(Stopped::MemoryUnreadable(error)) => of(
            False,
            Reason::MemoryUnreadable,
            format!(
                "the PDAutoscalerCheckpoint cannot be read, nothing is decided until then: {error}"
            ),
        ),
        Err(Stopped::TooSlow(limit)) => of(
            False,
            Reason::ObserveTooSlow,
            format!(
                "targets and metrics could not all be read within {limit:?}, nothing is decided"
            ),
        ),
        Err(Stopped::Panicked(words)) => of(
            False,
            Reason::Panicked,
            format!("nothing is decided, this is a bug: {words}"),
        ),
        Ok(applied) => ready_when_decided(applied),
    }
}

fn ready_when_decided(applied: &Applied) -> Finding {
    let of = |state, reason, message: String| finding(ConditionType::Ready, state, reason, message);
    match &applied.outcome {
        ApplyOutcome::Failed(_, error) => of(False, apply_reason(error), error.to_string()),
        ApplyOutcome::Contended(text) => of(False, Reason::TargetContended, text.clone()),
        ApplyOutcome::ContentionUnknown(error) => {
            of(False, Reason::ContentionUnknown, contention_unknown(error))
        }
        ApplyOutcome::AuditFailed(findings) => {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let message = format!(
                "the plan was not applied, this is a bug: {}; {}",
                texts.join("; "),
                applied.decision.report.paragraph()
            );
            of(False, Reason::AuditFailed, message)
        }
        ApplyOutcome::Applied(_) | ApplyOutcome::Recommended(_) => {
            let metrics = metrics_available(applied);
            if metrics.state == False {
                return of(False, metrics.reason, metrics.message);
            }
            let recommended = matches!(applied.outcome, ApplyOutcome::Recommended(_));
            let (reason, text) = if recommended {
                (
                    Reason::Recommended,
                    "decisions are made and, in mode Recommend, not applied",
                )
            } else {
                (Reason::Ready, "decisions are made and applied")
            };
            of(True, reason, text.to_owned())
        }
    }
}

fn contention_unknown(error: &Unseen) -> String {
    format!(
        "whether another autoscaler scales a target cannot be read, and nothing is applied until then: {error}"
    )
}

fn apply_reason(error: &ScaleError) -> Reason {
    match error {
        ScaleError::Conflict { .. } | ScaleError::VersionConflict { .. } => Reason::ApplyConflict,
        ScaleError::Refused { .. } | ScaleError::NotLeading => Reason::ApplyFailed,
        ScaleError::Target(error) => target_reason(error),
        ScaleError::Workload(error) => workload_reason(error),
    }
}

fn target_reason(error: &TargetError) -> Reason {
    match error {
        TargetError::KindUnsupported(_) => Reason::TargetKindUnsupported,
        TargetError::NotFound { .. } => Reason::TargetNotFound,
        TargetError::Unreadable { .. } | TargetError::Selector { .. } => Reason::TargetUnreadable,
        TargetError::GpusUnknown { .. } => Reason::GpusUnknown,
        TargetError::Workload(error) => workload_reason(error),
    }
}

fn workload_reason(error: &WorkloadError) -> Reason {
    match error {
        WorkloadError::Refused(Refusal::Moved { .. }) | WorkloadError::VersionConflict { .. } => {
            Reason::ApplyConflict
        }
        WorkloadError::Refused(Refusal::Contended(_)) => Reason::TargetContended,
        WorkloadError::Refused(_) => Reason::TargetRefused,
        WorkloadError::KindAbsent { .. } => Reason::TargetKindAbsent,
        WorkloadError::NotFound { .. } => Reason::TargetNotFound,
        WorkloadError::Unreadable { .. } => Reason::TargetUnreadable,
        WorkloadError::Unwritable { .. } | WorkloadError::NotLeading => Reason::ApplyFailed,
    }
}

fn of_decision(applied: &Applied) -> Vec<Finding> {
    vec![
        target_resolved(applied),
        capacity_resolved(applied),
        metrics_available(applied),
        objective_met(applied),
        scaling_limited(&applied.decision.report),
        ratio_in_band(applied),
        budget_feasible(applied),
        contended(applied),
        paused(applied),
        drain_safe(applied),
    ]
}

fn metrics_available(applied: &Applied) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::MetricsAvailable, state, reason, message)
    };
    if let Some(error) = &applied.metrics_error {
        let reason = match error {
            QueryError::NotAllowed { .. } => Reason::SourceNotAllowed,
            QueryError::LoginInvalid { .. } => Reason::LoginInvalid,
            QueryError::LoginUnreadable { .. } => Reason::LoginUnreadable,
            QueryError::Partial { .. } => Reason::MetricsPartial,
            error if error.is_query_at_fault() => Reason::QueryInvalid,
            _ => Reason::PrometheusUnreachable,
        };
        let message = format!("{}; replicas are not lowered", error.for_tenant());
        return of(False, reason, message);
    }
    let report = &applied.decision.report;
    let step = |reason| report.step(reason).map(with_role);
    if let Some(message) = step(Reason::WakeSignalMissing) {
        return of(False, Reason::WakeSignalMissing, message);
    }
    if is_waking(applied) {
        let message = "no replica serves yet since the service was woken".to_owned();
        return of(Unknown, Reason::MetricsMissing, message);
    }
    if let Some(message) = step(Reason::MetricsMissing) {
        let none_found = applied.sources.engine_missing.as_ref();
        let names = none_found.map_or(String::new(), |names| format!("; {names}"));
        return of(False, Reason::MetricsMissing, format!("{message}{names}"));
    }
    // New workers are scraped a moment after they are ready; a condition must not flap for that.
    if let Some(message) = step(Reason::MetricsPartial) {
        return of(True, Reason::MetricsPartial, message);
    }
    let notes = [
        &applied.sources.scraped_twice,
        &applied.sources.gateway_note,
    ];
    let mut note = String::new();
    for text in notes.into_iter().flatten() {
        note.extend(["; ", text]);
    }
    of(
        True,
        Reason::AllMetricsAvailable,
        format!("every signal a decision needs is known{note}"),
    )
}

/// Whether a service that may go to zero is on its way back: what does not serve yet has no
/// metrics, and that is no alarm.
fn is_waking(applied: &Applied) -> bool {
    let none_serves = applied
        .snapshot
        .roles
        .iter()
        .all(|(_, state)| state.ready == 0);
    let none_is_stuck = applied
        .snapshot
        .roles
        .iter()
        .all(|(_, state)| state.stuck.is_none());
    applied.snapshot.policy.scale_to_zero.is_some() && none_serves && none_is_stuck
}

fn capacity_resolved(applied: &Applied) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::CapacityResolved, state, reason, message)
    };
    let stated = &applied.stated;
    if let Some((_, first)) = stated.errors.first() {
        let reason = match first {
            ProfileError::NotFound { .. } => Reason::ProfileNotFound,
            ProfileError::Unreadable { .. } => Reason::ProfileUnreadable,
            _ => Reason::ProfileInvalid,
        };
        let errors = stated.errors.iter();
        let texts: Vec<String> = errors
            .map(|(role, error)| format!("{role}: {error}; until then it is learnt from metrics"))
            .collect();
        return of(False, reason, texts.join("; "));
    }
    let sources = stated.origin.iter().map(|(role, origin)| match origin {
        Origin::Learnt => format!("{role} is learnt from the engines' metrics"),
        Origin::Coefficients => format!("{role} has coefficients"),
        Origin::ConfigMap(name) => format!("{role} has a profile in ConfigMap `{name}`"),
    });
    let reason = match stated.profile {
        Some(_) => Reason::CapacityStated,
        None => Reason::CapacityLearnt,
    };
    of(True, reason, sources.collect::<Vec<_>>().join(", "))
}

fn objective_met(applied: &Applied) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::ObjectiveMet, state, reason, message)
    };
    let report = &applied.decision.report;
    let observed = &report.observed;
    let target = applied.snapshot.policy.objective.attainment;
    let unreachable = report.step(Reason::ObjectiveUnreachable).map(with_role);
    let (Some(ttft), Some(tpot)) = (observed.ttft_attainment, observed.tpot_attainment) else {
        if let Some(message) = unreachable {
            return of(False, Reason::ObjectiveUnreachable, message);
        }
        let message = "too few requests in the attainment window to judge".to_owned();
        return of(Unknown, Reason::TooFewRequests, message);
    };
    let percent = f64::from(target.percent);
    let met = ttft * 100.0 >= percent && tpot * 100.0 >= percent;
    let left = applied
        .error_budget_left()
        .map_or_else(String::new, |left| {
            format!(", and {:.0} % of the error budget is left", left * 100.0)
        });
    if let (false, Some(unreachable)) = (met, &unreachable) {
        return of(False, Reason::ObjectiveUnreachable, unreachable.clone());
    }
    let message = format!(
        "{:.2} % of requests kept the TTFT limit and {:.2} % the TPOT limit over {} s; {} % is the objective{left}",
        ttft * 100.0,
        tpot * 100.0,
        target.window.as_secs(),
        target.percent
    );
    let reason = if met {
        Reason::ObjectiveMet
    } else {
        Reason::ObjectiveMissed
    };
    of(met.into(), reason, message)
}

fn scaling_limited(report: &Report) -> Finding {
    let limits = [
        Reason::BudgetUnsettled,
        Reason::QuotaLimited,
        Reason::PlacementLimited,
        Reason::BudgetReclaimed,
        Reason::BudgetWaitsForOthers,
        Reason::BudgetInfeasible,
        Reason::BudgetShared,
        Reason::BudgetLimited,
        Reason::BudgetWaitsForRelease,
        Reason::ScaleUpCancelled,
        Reason::ScaleUpBackedOff,
        Reason::ScheduleConflict,
        Reason::AtMaximum,
        Reason::RatioUnreachable,
        Reason::BoundsStepDown,
        Reason::RateLimitedUp,
        Reason::RateLimitedDown,
        Reason::WaitsForDrain,
        Reason::Paused,
        Reason::FlapDamped,
        Reason::ZeroNotSafe,
    ];
    let limit = limits.into_iter().find_map(|reason| report.step(reason));
    match limit {
        Some(step) => finding(
            ConditionType::ScalingLimited,
            True,
            step.reason,
            with_role(step),
        ),
        None => finding(
            ConditionType::ScalingLimited,
            False,
            Reason::NotLimited,
            "replicas are what the objective needs",
        ),
    }
}

fn ratio_in_band(applied: &Applied) -> Finding {
    let PerRole { prefill, decode } = applied.decision.plan.replicas;
    let of = |state, reason, message: String| {
        finding(ConditionType::RatioInBand, state, reason, message)
    };
    let ratio = &applied.decision.report.ratio;
    if (prefill, decode) == (0, 0) {
        let message = "both roles are at zero, where there is no ratio".to_owned();
        return of(True, Reason::ScaledToZero, message);
    }
    let Some(policy) = ratio.policy else {
        let needed = ratio.traffic.map_or_else(String::new, |traffic| {
            format!(", which needs about {traffic}")
        });
        let message = format!("{prefill}:{decode} follows the traffic{needed}");
        return of(True, Reason::FollowsTraffic, message);
    };
    let (least, most) = policy.band.bounds();
    let point = ratio
        .operating_point
        .as_ref()
        .map_or_else(String::new, |name| format!(" of operating point `{name}`"));
    let band = format!("the band{point} of {least:.2} to {most:.2} prefill per decode");
    match ratio.breach {
        None => of(
            True,
            Reason::InBand,
            format!("{prefill}:{decode} lies inside {band}"),
        ),
        Some(_) if policy.band.contains(prefill, decode) => {
            let message = format!("{prefill}:{decode} is back inside {band}, and not yet for long");
            of(False, Reason::RatioBreach, message)
        }
        Some(breach) => {
            let message = format!(
                "{prefill}:{decode} lies outside {band}: {}",
                breach.cause.as_text()
            );
            of(False, Reason::RatioBreach, message)
        }
    }
}

fn budget_feasible(applied: &Applied) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::BudgetFeasible, state, reason, message)
    };
    let Some(budget) = applied.snapshot.policy.budget_gpus else {
        return of(True, Reason::NoBudget, "no budget is set".to_owned());
    };
    if let Some(step) = applied.decision.report.step(Reason::BudgetInfeasible) {
        return of(False, Reason::BudgetInfeasible, step.message.clone());
    }
    let per_replica = applied.snapshot.roles.map(|state| state.gpus_per_replica);
    let gpus = Policy::gpus(applied.decision.plan.replicas, per_replica);
    of(
        True,
        Reason::WithinBudget,
        format!("{gpus} of {budget} GPUs"),
    )
}

fn contended(applied: &Applied) -> Finding {
    match &applied.outcome {
        ApplyOutcome::Contended(text) => finding(
            ConditionType::TargetContended,
            True,
            Reason::TargetContended,
            text.clone(),
        ),
        ApplyOutcome::ContentionUnknown(error) => finding(
            ConditionType::TargetContended,
            Unknown,
            Reason::ContentionUnknown,
            contention_unknown(error),
        ),
        ApplyOutcome::Recommended(Some(text)) => finding(
            ConditionType::TargetContended,
            False,
            Reason::NotContended,
            format!("in mode Recommend nothing is written; {text}"),
        ),
        _ => finding(
            ConditionType::TargetContended,
            False,
            Reason::NotContended,
            "no other autoscaler scales the targets",
        ),
    }
}

fn paused(applied: &Applied) -> Finding {
    let paused = applied.snapshot.paused;
    if let Some(error) = applied.annotation_errors.first() {
        return finding(
            ConditionType::Paused,
            True,
            Reason::AnnotationInvalid,
            error.to_string(),
        );
    }
    let message = match (paused.scale_up, paused.scale_down) {
        (true, true) => "scaling up and down is paused by annotation",
        (true, false) => "scaling up is paused by annotation",
        (false, true) => "scaling down is paused by annotation",
        (false, false) => "nothing is paused",
    };
    let any = paused.scale_up || paused.scale_down;
    let reason = if any {
        Reason::Paused
    } else {
        Reason::NotPaused
    };
    finding(ConditionType::Paused, any.into(), reason, message)
}

#[cfg(test)]
mod tests;
