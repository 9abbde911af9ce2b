//! The steps of workers: ending and beginning a prefill step, and changing a decode batch.
//!
//! Most of a simulated day is spent here, so the compiler may inline across files.

use super::calendar::Event;
use super::{Service, WorkerState, outcome};
use crate::engine::request::{Ending, Holder, Slot};

impl Service {
    #[inline]
    pub(super) fn end_prefill(&mut self, place: u32, number: u32) {
        let Some(worker) = self.prefill.get_mut(place, number) else {
            return;
        };
        let domain = worker.domain;
        let mut completed = std::mem::take(&mut self.completed);
        worker
            .core
            .end_step(self.now, &mut self.requests, &mut completed);
        self.go_on_prefill(place);
        for slot in completed.drain(..) {
            let request = &mut self.requests[slot];
            request.kv_held_by = Some(Holder { place, number });
            request.domain = domain;
            self.route_to_decode(slot);
        }
        self.completed = completed;
    }

    /// Lets a prefill worker begin a step, or leave if it drains and has nothing left.
    #[inline]
    pub(super) fn go_on_prefill(&mut self, place: u32) {
        let Some(worker) = self.prefill.at_mut(place) else {
            return;
        };
        let number = worker.number;
        if worker
            .core
            .start_step(self.now, &mut self.requests, &self.profile)
        {
            if let Some(at) = worker.core.next_event() {
                self.plan(at, Event::PrefillEnds { place, number });
            }
        } else if worker.state == WorkerState::Draining && worker.core.is_idle() {
            self.prefill.remove(place);
        }
    }

    /// Frees the KV cache that a prefill worker holds for a request, which may let it go on.
    #[inline]
    pub(super) fn release_kv(&mut self, slot: Slot) {
        let Some(Holder { place, number }) = self.requests[slot].kv_held_by.take() else {
            return;
        };
        if let Some(worker) = self.prefill.get_mut(place, number) {
            worker.core.release(slot, &self.requests, &self.profile);
            if worker.core.next_event().is_none() {
                self.go_on_prefill(place);
            }
        }
    }

    #[inline]
    pub(super) fn change_batch(&mut self, place: u32) {
        let Some(worker) = self.decode.at_mut(place) else {
            return;
        };
        worker.core.change_batch(
            self.now,
            &mut self.requests,
            &self.profile,
            &mut self.finished,
            &mut self.admissions,
        );
        let leaves = worker.state == WorkerState::Draining && worker.core.is_idle();
        for slot in self.finished.drain(..) {
            self.outcomes
                .push(outcome(&self.requests[slot], self.now, Ending::Completed));
            self.requests.remove(slot);
        }
        if leaves {
            self.decode.remove(place);
        } else {
            self.plan_kv_arrivals(place);
            self.plan_batch_change(place);
        }
    }

    #[inline]
    pub(super) fn plan_batch_change(&mut self, place: u32) {
        let Some(worker) = self.decode.at_mut(place) else {
            return;
        };
        let next = worker.core.next_event(self.now, &self.profile);
        let known = std::mem::replace(&mut worker.waits_for, next);
        let number = worker.number;
        if let Some(at) = next
            && known != next
        {
            self.plan(at, Event::BatchChanges { place, number });
        }
    }
}
