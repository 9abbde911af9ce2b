//! What the controllers tell Prometheus.
//!
//! Names carry the prefix `pd_scheduler_plugin_` and base units; labels are words of this crate or of the configuration,
//! never names of nodes or pods.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// All metrics of the controllers.
#[derive(Debug, Default)]
pub struct Metrics {
    leader: Gauge,
    nodes_out_of_date: Gauge,
    label_writes: Family<OutcomeLabels, Counter>,
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_scheduler_plugin");
        let leader = "1 if this replica's controllers act";
        registry.register("leader", leader, self.leader.clone());
        let nodes = "Nodes whose labels do not mirror their taints, as the leader sees them";
        registry.register("nodes_out_of_date", nodes, self.nodes_out_of_date.clone());
        let writes = "Writes of labels that mirror taints, by outcome";
        registry.register("label_writes", writes, self.label_writes.clone());
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Nodes whose labels do not mirror their taints.
    pub fn nodes_out_of_date(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.nodes_out_of_date.set(count);
    }

    /// A write of labels ended as `outcome`.
    pub fn labels_written(&self, outcome: &'static str) {
        let labels = OutcomeLabels { outcome };
        self.label_writes.get_or_create(&labels).inc();
    }
}
