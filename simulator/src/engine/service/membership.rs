//! Workers coming and going, and what that means for the requests they hold.
//!
//! Owns three promises: a request is never lost with its worker, a draining worker gets nothing
//! new, and a request that starts over keeps its time of arrival, so that its user's TTFT tells the
//! truth. A draining prefill worker stays until its last KV cache has been fetched; when one
//! crashes, the requests whose KV cache it still held start over too.

use super::calendar::Event;
use super::member::Member;
use super::{Removal, Role, Service, ServiceError, WorkerState};
use crate::engine::decode::DecodeWorker;
use crate::engine::request::Slot;
use crate::time::Nanos;

impl Service {
    /// Adds a worker that is ready after its role's start-up time.
    ///
    /// # Errors
    /// A worker of that name exists already.
    pub fn add_worker(&mut self, now: Nanos, role: Role, name: &str) -> Result<(), ServiceError> {
        self.add_worker_ready_at(now, role, name, now + self.profile.startup_time(role))
    }

    /// Adds a worker that is ready at a given time. A time that is past counts as now.
    ///
    /// # Errors
    /// A worker of that name exists already.
    pub fn add_worker_ready_at(
        &mut self,
        now: Nanos,
        role: Role,
        name: &str,
        ready_at: Nanos,
    ) -> Result<(), ServiceError> {
        self.advance(now);
        if self
            .prefill
            .place_of(name)
            .or(self.decode.place_of(name))
            .is_some()
        {
            return Err(ServiceError::Duplicate(name.to_owned()));
        }
        let ready_at = ready_at.max(self.now);
        let domains = self.dispatcher.domains();
        let (place, number) = match role {
            Role::Prefill => self.prefill.add(name, ready_at, domains),
            Role::Decode => self.decode.add(name, ready_at, domains),
        };
        if ready_at == self.now {
            self.become_ready(role, place, number);
        } else {
            self.plan(
                ready_at,
                Event::Ready {
                    role,
                    place,
                    number,
                },
            );
        }
        Ok(())
    }

    /// Removes a worker. A draining worker may be crashed, and draining it once more changes
    /// nothing.
    ///
    /// # Errors
    /// There is no worker of that name.
    pub fn remove_worker(
        &mut self,
        now: Nanos,
        name: &str,
        removal: Removal,
    ) -> Result<(), ServiceError> {
        self.advance(now);
        if let Some(place) = self.prefill.place_of(name) {
            self.remove_prefill(place, removal);
        } else if let Some(place) = self.decode.place_of(name) {
            self.remove_decode(place, removal);
        } else {
            return Err(ServiceError::Unknown(name.to_owned()));
        }
        Ok(())
    }

    pub(super) fn become_ready(&mut self, role: Role, place: u32, number: u32) {
        match role {
            Role::Prefill => {
                let Some(worker) = self.prefill.get_mut(place, number) else {
                    return;
                };
                worker.state = WorkerState::Ready;
                for slot in std::mem::take(&mut self.waiting_for_prefill) {
                    self.route_to_prefill(slot);
                }
            }
            Role::Decode => {
                let Some(worker) = self.decode.get_mut(place, number) else {
                    return;
                };
                worker.state = WorkerState::Ready;
                for slot in std::mem::take(&mut self.waiting_for_decode) {
                    self.route_to_decode(slot);
                }
            }
        }
    }

    fn remove_prefill(&mut self, place: u32, removal: Removal) {
        if removal == Removal::Crash {
            let Some(mut worker) = self.prefill.take(place) else {
                return;
            };
            let left = worker.core.take_all();
            for &slot in &left.begun {
                self.forget_at_decode(slot);
            }
            self.restart(&left.begun);
            for slot in left.waiting {
                self.route_to_prefill(slot);
            }
            return;
        }
        let Some(worker) = self.prefill.at_mut(place) else {
            return;
        };
        worker.state = WorkerState::Draining;
        let waiting = worker.core.take_waiting(&self.requests, &self.profile);
        if worker.core.is_idle() {
            self.prefill.remove(place);
        }
        for slot in waiting {
            self.route_to_prefill(slot);
        }
    }

    /// Takes a request, whose KV cache is lost before it was fetched, from wherever it waits for
    /// it.
    fn forget_at_decode(&mut self, slot: Slot) {
        if self.requests[slot].kv_held_by.is_none() {
            return;
        }
        let place_of = self.waiting_for_decode.iter().position(|s| *s == slot);
        if let Some(place) = place_of {
            self.waiting_for_decode.remove(place);
            return;
        }
        self.cut_transfers(|transfer| transfer.slot == slot);
        let found = self.decode.places().find(|place| {
            self.decode.at_mut(*place).is_some_and(|worker| {
                worker.core.give_up(
                    self.now,
                    slot,
                    &mut self.requests,
                    &self.profile,
                    &mut self.admissions,
                )
            })
        });
        let Some(place) = found else {
            return;
        };
        let leaves = |worker: &mut Member<DecodeWorker>| {
            worker.state == WorkerState::Draining && worker.core.is_idle()
        };
        if self.decode.at_mut(place).is_some_and(leaves) {
            self.decode.remove(place);
        } else {
            self.plan_kv_arrivals(place);
            self.plan_batch_change(place);
        }
    }

    fn remove_decode(&mut self, place: u32, removal: Removal) {
        if removal == Removal::Crash {
            let Some(mut worker) = self.decode.take(place) else {
                return;
            };
            let mut taken = worker.core.take_all();
            self.cut_transfers(|transfer| {
                (transfer.place, transfer.number) == (place, worker.number)
            });
            taken.sort_unstable_by_key(|slot| self.requests[*slot].id);
            for &slot in &taken {
                self.release_kv(slot);
            }
            self.restart(&taken);
            return;
        }
        let Some(worker) = self.decode.at_mut(place) else {
            return;
        };
        worker.state = WorkerState::Draining;
        let waiting = worker.core.take_waiting();
        if worker.core.is_idle() {
            self.decode.remove(place);
        }
        for slot in waiting {
            self.route_to_decode(slot);
        }
    }

    fn restart(&mut self, slots: &[Slot]) {
        self.restarts += slots.len() as u64;
        for &slot in slots {
            self.requests[slot].restart();
            self.route(slot);
        }
    }
}
