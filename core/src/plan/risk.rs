//! The risk of a miss to take, less the misses that no pool could have avoided.
//!
//! Attainment is of the whole attainment window, so the share that no number of replicas serves in
//! time is taken over the same span: a minute of long prompts excuses no miss of the hour before.

use super::{in_force::PolicyInForce, observe::Observation};
use crate::{
    demand::Demand,
    error_budget::{self, RiskTarget},
    reach::{Reach, UnreachableShare},
    role::{PerRole, Role},
    tuning::Tuning,
};

/// Share of the requests out of reach from which the others are too few to judge a budget by.
const MOST_OUT_OF_REACH: f64 = 0.5;

/// Risk targets once it is known which requests no number of replicas serves in time. More replicas
/// for those would be paid for in vain, so they count as served in time.
pub(super) fn risk_targets(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    reach: &PerRole<Option<Reach>>,
    memory: &mut PerRole<UnreachableShare>,
    comes_back: PerRole<f64>,
    tuning: &Tuning,
) -> PerRole<RiskTarget> {
    let objective = policy.objective;
    let mut attained = demand.workload.budget_attained();
    for role in Role::ALL {
        if let Some(reach) = reach[role] {
            let window = objective.attainment.window;
            memory[role].observe(reach.unreachable_share, seen.since_last, window);
        }
        let in_vain = memory[role].share();
        if in_vain > MOST_OUT_OF_REACH {
            attained[role] = None;
        } else if let Some(share) = &mut attained[role] {
            share.value = (share.value + in_vain).min(1.0);
            share.high = (share.high + in_vain).min(1.0);
        }
    }
    error_budget::risk_targets(objective, attained, comes_back, tuning)
}
