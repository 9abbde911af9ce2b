//! The demo's day in the closed loop of [`crate::world`]: the generator's requests, the decisions
//! of the product or of a rival, and the numbers of the charts.
//!
//! Warm-up is midnight's load at a constant rate, or the first minutes of the trace. Everything
//! that happens in a step is the loop's; here is only what the page wants to know about it.

use pd_core::PerRole;

use super::ledger::Ledger;
use super::record::{Entry, Point, Replicas, Summary};
use super::rival;
use super::scenario::{INTERVAL, Load, Scenario, ScenarioError};
use crate::autoscaler::{Autoscaler, PdAutoscaler};
use crate::engine::Arrival;
use crate::simulate::options::PolicyName;
use crate::time::Nanos;
use crate::traffic::{Arrivals, Curve};
use crate::world::{self, Setup};

/// Points of the charts, one every three minutes of a day.
const POINTS: Nanos = 480;

/// The events of one step.
#[derive(Debug)]
pub struct StepOutcome {
    /// The decision, if the policy says why.
    pub decision: Option<Entry>,
    /// Whether it changed replicas.
    pub changed: bool,
    /// The points of the charts that were due.
    pub points: Vec<Point>,
}

/// A service under the demo's load and its autoscaler, in virtual time.
#[derive(Debug)]
pub struct World {
    inner: world::World<Requests, Ledger>,
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
    /// The scenario under the product at its start, with its first workers ready.
    pub fn new(scenario: &Scenario) -> Self {
        Self::under(scenario, Box::new(PdAutoscaler::default()), setup(scenario))
    }

    /// The same scenario under a rival.
    pub fn of_rival(scenario: &Scenario, policy: PolicyName) -> Result<Self, ScenarioError> {
        let (autoscaler, setup) = rival::ready(policy, scenario, setup(scenario))?;
        Ok(Self::under(scenario, autoscaler, setup))
    }

    fn under(scenario: &Scenario, autoscaler: Box<dyn Autoscaler>, setup: Setup) -> Self {
        // As many points as a day has, whatever the length; a step of the product is the least.
        let point_every = (setup.length / POINTS / INTERVAL).max(1) * INTERVAL;
        let ledger = Ledger::new(
            setup.policy.objective,
            setup.gpus_per_replica,
            setup.replicas_at_start.map(|count| Replicas {
                desired: count,
                ready: count,
                ..Replicas::default()
            }),
            (point_every, setup.length),
        );
        let (before, arrivals) = requests(scenario, &setup);
        Self {
            inner: world::World::new(setup, autoscaler, before, arrivals, ledger),
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
        let at_seconds = crate::time::seconds(self.inner.now());
        let report = step.verdict.report.as_ref();
        Some(StepOutcome {
            decision: report.map(|report| Entry::of(at_seconds, report)),
            changed: step.changed,
            points: self.inner.listener_mut().take_points(),
        })
    }

    /// Lets the requests in flight end, without new ones, and sums the run up.
    pub fn finish(&mut self) -> Summary {
        self.inner.finish();
        self.inner.listener().summary(self.inner.is_over())
    }
}

/// The setup that every policy begins with.
fn setup(scenario: &Scenario) -> Setup {
    Setup {
        gpus_per_replica: scenario.service.spec.gpus_per_replica(),
        replicas_at_start: scenario.replicas_at_start,
        interval: INTERVAL,
        scrape_interval: INTERVAL,
        ..Setup::new(
            scenario.service.policy().clone(),
            scenario.service.profile.clone(),
            scenario.length,
        )
    }
}

/// The requests of the warm-up and of the run.
fn requests(scenario: &Scenario, setup: &Setup) -> (Requests, Requests) {
    // A trace was read through before; what cannot be read now ends the run.
    let read = || {
        scenario
            .requests()
            .into_iter()
            .flatten()
            .map_while(Result::ok)
    };
    let before: Box<dyn Iterator<Item = Arrival> + Send> = match &scenario.load {
        Load::Day(curve) => {
            // The load was checked as part of the day's curve, and the seed is another, so that the
            // day's requests are no repetition.
            let midnight = Curve::constant(curve.at(0)).map(|curve| {
                let seed = scenario.seed.wrapping_add(1 << 32);
                Arrivals::new(curve, seed, 0, setup.warm_up)
            });
            Box::new(midnight.into_iter().flatten())
        }
        Load::Trace { .. } => {
            let warm_up = setup.warm_up;
            Box::new(read().take_while(move |arrival| arrival.at < warm_up))
        }
    };
    (Requests(before), Requests(Box::new(read())))
}
