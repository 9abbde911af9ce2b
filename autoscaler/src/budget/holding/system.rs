//! GPUs that a workload of a system other than Kubernetes' own holds.
//!
//! One that cannot be read because of what it is (no such object or kind, no right, refused) is not
//! scaled by us, and must not keep others from their GPUs: its pods count by their names, which all
//! these systems begin with the object's. A failure that passes is an error, and nobody grows.

use kube::Client;
use pd_systems::{
    observe::observe,
    place::Place,
    pod::{PodFacts, PodPhase},
    target::Target,
};

use super::{RoleHolding, Surge};
use crate::workload::{
    WorkloadError,
    read::{self, Age},
};

/// Reads what the workload holds now; `stated` are the GPUs of a replica by its PDAutoscaler.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    target: &Target,
    stated: Option<u32>,
) -> Result<RoleHolding, kube::Error> {
    match seen(client, namespace, target, stated).await {
        Ok(holding) => Ok(holding),
        Err(WorkloadError::Unreadable { source, .. }) if !read::is_forbidden(&source) => {
            Err(source)
        }
        Err(_) => {
            let pods = read::pods_of_namespace(client, namespace).await;
            Ok(by_name(&pods?, &target.name, stated))
        }
    }
}

async fn seen(
    client: &Client,
    namespace: &str,
    target: &Target,
    stated: Option<u32>,
) -> Result<RoleHolding, WorkloadError> {
    // The workload first: pods that a change in between makes are in the list or in the replicas.
    let (place, is_observed) = read::place_now(client, namespace, target).await?;
    let pods = read::pods(client, namespace, &place, Age::Now).await?;
    Ok(of(&place, &pods, is_observed, stated))
}

/// The holding of `place`, whose operator has seen its newest version where `is_observed` says so.
fn of(
    place: &Place,
    pods: &[PodFacts],
    is_observed: Option<bool>,
    stated: Option<u32>,
) -> RoleHolding {
    let observed = observe(place, pods);
    let state = observed.state;
    // Its owner could state fewer than the pods have, to get them past the budget.
    let gpus_per_replica = state.gpus_per_replica.max(stated.unwrap_or(0));
    let replicas = state.ready.saturating_add(state.starting);
    let own = || pods.iter().filter(|pod| place.pods.has(pod));
    RoleHolding {
        requested: place.desired,
        gpus_per_replica,
        surge: Surge::None,
        existing_gpus: gpus(own(), PodPhase::is_live)
            .max(replicas.saturating_mul(gpus_per_replica)),
        leaving_gpus: gpus(own(), |phase| phase == PodPhase::Terminating),
        unknown: observed.gpus_unknown.is_some() && stated.is_none(),
        is_settled: is_observed.unwrap_or(replicas == place.desired),
    }
}

/// GPUs of the pods in a phase.
fn gpus<'a>(
    pods: impl Iterator<Item = &'a PodFacts>,
    is_counted: impl Fn(PodPhase) -> bool,
) -> u32 {
    pods.filter(|pod| is_counted(pod.phase))
        .map(|pod| *pod.gpus.as_ref().unwrap_or(&0))
        .fold(0, u32::saturating_add)
}

/// The holding by the pods that are named after the object alone.
fn by_name(pods: &[PodFacts], name: &str, stated: Option<u32>) -> RoleHolding {
    let own = || {
        pods.iter().filter(|pod| {
            let rest = pod.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('-'))
        })
    };
    RoleHolding {
        gpus_per_replica: stated.unwrap_or(0),
        existing_gpus: gpus(own(), PodPhase::is_live),
        leaving_gpus: gpus(own(), |phase| phase == PodPhase::Terminating),
        is_settled: true,
        ..RoleHolding::default()
    }
}

