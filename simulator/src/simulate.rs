//! `pd-sim simulate`: a trace, a scenario and a policy in the closed loop, and what it came to.
//!
//! The traffic is read twice: first for the clairvoyant bound and to find any fault in it, then to
//! be played. So nothing is played of a trace that is broken, and the bound costs a second and no
//! memory. The result is one value, printed as text or as JSON.

pub mod options;
pub mod outcome;

mod ledger;
mod quantiles;
mod source;
mod static_peak;

use std::time::Instant;

use pd_core::PerRole;
use thiserror::Error;

use self::ledger::Ledger;
use self::options::{Options, PolicyName};
use self::outcome::Outcome;
pub use self::source::Source;
use crate::autoscaler::{Autoscaler, Fixed, Foreseen, PdAutoscaler};
use crate::clairvoyant::load::Load;
use crate::clairvoyant::{self, Bound, ForeseenPlan};
use crate::engine::{self, Arrival};
use crate::scenario::{Scenario, ScenarioError};
use crate::time::{Nanos, from_seconds};
use crate::trace::TraceError;
use crate::traffic::DayError;
use crate::world::{Setup, World};

/// A simulation that cannot be run.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// The scenario is not valid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The embedded traffic cannot be made.
    #[error(transparent)]
    Day(#[from] DayError),
    /// No fixed replicas attain the objective.
    #[error(
        "no fixed number of replicas up to {prefill} prefill and {decode} decode attains {percent} %: raise \
         `replicas.prefill.max` and `replicas.decode.max` of the scenario, or relax its objective"
    )]
    Unattainable {
        /// Most prefill replicas.
        prefill: u32,
        /// Most decode replicas.
        decode: u32,
        /// The objective.
        percent: u8,
    },
    /// The file has changed between the two readings.
    #[error(
        "the trace had {surveyed} requests when first read and {played} when played: leave the file alone"
    )]
    Changed {
        /// Requests at first.
        surveyed: u64,
        /// Requests played.
        played: u64,
    },
    /// The result cannot be written as JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Everything a run is made of.
#[derive(Debug)]
pub struct Run {
    scenario: Scenario,
    source: Source,
    bound: Bound,
    requests: u64,
    length: Nanos,
    /// Replicas at the start, where the scenario names none.
    start: PerRole<u32>,
    seed: u64,
}

/// Runs what the options ask for and gives the text to print.
pub fn run(options: &Options) -> Result<String, SimulateError> {
    let run = Run::prepare(options)?;
    let outcome = run.play(options.policy)?;
    Ok(match options.output {
        options::Output::Json => outcome.to_json()?,
        options::Output::Text => outcome.to_text(),
    })
}

impl Run {
    /// Reads scenario and traffic, and finds the bound.
    pub fn prepare(options: &Options) -> Result<Self, SimulateError> {
        let mut scenario = match &options.scenario {
            Some(path) => Scenario::read(path)?,
            None => Scenario::default(),
        };
        if let Some(lead) = options.lead {
            scenario.set_lead(lead);
        }
        let until = options.hours.map(|hours| from_seconds(hours * 3_600.0));
        let source = Source::of(options, until)?;
        let mut load = Load::new(&scenario);
        for arrival in source.open()? {
            load.add(&arrival?);
        }
        let length = source.length(load.last_at(), scenario.interval());
        load.end(length);
        let bound = clairvoyant::bound(&scenario, &load);
        let start = bound.at_start(from_seconds(scenario.warm_up_seconds));
        Ok(Self {
            requests: load.requests(),
            scenario,
            source,
            bound,
            length,
            start,
            seed: options.seed,
        })
    }

    /// Plays the traffic under a policy.
    pub fn play(&self, policy: PolicyName) -> Result<Outcome, SimulateError> {
        let (autoscaler, setup) = self.autoscaler(policy)?;
        let began = Instant::now();
        let ledger = self.ledger(setup, autoscaler, u64::MAX)?;
        let wall_seconds = began.elapsed().as_secs_f64();
        if ledger.requests() != self.requests {
            return Err(SimulateError::Changed {
                surveyed: self.requests,
                played: ledger.requests(),
            });
        }
        Ok(ledger.outcome(self, policy, wall_seconds))
    }

    fn autoscaler(
        &self,
        policy: PolicyName,
    ) -> Result<(Box<dyn Autoscaler>, Setup), SimulateError> {
        let setup = self.scenario.setup(self.length, self.start);
        Ok(match policy {
            PolicyName::Pdautoscaler => (Box::new(PdAutoscaler::default()), setup),
            PolicyName::StaticPeak => {
                let replicas = static_peak::search(self)?;
                (Box::new(Fixed::new(replicas)), self.scenario_from(replicas))
            }
            PolicyName::Clairvoyant => self.foreseen(&self.bound.everywhere),
            PolicyName::ClairvoyantOverall => self.foreseen(&self.bound.overall),
        })
    }

    /// A plan, begun with its own first replicas.
    fn foreseen(&self, plan: &ForeseenPlan) -> (Box<dyn Autoscaler>, Setup) {
        let profile = &self.scenario.profile;
        let lead = PerRole {
            prefill: profile.startup_time(engine::Role::Prefill),
            decode: profile.startup_time(engine::Role::Decode),
        };
        let setup = self.scenario_from(plan.at_start());
        let serving = plan.serving.clone();
        let foreseen = Foreseen::new(serving, clairvoyant::WINDOW, lead, setup.interval);
        (Box::new(foreseen), setup)
    }

    /// The setup, begun with `replicas` whatever the scenario says.
    fn scenario_from(&self, replicas: PerRole<u32>) -> Setup {
        Setup {
            replicas_at_start: replicas,
            ..self.scenario.setup(self.length, replicas)
        }
    }

    /// Plays until the end, or until more than `misses_max` requests have missed.
    fn ledger(
        &self,
        setup: Setup,
        autoscaler: Box<dyn Autoscaler>,
        misses_max: u64,
    ) -> Result<Ledger, SimulateError> {
        let warm_up = setup.warm_up;
        let readable = |arrival: Result<Arrival, TraceError>| arrival.ok();
        let first = self.source.open()?.map_while(readable);
        let arrivals = self.source.open()?.map_while(readable);
        let ledger = Ledger::new(&self.scenario, &setup);
        let first = first.take_while(move |arrival| arrival.at < warm_up);
        let mut world = World::new(setup, autoscaler, first, arrivals, ledger);
        while world.listener().missed() <= misses_max && world.step().is_some() {}
        if world.is_over() {
            world.finish();
        }
        Ok(world.into_listener())
    }
}

#[cfg(test)]
mod tests;
