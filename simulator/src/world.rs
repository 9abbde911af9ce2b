//! The closed loop: requests, the service, its metrics, the decision, and its execution.
//!
//! One step is one interval of the controller: requests are sent, workers are scraped, the
//! [`Autoscaler`] decides on what the scrapes show, and its decision is carried out. Added workers
//! take their start-up time, removed ones drain. There is no clock here, so that a day takes as
//! long as it computes and the same requests give the same day. What happens is told to a
//! [`Listener`]; the world itself keeps no count of it.

use std::iter::Peekable;

use pd_core::policy::Policy;
use pd_core::snapshot::Paused;
use pd_core::{PerRole, Role, RoleState, Snapshot};
use serde::Serialize;

use crate::autoscaler::sight::workers_of;
use crate::autoscaler::{Autoscaler, Gateway, Reads, Sight, Verdict};
use crate::engine::{Arrival, Outcome, Profile, Removal, Service, WorkerState};
use crate::observe::{Observer, Windows, core_role, engine_role};
use crate::time::{MINUTE, Nanos, SECOND};

/// Longest time the last requests are given to end, from the end of the run.
const ENDING_MAX: Nanos = 120 * MINUTE;

/// Replicas of a role at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// Asked for.
    pub desired: u32,
    /// Taking requests.
    pub ready: u32,
    /// Not ready yet.
    pub starting: u32,
    /// Finishing what they have before they leave.
    pub draining: u32,
}

impl Replicas {
    /// Workers that hold their GPUs.
    pub fn provisioned(&self) -> u32 {
        self.ready + self.starting + self.draining
    }
}

/// What a world is made of, besides its requests and its autoscaler.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the owner wants.
    pub policy: Policy,
    /// How fast a worker is, and how long it takes to start.
    pub profile: Profile,
    /// GPUs of one replica of each role.
    pub gpus_per_replica: PerRole<u32>,
    /// Replicas that are ready when the run starts.
    pub replicas_at_start: PerRole<u32>,
    /// Time between two decisions; above 0.
    pub interval: Nanos,
    /// Time between two scrapes; above 0, and `interval` a multiple of it.
    pub scrape_interval: Nanos,
    /// Windows that signals are taken over.
    pub windows: Windows,
    /// How long the service has served before the autoscaler comes to it, as it would to a service
    /// that exists.
    pub warm_up: Nanos,
    /// Length of the run.
    pub length: Nanos,
}

impl Setup {
    /// A setup with the controller's usual intervals and windows, a warm-up of ten minutes, and one
    /// replica of four GPUs of each role.
    pub fn new(policy: Policy, profile: Profile, length: Nanos) -> Self {
        Self {
            policy,
            profile,
            gpus_per_replica: PerRole::from_fn(|_| 4),
            replicas_at_start: PerRole::from_fn(|_| 1),
            interval: 15 * SECOND,
            scrape_interval: 15 * SECOND,
            windows: Windows::default(),
            warm_up: 10 * MINUTE,
            length,
        }
    }
}

/// Told what happens, in order. Times are those of the run: the warm-up is before 0 and not told.
pub trait Listener {
    /// A request was sent.
    fn arrived(&mut self, arrival: &Arrival);
    /// A request ended.
    fn ended(&mut self, outcome: &Outcome);
    /// Workers are so from `now` on; called after every scrape and every decision.
    fn hold(&mut self, now: Nanos, replicas: PerRole<Replicas>);
    /// A decision was made, which is about to be carried out.
    fn decided(&mut self, verdict: &Verdict);
}

/// What one step brought.
#[derive(Clone, Debug)]
pub struct Step {
    /// The decision.
    pub verdict: Verdict,
    /// Whether it changed replicas.
    pub changed: bool,
}

/// A service under load and its autoscaler, in virtual time.
#[derive(Debug)]
pub struct World<A: Iterator<Item = Arrival>, L> {
    setup: Setup,
    service: Service,
    arrivals: Peekable<A>,
    observer: Observer,
    autoscaler: Box<dyn Autoscaler>,
    desired: PerRole<u32>,
    /// Workers ever added, which gives each a name of its own.
    added: PerRole<u32>,
    listener: L,
    gateway: Gateway,
    /// Requests sent before the run; they are nobody's.
    warm_up_requests: u64,
    /// Time of the run. The service's own time is later by the warm-up.
    now: Nanos,
}

