//! The lessons of this moment about one replica.
//!
//! Of decode only while its workers stay the same for a window: one that came or went is in the
//! rates for part of it. Of waiting only in a pool that has cooled down, because the formula it is
//! compared with describes a steady state. Nothing is learnt of a role whose evidence has gaps: its
//! sums and its means are then of different workers.

use std::time::Duration;

use super::{in_force::PolicyInForce, observe::Observation};
use crate::{
    bottleneck::waits_for_room,
    capacity::{Capacity, Ceiling, Estimator, Fit, Profile, Proven},
    demand::Demand,
    memory::CapacityMemory,
    need::{BUSY_BATCH, SLOW_SAMPLES_MIN},
    objective::Objective,
    queueing::{Work, mean_wait_seconds},
    reach::reach,
    replicas::ObservedReplicas,
    signal::{HistogramReading, Signals, WIDE_WINDOW},
    time::Timestamp,
    window_mean::WindowMean,
    workload::Workload,
};

/// How long after a change of replicas, requested or serving, the rate window still mixes before
/// and after.
const LEARN_AFTER_CHANGE: Duration = Duration::from_mins(2);

/// Load per worker from which waiting is long enough to separate a good router from a bad one.
const BUSY: f64 = 0.6;

/// Load per worker beyond which a pool is not in a steady state.
const TOO_BUSY: f64 = 0.95;

/// Load per worker up to which hardly anybody waits, so that the rest of TTFT beyond compute is
/// overhead.
const QUIET: f64 = 0.3;

/// Fewest requests whose mean wait is compared: of fewer, one slow request is the mean.
const WAIT_SAMPLES_MIN: f64 = 50.0;

/// Shortest mean wait by the formula that is compared with the measured one, seconds.
const WAIT_SECONDS_MIN: f64 = 0.002;

/// Misses, as a multiple of those allowed, from which a batch is too large and not only at its
/// limit. Of the fewest requests that are judged, 50, with 1 % allowed half a request misses on
/// average, and by chance more than this one time in seventy.
const MISSED_FOR_SURE: f64 = 5.0;

/// How far the workers may differ from their mean over the rate window for the rate to describe
/// them: a batch that is learnt is off by no more than the step that sizing goes beyond it.
const WORKERS_DIFFER: f64 = 0.25;

/// Prompts in a prefill step, mean over prompts, from which steps are full of a queue: two meet by
/// chance in any busy pool, and of more all but one have waited.
const FULL_STEPS: f64 = 2.0;

/// How many times the arrivals of ten minutes those of now may be, and the other way round, in a
/// steady state. A day's rise takes hours to double; a start and a step take seconds.
const STEADY_WITHIN: f64 = 1.5;

/// The span that a first decision stands for.
const FIRST_ELAPSED: Duration = Duration::from_secs(1);

/// The performance of one replica, with all that was learnt.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearntCapacity<'a> {
    /// Times of both roles.
    pub(super) replica: Capacity<'a>,
    /// Output tokens per second that a decode replica failed at lately.
    pub(super) decode_ceiling_tps: Option<f64>,
    /// The batch that decode replicas kept the TPOT limit with.
    pub(super) decode_proven: Proven,
}

impl<'a> LearntCapacity<'a> {
    /// As it is remembered, without a new lesson.
    pub(super) fn remembered(
        memory: &CapacityMemory,
        profile: Option<&'a Profile>,
        now: Timestamp,
    ) -> Self {
        Self {
            replica: memory.estimator.capacity(profile),
            decode_ceiling_tps: memory.decode_ceiling.work_per_replica(now),
            decode_proven: memory.decode_proven,
        }
    }
}

