//! Policies by the names that users write, and which of them are played as one.
//!
//! The peers' names are their own module's; here they meet the product and the baselines. `command`
//! is no name to write: it is what a result calls a policy that runs as a process.

use std::fmt;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};

use crate::autoscaler::{Peer, Variant};

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyName {
    /// The product.
    Pdautoscaler,
    /// The product, the attainment that it is given searched on the trace.
    PdautoscalerTuned,
    /// Fixed replicas of each role, as many as the busiest minute of the trace needs.
    StaticPeak,
    /// The fewest fixed replicas that attain the objective, found by search on the trace.
    StaticHindsight,
    /// The clairvoyant plan that holds the objective in every minute, carried out.
    Clairvoyant,
    /// The clairvoyant plan that holds the objective over the run, carried out.
    ClairvoyantOverall,
    /// The cheapest plan known to attain the objective, found by playing plans that know the load.
    SimulatedOracle,
    /// Somebody else's rule.
    Peer(Peer, Variant),
    /// A process that speaks the policy protocol.
    Command,
}

/// The product and the baselines.
const OWN: [PolicyName; 7] = [
    PolicyName::Pdautoscaler,
    PolicyName::PdautoscalerTuned,
    PolicyName::StaticPeak,
    PolicyName::StaticHindsight,
    PolicyName::Clairvoyant,
    PolicyName::ClairvoyantOverall,
    PolicyName::SimulatedOracle,
];

/// All that can be written: those of our own, and both variants of each peer.
static WRITABLE: [PolicyName; OWN.len() + 2 * Peer::ALL.len()] = {
    let mut names = [PolicyName::Pdautoscaler; OWN.len() + 2 * Peer::ALL.len()];
    let mut place = 0;
    while place < OWN.len() {
        names[place] = OWN[place];
        place += 1;
    }
    let mut place = 0;
    while place < Peer::ALL.len() {
        names[OWN.len() + 2 * place] = PolicyName::Peer(Peer::ALL[place], Variant::Default);
        names[OWN.len() + 2 * place + 1] = PolicyName::Peer(Peer::ALL[place], Variant::Tuned);
        place += 1;
    }
    names
};

impl PolicyName {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pdautoscaler => "pdautoscaler",
            Self::PdautoscalerTuned => "pdautoscaler-tuned",
            Self::StaticPeak => "static-peak",
            Self::StaticHindsight => "static-hindsight",
            Self::Clairvoyant => "clairvoyant",
            Self::ClairvoyantOverall => "clairvoyant-overall",
            Self::SimulatedOracle => "simulated-oracle",
            Self::Peer(peer, variant) => peer.name(variant),
            Self::Command => "command",
        }
    }

    /// Whether it is made of the trace that it is played on.
    pub const fn is_hindsight(self) -> bool {
        matches!(
            self,
            Self::StaticHindsight
                | Self::Clairvoyant
                | Self::ClairvoyantOverall
                | Self::SimulatedOracle
        )
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl ValueEnum for PolicyName {
    fn value_variants<'a>() -> &'a [Self] {
        &WRITABLE
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Pdautoscaler => "the product",
            Self::PdautoscalerTuned => "the same, its attainment searched on the trace",
            Self::StaticPeak => "fixed replicas, as many as the busiest minute needs",
            Self::StaticHindsight => "the fewest fixed replicas that attain on the very trace",
            Self::Clairvoyant => "the plan that knows every request and holds every minute",
            Self::ClairvoyantOverall => "the same, holding the objective over the run only",
            Self::SimulatedOracle => "the cheapest such plan known to attain, found by playing",
            Self::Peer(_, Variant::Default) => "a peer's rule as shipped",
            Self::Peer(_, Variant::Tuned) => "the same, its aggressiveness searched on the trace",
            Self::Command => return None,
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_its_policy() {
        for name in PolicyName::value_variants() {
            assert_eq!(PolicyName::from_str(name.as_str(), false), Ok(*name));
        }
        assert!(PolicyName::from_str("command", false).is_err());
    }
}
