//! A prefill worker: prompts are computed one after the other, first come, first served.
//!
//! Real engines may put several short prompts into one step. As prefill is bound by compute, that
//! saves only the constant part of the time, so one prompt at a time is a good and slightly
//! pessimistic model. The time at which each queued prompt ends is known when it is queued; the
//! worker therefore wakes up once per prompt. It knows nothing of other workers.

use std::collections::VecDeque;

use super::metrics::WorkerMetrics;
use super::profile::Profile;
use super::request::{Request, Requests, Slot};
use super::router::Workload;
use crate::time::{Nanos, seconds};

/// A prefill worker and its queue. The front of the queue is the prompt being computed.
#[derive(Debug, Default)]
pub(super) struct PrefillWorker {
    queue: VecDeque<Slot>,
    head_ends_at: Nanos,
    free_at: Nanos,
    kv_tokens: u64,
    pub(super) metrics: WorkerMetrics,
}

impl Workload for PrefillWorker {
    fn requests(&self) -> u64 {
        self.queue.len() as u64
    }

    fn waiting(&self) -> u64 {
        self.requests().saturating_sub(1)
    }

    fn kv_tokens(&self) -> u64 {
        if self.queue.is_empty() {
            0
        } else {
            self.kv_tokens
        }
    }
}

impl PrefillWorker {
    /// When everything that is queued now will be done.
    #[inline]
    pub(super) fn free_at(&self) -> Nanos {
        self.free_at
    }

    /// When the prompt being computed ends.
    pub(super) fn next_event(&self) -> Option<Nanos> {
        (!self.queue.is_empty()).then_some(self.head_ends_at)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a request; returns whether it is now the one being computed.
    pub(super) fn enqueue(&mut self, now: Nanos, slot: Slot, requests: &mut Requests) -> bool {
        let request = &mut requests[slot];
        request.reached_worker_at = now;
        self.free_at = self.free_at.max(now) + request.prefill_time;
        self.queue.push_back(slot);
        let starts = self.queue.len() == 1;
        if starts {
            self.start_head(now, request);
        }
        starts
    }

    /// Ends the prompt being computed, starts the next, and returns the one that ended.
    pub(super) fn finish_head(&mut self, now: Nanos, requests: &mut Requests) -> Option<Slot> {
        let slot = self.queue.pop_front()?;
        self.record(now, &requests[slot]);
        if let Some(next) = self.queue.front().copied() {
            self.start_head(now, &mut requests[next]);
        }
        Some(slot)
    }

    /// Takes back what is queued; the prompt being computed is taken only if `running_too`.
    pub(super) fn take_queue(
        &mut self,
        now: Nanos,
        running_too: bool,
    ) -> impl Iterator<Item = Slot> + use<> {
        let kept = usize::from(!running_too && !self.queue.is_empty());
        let taken = self.queue.split_off(kept);
        self.free_at = if kept == 1 { self.head_ends_at } else { now };
        taken.into_iter()
    }

    /// Brings the gauges up to date.
    pub(super) fn observe(&mut self, profile: &Profile) {
        let queued = self.queue.len() as u64;
        self.metrics.requests_running = queued.min(1);
        self.metrics.requests_waiting_capacity = queued.saturating_sub(1);
        let held = if queued == 0 { 0 } else { self.kv_tokens };
        self.metrics.kv_cache_usage = (held as f64 / profile.kv_capacity_tokens as f64).min(1.0);
    }

    fn start_head(&mut self, now: Nanos, request: &mut Request) {
        request.scheduled_at = now;
        self.head_ends_at = now + request.prefill_time;
        self.kv_tokens = u64::from(request.input_tokens);
    }

    fn record(&mut self, now: Nanos, request: &Request) {
        let metrics = &mut self.metrics;
        let queued = seconds(request.scheduled_at - request.reached_worker_at);
        let computed = seconds(now - request.scheduled_at);
        let in_all = seconds(now - request.reached_worker_at);
        metrics.time_to_first_token.observe(in_all);
        metrics.e2e_request_latency.observe(in_all);
        metrics.request_queue_time.observe(queued);
        metrics.request_prefill_time.observe(computed);
        metrics.request_inference_time.observe(computed);
        metrics.request_decode_time.observe(0.0);
        metrics.request_time_per_output_token.observe(0.0);
        metrics
            .request_prompt_tokens
            .observe(f64::from(request.input_tokens));
        metrics.request_generation_tokens.observe(1.0);
        metrics.generation_tokens += 1;
        metrics.finished_length += 1;
        metrics.prompt_tokens_local_compute +=
            u64::from(request.input_tokens - request.cached_tokens);
        metrics.prompt_tokens_local_cache_hit += u64::from(request.cached_tokens);
        metrics.prefix_cache_queries += u64::from(request.input_tokens);
        metrics.prefix_cache_hits += u64::from(request.cached_tokens);
    }
}
