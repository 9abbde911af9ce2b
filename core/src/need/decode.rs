//! Decode replicas: enough slots and KV-cache blocks for the requests in flight.
//!
//! Output tokens per second times the time per token is the number of requests in flight (Little's
//! law). Decode workers share their steps, so below saturation that number is Poisson whatever the
//! lengths of answers are, wider when arrivals are bursty: its quantile must fit into the batches
//! that keep TPOT, and the KV cache of its contexts into the workers' memory. The first limit is a
//! slope, the second a cliff, so both are kept for themselves. Waiting requests and measured
//! latency count beside them.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{Need, Sizing};
use crate::{bottleneck::Bottleneck, capacity::Source, reason::Reason, role::Role};

/// Share of the time per token above the floor of one request alone that is aimed at: the rest is
/// for the scatter between workers, which comes from their batches. The floor is the same for all.
const TPOT_AIM: f64 = 0.9;

/// Error of a model whose shape is only assumed, beyond the batches that were seen: comparing it
/// with batches that run shows nothing about larger ones.
const ASSUMED_ERROR: f64 = 0.5;

/// Share of KV-cache blocks that may be in use: beyond it engines start to preempt.
const KV_USAGE_MAX: f64 = 0.85;

/// Fewest requests whose steps show that a replica has too much work: a few slow tokens of a quiet
/// minute show nothing.
pub const SLOW_SAMPLES_MIN: f64 = 20.0;

/// Requests in a step from which its time says something about work: one request alone is as fast
/// as the replica can be, whatever the load.
pub const BUSY_BATCH: f64 = 2.0;

/// A pool whose requests do not fit serves at best the part that does, and late.
const OVERLOADED_SHARE: f64 = 0.5;

/// Decode replicas that are needed, or nothing when that is not known. Not for an idle service.
pub(super) fn need(sizing: &Sizing<'_>) -> Option<Need> {
    let by_work = by_work(sizing);
    let modelled = by_work.as_ref().map(|need| need.replicas);
    let others = [
        by_kv_cache(sizing),
        by_queue(sizing),
        by_ceiling(sizing),
        by_latency(sizing, modelled),
    ];
    match by_work {
        Some(by_work) => Some(others.into_iter().fold(by_work, Need::or_larger)),
        // Without the work, the others are only lower bounds: they count when they raise.
        None => others
            .into_iter()
            .flatten()
            .filter(|need| need.replicas > sizing.replicas.decode.state.current)
            .max_by(|a, b| a.exact.total_cmp(&b.exact)),
    }
}

/// The batch one replica may run: the one that the model gives for the aimed-at TPOT, and of the
/// part beyond the running batch only as much as the model has proved right.
fn batch_per_replica(sizing: &Sizing<'_>) -> Option<f64> {
    let context = sizing.demand.workload.context_tokens();
    let floor = sizing.capacity.itl_seconds(1.0, context)?;
    let aim = floor + (limit_seconds(sizing) - floor).max(0.0) * TPOT_AIM;
    let batch = sizing.capacity.batch_within(aim, context)?;
    let running = sizing.signals.decode_batch().unwrap_or(0.0);
    let error = match sizing.capacity.decode_source {
        Source::Assumed => sizing.capacity.decode_error.max(ASSUMED_ERROR),
        _ => sizing.capacity.decode_error,
    };
    let beyond = (batch - running).max(0.0) * (1.0 - error);
    Some((running + beyond).clamp(1.0, batch.max(1.0)))
}

/// The time per token that is kept: the limit, or what can be met where that cannot.
fn limit_seconds(sizing: &Sizing<'_>) -> f64 {
    let limit = sizing.objective.tpot.limit.as_secs_f64();
    sizing
        .reach
        .decode
        .map_or(limit, |reach| reach.held_seconds)
}

/// Requests in flight, and how they fit.
struct InFlight {
    requests: f64,
    /// Their standard deviation.
    scatter: f64,
    batch: f64,
    /// Replicas that their KV caches take, if that is known.
    by_kv: Option<f64>,
}

