//! The part of the requests that no number of replicas serves in time, and the limits that sizing
//! keeps to instead.
//!
//! A prompt that computes longer than its limit is late on any number of replicas, and so is every
//! token where one request alone on a replica takes longer than the limit for each. More replicas
//! for those would be paid for in vain: they are sized for what can be met (throughput, queue, KV
//! cache), the part is named, and so is the limit that could be met. Longer work never needs fewer
//! replicas for it: what comes too close to its limit keeps counting as if it had [`NEAR`] of it
//! left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    bottleneck::LARGE_LEG,
    capacity::{Capacity, Source},
    histogram::Share,
    objective::Objective,
    role::PerRole,
    signal::Signals,
    workload::Workload,
};

/// The part of a limit beside which nothing can be promised: steps of equal batches differ by a few
/// hundredths from worker to worker, and so do the computations of equal prompts.
pub const NEAR: f64 = 0.05;

/// A TPOT limit that no number keeps is replaced by so many times the floor. There a replica gives
/// half of the tokens that it ever could: with smaller batches speed is bought dearly, with larger
/// ones lost for little.
const HOPELESS_FLOORS: f64 = 2.0;

/// Observations from which a measured share speaks for or against a model.
const SAMPLES_MIN: f64 = 20.0;

/// Bisections until the limit that could be met is known to a thousandth.
const BISECTIONS: u32 = 12;

/// How far one role's limit can be met at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Share of the requests, 0 to 1, that no number of replicas serves in time.
    pub unreachable_share: f64,
    /// The limit that sizing keeps to, seconds. Of prefill for wait and compute: what KV transfer
    /// and overheads leave of the objective's, 0 or less when nothing. Of decode per token: the
    /// objective's, or a longer one where that cannot be met.
    pub held_seconds: f64,
    /// The shortest limit of the objective that enough replicas would meet, seconds.
    pub attainable_seconds: f64,
}

impl Reach {
    /// Whether so many requests are out of reach that the objective is, too.
    pub fn is_short(&self, objective: &Objective) -> bool {
        self.unreachable_share > objective.miss_share_allowed()
    }
}

/// The share of requests out of reach over the attainment window: a fading mean, which begins with
/// the first share that is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnreachableShare(Option<f64>);

impl UnreachableShare {
    /// Takes in the `share` (0 to 1) of now, `elapsed` after the one before.
    pub fn observe(&mut self, share: f64, elapsed: Option<Duration>, window: Duration) {
        let Some(before) = self.0 else {
            self.0 = Some(share);
            return;
        };
        let passed = elapsed.unwrap_or_default().as_secs_f64() / window.as_secs_f64().max(1.0);
        self.0 = Some(before + (share - before) * -(-passed).exp_m1());
    }

    /// The share, 0 to 1; 0 before any was seen.
    pub fn share(&self) -> f64 {
        self.0.unwrap_or(0.0)
    }
}

/// How far the limits of both roles can be met; nothing where times are not known.
pub fn reach(
    objective: &Objective,
    signals: &Signals,
    workload: &Workload,
    capacity: &Capacity<'_>,
) -> PerRole<Option<Reach>> {
    PerRole {
        prefill: of_prefill(objective, signals, workload, capacity),
        decode: of_decode(objective, signals, workload, capacity),
    }
}

fn of_prefill(
    objective: &Objective,
    signals: &Signals,
    workload: &Workload,
    capacity: &Capacity<'_>,
) -> Option<Reach> {
    let ttft = objective.ttft.limit.as_secs_f64();
    let rest = transfer_seconds(workload, capacity, ttft) + capacity.ttft_residual_seconds;
    let limit = ttft - rest;
    let beyond = |limit: f64| share_beyond(workload, capacity, limit);
    let modelled = beyond(limit)?;
    // Prompts that were computed in less were reachable, and those that took more were not,
    // whatever a model makes of their lengths.
    let computed = signals.recent.prefill_time.with_samples(SAMPLES_MIN).ok();
    let computed = computed.and_then(|times| times.share_within(limit * workload.prompts_in_step));
    let served = signals.recent.prefill_ttft.with_samples(SAMPLES_MIN).ok();
    let served =
        served.and_then(|seconds| seconds.share_within(workload.prefill_limit_seconds(objective)));
    let unreachable_share = modelled
        .max(computed.map_or(0.0, |share| 1.0 - share.high))
        .min(served.map_or(1.0, |share| 1.0 - share.low));
    let attainable = if unreachable_share > objective.miss_share_allowed() {
        (shortest(beyond, limit.max(0.0), objective.miss_share_allowed()) + rest) / (1.0 - NEAR)
    } else {
        ttft
    };
    Some(Reach {
        unreachable_share,
        held_seconds: limit,
        attainable_seconds: attainable.max(ttft),
    })
}