/// Learns from `seen`, and returns the performance that is known now.
pub(super) fn learn<'a>(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    profile: Option<&'a Profile>,
    memory: &mut CapacityMemory,
    now: Timestamp,
) -> LearntCapacity<'a> {
    let CapacityMemory {
        estimator,
        decode_ceiling,
        unreachable: _,
        decode_proven,
        decode_workers,
    } = memory;
    let signals = &seen.signals.signals;
    let elapsed = seen.since_last.unwrap_or(FIRST_ELAPSED);
    let scraped = signals.coverage.decode.scraped;
    decode_workers.observe(f64::from(scraped), signals.rate_window, elapsed);
    let lesson = Lesson {
        seen,
        workload: &demand.workload,
        profile,
        elapsed,
        decode_batch: decode_batch(signals, demand.workload.itl_seconds_mean, *decode_workers),
    };
    let evidence = &seen.signals.evidence;
    if evidence.prefill.complete() {
        lesson.of_prefill(estimator);
        // A first decision has one sample of a wait, and no steady state.
        if seen.since_last.is_some() {
            lesson.of_waiting(estimator);
        }
    }
    if evidence.decode.complete() {
        lesson.of_decode(estimator);
        lesson.of_batch(policy.objective, decode_proven);
        lesson.of_transfer(estimator);
        lesson.of_failure(policy.objective, estimator, decode_ceiling, now);
    }
    LearntCapacity::remembered(memory, profile, now)
}

struct Lesson<'a> {
    seen: &'a Observation<'a>,
    workload: &'a Workload,
    profile: Option<&'a Profile>,
    elapsed: Duration,
    /// Requests in a decode step of one worker, where its workers are nearly the same.
    decode_batch: Option<f64>,
}

/// Whether the rate window shows `replicas` as they are.
fn cooled_down(replicas: &ObservedReplicas<'_>) -> bool {
    replicas.cooled_down(LEARN_AFTER_CHANGE)
        && replicas.state.starting == 0
        && !replicas.state.is_rolling_out()
}

/// Whether prompts come as fast as they have for ten minutes. Windows that a start has filled in
/// part, and a load that just rose or fell, show waits of one load beside arrivals of another.
fn is_steady(signals: &Signals) -> bool {
    let per_second = |reading: &HistogramReading, window: Duration| {
        let histogram = reading.with_samples(1.0).ok()?;
        Some(histogram.count() / window.as_secs_f64().max(1.0))
    };
    let now = per_second(&signals.recent.prefill_ttft, signals.rate_window);
    let window = signals.rate_window.max(WIDE_WINDOW);
    let over_ten_minutes = per_second(&signals.wide.prefill_ttft, window);
    now.zip(over_ten_minutes)
        .is_some_and(|(now, mean)| now <= mean * STEADY_WITHIN && mean <= now * STEADY_WITHIN)
}

