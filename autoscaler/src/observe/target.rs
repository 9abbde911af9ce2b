//! Workloads as observed: replicas requested, pods that serve, start and leave.
//!
//! Deployments and StatefulSets. A workload's pods are those that its selector matches and that it
//! owns, because selectors of two workloads may overlap while ownership never does.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::core::{GroupVersionKind, Selector, SelectorExt as _};
use pd_api::v1alpha1::{RoleSpec, TargetReference};
use pd_core::{Role, RoleState};
use pd_signals::pods::{KindUnsupported, TargetKind, pod_name_beginning, pod_pattern};
use pd_systems::{
    drain::Leaving,
    owner::{Owner, of_metadata},
    place::OwnedBy,
    victims::Replica,
};

use super::{
    gpus::{GpusUnknown, gpus_per_pod},
    rollout,
    stuck::{CreateFailure, stuck},
};
use crate::{
    cluster::{Cluster, ObjectError, pod_phase::PodPhase, pods::PodFacts},
    placement::member::Member,
    workload::WorkloadError,
};

/// Why a target cannot be scaled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The kind is not one of ours.
    #[error(transparent)]
    KindUnsupported(#[from] KindUnsupported),
    /// A workload of another system is not there, cannot be read or must not be scaled.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// There is no such object.
    #[error("{kind} `{name}` does not exist in namespace `{namespace}`")]
    NotFound {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// It is not known as it is now.
    #[error("{kind} `{name}` cannot be read: {cause}")]
    Unreadable {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The cause.
        cause: ObjectError,
    },
    /// Its selector is of no use.
    #[error("{kind} `{name}` has a selector that cannot be used: {cause}")]
    Selector {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The fault of the selector.
        cause: String,
    },
    /// Its GPUs are to be counted and are not known.
    #[error(
        "{kind} `{name}` {cause}, and spec.budget counts GPUs: state `{role}.gpusPerReplica`, or leave the budget out"
    )]
    GpusUnknown {
        /// The role.
        role: Role,
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The reason.
        cause: GpusUnknown,
    },
}

/// The kind that `target` names.
pub fn kind(target: &TargetReference) -> Result<TargetKind, KindUnsupported> {
    TargetKind::of(&target.api_version, &target.kind)
}

/// Whether `target` is of a system other than Kubernetes' own, and can be scaled.
pub fn is_of_system(target: &TargetReference) -> bool {
    kind(target).is_err() && target.is_supported()
}

/// A workload as observed.
#[derive(Clone, Debug)]
pub struct ObservedTarget {
    /// Replicas for the core.
    pub state: RoleState,
    /// Names of the pods that are ready.
    pub ready_pods: Vec<String>,
    /// RE2 that the names of the workload's pods match, past ones too.
    pub pod_pattern: String,
    /// Why the GPUs of a replica are not known, if they are not; they count as none then.
    pub gpus_unknown: Option<GpusUnknown>,
    /// A sentence on who else sets its replicas, as far as the workload itself shows it.
    pub owner: Option<String>,
    /// Fewest replicas that its system keeps alive.
    pub floor: u32,
    /// Replicas that a deletion cost ranks; none where costs are not heeded, or pods are being
    /// replaced.
    pub ranked: Vec<Replica>,
    /// How its pods leave.
    pub leaving: Leaving,
    /// The placement group that its pods are in.
    pub member: Option<Member>,
}

/// The parts that both kinds have in common.
struct Workload {
    replicas: u32,
    selector: LabelSelector,
    template: PodTemplateSpec,
    uid: String,
    rolling_out: bool,
    create_failure: Option<CreateFailure>,
    /// Who else sets its replicas.
    other: Option<Owner>,
}

/// Condition of a Deployment whose pods cannot be created; its message is the API server's.
const REPLICA_FAILURE: &str = "ReplicaFailure";

impl Workload {
    fn of_deployment(object: Deployment) -> Option<Self> {
        let rolling_out = rollout::deployment(&object);
        let other = other(&object.metadata);
        let conditions = object.status.and_then(|status| status.conditions);
        let failure = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == REPLICA_FAILURE && condition.status == "True");
        let spec = object.spec?;
        Some(Self {
            replicas: replicas(spec.replicas),
            selector: spec.selector,
            template: spec.template,
            uid: object.metadata.uid.unwrap_or_default(),
            rolling_out,
            create_failure: failure.map(|condition| CreateFailure {
                message: condition.message.unwrap_or_default(),
            }),
            other,
        })
    }

    fn of_stateful_set(object: StatefulSet) -> Option<Self> {
        let rolling_out = rollout::stateful_set(&object);
        let other = other(&object.metadata);
        let spec = object.spec?;
        Some(Self {
            replicas: replicas(spec.replicas),
            selector: spec.selector,
            template: spec.template,
            uid: object.metadata.uid.unwrap_or_default(),
            rolling_out,
            create_failure: None,
            other,
        })
    }

    /// The workload as its pods, or the ReplicaSets between, name it.
    fn owner(&self, target: &TargetReference) -> OwnedBy {
        OwnedBy {
            uid: self.uid.clone(),
            name: target.name.clone(),
        }
    }
}

/// Who else sets the replicas of a workload with this metadata.
fn other(metadata: &ObjectMeta) -> Option<Owner> {
    // Plain data: it cannot fail.
    of_metadata(&serde_json::to_value(metadata).unwrap_or_default())
}

/// A missing `replicas` means 1 in both kinds.
fn replicas(stated: Option<i32>) -> u32 {
    u32::try_from(stated.unwrap_or(1)).unwrap_or(0)
}

