//! Workloads of systems other than Kubernetes' own as observed: their replicas, of one pod or
//! several, by what pd-systems says of them.

use kube::Client;
use pd_api::v1alpha1::{RoleSpec, TargetReference};
use pd_core::Role;
use pd_systems::{observe, place::Place, target::Target};

use super::target::{ObservedTarget, TargetError};
use crate::workload::read::{self, Age};

/// The workload of `side`, as pd-systems takes it.
pub fn target(reference: &TargetReference, side: Role) -> Target {
    Target {
        api_version: reference.api_version.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        role: reference.role.clone(),
        side,
    }
}

/// Reads the workload of `side` in `namespace`.
pub async fn observe(
    client: &Client,
    namespace: &str,
    role: &RoleSpec,
    side: Role,
) -> Result<ObservedTarget, TargetError> {
    let place = read::place(client, namespace, &target(&role.target, side)).await?;
    let pods = read::pods(client, namespace, &place, Age::Cached).await?;
    let seen = observe::observe(&place, &pods);
    let mut state = seen.state;
    let stated = role.gpus_per_replica;
    let stated = stated.and_then(|gpus| u32::try_from(gpus).ok());
    state.gpus_per_replica = stated.unwrap_or(state.gpus_per_replica);
    Ok(ObservedTarget {
        state,
        pod_pattern: pattern(&place, &seen.serving_pods),
        ready_pods: seen.serving_pods,
        gpus_unknown: seen.gpus_unknown.filter(|_| stated.is_none()),
        owner: place.owners.first().map(|owner| {
            let object = &place.object;
            owner.sentence(&object.kind, &object.name)
        }),
        floor: place.floor.replicas,
    })
}

/// RE2 for the names of the pods that serve metrics: past ones too where the system names them by a
/// rule, and otherwise those that serve now. Without any a name that no pod can have, for nothing
/// would match all series without a pod.
fn pattern(place: &Place, serving: &[String]) -> String {
    if let Some(past) = &place.past_pods {
        return past.clone();
    }
    let names: Vec<String> = serving.iter().map(|pod| pod.replace('.', "\\.")).collect();
    match names.as_slice() {
        [] => "-".to_owned(),
        names => format!("({})", names.join("|")),
    }
}