impl InFlight {
    fn of(sizing: &Sizing<'_>, rate_tps: f64) -> Option<Self> {
        let context = sizing.demand.workload.context_tokens();
        let batch = batch_per_replica(sizing)?;
        let itl_seconds = sizing.capacity.itl_seconds(batch, context)?;
        let requests = rate_tps * itl_seconds;
        // Half of the burstiness: requests stay long enough to spread the other half.
        let peakedness = f64::midpoint(1.0, sizing.demand.workload.arrival_scv);
        Some(Self {
            requests,
            scatter: (peakedness * requests).sqrt(),
            batch,
            by_kv: by_kv_tokens(sizing, rate_tps, itl_seconds, peakedness),
        })
    }

    fn slots(&self, z: f64) -> f64 {
        high(self.requests, self.scatter, z)
    }

    fn replicas(&self, z: f64) -> f64 {
        (self.slots(z) / self.batch).max(self.by_kv.unwrap_or(0.0))
    }

    /// Share of requests that find their slot, by replicas.
    fn attained(&self, replicas_max: u32) -> Vec<f64> {
        let normal = Normal::standard();
        let share = |replicas: u32| {
            let slots = f64::from(replicas) * self.batch;
            let served = if self.scatter > 0.0 {
                normal.cdf((slots - self.requests) / self.scatter)
            } else {
                f64::from(u8::from(slots >= self.requests))
            };
            let kept = self.requests.max(f64::MIN_POSITIVE);
            served.max(OVERLOADED_SHARE * (slots / kept).min(1.0))
        };
        (0..=replicas_max).map(share).collect()
    }
}

/// The number in flight that is not exceeded, `z` standard deviations above its mean.
fn high(mean: f64, scatter: f64, z: f64) -> f64 {
    mean + z * scatter
}

/// Replicas for the KV tokens of requests in flight: their quantile in `KV_USAGE_MAX` of the
/// blocks.
fn by_kv_tokens(
    sizing: &Sizing<'_>,
    rate_tps: f64,
    itl_seconds: f64,
    peakedness: f64,
) -> Option<f64> {
    let residence = sizing.demand.workload.residence?;
    let capacity = sizing.kv_capacity.tokens?;
    if capacity <= 0.0 || residence.steps <= 0.0 {
        return None;
    }
    let (mean, variance) = residence.kv_tokens(rate_tps / residence.steps, itl_seconds);
    let scatter = (peakedness * variance).sqrt();
    let tokens = high(mean, scatter, sizing.risk_target.decode.z);
    Some(tokens / (capacity * KV_USAGE_MAX))
}

fn by_work(sizing: &Sizing<'_>) -> Option<Need> {
    let rate_tps = rate_tps(sizing)?;
    let ahead = sizing
        .forecast
        .decode
        .map(|distribution| distribution.forecast.value);
    let ahead = ahead.filter(|ahead| *ahead > rate_tps);
    let risk_target = sizing.risk_target.decode;
    let now = InFlight::of(sizing, rate_tps)?;
    let enough_now = now.replicas(risk_target.z);
    let in_flight = match ahead {
        Some(tps) => InFlight::of(sizing, tps)?,
        None => now,
    };
    let exact = in_flight.replicas(risk_target.z);
    let reason = if exact.ceil() > enough_now.ceil() {
        Reason::DecodeForecast
    } else if in_flight.by_kv >= Some(exact) {
        Reason::DecodeKvCache
    } else {
        Reason::DecodeWork
    };
    let memory = in_flight.by_kv.map_or_else(String::new, |replicas| {
        format!("; their KV caches fill {replicas:.2} replicas")
    });
    let message = format!(
        "{rate_tps:.0} output tokens/s{} keep {:.0} requests in flight, {:.0} at {:.1} %; a batch of {:.0} \
         per replica keeps TPOT under {:.0} ms{memory}",
        ahead.map_or_else(String::new, |tps| format!(
            ", {tps:.0} by the time new replicas serve,"
        )),
        in_flight.requests,
        in_flight.slots(risk_target.z),
        risk_target.quantile() * 100.0,
        in_flight.batch,
        limit_seconds(sizing) * 1e3,
    );
    let replicas_max = sizing.replicas_max(Role::Decode);
    let mut need = Need::of(exact, reason, message);
    need.attained = in_flight.attained(replicas_max);
    Some(need)
}

