//! A linter for plans: invariants that hold whatever the inputs were.
//!
//! It shares no code with the stages that it checks, runs on every plan in tests and simulation,
//! and in production before a plan is applied. A finding is a bug; the plan is then not applied.
//!
//! The replica bounds and the ratio band in force are taken from the report, and the report is held
//! against the policy: only schedules may move the bounds, only operating points the band. Laws
//! about several decisions, which take deciding again, are in `laws`.

mod laws;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::laws::monotone;
pub use self::laws::{LOAD_FACTOR, laws, with_load};
use crate::{
    bounds::Bounds,
    evidence::evidence,
    memory::Memory,
    plan::Decision,
    ratio::Enforcement,
    report::Report,
    role::{PerRole, Role},
    role_state::RoleState,
    snapshot::Snapshot,
    time::Timestamp,
};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Finding {
    /// A role would have no replica, alone or where zero is not allowed.
    #[error("{role} would have no replica")]
    NoReplicas {
        /// The role.
        role: Role,
    },
    /// Replicas would move further outside their bounds.
    #[error("{role} would have {replicas} replicas, outside {min} to {max}")]
    OutOfBounds {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        replicas: u32,
        /// Fewest allowed.
        min: u32,
        /// Most allowed.
        max: u32,
    },
    /// The report names bounds that neither the policy nor a schedule states.
    #[error("bounds of {role} differ from the policy's and there is no schedule")]
    StrangeBounds {
        /// The role.
        role: Role,
    },
    /// The report names a ratio band that neither the policy nor an operating point states.
    #[error("the ratio band differs from the policy's and there is no operating point")]
    StrangeRatio,
    /// Replicas would be lowered without complete metrics.
    #[error("{role} would be lowered although its metrics are not complete")]
    LoweredBlindly {
        /// The role.
        role: Role,
    },
    /// Replicas would change in a paused direction.
    #[error("{role} would change although this direction is paused")]
    ChangedWhilePaused {
        /// The role.
        role: Role,
    },
    /// More GPUs would be held than the budget allows, and a role grows.
    #[error("{gpus} GPUs would be held at once and the budget is {budget}")]
    OverBudget {
        /// GPUs held at the worst moment.
        gpus: u64,
        /// The budget.
        budget: u32,
    },
    /// A hard ratio band would be left.
    #[error("{prefill}:{decode} would leave a hard ratio band")]
    LeavesHardBand {
        /// Prefill replicas.
        prefill: u32,
        /// Decode replicas.
        decode: u32,
    },
    /// The report states other replicas than the plan or the snapshot.
    #[error("the report says {role} goes from {from} to {to}, and that is not so")]
    Misreported {
        /// The role.
        role: Role,
        /// Replicas before, as reported.
        from: u32,
        /// Replicas after, as reported.
        to: u32,
    },
    /// Deciding again at once with the memory that was returned gives another plan.
    #[error("{role} gets {once} replicas, and {twice} when decided again at once")]
    NotIdempotent {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        once: u32,
        /// Replicas in the second plan.
        twice: u32,
    },
    /// More load gives a smaller need.
    #[error("{role} needs {need}, and {need_loaded} under more load")]
    NotMonotone {
        /// The role.
        role: Role,
        /// The need.
        need: u32,
        /// The need under more load.
        need_loaded: u32,
    },
}

/// Checks the plan of `decision`, made on `snapshot`, against the invariants; nothing found means
/// it may be applied.
pub fn audit(snapshot: &Snapshot, decision: &Decision) -> Vec<Finding> {
    let case = Case {
        snapshot,
        report: &decision.report,
        memory: &decision.memory,
        now: decision.memory.decided_at,
        replicas: decision.plan.replicas,
    };
    let mut findings: Vec<Finding> = Role::ALL
        .into_iter()
        .flat_map(|role| case.of_role(role))
        .collect();
    findings.extend(case.strange_ratio());
    findings.extend(case.over_budget());
    findings.extend(case.leaves_hard_band());
    findings
}

/// The decision to audit.
struct Case<'a> {
    snapshot: &'a Snapshot,
    report: &'a Report,
    memory: &'a Memory,
    now: Option<Timestamp>,
    replicas: PerRole<u32>,
}

