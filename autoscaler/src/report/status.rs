//! The status object, and whether it is worth a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use pd_api::{
    condition::{self, ConditionState, ConditionType, Finding},
    v1alpha1::{
        AttainmentStatus, GpuStatus, LastDecision, LatencyStatus, LeadTimeStatus,
        PDAutoscalerStatus, RatioStatus, RoleStatus, SchedulesStatus, StepStatus,
        status::{MESSAGE_LENGTH_MAX, STEPS_MAX, percent_text, truncated},
    },
};
use pd_core::{
    PerRole, Role, Timestamp, capacity::Source, policy::Policy, report::LeadTime, schedule,
};
use pd_signals::stated::Origin;

use super::{conditions::findings, sentence};
use crate::outcome::{Applied, ApplyOutcome, ReconcileOutcome, Stopped};

/// The status after a reconcile, from the status before.
pub fn status(
    before: Option<&PDAutoscalerStatus>,
    outcome: &ReconcileOutcome,
    on_time: Finding,
    generation: i64,
    now: &Time,
) -> PDAutoscalerStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = Some(generation);
    let mut findings = findings(outcome);
    if !(outcome.as_ref()).is_err_and(Stopped::is_lasting) {
        findings.push(on_time);
    }
    for finding in &findings {
        condition::set(&mut status.conditions, finding, generation, now);
    }
    match outcome {
        Ok(applied) => describe(&mut status, applied, now),
        Err(stopped) => {
            for finding in undecided(&status.conditions, &findings) {
                condition::set(&mut status.conditions, &finding, generation, now);
            }
            if stopped.is_lasting() {
                clear(&mut status);
            }
        }
    }
    status
}

/// Findings for conditions of an earlier decision that this outcome says nothing about: nobody
/// knows whether they still hold.
fn undecided(conditions: &[Condition], findings: &[Finding]) -> Vec<Finding> {
    let (Some(ready), all) = (findings.first(), ConditionType::ALL) else {
        return Vec::new();
    };
    let is_said = |kind| findings.iter().any(|finding| finding.condition == kind);
    let stale = all
        .into_iter()
        .filter(|&kind| !is_said(kind) && condition::get(conditions, kind).is_some());
    let unknown = |condition| Finding {
        condition,
        state: ConditionState::Unknown,
        reason: ready.reason,
        message: "nothing is decided".to_owned(),
    };
    stale.map(unknown).collect()
}

/// Removes the numbers of the last decision, which would read as if they were of now. The last
/// decision with its time and the engine stay.
fn clear(status: &mut PDAutoscalerStatus) {
    status.prefill = None;
    status.decode = None;
    status.ratio = None;
    status.gpus = None;
    status.latency = None;
    status.attainment = None;
    status.bottleneck = None;
    status.schedules = None;
}

fn describe(status: &mut PDAutoscalerStatus, applied: &Applied, now: &Time) {
    let report = &applied.decision.report;
    let desired = applied.decision.plan.replicas;
    status.prefill = Some(role_status(applied, Role::Prefill));
    status.decode = Some(role_status(applied, Role::Decode));
    // Replicas as requested of the workloads after the writes of this reconcile.
    let requested = PerRole::from_fn(|role| {
        if applied.written().contains(&role) {
            desired[role]
        } else {
            applied.current()[role]
        }
    });
    status.ratio = Some(ratio_status(applied, requested, desired));
    status.gpus = Some(gpu_status(applied, requested, desired));
    // An object without fields must be absent: server-side apply turns one that lost its last field
    // into null, which the schema refuses.
    let observed = &report.observed;
    let latency = LatencyStatus {
        ttft_milliseconds: observed.ttft_seconds.map(milliseconds),
        tpot_milliseconds: observed.tpot_seconds.map(milliseconds),
    };
    status.latency = (latency != LatencyStatus::default()).then_some(latency);
    let attainment = AttainmentStatus {
        ttft_percent: observed.ttft_attainment.and_then(percent_text),
        tpot_percent: observed.tpot_attainment.and_then(percent_text),
        error_budget_left_percent: applied.error_budget_left().map(whole_percent),
    };
    status.attainment = (attainment != AttainmentStatus::default()).then_some(attainment);
    status.bottleneck = Some(report.bottleneck.as_str().to_owned());
    status.engine = applied
        .sources
        .engine
        .map(str::to_owned)
        .or_else(|| status.engine.take());
    status.gateway = applied.sources.gateway.map(str::to_owned);
    let changes = report.from != report.to;
    let another = status
        .last_decision
        .as_ref()
        .is_none_or(|last| last.reason != report.reason.as_str());
    if changes || another {
        status.last_decision = Some(last_decision(applied, now));
    }
    status.schedules = schedules(&applied.snapshot.policy.schedules, now);
}

fn role_status(applied: &Applied, role: Role) -> RoleStatus {
    let state = &applied.snapshot.roles[role];
    let desired = applied.decision.plan.replicas[role];
    let written = applied.written().contains(&role);
    RoleStatus {
        current_replicas: if written { desired } else { state.current },
        desired_replicas: Some(desired),
        ready_replicas: state.ready,
        starting_replicas: state.starting,
        terminating_replicas: state.terminating,
        gpus_per_replica: Some(state.gpus_per_replica),
        lead_time: lead_time(&applied.decision.report.lead[role]),
        capacity_source: Some(capacity_source(applied, role).to_owned()),
    }
}

