//! The guarded plan: the part of the joint solution that may be done now, after rate policies,
//! bounds that moved, replicas that leave, pauses and releases that must
//! come first.

use super::{
    in_force::PolicyInForce, joint::JointSolution, observe::Observation, stabilize::Stabilized,
};
use crate::{
    guard::{self, BeforeBand, BoundedRole},
    report::Proposal,
    role::{PerRole, Role},
    role_state::RoleState,
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// Replicas to request now, on the way to `solution`. While a role backs off from a request that
/// was stuck, its ceiling holds.
pub(super) fn hold(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    solution: &JointSolution,
    wanted: &Stabilized,
    now: Timestamp,
) -> Staged<PerRole<u32>> {
    let mut steps = Vec::new();
    let current = seen.current();
    let over_budget = policy.over_budget(seen);
    let limited = PerRole::from_fn(|role: Role| {
        let bounded = BoundedRole {
            role,
            current: current[role],
            bounds: policy.bounds[role],
            needed: wanted.replicas[role],
            over_budget,
            scale_down: &policy.behavior.scale_down,
            changes: seen.replicas[role].changes,
        };
        let (to, ceiling) = (solution.replicas[role], wanted.ceilings[role]);
        let state = seen.replicas[role].state;
        of_role(&bounded, policy, &state, (to, ceiling), &mut steps, now)
    });
    // Both roles at once: one grows only into GPUs that are free, and only as far as the band
    // holds.
    let roles = seen.replicas.map(|replicas| replicas.state);
    let (granted, waits) = guard::await_releases(limited, &roles, policy.budget_gpus);
    steps.extend(waits);
    let ratio = solution.ratio.policy;
    let limits = BeforeBand {
        bounds: policy.bounds,
        over_budget,
    };
    let (kept, step) = guard::keep_hard_band(granted, current, ratio, limits);
    steps.extend(step);
    Staged::new(kept, steps)
}

/// For the report.
pub(super) fn proposal(to: PerRole<u32>) -> Proposal {
    Proposal {
        stage: Stage::Guard,
        replicas: to.map(Some),
    }
}

fn of_role(
    bounded: &BoundedRole<'_>,
    policy: &PolicyInForce<'_>,
    state: &RoleState,
    (wanted, ceiling): (u32, Option<u32>),
    steps: &mut Vec<Step>,
    now: Timestamp,
) -> u32 {
    let BoundedRole {
        role,
        current,
        bounds,
        needed: _,
        over_budget: _,
        scale_down: _,
        changes,
    } = *bounded;
    let (limited, limits) = guard::limit_rate(role, wanted, current, policy.behavior, changes, now);
    let (inside, outside) = bounded.hold_bounds(wanted, limited, now);
    let timeout = policy.behavior.drain_timeout;
    let (inside, drains) = guard::await_drain(role, inside, state, changes, timeout, now);
    // Replicas that do not come are taken back at any rate, but for the owner's minimum.
    let most = ceiling.unwrap_or(u32::MAX).max(bounds.min_replicas);
    let (replicas, pauses) = guard::pause(role, inside.min(most), current, policy.paused);
    steps.extend(
        limits
            .into_iter()
            .chain(outside)
            .chain(drains)
            .chain(pauses),
    );
    replicas
}
