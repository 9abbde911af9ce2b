//! Metrics of the controllers.
//!
//! Names carry the prefix `pd_scheduler_plugin_` and base units; labels are words of this crate or
//! of the configuration, never names of nodes or pods.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{eviction::metrics::EvictionMetrics, placement::metrics::PlacementMetrics};
use crate::preflight::evidence::Gate;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GateLabels {
    component: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublisherLabels {
    publisher: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublisherStateLabels {
    publisher: String,
    state: &'static str,
}

/// All metrics of the controllers.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Evictions.
    pub evictions: EvictionMetrics,
    /// Placement groups.
    pub placement: PlacementMetrics,
    leader: Gauge,
    nodes_out_of_date: Gauge,
    label_writes: Family<OutcomeLabels, Counter>,
    pod_wakes: Family<OutcomeLabels, Counter>,
    publisher_config_valid: Gauge,
    publisher_queries: Family<PublisherLabels, Counter>,
    publisher_changes: Family<PublisherLabels, Counter>,
    publisher_nodes: Family<PublisherStateLabels, Gauge>,
    gates: Family<GateLabels, Gauge>,
    condition_writes: Family<OutcomeLabels, Counter>,
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_scheduler_plugin");
        self.evictions.register(registry);
        self.placement.register(registry);
        let leader = "1 if this replica's controllers act";
        registry.register("leader", leader, self.leader.clone());
        let nodes = "Nodes whose labels do not mirror their taints, as the leader sees them";
        registry.register("nodes_out_of_date", nodes, self.nodes_out_of_date.clone());
        let writes = "Writes of labels that mirror taints, by outcome";
        registry.register("label_writes", writes, self.label_writes.clone());
        let wakes = "Waiting pods touched after a node's taints changed, by outcome";
        registry.register("pod_wakes", wakes, self.pod_wakes.clone());
        let valid = "1 if the publishers' file is in use as it is, 0 if it cannot be used";
        registry.register(
            "publisher_config_valid",
            valid,
            self.publisher_config_valid.clone(),
        );
        let queries = "Reliability queries by publisher and outcome";
        registry.register("publisher_queries", queries, self.publisher_queries.clone());
        let changes = "Changes of taints by publisher and outcome";
        registry.register("publisher_changes", changes, self.publisher_changes.clone());
        let nodes = "Nodes by publisher and what the last evaluation came to";
        registry.register("publisher_nodes", nodes, self.publisher_nodes.clone());
        let gates = "1 for the state (on, off, unknown, absent) of the component's feature gate; of pd-webhook, whether it rewrites";
        registry.register("gate", gates, self.gates.clone());
        let writes =
            "Writes of the condition of PDAutoscalers about numeric tolerations, by outcome";
        registry.register("condition_writes", writes, self.condition_writes.clone());
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

    /// A touch of a waiting pod ended as `outcome`.
    pub fn pod_woken(&self, outcome: &'static str) {
        let labels = OutcomeLabels { outcome };
        self.pod_wakes.get_or_create(&labels).inc();
    }

    /// A write of labels ended as `outcome`.
    pub fn labels_written(&self, outcome: &'static str) {
        let labels = OutcomeLabels { outcome };
        self.label_writes.get_or_create(&labels).inc();
    }

    /// Whether the publishers' file can be used.
    pub fn publisher_config(&self, valid: bool) {
        self.publisher_config_valid.set(i64::from(valid));
    }

    /// A query of `publisher` ended as `outcome`.
    pub fn publisher_asked(&self, publisher: &str, outcome: &'static str) {
        let labels = PublisherLabels {
            publisher: publisher.to_owned(),
            outcome,
        };
        self.publisher_queries.get_or_create(&labels).inc();
    }

    /// A change by `publisher` ended as `outcome`.
    pub fn publisher_changed(&self, publisher: &str, outcome: &'static str) {
        let labels = PublisherLabels {
            publisher: publisher.to_owned(),
            outcome,
        };
        self.publisher_changes.get_or_create(&labels).inc();
    }

    /// `count` nodes of `publisher` are in `state`.
    pub fn publisher_nodes(&self, publisher: &str, state: &'static str, count: usize) {
        let labels = PublisherStateLabels {
            publisher: publisher.to_owned(),
            state,
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.publisher_nodes.get_or_create(&labels).set(count);
    }

    /// The gate of `component` is in `state`.
    pub fn gate(&self, component: &'static str, state: Gate) {
        for one in [Gate::On, Gate::Off, Gate::Unknown, Gate::Absent] {
            let labels = GateLabels {
                component,
                state: one.as_str(),
            };
            let holds = i64::from(one == state);
            self.gates.get_or_create(&labels).set(holds);
        }
    }

    /// Forgets the gates, for another replica looks at them now.
    pub fn gates_forgotten(&self) {
        self.gates.clear();
    }

    /// A write of a PDAutoscaler's condition ended as `outcome`.
    pub fn condition_written(&self, outcome: &'static str) {
        let labels = OutcomeLabels { outcome };
        self.condition_writes.get_or_create(&labels).inc();
    }

    /// Forgets the nodes of publishers that are gone, or of a term that has ended.
    pub fn publishers_forgotten(&self) {
        self.publisher_nodes.clear();
    }
}
