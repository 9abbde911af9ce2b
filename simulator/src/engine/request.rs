//! One request on its way through the service, and what is told about it at the end.
//!
//! Owns the in-flight request table: a slab whose slots are reused, so that a run of any length
//! needs memory only for what is in flight. A slot number is all that queues, batches and events
//! carry. The table never decides where a request goes.

use std::sync::Arc;

use serde::Serialize;

use super::prefix_cache::PrefixCache;
use super::prompt_blocks::PromptBlocks;
use crate::time::{Nanos, seconds};

/// A request as it reaches the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrives.
    pub at: Nanos,
    /// Tokens of the prompt; 0 counts as 1.
    pub input_tokens: u32,
    /// Tokens of the answer; 0 counts as 1.
    pub output_tokens: u32,
    /// The blocks of the prompt, where the traffic has them.
    pub prompt: Option<Arc<PromptBlocks>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// All output tokens were produced.
    Completed,
    /// Prompt and answer together exceed the KV cache of a worker, so no worker can ever serve it.
    Refused,
}

/// The fate of one request, as its user saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOutcome {
    /// Number of the request in order of arrival, from 0.
    pub id: u64,
    /// How it ended.
    pub ending: Ending,
    /// When it arrived at the service.
    pub arrived_at: Nanos,
    /// When the user got the first token, from the decode worker. Equal to `arrived_at` if refused.
    pub first_token_at: Nanos,
    /// When the user got the last token. Equal to `arrived_at` if refused.
    pub finished_at: Nanos,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// How often the request started over because its worker crashed.
    pub restarts: u32,
}

impl RequestOutcome {
    /// Time to first token, in seconds: from arrival at the service to the first token of the
    /// decode worker.
    pub fn ttft_seconds(&self) -> f64 {
        seconds(self.first_token_at - self.arrived_at)
    }

    /// Mean time per output token after the first, in seconds, or `None` for an answer of one
    /// token.
    pub fn tpot_seconds(&self) -> Option<f64> {
        (self.output_tokens > 1).then(|| {
            seconds(self.finished_at - self.first_token_at) / f64::from(self.output_tokens - 1)
        })
    }
}

/// Number of a request's place in the table.
pub(super) type Slot = u32;

/// A worker that holds KV cache: its place, and the number that is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) place: u32,
    pub(super) number: u32,
}

/// A request in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) arrived_at: Nanos,
    pub(super) input_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) restarts: u32,
    /// Output tokens already produced by a decode worker; above 0 in a queue only after a
    /// preemption.
    pub(super) generated: u32,
    /// Tokens of the prompt that the prefill worker's prefix cache holds; fewer than the prompt
    /// has, and as they are when the request reaches the worker.
    pub(super) cached_tokens: u32,
    pub(super) prompt: Option<Arc<PromptBlocks>>,
    /// Tokens of the prompt that its decode worker holds already, so that they need not travel.
    pub(super) held_tokens: u32,
    /// Whether the decode worker computes the prompt itself.
    pub(super) computed_here: bool,
    /// Domain of the prefill worker that has computed the prompt.
    pub(super) domain: u32,
    /// Tokens whose KV the present worker holds, while it computes the prompt.
    pub(super) prefilled: u32,
    /// Whether the decode worker computes the KV: it was lost to a preemption, or never was
    /// elsewhere.
    pub(super) recomputes: bool,
    /// The prefill worker that computed the KV and holds it until it has been fetched.
    pub(super) kv_held_by: Option<Holder>,
    /// When it reached the worker where it is now.
    pub(super) reached_worker_at: Nanos,
    /// When that worker began to work on it.
    pub(super) scheduled_at: Nanos,
    pub(super) first_token_at: Nanos,
    /// When the last token came before a preemption.
    pub(super) last_token_at: Nanos,
    /// When its KV cache will have been fetched: an event that says otherwise is void.
    pub(super) kv_arrives_at: Nanos,
    /// Order of joining the batch, by which the youngest is preempted first.
    pub(super) joined_order: u64,
}

impl Request {
    /// Tokens whose KV must be held for this request to go on decoding.
    pub(super) fn context_tokens(&self) -> u64 {
        u64::from(self.input_tokens) + u64::from(self.generated)
    }

    /// Tokens of the prompt that a worker holds, less than all.
    pub(super) fn tokens_in(&self, cache: &PrefixCache) -> u32 {
        let hit = |prompt: &Arc<PromptBlocks>| cache.hit_tokens(prompt, self.input_tokens);
        self.prompt.as_ref().map_or(0, hit)
    }

    /// Begins again, from its prompt.
    pub(super) fn restart(&mut self) {
        self.restarts += 1;
        self.generated = 0;
        self.prefilled = 0;
        self.recomputes = false;
        self.computed_here = false;
        self.held_tokens = 0;
        self.kv_held_by = None;
        self.kv_arrives_at = Nanos::MAX;
    }
}

/// The requests in flight.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Request>,
    free: Vec<Slot>,
}

impl Requests {
    pub(super) fn insert(&mut self, request: Request) -> Slot {
        if let Some(slot) = self.free.pop() {
            self[slot] = request;
            return slot;
        }
        self.slots.push(request);
        // Four billion requests in flight would need over 400 GB, so memory ends first.
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl std::ops::Index<Slot> for Requests {
    type Output = Request;
    #[inline]
    fn index(&self, slot: Slot) -> &Request {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<Slot> for Requests {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Request {
        &mut self.slots[slot as usize]
    }
}
