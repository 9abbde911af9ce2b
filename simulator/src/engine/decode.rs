//! A decode worker: one batch that gives every request in it one token per step.
//!
//! Between two changes of the batch the n-th step ends at `anchor + n*step + growth*n(n-1)/2`, as
//! the context grows by one token per request and step. So the worker sleeps until the next change:
//! a request ends, one whose KV cache has arrived joins at a step's end, or the KV cache would
//! overflow and the youngest request is preempted. Steps are whole numbers, which makes tokens
//! exact. Looking at the metrics counts the steps since the last look and moves nothing else.
//!
//! Admission is in order of arrival and needs a place in the batch and room for the context, with
//! one percent kept free so that an admission does not at once preempt.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::metrics::WorkerMetrics;
use super::profile::Profile;
use super::request::{Request, Requests, Slot};
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
    /// When the batch last changed, and the steps taken until then.
    anchor: Nanos,
    clock: u64,
    step_nanos: f64,
    growth_nanos: f64,
    /// KV tokens of the batch at the anchor.
    context_tokens: u64,
    /// KV tokens kept for requests that are admitted and not in the batch yet.
    reserved_tokens: u64,
    waiting_tokens: u64,
    /// The batch, by the step at which each request ends.
    running: BinaryHeap<Reverse<(u64, Slot)>>,
    /// Requests that joined at the anchor and have no token yet.
    fresh: Vec<Slot>,
    /// Admitted, KV cache here, to join at the end of the current step.
    arrived: Vec<Slot>,
    /// Admitted, KV cache on its way.
    transferring: Vec<Slot>,
    waiting: VecDeque<Slot>,
    /// Steps since the anchor that the metrics already show.
    observed_steps: u64,
    joins: u64,
    pub(super) metrics: WorkerMetrics,
}

impl Workload for DecodeWorker {
    fn requests(&self) -> u64 {
        (self.running.len() + self.admitted() + self.waiting.len()) as u64
    }

    fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn kv_tokens(&self) -> u64 {
        self.context_tokens + self.reserved_tokens
    }
}

