//! A linter for plans: invariants that hold whatever the inputs were.
//!
//! It shares no code with the stages that it checks, runs on every plan in tests and simulation,
//! and in production before a plan is applied. A finding is a bug; the plan is then not applied.

use serde::{Deserialize, Serialize};

use crate::{
    evidence::evidence,
    plan::Plan,
    policy::Enforcement,
    role::{PerRole, Role},
    snapshot::Snapshot,
};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Finding {
    /// A role would have no replica.
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
}

/// Checks `plan` against the invariants; nothing found means it may be applied.
pub fn audit(snapshot: &Snapshot, plan: Plan) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Role::ALL
        .into_iter()
        .flat_map(|role| audit_role(snapshot, plan, role))
        .collect();
    findings.extend(over_budget(snapshot, plan));
    findings.extend(leaves_hard_band(snapshot, plan));
    findings
}

fn audit_role(snapshot: &Snapshot, plan: Plan, role: Role) -> Vec<Finding> {
    let replicas = *plan.replicas.get(role);
    let current = snapshot.roles.get(role).current;
    let bounds = snapshot.policy.bounds.get(role);
    let (min, max) = (bounds.min_replicas, bounds.max_replicas);
    let mut findings = Vec::new();
    if replicas == 0 && current > 0 {
        findings.push(Finding::NoReplicas { role });
    }
    let raised_over = replicas > max && replicas > current;
    let lowered_under = replicas < min && replicas < current;
    if raised_over || lowered_under {
        findings.push(Finding::OutOfBounds {
            role,
            replicas,
            min,
            max,
        });
    }
    // Above the maximum or over the budget the user's own word lowers, whatever is known.
    let told_to = current > max || budget_of(snapshot).is_some_and(|b| asked_gpus(snapshot) > b);
    if replicas < current && !told_to && !evidence(snapshot, role).complete() {
        findings.push(Finding::LoweredBlindly { role });
    }
    let paused = snapshot.paused;
    if (replicas > current && paused.scale_up) || (replicas < current && paused.scale_down) {
        findings.push(Finding::ChangedWhilePaused { role });
    }
    findings
}

fn budget_of(snapshot: &Snapshot) -> Option<u64> {
    snapshot.policy.budget_gpus.map(u64::from)
}

fn asked_gpus(snapshot: &Snapshot) -> u64 {
    Role::ALL
        .into_iter()
        .map(|role| {
            let state = snapshot.roles.get(role);
            u64::from(state.current) * u64::from(state.gpus_per_replica)
        })
        .sum()
}

fn over_budget(snapshot: &Snapshot, plan: Plan) -> Option<Finding> {
    let budget = snapshot.policy.budget_gpus?;
    let current = snapshot.roles.map(|state| state.current);
    let (before, gpus) = (
        gpus_at_worst(snapshot, current),
        gpus_at_worst(snapshot, plan.replicas),
    );
    (gpus > before && gpus > u64::from(budget)).then_some(Finding::OverBudget { gpus, budget })
}

/// GPUs held at the worst moment while `replicas` are asked for: what exists stays until it is
/// gone, and what is on its way out does not make room for what is new.
fn gpus_at_worst(snapshot: &Snapshot, replicas: PerRole<u32>) -> u64 {
    let of_role = |role| {
        let state: &crate::snapshot::RoleState = snapshot.roles.get(role);
        let leaving = u64::from(state.terminating);
        let existing = u64::from(state.ready) + u64::from(state.starting);
        let asked = u64::from(*replicas.get(role)) + leaving;
        (existing + leaving).max(asked).max(state.current.into())
            * u64::from(state.gpus_per_replica)
    };
    Role::ALL.into_iter().map(of_role).sum()
}

fn leaves_hard_band(snapshot: &Snapshot, plan: Plan) -> Option<Finding> {
    let ratio = snapshot
        .policy
        .ratio
        .filter(|r| r.enforcement == Enforcement::Hard)?;
    let current = snapshot.roles.map(|state| state.current);
    let (prefill, decode) = (plan.replicas.prefill, plan.replicas.decode);
    let leaves = ratio.band.contains(current.prefill, current.decode)
        && !ratio.band.contains(prefill, decode);
    // Leaving is inevitable when the bounds moved away from the band.
    let bounds = snapshot.policy.bounds;
    let inside = Role::ALL.into_iter().all(|role| {
        let current = *current.get(role);
        bounds.get(role).clamp(current) == current
    });
    (leaves && inside).then_some(Finding::LeavesHardBand { prefill, decode })
}
