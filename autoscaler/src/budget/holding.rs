//! GPUs that the two workloads of a service hold, read from the API server itself and from no
//! cache: a grant is lowered, and a replica requested, by nothing older than this.
//!
//! Pods are found by the name of their owner, so that those of a workload that was deleted count
//! until they are gone.

mod system;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Pod, PodSpec},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams};
use pd_core::{PerRole, Role, budget::ledger::greatest_common_divisor};
use pd_systems::place::is_replica_set_of;
use serde::de::DeserializeOwned;

use super::members::Service;
use crate::{
    answer::within_limit,
    cluster::pod_phase::{PodPhase, pod_phase},
    observe::gpus::gpus_per_pod,
};

/// Pods beyond the replicas requested that a rollout may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Surge {
    #[default]
    None,
    Pods(u32),
    Percent(u32),
}

impl Surge {
    /// The default of a Deployment.
    const DEFAULT: Self = Self::Percent(25);

    fn of(deployment: &Deployment) -> Self {
        let strategy = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.as_ref());
        let Some(strategy) = strategy else {
            return Self::DEFAULT;
        };
        if strategy.type_.as_deref() == Some("Recreate") {
            return Self::None;
        }
        let rolling = strategy.rolling_update.as_ref();
        match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
            None => Self::DEFAULT,
            Some(IntOrString::Int(pods)) => Self::Pods(u32::try_from(*pods).unwrap_or(0)),
            Some(IntOrString::String(text)) => {
                let percent = text
                    .strip_suffix('%')
                    .and_then(|percent| percent.parse().ok());
                percent.map_or(Self::DEFAULT, Self::Percent)
            }
        }
    }

    /// Pods beside `replicas`; a percentage is rounded up, as Deployments do.
    fn beside(self, replicas: u32) -> u32 {
        match self {
            _ if replicas == 0 => 0,
            Self::None => 0,
            Self::Pods(pods) => pods,
            Self::Percent(percent) => {
                let pods = (u64::from(replicas) * u64::from(percent)).div_ceil(100);
                u32::try_from(pods).unwrap_or(u32::MAX)
            }
        }
    }
}

/// One role's workload and pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RoleHolding {
    requested: u32,
    gpus_per_replica: u32,
    surge: Surge,
    /// GPUs of pods that are not on their way out.
    existing_gpus: u32,
    /// GPUs of pods on their way out.
    leaving_gpus: u32,
    /// Nothing says how many GPUs a replica holds.
    unknown: bool,
    /// The workload's controller has seen the replicas requested.
    is_settled: bool,
}

impl RoleHolding {
    /// GPUs at the worst moment while `replicas` are requested, without any other write. Pods
    /// beyond the replicas requested now are on their way out, whatever is requested next.
    fn at(&self, replicas: u32) -> u32 {
        let gpus = |replicas: u32| replicas.saturating_mul(self.gpus_per_replica);
        let kept = gpus(replicas.min(self.requested));
        let going = self.existing_gpus.saturating_sub(kept);
        let with_surge = gpus(replicas.saturating_add(self.surge.beside(replicas)));
        let with_others = gpus(replicas)
            .saturating_add(going)
            .saturating_add(self.leaving_gpus);
        with_others.max(with_surge)
    }
}

/// Both roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding(PerRole<RoleHolding>);

impl Holding {
    /// GPUs that exist or are requested, or that a rollout may make of it.
    pub fn gpus(&self) -> u32 {
        self.at(self.requested())
    }

    /// GPUs at the worst moment while `replicas` are requested.
    pub fn at(&self, replicas: PerRole<u32>) -> u32 {
        let of = |role: Role| self.0[role].at(replicas[role]);
        Role::ALL.into_iter().map(of).fold(0, u32::saturating_add)
    }

    /// GPUs of `replicas` and their surge, when nothing else exists.
    pub fn cost(&self, replicas: PerRole<u32>) -> u32 {
        let alone = self.0.map(|role| RoleHolding {
            existing_gpus: 0,
            leaving_gpus: 0,
            ..role
        });
        Self(alone).at(replicas)
    }

    /// GPUs of the surge that `replicas` may have.
    pub fn surge(&self, replicas: PerRole<u32>) -> u32 {
        let of = |role: Role| {
            let surge = self.0[role].surge.beside(replicas[role]);
            surge.saturating_mul(self.0[role].gpus_per_replica)
        };
        Role::ALL.into_iter().map(of).fold(0, u32::saturating_add)
    }

