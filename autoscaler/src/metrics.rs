//! Metrics of the controller and of its objects.
//!
//! Names carry the prefix `pd_autoscaler_`, base units and no label of unbounded values but the
//! object's own namespace and name. Gauges of an object go when the object goes. The inputs of
//! sizing and the facts of an object have files of their own below this one. Counters whose labels
//! are words of this crate begin at zero, so that the first failure is an increase too.

mod budget;
mod facts;
mod grouped;
mod sizing;

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::{GPUBudget, PDAutoscaler};
use pd_core::{PerRole, Reason, Report, Role, RoleState, Snapshot};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use self::{budget::BudgetMetrics, facts::Facts, grouped::GroupedMetrics, sizing::Sizing};
use crate::{
    poller::{Taken, round::Round},
    prometheus::QueryError,
};

/// Upper edges of the durations of reconciles and queries, seconds: from an answer out of a cache
/// to a query that times out.
const DURATION_SECONDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// Upper edges of the lateness of reconciles, seconds: from none to gaps that no longer count as a
/// watch without a break.
const LATENESS_SECONDS: [f64; 9] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 75.0, 300.0];

/// Requests of reconciles that the API server may fail to serve: the label of their counter.
const API_CATEGORIES: [&str; 10] = [
    "budget",
    "checkpoint",
    "contention",
    "crd",
    "event",
    "panic",
    "pod",
    "quota",
    "scale",
    "status",
];

/// Labels of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ObjectLabels {
    namespace: String,
    name: String,
}

/// Labels of one role of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    namespace: String,
    name: String,
    role: &'static str,
}

