//! `pd-sim simulate`: a trace, a scenario and a policy in the closed loop, and what it came to.
//!
//! The traffic is read first for the clairvoyant bound and to find any fault in it, so nothing is
//! played of a trace that is broken; then it is played, from memory where it is small enough and
//! else read once more. The result is one value, printed as text or as JSON.

pub mod options;
pub mod outcome;
pub(crate) mod play_options;

mod error;
mod kept;
mod ledger;
mod oracle;
mod policies;
mod policy_name;
mod quantiles;
mod source;
mod static_hindsight;
mod timeline;
mod traffic_options;
mod tune;
mod tuned;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pd_core::policy::Policy;
use pd_core::{PerRole, Tuning};

pub use self::error::SimulateError;
use self::kept::Keeper;
use self::ledger::Ledger;
use self::options::{PolicyName, SimulateOptions};
use self::outcome::{RunOutcome, Speed};
pub(crate) use self::quantiles::Quantiles;
pub use self::source::Source;
pub use self::timeline::Timeline;
use self::tuned::Tuned;
use crate::autoscaler::peer::TraceMeans;
use crate::autoscaler::{
    Autoscaler, Logged, LoggedChange, Planned, PolicyVerdict, Recorded, Variant,
};
use crate::batch;
use crate::clairvoyant::load::Load;
use crate::clairvoyant::{self, Bound};
use crate::compare::table;
use crate::engine::{self, Arrival};
use crate::scenario::Scenario;
use crate::time::{Nanos, from_seconds};
use crate::trace::TraceError;
use crate::world::{Listener, Replicas, Setup, World};

/// Everything a run is made of.
#[derive(Debug)]
pub struct Run {
    scenario: Scenario,
    source: Source,
    bound: Bound,
    means: TraceMeans,
    requests: u64,
    length: Nanos,
    /// Replicas at the start, where the scenario names none.
    start: PerRole<u32>,
    /// The fewest fixed replicas that attain the objective, once somebody asked.
    fewest_fixed: OnceLock<PerRole<u32>>,
    seed: u64,
    command: Option<Command>,
    record: Option<PathBuf>,
    /// Shows how far the play is.
    bar: Option<ProgressBar>,
    /// Multiples of the product's constants.
    tuning: Tuning,
    /// The owner, where it is not the scenario's.
    owner: Option<Owner>,
}

/// Whose service is played, and when it was.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The owner's policy.
    pub policy: Policy,
    /// The owner's profile of replicas.
    pub stated: Option<pd_core::capacity::Profile>,
    /// When the run begins for the product, Unix time.
    pub began_millis: i64,
}

/// Tells the requests that ended, and nothing else.
struct Ended<F>(F);

impl<F: FnMut(&engine::RequestOutcome)> Listener for Ended<F> {
    fn arrived(&mut self, _: &Arrival) {}

    fn ended(&mut self, outcome: &engine::RequestOutcome) {
        (self.0)(outcome);
    }

    fn hold(&mut self, _: Nanos, _: PerRole<Replicas>) {}

    fn decided(&mut self, _: &PolicyVerdict) {}
}

/// A policy that runs as a process.
#[derive(Clone, Debug)]
struct Command {
    text: String,
    timeout: Duration,
}

/// Runs what the options ask for and returns the text to print.
pub fn run(options: &SimulateOptions) -> Result<String, SimulateError> {
    let bar = batch::progress_of_one();
    bar.set_message("reading the traffic");
    bar.tick();
    let mut run = Run::prepare(options)?;
    let policy = match options.policy_command {
        Some(_) => PolicyName::Command,
        None => options.policy,
    };
    bar.set_message(policy.to_string());
    run.bar = Some(bar.clone());
    let outcome = run.play(policy);
    bar.finish_and_clear();
    let outcome = outcome?;
    Ok(match options.output {
        options::Output::Json => outcome.to_json()?,
        options::Output::Csv => {
            let speed = ["wallSeconds", "simulatedRequestsPerSecond"];
            let columns = table::columns().into_iter().skip(1).chain(speed);
            table::csv(&columns.collect::<Vec<_>>(), &[outcome])?
        }
        options::Output::Text => outcome.to_text(),
    })
}

