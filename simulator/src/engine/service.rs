//! The service: a router, its workers, and the order in which things happen.
//!
//! Owns the calendar of coming events and the way of a request: by default the prefill worker that
//! would be done first, then the decode worker whose next step is least loaded; `dispatch` has the
//! other rules. Requests that find no ready
//! worker of the role they need wait at the router. Equal times are settled by the order in which
//! events were planned and equal loads by the older place, so a run is repeatable.
//!
//! The calendar may hold an event that a later change made void; it is recognised when its time
//! comes, as a decode worker knows the one time it waits for and every worker has a number of its
//! own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use serde::Serialize;
use thiserror::Error;

use self::dispatch::Dispatcher;
use self::member::Pool;
use super::decode::{Admission, DecodeWorker};
use super::link::Wake;
use super::metrics::WorkerMetrics;
use super::prefill::PrefillWorker;
use super::profile::Profile;
use super::request::{Arrival, Ending, Request, RequestOutcome, Requests, Slot};
use super::role::Role;
use crate::time::Nanos;

mod calendar;
mod dispatch;
mod member;
mod membership;
mod steps;

use self::calendar::{Event, PlannedEvent};
pub use self::dispatch::Dispatch;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Not ready before its time has come.
    Starting,
    /// Takes requests.
    Ready,
    /// Takes no new requests and leaves once it has finished what it has.
    Draining,
}

/// How a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It finishes what it works on; what only waits goes elsewhere.
    Drain,
    /// It is gone at once; its requests start over.
    Crash,
}

/// A worker that cannot be added or removed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ServiceError {
    /// The name is taken.
    #[error("worker `{0}` exists already: give each worker a name of its own")]
    Duplicate(String),
    /// There is no such worker.
    #[error("worker `{0}` does not exist: name a worker that was added and has not left")]
    Unknown(String),
}

/// One worker as seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct WorkerView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its role.
    pub role: Role,
    /// Where it is in its life.
    pub state: WorkerState,
    /// When it is or was ready.
    pub ready_at: Nanos,
    /// Its counters, as of the last [`Service::observe`].
    pub metrics: &'a WorkerMetrics,
}

/// A prefill/decode service in virtual time.
#[derive(Debug, Default)]
pub struct Service {
    profile: Profile,
    now: Nanos,
    calendar: BinaryHeap<Reverse<PlannedEvent>>,
    planned: u64,
    requests: Requests,
    arrivals: u64,
    restarts: u64,
    prefill: Pool<PrefillWorker>,
    decode: Pool<DecodeWorker>,
    waiting_for_prefill: VecDeque<Slot>,
    waiting_for_decode: VecDeque<Slot>,
    dispatcher: Dispatcher,
    outcomes: Vec<RequestOutcome>,
    // Kept between calls so that a run allocates nothing per request.
    completed: Vec<Slot>,
    finished: Vec<Slot>,
    admissions: Vec<Admission>,
}

impl Service {
    /// A service without workers at time 0. The profile is used as given; [`Profile::validate`]
    /// says whether it makes sense.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// The same with routers, prefix caches and links of its own.
    pub fn with_dispatch(profile: Profile, dispatch: Dispatch) -> Self {
        Self {
            dispatcher: Dispatcher::new(dispatch),
            ..Self::new(profile)
        }
    }

    /// The present coefficients.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Changes the coefficients: for prefill from each worker's next step, for decode from each
    /// batch's next change. Blocks keep their size, as workers hold some.
    pub fn set_profile(&mut self, mut profile: Profile) {
        profile.kv_block_tokens = self.profile.kv_block_tokens;
        self.profile = profile;
    }

    /// The time up to which everything has happened.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Sends a request at its time of arrival, after everything due by then has happened. A time
    /// that is past counts as now.
    pub fn offer(&mut self, arrival: Arrival) {
        self.advance(arrival.at);
        let input_tokens = arrival.input_tokens.max(1);
        let output_tokens = arrival.output_tokens.max(1);
        let id = self.arrivals;
        self.arrivals += 1;
        let request = Request {
            id,
            arrived_at: self.now,
            first_token_at: self.now,
            input_tokens,
            output_tokens,
            cached_tokens: self.profile.cached_tokens(input_tokens),
            prompt: self.dispatcher.prompt(arrival.prompt, input_tokens),
            ..Request::default()
        };
        let tokens = u64::from(input_tokens) + u64::from(output_tokens);
        if self.profile.kv_blocks(tokens) > self.profile.kv_capacity_blocks() {
            self.outcomes
                .push(outcome(&request, self.now, Ending::Refused));
            return;
        }
        let slot = self.requests.insert(request);
        self.route(slot);
    }

