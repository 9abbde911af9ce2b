//! The report of a decision, made from the values of its stages, and the one reason that decided.

use super::{in_force::PolicyInForce, learn::LearntCapacity, observe::Observation};
use crate::{
    capacity::Capacity,
    demand::Demand,
    error_budget::{RiskTarget, risk_targets},
    forecast::ForecastDistribution,
    lead::LeadSummary,
    need::Need,
    ratio::Ratio,
    reason::Reason,
    report::{LeadTime, Proposal, RatioReport, Report, RoleCapacity},
    role::{PerRole, Role},
    signal::inputs::inputs,
    step::{Stage, Step, Steps},
    tuning::Tuning,
};

/// The conclusion that a decision comes to, beside its facts.
#[derive(Debug)]
pub(super) struct Conclusion<'a> {
    /// Performance of one replica.
    pub(super) capacity: Capacity<'a>,
    /// The risk of a miss that sizing took.
    pub(super) risk_target: PerRole<RiskTarget>,
    /// The work expected.
    pub(super) forecast: PerRole<Option<ForecastDistribution>>,
    /// The ratio as judged.
    pub(super) ratio: RatioReport,
    /// Replicas after each stage that limits the needs, in their order.
    pub(super) limits: Vec<Proposal>,
    /// Replicas that the objective takes.
    pub(super) needs: PerRole<Option<Need>>,
    /// Replicas to request.
    pub(super) to: PerRole<u32>,
}

impl<'a> Conclusion<'a> {
    /// Both roles at zero, unless a person has paused that. Nothing is learnt, forecast or sized.
    pub(super) fn asleep(
        policy: &PolicyInForce<'_>,
        seen: &Observation<'_>,
        demand: &Demand,
        capacity: &LearntCapacity<'a>,
        traffic: Option<Ratio>,
    ) -> Self {
        let to = if policy.paused.scale_down {
            seen.current()
        } else {
            PerRole::default()
        };
        Self {
            capacity: capacity.replica,
            risk_target: risk_targets(
                policy.objective,
                demand.workload.budget_attained(),
                PerRole::default(),
                &Tuning::NONE,
            ),
            forecast: PerRole::default(),
            ratio: RatioReport {
                policy: policy.ratio.band,
                traffic,
                breach: None,
                operating_point: None,
            },
            limits: Vec::new(),
            needs: PerRole::default(),
            to,
        }
    }
}

/// The report, with the steps of all stages.
pub(super) fn report(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    conclusion: Conclusion<'_>,
    steps: Steps,
) -> Report {
    let Conclusion {
        capacity,
        risk_target,
        forecast,
        ratio,
        limits,
        needs,
        to,
    } = conclusion;
    let (from, steps) = (seen.current(), steps.into_vec());
    let signals = &seen.signals;
    let ready = seen.replicas.map(|replicas| replicas.state.ready);
    let need = PerRole::from_fn(|role: Role| needs[role].as_ref().map(|need| need.replicas));
    Report {
        reason: deciding_reason(&steps, &needs, &limits, from, to),
        steps,
        observed: demand.workload.observed,
        need,
        proposals: proposals(need, limits),
        inputs: inputs(&signals.signals, ready),
        metrics_complete: PerRole::from_fn(|role: Role| signals.evidence[role].complete()),
        risk_target,
        capacity: of_roles(&capacity),
        forecast: forecast.map(|distribution| distribution.map(|work| work.forecast)),
        lead: seen.replicas.map(|replicas| lead_time(replicas.lead)),
        bounds: policy.bounds,
        ratio,
        bottleneck: demand.bottleneck,
        from,
        to,
    }
}

/// The needs and each limit of them. A service that sleeps has neither.
fn proposals(need: PerRole<Option<u32>>, limits: Vec<Proposal>) -> Vec<Proposal> {
    let first = (!limits.is_empty()).then_some(Proposal {
        stage: Stage::Need,
        replicas: need,
    });
    first.into_iter().chain(limits).collect()
}

fn lead_time(lead: LeadSummary) -> LeadTime {
    LeadTime {
        p50_seconds: lead.p50.as_secs_f64(),
        p90_seconds: lead.p90.as_secs_f64(),
        samples: u32::try_from(lead.samples).unwrap_or(u32::MAX),
    }
}

fn of_roles(capacity: &Capacity<'_>) -> PerRole<RoleCapacity> {
    PerRole {
        prefill: RoleCapacity {
            source: capacity.prefill_source,
            factor: capacity.prefill_factor,
            error: capacity.prefill_error,
        },
        decode: RoleCapacity {
            source: capacity.decode_source,
            factor: capacity.decode_factor,
            error: capacity.decode_error,
        },
    }
}

fn deciding_reason(
    steps: &[Step],
    needs: &PerRole<Option<Need>>,
    limits: &[Proposal],
    from: PerRole<u32>,
    to: PerRole<u32>,
) -> Reason {
    let changed = Role::ALL.into_iter().filter(|&role| from[role] != to[role]);
    // The role that changes most speaks for both.
    match changed.max_by_key(|&role| to[role].abs_diff(from[role])) {
        Some(role) => changing_reason(role, steps, needs, limits),
        None => holding_reason(steps, needs),
    }
}

/// Why `role` changes: the zero rule, the joint solution, or the need.
fn changing_reason(
    role: Role,
    steps: &[Step],
    needs: &PerRole<Option<Need>>,
    limits: &[Proposal],
) -> Reason {
    let zero = [
        Reason::ScaledToZero,
        Reason::Waking,
        Reason::ScaleDownCancelled,
    ];
    if let Some(step) = steps.iter().find(|step| zero.contains(&step.reason)) {
        return step.reason;
    }
    let at = |stage| {
        let limit = limits.iter().find(|limit| limit.stage == stage);
        limit.and_then(|limit| limit.replicas[role])
    };
    let of_solve =
        |step: &&Step| step.stage == Stage::Solve && step.reason != Reason::OperatingPoint;
    if at(Stage::Solve) != at(Stage::Stabilize)
        && let Some(step) = steps.iter().find(of_solve)
    {
        return step.reason;
    }
    let overriding = [Reason::FallbackReplicas, Reason::ScaleUpCancelled];
    let own = steps
        .iter()
        .find(|step| step.role == Some(role) && overriding.contains(&step.reason));
    match (own, &needs[role]) {
        (Some(step), _) => step.reason,
        (None, Some(need)) => need.reason,
        (None, None) => Reason::MetricsMissing,
    }
}

/// Why nothing changes: the last step that held a change back, if any did.
fn holding_reason(steps: &[Step], needs: &PerRole<Option<Need>>) -> Reason {
    let need = needs.prefill.as_ref();
    let idle = need.is_some_and(|need| need.reason == Reason::Idle);
    match steps.iter().rev().find(|step| holds(step)) {
        Some(step) => step.reason,
        None if idle => Reason::Idle,
        None => Reason::Steady,
    }
}

/// Whether a step held a change back. The others describe, or explain the pair as it is.
fn holds(step: &Step) -> bool {
    let describes = [
        Stage::Workload,
        Stage::Capacity,
        Stage::Forecast,
        Stage::Need,
    ];
    let explains = [
        Reason::RatioBand,
        Reason::AtMinReplicas,
        Reason::WithinTolerance,
        Reason::SignalsContradict,
        Reason::OperatingPoint,
        Reason::ScheduleActive,
        Reason::ScheduleAhead,
    ];
    !describes.contains(&step.stage) && !explains.contains(&step.reason)
}
