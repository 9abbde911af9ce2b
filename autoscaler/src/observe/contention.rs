//! Who else scales a target: an autoscaler of Kubernetes (KEDA makes these too) or another
//! PDAutoscaler. Two masters make replicas jump between two opinions, so we stand back.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use pd_api::v1alpha1::{Mode, PDAutoscaler};
use pd_core::Role;

use crate::cluster::{Cluster, Unseen};

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
    cluster: &Cluster,
    claims: &Claims,
    object: &PDAutoscaler,
) -> Result<Option<String>, Unseen> {
    match claims.older_claimant(object) {
        Some(older) => Ok(Some(older)),
        None => other_autoscaler(cluster, object).await,
    }
}

/// A sentence about the autoscaler of another kind that scales a target of `object`, if there is
/// one. KEDA's comes first, for it makes one of Kubernetes's again when that is deleted.
async fn other_autoscaler(
    cluster: &Cluster,
    object: &PDAutoscaler,
) -> Result<Option<String>, Unseen> {
    let namespace = object.namespace().unwrap_or_default();
    for role in Role::ALL {
        let target = &object.spec.role(role).target;
        let (kind, name) = (target.kind.as_str(), target.name.as_str());
        let by_keda = cluster.scaled_object(&namespace, kind, name).await?;
        let found = match by_keda {
            Some(found) => Some(("ScaledObject", found)),
            None => cluster
                .horizontal_autoscaler(&namespace, kind, name)
                .await?
                .map(|found| ("HorizontalPodAutoscaler", found)),
        };
        if let Some((of_kind, scaler)) = found {
            return Ok(Some(format!(
                "{of_kind} `{scaler}` scales {kind} `{name}` too: delete it, or set spec.mode to Recommend"
            )));
        }
    }
    Ok(None)
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
