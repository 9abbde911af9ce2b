//! The work that is expected while replicas start.

use std::time::Duration;

use super::observe::Observation;
use crate::{
    capacity::Capacity,
    demand::Demand,
    error_budget::RiskTarget,
    forecast::{ForecastDistribution, Forecaster},
    in_flight::{InFlight, InFlightMemory},
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// Longest horizon: further ahead the history of four hours shows nothing.
const HORIZON_MAX: Duration = Duration::from_mins(30);

/// Takes in each role's work.
pub(super) fn remember_work(
    seen: &Observation<'_>,
    demand: &Demand,
    capacity: &Capacity<'_>,
    memory: &mut PerRole<Forecaster>,
    now: Timestamp,
) {
    // Prompts are forecast in tokens: the time of a token falls as a full pool shares its steps,
    // and a forecast of time would take a pool that is full for one that is not.
    let seconds_per_token = seconds_per_token(demand, capacity);
    if let Some(seconds) = seconds_per_token {
        memory.prefill.measure_in(seconds);
    }
    let tokens_per_second = seconds_per_token.and_then(|_| {
        let tokens = demand.workload.prompt_tokens?.first;
        Some(demand.workload.arrival_rate_rps? * tokens)
    });
    for (role, forecaster) in [
        (Role::Prefill, &mut memory.prefill),
        (Role::Decode, &mut memory.decode),
    ] {
        let Some(work) = demand.work[role] else {
            continue;
        };
        let work = match tokens_per_second.filter(|_| role == Role::Prefill) {
            Some(tokens) => tokens,
            None => work / forecaster.unit(),
        };
        // Work that is known in part is at least that: it may show a rise, and no fall.
        let complete = seen.signals.evidence[role].complete();
        if complete || forecaster.latest().is_none_or(|latest| work > latest) {
            forecaster.observe(work, now);
        }
    }
}

/// The requests in flight on decode, and their growth that is not explained; nothing where that is
/// not known of all workers, because workers that are seen again would look like growth.
pub(super) fn in_flight(
    seen: &Observation<'_>,
    demand: &Demand,
    memory: &mut InFlightMemory,
) -> Option<InFlight> {
    let signals = &seen.signals.signals;
    let complete = seen.signals.evidence.decode.complete();
    let Some(requests) = signals.decode_in_flight().filter(|_| complete) else {
        memory.forget();
        return None;
    };
    let elapsed = seen.since_last.unwrap_or_default();
    let peakedness = demand.workload.arrival_scv;
    let seen = memory.observe(requests, peakedness, signals.rate_window, elapsed);
    let workload = &demand.workload;
    let tokens = workload.output_tokens_mean.filter(|tokens| *tokens > 0.0)?;
    let go_rps = signals.output_token_rate_tps.known()? / tokens;
    // After a queue before prefill more come to decode than arrive.
    let prefilled_rps = signals.prefill_completion_rate_rps.known();
    let come_rps = workload.arrival_rate_rps?.max(prefilled_rps.unwrap_or(0.0));
    Some(seen.unexplained(come_rps, go_rps))
}

/// The part of the changes of each role's work, 0 to 1, that comes back before replicas serve.
pub(super) fn comes_back(seen: &Observation<'_>, memory: &PerRole<Forecaster>) -> PerRole<f64> {
    PerRole::from_fn(|role| memory[role].comes_back(horizon(seen, role)))
}

/// Forecasts each role's work for the moment when replicas requested now would serve.
pub(super) fn forecast_work(
    seen: &Observation<'_>,
    demand: &Demand,
    capacity: &Capacity<'_>,
    risk_target: PerRole<RiskTarget>,
    memory: &PerRole<Forecaster>,
    now: Timestamp,
) -> Staged<PerRole<Option<ForecastDistribution>>> {
    let mut steps = Vec::new();
    let forecast = PerRole::from_fn(|role: Role| {
        let horizon = horizon(seen, role);
        let quantile = risk_target[role].quantile();
        let distribution = memory[role].distribution(horizon, quantile, now)?;
        let distribution = match role {
            Role::Prefill => distribution.times(memory.prefill.unit()),
            Role::Decode => distribution.damped(felt(demand, capacity, horizon)),
        };
        let message = distribution.forecast.message();
        steps.push(Step::of_role(
            Stage::Forecast,
            role,
            Reason::Forecast,
            message,
        ));
        Some(distribution)
    });
    Staged::new(forecast, steps)
}

/// Time until replicas requested now serve. A rate is of half its window ago, so a forecast has to
/// reach over that too.
fn horizon(seen: &Observation<'_>, role: Role) -> Duration {
    let lag = seen.signals.signals.rate_window / 2;
    let lead = seen.replicas[role].lead.p90;
    lead.saturating_add(lag).min(HORIZON_MAX)
}

/// Compute seconds per prompt token as replicas are known, mean; nothing when not known.
fn seconds_per_token(demand: &Demand, capacity: &Capacity<'_>) -> Option<f64> {
    let tokens = demand.workload.prompt_tokens?.first;
    let times = demand.workload.service_times(capacity);
    let seconds: f64 = times.iter().map(|(seconds, share)| seconds * share).sum();
    (tokens > 0.0 && seconds > 0.0).then(|| seconds / tokens)
}

/// The part, 0 to 1, of a change of the load that the requests in flight have followed after
/// `horizon`, if the load changes evenly until then.
///
/// Requests leave at the rate N / (output * ITL(N)) and ITL(N) = floor + slope * N, so a batch
/// follows its load with the time constant output * ITL^2 / floor: that of the answers, longer the
/// more of a step the batch makes.
fn felt(demand: &Demand, capacity: &Capacity<'_>, horizon: Duration) -> f64 {
    let workload = &demand.workload;
    let floor = capacity.itl_seconds(1.0, workload.context_tokens());
    let (Some(output), Some(itl), Some(floor)) = (
        workload.output_tokens_mean,
        workload.itl_seconds_mean,
        floor,
    ) else {
        return 1.0;
    };
    let ratio = horizon.as_secs_f64() / (output * itl * (itl / floor).max(1.0));
    if ratio.is_finite() && ratio > 0.0 {
        1.0 + (-ratio).exp_m1() / ratio
    } else {
        1.0
    }
}
