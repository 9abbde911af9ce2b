//! The gateways' metrics: a catalogue for each, of what requests see before they reach a worker.
//!
//! A gateway counts requests when they come, where engines count them when they end, and its time
//! to the first token is the user's, where each engine knows its own leg. Both win over the
//! engines'. A gateway serves many models, so its series are those of one; without the model's name
//! nothing of it is read. Several names of one metric are a choice of each pod, never a sum:
//! gateways publish old and new names side by side.

pub mod aibrix;
pub mod dynamo;
pub mod epp;
pub mod kthena;
pub mod smg;

use crate::engine::Metric;

pub use self::{aibrix::AIBRIX, dynamo::DYNAMO, epp::EPP, kthena::KTHENA, smg::SMG};

/// Every gateway, in the order in which they are tried: those with a time to the first token first.
pub static GATEWAYS: [&Gateway; 5] = [&EPP, &DYNAMO, &SMG, &AIBRIX, &KTHENA];

/// Time to the first token as a gateway publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstToken {
    /// A histogram in seconds.
    Histogram(Metric),
    /// A histogram in seconds that takes the end of an answer that is not streamed for its first
    /// token. It counts while nearly all are streamed, by two counters of requests.
    OfStreams {
        /// The histogram.
        histogram: Metric,
        /// Counter of requests that are not streamed.
        unstreamed: Metric,
        /// Counter of all.
        all: Metric,
    },
    /// Counters of disjoint ranges, which stand in the label `bucket` as `100-200ms` or `5000ms+`.
    Ranges(Metric),
    /// It publishes none.
    Absent,
}

/// A gateway: what it is called, and its catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// As users write and read it.
    pub name: &'static str,
    /// As its makers write it.
    pub product: &'static str,
    /// The versions whose names the catalogue has.
    pub versions: &'static str,
    /// The sources that the names were compared with.
    pub checked: &'static str,
    /// Label of the model.
    pub model_label: &'static str,
    /// Labels beside the pod's and the model's that separate the series of one process.
    pub series_labels: &'static [&'static str],
    /// Counters of requests that add up to those that arrive.
    pub arrivals: &'static [Metric],
    /// Whether they count requests when they end.
    pub counts_ended: bool,
    /// Time to the first token.
    pub first_token: FirstToken,
}

impl Gateway {
    /// The gateway of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        GATEWAYS.into_iter().find(|gateway| gateway.name == name)
    }

    /// The names that show it.
    pub fn names(&self) -> Vec<&'static str> {
        let choices = self.arrivals.iter().flat_map(Metric::choices);
        choices.flat_map(|metric| metric.names).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_gateways_are_shown_by_the_same_name() {
        let mut names: Vec<&str> = GATEWAYS
            .iter()
            .flat_map(|gateway| gateway.names())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn gateways_are_found_by_their_names() {
        for gateway in GATEWAYS {
            let found = Gateway::named(gateway.name).unwrap();
            assert_eq!(found.product, gateway.product);
        }
        assert!(Gateway::named("Auto").is_none());
    }
}
