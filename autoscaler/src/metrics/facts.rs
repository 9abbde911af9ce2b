//! Facts of an object as gauges: its limits, its conditions, and the words of its last decision.
//!
//! They are set values and words, which seldom change. So they are kept once for each object and
//! written out when Prometheus asks, and not as a series each: an object has about twenty. A word
//! is a label of an info metric whose value is 1, so that Grafana shows it and an alert compares
//! it; a fact that is not known has no series.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::ObjectRef;
use pd_api::{ConditionState, ConditionType, v1alpha1::PDAutoscaler};
use pd_core::{PerRole, Ratio, Reason, Report, Role, Snapshot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};

use super::{ObjectLabels, TPOT, TTFT, object};

/// One condition, in the words of its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
}

impl Word {
    /// The condition as a label, unless it is one of somebody else.
    fn of(condition: &Condition) -> Option<Self> {
        let mut kinds = ConditionType::ALL.into_iter().map(ConditionType::as_str);
        let mut reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        let states = [
            ConditionState::True,
            ConditionState::False,
            ConditionState::Unknown,
        ];
        let mut states = states.map(ConditionState::as_str).into_iter();
        Some(Self {
            condition: kinds.find(|kind| *kind == condition.type_)?,
            status: states.find(|state| *state == condition.status)?,
            reason: reasons.find(|reason| *reason == condition.reason)?,
        })
    }

    fn shows(&self, condition: &Condition) -> bool {
        self.condition == condition.type_
            && self.status == condition.status
            && self.reason == condition.reason
    }
}

/// The facts of a decision.
#[derive(Clone, Copy, Debug)]
struct Decided {
    reason: &'static str,
    bottleneck: &'static str,
    /// Limits of TTFT and TPOT, seconds.
    limits: [f64; 2],
    /// Share of the requests that must keep them.
    attainment: f64,
    /// Least and most prefill replicas per decode replica.
    band: Option<(f64, f64)>,
    /// Prefill replicas per decode replica that the traffic needs.
    traffic: Option<f64>,
    gpus_per_replica: PerRole<u32>,
}

#[derive(Debug, Default)]
struct Object {
    conditions: Vec<Word>,
    decided: Option<Decided>,
}

/// The facts of all objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts(Arc<Mutex<BTreeMap<ObjectLabels, Object>>>);

impl Facts {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectLabels, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what is known of `key`: its conditions, and its last decision if there was one.
    pub(super) fn set(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        conditions: &[Condition],
        decided: Option<(&Snapshot, &Report)>,
    ) {
        let decided = decided.map(|(snapshot, report)| Decided::of(snapshot, report));
        let mut objects = self.objects();
        let known = objects.entry(object(key)).or_default();
        known.decided = decided;
        let same = known.conditions.len() == conditions.len()
            && known
                .conditions
                .iter()
                .zip(conditions)
                .all(|(word, condition)| word.shows(condition));
        if !same {
            known.conditions = conditions.iter().filter_map(Word::of).collect();
        }
    }

    pub(super) fn forget(&self, key: &ObjectRef<PDAutoscaler>) {
        self.objects().remove(&object(key));
    }
}

impl Decided {
    fn of(snapshot: &Snapshot, report: &Report) -> Self {
        let objective = &snapshot.policy.objective;
        Self {
            reason: report.reason.as_str(),
            bottleneck: report.bottleneck.as_str(),
            limits: [objective.ttft, objective.tpot].map(|target| target.limit.as_secs_f64()),
            attainment: f64::from(objective.attainment.percent) / 100.0,
            band: report.ratio.policy.map(|policy| policy.band.bounds()),
            traffic: report.ratio.traffic.map(Ratio::as_f64),
            gpus_per_replica: snapshot.roles.map(|role| role.gpus_per_replica),
        }
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let objects = self.objects();
        if objects.is_empty() {
            return Ok(());
        }
        let mut metric = |name: &str, help: &str, write: &Writer<'_>| {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let mut series = Series(descriptor);
            objects
                .iter()
                .try_for_each(|(labels, object)| write(&mut series, labels, object))
        };
        metric(
            "condition_info",
            "1 for the status and reason of each condition",
            &|series, labels, object| {
                object.conditions.iter().try_for_each(|word| {
                    let words = [
                        ("condition", word.condition),
                        ("status", word.status),
                        ("reason", word.reason),
                    ];
                    series.add(labels, &words, 1.0)
                })
            },
        )?;
        of_decision(&mut metric)
    }
}

