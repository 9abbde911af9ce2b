//! Who else scales a target: an autoscaler of Kubernetes (KEDA makes these too) or another
//! PDAutoscaler. Two masters make replicas jump between two opinions, so we stand back.

use std::collections::HashMap;

use k8s_openapi::{
    api::autoscaling::v2::HorizontalPodAutoscaler, apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::Role;

/// Which PDAutoscaler has a right to which workload: the oldest that names it, and among equally old
/// ones the first by name.
#[derive(Debug, Default)]
pub struct Claims {
    eldest: HashMap<Claim, Claimant>,
}

/// A workload: namespace, kind and name.
type Claim = (String, String, String);

/// A PDAutoscaler: when it was made, and its name.
type Claimant = (Option<Time>, String);

fn claims(object: &PDAutoscaler) -> [Claim; 2] {
    let namespace = object.namespace().unwrap_or_default();
    Role::ALL.map(|role| {
        let target = &object.spec.role(role).target;
        (namespace.clone(), target.kind.clone(), target.name.clone())
    })
}

fn claimant(object: &PDAutoscaler) -> Claimant {
    (object.creation_timestamp(), object.name_any())
}

impl Claims {
    /// The claims of `objects`.
    pub fn of<'a>(objects: impl Iterator<Item = &'a PDAutoscaler>) -> Self {
        let mut eldest: HashMap<Claim, Claimant> = HashMap::new();
        for object in objects {
            let claimant = claimant(object);
            for claim in claims(object) {
                let known = eldest.entry(claim).or_insert_with(|| claimant.clone());
                if claimant < *known {
                    known.clone_from(&claimant);
                }
            }
        }
        Self { eldest }
    }

    /// A sentence that says which older PDAutoscaler scales a target of `object`, if one does.
    pub fn elder_than(&self, object: &PDAutoscaler) -> Option<String> {
        let own = claimant(object);
        claims(object).into_iter().find_map(|claim| {
            let (_, elder) = self.eldest.get(&claim).filter(|elder| **elder < own)?;
            let (_, kind, name) = claim;
            Some(format!(
                "PDAutoscaler `{elder}` is older and scales {kind} `{name}` too: give each its own workload"
            ))
        })
    }
}

/// A sentence that says which autoscaler of Kubernetes scales a target of `object`, if one does.
pub async fn horizontal_autoscaler(
    client: &Client,
    object: &PDAutoscaler,
) -> Result<Option<String>, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let targets = Role::ALL.map(|role| &object.spec.role(role).target);
    let autoscalers = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), &namespace)
        .list(&ListParams::default().match_any())
        .await?;
    Ok(autoscalers.items.iter().find_map(|autoscaler| {
        let scaled = &autoscaler.spec.as_ref()?.scale_target_ref;
        let target = targets
            .into_iter()
            .find(|target| scaled.kind == target.kind && scaled.name == target.name)?;
        Some(format!(
            "HorizontalPodAutoscaler `{}` scales {} `{}` too: delete it, or set spec.mode to Recommend",
            autoscaler.name_any(),
            target.kind,
            target.name
        ))
    }))
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
        let apart = object("c", "2026-01-03T00:00:00Z", "own");
        let claims = Claims::of([&younger, &elder, &apart].into_iter());
        assert_eq!(claims.elder_than(&elder), None);
        assert_eq!(claims.elder_than(&apart), None);
        let text = claims.elder_than(&younger).unwrap();
        assert!(text.contains("`b`") && text.contains("`shared`"), "{text}");
    }

    #[test]
    fn of_two_made_together_the_first_by_name_keeps_it() {
        let first = object("a", "2026-01-01T00:00:00Z", "shared");
        let second = object("b", "2026-01-01T00:00:00Z", "shared");
        let claims = Claims::of([&second, &first].into_iter());
        assert_eq!(claims.elder_than(&first), None);
        assert!(claims.elder_than(&second).is_some());
    }
}
