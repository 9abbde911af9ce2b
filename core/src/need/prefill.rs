//! Prefill replicas: the smallest pool that keeps the TTFT tail inside the objective.
//!
//! Arriving prompts and their compute times go through the tail formula of [`crate::queueing`],
//! with what KV transfer and decode admission already take off the limit. A queue that has built up
//! adds the replicas that drain it within [`DRAIN_SECONDS`].

use super::{Need, correction};
use crate::{
    capacity::Learnt,
    memory::Memory,
    queueing::{Attainment, Work, attainment},
    report::Reason,
    role::Role,
    snapshot::Snapshot,
    time::Timestamp,
    workload::Workload,
};

/// Seconds within which a prefill queue should be gone once what it asks for serves. Shorter asks for
/// replicas that idle a minute later, longer leaves users waiting.
const DRAIN_SECONDS: f64 = 60.0;

/// Before anything is learnt: waiting prompts per ready worker from which one more is asked for.
const SATURATED_WAITING_PER_WORKER: f64 = 2.0;

/// Prefill replicas that `snapshot`, which is not idle, needs, or nothing when that is not known.
pub(super) fn need(
    snapshot: &Snapshot,
    workload: &Workload,
    memory: &Memory,
    now: Timestamp,
) -> Option<Need> {
    let waiting = snapshot.signals.waiting_requests.prefill.known();
    let by_work = by_work(snapshot, workload, &memory.learnt, waiting.unwrap_or(0.0));
    let Some(by_work) = by_work else {
        return saturated(snapshot, waiting);
    };
    Some(by_work.or_larger(by_latency(snapshot, workload, memory, now)))
}

fn by_work(
    snapshot: &Snapshot,
    workload: &Workload,
    learnt: &Learnt,
    waiting: f64,
) -> Option<Need> {
    let arrival_rate_rps = workload.arrival_rate_rps?;
    let mean_seconds = workload
        .prefill_seconds_mean
        .or(learnt.prefill_seconds_per_request)?;
    let ttft = snapshot.policy.objective.ttft;
    let transfer = workload.transfer_seconds_mean.unwrap_or(0.0);
    let work = Work {
        arrival_rate_rps,
        arrival_scv: 1.0,
        service: service_times(&workload.prompt_lengths, mean_seconds),
    };
    let replicas_max = snapshot.policy.bounds.prefill.max_replicas;
    let limit_seconds = ttft.limit.as_secs_f64() - transfer;
    let miss_share = 1.0 - f64::from(ttft.percentile) / 100.0;
    let attained = attainment(&work, limit_seconds, 1.0, replicas_max);
    let draining = waiting * mean_seconds / DRAIN_SECONDS;
    let load = work.offered_load();
    let pool = match attained.servers_for(miss_share) {
        Some(servers) => f64::from(servers),
        None => load.max(f64::from(replicas_max)),
    };
    let queue_decides = draining >= 0.5;
    let reason = if queue_decides {
        Reason::PrefillQueue
    } else {
        Reason::PrefillWork
    };
    let exact = pool
        + if queue_decides {
            draining.round().max(1.0)
        } else {
            0.0
        };
    let message = message(snapshot, &work, &attained, waiting, exact, limit_seconds);
    let mut need = Need::of(exact, replicas_max, reason, message);
    // Tolerance is judged by how busy the pool would be, not by the whole number it was rounded to.
    need.exact = (need.exact - 1.0 + (load / need.exact.max(1.0))).max(load);
    Some(need)
}

/// Compute seconds by prompt length: in proportion to tokens, with the measured mean.
fn service_times(prompt_lengths: &[(f64, f64)], mean_seconds: f64) -> Vec<(f64, f64)> {
    let mean_tokens: f64 = prompt_lengths
        .iter()
        .map(|(tokens, share)| tokens * share)
        .sum();
    if mean_tokens <= 0.0 {
        return vec![(mean_seconds, 1.0)];
    }
    let seconds_per_token = mean_seconds / mean_tokens;
    prompt_lengths
        .iter()
        .map(|&(tokens, share)| (tokens * seconds_per_token, share))
        .collect()
}

fn message(
    snapshot: &Snapshot,
    work: &Work,
    attained: &Attainment,
    waiting: f64,
    exact: f64,
    limit_seconds: f64,
) -> String {
    let arriving = format!(
        "{:.2} requests/s of {:.0} ms each keep {:.2} workers busy, {waiting:.0} wait",
        work.arrival_rate_rps,
        work.mean_service_seconds() * 1e3,
        work.offered_load(),
    );
    let ttft = snapshot.policy.objective.ttft;
    if limit_seconds <= 0.0 {
        let limit = ttft.limit.as_secs_f64() * 1e3;
        return format!(
            "{arriving}; KV transfer and decode admission alone take longer than the TTFT limit of \
             {limit:.0} ms, which more prefill does not mend"
        );
    }
    let unreachable = if attained.unreachable_share > 0.005 {
        format!(
            "; {:.1} % of the prompts compute longer than that on any number",
            attained.unreachable_share * 100.0
        )
    } else {
        String::new()
    };
    format!(
        "{arriving}; p{} of TTFT stays under {:.0} ms with {exact:.0}{unreachable}",
        ttft.percentile,
        limit_seconds * 1e3,
    )
}

fn by_latency(
    snapshot: &Snapshot,
    workload: &Workload,
    memory: &Memory,
    now: Timestamp,
) -> Option<Need> {
    use crate::report::Bottleneck;
    let objective = &snapshot.policy.objective;
    let bottleneck = workload.bottleneck(&snapshot.signals, objective);
    let ttft = workload.observed.ttft_seconds?;
    if bottleneck != Bottleneck::PrefillQueue {
        return None;
    }
    let role = Role::Prefill;
    let replicas = correction(snapshot.roles.get(role), memory.roles.get(role), now)?;
    let message = format!(
        "measured TTFT is {:.0} ms at p{}, over the limit of {:.0} ms",
        ttft * 1e3,
        objective.ttft.percentile,
        objective.ttft.limit.as_secs_f64() * 1e3
    );
    let replicas_max = snapshot.policy.bounds.prefill.max_replicas;
    Some(Need::of(
        f64::from(replicas),
        replicas_max,
        Reason::PrefillLatency,
        message,
    ))
}

fn saturated(snapshot: &Snapshot, waiting: Option<f64>) -> Option<Need> {
    let state = snapshot.roles.prefill;
    let waiting = waiting?;
    if state.ready == 0
        || state.starting > 0
        || waiting < SATURATED_WAITING_PER_WORKER * f64::from(state.ready)
    {
        return None;
    }
    let replicas = f64::from(state.ready.saturating_add(1));
    let message = format!(
        "{waiting:.0} prompts wait for {} workers, and nothing is learnt yet about their speed",
        state.ready
    );
    let replicas_max = snapshot.policy.bounds.prefill.max_replicas;
    Some(Need::of(replicas, replicas_max, Reason::Saturated, message))
}