#[cfg(test)]
mod tests {
    use pd_core::Role;
    use pd_systems::target::Near;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// A LeaderWorkerSet of two pods a replica, each with one GPU.
    fn place(replicas: u32) -> Place {
        let container = json!({ "resources": { "limits": { "nvidia.com/gpu": 1 } } });
        let object = json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
            "metadata": { "name": "llama", "namespace": "ns", "uid": "1", "resourceVersion": "1" },
            "spec": { "replicas": replicas, "leaderWorkerTemplate": {
                "size": 2, "workerTemplate": { "spec": { "containers": [container] } } } },
        });
        let target = Target {
            api_version: "leaderworkerset.x-k8s.io/v1".to_owned(),
            kind: "LeaderWorkerSet".to_owned(),
            name: "llama".to_owned(),
            role: None,
            side: Role::Decode,
        };
        let scale = json!({ "spec": { "replicas": replicas }, "status": {
            "replicas": replicas, "selector": "leaderworkerset.sigs.k8s.io/name=llama" } });
        let near = Near {
            object: &object,
            scale: Some(&scale),
            related: &[],
        };
        let system = pd_systems::system(&target.api_version, &target.kind);
        system.resolve(&target, &near).unwrap()
    }

    /// Pod `worker` of group `group`.
    fn pod(group: u32, worker: u32, leaves: bool) -> Value {
        let mut pod = json!({
            "metadata": { "name": format!("llama-{group}-{worker}"), "labels": {
                "leaderworkerset.sigs.k8s.io/name": "llama",
                "leaderworkerset.sigs.k8s.io/group-index": group.to_string(),
                "leaderworkerset.sigs.k8s.io/worker-index": worker.to_string() } },
            "spec": { "containers": [
                { "resources": { "limits": { "nvidia.com/gpu": "1" } } }] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        if leaves {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        pod
    }

    fn facts(pods: &[(u32, u32, bool)]) -> Vec<PodFacts> {
        let pods = pods.iter();
        pods.map(|(group, worker, leaves)| PodFacts::of(&pod(*group, *worker, *leaves)))
            .collect()
    }

    #[rstest]
    #[case::steady(1, &[(0, 0, false), (0, 1, false)], 2, true)]
    #[case::growing(2, &[(0, 0, false), (0, 1, false)], 4, false)]
    #[case::a_replica_leaves(
        1, &[(0, 0, false), (0, 1, false), (1, 0, true), (1, 1, true)], 4, true,
    )]
    #[case::a_pod_of_a_replica_leaves(1, &[(0, 0, false), (0, 1, true)], 3, true)]
    #[case::more_exist_than_are_requested(
        1, &[(0, 0, false), (0, 1, false), (1, 0, false), (1, 1, false)], 4, false,
    )]
    #[case::at_zero(0, &[], 0, true)]
    fn every_pod_of_a_replica_counts(
        #[case] replicas: u32,
        #[case] pods: &[(u32, u32, bool)],
        #[case] gpus: u32,
        #[case] is_settled: bool,
    ) {
        let holding = of(&place(replicas), &facts(pods), None, None);
        assert_eq!(holding.at(replicas), gpus);
        assert_eq!(holding.is_settled, is_settled);
    }

    #[rstest]
    #[case::fewer(1, 2)]
    #[case::more(4, 4)]
    fn no_owner_states_fewer_gpus_than_a_replica_has(#[case] stated: u32, #[case] gpus: u32) {
        let pods = facts(&[(0, 0, false), (0, 1, false)]);
        let holding = of(&place(1), &pods, None, Some(stated));
        assert_eq!(holding.at(1), gpus);
    }

    #[test]
    fn pods_of_a_workload_that_is_gone_count_by_their_names() {
        let pods = facts(&[(0, 0, false), (0, 1, true)]);
        assert_eq!(by_name(&pods, "llama", Some(8)).at(0), 2);
        assert_eq!(by_name(&pods, "llam", None).at(0), 0);
        assert!(by_name(&pods, "llama", None).is_settled);
    }
}