impl Run {
    /// Reads scenario and traffic, and finds the bound.
    pub fn prepare(options: &SimulateOptions) -> Result<Self, SimulateError> {
        let scenario = match &options.scenario {
            Some(path) => Scenario::read(path)?,
            None => Scenario::default(),
        };
        Self::prepare_in(scenario, options)
    }

    /// The same in a scenario that was read before, whatever file the options name.
    pub fn prepare_in(
        mut scenario: Scenario,
        options: &SimulateOptions,
    ) -> Result<Self, SimulateError> {
        if let Some(lead) = options.lead {
            scenario.set_lead(lead);
        }
        let until = options
            .play
            .hours
            .map(|hours| from_seconds(hours * 3_600.0));
        let source = Source::of(options, &scenario, until)?;
        Ok(Self {
            command: options.policy_command.clone().map(|text| Command {
                text,
                timeout: options.policy_timeout,
            }),
            record: options.record.clone(),
            tuning: options.constant.unwrap_or_default(),
            ..Self::over(scenario, source, options.play.seed)?
        })
    }

    /// A run of requests from any source.
    pub fn over(scenario: Scenario, mut source: Source, seed: u64) -> Result<Self, SimulateError> {
        let mut load = Load::new(&scenario);
        let mut keeper = Keeper::default();
        let mut means = TraceMeans::default();
        for arrival in source.open()? {
            let arrival = arrival?;
            load.add(&arrival);
            means.add(&scenario.profile, &arrival);
            keeper.add(&arrival);
        }
        source.keep(keeper.kept());
        let length = source.length(load.last_at(), scenario.interval());
        load.end(length);
        let bound = clairvoyant::bound(&scenario, &load);
        let start = bound.at_start(from_seconds(scenario.warm_up_seconds));
        Ok(Self {
            requests: load.requests(),
            scenario,
            source,
            bound,
            means,
            length,
            start,
            fewest_fixed: OnceLock::new(),
            seed,
            command: None,
            record: None,
            bar: None,
            tuning: Tuning::NONE,
            owner: None,
        })
    }

    /// The same under what an owner wants and states, whatever the scenario says of it.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }

    /// The setup, begun with `replicas` where the scenario names none.
    fn setup(&self, replicas: PerRole<u32>) -> Setup {
        let setup = self.scenario.setup(self.length, replicas);
        match &self.owner {
            Some(owner) => Setup {
                policy: owner.policy.clone(),
                stated_profile: owner.stated.clone(),
                ..setup
            },
            None => setup,
        }
    }

    /// Plays the traffic under the product and tells each change of replicas.
    pub fn play_logged(&self) -> Result<(RunOutcome, Timeline, Vec<LoggedChange>), SimulateError> {
        let policy = PolicyName::Pdautoscaler;
        let (autoscaler, setup) = self.autoscaler(policy, None)?;
        let (logged, changes) = Logged::new(autoscaler);
        let ledger = self.ledger(setup, Box::new(logged), u64::MAX)?;
        let outcome = ledger.outcome(self, policy, None);
        Ok((outcome, ledger.timeline().clone(), changes.take()))
    }

