//! Who else scales a target: an autoscaler of Kubernetes (KEDA makes these too) or another
//! PDAutoscaler. Two masters make replicas jump between two opinions, so we stand back.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::{PDAutoscaler, TargetReference};
use pd_core::Role;

/// A sentence that says who else scales a target of `object`, if anyone does.
///
/// Among PDAutoscalers the oldest keeps the target; equally old ones go by name.
pub async fn contender(
    client: &Client,
    object: &PDAutoscaler,
    others: &[PDAutoscaler],
) -> Result<Option<String>, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let targets = Role::ALL.map(|role| &object.spec.role(role).target);
    if let Some(text) = elder_pdautoscaler(object, others) {
        return Ok(Some(text));
    }
    let autoscalers = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default().match_any())
        .await?;
    Ok(autoscalers.items.iter().find_map(|autoscaler| {
        let scaled = &autoscaler.spec.as_ref()?.scale_target_ref;
        let target = targets.into_iter().find(|target| {
            scaled.kind == target.kind && scaled.name == target.name
        })?;
        Some(format!(
            "HorizontalPodAutoscaler `{}` scales {} `{}` too: delete it, or set spec.mode to Recommend",
            autoscaler.name_any(),
            target.kind,
            target.name
        ))
    }))
}

fn elder_pdautoscaler(object: &PDAutoscaler, others: &[PDAutoscaler]) -> Option<String> {
    let age = |object: &PDAutoscaler| (object.creation_timestamp(), object.name_any());
    let targets = |object: &PDAutoscaler| -> Vec<TargetReference> {
        Role::ALL
            .into_iter()
            .map(|role| object.spec.role(role).target.clone())
            .collect()
    };
    let mine = targets(object);
    others
        .iter()
        .filter(|other| other.namespace() == object.namespace() && age(other) < age(object))
        .find_map(|other| {
            let shared = targets(other)
                .into_iter()
                .find(|target| mine.contains(target))?;
            Some(format!(
                "PDAutoscaler `{}` is older and scales {} `{}` too: give each its own workload",
                other.name_any(),
                shared.kind,
                shared.name
            ))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, created: &str, prefill: &str) -> PDAutoscaler {
        let role = |target: &str| json!({"target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}, "maxReplicas": 4});
        serde_json::from_value(json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
            "metadata": {"name": name, "namespace": "ns", "creationTimestamp": created},
            "spec": {"prefill": role(prefill), "decode": role(&format!("{name}-decode")),
                "objective": {"ttft": {"target": "500ms"}, "tpot": {"target": "50ms"}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_elder_keeps_a_shared_target() {
        let elder = object("b", "2026-01-01T00:00:00Z", "shared");
        let younger = object("a", "2026-01-02T00:00:00Z", "shared");
        let all = [elder.clone(), younger.clone()];
        assert_eq!(elder_pdautoscaler(&elder, &all), None);
        let text = elder_pdautoscaler(&younger, &all).unwrap();
        assert!(text.contains("`b`") && text.contains("`shared`"), "{text}");
    }
}
