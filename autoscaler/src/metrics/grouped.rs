//! Metrics of the poller: its rounds, and the passes that it serves.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::poller::{Taken, round::Round};

/// Kinds of answers that a pass gets: the label of its counter.
const RESULTS: [&str; 3] = ["served", "awaited", "alone"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Metrics of the poller.
#[derive(Debug)]
pub(super) struct GroupedMetrics {
    queries: Counter,
    round_queries: Gauge,
    round_objects: Gauge,
    round_troubled: Gauge,
    round_seconds: Gauge<f64, AtomicU64>,
    passes: Family<ResultLabels, Counter>,
}

impl Default for GroupedMetrics {
    fn default() -> Self {
        let passes = Family::<ResultLabels, Counter>::default();
        for result in RESULTS {
            let _zero = passes.get_or_create(&ResultLabels { result }).get();
        }
        Self {
            queries: Counter::default(),
            round_queries: Gauge::default(),
            round_objects: Gauge::default(),
            round_troubled: Gauge::default(),
            round_seconds: Gauge::default(),
            passes,
        }
    }
}

impl GroupedMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let queries = "Queries about many objects that were sent";
        registry.register("grouped_queries", queries, self.queries.clone());
        let queries = "Queries of the last round about many objects";
        registry.register("grouped_round_queries", queries, self.round_queries.clone());
        let objects = "Objects that the last round read";
        registry.register("grouped_round_objects", objects, self.round_objects.clone());
        let troubled = "Objects of the last round whose answer was of no use or not whole";
        registry.register(
            "grouped_round_troubled_objects",
            troubled,
            self.round_troubled.clone(),
        );
        let seconds = "Time that the last round took";
        registry.register(
            "grouped_round_duration_seconds",
            seconds,
            self.round_seconds.clone(),
        );
        let passes = "Looks of objects at the answers about many, by what they found";
        registry.register("grouped_passes", passes, self.passes.clone());
    }

    /// A round ended.
    pub(super) fn polled(&self, round: &Round) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.queries
            .inc_by(u64::try_from(round.queries).unwrap_or_default());
        self.round_queries.set(count(round.queries));
        self.round_objects.set(count(round.objects));
        self.round_troubled.set(count(round.troubled));
        self.round_seconds.set(Duration::as_secs_f64(&round.took));
    }

    /// A pass got `taken`.
    pub(super) fn taken(&self, taken: &Taken) {
        let result = match taken {
            Taken::Here(_) => "served",
            Taken::Soon(_) => "awaited",
            Taken::Apart => "alone",
        };
        self.passes.get_or_create(&ResultLabels { result }).inc();
    }
}
