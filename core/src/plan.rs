//! The one decision: from what is known now and what is remembered to replicas, and why.
//!
//! The frame is fixed and the stages are functions of their own modules: signals, bounds, workload,
//! capacity, forecast, need, stabilization, joint solve, guards. The files below this one say what each
//! stage is given; each leaves its steps in the report. Calling twice at the same moment with the
//! returned memory gives the same plan.

mod compare;
mod explain;
mod learn;
mod limit;
mod remember;
mod size;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::compare::needs_under;
use crate::{
    capacity::{Capacity, Profile},
    error_budget::{RiskTarget, risk_targets},
    evidence::{Evidence, evidence},
    forecast::ForecastDistribution,
    memory::Memory,
    need::Need,
    ratio::Breach,
    report::{Bottleneck, Proposal, Reason, Report, Stage, Step},
    role::{PerRole, Role},
    snapshot::Snapshot,
    time::Timestamp,
    workload::Workload,
};

/// After so long without a decision the time between is unknown, and a full stabilization window
/// must pass before replicas are lowered. Six default intervals.
const UNWATCHED_MAX: Duration = Duration::from_secs(90);

/// Replicas both roles should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Replicas to ask for.
    pub replicas: PerRole<u32>,
}

/// A plan, why, and what to remember.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas to ask for.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// Argument of the next call.
    pub memory: Memory,
}

/// Decides.
pub fn plan(snapshot: &Snapshot, memory: &Memory, now: Timestamp) -> Decision {
    Planner::new(snapshot, memory, now).run()
}

struct Planner<'a> {
    /// What was observed, less the signals that cannot be believed, with the bounds and the ratio
    /// band in force.
    snapshot: Snapshot,
    profile: Option<&'a Profile>,
    now: Timestamp,
    /// Since the decision before; a second when there is none.
    elapsed: Duration,
    memory: Memory,
    workload: Workload,
    evidence: PerRole<Evidence>,
    risk_target: PerRole<RiskTarget>,
    /// How long replicas asked for now take to serve.
    lead: PerRole<Duration>,
    /// What may come while replicas start.
    forecast: PerRole<Option<ForecastDistribution>>,
    needs: PerRole<Option<Need>>,
    /// Where requests lose time.
    bottleneck: Bottleneck,
    operating_point: Option<String>,
    breach: Option<Breach>,
    proposals: Vec<Proposal>,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    fn new(observed: &'a Snapshot, memory: &Memory, now: Timestamp) -> Self {
        let ready = observed.roles.map(|state| state.ready);
        let snapshot = Snapshot {
            policy: observed.policy.clone(),
            roles: observed.roles,
            signals: observed.signals.judged(ready),
            paused: observed.paused,
            profile: None,
        };
        let memory = memory.clone().usable();
        let workload = Workload::estimate(&snapshot.signals, &snapshot.policy.objective);
        Self {
            now,
            elapsed: memory
                .decided_at
                .map_or(Duration::from_secs(1), |at| now.since(at)),
            memory,
            risk_target: risk_targets(&snapshot.policy.objective, workload.attained),
            evidence: PerRole::from_fn(|role| evidence(observed, role)),
            lead: PerRole::default(),
            forecast: PerRole::default(),
            needs: PerRole::default(),
            bottleneck: workload.bottleneck(&snapshot.signals, &snapshot.policy.objective),
            operating_point: None,
            breach: None,
            proposals: Vec::new(),
            steps: Vec::new(),
            profile: observed.profile.as_ref(),
            workload,
            snapshot,
        }
    }

    fn run(mut self) -> Decision {
        self.remember_replicas();
        self.set_bounds();
        let replicas = if self.decide_about_zero() {
            self.sleep()
        } else {
            self.judge_signals();
            self.learn();
            self.weigh_misses();
            self.foresee();
            self.size();
            self.limit()
        };
        self.memory.decided_at = Some(self.now);
        let report = self.report(replicas);
        Decision {
            plan: Plan { replicas },
            report,
            memory: self.memory,
        }
    }

    fn current(&self, role: Role) -> u32 {
        self.snapshot.roles.get(role).current
    }

    fn currents(&self) -> PerRole<u32> {
        self.snapshot.roles.map(|state| state.current)
    }

    fn capacity(&self) -> Capacity<'a> {
        self.memory.capacity.capacity(self.profile)
    }

    fn note(&mut self, stage: Stage, role: Option<Role>, reason: Reason, message: String) {
        self.steps.push(Step {
            stage,
            role,
            reason,
            message,
        });
    }

    fn propose(&mut self, stage: Stage, replicas: PerRole<Option<u32>>) {
        self.proposals.push(Proposal { stage, replicas });
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
