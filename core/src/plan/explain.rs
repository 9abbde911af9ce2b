//! The report of a decision, and the one reason that decided.

use super::Planner;
use crate::{
    lead::LeadTimes,
    report::{LeadTime, RatioReport, Reason, Report, RoleCapacity, Stage, Step},
    role::{PerRole, Role},
    signal::inputs::inputs,
};

impl Planner<'_> {
    pub(super) fn report(&mut self, to: PerRole<u32>) -> Report {
        let from = self.currents();
        let policy = &self.snapshot.policy;
        let ready = self.snapshot.roles.map(|state| state.ready);
        let assumed = policy.lead.assumed;
        let capacity = self.capacity();
        Report {
            reason: self.reason(from, to),
            steps: std::mem::take(&mut self.steps),
            observed: self.workload.observed,
            need: PerRole::from_fn(|role| self.needs.get(role).as_ref().map(|n| n.replicas)),
            proposals: std::mem::take(&mut self.proposals),
            inputs: inputs(&self.snapshot.signals, ready),
            metrics_complete: PerRole::from_fn(|role| self.evidence.get(role).complete()),
            risk_target: self.risk_target,
            capacity: PerRole {
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
            },
            forecast: self
                .forecast
                .map(|distribution| distribution.map(|distribution| distribution.forecast)),
            lead: PerRole::from_fn(|role| {
                let lead: &LeadTimes = &self.memory.roles.get(role).lead;
                LeadTime {
                    p50_seconds: lead.p50(assumed).as_secs_f64(),
                    p90_seconds: lead.p90(assumed).as_secs_f64(),
                    samples: u32::try_from(lead.samples()).unwrap_or(u32::MAX),
                }
            }),
            bounds: policy.bounds,
            ratio: RatioReport {
                policy: policy.ratio,
                traffic: self.memory.ratio.target(),
                breach: self.breach,
                operating_point: self.operating_point.take(),
            },
            bottleneck: self.bottleneck,
            from,
            to,
        }
    }

    fn replicas_at(&self, stage: Stage) -> Option<PerRole<Option<u32>>> {
        let proposal = self.proposals.iter().find(|p| p.stage == stage)?;
        Some(proposal.replicas)
    }

    fn reason(&self, from: PerRole<u32>, to: PerRole<u32>) -> Reason {
        let changed = Role::ALL
            .into_iter()
            .filter(|&role| from.get(role) != to.get(role));
        let largest = changed.max_by_key(|&role| to.get(role).abs_diff(*from.get(role)));
        match largest {
            Some(role) => self.changing_reason(role),
            None => self.holding_reason(),
        }
    }

    /// Why `role` changes: the zero rule, what the solve made of its need, or the need.
    fn changing_reason(&self, role: Role) -> Reason {
        let zero = [
            Reason::ScaledToZero,
            Reason::Waking,
            Reason::ScaleDownCancelled,
        ];
        if let Some(step) = self.steps.iter().find(|step| zero.contains(&step.reason)) {
            return step.reason;
        }
        let at = |stage| {
            self.replicas_at(stage)
                .and_then(|replicas| *replicas.get(role))
        };
        let of_solve =
            |step: &&Step| step.stage == Stage::Solve && step.reason != Reason::OperatingPoint;
        if at(Stage::Solve) != at(Stage::Stabilize)
            && let Some(step) = self.steps.iter().find(of_solve)
        {
            return step.reason;
        }
        let own = |reasons: &[Reason]| {
            self.steps
                .iter()
                .find(|step| step.role == Some(role) && reasons.contains(&step.reason))
        };
        let overriding = [Reason::FallbackReplicas, Reason::ScaleUpCancelled];
        match (own(&overriding), self.needs.get(role)) {
            (Some(step), _) => step.reason,
            (None, Some(need)) => need.reason,
            (None, None) => Reason::MetricsMissing,
        }
    }

    /// Why nothing changes: what held a change back, if anything did.
    fn holding_reason(&self) -> Reason {
        let idle = self
            .needs
            .prefill
            .as_ref()
            .is_some_and(|need| need.reason == Reason::Idle);
        match self.steps.iter().rev().find(|step| holds(step)) {
            Some(step) => step.reason,
            None if idle => Reason::Idle,
            None => Reason::Steady,
        }
    }
}

/// Whether a step held something back. The others describe, or explain the pair as it is.
fn holds(step: &Step) -> bool {
    let describes = [
        Stage::Workload,
        Stage::Capacity,
        Stage::Forecast,
        Stage::Need,
    ];
    let settled = [
        Reason::RatioBand,
        Reason::AtMinReplicas,
        Reason::WithinTolerance,
        Reason::OperatingPoint,
        Reason::ScheduleActive,
        Reason::ScheduleAhead,
    ];
    !describes.contains(&step.stage) && !settled.contains(&step.reason)
}
