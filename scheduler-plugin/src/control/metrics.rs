//! What the controllers tell Prometheus.
//!
//! Names carry the prefix `pd_scheduler_plugin_` and base units; labels are words of this crate or of the configuration,
//! never names of nodes or pods.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// All metrics of the controllers.
#[derive(Debug, Default)]
pub struct Metrics {
    leader: Gauge,
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_scheduler_plugin");
        let leader = "1 if this replica's controllers act";
        registry.register("leader", leader, self.leader.clone());
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}
