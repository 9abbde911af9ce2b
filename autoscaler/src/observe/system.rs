//! Workloads of systems other than Kubernetes' own as observed: their replicas, of one pod or
//! several, by what pd-systems says of them.

use kube::Client;
use pd_api::v1alpha1::RoleSpec;
use pd_core::Role;
use pd_signals::pods::listed_pattern;
use pd_systems::{kind::Victim, observe, place::Place};

use super::target::{ObservedTarget, TargetError};
use crate::{
    placement::member::Member,
    workload::read::{self, Age},
};

/// Reads the workload of `side` in `namespace`.
pub async fn observe(
    client: &Client,
    namespace: &str,
    role: &RoleSpec,
    side: Role,
) -> Result<ObservedTarget, TargetError> {
    let place = read::place(client, namespace, &role.target.of_side(side)).await?;
    let pods = read::pods(client, namespace, &place, Age::Cached).await?;
    let seen = observe::observe(&place, &pods);
    let live = pods.iter().filter(|pod| pod.is_live());
    let member = Member::of(side, live.map(|pod| &pod.labels));
    let mut state = seen.state;
    let stated = role.gpus_per_replica;
    let stated = stated.and_then(|gpus| u32::try_from(gpus).ok());
    state.gpus_per_replica = stated.unwrap_or(state.gpus_per_replica);
    // Past pods too, where the system names them by a rule.
    let pod_pattern = match &place.past_pods {
        Some(past) => past.clone(),
        None => listed_pattern(&seen.serving_pods),
    };
    Ok(ObservedTarget {
        state,
        pod_pattern,
        ready_pods: seen.serving_pods,
        gpus_unknown: seen.gpus_unknown.filter(|_| stated.is_none()),
        owner: place.owners.first().map(|owner| {
            let object = &place.object;
            owner.sentence(&object.kind, &object.name)
        }),
        floor: place.floor.replicas,
        ranked: if is_ranked(&place) {
            seen.live
        } else {
            Vec::new()
        },
        leaving: place.leaving,
        member,
    })
}

/// Whether a deletion cost decides which replica goes: of several copies each loses its own, and
/// in a rollout the older ones go.
fn is_ranked(place: &Place) -> bool {
    place.victim == Victim::DeletionCost && place.copies <= 1 && !place.rolling_out
}
