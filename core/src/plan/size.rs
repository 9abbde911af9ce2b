//! The needs: how many replicas the objective takes for the work that is expected.

use super::{in_force::PolicyInForce, learn::LearntCapacity, observe::Observation};
use crate::{
    capacity::{Capacity, Source},
    demand::Demand,
    error_budget::RiskTarget,
    forecast::ForecastDistribution,
    need::{Need, Sizing, needs},
    reason::Reason,
    role::PerRole,
    step::{Stage, Staged, Step},
};

/// Replicas that each role needs, or nothing where that is not known.
pub(super) fn size(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    capacity: &LearntCapacity<'_>,
    risk_target: PerRole<RiskTarget>,
    forecast: &PerRole<Option<ForecastDistribution>>,
) -> Staged<PerRole<Option<Need>>> {
    let sizing = Sizing {
        objective: policy.objective,
        bounds: policy.bounds,
        replicas: &seen.replicas,
        signals: &seen.signals.signals,
        demand,
        capacity: &capacity.replica,
        decode_ceiling_tps: capacity.decode_ceiling_tps,
        risk_target,
        forecast,
    };
    let needs = needs(&sizing);
    let mut steps = describe(demand, &capacity.replica);
    let of_roles = needs.iter().filter_map(|(role, need)| {
        let need = need.as_ref()?;
        let message = need.message.clone();
        Some(Step::of_role(Stage::Need, role, need.reason, message))
    });
    steps.extend(of_roles);
    Staged::new(needs, steps)
}

/// The work that arrives, and the performance that a replica is taken to have.
fn describe(demand: &Demand, capacity: &Capacity<'_>) -> Vec<Step> {
    let of_workload = |message| Step::of_both(Stage::Workload, Reason::Workload, message);
    let texts = demand
        .message()
        .into_iter()
        .chain(demand.workload.remarks());
    let mut steps: Vec<Step> = texts.map(of_workload).collect();
    if capacity.source() != Source::Unknown {
        let message = capacity.message();
        steps.push(Step::of_both(Stage::Capacity, Reason::Capacity, message));
    }
    steps
}
