//! The closed loop: requests, the service, its metrics, the decision, and its execution.
//!
//! One step is one interval of the controller: requests are sent, workers are scraped, the
//! [`Autoscaler`] decides on what the scrapes show, and its decision is carried out by the
//! [`Fleet`], while faults strike at their times. There is no clock here, so that a day takes as
//! long as it computes and the same requests and seed give the same day. What happens is told to a
//! [`Listener`]; the world itself keeps no count of it.

mod listener;
mod setup;

use std::iter::Peekable;
use std::sync::Arc;

use pd_core::snapshot::Paused;
use pd_core::{PerRole, Role, RoleState, Snapshot};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::autoscaler::observation::workers_of;
use crate::autoscaler::{Autoscaler, Gateway, Observation, PolicyVerdict, Reads};
use crate::engine::{Arrival, DecodeStair, Profile, PromptBlocks, RequestOutcome, Service};
use crate::fault::{Calendar, Conditions};
use crate::lifecycle::Fleet;
use crate::observe::{Blur, Observer, core_role, engine_role};
use crate::time::{MINUTE, Nanos};

pub use self::listener::{Listener, Replicas};
pub use self::setup::Setup;

/// Longest time the last requests are given to end, from the end of the run.
const ENDING_MAX: Nanos = 120 * MINUTE;

/// Random stream of lost scrapes; those below are the traffic's and the fleet's.
const SCRAPE_STREAM: u64 = 32;

/// Makes the prompts of the warm-up others than those of the run.
const WARM_UP_SALT: u64 = 0x5741_524D_5550_0000;

