//! Releases before growth: what one role gives back counts only when its pods are gone.
//!
//! So at a full budget shrinking comes first, and the GPUs that are asked for or still held never
//! exceed the budget at any instant.

use crate::{
    report::{Reason, Stage, Step},
    role::{PerRole, Role},
    snapshot::Snapshot,
};

/// Growth that fits into the budget beside everything that still holds GPUs: what one role
/// releases counts only when its pods are gone, so at a full budget shrinking comes first.
pub fn await_releases(wanted: PerRole<u32>, snapshot: &Snapshot) -> (PerRole<u32>, Vec<Step>) {
    let Some(budget) = snapshot.policy.budget_gpus else {
        return (wanted, Vec::new());
    };
    let mut granted =
        PerRole::from_fn(|role| (*wanted.get(role)).min(snapshot.roles.get(role).current));
    let mut steps = Vec::new();
    for role in Role::ALL {
        let state = snapshot.roles.get(role);
        let want = *wanted.get(role);
        if want <= state.current {
            continue;
        }
        let others: u64 = Role::ALL
            .into_iter()
            .filter(|other| *other != role)
            .map(|other| held_gpus(snapshot, other, *granted.get(other)))
            .sum();
        let room = u64::from(budget).saturating_sub(others);
        let fitting = room
            .checked_div(u64::from(state.gpus_per_replica))
            .unwrap_or(u64::MAX)
            .saturating_sub(u64::from(state.terminating));
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        let replicas = want.min(fitting.max(state.current));
        *granted.get_mut(role) = replicas;
        if replicas < want {
            let message = format!(
                "wanted: {want}; {replicas} fit beside the {others} GPUs that the other \
                 role still holds of a budget of {budget}"
            );
            let reason = Reason::BudgetWaitsForRelease;
            steps.push(Step {
                stage: Stage::Guard,
                role: Some(role),
                reason,
                message,
            });
        }
    }
    steps.extend(keep_together(&mut granted, wanted, snapshot));
    (granted, steps)
}

/// A role does not grow while the other would stay alone at zero: its replicas would serve nobody, and
/// would hold the GPUs that the other waits for.
fn keep_together(
    granted: &mut PerRole<u32>,
    wanted: PerRole<u32>,
    snapshot: &Snapshot,
) -> Option<Step> {
    let waiting = |role: &Role| *granted.get(*role) == 0 && *wanted.get(*role) > 0;
    let alone = Role::ALL.into_iter().find(waiting)?;
    let other = match alone {
        Role::Prefill => Role::Decode,
        Role::Decode => Role::Prefill,
    };
    let current = snapshot.roles.get(other).current;
    if *granted.get(other) <= current {
        return None;
    }
    *granted.get_mut(other) = current;
    Some(Step {
        stage: Stage::Guard,
        role: Some(other),
        reason: Reason::BudgetWaitsForRelease,
        message: format!("{current} stay until {alone} fits into the budget beside them"),
    })
}

/// GPUs that `role` holds or will hold when asked for `replicas`, pods on their way out included.
pub fn held_gpus(snapshot: &Snapshot, role: Role, replicas: u32) -> u64 {
    let state = snapshot.roles.get(role);
    let held = state
        .holding()
        .max(replicas.saturating_add(state.terminating));
    u64::from(held) * u64::from(state.gpus_per_replica)
}
