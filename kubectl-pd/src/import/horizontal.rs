//! A `HorizontalPodAutoscaler` as one role: target, bounds and behavior are carried over.
//!
//! Its metrics are not: a `HorizontalPodAutoscaler` follows a number per pod, a PDAutoscaler
//! follows the latency objective, and reads the engine's metrics itself. Each metric is named in a
//! remark.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use serde_json::Value;

use super::{
    Fate, ImportError, Remark, field_error, name_source,
    role::{RoleImport, target_of},
    select::{name_of, namespace_of, of_kind},
};

/// The kind.
pub const KIND: &str = "HorizontalPodAutoscaler";

/// The API group.
const GROUP: &str = "autoscaling";

/// Remark about a minimum of 0.
const AT_ZERO: &str = "both roles go to zero together or not at all: minReplicas is 1; for zero state spec.scaleToZero with a wakeSignal";

/// The role that `object` scales.
pub fn role(object: &Value) -> Result<RoleImport, ImportError> {
    let remedy = "give a HorizontalPodAutoscaler of autoscaling/v2";
    of_kind(object, GROUP, KIND, remedy)?;
    let from = format!("{KIND} `{}`", name_of(object));
    let spec = &object["spec"];
    let target = target_of(&from, "spec.scaleTargetRef", &spec["scaleTargetRef"])?;
    let Some(max) = spec["maxReplicas"].as_i64() else {
        return Err(field_error(
            &from,
            "spec.maxReplicas",
            "unset",
            "give the most replicas",
        ));
    };
    let min = spec["minReplicas"].as_i64().unwrap_or(1);
    let mut role = RoleImport {
        namespace: namespace_of(object),
        has_hpa: true,
        behavior: parsed(&from, "spec.behavior", &spec["behavior"])?,
        ..RoleImport::of_target(from, target)
    };
    role.bound(
        ("spec.minReplicas", min),
        ("spec.maxReplicas", max),
        AT_ZERO,
    )?;
    role.remarks.extend(metrics(spec));
    name_source(&mut role.remarks, &role.from);
    Ok(role)
}

/// The behavior at `field`.
pub(super) fn parsed(
    from: &str,
    field: &str,
    behavior: &Value,
) -> Result<Option<HorizontalPodAutoscalerBehavior>, ImportError> {
    if behavior.is_null() {
        return Ok(None);
    }
    serde_json::from_value(behavior.clone())
        .map(Some)
        .map_err(|error| {
            let remedy = format!("give scaleUp and scaleDown as autoscaling/v2 has them ({error})");
            field_error(from, field, behavior, &remedy)
        })
}

fn metrics(spec: &Value) -> Vec<Remark> {
    let followed = "replicas follow the latency objective here, by the engine's own metrics";
    let mut remarks = Vec::new();
    for (index, metric) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        let field = format!("spec.metrics[{index}]");
        remarks.push(Remark::new(Fate::Dropped, field, shown(metric), followed));
    }
    if let Some(percent) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let field = "spec.targetCPUUtilizationPercentage";
        remarks.push(Remark::new(Fate::Dropped, field, percent, followed));
    }
    remarks
}

/// A metric in a few words: its type, its name and the number that it is held to.
fn shown(metric: &Value) -> String {
    let kind = metric["type"].as_str().unwrap_or("metric");
    let mut letters = kind.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let key: String = first.into_iter().chain(letters).collect();
    let of = &metric[key.as_str()];
    let name = of["name"].as_str().or(of["metric"]["name"].as_str());
    let target = &of["target"];
    let number = ["averageUtilization", "averageValue", "value"]
        .into_iter()
        .find_map(|field| match &target[field] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        });
    let form = target["type"].as_str();
    let words = [Some(kind), name, form, number.as_deref()];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn hpa() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": KIND,
            "metadata": { "name": "llama-prefill", "namespace": "inference" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "llama-prefill" },
                "minReplicas": 2, "maxReplicas": 16,
            },
        })
    }

    #[test]
    fn target_and_bounds_are_carried_over() {
        let role = role(&hpa()).unwrap();
        assert_eq!(role.target.name, "llama-prefill");
        assert_eq!((role.min_replicas, role.max_replicas), (2, Some(16)));
        assert_eq!(role.namespace.as_deref(), Some("inference"));
        assert_eq!(role.remarks, []);
    }

    #[rstest]
    #[case::resource(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}), "Resource cpu Utilization 80")]
    #[case::pods(json!({"type": "Pods", "pods": {"metric": {"name": "vllm:num_requests_waiting"}, "target": {"type": "AverageValue", "averageValue": "5"}}}), "Pods vllm:num_requests_waiting AverageValue 5")]
    #[case::external(json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}}), "External queue Value 30")]
    #[case::container(json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "vllm", "target": {"type": "Utilization", "averageUtilization": 60}}}), "ContainerResource memory Utilization 60")]
    #[case::of_a_later_version(json!({"type": "Odd"}), "Odd")]
    fn every_metric_is_named_and_dropped(#[case] metric: Value, #[case] want: &str) {
        let mut object = hpa();
        object["spec"]["metrics"] = json!([metric]);
        let remarks = role(&object).unwrap().remarks;
        assert_eq!(remarks.len(), 1);
        assert_eq!(
            (remarks[0].fate, remarks[0].value.as_str()),
            (Fate::Dropped, want)
        );
        assert_eq!(
            remarks[0].field,
            "spec.metrics[0] of HorizontalPodAutoscaler `llama-prefill`"
        );
    }

    #[test]
    fn a_minimum_of_zero_becomes_one_with_a_remark() {
        let mut object = hpa();
        object["spec"]["minReplicas"] = json!(0);
        let role = role(&object).unwrap();
        assert_eq!(role.min_replicas, 1);
        assert!(
            role.remarks[0].remark.contains("scaleToZero"),
            "{:?}",
            role.remarks
        );
    }

    #[rstest]
    #[case::no_maximum("/spec/maxReplicas", Value::Null, "spec.maxReplicas `unset`")]
    #[case::no_target("/spec/scaleTargetRef/name", json!(""), "spec.scaleTargetRef.name `unset`")]
    #[case::not_scaled("/spec/scaleTargetRef/kind", json!("DaemonSet"), "`DaemonSet of apps/v1`")]
    #[case::other_kind("/kind", json!("ScaledObject"), "is no HorizontalPodAutoscaler")]
    #[case::behavior("/spec/behavior", json!({"scaleUp": {"policies": 3}}), "spec.behavior")]
    #[case::crossed("/spec/minReplicas", json!(17), "spec.minReplicas `17`")]
    fn faults_are_named(#[case] pointer: &str, #[case] value: Value, #[case] want: &str) {
        let mut object = hpa();
        object["spec"]["behavior"] = Value::Null;
        *object.pointer_mut(pointer).unwrap() = value;
        let error = role(&object).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn the_version_before_has_one_metric() {
        let mut object = hpa();
        object["apiVersion"] = json!("autoscaling/v1");
        object["spec"]["targetCPUUtilizationPercentage"] = json!(70);
        let role = role(&object).unwrap();
        assert_eq!(role.remarks[0].value, "70");
    }
}
