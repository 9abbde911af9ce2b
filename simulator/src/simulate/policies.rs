//! Each policy by its name, ready to play: who decides, and the setup that it begins with.

use pd_core::PerRole;

use super::options::PolicyName;
use super::tuned::Tuned;
use super::{Run, SimulateError, oracle, static_hindsight};
use crate::autoscaler::peer::Known;
use crate::autoscaler::{Autoscaler, Fixed, PdAutoscaler, Peer, Planned, Process, Variant};
use crate::clairvoyant::{self, ReplicaPlan};
use crate::engine;
use crate::world::Setup;

impl Run {
    pub(super) fn autoscaler(
        &self,
        policy: PolicyName,
        tuned: Option<Tuned>,
    ) -> Result<(Box<dyn Autoscaler>, Setup), SimulateError> {
        let setup = self.setup(self.start);
        Ok(match policy {
            PolicyName::Pdautoscaler | PolicyName::PdautoscalerTuned => match tuned {
                Some(Tuned::AttainmentPercent(percent)) => self.product(percent),
                _ => self.product(setup.policy.objective.attainment.percent),
            },
            PolicyName::StaticPeak => self.fixed(self.bound.peak()),
            PolicyName::StaticHindsight => self.fixed(self.fewest_fixed()?),
            PolicyName::Clairvoyant => self.planned(&self.bound.everywhere),
            PolicyName::ClairvoyantOverall => self.planned(&self.bound.overall),
            PolicyName::SimulatedOracle => self.planned(&oracle::search(self)?),
            PolicyName::Peer(peer, variant) => {
                let aggressiveness = match tuned {
                    Some(Tuned::Aggressiveness(found)) => found,
                    _ => PerRole::from_fn(|_| 1.0),
                };
                self.peer(peer, variant, aggressiveness)?
            }
            PolicyName::Command => {
                let command = self.command.as_ref().ok_or_else(|| {
                    SimulateError::Policy("no command was given: use --policy-command".to_owned())
                })?;
                let process = Process::start(&command.text, command.timeout);
                (Box::new(process.map_err(SimulateError::Policy)?), setup)
            }
        })
    }

    /// The product, whose owner states so much attainment; what is judged by stays as it is.
    pub(super) fn product(&self, attainment_percent: u8) -> (Box<dyn Autoscaler>, Setup) {
        // For what depends on the time of day.
        let began_millis = self.owner.as_ref().map_or(0, |owner| owner.began_millis);
        let mut setup = self.setup(self.start);
        setup.policy.objective.attainment.percent = attainment_percent;
        let product = PdAutoscaler::starting_at(began_millis).tuned(self.tuning);
        (Box::new(product), setup)
    }

    /// Replicas that never change.
    pub(super) fn fixed(&self, replicas: PerRole<u32>) -> (Box<dyn Autoscaler>, Setup) {
        (Box::new(Fixed::new(replicas)), self.scenario_from(replicas))
    }

    /// The fewest fixed replicas that attain the objective, searched once.
    fn fewest_fixed(&self) -> Result<PerRole<u32>, SimulateError> {
        if let Some(found) = self.fewest_fixed.get() {
            return Ok(*found);
        }
        let found = static_hindsight::search(self)?;
        Ok(*self.fewest_fixed.get_or_init(|| found))
    }

    /// A peer at its own interval, from the same first replicas.
    pub(super) fn peer(
        &self,
        peer: Peer,
        variant: Variant,
        aggressiveness: PerRole<f64>,
    ) -> Result<(Box<dyn Autoscaler>, Setup), SimulateError> {
        let fixed = match peer.takes_a_ratio().then(|| self.fewest_fixed()) {
            None | Some(Err(SimulateError::Unattainable { .. })) => None,
            Some(found) => Some(found?),
        };
        let known = Known {
            scenario: &self.scenario,
            means: self.means,
            fixed,
        };
        let setup = self.setup(self.start);
        let interval = peer.interval();
        let setup = Setup {
            interval,
            scrape_interval: setup.scrape_interval.min(interval),
            ..setup
        };
        Ok((peer.build(variant, &known, aggressiveness), setup))
    }

    /// A plan, begun with its own first replicas.
    pub(super) fn planned(&self, plan: &ReplicaPlan) -> (Box<dyn Autoscaler>, Setup) {
        let profile = &self.scenario.profile;
        let lead = PerRole {
            prefill: profile.startup_time(engine::Role::Prefill),
            decode: profile.startup_time(engine::Role::Decode),
        };
        let setup = self.scenario_from(plan.at_start());
        let serving = plan.serving.clone();
        let planned = Planned::new(serving, clairvoyant::WINDOW, lead, setup.interval);
        (Box::new(planned), setup)
    }

    /// The setup, begun with `replicas` whatever the scenario says.
    pub(super) fn scenario_from(&self, replicas: PerRole<u32>) -> Setup {
        Setup {
            replicas_at_start: replicas,
            ..self.setup(replicas)
        }
    }
}