/// Labels of one objective of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectiveLabels {
    namespace: String,
    name: String,
    objective: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    namespace: String,
    name: String,
    role: &'static str,
    direction: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabels {
    category: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// All metrics of the controller.
#[derive(Debug)]
pub struct Metrics {
    reconcile_duration: Histogram,
    reconciles: Family<ReasonLabels, Counter>,
    scalings: Family<DecisionLabels, Counter>,
    /// Which of them each object has, to remove them with it.
    scaling_labels: Mutex<HashMap<ObjectLabels, HashSet<DecisionLabels>>>,
    lateness: Histogram,
    panics: Counter,
    current_replicas: Family<RoleLabels, Gauge>,
    desired_replicas: Family<RoleLabels, Gauge>,
    ready_replicas: Family<RoleLabels, Gauge>,
    needed_replicas: Family<RoleLabels, Gauge>,
    ready: Family<ObjectLabels, Gauge>,
    latency: Family<ObjectiveLabels, FloatGauge>,
    attainment: Family<ObjectiveLabels, FloatGauge>,
    arrival_rate: Family<ObjectLabels, FloatGauge>,
    sizing: Sizing,
    budgets: BudgetMetrics,
    facts: Facts,
    query_duration: Histogram,
    query_errors: Family<CategoryLabels, Counter>,
    grouped: GroupedMetrics,
    apply_conflicts: Counter,
    audit_findings: Counter,
    api_errors: Family<CategoryLabels, Counter>,
    leader: Gauge,
}

/// Builds families of plain gauges and counters.
fn family<S: Clone + Eq + std::hash::Hash, M: Default>() -> Family<S, M>
where
    fn() -> M: MetricConstructor<M>,
{
    Family::default()
}

/// Counters at zero, one for each category.
fn counters(categories: &[&'static str]) -> Family<CategoryLabels, Counter> {
    let counters = family::<CategoryLabels, Counter>();
    for &category in categories {
        drop(counters.get_or_create(&CategoryLabels { category }));
    }
    counters
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconcile_duration: Histogram::new(DURATION_SECONDS),
            reconciles: family(),
            scalings: family(),
            scaling_labels: Mutex::default(),
            lateness: Histogram::new(LATENESS_SECONDS),
            panics: Counter::default(),
            current_replicas: family(),
            desired_replicas: family(),
            ready_replicas: family(),
            needed_replicas: family(),
            ready: family(),
            latency: family(),
            attainment: family(),
            arrival_rate: family(),
            sizing: Sizing::default(),
            budgets: BudgetMetrics::default(),
            facts: Facts::default(),
            query_duration: Histogram::new(DURATION_SECONDS),
            query_errors: counters(&QueryError::CATEGORIES),
            grouped: GroupedMetrics::default(),
            apply_conflicts: Counter::default(),
            audit_findings: Counter::default(),
            api_errors: counters(&API_CATEGORIES),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Registers every metric.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("pd_autoscaler");
        self.register_objects(registry);
        self.register_controller(registry);
    }

    fn register_objects(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, family: &Family<RoleLabels, Gauge>| {
            registry.register(name, help, family.clone());
        };
        let requested = "Replicas requested: spec.replicas of the target";
        gauge("current_replicas", requested, &self.current_replicas);
        gauge(
            "desired_replicas",
            "Replicas of the last decision",
            &self.desired_replicas,
        );
        gauge(
            "ready_replicas",
            "Replicas that serve",
            &self.ready_replicas,
        );
        let needed = "Replicas the objective needs before any limit";
        gauge("needed_replicas", needed, &self.needed_replicas);
        let scalings = "Replica writes by role, direction and reason";
        registry.register("scalings", scalings, self.scalings.clone());
        registry.register(
            "ready",
            "1 when the Ready condition is True",
            self.ready.clone(),
        );
        let latency = "Measured TTFT and TPOT at the objective's percentile";
        registry.register("latency_seconds", latency, self.latency.clone());
        let attainment = "Share of requests within the limit over the attainment window";
        registry.register("attainment_ratio", attainment, self.attainment.clone());
        let arrivals = "Requests that arrive";
        registry.register(
            "arrival_rate_requests_per_second",
            arrivals,
            self.arrival_rate.clone(),
        );
        self.sizing.register(registry);
        self.budgets.register(registry);
        self.facts.register(registry);
    }

    fn register_controller(&self, registry: &mut Registry) {
        let lateness = "How long after its time a reconcile began";
        registry.register(
            "reconcile_lateness_seconds",
            lateness,
            self.lateness.clone(),
        );
        let panics = "Reconciles that a bug ended";
        registry.register("reconcile_panics", panics, self.panics.clone());
        let duration = "Time of one reconcile of one PDAutoscaler";
        registry.register(
            "reconcile_duration_seconds",
            duration,
            self.reconcile_duration.clone(),
        );
        let reconciles = "Reconciles by the reason of their Ready condition";
        registry.register("reconciles", reconciles, self.reconciles.clone());
        let query = "Time of one query";
        registry.register(
            "prometheus_query_duration_seconds",
            query,
            self.query_duration.clone(),
        );
        let errors = "Queries without a usable answer";
        registry.register("prometheus_query_errors", errors, self.query_errors.clone());
        self.grouped.register(registry);
        let conflicts = "Replica writes not made because somebody else had changed the target";
        registry.register("apply_conflicts", conflicts, self.apply_conflicts.clone());
        let findings = "Plans not applied because they break an invariant: bugs";
        registry.register("audit_findings", findings, self.audit_findings.clone());
        let api =
            "Requests of reconciles that the Kubernetes API did not serve, by what they were for";
        registry.register("api_errors", api, self.api_errors.clone());
        registry.register(
            "leader",
            "1 while this process may write",
            self.leader.clone(),
        );
    }

    /// A reconcile ended with `reason` after `took`.
    pub fn reconciled(&self, reason: Reason, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
        self.reconciles
            .get_or_create(&ReasonLabels {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// A request for `category` failed at the API server.
    pub fn api_failed(&self, category: &'static str) {
        self.api_errors
            .get_or_create(&CategoryLabels { category })
            .inc();
    }

    /// A query failed.
    pub fn query_failed(&self, error: &QueryError) {
        self.query_errors
            .get_or_create(&CategoryLabels {
                category: error.category(),
            })
            .inc();
    }

    /// Many objects were read.
    pub fn polled(&self, round: &Round) {
        self.grouped.polled(round);
    }

    /// A pass got `taken` of the answers about many objects.
    pub fn taken(&self, taken: &Taken) {
        self.grouped.taken(taken);
    }

    /// A query took `took`.
    pub fn query_took(&self, took: Duration) {
        self.query_duration.observe(took.as_secs_f64());
    }

    /// A write was not made because somebody else wrote.
    pub fn conflicted(&self) {
        self.apply_conflicts.inc();
    }

    /// A plan was refused by the audit.
    pub fn audit_found(&self, findings: usize) {
        self.audit_findings
            .inc_by(u64::try_from(findings).unwrap_or(u64::MAX));
    }

    /// The ledger of a GPUBudget was written.
    pub fn budget_written(&self, budget: &GPUBudget) {
        self.budgets.written(budget);
    }

    /// There are these GPUBudgets and no others.
    pub fn budgets_are<'a>(&self, names: impl Iterator<Item = &'a String>) {
        self.budgets.are(names);
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The Ready condition of `key`.
    pub fn readiness(&self, key: &ObjectRef<PDAutoscaler>, ready: bool) {
        self.ready.get_or_create(&object(key)).set(i64::from(ready));
    }

    /// `role` of `key` was scaled.
    pub fn scaled(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        role: Role,
        from: u32,
        to: u32,
        reason: Reason,
    ) {
        let direction = if to > from { "up" } else { "down" };
        let labels = DecisionLabels {
            namespace: key.namespace.clone().unwrap_or_default(),
            name: key.name.clone(),
            role: role.as_str(),
            direction,
            reason: reason.as_str(),
        };
        self.scalings.get_or_create(&labels).inc();
        let mut known = self.scaling_labels();
        known.entry(object(key)).or_default().insert(labels);
    }

    fn scaling_labels(&self) -> MutexGuard<'_, HashMap<ObjectLabels, HashSet<DecisionLabels>>> {
        let labels = self.scaling_labels.lock();
        labels.unwrap_or_else(PoisonError::into_inner)
    }

    /// A reconcile began `late` after its time.
    pub fn was_late(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// A reconcile panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A decision was made for `key`.
    pub fn decided(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        report: &Report,
        roles: &PerRole<RoleState>,
    ) {
        self.sizing.decided(key, report, roles);
        for role in Role::ALL {
            let labels = role_labels(key, role);
            let set = |family: &Family<RoleLabels, Gauge>, value: Option<u32>| match value {
                Some(value) => {
                    family.get_or_create(&labels).set(value.into());
                }
                None => {
                    family.remove(&labels);
                }
            };
            set(&self.current_replicas, Some(report.from[role]));
            set(&self.desired_replicas, Some(report.to[role]));
            set(&self.ready_replicas, Some(roles[role].ready));
            set(&self.needed_replicas, report.need[role]);
        }
        let observed = &report.observed;
        let set = |family: &Family<ObjectiveLabels, FloatGauge>, objective, value: Option<f64>| {
            let labels = objective_labels(key, objective);
            match value {
                Some(value) => {
                    family.get_or_create(&labels).set(value);
                }
                None => {
                    family.remove(&labels);
                }
            }
        };
        set(&self.latency, TTFT, observed.ttft_seconds);
        set(&self.latency, TPOT, observed.tpot_seconds);
        set(&self.attainment, TTFT, observed.ttft_attainment);
        set(&self.attainment, TPOT, observed.tpot_attainment);
        match observed.arrival_rate_rps {
            Some(rate) => {
                self.arrival_rate.get_or_create(&object(key)).set(rate);
            }
            None => {
                self.arrival_rate.remove(&object(key));
            }
        }
    }

    /// The conditions of `key`, and its last decision unless nothing was decided.
    pub fn stated(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        conditions: &[Condition],
        decided: Option<(&Snapshot, &Report)>,
    ) {
        self.facts.set(key, conditions, decided);
    }

    /// `key` is gone.
    pub fn forget(&self, key: &ObjectRef<PDAutoscaler>) {
        self.undecided(key);
        self.facts.forget(key);
        self.ready.remove(&object(key));
        let scalings = self.scaling_labels().remove(&object(key));
        for labels in scalings.into_iter().flatten() {
            self.scalings.remove(&labels);
        }
    }

    /// Nothing was decided for `key`: its gauges would show the past.
    pub fn undecided(&self, key: &ObjectRef<PDAutoscaler>) {
        for role in Role::ALL {
            let labels = role_labels(key, role);
            for family in [
                &self.current_replicas,
                &self.desired_replicas,
                &self.ready_replicas,
                &self.needed_replicas,
            ] {
                family.remove(&labels);
            }
        }
        for objective in [TTFT, TPOT] {
            self.latency.remove(&objective_labels(key, objective));
            self.attainment.remove(&objective_labels(key, objective));
        }
        self.sizing.forget(key);
        self.arrival_rate.remove(&object(key));
    }
}

const TTFT: &str = "ttft";
const TPOT: &str = "tpot";

fn object(key: &ObjectRef<PDAutoscaler>) -> ObjectLabels {
    ObjectLabels {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
    }
}

fn role_labels(key: &ObjectRef<PDAutoscaler>, role: Role) -> RoleLabels {
    RoleLabels {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
        role: role.as_str(),
    }
}

fn objective_labels(key: &ObjectRef<PDAutoscaler>, objective: &'static str) -> ObjectiveLabels {
    ObjectiveLabels {
        namespace: key.namespace.clone().unwrap_or_default(),
        name: key.name.clone(),
        objective,
    }
}
