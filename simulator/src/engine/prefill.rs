//! A prefill worker: prompts are computed in steps of a bounded number of tokens, first come, first
//! served, as vLLM's scheduler does it.
//!
//! A step begins with the rest of the prompt that the last step did not complete, and takes more
//! prompts while it has tokens and places left and the KV cache has room for the whole prompt. All
//! prompts that it completes have their first token at its end. Their KV cache stays here until a
//! decode worker has fetched it; until then its blocks are not free, and when none are free prompts
//! wait. The worker wakes up once per step. It knows nothing of other workers.

use std::collections::VecDeque;

use super::metrics::WorkerMetrics;
use super::profile::{Profile, attention};
use super::request::{Request, Requests, Slot};
use super::router::Workload;
use crate::time::{Nanos, seconds};

/// A prefill worker and its queue.
#[derive(Debug, Default)]
pub(super) struct PrefillWorker {
    /// Prompts that are not begun.
    waiting: VecDeque<Slot>,
    /// The prompt of which steps have computed a part, and the tokens that this step adds.
    partial: Option<(Slot, u32)>,
    /// Prompts that this step completes.
    completing: Vec<Slot>,
    step_ends_at: Option<Nanos>,
    /// Time that what no step has begun on will take, as the router counts it.
    ahead: Nanos,
    /// Prompts that are complete and whose KV cache has not been fetched.
    held: Vec<Slot>,
    blocks_used: u64,
    /// Time spent in steps that ended.
    pub(super) busy: Nanos,
    step_began_at: Nanos,
    pub(super) metrics: WorkerMetrics,
}

/// The requests that a worker leaves behind when it goes.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Prompts whose work is lost, complete or not, in order.
    pub(super) begun: Vec<Slot>,
    /// Prompts that were not begun.
    pub(super) waiting: VecDeque<Slot>,
}

impl Workload for PrefillWorker {
    fn requests(&self) -> u64 {
        let begun = self.completing.len() + usize::from(self.partial.is_some());
        (self.waiting.len() + begun) as u64
    }

    fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    fn kv_blocks(&self) -> u64 {
        self.blocks_used
    }
}

impl PrefillWorker {
    /// When everything that is queued now will be done, if nothing else comes and the KV cache does
    /// not run out.
    #[inline]
    pub(super) fn free_at(&self) -> Nanos {
        self.step_ends_at.unwrap_or(0).saturating_add(self.ahead)
    }

    /// When the step in progress ends.
    pub(super) fn next_event(&self) -> Option<Nanos> {
        self.step_ends_at
    }

    /// Whether there is nothing left to do and nothing left to fetch.
    pub(super) fn is_idle(&self) -> bool {
        self.step_ends_at.is_none() && self.waiting.is_empty() && self.held.is_empty()
    }

    /// Queues a request; [`Self::start_step`] begins to work on it.
    pub(super) fn enqueue(
        &mut self,
        now: Nanos,
        slot: Slot,
        requests: &mut Requests,
        profile: &Profile,
    ) {
        let request = &mut requests[slot];
        request.reached_worker_at = now;
        request.prefilled = request.cached_tokens;
        self.ahead += share_time(request, profile);
        self.waiting.push_back(slot);
    }

    /// Begins a step if none is in progress and there is something that it can work on; returns
    /// whether it did.
    pub(super) fn start_step(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
    ) -> bool {
        if self.step_ends_at.is_some() {
            return false;
        }
        let mut step = Step::default();
        if let Some((slot, _)) = self.partial.take() {
            self.work_on(slot, &mut step, requests, profile);
        }
        while self.partial.is_none()
            && step.tokens < u64::from(profile.prefill_step_tokens.max(1))
            && self.completing.len() < profile.prefill_step_requests as usize
            && let Some(slot) = self.waiting.front().copied()
        {
            let request = &mut requests[slot];
            let blocks = profile.kv_blocks(u64::from(request.input_tokens));
            let room = self.blocks_used + blocks <= profile.kv_capacity_blocks();
            if !room && self.blocks_used > 0 {
                break;
            }
            self.blocks_used += blocks;
            request.scheduled_at = now;
            self.waiting.pop_front();
            self.work_on(slot, &mut step, requests, profile);
        }
        if step.tokens == 0 {
            return false;
        }
        if self.waiting.is_empty() && self.partial.is_none() {
            self.ahead = 0;
        }
        self.step_began_at = now;
        let duration = profile.prefill_step_time(step.tokens, step.attended);
        self.step_ends_at = Some(now.saturating_add(duration));
        true
    }