impl Lesson<'_> {
    fn of_prefill(&self, estimator: &mut Estimator) {
        let workload = self.workload;
        // Full steps show what a pool does that cannot keep up, which is not what it is sized for.
        let full = workload.prompts_in_step > FULL_STEPS;
        if let Some(mean_seconds) = workload.prefill_seconds_mean.filter(|_| !full) {
            estimator.observe_prefill(
                self.profile,
                mean_seconds,
                &workload.prompt_lengths,
                workload.cached_share(),
                self.elapsed,
            );
        }
    }

    fn of_decode(&self, estimator: &mut Estimator) {
        let workload = self.workload;
        if let (Some(batch), Some(itl)) = (self.decode_batch, workload.itl_seconds_mean) {
            estimator.observe_decode(
                self.profile,
                batch,
                workload.context_tokens(),
                itl,
                self.elapsed,
            );
        }
    }

    /// How long KV transfer takes. With requests that wait for room on decode it is not seen: they
    /// wait at the same place, and decode pays for that.
    fn of_transfer(&self, estimator: &mut Estimator) {
        let signals = &self.seen.signals.signals;
        if let (false, Some(seconds)) =
            (waits_for_room(signals), self.workload.transfer_seconds_mean)
        {
            estimator.observe_transfer(seconds, self.elapsed);
        }
    }

    /// Whether decode replicas kept the TPOT limit with the batch that they have.
    fn of_batch(&self, objective: &Objective, proven: &mut Proven) {
        let workload = self.workload;
        let (Some(batch), Some(itl)) = (self.decode_batch, workload.itl_seconds_mean) else {
            return;
        };
        let limit = objective.tpot.limit.as_secs_f64();
        let tpot = self
            .seen
            .signals
            .signals
            .recent
            .tpot
            .with_samples(WAIT_SAMPLES_MIN);
        let within = tpot.ok().and_then(|tpot| tpot.share_within(limit));
        let missed = within.map_or(0.0, |within| 1.0 - within.high);
        let allowed = 1.0 - f64::from(objective.attainment.percent) / 100.0;
        let fit = if itl > limit || missed > allowed * MISSED_FOR_SURE {
            Fit::Missed
        } else if missed > allowed {
            Fit::Unsure
        } else {
            Fit::Kept
        };
        proven.observe(batch, workload.context_tokens(), fit, self.elapsed);
    }

    /// How much longer than by the formula prompts wait, and the part of TTFT besides compute and
    /// wait.
    fn of_waiting(&self, estimator: &mut Estimator) -> Option<()> {
        let replicas = &self.seen.replicas.prefill;
        if !cooled_down(replicas) {
            return None;
        }
        let workload = self.workload;
        let signals = &self.seen.signals.signals;
        if !is_steady(signals) {
            return None;
        }
        let ttft = &signals.recent.prefill_ttft;
        let measured = ttft.with_samples(WAIT_SAMPLES_MIN).ok()?.mean()?;
        let compute = workload.prefill_seconds_mean?;
        let workers = replicas.state.ready;
        let capacity = estimator.capacity(self.profile);
        let work = Work {
            arrival_rate_rps: workload.arrival_rate_rps?,
            arrival_scv: workload.arrival_scv,
            service: workload.service_times(&capacity),
        };
        let formula = mean_wait_seconds(&work, workers)?;
        let busy = work.offered_load() / f64::from(workers);
        if busy <= QUIET {
            let predicted = compute + formula * capacity.routing_factor;
            estimator.observe_ttft(measured, predicted, self.elapsed);
        } else if (BUSY..=TOO_BUSY).contains(&busy) && formula >= WAIT_SECONDS_MIN {
            let waited = (measured - compute - capacity.ttft_residual_seconds).max(0.0);
            estimator.observe_wait(waited, formula, self.elapsed);
        }
        Some(())
    }

    /// Decode steps over the limit, all replicas serving, show that a replica has too much work: at
    /// once after replicas were lowered, because the window still shows better times, else once
    /// they have cooled down. Steps within the limit show that it has not.
    fn of_failure(
        &self,
        objective: &Objective,
        estimator: &Estimator,
        ceiling: &mut Ceiling,
        now: Timestamp,
    ) -> Option<()> {
        let replicas = &self.seen.replicas.decode;
        let (state, signals) = (&replicas.state, &self.seen.signals.signals);
        let whole = state.starting == 0 && state.ready == state.current && state.ready > 0;
        let itl = self.workload.itl_seconds_mean?;
        let rate_tps = signals.output_token_rate_tps.known()?;
        let busy = rate_tps * itl / f64::from(state.ready) >= BUSY_BATCH;
        signals.recent.tpot.with_samples(SLOW_SAMPLES_MIN).ok()?;
        if !whole || !busy {
            return None;
        }
        let capacity = estimator.capacity(self.profile);
        let limit = reach(objective, signals, self.workload, &capacity)
            .decode
            .map_or(objective.tpot.limit.as_secs_f64(), |reach| {
                reach.held_seconds
            });
        if itl <= limit && cooled_down(replicas) {
            ceiling.done(rate_tps, state.ready);
        } else if itl > limit && (replicas.lowered_last() || cooled_down(replicas)) {
            ceiling.failed(rate_tps, state.ready, now);
        }
        Some(())
    }
}

/// Requests in a decode step of one worker, mean over the window that the time between tokens is
/// from: by Little's law, so that both describe the same steps. Nothing while workers come or go so
/// fast that their mean describes none of them.
fn decode_batch(signals: &Signals, itl_seconds: Option<f64>, workers: WindowMean) -> Option<f64> {
    let rate_tps = signals.output_token_rate_tps.known()?;
    let (mean, scraped) = (
        workers.value()?,
        f64::from(signals.coverage.decode.spoken_for()),
    );
    let itl = itl_seconds?;
    let near = (scraped / mean - 1.0).abs() <= WORKERS_DIFFER;
    near.then(|| rate_tps * itl / mean)
}
