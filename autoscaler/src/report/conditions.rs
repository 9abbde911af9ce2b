//! Conditions of a pass: one finding for each that can be judged.

use pd_api::{
    ConditionState::{self, False, True, Unknown},
    ConditionType,
    condition::Finding,
};
use pd_core::{PerRole, Reason, Report, policy::Policy};
use pd_signals::{profile::ProfileError, stated::Origin};

use super::{Decided, Fate, Outcome, sentence::told, status::error_budget_left};
use crate::observe::target::TargetError;

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

/// Every condition that `outcome` says something about.
pub fn findings(outcome: &Outcome) -> Vec<Finding> {
    let mut findings = vec![ready(outcome)];
    match outcome {
        Outcome::Off | Outcome::Undecodable(_) | Outcome::Invalid(_) => {}
        Outcome::Untargeted { role, error } => {
            let message = format!("{role}: {error}");
            findings.push(finding(
                ConditionType::TargetResolved,
                False,
                target_reason(error),
                message,
            ));
        }
        Outcome::Decided(decided) => findings.extend(of_decision(decided)),
    }
    findings
}

/// The summary.
pub fn ready(outcome: &Outcome) -> Finding {
    let of = |state, reason, message: String| finding(ConditionType::Ready, state, reason, message);
    match outcome {
        Outcome::Off => of(
            False,
            Reason::ModeOff,
            "spec.mode is Off: nothing is decided".to_owned(),
        ),
        Outcome::Undecodable(error) => of(False, Reason::SpecInvalid, error.clone()),
        Outcome::Invalid(errors) => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            of(False, Reason::SpecInvalid, texts.join("; "))
        }
        Outcome::Untargeted { role, error } => {
            of(False, target_reason(error), format!("{role}: {error}"))
        }
        Outcome::Decided(decided) => ready_when_decided(decided),
    }
}

fn ready_when_decided(decided: &Decided) -> Finding {
    let of = |state, reason, message: String| finding(ConditionType::Ready, state, reason, message);
    match &decided.fate {
        Fate::Failed(_, error) => of(False, apply_reason(error), error.to_string()),
        Fate::Contended(text) => of(False, Reason::TargetContended, text.clone()),
        Fate::Refused(findings) => {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let message = format!(
                "the plan was not applied, this is a bug: {}; {}",
                texts.join("; "),
                decided.decision.report.paragraph()
            );
            of(False, Reason::AuditFailed, message)
        }
        Fate::Applied(_) | Fate::Recommended => {
            let metrics = metrics_available(decided);
            if metrics.state == False {
                return of(False, metrics.reason, metrics.message);
            }
            let recommended = matches!(decided.fate, Fate::Recommended);
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

fn apply_reason(error: &crate::apply::ApplyError) -> Reason {
    use crate::apply::ApplyError;
    match error {
        ApplyError::Conflict { .. } | ApplyError::Contended { .. } => Reason::ApplyConflict,
        ApplyError::Refused { .. } | ApplyError::NotLeading => Reason::ApplyFailed,
        ApplyError::Target(error) => target_reason(error),
    }
}

fn target_reason(error: &TargetError) -> Reason {
    match error {
        TargetError::KindUnsupported(_) => Reason::TargetKindUnsupported,
        TargetError::NotFound { .. } => Reason::TargetNotFound,
        TargetError::Unreadable { .. } | TargetError::Selector { .. } => Reason::TargetUnreadable,
    }
}

fn of_decision(decided: &Decided) -> Vec<Finding> {
    let resolved = "both targets exist and can be scaled";
    vec![
        finding(
            ConditionType::TargetResolved,
            True,
            Reason::TargetsFound,
            resolved,
        ),
        capacity_resolved(decided),
        metrics_available(decided),
        objective_met(decided),
        scaling_limited(&decided.decision.report),
        ratio_in_band(decided),
        budget_feasible(decided),
        contended(decided),
        paused(decided),
    ]
}

fn metrics_available(decided: &Decided) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::MetricsAvailable, state, reason, message)
    };
    if let Some(error) = &decided.metrics_error {
        let reason = if error.is_query_at_fault() {
            Reason::QueryInvalid
        } else {
            Reason::PrometheusUnreachable
        };
        return of(False, reason, format!("{error}; replicas are not lowered"));
    }
    let report = &decided.decision.report;
    let step = |reason| report.step(reason).map(told);
    if let Some(message) = step(Reason::WakeSignalMissing) {
        return of(False, Reason::WakeSignalMissing, message);
    }
    if is_waking(decided) {
        let message = "no replica serves yet since the service was woken".to_owned();
        return of(Unknown, Reason::MetricsMissing, message);
    }
    if let Some(message) = step(Reason::MetricsMissing) {
        return of(False, Reason::MetricsMissing, message);
    }
    // New workers are scraped a moment after they are ready; a condition must not flap for that.
    if let Some(message) = step(Reason::MetricsPartial) {
        return of(True, Reason::MetricsPartial, message);
    }
    of(
        True,
        Reason::AllMetricsAvailable,
        "every signal a decision needs is known".to_owned(),
    )
}