/// Output tokens per second that decode must generate once replicas requested now serve: those that
/// it generates, and of those that arrive beyond that the part that will be in flight by then.
fn rate_tps(sizing: &Sizing<'_>) -> Option<f64> {
    let generated = sizing.signals.output_token_rate_tps.known()?;
    let workload = &sizing.demand.workload;
    let arriving = workload
        .arrival_rate_rps
        .zip(workload.output_tokens_mean)
        .map(|(rate, tokens)| rate * tokens);
    let residence = workload
        .output_tokens_mean
        .zip(workload.itl_seconds_mean)
        .map(|(tokens, itl)| tokens * itl);
    let (Some(arriving), Some(residence)) = (arriving, residence) else {
        return Some(generated);
    };
    if arriving <= generated || residence <= 0.0 {
        return Some(generated);
    }
    let in_flight_by_then = -(-sizing.replicas.decode.lead.p90.as_secs_f64() / residence).exp_m1();
    Some(generated + (arriving - generated) * in_flight_by_then)
}

fn by_kv_cache(sizing: &Sizing<'_>) -> Option<Need> {
    let usage = sizing.signals.decode_kv_usage.known()?;
    // A mean over all workers that were scraped, those of a surge too.
    let workers = sizing.signals.coverage.decode.spoken_for();
    let message = format!(
        "KV caches of {workers} workers are {:.0} % full, {:.0} % is the most",
        usage * 100.0,
        KV_USAGE_MAX * 100.0
    );
    Some(Need::of(
        usage * f64::from(workers) / KV_USAGE_MAX,
        Reason::DecodeKvCache,
        message,
    ))
}

fn by_queue(sizing: &Sizing<'_>) -> Option<Need> {
    let waiting = sizing.signals.waiting_requests.decode.known()?;
    let running = sizing.signals.running_requests.decode.known()?;
    // Those that wait for their KV cache to arrive need no other worker.
    let deferred = sizing.signals.decode_deferred_requests.known();
    let waiting = waiting - deferred.unwrap_or(0.0);
    if waiting < 1.0 || sizing.demand.bottleneck == Bottleneck::KvTransfer {
        return None;
    }
    let batch = batch_per_replica(sizing)?;
    let message = format!(
        "{waiting:.0} requests wait for decode and {running:.0} run; one replica takes {batch:.0}"
    );
    Some(Need::of(
        (running + waiting) / batch,
        Reason::DecodeQueue,
        message,
    ))
}

/// Replicas that were seen to fail get less work than they failed at.
fn by_ceiling(sizing: &Sizing<'_>) -> Option<Need> {
    let rate_tps = rate_tps(sizing)?;
    let most = sizing.decode_ceiling_tps?;
    let message = format!(
        "{rate_tps:.0} output tokens/s; a replica gets at most {most:.0}, because with more TPOT was over \
         its limit lately"
    );
    Some(Need::of(rate_tps / most, Reason::DecodeLatency, message))
}

fn by_latency(sizing: &Sizing<'_>, modelled: Option<u32>) -> Option<Need> {
    let limit_seconds = limit_seconds(sizing);
    let stated = sizing.signals.tpot_seconds_override.known();
    // Requests one after the other are as fast as a replica can be.
    let many = sizing.signals.recent.tpot.with_samples(SLOW_SAMPLES_MIN);
    let busy = many.is_ok() && sizing.signals.decode_batch() >= Some(BUSY_BATCH);
    let seen = sizing.demand.workload.itl_seconds_mean.filter(|_| busy);
    let measured = stated.or(seen)?;
    if measured <= limit_seconds {
        return None;
    }
    let replicas = sizing.correction(Role::Decode, modelled)?;
    let message = format!(
        "measured TPOT is {:.0} ms, over the limit of {:.0} ms",
        measured * 1e3,
        limit_seconds * 1e3
    );
    Some(Need::of(
        f64::from(replicas),
        Reason::DecodeLatency,
        message,
    ))
}

#[cfg(test)]
mod tests;
