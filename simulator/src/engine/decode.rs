//! A decode worker: one batch that gives every request in it one token per step.
//!
//! The worker sleeps until the batch changes, which the [`TokenClock`] and the [`BatchBlocks`]
//! foretell: a request ends, one whose KV cache has arrived joins at a step's end, or the KV cache
//! would overflow. Looking at the metrics counts the steps since the last look and moves nothing
//! else.
//!
//! Everything else is as in vLLM's scheduler. Requests are admitted in order of arrival, need a
//! place in the batch and blocks for the whole context, and leave a share of the KV cache free.
//! When a step finds too few blocks the youngest requests go back to the front of the queue, and
//! nobody is admitted at that step. They are computed again here, in parts that share steps with
//! the batch and make these longer. So are prompts that a router leaves to this worker.

mod record;
mod room;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use self::record::{first_token, record};
use super::blocks::BatchBlocks;
use super::clock::TokenClock;
use super::metrics::WorkerMetrics;
use super::profile::Profile;
use super::request::{Requests, Slot};
use super::router::Workload;
use crate::time::{Nanos, seconds};

/// A request that got room: its KV cache will be here after the delay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    pub(super) slot: Slot,
    pub(super) delay: Nanos,
}

/// A decode worker and its requests.
#[derive(Debug, Default)]
pub(super) struct DecodeWorker {
    /// Steps; its anchor is where the batch last changed.
    clock: TokenClock,
    /// KV tokens and blocks of the batch at the anchor.
    context_tokens: u64,
    blocks: BatchBlocks,
    /// The same of requests that are admitted and not in the batch yet.
    reserved_tokens: u64,
    reserved_blocks: u64,
    waiting_tokens: u64,
    /// The batch, by the step at which each request ends.
    running: BinaryHeap<Reverse<(u64, Slot)>>,
    /// Requests that joined at the anchor and have no token yet.
    fresh: Vec<Slot>,
    /// Admitted, KV cache here, to join at the end of the current step.
    arrived: Vec<Slot>,
    /// Admitted, KV cache on its way.
    transferring: Vec<Slot>,
    /// Admitted, KV cache to be computed here: again, or instead of a prefill worker.
    recomputing: VecDeque<Slot>,
    /// The part of it that the current step computes: requests and tokens of each.
    recomputed: Vec<(Slot, u32)>,
    waiting: VecDeque<Slot>,
    /// Steps since the anchor that the metrics already show.
    observed_steps: u64,
    joins: u64,
    /// Time spent in steps until the anchor.
    pub(super) busy: Nanos,
    pub(super) metrics: WorkerMetrics,
}

impl Workload for DecodeWorker {
    fn requests(&self) -> u64 {
        (self.running.len() + self.admitted() + self.waiting.len()) as u64
    }

    fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn kv_blocks(&self) -> u64 {
        self.blocks.used() + self.reserved_blocks
    }
}