/// Whether a service that may go to zero is on its way back: what does not serve yet has no metrics,
/// and that is no alarm.
fn is_waking(decided: &Decided) -> bool {
    let none_serves = decided
        .snapshot
        .roles
        .iter()
        .all(|(_, state)| state.ready == 0);
    let none_is_stuck = decided
        .snapshot
        .roles
        .iter()
        .all(|(_, state)| state.stuck.is_none());
    decided.snapshot.policy.scale_to_zero.is_some() && none_serves && none_is_stuck
}

fn capacity_resolved(decided: &Decided) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::CapacityResolved, state, reason, message)
    };
    let stated = &decided.stated;
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

fn objective_met(decided: &Decided) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::ObjectiveMet, state, reason, message)
    };
    let observed = &decided.decision.report.observed;
    let target = decided.snapshot.policy.objective.attainment;
    let (Some(ttft), Some(tpot)) = (observed.ttft_attainment, observed.tpot_attainment) else {
        let message = "too few requests in the attainment window to judge".to_owned();
        return of(Unknown, Reason::TooFewRequests, message);
    };
    let percent = f64::from(target.percent);
    let met = ttft * 100.0 >= percent && tpot * 100.0 >= percent;
    let left = error_budget_left(&decided.decision.report).map_or_else(String::new, |left| {
        format!(", and {:.0} % of the error budget is left", left * 100.0)
    });
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
        Reason::BudgetInfeasible,
        Reason::BudgetShared,
        Reason::BudgetLimited,
        Reason::BudgetWaitsForRelease,
        Reason::ScaleUpCancelled,
        Reason::ScaleUpBackedOff,
        Reason::ScheduleConflict,
        Reason::AtMaxReplicas,
        Reason::RatioUnreachable,
        Reason::BoundsStepDown,
        Reason::RateLimitedUp,
        Reason::RateLimitedDown,
        Reason::Paused,
        Reason::FlapDamped,
        Reason::ZeroNotSafe,
    ];
    let limit = limits.into_iter().find_map(|reason| report.step(reason));
    match limit {
        Some(step) => finding(ConditionType::ScalingLimited, True, step.reason, told(step)),
        None => finding(
            ConditionType::ScalingLimited,
            False,
            Reason::NotLimited,
            "replicas are what the objective needs",
        ),
    }
}

fn ratio_in_band(decided: &Decided) -> Finding {
    let PerRole { prefill, decode } = decided.decision.plan.replicas;
    let of = |state, reason, message: String| {
        finding(ConditionType::RatioInBand, state, reason, message)
    };
    let ratio = &decided.decision.report.ratio;
    if (prefill, decode) == (0, 0) {
        let message = "both roles are at zero, where there is no ratio".to_owned();
        return of(True, Reason::ScaledToZero, message);
    }
    let Some(policy) = ratio.policy else {
        let told = ratio.traffic.map_or_else(String::new, |traffic| {
            format!(", which asks for about {traffic}")
        });
        let message = format!("{prefill}:{decode} follows the traffic{told}");
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

fn budget_feasible(decided: &Decided) -> Finding {
    let of = |state, reason, message: String| {
        finding(ConditionType::BudgetFeasible, state, reason, message)
    };
    let Some(budget) = decided.snapshot.policy.budget_gpus else {
        return of(True, Reason::NoBudget, "no budget is set".to_owned());
    };
    if let Some(step) = decided.decision.report.step(Reason::BudgetInfeasible) {
        return of(False, Reason::BudgetInfeasible, step.message.clone());
    }
    let per_replica = decided.snapshot.roles.map(|state| state.gpus_per_replica);
    let gpus = Policy::gpus(decided.decision.plan.replicas, per_replica);
    of(
        True,
        Reason::WithinBudget,
        format!("{gpus} of {budget} GPUs"),
    )
}

fn contended(decided: &Decided) -> Finding {
    match &decided.fate {
        Fate::Contended(text) => finding(
            ConditionType::TargetContended,
            True,
            Reason::TargetContended,
            text.clone(),
        ),
        _ => finding(
            ConditionType::TargetContended,
            False,
            Reason::NotContended,
            "no other autoscaler scales the targets",
        ),
    }
}

fn paused(decided: &Decided) -> Finding {
    let paused = decided.snapshot.paused;
    if let Some(error) = decided.annotation_errors.first() {
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