impl Case<'_> {
    fn of_role(&self, role: Role) -> Vec<Finding> {
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let mut findings = Vec::new();
        let (from, to) = (self.report.from[role], self.report.to[role]);
        if (from, to) != (current, replicas) {
            findings.push(Finding::Misreported { role, from, to });
        }
        let bounds = self.report.bounds[role];
        let policy = &self.snapshot.policy;
        if policy.schedules.is_empty() && bounds != policy.bounds[role] {
            findings.push(Finding::StrangeBounds { role });
        }
        if self.no_replicas(role) {
            findings.push(Finding::NoReplicas { role });
        }
        findings.extend(self.out_of_bounds(role, bounds));
        if replicas < current && !self.may_lower(role, bounds) {
            findings.push(Finding::LoweredBlindly { role });
        }
        let paused = self.snapshot.paused;
        if (replicas > current && paused.scale_up) || (replicas < current && paused.scale_down) {
            findings.push(Finding::ChangedWhilePaused { role });
        }
        findings
    }

    fn state(&self, role: Role) -> &RoleState {
        &self.snapshot.roles[role]
    }

    fn currents(&self) -> PerRole<u32> {
        self.snapshot.roles.map(|state| state.current)
    }

    /// Whether both roles go to zero or stay there together, as only scale to zero allows.
    fn to_zero(&self) -> bool {
        self.replicas == PerRole::default() && self.snapshot.policy.scale_to_zero.is_some()
    }

    /// Both roles at zero take a policy that allows it. One alone was so before, and the other does
    /// not grow meanwhile.
    fn no_replicas(&self, role: Role) -> bool {
        if self.replicas[role] > 0 || self.to_zero() {
            return false;
        }
        let other_grows = Role::ALL
            .into_iter()
            .any(|other| self.replicas[other] > self.state(other).current);
        self.state(role).current > 0 || other_grows
    }

    fn out_of_bounds(&self, role: Role, bounds: Bounds) -> Option<Finding> {
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let (min, max) = (bounds.min_replicas, bounds.max_replicas);
        let raised_over = replicas > max && replicas > current;
        let lowered_under = replicas < min && replicas < current && !self.to_zero();
        (raised_over || lowered_under).then_some(Finding::OutOfBounds {
            role,
            replicas,
            min,
            max,
        })
    }

    /// Whether `role` may be lowered to the plan: on complete metrics, by the user's own limits, or
    /// as far as replicas never served.
    fn may_lower(&self, role: Role, bounds: Bounds) -> bool {
        let known =
            |role: Role| evidence(&self.snapshot.signals, role, self.state(role).ready).complete();
        if self.to_zero() {
            // Of a service that serves all must be known. When one role is at zero already, nothing
            // is served, and the gateway's signal is all there is.
            let serves = Role::ALL
                .into_iter()
                .all(|role| self.state(role).current > 0);
            let requests_wait = self.snapshot.signals.wake_requests.known() != Some(0.0);
            return !requests_wait && (!serves || Role::ALL.into_iter().all(known));
        }
        let over_budget = self.requests_over_budget();
        // Above the maximum or over the budget the user's own limits lower, whatever is known.
        let limited = over_budget || self.replicas[role] >= bounds.max_replicas;
        limited || known(role) || self.replicas[role] >= self.least_without_metrics(role)
    }

    /// Replicas that serve or may still come: of a cancelled request only the stuck ones are taken
    /// back. While a cancelled request may not be repeated, no pending replica needs to stay.
    fn least_without_metrics(&self, role: Role) -> u32 {
        let state = self.state(role);
        let backing_off = self.now.is_some_and(|now| {
            let memory = &self.memory.stabilization[role];
            memory.stuck.ceiling(now).is_some()
        });
        let stuck = match state.stuck {
            _ if backing_off => u32::MAX,
            Some((stuck, _)) => stuck,
            None => 0,
        };
        state.ready.max(state.current.saturating_sub(stuck))
    }

    /// Whether more GPUs are requested now than the budget allows.
    fn requests_over_budget(&self) -> bool {
        let budget = self.snapshot.policy.budget_gpus;
        budget.is_some_and(|budget| self.requested_gpus() > u64::from(budget))
    }

    fn requested_gpus(&self) -> u64 {
        let of_role = |role| {
            let state = self.state(role);
            u64::from(state.current) * u64::from(state.gpus_per_replica)
        };
        let all = Role::ALL.into_iter().map(of_role);
        all.fold(0, u64::saturating_add)
    }

    fn over_budget(&self) -> Option<Finding> {
        let budget = self.snapshot.policy.budget_gpus?;
        let before = self.gpus_at_worst(self.currents());
        let gpus = self.gpus_at_worst(self.replicas);
        (gpus > before && gpus > u64::from(budget)).then_some(Finding::OverBudget { gpus, budget })
    }

    /// GPUs held at the worst moment while `replicas` are requested: pods that exist stay until
    /// they are gone, and pods on their way out make no room for new ones.
    fn gpus_at_worst(&self, replicas: PerRole<u32>) -> u64 {
        let of_role = |role| {
            let state = self.state(role);
            let existing = u64::from(state.ready) + u64::from(state.starting);
            let requested = u64::from(replicas[role].max(state.current));
            let held = existing.max(requested) + u64::from(state.terminating);
            held.saturating_mul(state.gpus_per_replica.into())
        };
        let all = Role::ALL.into_iter().map(of_role);
        all.fold(0, u64::saturating_add)
    }

    fn strange_ratio(&self) -> Option<Finding> {
        let policy = &self.snapshot.policy;
        let strange = policy.operating_points.is_none() && self.report.ratio.policy != policy.ratio;
        strange.then_some(Finding::StrangeRatio)
    }

    fn leaves_hard_band(&self) -> Option<Finding> {
        let in_force = self.report.ratio.policy;
        let ratio = in_force.filter(|ratio| ratio.enforcement == Enforcement::Hard)?;
        let current = self.currents();
        let PerRole { prefill, decode } = self.replicas;
        let leaves = ratio.band.contains(current.prefill, current.decode)
            && !ratio.band.contains(prefill, decode);
        // Bounds and budget come before the band: leaving is inevitable on the way to them when the
        // bounds moved away from the band, or when both roles have to give GPUs back step by step.
        let over_budget = self.requests_over_budget();
        let inside = Role::ALL.into_iter().all(|role| {
            let bounds = self.report.bounds[role];
            (bounds.min_replicas..=bounds.max_replicas).contains(&current[role])
        });
        (leaves && inside && !over_budget && !self.to_zero())
            .then_some(Finding::LeavesHardBand { prefill, decode })
    }
}

#[cfg(test)]
mod tests;
