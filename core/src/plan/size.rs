//! The needs: how many replicas the objective takes for the work that is expected.

use super::{in_force::PolicyInForce, learn::LearntCapacity, observe::Observation};
use crate::{
    capacity::{Capacity, KvCapacity, Source, kv_capacity},
    demand::Demand,
    error_budget::RiskTarget,
    forecast::ForecastDistribution,
    in_flight::InFlight,
    need::{Need, Sizing, needs},
    objective::Objective,
    reach::Reach,
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    tuning::Tuning,
};

/// The load that replicas must be ready for, and the risk that they are not.
pub(super) struct Expected<'a> {
    /// Work of each role when replicas requested now would serve.
    pub(super) forecast: &'a PerRole<Option<ForecastDistribution>>,
    /// Requests in flight on decode, and how they grow.
    pub(super) in_flight: Option<InFlight>,
    /// Risk of a miss that sizing takes.
    pub(super) risk_target: PerRole<RiskTarget>,
}

/// Replicas that each role needs, or nothing where that is not known.
pub(super) fn size(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    capacity: &LearntCapacity<'_>,
    reach: &PerRole<Option<Reach>>,
    expected: &Expected<'_>,
    tuning: &Tuning,
) -> Staged<PerRole<Option<Need>>> {
    let (signals, replica) = (&seen.signals.signals, capacity.replica);
    let context = demand.workload.context_tokens();
    let of_engine = signals.decode_kv_capacity_tokens.known();
    let of_profile = kv_capacity(signals, replica.kv_capacity_tokens(), context);
    let kv = of_engine.map_or(of_profile, |tokens| {
        kv_capacity(signals, Some(tokens), context)
    });
    let replica = match (of_profile.contradicted, of_profile.tokens) {
        (Some(_), Some(tokens)) => replica.with_kv_measured(tokens),
        _ => replica,
    };
    let sizing = Sizing {
        objective: policy.objective,
        bounds: policy.bounds,
        replicas: &seen.replicas,
        signals,
        demand,
        capacity: &replica,
        kv_capacity: kv,
        reach,
        decode_ceiling_tps: capacity.decode_ceiling_tps,
        decode_proven: capacity.decode_proven,
        tuning,
        risk_target: expected.risk_target,
        forecast: expected.forecast,
        in_flight: expected.in_flight,
    };
    let needs = needs(&sizing);
    let mut steps = describe(demand, &capacity.replica);
    let of_roles = needs.iter().filter_map(|(role, need)| {
        let need = need.as_ref()?;
        let message = need.message.clone();
        Some(Step::of_role(Stage::Need, role, need.reason, message))
    });
    steps.extend(of_roles);
    steps.extend(contradicted(kv));
    if of_profile != kv {
        steps.extend(contradicted(of_profile));
    }
    steps.extend(unreachable(policy.objective, reach));
    for role in Role::ALL {
        steps.extend(at_maximum(
            role,
            needs[role].as_ref(),
            policy.bounds[role].max_replicas,
        ));
    }
    Staged::new(needs, steps)
}

/// A KV cache that was seen to hold something else than is stated.
fn contradicted(found: KvCapacity) -> Option<Step> {
    let (stated, tokens) = found.contradicted.zip(found.tokens)?;
    let message = format!(
        "a KV cache is stated to hold {stated:.0} tokens, and by its use it holds {tokens:.0}; its use counts"
    );
    let reason = Reason::SignalsContradict;
    Some(Step::of_role(Stage::Need, Role::Decode, reason, message))
}

/// A need beyond the maximum, whoever lowers it later and why.
fn at_maximum(role: Role, need: Option<&Need>, most: u32) -> Option<Step> {
    let needed = need?.replicas;
    let message = format!("{needed} replicas are needed, and maxReplicas is {most}");
    (needed > most).then(|| Step::of_role(Stage::Need, role, Reason::AtMaximum, message))
}

/// The limits that no number of replicas keeps, and those that could be kept.
fn unreachable<'a>(
    objective: &'a Objective,
    reach: &'a PerRole<Option<Reach>>,
) -> impl Iterator<Item = Step> + 'a {
    reach.iter().filter_map(|(role, reach)| {
        let reach = reach.filter(|reach| reach.is_short(objective))?;
        let (latency, limit, cause) = match role {
            Role::Prefill => ("TTFT", objective.ttft.limit, "compute longer"),
            Role::Decode => ("TPOT", objective.tpot.limit, "are slower even alone on a replica"),
        };
        let message = format!(
            "no number of replicas keeps the {latency} limit of {:.0} ms for {:.1} % of requests, which \
             {cause}; a limit of {:.1} ms could be met",
            limit.as_secs_f64() * 1e3,
            reach.unreachable_share * 100.0,
            reach.attainable_seconds * 1e3,
        );
        let reason = Reason::ObjectiveUnreachable;
        Some(Step::of_role(Stage::Need, role, reason, message))
    })
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