/// The measured lead time; nothing while it is assumed.
fn lead_time(lead: &LeadTime) -> Option<LeadTimeStatus> {
    (lead.samples > 0).then(|| LeadTimeStatus {
        p50_seconds: whole_seconds(lead.p50_seconds),
        p90_seconds: whole_seconds(lead.p90_seconds),
    })
}

fn capacity_source(applied: &Applied, role: Role) -> &'static str {
    let source = applied.decision.report.capacity[role].source;
    match (source, &applied.stated.origin[role]) {
        (Source::Profile, Origin::Coefficients) => "Coefficients",
        (Source::Profile, _) => "Profile",
        (Source::Learnt, _) => "Learnt",
        (Source::Assumed, _) => "Assumed",
        (Source::Unknown, _) => "Saturation",
    }
}

/// Which schedules hold, and when that changes; nothing without any.
fn schedules(schedules: &[schedule::Schedule], now: &Time) -> Option<SchedulesStatus> {
    let at = Timestamp::from_millis(now.0.as_millisecond());
    let change = schedule::next_change(schedules, at);
    (!schedules.is_empty()).then(|| SchedulesStatus {
        active: schedule::active(schedules, at)
            .into_iter()
            .filter_map(|index| u32::try_from(index).ok())
            .collect(),
        next_change: change
            .and_then(|change| jiff::Timestamp::from_millisecond(change.as_millis()).ok())
            .map(Time),
    })
}

fn ratio_status(applied: &Applied, requested: PerRole<u32>, desired: PerRole<u32>) -> RatioStatus {
    let text = |replicas: PerRole<u32>| Some(format!("{}:{}", replicas.prefill, replicas.decode));
    let ratio = &applied.decision.report.ratio;
    let band = ratio.policy.map(|policy| policy.band);
    RatioStatus {
        current: text(requested),
        target: text(desired),
        band: band.map(|band| {
            if band.lowest == band.highest {
                format!("{} within {} %", band.lowest, band.tolerance_percent)
            } else {
                format!(
                    "{} to {} within {} %",
                    band.lowest, band.highest, band.tolerance_percent
                )
            }
        }),
        in_band: band.map(|_| ratio.breach.is_none()),
        breach: ratio.breach.map(|breach| breach.cause.as_str().to_owned()),
        operating_point: ratio.operating_point.clone(),
    }
}

fn gpu_status(applied: &Applied, requested: PerRole<u32>, desired: PerRole<u32>) -> GpuStatus {
    let per_replica = applied.snapshot.roles.map(|state| state.gpus_per_replica);
    let gpus = |replicas| i64::try_from(Policy::gpus(replicas, per_replica)).unwrap_or(i64::MAX);
    GpuStatus {
        current: gpus(requested),
        desired: Some(gpus(desired)),
        budget: applied.snapshot.policy.budget_gpus.map(i64::from),
    }
}

fn last_decision(applied: &Applied, now: &Time) -> LastDecision {
    let report = &applied.decision.report;
    let prefix = if matches!(applied.outcome, ApplyOutcome::Recommended(_)) {
        "recommended: "
    } else {
        ""
    };
    let message = format!("{prefix}{}", sentence::sentence(report));
    LastDecision {
        time: now.clone(),
        reason: report.reason.as_str().to_owned(),
        message: truncated(&message, MESSAGE_LENGTH_MAX).into_owned(),
        steps: report
            .steps
            .iter()
            .take(STEPS_MAX)
            .map(StepStatus::from)
            .collect(),
    }
}

fn whole_seconds(seconds: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and lead times are below a day"
    )]
    let whole = seconds.round() as u32;
    whole
}

/// A share as percent, rounded down, so that only a full budget is 100.
fn whole_percent(share: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
    let percent = (share.clamp(0.0, 1.0) * 100.0 + 1e-6).floor() as i32;
    percent
}

fn milliseconds(seconds: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and latencies are small"
    )]
    let whole = (seconds * 1e3).round() as i64;
    whole
}

/// The status without the conditions of others. Their own writers keep them beside ours;
/// server-side apply of one that we had once seen would take it from its writer.
pub fn own(status: &PDAutoscalerStatus) -> PDAutoscalerStatus {
    let mut own = status.clone();
    own.conditions.retain(|one| {
        let mut types = ConditionType::ALL.iter();
        types.any(|own| own.as_str() == one.type_)
    });
    own
}

/// Whether anything changed that a person would act on. Numbers that move with every reconcile do
/// not.
pub fn differs(before: Option<&PDAutoscalerStatus>, after: &PDAutoscalerStatus) -> bool {
    let Some(before) = before else { return true };
    let judged = |conditions: &[Condition]| -> Vec<(String, String, String)> {
        conditions
            .iter()
            .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
            .collect()
    };
    before.observed_generation != after.observed_generation
        || judged(&before.conditions) != judged(&after.conditions)
        || before.prefill != after.prefill
        || before.decode != after.decode
        || before.gpus != after.gpus
        || before.ratio != after.ratio
        || before.schedules != after.schedules
        || before.bottleneck != after.bottleneck
        || before.engine != after.engine
        || before.gateway != after.gateway
        || before.last_decision.as_ref().map(|d| &d.reason)
            != after.last_decision.as_ref().map(|d| &d.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_others_are_not_applied_as_ours() {
        let condition = |type_: &str| Condition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: "R".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        let status = PDAutoscalerStatus {
            conditions: ["Ready", "NumericTolerations", "Paused"]
                .map(condition)
                .to_vec(),
            ..PDAutoscalerStatus::default()
        };
        let kept = own(&status).conditions;
        let kept: Vec<&str> = kept.iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(kept, ["Ready", "Paused"]);
    }
}
