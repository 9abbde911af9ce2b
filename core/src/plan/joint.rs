//! The joint solution: both roles fitted into ratio, bounds and budget.

use super::{
    in_force::{PolicyInForce, RatioInForce},
    observe::Observation,
    stabilize::Stabilized,
};
use crate::{
    need::Need,
    ratio::BreachCause,
    report::Proposal,
    role::{PerRole, Role},
    solve::{Attained, Problem, Solution},
    step::{Stage, Staged},
};

/// A pair of replicas that fits, or comes closest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JointSolution {
    /// The pair.
    pub(super) replicas: PerRole<u32>,
    /// The ratio in force.
    pub(super) ratio: RatioInForce,
    /// Why the pair lies outside the band, if it does.
    pub(super) breach: Option<BreachCause>,
}

impl JointSolution {
    /// For the report.
    pub(super) fn proposal(&self) -> Proposal {
        Proposal {
            stage: Stage::Solve,
            replicas: self.replicas.map(Some),
        }
    }
}

/// The cheapest pair that serves `wanted`, whose needs serve `needs`' shares of requests.
pub(super) fn solve(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    needs: &PerRole<Option<Need>>,
    wanted: &Stabilized,
    ratio: RatioInForce,
) -> Staged<JointSolution> {
    let Stabilized {
        replicas,
        ceilings,
        floors,
    } = *wanted;
    let mut bounds = policy.bounds;
    for role in Role::ALL {
        // Replicas that do not come leave their GPUs to the other role, but for the owner's
        // minimum.
        let most = ceilings[role].unwrap_or(u32::MAX);
        let bounds = &mut bounds[role];
        bounds.max_replicas = bounds.max_replicas.min(most.max(bounds.min_replicas));
    }
    let problem = Problem {
        bounds,
        budget_gpus: policy.budget_gpus,
        ratio: ratio.policy,
        need: replicas,
        current: seen.current(),
        // Replicas that gaps and faults do not allow to lower count as needed, but for those that
        // the user's own budget takes.
        floor: PerRole::from_fn(|role: Role| {
            bounds[role].clamp(floors[role].min(beside_the_other(policy, seen, role)))
        }),
        gpus_per_replica: seen.gpus_per_replica(),
        attained: PerRole::from_fn(|role: Role| {
            let need = needs[role].as_ref();
            need.map_or(Attained::UNKNOWN, |need| Attained::table(&need.attained))
        }),
    };
    // On the way into a hard band both roles may have to fall.
    let leaves_no_pair = policy.over_budget(seen) && !problem.is_feasible();
    let problem = if leaves_no_pair {
        let floor = bounds.map(|bounds| bounds.min_replicas);
        Problem { floor, ..problem }
    } else {
        problem
    };
    let Solution {
        replicas,
        breach,
        steps,
    } = problem.solve();
    let solution = JointSolution {
        replicas,
        ratio,
        breach,
    };
    Staged::new(solution, steps)
}

/// Most replicas of `role` that a budget leaves which is exceeded now, beside those that the other
/// role has, or must have: a role whose metrics have gaps makes no room for the other one to grow.
fn beside_the_other(policy: &PolicyInForce<'_>, seen: &Observation<'_>, role: Role) -> u32 {
    let (Some(budget), true) = (policy.budget_gpus, policy.over_budget(seen)) else {
        return u32::MAX;
    };
    let (current, gpus) = (seen.current(), seen.gpus_per_replica());
    let other = role.other();
    let others = current[other].max(policy.bounds[other].min_replicas).max(1);
    let others = u64::from(others) * u64::from(gpus[other]);
    let left = u64::from(budget).saturating_sub(others);
    let fit = left.checked_div(u64::from(gpus[role])).unwrap_or(u64::MAX);
    u32::try_from(fit).unwrap_or(u32::MAX)
}
