//! Inputs of sizing as gauges of an object: forecast, error budget, lead time, capacity, bounds.
//!
//! A number that is not known has no series, so that a graph shows a gap and not a zero. The
//! operating point is a label of an info metric, of which an object has one series at most.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::{PerRole, Report, Role, RoleState};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{FloatGauge, ObjectLabels, RoleLabels, family, object, role_labels};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PointLabels {
    namespace: String,
    name: String,
    operating_point: String,
}

/// The gauges.
#[derive(Debug)]
pub(super) struct Sizing {
    forecast_prefill: Family<ObjectLabels, FloatGauge>,
    forecast_decode: Family<ObjectLabels, FloatGauge>,
    error_budget_left: Family<RoleLabels, FloatGauge>,
    lead_time: Family<RoleLabels, FloatGauge>,
    capacity_factor: Family<RoleLabels, FloatGauge>,
    capacity_error: Family<RoleLabels, FloatGauge>,
    min_replicas: Family<RoleLabels, FloatGauge>,
    max_replicas: Family<RoleLabels, FloatGauge>,
    stuck_replicas: Family<RoleLabels, FloatGauge>,
    operating_point: Family<PointLabels, Gauge>,
    points: Mutex<HashMap<ObjectRef<PDAutoscaler>, PointLabels>>,
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            forecast_prefill: family(),
            forecast_decode: family(),
            error_budget_left: family(),
            lead_time: family(),
            capacity_factor: family(),
            capacity_error: family(),
            min_replicas: family(),
            max_replicas: family(),
            stuck_replicas: family(),
            operating_point: family(),
            points: Mutex::default(),
        }
    }
}

impl Sizing {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut of_object = |name: &str, help: &str, family: &Family<ObjectLabels, FloatGauge>| {
            registry.register(name, help, family.clone());
        };
        of_object(
            "forecast_prefill_busy_replicas",
            "Replicas that prompts are expected to keep busy when replicas requested now will serve",
            &self.forecast_prefill,
        );
        of_object(
            "forecast_decode_tokens_per_second",
            "Output tokens per second expected when replicas requested now will serve",
            &self.forecast_decode,
        );
        for (name, help, family) in self.of_roles() {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "operating_point_info",
            "1 for the operating point in force",
            self.operating_point.clone(),
        );
    }

    fn of_roles(&self) -> [(&'static str, &'static str, &Family<RoleLabels, FloatGauge>); 7] {
        [
            (
                "error_budget_left_ratio",
                "Share of the role's error budget that is left, below 0 when it is overspent",
                &self.error_budget_left,
            ),
            (
                "lead_time_seconds",
                "Time from the request for a replica to its serving, 90th percentile",
                &self.lead_time,
            ),
            (
                "capacity_factor",
                "Measured times of a replica as a multiple of its profile or of what was learnt",
                &self.capacity_factor,
            ),
            (
                "capacity_error_ratio",
                "Relative error of a replica's times, one standard deviation",
                &self.capacity_error,
            ),
            (
                "min_replicas",
                "Fewest replicas allowed now, schedules included",
                &self.min_replicas,
            ),
            (
                "max_replicas",
                "Most replicas allowed now, schedules included",
                &self.max_replicas,
            ),
            (
                "stuck_replicas",
                "Replicas that will not serve without help",
                &self.stuck_replicas,
            ),
        ]
    }

    pub(super) fn decided(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        report: &Report,
        roles: &PerRole<RoleState>,
    ) {
        for role in Role::ALL {
            let labels = role_labels(key, role);
            let set = |family: &Family<RoleLabels, FloatGauge>, value: Option<f64>| {
                set(family, &labels, value);
            };
            let (bounds, capacity) = (&report.bounds[role], &report.capacity[role]);
            let stuck = roles[role].stuck.map_or(0, |(count, _)| count);
            set(
                &self.error_budget_left,
                report.risk_target[role].budget_left,
            );
            set(&self.lead_time, Some(report.lead[role].p90_seconds));
            set(&self.capacity_factor, Some(capacity.factor));
            set(&self.capacity_error, Some(capacity.error));
            set(&self.min_replicas, Some(bounds.min_replicas.into()));
            set(&self.max_replicas, Some(bounds.max_replicas.into()));
            set(&self.stuck_replicas, Some(stuck.into()));
        }
        let value = |role| report.forecast[role].map(|forecast| forecast.value);
        set(&self.forecast_prefill, &object(key), value(Role::Prefill));
        set(&self.forecast_decode, &object(key), value(Role::Decode));
        self.point(key, report.ratio.operating_point.as_deref());
    }

    fn point(&self, key: &ObjectRef<PDAutoscaler>, point: Option<&str>) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = point.map(|point| PointLabels {
            namespace: key.namespace.clone().unwrap_or_default(),
            name: key.name.clone(),
            operating_point: point.to_owned(),
        });
        let before = points.get(key);
        if before == labels.as_ref() {
            return;
        }
        if let Some(before) = before {
            self.operating_point.remove(before);
        }
        match labels {
            Some(labels) => {
                self.operating_point.get_or_create(&labels).set(1);
                points.insert(key.clone(), labels);
            }
            None => {
                points.remove(key);
            }
        }
    }

    pub(super) fn forget(&self, key: &ObjectRef<PDAutoscaler>) {
        for role in Role::ALL {
            let labels = role_labels(key, role);
            for (_, _, family) in self.of_roles() {
                family.remove(&labels);
            }
        }
        self.forecast_prefill.remove(&object(key));
        self.forecast_decode.remove(&object(key));
        self.point(key, None);
    }
}

fn set<L>(family: &Family<L, FloatGauge>, labels: &L, value: Option<f64>)
where
    L: Clone + std::hash::Hash + Eq,
{
    match value {
        Some(value) => {
            family.get_or_create(labels).set(value);
        }
        None => {
            family.remove(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn an_object_has_one_operating_point_and_none_when_it_is_gone() {
        let sizing = Sizing::default();
        let mut registry = Registry::default();
        sizing.register(&mut registry);
        let key = ObjectRef::new("llama").within("ns");
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let lines = text.lines().filter(|line| line.contains("name=\"llama\""));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        sizing.point(&key, Some("chat"));
        sizing.point(&key, Some("batch"));
        let want =
            "operating_point_info{namespace=\"ns\",name=\"llama\",operating_point=\"batch\"} 1";
        assert_eq!(shown(), [want]);
        sizing.forget(&key);
        assert_eq!(shown(), Vec::<String>::new());
    }
}
