//! The closed loop: requests, the service, its metrics, the decision, and its execution.
//!
//! One step is one interval of the controller: requests are sent, workers are scraped, the real
//! [`pd_core::plan()`] decides on what the scrape shows, the plan is audited and carried out. Added
//! workers take their start-up time, removed ones drain. There is no clock here, so that a day
//! takes as long as it computes and the same seed gives the same day.

use pd_core::snapshot::Paused;
use pd_core::{Memory, PerRole, Role, RoleState, Snapshot, Timestamp, audit, plan};

use super::ledger::Ledger;
use super::record::{Entry, Point, Replicas, Summary};
use super::scenario::{GPUS_PER_REPLICA, INTERVAL, Scenario};
use crate::engine::{Arrival, Removal, Service, WorkerState};
use crate::observe::{Observer, Windows, core_role, engine_role};
use crate::time::{MILLISECOND, MINUTE, Nanos};
use crate::traffic::{Arrivals, Curve};

/// Virtual time between two points of the charts.
const POINT_EVERY: Nanos = 3 * MINUTE;

/// The service serves midnight's load for so long before the controller comes to it, as it would to
/// a service that exists.
const WARM_UP: Nanos = 10 * MINUTE;

/// Longest time the last requests are given to end; an answer takes seconds.
const ENDING_MAX: Nanos = 120 * MINUTE;

/// What one step brought.
#[derive(Debug)]
pub struct StepOutcome {
    /// The decision.
    pub decision: Entry,
    /// Whether it changed replicas.
    pub changed: bool,
    /// A new point of the charts, if one was due.
    pub point: Option<Point>,
}

/// A service under load and its autoscaler, in virtual time.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    service: Service,
    arrivals: std::iter::Peekable<Arrivals>,
    observer: Observer,
    memory: Memory,
    desired: PerRole<u32>,
    /// Workers ever added, which gives each a name of its own.
    added: PerRole<u32>,
    ledger: Ledger,
    /// Requests sent before the run; they are nobody's.
    warm_up_requests: u64,
    /// Time of the day. The service's own time is later by the warm-up.
    now: Nanos,
}

impl World {
    /// The scenario at its start, with its first workers ready.
    pub fn new(scenario: Scenario) -> Self {
        let arrivals = Arrivals::new(scenario.curve.clone(), scenario.seed, 0, scenario.length);
        let replicas = scenario.replicas_at_start;
        let mut world = Self {
            service: Service::new(scenario.profile.clone()),
            arrivals: arrivals.peekable(),
            observer: Observer::new(Windows::default()),
            memory: Memory::default(),
            desired: replicas,
            added: PerRole::default(),
            ledger: Ledger::new(
                scenario.policy.objective,
                GPUS_PER_REPLICA,
                replicas.map(|count| Replicas {
                    desired: count,
                    ready: count,
                    ..Replicas::default()
                }),
            ),
            warm_up_requests: 0,
            now: 0,
            scenario,
        };
        for role in Role::ALL {
            for _ in 0..*replicas.get(role) {
                world.add(role, 0);
            }
        }
        world.warm_up();
        world
    }

    /// Serves midnight's load without deciding anything, and scrapes.
    fn warm_up(&mut self) {
        let midnight = self.scenario.curve.at(0);
        // The load was checked as part of the day's curve.
        let load = Curve::constant(midnight).map(|curve| {
            // A seed of its own, so that the day's requests are no repetition.
            let seed = self.scenario.seed.wrapping_add(1 << 32);
            Arrivals::new(curve, seed, 0, WARM_UP)
        });
        let mut arrivals = load.into_iter().flatten().peekable();
        for now in (INTERVAL..=WARM_UP).step_by(usize::try_from(INTERVAL).unwrap_or(usize::MAX)) {
            while let Some(arrival) = arrivals.next_if(|arrival| arrival.at <= now) {
                self.service.offer(arrival);
                self.warm_up_requests += 1;
            }
            self.service.observe(now);
            self.observer.scrape(&self.service);
        }
        self.service.drain_outcomes();
    }

    /// The virtual time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Share of the run that is played, 0 to 1.
    pub fn progress(&self) -> f64 {
        (self.now as f64 / self.scenario.length as f64).min(1.0)
    }

    /// Replicas now.
    pub fn replicas(&self) -> PerRole<Replicas> {
        self.ledger.replicas()
    }

    /// GPUs held now.
    pub fn gpus(&self) -> u32 {
        self.ledger.gpus()
    }

    /// Share of all requests so far that met both limits.
    pub fn attained_so_far(&self) -> Option<f64> {
        self.ledger.attained_so_far()
    }

    /// Plays one interval and decides; nothing once the run is over.
    pub fn step(&mut self) -> Option<StepOutcome> {
        if self.now >= self.scenario.length {
            return None;
        }
        let now = (self.now + INTERVAL).min(self.scenario.length);
        while let Some(arrival) = self.arrivals.next_if(|arrival| arrival.at <= now) {
            self.ledger.arrived(&arrival);
            self.service.offer(Arrival {
                at: arrival.at + WARM_UP,
                ..arrival
            });
        }
        self.now = now;
        self.service.observe(now + WARM_UP);
        self.take_outcomes();
        self.observer.scrape(&self.service);
        self.ledger.hold(now, self.count());

        let (decision, changed) = self.decide();
        self.ledger.hold(now, self.count());
        let due = now.is_multiple_of(POINT_EVERY) || now == self.scenario.length;
        Some(StepOutcome {
            decision,
            changed,
            point: due.then(|| self.ledger.point()),
        })
    }

    /// Lets the requests in flight end, without new ones, and sums the run up.
    pub fn finish(&mut self) -> Summary {
        let deadline = self.service.now() + ENDING_MAX;
        while self.service.in_flight() > 0 && self.service.now() < deadline {
            let Some(next) = self.service.next_event_at() else {
                break;
            };
            self.service.advance(next);
            self.take_outcomes();
        }
        self.ledger.summary(self.now >= self.scenario.length)
    }

    fn take_outcomes(&mut self) {
        for outcome in self.service.drain_outcomes() {
            if outcome.id >= self.warm_up_requests {
                self.ledger.ended(&outcome);
            }
        }
    }

    fn decide(&mut self) -> (Entry, bool) {
        let snapshot = self.snapshot();
        let millis = i64::try_from(self.now / MILLISECOND).unwrap_or(i64::MAX);
        let decision = plan(&snapshot, &self.memory, Timestamp::from_millis(millis));
        self.memory = decision.memory;
        self.ledger.decisions += 1;
        let findings = audit(&snapshot, decision.plan);
        self.ledger.audit_findings += findings.len() as u64;
        let entry = Entry::of(crate::time::seconds(self.now), &decision.report);
        let changed = findings.is_empty() && decision.plan.replicas != self.desired;
        if changed {
            self.apply(decision.plan.replicas);
        }
        (entry, changed)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            policy: self.scenario.policy.clone(),
            roles: self.count().map(|replicas| RoleState {
                current: replicas.desired,
                ready: replicas.ready,
                starting: replicas.starting,
                terminating: replicas.draining,
                gpus_per_replica: GPUS_PER_REPLICA,
            }),
            signals: self.observer.signals(),
            paused: Paused::default(),
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
        let startup = |role| self.scenario.profile.startup_time(engine_role(role));
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
