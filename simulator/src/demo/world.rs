//! The demo's day in the closed loop of [`crate::world`]: the generator's requests, the product's
//! decisions, and the numbers of the charts.
//!
//! Warm-up is midnight's load at a constant rate, or the first minutes of the trace. Everything
//! that happens in a step is the loop's; here is only what the page wants to know about it.

use pd_core::PerRole;

use super::ledger::Ledger;
use super::record::{Entry, Point, Replicas, Summary};
use super::scenario::{INTERVAL, Load, Scenario};
use crate::autoscaler::PdAutoscaler;
use crate::engine::Arrival;
use crate::time::Nanos;
use crate::traffic::{Arrivals, Curve};
use crate::world::{self, Setup};

/// Points of the charts, one every three minutes of a day.
const POINTS: Nanos = 480;

/// The events of one step.
#[derive(Debug)]
pub struct StepOutcome {
    /// The decision.
    pub decision: Entry,
    /// Whether it changed replicas.
    pub changed: bool,
    /// A new point of the charts, if one was due.
    pub point: Option<Point>,
}

/// A service under the demo's load and its autoscaler, in virtual time.
#[derive(Debug)]
pub struct World {
    inner: world::World<Requests, Ledger>,
    point_every: Nanos,
}

/// Requests of either kind of load, in order of arrival.
struct Requests(Box<dyn Iterator<Item = Arrival> + Send>);

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Iterator for Requests {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.0.next()
    }
}

impl World {
    /// The scenario at its start, with its first workers ready.
    pub fn new(scenario: &Scenario) -> Self {
        let gpus_per_replica = scenario.service.spec.gpus_per_replica();
        let ledger = Ledger::new(
            scenario.service.policy().objective,
            gpus_per_replica,
            scenario.replicas_at_start.map(|count| Replicas {
                desired: count,
                ready: count,
                ..Replicas::default()
            }),
        );
        let setup = Setup {
            gpus_per_replica,
            replicas_at_start: scenario.replicas_at_start,
            interval: INTERVAL,
            scrape_interval: INTERVAL,
            ..Setup::new(
                scenario.service.policy().clone(),
                scenario.service.profile.clone(),
                scenario.length,
            )
        };
        let (before, arrivals) = requests(scenario, &setup);
        // As many points as a day has, whatever the length; a step is the least.
        let point_every = (setup.length / POINTS / INTERVAL).max(1) * INTERVAL;
        Self {
            inner: world::World::new(
                setup,
                Box::new(PdAutoscaler::default()),
                before,
                arrivals,
                ledger,
            ),
            point_every,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Nanos {
        self.inner.now()
    }

    /// Share of the run that is played, 0 to 1.
    pub fn progress(&self) -> f64 {
        self.inner.progress()
    }

    /// Replicas now.
    pub fn replicas(&self) -> PerRole<Replicas> {
        self.inner.listener().replicas()
    }

    /// GPUs held now.
    pub fn gpus(&self) -> u32 {
        self.inner.listener().gpus()
    }

    /// Share of all requests so far that met both limits.
    pub fn attained_so_far(&self) -> Option<f64> {
        self.inner.listener().attained_so_far()
    }

    /// Plays one interval and decides; nothing once the run is over.
    pub fn step(&mut self) -> Option<StepOutcome> {
        let step = self.inner.step()?;
        let now = self.inner.now();
        let due = now.is_multiple_of(self.point_every) || self.inner.is_over();
        // The product always says why.
        let report = step.verdict.report.as_ref()?;
        Some(StepOutcome {
            decision: Entry::of(crate::time::seconds(now), report),
            changed: step.changed,
            point: due.then(|| self.inner.listener_mut().point()),
        })
    }

    /// Lets the requests in flight end, without new ones, and sums the run up.
    pub fn finish(&mut self) -> Summary {
        self.inner.finish();
        self.inner.listener().summary(self.inner.is_over())
    }
}

/// The requests of the warm-up and of the run.
fn requests(scenario: &Scenario, setup: &Setup) -> (Requests, Requests) {
    let boxed = |requests: Option<Arrivals>| Requests(Box::new(requests.into_iter().flatten()));
    match &scenario.load {
        Load::Day(curve) => {
            // The load was checked as part of the day's curve, and the seed is another, so that the
            // day's requests are no repetition.
            let midnight = Curve::constant(curve.at(0)).map(|curve| {
                let seed = scenario.seed.wrapping_add(1 << 32);
                Arrivals::new(curve, seed, 0, setup.warm_up)
            });
            let day = Arrivals::new(curve.clone(), scenario.seed, 0, setup.length);
            (boxed(midnight.ok()), boxed(Some(day)))
        }
        Load::Trace { source, .. } => {
            let warm_up = setup.warm_up;
            // It was read through before; what cannot be read now ends the run.
            let read = || {
                let opened = source.open().ok().into_iter().flatten();
                opened.map_while(Result::ok)
            };
            let before = read().take_while(move |arrival| arrival.at < warm_up);
            (Requests(Box::new(before)), Requests(Box::new(read())))
        }
    }
}