/// Writes the series of one object.
type Writer<'a> = dyn Fn(&mut Series<'_>, &ObjectLabels, &Object) -> fmt::Result + 'a;

/// Labels beside an object's own, and a value.
type Value = (Option<(&'static str, &'static str)>, f64);

/// The metrics of a last decision.
fn of_decision(
    metric: &mut impl FnMut(&str, &str, &Writer<'_>) -> fmt::Result,
) -> Result<(), fmt::Error> {
    let mut decided = |name: &str, help: &str, values: &dyn Fn(&Decided) -> Vec<Value>| {
        metric(name, help, &|series, labels, object| {
            let mut values = object.decided.iter().flat_map(values);
            values.try_for_each(|(label, value)| series.add(labels, label.as_slice(), value))
        })
    };
    decided(
        "decision_info",
        "1 for the reason of the last decision",
        &|decided| vec![(Some(("reason", decided.reason)), 1.0)],
    )?;
    decided(
        "bottleneck_info",
        "1 for the place where requests lose time",
        &|decided| vec![(Some(("bottleneck", decided.bottleneck)), 1.0)],
    )?;
    let limits = "Limits of TTFT and TPOT in the objective";
    decided("objective_limit_seconds", limits, &|decided| {
        let names = [TTFT, TPOT].map(|name| Some(("objective", name)));
        names.into_iter().zip(decided.limits).collect()
    })?;
    let share = "Share of the requests that must keep both limits";
    decided("objective_attainment_ratio", share, &|decided| {
        vec![(None, decided.attainment)]
    })?;
    let band =
        |end: &str| format!("{end} prefill replicas per decode replica that the ratio allows");
    decided("ratio_band_min", &band("Fewest"), &|decided| {
        decided.band.iter().map(|band| (None, band.0)).collect()
    })?;
    decided("ratio_band_max", &band("Most"), &|decided| {
        decided.band.iter().map(|band| (None, band.1)).collect()
    })?;
    let needed = "Prefill replicas per decode replica that the traffic needs";
    decided("ratio_needed", needed, &|decided| {
        decided.traffic.iter().map(|ratio| (None, *ratio)).collect()
    })?;
    decided("gpus_per_replica", "GPUs of one replica", &|decided| {
        let gpus = decided.gpus_per_replica;
        let of = |role: Role| (Some(("role", role.as_str())), f64::from(gpus[role]));
        Role::ALL.into_iter().map(of).collect()
    })
}

/// The series of one metric.
struct Series<'a>(MetricEncoder<'a>);

impl Series<'_> {
    fn add(
        &mut self,
        object: &ObjectLabels,
        labels: &[(&'static str, &'static str)],
        value: f64,
    ) -> fmt::Result {
        let all = Labels { object, labels };
        ConstGauge::new(value).encode(self.0.encode_family(&all)?)
    }
}

/// An object's labels and further ones.
#[derive(Debug)]
struct Labels<'a> {
    object: &'a ObjectLabels,
    labels: &'a [(&'static str, &'static str)],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        self.object.encode(encoder)?;
        self.labels.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "words".to_owned(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn shown(facts: &Facts) -> Vec<String> {
        let mut registry = Registry::default();
        facts.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_condition_is_one_series_and_the_condition_of_others_is_none() {
        let facts = Facts::default();
        let key = ObjectRef::new("llama").within("ns");
        let theirs = condition("NumericTolerations", "False", "GateMissing");
        let of = |status, reason| [condition("ObjectiveMet", status, reason), theirs.clone()];
        facts.set(&key, &of("True", "ObjectiveMet"), None);
        facts.set(&key, &of("False", "ObjectiveMissed"), None);
        let want = "condition_info{namespace=\"ns\",name=\"llama\",condition=\"ObjectiveMet\",status=\"False\",reason=\"ObjectiveMissed\"} 1.0";
        assert_eq!(shown(&facts), [want]);
    }

    #[test]
    fn an_object_that_is_gone_or_was_never_there_has_no_series() {
        let facts = Facts::default();
        assert_eq!(shown(&facts), Vec::<String>::new());
        let key = ObjectRef::new("llama").within("ns");
        facts.set(&key, &[condition("Ready", "True", "Ready")], None);
        assert_eq!(shown(&facts).len(), 1);
        facts.forget(&key);
        assert_eq!(shown(&facts), Vec::<String>::new());
    }
}