    /// Replicas requested.
    pub fn requested(&self) -> PerRole<u32> {
        self.0.map(|role| role.requested)
    }

    /// GPUs of one replica.
    pub fn gpus_per_replica(&self) -> PerRole<u32> {
        self.0.map(|role| role.gpus_per_replica)
    }

    /// The same with surges that are not kept free.
    #[must_use]
    pub fn without_surge(self) -> Self {
        Self(self.0.map(|role| RoleHolding {
            surge: Surge::None,
            ..role
        }))
    }

    /// A role whose replicas hold nobody knows how many GPUs.
    pub fn unknown(&self) -> Option<Role> {
        Role::ALL.into_iter().find(|&role| self.0[role].unknown)
    }

    /// Whether the workloads' controllers have seen the replicas requested, so that none of them
    /// makes a pod for a request of before.
    pub fn is_settled(&self) -> bool {
        Role::ALL.into_iter().all(|role| self.0[role].is_settled)
    }

    /// Whether nothing exists and nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.gpus() == 0
            && self.requested()
                == PerRole {
                    prefill: 0,
                    decode: 0,
                }
    }
}

/// Reads what `service` holds now.
pub async fn read(client: &Client, service: &Service) -> Result<Holding, kube::Error> {
    // The workloads first: pods that a change in between makes are in the list or in the replicas.
    let (prefill, decode) = futures::try_join!(
        workload(client, service, Role::Prefill),
        workload(client, service, Role::Decode),
    )?;
    let mut roles = PerRole { prefill, decode };
    let own = Role::ALL
        .into_iter()
        .filter_map(|role| Some((role, service.own(role)?)));
    let own: Vec<(Role, (&str, &str))> = own.collect();
    if own.is_empty() {
        return Ok(Holding(roles));
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &service.namespace);
    let pods = within_limit(pods.list(&ListParams::default())).await?.items;
    for (role, (kind, name)) in own {
        let stated = service.gpus[role];
        for pod in pods.iter().filter(|pod| belongs(pod, kind, name)) {
            let gpus = pod.spec.as_ref().and_then(|spec| gpus_per_pod(spec).ok());
            let gpus = gpus.unwrap_or(0).max(stated.unwrap_or(0));
            match pod_phase(pod) {
                PodPhase::Ready | PodPhase::Starting => roles[role].existing_gpus += gpus,
                PodPhase::Terminating => roles[role].leaving_gpus += gpus,
                PodPhase::Ended => {}
            }
        }
    }
    Ok(Holding(roles))
}

async fn workload(
    client: &Client,
    service: &Service,
    role: Role,
) -> Result<RoleHolding, kube::Error> {
    let (namespace, stated) = (service.namespace.as_str(), service.gpus[role]);
    let Some((kind, name)) = service.own(role) else {
        return system::read(client, namespace, &service.target(role), stated).await;
    };
    let client = client.clone();
    let found = if kind == "StatefulSet" {
        let api = Api::<StatefulSet>::namespaced(client, namespace);
        named(&api, name).await?.map(|object| {
            let observed = object.status.and_then(|status| status.observed_generation);
            let spec = object.spec.unwrap_or_default();
            let template = spec.template.spec;
            of(
                &object.metadata,
                observed,
                spec.replicas,
                template.as_ref(),
                stated,
            )
        })
    } else {
        let api = Api::<Deployment>::namespaced(client, namespace);
        named(&api, name).await?.map(|object| {
            let surge = Surge::of(&object);
            let observed = object.status.and_then(|status| status.observed_generation);
            let spec = object.spec.unwrap_or_default();
            let template = spec.template.spec;
            let found = of(
                &object.metadata,
                observed,
                spec.replicas,
                template.as_ref(),
                stated,
            );
            RoleHolding { surge, ..found }
        })
    };
    Ok(found.unwrap_or(RoleHolding {
        gpus_per_replica: stated.unwrap_or(0),
        is_settled: true,
        ..RoleHolding::default()
    }))
}

/// The object called `name`, from a list: to read single workloads is no right of ours.
async fn named<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = within_limit(api.list(&params)).await?.items;
    let mut found = found.into_iter();
    Ok(found.find(|object| object.meta().name.as_deref() == Some(name)))
}