impl<A: Iterator<Item = Arrival>, L: Listener> World<A, L> {
    /// A world at its start: its first workers are ready and have served `warm_up`, whose times
    /// count from the start of the warm-up.
    pub fn new(
        setup: Setup,
        autoscaler: Box<dyn Autoscaler>,
        warm_up: impl Iterator<Item = Arrival>,
        arrivals: A,
        listener: L,
    ) -> Self {
        let mut world = Self {
            service: Service::new(setup.profile.clone()),
            arrivals: arrivals.peekable(),
            observer: Observer::new(setup.windows),
            autoscaler,
            desired: setup.replicas_at_start,
            added: PerRole::default(),
            listener,
            gateway: Gateway::default(),
            warm_up_requests: 0,
            now: 0,
            setup,
        };
        for role in Role::ALL {
            for _ in 0..*world.desired.get(role) {
                world.add(role, 0);
            }
        }
        world.warm_up(warm_up.peekable());
        let replicas = world.count();
        world.listener.hold(0, replicas);
        world
    }

    /// Serves without deciding anything, and scrapes.
    fn warm_up(&mut self, mut arrivals: Peekable<impl Iterator<Item = Arrival>>) {
        let mut now = 0;
        while now < self.setup.warm_up {
            now = (now + self.setup.scrape_interval).min(self.setup.warm_up);
            while let Some(arrival) = arrivals.next_if(|arrival| arrival.at <= now) {
                self.gateway.arrived(&arrival);
                self.service.offer(arrival);
                self.warm_up_requests += 1;
            }
            self.scrape(now);
        }
        // They are told to nobody but the gateway; those that were refused at once are among them.
        for outcome in self.service.drain_outcomes() {
            self.gateway.ended(&outcome);
        }
    }

    /// The time of the run.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Share of the run that is played, 0 to 1.
    pub fn progress(&self) -> f64 {
        (self.now as f64 / self.setup.length.max(1) as f64).min(1.0)
    }

    /// Whether the whole run is played.
    pub fn is_over(&self) -> bool {
        self.now >= self.setup.length
    }

    /// The workers, to look at: what a scrape of them would show.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Whoever is told what happens.
    pub fn listener(&self) -> &L {
        &self.listener
    }

    /// The same, to change.
    pub fn listener_mut(&mut self) -> &mut L {
        &mut self.listener
    }

    /// The world's end: what its listener has become.
    pub fn into_listener(self) -> L {
        self.listener
    }

    /// Plays one interval and decides; nothing once the run is over.
    pub fn step(&mut self) -> Option<Step> {
        if self.is_over() {
            return None;
        }
        let until = (self.now + self.setup.interval).min(self.setup.length);
        while self.now < until {
            let now = (self.now + self.setup.scrape_interval).min(until);
            while let Some(arrival) = self.arrivals.next_if(|arrival| arrival.at <= now) {
                self.listener.arrived(&arrival);
                self.gateway.arrived(&arrival);
                self.service.offer(Arrival {
                    at: arrival.at + self.setup.warm_up,
                    ..arrival
                });
            }
            self.now = now;
            self.scrape(now + self.setup.warm_up);
            self.tell_outcomes();
            let replicas = self.count();
            self.listener.hold(now, replicas);
        }
        Some(self.decide())
    }

    /// Lets the requests in flight end, without new ones.
    pub fn finish(&mut self) {
        let deadline = self.service.now() + ENDING_MAX;
        while self.service.in_flight() > 0 && self.service.now() < deadline {
            let Some(next) = self.service.next_event_at() else {
                break;
            };
            self.service.advance(next);
            self.tell_outcomes();
        }
    }

    fn scrape(&mut self, service_now: Nanos) {
        if self.autoscaler.reads() == Reads::Signals {
            self.service.observe(service_now);
            self.observer.scrape(&self.service);
        } else {
            self.service.advance(service_now);
        }
    }

