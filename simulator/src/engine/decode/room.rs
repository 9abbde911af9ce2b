//! Who has a place in the batch and room in the KV cache of a decode worker, and who loses it.
//!
//! Admission in order of arrival, preemption of the youngest, and the computing again of what a
//! preempted request lost. When the batch changes is decided above. Every change comes through
//! here, so the compiler may inline across files.

use std::cmp::Reverse;

use super::{Admission, DecodeWorker};
use crate::engine::prefill::Step;
use crate::engine::profile::Profile;
use crate::engine::request::{Requests, Slot};
use crate::time::Nanos;

impl DecodeWorker {
    /// Puts the youngest requests back to the front of the queue until the batch has its blocks for
    /// the next step; returns whether there were any.
    #[inline]
    pub(super) fn preempt(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
    ) -> bool {
        let capacity = profile.kv_capacity_blocks();
        let mut any = false;
        while self.blocks.used() + self.reserved_blocks > capacity {
            let order = |slot: &Slot| requests[*slot].joined_order;
            let in_batch = self.running.iter().map(|Reverse((_, slot))| slot);
            let youngest = in_batch.chain(&self.recomputing).copied().max_by_key(order);
            let Some(slot) = youngest else {
                break;
            };
            if self.running.len() == 1 && self.admitted() == 0 {
                // Nothing but the last request could make room, and it fits by itself.
                break;
            }
            any = true;
            self.put_back(slot, now, requests, profile);
        }
        any
    }

    fn put_back(&mut self, slot: Slot, now: Nanos, requests: &mut Requests, profile: &Profile) {
        let taken = self.clock.taken();
        let request = &mut requests[slot];
        if let Some(place) = self.recomputing.iter().position(|other| *other == slot) {
            self.recomputing.remove(place);
            self.reserved_tokens -= request.context_tokens();
            self.reserved_blocks -= profile.kv_blocks(request.context_tokens());
        } else {
            let mut end = taken;
            self.running.retain(|Reverse((other_end, other))| {
                if *other == slot {
                    end = *other_end;
                }
                *other != slot
            });
            self.fresh.retain(|other| *other != slot);
            let remaining = u32::try_from(end - taken).unwrap_or(request.output_tokens);
            request.generated = request.output_tokens.saturating_sub(remaining);
            request.last_token_at = now;
            self.context_tokens -= request.context_tokens();
            self.blocks.leave(request.context_tokens(), taken);
        }
        request.recomputes = true;
        request.prefilled = 0;
        self.waiting_tokens += request.context_tokens();
        self.waiting.push_front(slot);
        self.metrics.preemptions += 1;
    }

    /// Admits from the front of the queue, when the batch has `blocks`.
    #[inline]
    pub(super) fn admit(
        &mut self,
        blocks: u64,
        requests: &mut Requests,
        profile: &Profile,
        admissions: &mut Vec<Admission>,
    ) {
        let mut batch = self.running.len() + self.admitted();
        let mut used = blocks + self.reserved_blocks;
        let most = profile
            .kv_capacity_blocks()
            .saturating_sub(profile.kv_kept_free_blocks());
        while let Some(slot) = self.waiting.front().copied() {
            let request = &mut requests[slot];
            let context = request.context_tokens();
            let wanted = profile.kv_blocks(context);
            let fits = batch < profile.max_batch as usize && used + wanted <= most;
            if !fits && batch > 0 {
                break;
            }
            self.waiting.pop_front();
            self.waiting_tokens -= context;
            self.reserved_tokens += context;
            self.reserved_blocks += wanted;
            used += wanted;
            batch += 1;
            if request.recomputes {
                self.joins += 1;
                request.joined_order = self.joins;
                self.recomputing.push_back(slot);
            } else {
                self.transferring.push(slot);
                let delay = profile.kv_transfer_time(request.input_tokens - request.held_tokens);
                admissions.push(Admission { slot, delay });
            }
        }
    }

    /// Puts lost KV into the next step, beside one token of each request in the batch.
    #[inline]
    pub(super) fn recompute(
        &mut self,
        now: Nanos,
        requests: &mut Requests,
        profile: &Profile,
    ) -> Step {
        let mut step = Step::default();
        if self.recomputing.is_empty() {
            return step;
        }
        let batch = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let room = profile.prefill_step_tokens.saturating_sub(batch).max(1);
        for slot in &self.recomputing {
            let request = &mut requests[*slot];
            let context = u32::try_from(request.context_tokens()).unwrap_or(u32::MAX);
            let left = context.saturating_sub(request.prefilled).max(1);
            let tokens = step.add(left, request.prefilled, room);
            if tokens == 0 {
                break;
            }
            if request.computed_here && request.prefilled == request.held_tokens {
                request.scheduled_at = now;
            }
            self.recomputed.push((*slot, tokens));
        }
        step
    }
}