/// The template knows better than its owner how many GPUs a replica holds, where it states any:
/// who could state fewer would get them past the budget.
fn of(
    metadata: &ObjectMeta,
    observed: Option<i64>,
    replicas: Option<i32>,
    template: Option<&PodSpec>,
    stated: Option<u32>,
) -> RoleHolding {
    let read = template.and_then(|spec| gpus_per_pod(spec).ok());
    RoleHolding {
        requested: u32::try_from(replicas.unwrap_or(1)).unwrap_or(0),
        gpus_per_replica: read.unwrap_or(0).max(stated.unwrap_or(0)),
        unknown: read.is_none() && stated.is_none(),
        is_settled: observed.unwrap_or(0) >= metadata.generation.unwrap_or(0),
        ..RoleHolding::default()
    }
}

/// Whether the pod is of the workload of that kind and name.
fn belongs(pod: &Pod, kind: &str, name: &str) -> bool {
    let mut owners = pod.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true));
    owner.is_some_and(|owner| match owner.kind.as_str() {
        "ReplicaSet" => kind == "Deployment" && is_replica_set_of(&owner.name, name),
        found => found == kind && owner.name == name,
    })
}

/// The greatest number of GPUs that both `prefill` and `decode` are multiples of; 1 of none.
pub fn unit(gpus_per_replica: PerRole<u32>) -> u32 {
    greatest_common_divisor(gpus_per_replica.prefill, gpus_per_replica.decode).max(1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::default(json!({}), 1, 1)]
    #[case::default_rounds_up(json!({}), 5, 2)]
    #[case::none(json!({ "strategy": { "rollingUpdate": { "maxSurge": 0 } } }), 5, 0)]
    #[case::pods(json!({ "strategy": { "rollingUpdate": { "maxSurge": 3 } } }), 5, 3)]
    #[case::percent(json!({ "strategy": { "rollingUpdate": { "maxSurge": "100%" } } }), 5, 5)]
    #[case::recreate(json!({ "strategy": { "type": "Recreate" } }), 5, 0)]
    #[case::at_zero(json!({}), 0, 0)]
    fn surges_are_those_of_the_strategy(
        #[case] change: Value,
        #[case] replicas: u32,
        #[case] want: u32,
    ) {
        let mut spec = json!({ "selector": {}, "template": {} });
        for (key, value) in change.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let deployment: Deployment = serde_json::from_value(json!({ "spec": spec })).unwrap();
        assert_eq!(Surge::of(&deployment).beside(replicas), want);
    }

    #[rstest]
    #[case::steady(4, 8, 0, 0, 4, 8)]
    #[case::growing(2, 4, 0, 0, 4, 8)]
    #[case::leaving_pods_make_no_room(2, 4, 4, 0, 4, 12)]
    #[case::more_exist_than_are_requested(2, 8, 0, 0, 2, 8)]
    #[case::pods_that_will_leave_make_no_room(2, 8, 0, 0, 4, 12)]
    #[case::they_are_some_of_those_that_leave(4, 8, 0, 0, 2, 8)]
    #[case::a_rollout_may_surge(4, 8, 0, 1, 4, 10)]
    #[case::the_surge_is_there_already(4, 10, 0, 1, 4, 10)]
    #[case::at_zero(0, 0, 2, 1, 0, 2)]
    fn the_worst_moment_counts(
        #[case] requested: u32,
        #[case] existing_gpus: u32,
        #[case] leaving_gpus: u32,
        #[case] surge: u32,
        #[case] replicas: u32,
        #[case] want: u32,
    ) {
        let role = RoleHolding {
            requested,
            gpus_per_replica: 2,
            surge: Surge::Pods(surge),
            existing_gpus,
            leaving_gpus,
            ..RoleHolding::default()
        };
        assert_eq!(role.at(replicas), want);
    }

    #[rstest]
    #[case("ReplicaSet", "llama-7d9f8b", "Deployment", true)]
    #[case("ReplicaSet", "llama-decode-7d9f8b", "Deployment", false)]
    #[case("StatefulSet", "llama", "StatefulSet", true)]
    #[case("StatefulSet", "llama", "Deployment", false)]
    fn pods_belong_by_the_name_of_their_owner(
        #[case] owner: &str,
        #[case] name: &str,
        #[case] kind: &str,
        #[case] want: bool,
    ) {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "x", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": owner, "name": name, "uid": "1", "controller": true },
        ] } }))
        .unwrap();
        assert_eq!(belongs(&pod, kind, "llama"), want);
    }
}
