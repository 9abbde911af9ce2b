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
    let over_budget = policy.over_budget(seen);
    let problem = Problem {
        bounds,
        budget_gpus: policy.budget_gpus,
        ratio: ratio.policy,
        need: replicas,
        current: seen.current(),
        // Replicas that gaps and faults do not allow to lower count as needed, unless the user's
        // own budget lowers them.
        floor: PerRole::from_fn(|role: Role| {
            let floor = if over_budget { 0 } else { floors[role] };
            bounds[role].clamp(floor)
        }),
        gpus_per_replica: seen.gpus_per_replica(),
        attained: PerRole::from_fn(|role: Role| {
            let need = needs[role].as_ref();
            need.map_or(Attained::UNKNOWN, |need| Attained::table(&need.attained))
        }),
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
