//! The risk of a miss to take, less the misses that no pool could have avoided.

use crate::{
    capacity::Capacity,
    demand::Demand,
    error_budget::{self, RiskTarget},
    objective::Objective,
    role::PerRole,
};

/// Risk targets once it is known which prompts compute longer than their limit. More replicas for
/// those would be paid for in vain, so they count as served in time.
pub(super) fn risk_targets(
    objective: &Objective,
    demand: &Demand,
    capacity: &Capacity<'_>,
) -> PerRole<RiskTarget> {
    let workload = &demand.workload;
    let limit = workload.prefill_limit_seconds(objective) - capacity.ttft_residual_seconds;
    let service = workload.service_times(capacity);
    let late = service.iter().filter(|(seconds, _)| *seconds > limit);
    let in_vain: f64 = late.map(|(_, share)| share).sum();
    let mut attained = workload.attained;
    if let Some(share) = &mut attained.prefill {
        share.value = (share.value + in_vain).min(1.0);
        share.high = (share.high + in_vain).min(1.0);
    }
    error_budget::risk_targets(objective, attained)
}
