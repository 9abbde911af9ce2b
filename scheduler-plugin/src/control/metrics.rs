//! What the controllers tell Prometheus.
//!
//! Names carry the prefix `pd_scheduler_plugin_` and base units; labels are words of this crate or of the configuration,
//! never names of nodes or pods.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::eviction::attempt::Outcome;

/// Upper edges of how late evictions are, seconds.
const LATE_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvictionLabels {
    outcome: &'static str,
    because: &'static str,
}

/// All metrics of the controllers.
#[derive(Debug)]
pub struct Metrics {
    leader: Gauge,
    evictions: Family<EvictionLabels, Counter>,
    evictions_cancelled: Counter,
    evictions_pending: Gauge,
    evictions_held: Gauge,
    unreadable_pods: Gauge,
    eviction_late: Histogram,
    nodes_out_of_date: Gauge,
    label_writes: Family<OutcomeLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            leader: Gauge::default(),
            evictions: Family::default(),
            evictions_cancelled: Counter::default(),
            evictions_pending: Gauge::default(),
            evictions_held: Gauge::default(),
            unreadable_pods: Gauge::default(),
            eviction_late: Histogram::new(LATE_SECONDS),
            nodes_out_of_date: Gauge::default(),
            label_writes: Family::default(),
        }
    }
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
        self.register_evictions(registry);
    }

    fn register_evictions(&self, registry: &mut Registry) {
        let evictions = "Orders to evict a pod, by outcome and why it has to go";
        registry.register("evictions", evictions, self.evictions.clone());
        let cancelled = "Evictions that a change of taints or tolerations cancelled";
        registry.register(
            "evictions_cancelled",
            cancelled,
            self.evictions_cancelled.clone(),
        );
        let pending = "Pods that wait for their eviction";
        registry.register("evictions_pending", pending, self.evictions_pending.clone());
        let held = "1 while evictions are due and may not be made";
        registry.register("evictions_held", held, self.evictions_held.clone());
        let unreadable = "Pods that are never evicted because their annotation cannot be used";
        registry.register(
            "eviction_unreadable_pods",
            unreadable,
            self.unreadable_pods.clone(),
        );
        let late = "Time from the deadline of a pod to its eviction";
        registry.register("eviction_late_seconds", late, self.eviction_late.clone());
    }

    /// An order ended as `outcome`.
    pub fn evicted(&self, outcome: Outcome, because: &'static str) {
        let outcome = outcome.as_str();
        let labels = EvictionLabels { outcome, because };
        self.evictions.get_or_create(&labels).inc();
    }

    /// A pod was evicted this long after its deadline.
    pub fn eviction_late(&self, late: Duration) {
        self.eviction_late.observe(late.as_secs_f64());
    }

    /// A pod may stay after all.
    pub fn eviction_cancelled(&self) {
        self.evictions_cancelled.inc();
    }

    /// How many pods wait, and how many are never evicted because they cannot be read.
    pub fn evictions_pending(&self, pending: usize, unreadable: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.evictions_pending.set(count(pending));
        self.unreadable_pods.set(count(unreadable));
    }

    /// Whether evictions are due and held.
    pub fn evictions_held(&self, held: bool) {
        self.evictions_held.set(i64::from(held));
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