    /// Plays with the replicas of each `step` as they are given, which serve at once, and tells
    /// every request that ended.
    pub fn play_given(
        &self,
        serving: PerRole<Vec<u32>>,
        step: Nanos,
        told: impl FnMut(&engine::RequestOutcome),
    ) -> Result<(), SimulateError> {
        let first = PerRole::from_fn(|role| serving[role].first().copied().unwrap_or(1));
        let mut setup = self.scenario_from(first);
        setup.profile.prefill_startup_seconds = 0.0;
        setup.profile.decode_startup_seconds = 0.0;
        let given = Planned::new(serving, step, PerRole::default(), 0);
        let warm_up = setup.warm_up;
        let readable = |arrival: Result<Arrival, TraceError>| arrival.ok();
        let first = self.source.open()?.map_while(readable);
        let first = first.take_while(move |arrival| arrival.at < warm_up);
        let arrivals = self.source.open()?.map_while(readable);
        let mut world = World::new(setup, Box::new(given), first, arrivals, Ended(told));
        while world.step().is_some() {}
        world.finish();
        Ok(())
    }

    /// The requests that are played.
    pub fn requests(
        &self,
    ) -> Result<impl Iterator<Item = Result<Arrival, TraceError>>, SimulateError> {
        Ok(self.source.open()?)
    }

    /// Plays the traffic under a policy.
    pub fn play(&self, policy: PolicyName) -> Result<RunOutcome, SimulateError> {
        Ok(self.play_in_pieces(policy)?.0)
    }

    /// The same with the run in pieces.
    pub fn play_in_pieces(
        &self,
        policy: PolicyName,
    ) -> Result<(RunOutcome, Timeline), SimulateError> {
        let tuned = match policy {
            PolicyName::Peer(peer, Variant::Tuned) => {
                Some(Tuned::Aggressiveness(tune::search(self, peer)?))
            }
            PolicyName::PdautoscalerTuned => {
                Some(Tuned::AttainmentPercent(tune::search_own(self)?))
            }
            _ => None,
        };
        let (mut autoscaler, setup) = self.autoscaler(policy, tuned)?;
        if let Some(path) = &self.record {
            let recorded = Recorded::create(autoscaler, path);
            autoscaler = Box::new(recorded.map_err(|source| SimulateError::Recording {
                path: path.clone(),
                source,
            })?);
        }
        let began = Instant::now();
        let ledger = self.ledger(setup, autoscaler, u64::MAX)?;
        let wall_seconds = began.elapsed().as_secs_f64();
        if ledger.requests() != self.requests {
            return Err(SimulateError::Changed {
                surveyed: self.requests,
                played: ledger.requests(),
            });
        }
        let mut outcome = ledger.outcome(self, policy, tuned);
        outcome.speed = Some(Speed {
            wall_seconds,
            simulated_requests_per_second: self.requests as f64 / wall_seconds.max(1e-9),
        });
        Ok((outcome, ledger.timeline().clone()))
    }

    /// Plays until the end, or until more than `misses_max` requests have missed.
    fn ledger(
        &self,
        setup: Setup,
        autoscaler: Box<dyn Autoscaler>,
        misses_max: u64,
    ) -> Result<Ledger, SimulateError> {
        let mut setup = setup;
        setup.seed = self.seed;
        setup.dispatch.seed = self.seed;
        let warm_up = setup.warm_up;
        let readable = |arrival: Result<Arrival, TraceError>| arrival.ok();
        let first = self.source.open()?.map_while(readable);
        let arrivals = self.source.open()?.map_while(readable);
        let ledger = Ledger::new(&self.scenario, &setup);
        let first = first.take_while(move |arrival| arrival.at < warm_up);
        let mut world = World::new(setup, autoscaler, first, arrivals, ledger);
        while world.listener().missed() <= misses_max {
            let Some(step) = world.step() else { break };
            if let Some(bar) = &self.bar {
                show(bar, world.progress());
            }
            if let Some(failure) = step.verdict.failure {
                return Err(SimulateError::Policy(failure));
            }
        }
        if world.is_over() {
            world.finish();
        }
        Ok(world.into_listener())
    }
}

/// Moves the bar where it would look different.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share from 0 to 1 of a small number"
)]
fn show(bar: &ProgressBar, share: f64) {
    let place = (share * batch::PERMILLE as f64) as u64;
    if place != bar.position() {
        bar.set_position(place);
    }
}

#[cfg(test)]
mod tests;