    /// Ends the step in progress and adds the prompts that it completed to `completed`.
    pub(super) fn end_step(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        completed: &mut Vec<Slot>,
    ) {
        self.step_ends_at = None;
        self.busy += now - self.step_began_at;
        for slot in &self.completing {
            record(&mut self.metrics, now, &requests[*slot]);
        }
        if !self.completing.is_empty() {
            let completing = self.completing.iter();
            let tokens = completing.map(|slot| u64::from(requests[*slot].input_tokens) + 1);
            let tokens: u64 = tokens.sum();
            self.metrics.iteration_tokens.observe(tokens as f64);
        }
        self.held.extend_from_slice(&self.completing);
        completed.append(&mut self.completing);
        if let Some((slot, computed)) = self.partial {
            requests[slot].prefilled += computed;
        }
    }

    /// Frees the KV cache of a complete prompt.
    pub(super) fn release(&mut self, slot: Slot, requests: &Requests, profile: &Profile) {
        if let Some(place) = self.held.iter().position(|other| *other == slot) {
            self.held.swap_remove(place);
            let tokens = u64::from(requests[slot].input_tokens);
            self.blocks_used -= profile.kv_blocks(tokens);
        }
    }

    /// Takes back the prompts that are not begun.
    pub(super) fn take_waiting(
        &mut self,
        requests: &Requests,
        profile: &Profile,
    ) -> VecDeque<Slot> {
        self.ahead = match self.partial {
            Some((slot, computed)) => rest_time(&requests[slot], computed, profile),
            None => 0,
        };
        std::mem::take(&mut self.waiting)
    }

    /// Takes back everything.
    pub(super) fn take_all(&mut self) -> Leftovers {
        let mut begun = std::mem::take(&mut self.held);
        begun.append(&mut self.completing);
        begun.extend(self.partial.take().map(|(slot, _)| slot));
        Leftovers {
            begun,
            waiting: std::mem::take(&mut self.waiting),
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn observe(&mut self, profile: &Profile) {
        let running = self.completing.len() + usize::from(self.partial.is_some());
        self.metrics.requests_running = running as u64;
        self.metrics.requests_waiting_capacity = self.waiting.len() as u64;
        let capacity = profile.kv_capacity_blocks().max(1);
        self.metrics.kv_cache_usage = (self.blocks_used as f64 / capacity as f64).min(1.0);
    }

    /// KV blocks of prompts in work and of those not fetched.
    #[cfg(test)]
    pub(super) fn kv_blocks_used(&self) -> u64 {
        self.blocks_used
    }

    /// Puts as much of a prompt into the step as it has tokens left.
    fn work_on(&mut self, slot: Slot, step: &mut Step, requests: &Requests, profile: &Profile) {
        let request = &requests[slot];
        let left = request
            .input_tokens
            .saturating_sub(request.prefilled)
            .max(1);
        let tokens = step.add(left, request.prefilled, profile.prefill_step_tokens.max(1));
        self.ahead = self.ahead.saturating_sub(share_time(request, profile));
        if tokens == left {
            self.completing.push(slot);
        } else {
            self.ahead += rest_time(request, tokens, profile);
            self.partial = Some((slot, tokens));
        }
    }
}

/// A step that is being put together.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) tokens: u64,
    pub(super) attended: u64,
}

impl Step {
    /// Adds as many of the `left` tokens after the first `done` as a step of `most` tokens has room
    /// for, and returns how many these are.
    pub(super) fn add(&mut self, left: u32, done: u32, most: u32) -> u32 {
        let room = u64::from(most).saturating_sub(self.tokens);
        let tokens = left.min(u32::try_from(room).unwrap_or(u32::MAX));
        self.tokens += u64::from(tokens);
        self.attended = self.attended.saturating_add(attention(tokens, done));
        tokens
    }
}

/// The time of a prompt that no step has in work.
fn share_time(request: &Request, profile: &Profile) -> Nanos {
    rest_time(request, 0, profile)
}

/// The rest of a prompt when a step has added `computed` tokens.
fn rest_time(request: &Request, computed: u32, profile: &Profile) -> Nanos {
    let done = request.prefilled.saturating_add(computed);
    profile.prefill_share_time(request.input_tokens.saturating_sub(done), done)
}

fn record(metrics: &mut WorkerMetrics, now: Nanos, request: &Request) {
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
    metrics.prompt_tokens_local_compute += u64::from(request.input_tokens - request.cached_tokens);
    metrics.prompt_tokens_local_cache_hit += u64::from(request.cached_tokens);
    metrics.prefix_cache_queries += u64::from(request.input_tokens);
    metrics.prefix_cache_hits += u64::from(request.cached_tokens);
}

#[cfg(test)]
mod tests;