    fn tell_outcomes(&mut self) {
        for outcome in self.service.drain_outcomes() {
            self.gateway.ended(&outcome);
            let Some(id) = outcome.id.checked_sub(self.warm_up_requests) else {
                continue;
            };
            let in_run = |at: Nanos| at.saturating_sub(self.setup.warm_up);
            self.listener.ended(&Outcome {
                id,
                arrived_at: in_run(outcome.arrived_at),
                first_token_at: in_run(outcome.first_token_at),
                finished_at: in_run(outcome.finished_at),
                ..outcome
            });
        }
    }

    fn decide(&mut self) -> Step {
        let sight = self.sight();
        let verdict = self.autoscaler.decide(&sight, self.now);
        self.listener.decided(&verdict);
        let changed = verdict.replicas != self.desired;
        if changed {
            // Who leaves is chosen by the work at hand, read or not.
            self.service.observe(self.service.now());
            self.apply(verdict.replicas);
        }
        let replicas = self.count();
        self.listener.hold(self.now, replicas);
        Step { verdict, changed }
    }

    fn sight(&mut self) -> Sight {
        let workers = if self.autoscaler.reads() == Reads::Workers {
            self.service.observe(self.service.now());
            workers_of(&self.service)
        } else {
            PerRole::default()
        };
        Sight {
            snapshot: self.snapshot(),
            workers,
            gateway: self.gateway,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let counts = self.count();
        Snapshot {
            policy: self.setup.policy.clone(),
            roles: PerRole::from_fn(|role| {
                let replicas = counts.get(role);
                RoleState {
                    current: replicas.desired,
                    ready: replicas.ready,
                    starting: replicas.starting,
                    terminating: replicas.draining,
                    gpus_per_replica: *self.setup.gpus_per_replica.get(role),
                    ..RoleState::default()
                }
            }),
            signals: self.observer.signals(),
            paused: Paused::default(),
            profile: None,
        }
    }

    fn count(&self) -> PerRole<Replicas> {
        PerRole::from_fn(|role| {
            let in_state = |state| {
                let count = self.service.worker_count(engine_role(role), state);
                u32::try_from(count).unwrap_or(u32::MAX)
            };
            Replicas {
                desired: *self.desired.get(role),
                ready: in_state(WorkerState::Ready),
                starting: in_state(WorkerState::Starting),
                draining: in_state(WorkerState::Draining),
            }
        })
    }

    fn apply(&mut self, replicas: PerRole<u32>) {
        let startup = |role| self.setup.profile.startup_time(engine_role(role));
        let ready_at = PerRole::from_fn(|role| self.service.now() + startup(role));
        for role in Role::ALL {
            let (have, want) = (*self.desired.get(role), *replicas.get(role));
            for _ in have..want {
                self.add(role, *ready_at.get(role));
            }
            for name in self.leaving(role, have.saturating_sub(want)) {
                // The name was just read from the service, so it is known.
                let now = self.service.now();
                let _ = self.service.remove_worker(now, &name, Removal::Drain);
            }
        }
        self.desired = replicas;
    }

    fn add(&mut self, role: Role, ready_at: Nanos) {
        let number = self.added.get_mut(role);
        *number += 1;
        let name = format!("{role}-{number}");
        // The number makes the name unique, so it is free.
        let now = self.service.now();
        let _ = self
            .service
            .add_worker_ready_at(now, engine_role(role), &name, ready_at);
    }

    /// The workers to remove: those that do not serve yet, the latest first, then those with least
    /// work.
    fn leaving(&self, role: Role, count: u32) -> Vec<String> {
        if count == 0 {
            return Vec::new();
        }
        let staying = |state| state != WorkerState::Draining;
        let mut workers: Vec<_> = self
            .service
            .workers()
            .filter(|worker| core_role(worker.role) == role && staying(worker.state))
            .collect();
        workers.sort_by_key(|worker| {
            let serves = worker.state == WorkerState::Ready;
            let work = worker.metrics.requests_running + worker.metrics.requests_waiting();
            (
                serves,
                std::cmp::Reverse(worker.ready_at * u64::from(!serves)),
                work,
            )
        });
        let first = workers.iter().take(count as usize);
        first.map(|worker| worker.name.to_owned()).collect()
    }
}