impl DecodeWorker {
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.admitted() == 0 && self.waiting.is_empty()
    }

    /// What the router compares: the batch's share of a step's time once everything here has
    /// joined.
    #[inline]
    pub(super) fn load_milliseconds(&self, profile: &Profile) -> f64 {
        profile.decode_load_milliseconds(
            self.running.len() + self.admitted() + self.waiting.len(),
            self.context_tokens + self.reserved_tokens + self.waiting_tokens,
        )
    }

    /// When the batch changes next, seen from `now`, at which all earlier changes are done.
    pub(super) fn next_event(&self, now: Nanos, profile: &Profile) -> Option<Nanos> {
        let Reverse((first_end, _)) = self.running.peek()?;
        let mut steps = first_end - self.clock;
        if !self.arrived.is_empty() {
            steps = steps.min(self.steps_by(now) + 1);
        }
        if self.running.len() > 1 || self.reserved_tokens > 0 {
            let used = self.context_tokens + self.reserved_tokens;
            let room = profile.kv_capacity_tokens.saturating_sub(used);
            let steps_with_room = room / self.running.len() as u64;
            if steps_with_room < steps {
                steps = steps.min(steps_with_room.max(self.steps_by(now) + 1));
            }
        }
        Some(self.step_end(steps))
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
        self.admit(now, requests, profile, admissions);
    }

    /// Notes that the KV cache of an admitted request is here; returns whether the batch is idle,
    /// so that it joins at once.
    pub(super) fn kv_arrived(&mut self, slot: Slot) -> bool {
        if let Some(place) = self.transferring.iter().position(|other| *other == slot) {
            self.transferring.swap_remove(place);
            self.arrived.push(slot);
        }
        self.running.is_empty()
    }

    /// Changes the batch at the end of a step: ends, joins, preempts and admits.
    pub(super) fn change_batch(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
        finished: &mut Vec<Slot>,
        admissions: &mut Vec<Admission>,
    ) {
        let batch = self.running.len() as u64;
        if batch > 0 {
            self.count_steps(now, requests);
            let steps = self.steps_by(now);
            self.clock += steps;
            self.context_tokens += steps * batch;
        }
        self.anchor = now;
        self.observed_steps = 0;
        self.finish(now, requests, finished);
        self.join(now, requests);
        self.preempt(requests, profile);
        self.step_nanos = profile.decode_step_nanos(self.running.len(), self.context_tokens);
        self.growth_nanos = profile.decode_step_growth_nanos(self.running.len());
        self.admit(now, requests, profile, admissions);
    }

    /// Brings counters and gauges up to date.
    pub(super) fn observe(&mut self, now: Nanos, requests: &mut Requests, profile: &Profile) {
        self.count_steps(now, requests);
        let used = self.context_tokens_at(now) + self.reserved_tokens;
        self.metrics.requests_running = self.running.len() as u64;
        self.metrics.requests_waiting_capacity = self.waiting.len() as u64;
        self.metrics.requests_waiting_deferred = self.admitted() as u64;
        self.metrics.kv_cache_usage = (used as f64 / profile.kv_capacity_tokens as f64).min(1.0);
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
        taken.extend(self.take_waiting());
        taken
    }

    /// KV tokens in use, those kept for admitted requests included.
    #[cfg(test)]
    pub(super) fn kv_tokens_at(&self, now: Nanos) -> u64 {
        self.context_tokens_at(now) + self.reserved_tokens
    }

    /// Requests that have room and are not in the batch.
    fn admitted(&self) -> usize {
        self.arrived.len() + self.transferring.len()
    }

    fn context_tokens_at(&self, now: Nanos) -> u64 {
        self.context_tokens + self.steps_by(now) * self.running.len() as u64
    }

    /// When the n-th step since the anchor ends.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and a float-to-integer cast saturates"
    )]
    fn step_end(&self, steps: u64) -> Nanos {
        let n = steps as f64;
        let duration = n * (self.step_nanos + self.growth_nanos * (n - 1.0) * 0.5);
        self.anchor.saturating_add(duration.ceil() as Nanos)
    }

    /// Steps that have ended since the anchor: the inverse of [`Self::step_end`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and a float-to-integer cast saturates"
    )]
    fn steps_by(&self, now: Nanos) -> u64 {
        let elapsed = now.saturating_sub(self.anchor) as f64;
        if self.running.is_empty() || elapsed < self.step_nanos {
            return 0;
        }
        let linear = self.step_nanos - self.growth_nanos * 0.5;
        let root = (linear * linear + 2.0 * self.growth_nanos * elapsed).sqrt();
        let mut steps = (2.0 * elapsed / (linear + root)) as u64;
        // Rounding may be off by one at the very end of a step.
        while self.step_end(steps + 1) <= now {
            steps += 1;
        }
        while steps > 0 && self.step_end(steps) > now {
            steps -= 1;
        }
        steps
    }

    fn count_steps(&mut self, now: Nanos, requests: &mut Requests) {
        let steps = self.steps_by(now);
        let new_steps = steps.saturating_sub(self.observed_steps);
        if new_steps == 0 {
            return;
        }
        let first_token_at = self.step_end(1);
        let first_tokens = self.fresh.len() as u64;
        for slot in self.fresh.drain(..) {
            let request = &mut requests[slot];
            request.first_token_at = first_token_at;
            let metrics = &mut self.metrics;
            metrics
                .time_to_first_token
                .observe(seconds(first_token_at - request.reached_worker_at));
            let held = u64::from(request.held_tokens);
            metrics.prompt_tokens_external_kv_transfer += u64::from(request.input_tokens) - held;
            metrics.prompt_tokens_local_cache_hit += held;
            metrics.prefix_cache_queries += u64::from(request.input_tokens);
            metrics.prefix_cache_hits += held;
        }
        let tokens = new_steps * self.running.len() as u64;
        let elapsed = self.step_end(steps) - self.step_end(self.observed_steps);
        let step_seconds = seconds(elapsed) / new_steps as f64;
        self.metrics
            .inter_token_latency
            .observe_many(step_seconds, tokens - first_tokens);
        self.metrics.generation_tokens += tokens;
        self.observed_steps = steps;
    }

    fn finish(&mut self, now: Nanos, requests: &mut Requests, finished: &mut Vec<Slot>) {
        while let Some(Reverse((end, slot))) = self.running.peek().copied() {
            if end > self.clock {
                break;
            }
            self.running.pop();
            let request = &mut requests[slot];
            request.generated = request.output_tokens;
            self.context_tokens -= request.context_tokens();
            record(&mut self.metrics, now, request);
            finished.push(slot);
        }
    }

    fn join(&mut self, now: Nanos, requests: &mut Requests) {
        for slot in self.arrived.drain(..) {
            let request = &mut requests[slot];
            let context = request.context_tokens();
            self.reserved_tokens -= context;
            self.context_tokens += context;
            self.joins += 1;
            request.joined_order = self.joins;
            let remaining = request.output_tokens - request.generated;
            self.running
                .push(Reverse((self.clock + u64::from(remaining), slot)));
            if request.generated == 0 {
                request.scheduled_at = now;
                self.fresh.push(slot);
            }
        }
    }

    /// Puts the youngest requests back into the queue until the next step fits into the KV cache.
    fn preempt(&mut self, requests: &mut Requests, profile: &Profile) {
        while self.context_tokens + self.reserved_tokens + self.running.len() as u64
            > profile.kv_capacity_tokens
            && (self.running.len() > 1 || self.reserved_tokens > 0)
        {
            let youngest = self
                .running
                .iter()
                .copied()
                .max_by_key(|Reverse((_, s))| requests[*s].joined_order);
            let Some(Reverse((end, slot))) = youngest else {
                break;
            };
            self.running.retain(|Reverse((_, other))| *other != slot);
            self.fresh.retain(|other| *other != slot);
            let request = &mut requests[slot];
            let remaining = u32::try_from(end - self.clock).unwrap_or(request.output_tokens);
            request.generated = request.output_tokens - remaining;
            self.context_tokens -= request.context_tokens();
            self.waiting_tokens += request.context_tokens();
            self.waiting.push_front(slot);
            self.metrics.preemptions += 1;
        }
    }

    fn admit(
        &mut self,
        now: Nanos,
        requests: &Requests,
        profile: &Profile,
        admissions: &mut Vec<Admission>,
    ) {
        if self.waiting.is_empty() {
            return;
        }
        let mut batch = self.running.len() + self.admitted();
        let mut used = self.context_tokens_at(now) + self.reserved_tokens;
        while let Some(slot) = self.waiting.front().copied() {
            let request = &requests[slot];
            let context = request.context_tokens();
            let kept_free = (profile.kv_capacity_tokens / 100).max(batch as u64 + 1);
            let fits = batch < profile.max_batch as usize
                && used + context + kept_free <= profile.kv_capacity_tokens;
            if !fits && batch > 0 {
                break;
            }
            self.waiting.pop_front();
            self.waiting_tokens -= context;
            self.reserved_tokens += context;
            used += context;
            batch += 1;
            self.transferring.push(slot);
            admissions.push(Admission {
                slot,
                delay: arrival_delay(request, profile),
            });
        }
    }
}

