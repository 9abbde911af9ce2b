//! Metrics of the eviction controller: requests by outcome, what waits, what is held, how late it
//! was.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::attempt::EvictionOutcome;

/// Upper edges of how late evictions are, seconds.
const LATE_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OrderLabels {
    outcome: &'static str,
    because: &'static str,
}

/// All metrics of the eviction controller.
#[derive(Debug)]
pub struct EvictionMetrics {
    requests: Family<OrderLabels, Counter>,
    cancelled: Counter,
    pending: Gauge,
    held: Gauge,
    unreadable_pods: Gauge,
    late: Histogram,
}

impl Default for EvictionMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            cancelled: Counter::default(),
            pending: Gauge::default(),
            held: Gauge::default(),
            unreadable_pods: Gauge::default(),
            late: Histogram::new(LATE_SECONDS),
        }
    }
}

impl EvictionMetrics {
    /// Registers every metric; the prefix is the caller's.
    pub fn register(&self, registry: &mut Registry) {
        let requests = "Orders to evict a pod, by outcome and why it has to go";
        registry.register("evictions", requests, self.requests.clone());
        let cancelled = "Evictions that a change of taints or tolerations cancelled";
        registry.register("evictions_cancelled", cancelled, self.cancelled.clone());
        let pending = "Pods that wait for their eviction";
        registry.register("evictions_pending", pending, self.pending.clone());
        let held = "1 while evictions are due and may not be made";
        registry.register("evictions_held", held, self.held.clone());
        let unreadable = "Pods that are never evicted because their annotation cannot be used";
        let pods = self.unreadable_pods.clone();
        registry.register("eviction_unreadable_pods", unreadable, pods);
        let late = "Time from the deadline of a pod to its eviction";
        registry.register("eviction_late_seconds", late, self.late.clone());
    }

    /// An request ended as `outcome`, this long after the pod's deadline.
    pub fn ended(&self, outcome: EvictionOutcome, because: &'static str, late: Duration) {
        let labels = OrderLabels {
            outcome: outcome.as_str(),
            because,
        };
        self.requests.get_or_create(&labels).inc();
        if outcome.is_our_doing() {
            self.late.observe(late.as_secs_f64());
        }
    }

    /// A pod may stay after all.
    pub fn cancelled(&self) {
        self.cancelled.inc();
    }

    /// How many pods wait, and how many are never evicted because they cannot be read.
    pub fn waiting(&self, pending: usize, unreadable: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.pending.set(count(pending));
        self.unreadable_pods.set(count(unreadable));
    }

    /// Whether evictions are due and held.
    pub fn held(&self, held: bool) {
        self.held.set(i64::from(held));
    }
}