    /// Processes every event that is due by `now`.
    pub fn advance(&mut self, now: Nanos) {
        while let Some(Reverse(next)) = self.calendar.peek().copied() {
            if next.at > now {
                break;
            }
            self.calendar.pop();
            self.now = self.now.max(next.at);
            self.process_event(next);
        }
        self.now = self.now.max(now);
    }

    /// Advances to `now` and brings the metrics of all workers up to date. It never changes what
    /// happens later.
    pub fn observe(&mut self, now: Nanos) {
        self.advance(now);
        for worker in self.prefill.members_mut() {
            worker.core.observe(&self.profile);
        }
        for worker in self.decode.members_mut() {
            worker
                .core
                .observe(self.now, &mut self.requests, &self.profile);
        }
    }

    /// When the next event is due, if nothing arrives before. It may be a little early, never
    /// late.
    pub fn next_event_at(&self) -> Option<Nanos> {
        self.calendar.peek().map(|Reverse(next)| next.at)
    }

    /// The requests that ended since the last call, in order of ending.
    pub fn drain_outcomes(&mut self) -> std::vec::Drain<'_, RequestOutcome> {
        self.outcomes.drain(..)
    }

    /// All workers: prefill, then decode, each by place.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        let prefill = self
            .prefill
            .members()
            .map(|w| w.view(Role::Prefill, &w.core.metrics));
        let decode = self
            .decode
            .members()
            .map(|w| w.view(Role::Decode, &w.core.metrics));
        prefill.chain(decode)
    }

    /// The number of workers of a role in a state.
    pub fn worker_count(&self, role: Role, state: WorkerState) -> usize {
        match role {
            Role::Prefill => self.prefill.members().filter(|w| w.state == state).count(),
            Role::Decode => self.decode.members().filter(|w| w.state == state).count(),
        }
    }

    /// Requests that wait at the router because no worker of the role is ready.
    pub fn waiting_at_router(&self, role: Role) -> usize {
        match role {
            Role::Prefill => self.waiting_for_prefill.len(),
            Role::Decode => self.waiting_for_decode.len(),
        }
    }

    /// How often requests started over because their worker crashed.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Requests that arrived and have not ended.
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight()
    }

    fn plan(&mut self, at: Nanos, event: Event) {
        self.planned += 1;
        self.calendar.push(Reverse(PlannedEvent {
            at,
            order: self.planned,
            event,
        }));
    }

    fn process_event(&mut self, planned: PlannedEvent) {
        match planned.event {
            Event::Ready {
                role,
                place,
                number,
            } => self.become_ready(role, place, number),
            Event::PrefillEnds { place, number } => self.end_prefill(place, number),
            Event::TransferEnds { link } => self.end_transfers(Wake {
                link,
                at: planned.at,
            }),
            Event::KvArrives {
                place,
                number,
                slot,
            } => {
                let Some(worker) = self.decode.get_mut(place, number) else {
                    return;
                };
                let due = self.requests[slot].kv_arrives_at == planned.at;
                if !due || !worker.core.kv_arrived(slot) {
                    return;
                }
                let stepping = worker.core.is_stepping();
                self.release_kv(slot);
                if stepping {
                    self.plan_batch_change(place);
                } else {
                    self.change_batch(place);
                }
            }
            Event::BatchChanges { place, number } => {
                let due = self
                    .decode
                    .get_mut(place, number)
                    .map(|worker| worker.waits_for);
                if due == Some(Some(planned.at)) {
                    self.change_batch(place);
                }
            }
        }
    }
}

fn outcome(request: &Request, now: Nanos, ending: Ending) -> RequestOutcome {
    RequestOutcome {
        id: request.id,
        ending,
        arrived_at: request.arrived_at,
        first_token_at: request.first_token_at,
        finished_at: now,
        input_tokens: request.input_tokens,
        output_tokens: request.output_tokens,
        restarts: request.restarts,
    }
}

#[cfg(test)]
mod tests;
