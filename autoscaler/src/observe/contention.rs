//! Who else scales a target: an autoscaler of Kubernetes (KEDA makes these too) or another
//! PDAutoscaler. Two masters make replicas jump between two opinions, so we stand back.

use std::collections::HashMap;

use k8s_openapi::{
    api::autoscaling::v2::HorizontalPodAutoscaler, apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::{Mode, PDAutoscaler};
use pd_core::Role;

use crate::answer::within_limit;

/// The PDAutoscaler that may scale each workload: the oldest that names it, and among equally old
/// ones the first by name.
#[derive(Debug, Default)]
pub struct Claims {
    oldest: HashMap<Claim, Claimant>,
}

/// A workload: namespace, kind and name.
type Claim = (String, String, String);

/// A PDAutoscaler: when it was made, and its name.
type Claimant = (Option<Time>, String);

fn claims(object: &PDAutoscaler) -> [Claim; 2] {
    let namespace = object.namespace().unwrap_or_default();
    Role::ALL.map(|role| {
        let (kind, name) = object.spec.role(role).target.replicas(role);
        (namespace.clone(), kind, name)
    })
}

fn claimant(object: &PDAutoscaler) -> Claimant {
    (object.creation_timestamp(), object.name_any())
}

impl Claims {
    /// The claims of `objects`. Those that write nothing claim nothing.
    pub fn of<'a>(objects: impl Iterator<Item = &'a PDAutoscaler>) -> Self {
        let mut oldest: HashMap<Claim, Claimant> = HashMap::new();
        for object in objects.filter(|object| object.spec.mode == Mode::Auto) {
            let claimant = claimant(object);
            for claim in claims(object) {
                let known = oldest.entry(claim).or_insert_with(|| claimant.clone());
                if claimant < *known {
                    known.clone_from(&claimant);
                }
            }
        }
        Self { oldest }
    }

    /// A sentence about the older PDAutoscaler that scales a target of `object`, if there is one.
    pub fn older_claimant(&self, object: &PDAutoscaler) -> Option<String> {
        let own = claimant(object);
        claims(object).into_iter().find_map(|claim| {
            let (_, oldest) = self.oldest.get(&claim).filter(|oldest| **oldest < own)?;
            let (_, kind, name) = claim;
            Some(format!(
                "PDAutoscaler `{oldest}` is older and scales {kind} `{name}` too: give each its own workload"
            ))
        })
    }
}

/// A sentence about who else scales a target of `object`, if anyone does.
pub async fn contender(
    client: &Client,
    claims: &Claims,
    object: &PDAutoscaler,
) -> Result<Option<String>, kube::Error> {
    match claims.older_claimant(object) {
        Some(older) => Ok(Some(older)),
        None => horizontal_autoscaler(client, object).await,
    }
}

/// A sentence about the autoscaler of Kubernetes that scales a target of `object`, if there is one.
async fn horizontal_autoscaler(
    client: &Client,
    object: &PDAutoscaler,
) -> Result<Option<String>, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let targets = Role::ALL.map(|role| &object.spec.role(role).target);
    let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), &namespace);
    // From the API server's cache, as the pods are: an autoscaler of a moment ago is soon enough.
    let params = ListParams::default().match_any();
    let autoscalers = within_limit(api.list(&params)).await?;
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
    fn the_oldest_claimant_keeps_a_shared_target() {
        let older = object("b", "2026-01-01T00:00:00Z", "shared");
        let younger = object("a", "2026-01-02T00:00:00Z", "shared");
        let apart = object("c", "2026-01-03T00:00:00Z", "own");
        let claims = Claims::of([&younger, &older, &apart].into_iter());
        assert_eq!(claims.older_claimant(&older), None);
        assert_eq!(claims.older_claimant(&apart), None);
        let text = claims.older_claimant(&younger).unwrap();
        assert!(text.contains("`b`") && text.contains("`shared`"), "{text}");
    }

    #[test]
    fn an_object_that_writes_nothing_claims_nothing() {
        let younger = object("a", "2026-01-02T00:00:00Z", "shared");
        for mode in [Mode::Recommend, Mode::Off] {
            let mut older = object("b", "2026-01-01T00:00:00Z", "shared");
            older.spec.mode = mode;
            let claims = Claims::of([&younger, &older].into_iter());
            assert_eq!(claims.older_claimant(&younger), None, "{mode:?}");
        }
    }

    #[test]
    fn of_two_made_together_the_first_by_name_keeps_it() {
        let first = object("a", "2026-01-01T00:00:00Z", "shared");
        let second = object("b", "2026-01-01T00:00:00Z", "shared");
        let claims = Claims::of([&second, &first].into_iter());
        assert_eq!(claims.older_claimant(&first), None);
        assert!(claims.older_claimant(&second).is_some());
    }
}
