//! Metrics of placement groups.

use std::{collections::HashMap, time::Duration};

use pd_placement::gate::GroupState;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::made::MadeReason;

/// Upper bounds of a step's time, seconds: a plan of 1,000 nodes and 100 groups takes 0.04 to 0.2.
const STEP_SECONDS: [f64; 9] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    outcome: &'static str,
}

/// All metrics of placement groups.
#[derive(Debug)]
pub struct PlacementMetrics {
    groups: Family<StateLabels, Gauge>,
    autoscalers: Family<ReasonLabels, Gauge>,
    steps: Family<StepLabels, Counter>,
    seconds: Histogram,
    requests: Family<RequestLabels, Counter>,
}

impl Default for PlacementMetrics {
    fn default() -> Self {
        Self {
            groups: Family::default(),
            autoscalers: Family::default(),
            steps: Family::default(),
            seconds: Histogram::new(STEP_SECONDS),
            requests: Family::default(),
        }
    }
}

impl PlacementMetrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let groups = "Placement groups by state, as the leader sees them";
        registry.register("placement_groups", groups, self.groups.clone());
        let autoscalers = "PDAutoscalers that ask for placement, by what became of their group";
        let family = self.autoscalers.clone();
        registry.register("placement_autoscalers", autoscalers, family);
        let steps =
            "Steps of placement, by outcome: made, or not made because caches are stale or behind";
        registry.register("placement_steps", steps, self.steps.clone());
        let seconds = "Time of a step that was made";
        registry.register("placement_step_seconds", seconds, self.seconds.clone());
        let requests = "Requests of placement by verb and outcome";
        registry.register("placement_requests", requests, self.requests.clone());
    }

    /// Groups by their state.
    pub(super) fn groups(&self, counts: &HashMap<GroupState, i64>) {
        for state in GroupState::ALL {
            let count = counts.get(&state).copied().unwrap_or(0);
            let state = state.as_str();
            self.groups.get_or_create(&StateLabels { state }).set(count);
        }
    }

    /// PDAutoscalers that ask for placement, by what became of their group.
    pub(super) fn autoscalers(&self, counts: &HashMap<MadeReason, i64>) {
        for made in MadeReason::ALL {
            let count = counts.get(&made).copied().unwrap_or(0);
            let reason = made.as_str();
            let gauge = self.autoscalers.get_or_create(&ReasonLabels { reason });
            gauge.set(count);
        }
    }

    /// Forgets the PDAutoscalers, for another replica looks at them now.
    pub(super) fn forget_autoscalers(&self) {
        self.autoscalers.clear();
    }

    /// A step ended as `outcome` after this time.
    pub(super) fn stepped(&self, outcome: &'static str, took: Duration) {
        self.steps.get_or_create(&StepLabels { outcome }).inc();
        if outcome == "made" {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    /// A request ended as `outcome`.
    pub(super) fn acted(&self, verb: &'static str, outcome: &'static str) {
        let labels = RequestLabels { verb, outcome };
        self.requests.get_or_create(&labels).inc();
    }

    /// Forgets the groups, for another replica looks at them now.
    pub(super) fn forget(&self) {
        self.groups.clear();
    }
}