/// Seconds of the TTFT limit that prefill leaves to decode: those that KV transfer takes while
/// decode has room. Prefill does not grow for requests that wait for room there, nor for a transfer
/// that takes most of the limit: it would grow without end.
fn transfer_seconds(workload: &Workload, capacity: &Capacity<'_>, limit_seconds: f64) -> f64 {
    let now = workload.transfer_seconds_mean.unwrap_or(0.0);
    let with_room = capacity.transfer_seconds.unwrap_or(f64::INFINITY);
    now.min(with_room).min(limit_seconds * LARGE_LEG)
}

/// Share of the prompts whose compute alone takes longer than `limit_seconds`.
fn share_beyond(workload: &Workload, capacity: &Capacity<'_>, limit_seconds: f64) -> Option<f64> {
    let cached = workload.cached_share();
    let seconds = |tokens: f64| capacity.prefill_seconds(tokens * (1.0 - cached), tokens * cached);
    if workload.prompt_spans.is_empty() || seconds(1.0).is_none() {
        let mean = workload.prefill_seconds_mean?;
        return Some(f64::from(u8::from(mean > limit_seconds)));
    }
    let mut beyond = 0.0;
    for span in &workload.prompt_spans {
        if seconds(span.low)? > limit_seconds {
            beyond += span.share;
        } else if seconds(span.high)? > limit_seconds {
            // Some of the bucket: the length that computes in just the limit parts it.
            let (mut low, mut high) = (span.low, span.high);
            for _ in 0..BISECTIONS {
                let middle = f64::midpoint(low, high);
                if seconds(middle)? > limit_seconds {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            beyond += span.share_above(low);
        }
    }
    Some(beyond.min(1.0))
}

/// The shortest time from `least` on beyond which at most `allowed` of the prompts compute.
fn shortest(beyond: impl Fn(f64) -> Option<f64>, least: f64, allowed: f64) -> f64 {
    let enough = |limit: f64| beyond(limit).is_none_or(|share| share <= allowed);
    let mut high = least.max(NEAR);
    // Far beyond any prompt; a sum that is no number ends it too.
    for _ in 0..20 {
        if enough(high) {
            break;
        }
        high *= 2.0;
    }
    let mut low = least.min(high);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn of_decode(
    objective: &Objective,
    signals: &Signals,
    workload: &Workload,
    capacity: &Capacity<'_>,
) -> Option<Reach> {
    let limit = objective.tpot.limit.as_secs_f64();
    let floor = capacity.itl_seconds(1.0, workload.context_tokens())?;
    let measured = signals.recent.tpot.with_samples(SAMPLES_MIN).ok();
    let met: Option<Share> = measured.and_then(|tpot| tpot.share_within(limit));
    let met = met.map_or(0.0, |share| share.low);
    let surely = sure_floor_seconds(signals, capacity)?;
    let hopeless = surely > limit && met <= 1.0 - objective.miss_share_allowed();
    let held = if hopeless {
        floor * HOPELESS_FLOORS
    } else {
        floor * (1.0 + NEAR)
    };
    let unreachable_share = if hopeless {
        1.0
    } else {
        contexts_beyond(workload, capacity, limit)
    };
    Some(Reach {
        unreachable_share: unreachable_share.min(1.0 - met),
        held_seconds: held.max(limit),
        attainable_seconds: (floor * (1.0 + NEAR)).max(limit),
    })
}

/// Seconds per token of one request alone and without context: work of any length takes that. While
/// the shape is only assumed, batches may cost twice as much and the floor lie lower by that.
fn sure_floor_seconds(signals: &Signals, capacity: &Capacity<'_>) -> Option<f64> {
    let alone = capacity.itl_seconds(1.0, 0.0)?;
    if capacity.decode_source != Source::Assumed {
        return Some(alone);
    }
    let batch = signals.decode_batch().unwrap_or(1.0).max(1.0);
    Some(2.0 * alone - capacity.itl_seconds(batch, 0.0)?)
}

/// Share of the requests whose own context makes a step of them alone longer than `limit_seconds`.
fn contexts_beyond(workload: &Workload, capacity: &Capacity<'_>, limit_seconds: f64) -> f64 {
    if capacity.decode_source == Source::Assumed {
        return 0.0;
    }
    let answered = workload.output_tokens_mean.unwrap_or(0.0) / 2.0;
    let slow = |tokens: f64| {
        let seconds = capacity.itl_seconds(1.0, tokens + answered);
        seconds.is_some_and(|seconds| seconds > limit_seconds)
    };
    let lengths = workload.prompt_lengths.iter();
    lengths
        .filter(|(tokens, _)| slow(*tokens))
        .map(|(_, share)| share)
        .sum()
}

#[cfg(test)]
mod tests;