/// The events of one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The decision.
    pub verdict: PolicyVerdict,
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
    fleet: Fleet,
    faults: Calendar,
    conditions: Conditions,
    scrapes: ChaCha8Rng,
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
        let mut scrapes = ChaCha8Rng::seed_from_u64(setup.seed);
        scrapes.set_stream(SCRAPE_STREAM);
        let lead = PerRole::from_fn(|role| setup.profile.startup_time(engine_role(role)));
        let mut world = Self {
            service: Service::with_dispatch(setup.profile.clone(), setup.dispatch),
            arrivals: arrivals.peekable(),
            observer: Observer::new(setup.windows),
            autoscaler,
            fleet: Fleet::new(
                setup.lifecycle.clone(),
                setup.gpus_per_replica,
                lead,
                setup.seed,
            ),
            faults: Calendar::new(setup.faults.clone()),
            conditions: Conditions::default(),
            scrapes,
            listener,
            gateway: Gateway::default(),
            warm_up_requests: 0,
            now: 0,
            setup,
        };
        let first = world.setup.replicas_at_start;
        world.fleet.populate(first, &mut world.service);
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
            while let Some(mut arrival) = arrivals.next_if(|arrival| arrival.at <= now) {
                // The run begins with the same requests. Their prompts are others, or workers would
                // hold all of them.
                let other = |prompt: Arc<PromptBlocks>| Arc::new(prompt.salted(WARM_UP_SALT));
                arrival.prompt = arrival.prompt.map(other);
                self.gateway.arrived(&arrival);
                self.service.offer(arrival);
                self.warm_up_requests += 1;
            }
            self.scrape(now);
        }
        // Nobody but the gateway receives them; those that were refused at once are among them.
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

    /// Receives the events.
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
            while let Some(event_at) = self.next_event_at().filter(|at| *at <= now) {
                self.send_until(event_at);
                self.process_events(event_at);
            }
            self.send_until(now);
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
            let event_at = self.next_event_at().map(|at| at + self.setup.warm_up);
            match (self.service.next_event_at(), event_at) {
                (Some(next), event_at) if event_at.is_none_or(|at| next <= at) => {
                    self.service.advance(next);
                }
                (_, Some(event_at)) => {
                    self.process_events(event_at.saturating_sub(self.setup.warm_up));
                }
                (_, None) => break,
            }
            self.fleet.reconcile(&mut self.service);
            self.tell_outcomes();
        }
    }

    /// Sends the requests that arrive by `until`, time of the run.
    fn send_until(&mut self, until: Nanos) {
        while let Some(arrival) = self.arrivals.next_if(|arrival| arrival.at <= until) {
            self.listener.arrived(&arrival);
            self.gateway.arrived(&arrival);
            self.service.offer(Arrival {
                at: arrival.at + self.setup.warm_up,
                ..arrival
            });
        }
    }

    /// When the next event that is no request is due, time of the run.
    fn next_event_at(&self) -> Option<Nanos> {
        let warm_up = self.setup.warm_up;
        let of_fleet = self
            .fleet
            .next_event_at()
            .map(|at| at.saturating_sub(warm_up));
        [of_fleet, self.faults.next_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Processes every event that is due at `at`, time of the run.
    fn process_events(&mut self, at: Nanos) {
        let service_now = at + self.setup.warm_up;
        self.service.advance(service_now);
        let mut turned = false;
        while let Some(turn) = self.faults.take(at) {
            turned = true;
            if let Some(strike) = turn {
                let ends_at = strike.ends_at.map(|at| at + self.setup.warm_up);
                self.fleet.strike(&strike.fault, ends_at, &mut self.service);
            }
        }
        if turned {
            self.conditions = self.faults.conditions();
            let slowdown = self.conditions.slowdown;
            self.service
                .set_profile(slowed(&self.setup.profile, slowdown));
            self.fleet
                .set_conditions(self.conditions.clone(), &mut self.service);
        }
        self.fleet.process_events(&mut self.service);
    }

    fn scrape(&mut self, service_now: Nanos) {
        if self.autoscaler.reads() != Reads::Signals {
            self.service.advance(service_now);
        } else if self.conditions.prometheus_down {
            self.service.advance(service_now);
            self.observer.miss(service_now);
        } else {
            self.service.observe(service_now);
            let blur = self.blur();
            self.observer.scrape_through(&self.service, &blur);
        }
        self.fleet.reconcile(&mut self.service);
        for loss in self.fleet.take_losses() {
            self.listener.lost(loss);
        }
    }

    /// The faults of the next scrape.
    fn blur(&mut self) -> Blur {
        let mut blur = Blur {
            ghosts: self.fleet.ghosts().map(str::to_owned).collect(),
            deleted: self.fleet.deleted().map(str::to_owned).collect(),
            unanswered: Vec::new(),
        };
        let loss = self.conditions.scrape_loss_share;
        if Role::ALL.iter().any(|role| loss[*role] > 0.0) {
            for worker in self.service.workers() {
                let share = loss[core_role(worker.role)];
                if self.scrapes.random::<f64>() < share {
                    blur.unanswered.push(worker.name.to_owned());
                }
            }
        }
        blur
    }

    fn tell_outcomes(&mut self) {
        for outcome in self.service.drain_outcomes() {
            self.gateway.ended(&outcome);
            let Some(id) = outcome.id.checked_sub(self.warm_up_requests) else {
                continue;
            };
            let in_run = |at: Nanos| at.saturating_sub(self.setup.warm_up);
            self.listener.ended(&RequestOutcome {
                id,
                arrived_at: in_run(outcome.arrived_at),
                first_token_at: in_run(outcome.first_token_at),
                finished_at: in_run(outcome.finished_at),
                ..outcome
            });
        }
    }

    fn decide(&mut self) -> Step {
        let observation = self.observation();
        let verdict = self.autoscaler.decide(&observation, self.now);
        self.listener.decided(&verdict);
        let changed = verdict.replicas != self.fleet.desired();
        if changed {
            // Who leaves is chosen by the work at hand, read or not.
            self.service.observe(self.service.now());
            self.fleet.scale(verdict.replicas, &mut self.service);
        }
        let replicas = self.count();
        self.listener.hold(self.now, replicas);
        Step { verdict, changed }
    }

    fn observation(&mut self) -> Observation {
        let workers = if self.autoscaler.reads() == Reads::Workers {
            self.service.observe(self.service.now());
            workers_of(&self.service)
        } else {
            PerRole::default()
        };
        Observation {
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
                let replicas = &counts[role];
                RoleState {
                    current: replicas.desired,
                    ready: replicas.ready,
                    starting: replicas.starting + replicas.pending,
                    terminating: replicas.draining,
                    gpus_per_replica: self.setup.gpus_per_replica[role],
                    stuck: self.fleet.stuck(role),
                    ..RoleState::default()
                }
            }),
            signals: self.observer.signals(),
            paused: Paused::default(),
            profile: self.setup.stated_profile.clone(),
        }
    }

    fn count(&self) -> PerRole<Replicas> {
        PerRole::from_fn(|role| self.fleet.replicas(role, self.service.now()))
    }

    /// The faults of this moment.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// The pods.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }
}

/// The profile of engines that take so many times as long.
fn slowed(profile: &Profile, factor: PerRole<f64>) -> Profile {
    let (prefill, decode) = (factor.prefill, factor.decode);
    let slower = |stair: &DecodeStair| DecodeStair {
        milliseconds: stair.milliseconds * decode,
        ..*stair
    };
    Profile {
        prefill_base_milliseconds: profile.prefill_base_milliseconds * prefill,
        prefill_milliseconds_per_kilotoken: profile.prefill_milliseconds_per_kilotoken * prefill,
        prefill_milliseconds_per_megatoken_squared: profile
            .prefill_milliseconds_per_megatoken_squared
            * prefill,
        decode_base_milliseconds: profile.decode_base_milliseconds * decode,
        decode_milliseconds_per_request: profile.decode_milliseconds_per_request * decode,
        decode_milliseconds_per_megatoken: profile.decode_milliseconds_per_megatoken * decode,
        decode_stairs: profile.decode_stairs.iter().map(slower).collect(),
        ..profile.clone()
    }
}

#[cfg(test)]
mod tests;