/// Reads the workload of `role` in `namespace`.
pub async fn observe(
    cluster: &Cluster,
    namespace: &str,
    role: &RoleSpec,
    side: Role,
) -> Result<ObservedTarget, TargetError> {
    let target = &role.target;
    let kind = kind(target)?;
    let workload = read(cluster, namespace, target, kind).await?;
    let pods = pods(cluster, namespace, target, &workload).await?;
    let stated_gpus = role
        .gpus_per_replica
        .and_then(|gpus| u32::try_from(gpus).ok());
    let template = workload.template.spec.as_ref();
    let gpus = match stated_gpus {
        Some(gpus) => Ok(gpus),
        None => template.map_or(Err(GpusUnknown::NoneAsked), gpus_per_pod),
    };
    let mut state = RoleState {
        current: workload.replicas,
        gpus_per_replica: *gpus.as_ref().unwrap_or(&0),
        stuck: stuck(&pods, workload.replicas, workload.create_failure.as_ref()),
        rolling_out: workload.rolling_out,
        ..RoleState::default()
    };
    let ranked = match kind {
        TargetKind::Deployment if !state.rolling_out => ranked(&pods),
        TargetKind::Deployment | TargetKind::StatefulSet => Vec::new(),
    };
    let live = pods.iter().filter(|pod| pod.phase.is_live());
    let member = Member::of(side, live.map(|pod| &*pod.labels));
    let mut ready_pods = Vec::new();
    for pod in pods {
        match pod.phase {
            PodPhase::Ready => {
                state.ready += 1;
                ready_pods.push(pod.name.into_string());
            }
            PodPhase::Starting => state.starting += 1,
            PodPhase::Terminating => state.terminating += 1,
            PodPhase::Ended => {}
        }
    }
    let owner = workload.other.as_ref();
    let owner = owner.map(|owner| owner.sentence(&target.kind, &target.name));
    ready_pods.sort_unstable();
    let pod_pattern = pod_pattern(kind, &target.name, &ready_pods);
    Ok(ObservedTarget {
        state,
        ready_pods,
        pod_pattern,
        gpus_unknown: gpus.err(),
        owner,
        floor: 0,
        member,
        ranked,
        // Plain data: it cannot fail.
        leaving: Leaving::of(
            &serde_json::to_value(&workload.template).unwrap_or_default(),
            side,
        ),
    })
}

/// The pods that a ReplicaSet may remove.
fn ranked(pods: &[PodFacts]) -> Vec<Replica> {
    let live = pods.iter().filter(|pod| pod.phase.is_live());
    let replica = |pod: &PodFacts| Replica {
        pod: pod.name.to_string(),
        is_ready: pod.phase == PodPhase::Ready,
        cost: pod.cost,
    };
    live.map(replica).collect()
}

async fn read(
    cluster: &Cluster,
    namespace: &str,
    target: &TargetReference,
    kind: TargetKind,
) -> Result<Workload, TargetError> {
    let (api_version, kind_name) = kind.type_meta();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let of_kind = GroupVersionKind::gvk(group, version, kind_name);
    let found = match kind {
        TargetKind::Deployment => {
            let found = cluster.object(&of_kind, namespace, &target.name).await;
            found.map(|found| found.and_then(Workload::of_deployment))
        }
        TargetKind::StatefulSet => {
            let found = cluster.object(&of_kind, namespace, &target.name).await;
            found.map(|found| found.and_then(Workload::of_stateful_set))
        }
    };
    let found = found.map_err(|cause| unreadable(target, cause))?;
    found.ok_or_else(|| TargetError::NotFound {
        kind: target.kind.clone(),
        name: target.name.clone(),
        namespace: namespace.to_owned(),
    })
}

fn unreadable(target: &TargetReference, cause: ObjectError) -> TargetError {
    TargetError::Unreadable {
        kind: target.kind.clone(),
        name: target.name.clone(),
        cause,
    }
}

async fn pods(
    cluster: &Cluster,
    namespace: &str,
    target: &TargetReference,
    workload: &Workload,
) -> Result<Vec<PodFacts>, TargetError> {
    let selector: Selector = workload.selector.clone().try_into().map_err(
        |error: kube::core::ParseExpressionError| TargetError::Selector {
            kind: target.kind.clone(),
            name: target.name.clone(),
            cause: error.to_string(),
        },
    )?;
    let beginning = pod_name_beginning(&target.name);
    let own = workload.owner(target);
    let wanted = |pod: &PodFacts| own.owns(&pod.owner) && selector.matches(&pod.labels);
    let found = cluster.pods(namespace, beginning, wanted).await;
    found.map_err(|unseen| unreadable(target, unseen.into()))
}

#[cfg(test)]
mod tests {
    use pd_systems::pod::PodOwner;

    use super::*;

    #[test]
    fn pods_belong_by_owner_and_not_by_label() {
        let target = TargetReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "llama".into(),
            role: None,
        };
        let workload = Workload {
            replicas: 1,
            selector: LabelSelector::default(),
            template: PodTemplateSpec::default(),
            uid: "1".into(),
            rolling_out: false,
            create_failure: None,
            other: None,
        };
        let belongs = |kind: &str, name: &str, uid: &str| {
            let owner = PodOwner {
                kind: kind.into(),
                name: name.into(),
                uid: uid.into(),
            };
            workload.owner(&target).owns(&owner)
        };
        assert!(belongs("ReplicaSet", "llama-7d9f8b", "9"));
        assert!(belongs("StatefulSet", "llama", "1"));
        assert!(!belongs("ReplicaSet", "llama-decode-7d9f8b", "9"));
        assert!(!belongs("StatefulSet", "llama", "2"));
    }
}
