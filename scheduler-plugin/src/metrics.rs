//! Metrics of the extender: calls by verb and outcome, their time, and the size of the node cache.
//!
//! Names carry the prefix `pd_scheduler_plugin_` and base units; labels are words of this crate,
//! never of a cluster.

use std::time::Duration;

use pd_runtime::rotation::CertificateEnds;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper edges of call durations, seconds: the bars are 0.1 ms to 15 ms.
const CALL_SECONDS: [f64; 11] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015, 0.05, 0.25,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    verb: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

/// All metrics of the extender.
#[derive(Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    duration: Family<VerbLabels, Histogram, fn() -> Histogram>,
    nodes: Gauge,
    /// The certificate's end.
    pub certificate_ends: CertificateEnds,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            nodes: Gauge::default(),
            certificate_ends: CertificateEnds::default(),
        }
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_scheduler_plugin");
        let calls = "Extender calls by verb and outcome";
        registry.register("extender_calls", calls, self.calls.clone());
        let duration = "Time to answer an extender call, from its whole body to its whole answer";
        registry.register(
            "extender_call_duration_seconds",
            duration,
            self.duration.clone(),
        );
        registry.register("nodes", "Nodes in the cache", self.nodes.clone());
        self.certificate_ends.register(registry);
    }

    /// A call of `verb` ended as `outcome` after `took`, with `nodes` in the cache.
    pub fn called(&self, verb: &'static str, outcome: &'static str, took: Duration, nodes: usize) {
        self.calls
            .get_or_create(&CallLabels { verb, outcome })
            .inc();
        let duration = self.duration.get_or_create(&VerbLabels { verb });
        duration.observe(took.as_secs_f64());
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }
}
