//! Decode replicas: enough slots and KV-cache blocks for the requests in flight.
//!
//! Arriving output tokens times the time per token is the number of requests in flight (Little's
//! law); its Poisson quantile divided by the batch that keeps TPOT is the pool. KV-cache use and
//! waiting requests have their own say, because a full cache is a cliff and not a slope.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{Need, correction};
use crate::{
    memory::Memory, report::Reason, role::Role, snapshot::Snapshot, time::Timestamp,
    workload::Workload,
};

/// Share of the TPOT limit that is aimed at: what is left is for the scatter between workers.
const TPOT_AIM: f64 = 0.9;

/// Share of KV-cache blocks that may be in use: beyond it engines start to preempt.
const KV_USAGE_MAX: f64 = 0.85;

/// Decode replicas that `snapshot`, which is not idle, needs, or nothing when that is not known.
pub(super) fn need(
    snapshot: &Snapshot,
    workload: &Workload,
    memory: &Memory,
    now: Timestamp,
) -> Option<Need> {
    let others = [
        by_kv_cache(snapshot),
        by_queue(snapshot, memory),
        by_latency(snapshot, workload, memory, now),
    ];
    match by_work(snapshot, workload, memory) {
        Some(by_work) => Some(others.into_iter().fold(by_work, Need::or_larger)),
        // Without the work, the others are only lower bounds: they count when they raise.
        None => others
            .into_iter()
            .flatten()
            .filter(|need| need.replicas > snapshot.roles.decode.current)
            .max_by(|a, b| a.exact.total_cmp(&b.exact)),
    }
}

/// The batch one replica may run, from what is learnt.
fn batch_per_replica(snapshot: &Snapshot, memory: &Memory) -> Option<f64> {
    let aim_seconds = snapshot.policy.objective.tpot.limit.as_secs_f64() * TPOT_AIM;
    memory.learnt.decode.batch_within(aim_seconds)
}

fn by_work(snapshot: &Snapshot, workload: &Workload, memory: &Memory) -> Option<Need> {
    let batch = batch_per_replica(snapshot, memory)?;
    let itl_seconds = memory.learnt.decode.itl_seconds(batch)?;
    let generated = snapshot.signals.output_token_rate_tps.known()?;
    let output_tokens = workload
        .output_tokens_mean
        .or(memory.learnt.output_tokens_per_request)
        .unwrap_or(0.0);
    let arriving = workload.arrival_rate_rps.unwrap_or(0.0) * output_tokens;
    let rate_tps = generated.max(arriving);
    let in_flight = rate_tps * itl_seconds;
    let percentile = f64::from(snapshot.policy.objective.tpot.percentile) / 100.0;
    let z = Normal::standard().inverse_cdf(percentile);
    let in_flight_high = in_flight + z * in_flight.sqrt();
    let exact = in_flight_high / batch;
    let message = format!(
        "{rate_tps:.0} output tokens/s keep {in_flight:.0} requests in flight ({in_flight_high:.0} at \
         p{}); a batch of {batch:.0} per replica keeps TPOT under {:.0} ms",
        snapshot.policy.objective.tpot.percentile,
        snapshot.policy.objective.tpot.limit.as_secs_f64() * 1e3,
    );
    let replicas_max = snapshot.policy.bounds.decode.max_replicas;
    Some(Need::of(exact, replicas_max, Reason::DecodeWork, message))
}

fn by_kv_cache(snapshot: &Snapshot) -> Option<Need> {
    let usage = snapshot.signals.decode_kv_usage.known()?;
    let ready = snapshot.roles.decode.ready;
    let exact = usage * f64::from(ready) / KV_USAGE_MAX;
    let message = format!(
        "KV caches of {ready} workers are {:.0} % full, {:.0} % is the most",
        usage * 100.0,
        KV_USAGE_MAX * 100.0
    );
    let replicas_max = snapshot.policy.bounds.decode.max_replicas;
    Some(Need::of(
        exact,
        replicas_max,
        Reason::DecodeKvCache,
        message,
    ))
}

fn by_queue(snapshot: &Snapshot, memory: &Memory) -> Option<Need> {
    let waiting = snapshot.signals.waiting_requests.decode.known()?;
    let running = snapshot.signals.running_requests.decode.known()?;
    if waiting < 1.0 {
        return None;
    }
    let batch = batch_per_replica(snapshot, memory)?;
    let message = format!(
        "{waiting:.0} requests wait for decode and {running:.0} run; one replica takes {batch:.0}"
    );
    let replicas_max = snapshot.policy.bounds.decode.max_replicas;
    Some(Need::of(
        (running + waiting) / batch,
        replicas_max,
        Reason::DecodeQueue,
        message,
    ))
}

fn by_latency(
    snapshot: &Snapshot,
    workload: &Workload,
    memory: &Memory,
    now: Timestamp,
) -> Option<Need> {
    let limit_seconds = snapshot.policy.objective.tpot.limit.as_secs_f64();
    let stated = snapshot.signals.tpot_seconds_override.known();
    let measured = stated.or(workload.itl_seconds_mean)?;
    if measured <= limit_seconds {
        return None;
    }
    let role = Role::Decode;
    let replicas = correction(snapshot.roles.get(role), memory.roles.get(role), now)?;
    let message = format!(
        "measured TPOT is {:.0} ms, over the limit of {:.0} ms",
        measured * 1e3,
        limit_seconds * 1e3
    );
    let replicas_max = snapshot.policy.bounds.decode.max_replicas;
    Some(Need::of(
        f64::from(replicas),
        replicas_max,
        Reason::DecodeLatency,
        message,
    ))
}
