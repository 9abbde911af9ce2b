//! Releases before growth: replicas that one role gives back count only when their pods are gone.
//!
//! So at a full budget shrinking comes first, and the GPUs that are requested or still held never
//! exceed the budget at any instant.

use crate::{
    reason::Reason,
    role::{PerRole, Role},
    role_state::RoleState,
    step::{Stage, Step},
};

/// Growth that fits into the budget beside everything that still holds GPUs.
pub fn await_releases(
    wanted: PerRole<u32>,
    roles: &PerRole<RoleState>,
    budget_gpus: Option<u32>,
) -> (PerRole<u32>, Vec<Step>) {
    let Some(budget) = budget_gpus else {
        return (wanted, Vec::new());
    };
    let mut granted = PerRole::from_fn(|role| wanted[role].min(roles[role].current));
    let mut steps = Vec::new();
    for role in Role::ALL {
        let (state, want) = (&roles[role], wanted[role]);
        if want <= state.current {
            continue;
        }
        let others = held_gpus(&roles[role.other()], granted[role.other()]);
        let room = u64::from(budget).saturating_sub(others);
        let fitting = room
            .checked_div(u64::from(state.gpus_per_replica))
            .unwrap_or(u64::MAX)
            .saturating_sub(u64::from(state.terminating));
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        let replicas = want.min(fitting.max(state.current));
        granted[role] = replicas;
        if replicas < want {
            let message = format!(
                "{want} replicas are wanted; {replicas} fit beside the {others} GPUs that the \
                 other role still holds of a budget of {budget}"
            );
            let reason = Reason::BudgetWaitsForRelease;
            steps.push(Step::of_role(Stage::Guard, role, reason, message));
        }
    }
    steps.extend(keep_together(&mut granted, wanted, roles));
    (granted, steps)
}

/// A role does not grow while the other would stay alone at zero: its replicas would serve nobody,
/// and would hold the GPUs that the other waits for.
fn keep_together(
    granted: &mut PerRole<u32>,
    wanted: PerRole<u32>,
    roles: &PerRole<RoleState>,
) -> Option<Step> {
    let waiting = |role: &Role| granted[*role] == 0 && wanted[*role] > 0;
    let alone = Role::ALL.into_iter().find(waiting)?;
    let other = alone.other();
    let current = roles[other].current;
    if granted[other] <= current {
        return None;
    }
    granted[other] = current;
    let message = format!("{current} replicas stay until {alone} fits into the budget beside them");
    let reason = Reason::BudgetWaitsForRelease;
    Some(Step::of_role(Stage::Guard, other, reason, message))
}

/// GPUs that a role holds or will hold at `replicas`, pods on their way out included.
fn held_gpus(state: &RoleState, replicas: u32) -> u64 {
    let held = state
        .holding()
        .max(replicas.saturating_add(state.terminating));
    u64::from(held) * u64::from(state.gpus_per_replica)
}