impl DecodeWorker {
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.admitted() == 0 && self.waiting.is_empty()
    }

    /// The value that the router compares: the batch's share of a step's time once everything here
    /// has joined.
    #[inline]
    pub(super) fn load_milliseconds(&self, profile: &Profile) -> f64 {
        profile.decode_load_milliseconds(
            self.running.len() + self.admitted() + self.waiting.len(),
            self.context_tokens + self.reserved_tokens + self.waiting_tokens,
        )
    }

    /// When the batch changes next, seen from `now`, at which all earlier changes are done.
    pub(super) fn next_event(&self, now: Nanos, profile: &Profile) -> Option<Nanos> {
        let joining = !self.arrived.is_empty() || !self.recomputing.is_empty();
        if !self.is_stepping() {
            return joining.then_some(now);
        }
        let taken = self.clock.taken();
        let mut steps = match self.running.peek() {
            Some(Reverse((first_end, _))) => first_end - taken,
            None => 1,
        };
        if joining {
            steps = steps.min(self.clock.steps_by(now) + 1);
        }
        let used = self.blocks.used() + self.reserved_blocks;
        let room = profile.kv_capacity_blocks().saturating_sub(used);
        if !self.blocks.surely_fit(steps, room) {
            // The step after the last that fits is the one that finds too few blocks.
            let overflow = self.blocks.steps_within(taken, room).saturating_add(1);
            if overflow < steps {
                steps = steps.min(overflow.max(self.clock.steps_by(now) + 1));
            }
        }
        Some(self.clock.end(steps))
    }

    /// Takes a request, whose KV cache a prefill worker holds, into the queue.
    pub(super) fn enqueue(
        &mut self,
        now: Nanos,
        slot: Slot,
        requests: &mut Requests,
        profile: &Profile,
        admissions: &mut Vec<Admission>,
    ) {
        let request = &mut requests[slot];
        request.reached_worker_at = now;
        self.waiting_tokens += request.context_tokens();
        self.waiting.push_back(slot);
        self.admit_now(now, requests, profile, admissions);
    }

    /// Admits who fits, within a step.
    fn admit_now(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
        admissions: &mut Vec<Admission>,
    ) {
        // Those that run have their blocks of the next step first.
        let steps = self.steps_by(now) + u64::from(self.is_stepping());
        let blocks = self.blocks.after(self.clock.taken(), steps);
        self.admit(blocks, requests, profile, admissions);
    }

    /// Notes that the KV cache of an admitted request is here; returns whether it was on its way.
    pub(super) fn kv_arrived(&mut self, slot: Slot) -> bool {
        let Some(place) = self.transferring.iter().position(|other| *other == slot) else {
            return false;
        };
        self.transferring.swap_remove(place);
        self.arrived.push(slot);
        true
    }

    /// Changes the batch at the end of a step: ends, joins, preempts, admits and computes again.
    pub(super) fn change_batch(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
        finished: &mut Vec<Slot>,
        admissions: &mut Vec<Admission>,
    ) {
        self.end_steps(now, requests);
        self.end_recomputing(now, requests, profile);
        self.finish(now, requests, finished);
        self.join(now, requests, profile);
        let preempted = self.preempt(now, requests, profile);
        if !preempted || (self.running.is_empty() && self.admitted() == 0) {
            self.admit(self.blocks.used(), requests, profile, admissions);
        }
        let step = self.recompute(now, requests, profile);
        let length = profile
            .decode_step(self.running.len(), self.context_tokens)
            .saturating_add(profile.recompute(step.tokens, step.attended));
        let growth = profile.decode_step_growth(self.running.len());
        self.clock.set_pace(length, growth);
    }

    /// Brings counters and gauges up to date.
    pub(super) fn observe(&mut self, now: Nanos, requests: &mut Requests, profile: &Profile) {
        self.count_steps(self.steps_by(now), requests);
        let capacity = profile.kv_capacity_blocks().max(1);
        let used = self.kv_blocks_at(now);
        self.metrics.requests_running = (self.running.len() + self.recomputing.len()) as u64;
        self.metrics.requests_waiting_capacity = self.waiting.len() as u64;
        self.metrics.requests_waiting_deferred =
            (self.arrived.len() + self.transferring.len()) as u64;
        self.metrics.kv_cache_usage = (used as f64 / capacity as f64).min(1.0);
    }

    /// Takes back the requests that wait for room.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Slot> {
        self.waiting_tokens = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Takes back every request, in no particular order.
    pub(super) fn take_all(&mut self) -> Vec<Slot> {
        let mut taken: Vec<Slot> = self
            .running
            .drain()
            .map(|Reverse((_, slot))| slot)
            .collect();
        taken.append(&mut self.arrived);
        taken.append(&mut self.transferring);
        taken.extend(self.recomputing.drain(..));
        taken.extend(self.take_waiting());
        taken
    }

    /// Gives up a request whose KV cache was lost before it could be fetched, which may make room
    /// for others; returns whether it was here.
    pub(super) fn give_up(
        &mut self,
        now: Nanos,
        slot: Slot,
        requests: &mut Requests,
        profile: &Profile,
        admissions: &mut Vec<Admission>,
    ) -> bool {
        let context = requests[slot].context_tokens();
        if let Some(place) = self.waiting.iter().position(|other| *other == slot) {
            self.waiting.remove(place);
            self.waiting_tokens -= context;
        } else if let Some(place) = self.transferring.iter().position(|other| *other == slot) {
            self.transferring.swap_remove(place);
            self.reserved_tokens -= context;
            self.reserved_blocks -= profile.kv_blocks(context);
        } else {
            return false;
        }
        self.admit_now(now, requests, profile, admissions);
        true
    }

    /// KV blocks in use, those kept for admitted requests included.
    pub(super) fn kv_blocks_at(&self, now: Nanos) -> u64 {
        self.blocks.after(self.clock.taken(), self.steps_by(now)) + self.reserved_blocks
    }

    /// Requests that have room and are not in the batch.
    fn admitted(&self) -> usize {
        self.arrived.len() + self.transferring.len() + self.recomputing.len()
    }

    /// Whether a step is in progress.
    pub(super) fn is_stepping(&self) -> bool {
        !self.running.is_empty() || !self.recomputed.is_empty()
    }

    /// Steps that have ended since the anchor.
    fn steps_by(&self, now: Nanos) -> u64 {
        if self.is_stepping() {
            self.clock.steps_by(now)
        } else {
            0
        }
    }

    /// Moves the anchor to the last end of a step, or to `now` if there is no step.
    fn end_steps(&mut self, now: Nanos, requests: &mut Requests) {
        if self.is_stepping() {
            let steps = self.clock.steps_by(now);
            self.count_steps(steps, requests);
            self.context_tokens += steps * self.running.len() as u64;
            self.blocks.take(self.clock.taken(), steps);
            self.busy += self.clock.end(steps) - self.clock.end(0);
            self.clock.take(steps);
        } else {
            self.clock.begin(now);
        }
        self.observed_steps = 0;
    }

    /// Brings the metrics to `steps` steps after the anchor.
    fn count_steps(&mut self, steps: u64, requests: &mut Requests) {
        let new_steps = steps.saturating_sub(self.observed_steps);
        if new_steps == 0 {
            return;
        }
        let first_token_at = self.clock.end(1);
        let first_tokens = self.fresh.len() as u64;
        for slot in self.fresh.drain(..) {
            first_token(&mut self.metrics, first_token_at, &mut requests[slot]);
        }
        let tokens = new_steps * self.running.len() as u64;
        let elapsed = self.clock.end(steps) - self.clock.end(self.observed_steps);
        // The step before a first token is nobody's time between tokens.
        let before_first = first_token_at - self.clock.end(0);
        let gaps = tokens - first_tokens;
        let gap_seconds =
            seconds(self.running.len() as u64 * elapsed - first_tokens * before_first)
                / gaps.max(1) as f64;
        self.metrics
            .inter_token_latency
            .observe_many(gap_seconds, gaps);
        let batch = self.running.len() as f64;
        self.metrics.iteration_tokens.observe_many(batch, new_steps);
        self.metrics.generation_tokens += tokens;
        self.observed_steps = steps;
    }

    /// Ends the part of a step that computed lost KV again. Who has all of it gets a token from the
    /// same step, as after any prefill, and is in the batch.
    fn end_recomputing(&mut self, now: Nanos, requests: &mut Requests, profile: &Profile) {
        for (slot, tokens) in self.recomputed.drain(..) {
            let request = &mut requests[slot];
            request.prefilled += tokens;
            let context = request.context_tokens();
            if u64::from(request.prefilled) < context {
                continue;
            }
            self.recomputing.pop_front();
            self.reserved_tokens -= context;
            self.reserved_blocks -= profile.kv_blocks(context);
            if request.generated == 0 {
                first_token(&mut self.metrics, now, request);
            } else {
                let gap = seconds(now - request.last_token_at);
                self.metrics.inter_token_latency.observe(gap);
            }
            self.metrics.generation_tokens += 1;
            request.generated += 1;
            request.recomputes = false;
            let (context, taken) = (request.context_tokens(), self.clock.taken());
            self.context_tokens += context;
            self.blocks.join(context, taken, profile.kv_block_tokens);
            let remaining = request.output_tokens - request.generated;
            self.running
                .push(Reverse((taken + u64::from(remaining), slot)));
        }
    }

    fn finish(&mut self, now: Nanos, requests: &mut Requests, finished: &mut Vec<Slot>) {
        let taken = self.clock.taken();
        while let Some(Reverse((end, slot))) = self.running.peek().copied() {
            if end > taken {
                break;
            }
            self.running.pop();
            let request = &mut requests[slot];
            request.generated = request.output_tokens;
            self.context_tokens -= request.context_tokens();
            self.blocks.leave(request.context_tokens(), taken);
            record(&mut self.metrics, now, request);
            finished.push(slot);
        }
    }

    fn join(&mut self, now: Nanos, requests: &mut Requests, profile: &Profile) {
        let taken = self.clock.taken();
        for slot in self.arrived.drain(..) {
            let request = &mut requests[slot];
            let context = request.context_tokens();
            self.reserved_tokens -= context;
            self.reserved_blocks -= profile.kv_blocks(context);
            self.context_tokens += context;
            self.blocks.join(context, taken, profile.kv_block_tokens);
            self.joins += 1;
            request.joined_order = self.joins;
            request.scheduled_at = now;
            self.running
                .push(Reverse((taken + u64::from(request.output_tokens), slot)));
            self.fresh.push(slot);
        }
    }
}

#[cfg(test)]
mod tests;