/// Time until an admitted request can join: its KV cache travels, or after a preemption is computed
/// again.
fn arrival_delay(request: &Request, profile: &Profile) -> Nanos {
    if request.generated == 0 {
        profile.kv_transfer_time(request.input_tokens - request.held_tokens)
    } else {
        profile.prefill_time(request.input_tokens + request.generated, 0)
    }
}

fn record(metrics: &mut WorkerMetrics, now: Nanos, request: &Request) {
    let decoded = seconds(now - request.first_token_at);
    let per_token = decoded / f64::from((request.output_tokens - 1).max(1));
    metrics
        .e2e_request_latency
        .observe(seconds(now - request.reached_worker_at));
    metrics.request_queue_time.observe(seconds(
        request
            .scheduled_at
            .saturating_sub(request.reached_worker_at),
    ));
    metrics
        .request_prefill_time
        .observe(seconds(request.first_token_at - request.scheduled_at));
    metrics.request_decode_time.observe(decoded);
    metrics
        .request_inference_time
        .observe(seconds(now - request.scheduled_at));
    metrics.request_time_per_output_token.observe(per_token);
    metrics
        .request_prompt_tokens
        .observe(f64::from(request.input_tokens));
    metrics
        .request_generation_tokens
        .observe(f64::from(request.output_tokens));
    metrics.finished_stop += 1;
}
