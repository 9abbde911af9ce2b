//! The status object, and whether it is worth a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use pd_api::{
    condition,
    v1alpha1::{
        AttainmentStatus, GpuStatus, LastDecision, LatencyStatus, PDAutoscalerStatus, RatioStatus,
        RoleStatus, StepStatus,
        status::{MESSAGE_LENGTH_MAX, STEPS_MAX, percent_text, truncated},
    },
};
use pd_core::{PerRole, Role, policy::Policy};

use super::{Decided, Fate, Outcome, conditions::findings};

/// The status after a pass, from the status before.
pub fn status(
    before: Option<&PDAutoscalerStatus>,
    outcome: &Outcome,
    generation: i64,
    now: &Time,
) -> PDAutoscalerStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = Some(generation);
    for finding in findings(outcome) {
        condition::set(&mut status.conditions, &finding, generation, now);
    }
    if let Outcome::Decided(decided) = outcome {
        describe(&mut status, decided, now);
    }
    status
}

fn describe(status: &mut PDAutoscalerStatus, decided: &Decided, now: &Time) {
    let report = &decided.decision.report;
    let desired = decided.decision.plan.replicas;
    status.prefill = Some(role_status(decided, Role::Prefill));
    status.decode = Some(role_status(decided, Role::Decode));
    // What was asked for after the writes of this pass.
    let asked = PerRole::from_fn(|role| {
        let written = decided.written().contains(&role);
        if written {
            *desired.get(role)
        } else {
            *decided.current().get(role)
        }
    });
    status.ratio = Some(ratio_status(decided, asked, desired));
    status.gpus = Some(gpu_status(decided, asked, desired));
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
        ..AttainmentStatus::default()
    };
    status.attainment = (attainment != AttainmentStatus::default()).then_some(attainment);
    status.bottleneck = Some(report.bottleneck.as_str().to_owned());
    status.engine = decided
        .engine
        .map(str::to_owned)
        .or_else(|| status.engine.take());
    let changes = report.from != report.to;
    let another = status
        .last_decision
        .as_ref()
        .is_none_or(|last| last.reason != report.reason.as_str());
    if changes || another {
        status.last_decision = Some(last_decision(decided, now));
    }
    status.memory = serde_json::to_string(&decided.decision.memory).ok();
}

fn role_status(decided: &Decided, role: Role) -> RoleStatus {
    let state = decided.snapshot.roles.get(role);
    let desired = *decided.decision.plan.replicas.get(role);
    let written = decided.written().contains(&role);
    RoleStatus {
        current_replicas: if written { desired } else { state.current },
        desired_replicas: Some(desired),
        ready_replicas: state.ready,
        starting_replicas: state.starting,
        terminating_replicas: state.terminating,
        gpus_per_replica: Some(state.gpus_per_replica),
        ..RoleStatus::default()
    }
}

fn ratio_status(decided: &Decided, asked: PerRole<u32>, desired: PerRole<u32>) -> RatioStatus {
    let text = |replicas: PerRole<u32>| Some(format!("{}:{}", replicas.prefill, replicas.decode));
    let band = decided.snapshot.policy.ratio.map(|ratio| ratio.band);
    RatioStatus {
        current: text(asked),
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
        in_band: band.map(|band| band.contains(asked.prefill, asked.decode)),
        ..RatioStatus::default()
    }
}

fn gpu_status(decided: &Decided, asked: PerRole<u32>, desired: PerRole<u32>) -> GpuStatus {
    let per_replica = decided.snapshot.roles.map(|state| state.gpus_per_replica);
    let gpus = |replicas| i64::try_from(Policy::gpus(replicas, per_replica)).unwrap_or(i64::MAX);
    GpuStatus {
        current: gpus(asked),
        desired: Some(gpus(desired)),
        budget: decided.snapshot.policy.budget_gpus.map(i64::from),
    }
}

fn last_decision(decided: &Decided, now: &Time) -> LastDecision {
    let report = &decided.decision.report;
    let because = report
        .steps
        .iter()
        .find(|step| step.reason == report.reason)
        .map_or_else(String::new, |step| format!(": {}", step.message));
    let prefix = if matches!(decided.fate, Fate::Recommended) {
        "recommended: "
    } else {
        ""
    };
    let message = format!("{prefix}{}{because}", report.headline());
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

fn milliseconds(seconds: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and latencies are small"
    )]
    let whole = (seconds * 1e3).round() as i64;
    whole
}

/// Whether anything changed that a person would act on. Numbers that move with every pass do not.
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
        || before.bottleneck != after.bottleneck
        || before.engine != after.engine
        || before.last_decision.as_ref().map(|d| &d.reason)
            != after.last_decision.as_ref().map(|d| &d.reason)
}
