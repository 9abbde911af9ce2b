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

/// How far beyond the largest batch that kept the limit replicas may be taken away at once: one of
/// five. A batch that holds is seen within a window and allows the next step; one that fails is one
/// replica, which is asked for again at once.
const BATCH_STEP: f64 = 1.25;

/// How much longer a step may take for being padded to the next size that an engine has recorded:
/// from 128 to 160 requests `AIConfigurator`'s table of Llama-70B FP8 on two H200 has 28 / 17.6 ms.
const PADDED: f64 = 1.6;

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

/// Standard deviations beyond which nothing is in doubt.
const CERTAIN_Z: f64 = 6.0;

/// Halvings that find a number of replicas to a thousandth.
const BISECTIONS: u32 = 24;

/// Decode replicas that are needed, or nothing when that is not known. Not for an idle service.
pub(super) fn need(sizing: &Sizing<'_>) -> Option<Need> {
    let by_work = by_work(sizing);
    let modelled = by_work.as_ref().map(|need| need.replicas);
    let others = [
        by_kv_cache(sizing),
        by_queue(sizing),
        by_growth(sizing),
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
/// part beyond the largest that was seen to keep the limit only as much as the model has proved
/// right. A batch that kept the limit is never refused, so replicas that come and thin out the
/// batches call for no more of their kind.
fn batch_per_replica(sizing: &Sizing<'_>) -> Option<f64> {
    let context = sizing.demand.workload.context_tokens();
    let floor = sizing.capacity.itl_seconds(1.0, context)?;
    let aimed = (TPOT_AIM * sizing.tuning.tpot_aim).min(1.0);
    let aim = floor + (limit_seconds(sizing) - floor).max(0.0) * aimed;
    let batch = sizing.capacity.batch_within(aim, context)?;
    let proven = sizing.decode_proven.batch(context).unwrap_or(0.0);
    let error = match sizing.capacity.decode_source {
        Source::Assumed => sizing.capacity.decode_error.max(ASSUMED_ERROR),
        _ => sizing.capacity.decode_error,
    };
    let beyond = (batch - proven).max(0.0) * (1.0 - error);
    Some((proven + beyond).max(1.0))
}

/// Replicas below which `rate_tps` would need batches far beyond those seen: a step beyond the
/// largest that kept the limit, or as far as the model keeps it even if the batch were padded.
fn fewest_proven(sizing: &Sizing<'_>, rate_tps: f64) -> Option<f64> {
    let (workload, capacity) = (&sizing.demand.workload, sizing.capacity);
    let context = workload.context_tokens();
    let proven = sizing.decode_proven.batch(context)?;
    let padded = (PADDED * sizing.tuning.padded).max(1.0);
    let surely = capacity.batch_within(limit_seconds(sizing) / padded, context)?;
    let step = (BATCH_STEP * sizing.tuning.batch_step).max(1.0);
    let batch = surely.max(proven * step).max(1.0);
    Some(rate_tps * capacity.itl_seconds(batch, context)? / batch)
}

/// The time per token that is kept: the limit, or what can be met where that cannot.
fn limit_seconds(sizing: &Sizing<'_>) -> f64 {
    let limit = sizing.objective.tpot.limit.as_secs_f64();
    sizing
        .reach
        .decode
        .map_or(limit, |reach| reach.held_seconds)
}

/// A number that is scattered about one of several means: `(mean, standard deviation,
/// probability)`.
struct Scattered(Vec<(f64, f64, f64)>);

impl Scattered {
    fn mean(&self) -> f64 {
        self.0.iter().map(|(mean, _, share)| mean * share).sum()
    }

    /// The probability that `room` does not hold it.
    fn beyond(&self, room: f64) -> f64 {
        let normal = Normal::standard();
        let of_one = |&(mean, scatter, share): &(f64, f64, f64)| {
            let z = (room - mean) / scatter.max(f64::MIN_POSITIVE);
            let within = if z.abs() < CERTAIN_Z {
                normal.cdf(z)
            } else {
                f64::from(u8::from(z > 0.0))
            };
            share * (1.0 - within)
        };
        self.0.iter().map(of_one).sum()
    }

    /// The least room that does not hold it with the probability `missing` at most.
    fn room(&self, missing: f64) -> f64 {
        let most = |&(mean, scatter, _): &(f64, f64, f64)| mean + CERTAIN_Z * scatter;
        let (mut low, mut high) = (0.0, self.0.iter().map(most).fold(0.0, f64::max));
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if self.beyond(middle) <= missing {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

/// Requests in flight, and how they fit.
struct InFlight {
    requests: Scattered,
    batch: f64,
    /// Tokens of their KV caches and those that a replica holds, if that is known.
    kv: Option<(Scattered, f64)>,
}

impl InFlight {
    /// Of one of several rates of output tokens, `(tokens per second, probability)`.
    fn of(sizing: &Sizing<'_>, rates_tps: &[(f64, f64)]) -> Option<Self> {
        let workload = &sizing.demand.workload;
        let batch = batch_per_replica(sizing)?;
        let itl_seconds = sizing
            .capacity
            .itl_seconds(batch, workload.context_tokens())?;
        // Half of the burstiness: requests stay long enough to spread the other half.
        let peakedness = f64::midpoint(1.0, sizing.arrival_scv());
        let requests = rates_tps.iter().map(|&(tps, share)| {
            let requests = tps * itl_seconds;
            (requests, (peakedness * requests).sqrt(), share)
        });
        Some(Self {
            requests: Scattered(requests.collect()),
            batch,
            kv: kv_tokens(sizing, rates_tps, itl_seconds, peakedness),
        })
    }

    fn by_kv(&self, missing: f64) -> Option<f64> {
        let (tokens, capacity) = self.kv.as_ref()?;
        Some(tokens.room(missing) / capacity)
    }

    fn replicas(&self, missing: f64) -> f64 {
        let by_batch = self.requests.room(missing) / self.batch;
        by_batch.max(self.by_kv(missing).unwrap_or(0.0))
    }

    /// Share of requests that find their slot, by replicas.
    fn attained(&self, replicas_max: u32) -> Vec<f64> {
        let kept = self.requests.mean().max(f64::MIN_POSITIVE);
        let share = |replicas: u32| {
            let slots = f64::from(replicas) * self.batch;
            let served = 1.0 - self.requests.beyond(slots);
            served.max(OVERLOADED_SHARE * (slots / kept).min(1.0))
        };
        (0..=replicas_max).map(share).collect()
    }
}

/// KV tokens of requests in flight, and how many of them a replica holds: `KV_USAGE_MAX` of its
/// blocks.
fn kv_tokens(
    sizing: &Sizing<'_>,
    rates_tps: &[(f64, f64)],
    itl_seconds: f64,
    peakedness: f64,
) -> Option<(Scattered, f64)> {
    let residence = sizing.demand.workload.residence?;
    let capacity = sizing.kv_capacity.tokens?;
    if capacity <= 0.0 || residence.steps <= 0.0 {
        return None;
    }
    let tokens = rates_tps.iter().map(|&(tps, share)| {
        let (mean, variance) = residence.kv_tokens(tps / residence.steps, itl_seconds);
        (mean, (peakedness * variance).sqrt(), share)
    });
    Some((Scattered(tokens.collect()), capacity * KV_USAGE_MAX))
}

fn by_work(sizing: &Sizing<'_>) -> Option<Need> {
    let rate_tps = rate_tps(sizing)?;
    // Of requests that no number of replicas serves in time the risk target knows already. Those
    // find a slot like all others, so that longer requests never need less.
    let missing = sizing.risk_target.decode.miss_share();
    let vain = sizing.reach.decode.map(|reach| reach.unreachable_share);
    let vain = vain.is_some_and(|share| share > 0.5);
    let now = InFlight::of(sizing, &[(rate_tps, 1.0)])?;
    let enough_now = now.replicas(missing);
    let distribution = sizing.forecast.decode.as_ref();
    let ahead = distribution.and_then(|ahead| InFlight::of(sizing, &ahead.scenarios));
    let enough_ahead = ahead.as_ref().map_or(0.0, |ahead| ahead.replicas(missing));
    let current = f64::from(sizing.replicas.decode.state.current);
    let kept = if sizing.replicas.decode.state.is_rolling_out() {
        // Pods that are replaced hold the load on fewer of them for a while.
        current
    } else {
        let fewest = fewest_proven(sizing, rate_tps).filter(|_| !vain);
        fewest.unwrap_or(0.0)
    };
    let exact = enough_now.max(enough_ahead).max(kept.min(current));
    let in_flight = ahead.filter(|_| enough_ahead > enough_now).unwrap_or(now);
    let by_kv = in_flight.by_kv(missing);
    let reason = if exact.ceil() > enough_now.ceil() {
        Reason::DecodeForecast
    } else if by_kv >= Some(exact) {
        Reason::DecodeKvCache
    } else {
        Reason::DecodeWork
    };
    let memory = by_kv.map_or_else(String::new, |replicas| {
        format!("; their KV caches fill {replicas:.2} replicas")
    });
    let ahead_tps = distribution.map(|ahead| ahead.forecast.mean);
    let ahead_tps = ahead_tps.filter(|_| enough_ahead > enough_now);
    let message = format!(
        "{rate_tps:.0} output tokens/s{} keep {:.0} requests in flight, {:.0} at {:.1} %; a batch of {:.0} \
         per replica keeps TPOT under {:.0} ms{memory}",
        ahead_tps.map_or_else(String::new, |tps| format!(
            ", {tps:.0} by the time new replicas serve,"
        )),
        in_flight.requests.mean(),
        in_flight.requests.room(missing),
        (1.0 - missing) * 100.0,
        in_flight.batch,
        limit_seconds(sizing) * 1e3,
    );
    let replicas_max = sizing.replicas_max(Role::Decode);
    let mut need = Need::of(exact, reason, message);
    need.attained = in_flight.attained(replicas_max);
    Some(need)
}

/// Output tokens per second that decode must generate once replicas requested now serve: those that
/// it generates, and of those that arrive beyond that the part that will be in flight by then, if
/// steps keep their limit: steps of a pool that is too small make requests stay, and it would seem
/// that those that arrive need nothing for long.
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
        .map(|(tokens, itl)| tokens * itl.min(limit_seconds(sizing)));
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
    let running = sizing.signals.running_requests.decode.known()?;
    let waiting = sizing.signals.decode_in_flight()? - running;
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

/// Requests in flight that become more than the arrivals explain.
fn by_growth(sizing: &Sizing<'_>) -> Option<Need> {
    let now = sizing.in_flight.filter(|now| now.growth_rps > 0.0)?;
    if sizing.demand.bottleneck == Bottleneck::KvTransfer {
        return None;
    }
    let workload = &sizing.demand.workload;
    // Requests end after their residence: growth that lasts longer is seen again.
    let residence_seconds = workload.output_tokens_mean? * workload.itl_seconds_mean?;
    let lead_seconds = sizing.replicas.decode.lead.p90.as_secs_f64();
    let ahead = now.requests + now.growth_rps * residence_seconds.min(lead_seconds);
    let batch = batch_per_replica(sizing)?;
    let message = format!(
        "{:.0} requests are in flight and every second {:.1} more than arrivals explain, {ahead:.0} by the \
         time new replicas serve; one replica takes {batch:.0}",
        now.requests, now.growth_rps,
    );
    Some(Need::of(ahead / batch, Reason::DecodeForecast, message))
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
    let replicas = f64::from(sizing.correction(Role::Decode, modelled)?);
    let message = format!(
        "measured TPOT is {:.0} ms, over the limit of {:.0} ms",
        measured * 1e3,
        limit_seconds * 1e3
    );
    Some(Need::of(replicas, Reason::DecodeLatency, message))
}

#[cfg(test)]
mod tests;
