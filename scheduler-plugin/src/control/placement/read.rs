//! From the objects of the cluster to what the gate looks at.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use pd_api::v1alpha1::{
    ClusterTopology, ClusterTopologySpec, PlacementGroup, TopologyProfile,
    placement_group::{
        DEFAULT_TOPOLOGY, FallbackKind, GATE, OnLossKind, PlacementGroupSpec, PlacementRoleSpec,
        ROLE_LABEL,
    },
};
use pd_placement::{
    gate::{GroupState, PodState, SeenGroup, SeenPod},
    group::{Exclusive, Fallback, Group, OnLoss, Role, Spread, Traffic},
    manifest::VolumeRules,
    node::Node,
    pod::PodShape,
    topology::{Level, Topology, profiles},
};
use pd_tolerations::{ExtendedToleration, rewrite::ANNOTATION};

use super::{member::replica, objects::PlacementPod, record};

/// Reasons by which a kubelet refuses a pod that is bound to it, besides those that begin with
/// `OutOf`. Source: kubernetes `pkg/kubelet/lifecycle` and `pkg/kubelet/kubelet.go`.
const REFUSALS: [&str; 6] = [
    "UnexpectedAdmissionError",
    "NodeAffinity",
    "NodePorts",
    "TaintToleration",
    "TopologyAffinityError",
    "InvalidNodeInfo",
];

/// A group with the pods that carry its name.
pub(super) fn group(
    object: &PlacementGroup,
    pods: &[&PlacementPod],
    topologies: &BTreeMap<String, ClusterTopologySpec>,
    volumes: &VolumeRules,
) -> SeenGroup {
    let spec = &object.spec;
    let name = format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    );
    let per_replica = |role: &PlacementRoleSpec| (role.name.clone(), whole(role.pods_per_replica));
    let pods_per_replica: BTreeMap<String, u32> = spec.roles.iter().map(per_replica).collect();
    let is_named = spec.topology_name.is_some() || names_levels(spec);
    let topology_name = match &spec.topology_name {
        Some(name) => name.clone(),
        None if is_named => DEFAULT_TOPOLOGY.to_owned(),
        None => String::new(),
    };
    SeenGroup {
        rules: rules(name, object, spec),
        topology: topology(&topology_name, topologies),
        topology_name,
        record: record::read(object.status.as_ref()),
        pods: pods
            .iter()
            .map(|found| pod(found, spec, &pods_per_replica, volumes))
            .collect(),
        pods_per_replica,
    }
}

fn rules(name: String, object: &PlacementGroup, spec: &PlacementGroupSpec) -> Group {
    let namespace = object.namespace().unwrap_or_default();
    Group {
        name,
        roles: spec.roles.iter().map(role).collect(),
        required: spec.required_level.clone(),
        preferred: spec.preferred_level.clone(),
        exclusive: spec.exclusive.as_ref().map(|exclusive| Exclusive {
            level: exclusive.level.clone(),
            fallback: match exclusive.fallback {
                FallbackKind::Wait => Fallback::Wait,
                FallbackKind::Share => Fallback::Share,
            },
        }),
        // Sets of two namespaces are two sets: tenants must not keep each other apart.
        spread: spec.spread.as_ref().map(|spread| Spread {
            set: format!("{namespace}/{}", spread.set),
            level: spread.level.clone(),
            most_per_domain: spread.max_per_domain.map(whole),
        }),
        traffic: spec
            .traffic
            .iter()
            .map(|traffic| Traffic {
                from: traffic.from.clone(),
                to: traffic.to.clone(),
                weight: whole(traffic.weight),
            })
            .collect(),
        on_loss: match spec.on_loss {
            OnLossKind::Wait => OnLoss::Wait,
            OnLossKind::Relocate => OnLoss::Relocate,
            OnLossKind::Degrade => OnLoss::Degrade,
        },
        lockstep: spec.lockstep,
        ..Group::default()
    }
}

fn role(spec: &PlacementRoleSpec) -> Role {
    Role {
        name: spec.name.clone(),
        min: whole(spec.min_replicas),
        desired: spec.max_replicas.map_or(0, whole),
        required: spec.required_level.clone(),
        preferred: spec.preferred_level.clone(),
        replica_required: spec.replica_level.clone(),
        pods: Vec::new(),
    }
}

fn names_levels(spec: &PlacementGroupSpec) -> bool {
    let of_role = |role: &PlacementRoleSpec| {
        role.required_level.is_some()
            || role.preferred_level.is_some()
            || role.replica_level.is_some()
    };
    spec.required_level.is_some()
        || spec.preferred_level.is_some()
        || spec.exclusive.is_some()
        || spec.spread.is_some()
        || spec.roles.iter().any(of_role)
}

/// A count of an object, at least 1: what the API server admitted is.
fn whole(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0).max(1)
}

fn topology(
    name: &str,
    topologies: &BTreeMap<String, ClusterTopologySpec>,
) -> Result<Topology, String> {
    if name.is_empty() {
        return Ok(Topology::default());
    }
    let Some(spec) = topologies.get(name) else {
        return Err(format!(
            "ClusterTopology `{name}` is not there: create it, or name another in topologyName"
        ));
    };
    if let Some(profile) = spec.profile {
        let found = profiles::profile(profile_name(profile));
        return found.ok_or_else(|| format!("ClusterTopology `{name}`: its profile is unknown"));
    }
    let levels = spec.levels.iter().map(|level| Level {
        name: level.name.clone(),
        labels: level.node_labels.clone(),
        is_optional: level.optional,
    });
    Topology::new(levels.collect()).map_err(|error| format!("ClusterTopology `{name}`: {error}"))
}

const fn profile_name(profile: TopologyProfile) -> &'static str {
    match profile {
        TopologyProfile::Kubernetes => "kubernetes",
        TopologyProfile::GKE => "gke",
        TopologyProfile::AWS => "aws",
        TopologyProfile::OCI => "oci",
        TopologyProfile::OCIHost => "oci-host",
        TopologyProfile::CoreWeave => "coreweave",
        TopologyProfile::CoreWeaveNVLink => "coreweave-nvlink",
        TopologyProfile::Nebius => "nebius",
        TopologyProfile::Topograph => "topograph",
        TopologyProfile::TopographOld => "topograph-old",
        TopologyProfile::NVLink => "nvlink",
        TopologyProfile::Kueue => "kueue",
    }
}

fn pod(
    object: &PlacementPod,
    spec: &PlacementGroupSpec,
    per_replica: &BTreeMap<String, u32>,
    volumes: &VolumeRules,
) -> SeenPod {
    let role = spec.role_of(object.labels());
    let mut shape = shape(object, volumes);
    if role.is_none() && shape.is_ok() {
        shape = Err(format!(
            "it is of no role of the group: label it {ROLE_LABEL}, or give a role podLabels that it has"
        ));
    }
    let role = role.map(|role| role.name.clone()).unwrap_or_default();
    let (replica, kind) = if per_replica.get(&role).is_some_and(|pods| *pods > 1) {
        replica(object.labels(), &object.name_any())
    } else {
        (object.name_any(), "pod".to_owned())
    };
    let created = object.creation_timestamp().map(|time| time.0.as_second());
    let is_controller = |owner: &OwnerReference| owner.controller == Some(true);
    SeenPod {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
        created_seconds: created
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0),
        role,
        replica,
        kind,
        priority: object.spec["priority"]
            .as_i64()
            .and_then(|priority| i32::try_from(priority).ok())
            .unwrap_or(0),
        shape,
        has_owner: object.owner_references().iter().any(is_controller),
        is_ours: object.released_to.is_some(),
        is_ending: object.metadata.deletion_timestamp.is_some(),
        // A pod that says that its group does not exist is refused by what it says.
        marked: object
            .status
            .mark()
            .map(|name| GroupState::named(name).unwrap_or(GroupState::Refused)),
        state: state(object),
    }
}

fn state(object: &PlacementPod) -> PodState {
    if object.has_ended() {
        let reason = object.status.reason.as_deref().unwrap_or_default();
        let is_refused = REFUSALS.contains(&reason) || reason.starts_with("OutOf");
        return PodState::Ended {
            refused_by: object.node.clone().filter(|_| is_refused),
        };
    }
    if let Some(node) = &object.node {
        return PodState::Bound { node: node.clone() };
    }
    let gates = object.spec["schedulingGates"].as_array();
    let gates: Vec<&str> = gates
        .into_iter()
        .flatten()
        .filter_map(|gate| gate["name"].as_str())
        .collect();
    match gates.as_slice() {
        [] => PodState::Released {
            node: object.released_to.clone(),
        },
        [GATE] => PodState::Gated,
        _ => PodState::GatedByOthers,
    }
}

fn shape(object: &PlacementPod, volumes: &VolumeRules) -> Result<PodShape, String> {
    let manifest = match &object.authored {
        Some(authored) => authored.as_ref().map_err(Clone::clone)?,
        None => return Err("it belongs to no group".to_owned()),
    };
    let numbers: Vec<ExtendedToleration> = match object.annotations().get(ANNOTATION) {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| format!("annotation {ANNOTATION} cannot be read: {error}"))?,
        None => Vec::new(),
    };
    manifest.shape(&numbers, volumes).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

/// Nodes with the pods on them that belong to no group that there is.
pub(super) fn nodes<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    pods: impl Iterator<Item = &'a PlacementPod>,
) -> Vec<Node> {
    let mut found: BTreeMap<&str, Node> = nodes
        .map(|node| (node.name.as_str(), node.clone()))
        .collect();
    for pod in pods.filter(|pod| !pod.has_ended()) {
        let node = pod.node.as_deref().and_then(|node| found.get_mut(node));
        let Some(node) = node else { continue };
        match &pod.occupant {
            Some(occupant) => node.occupants.push(occupant.clone()),
            // Nobody knows what it uses, so nothing is planned beside it.
            None => node.is_cordoned = true,
        }
    }
    found.into_values().collect()
}

/// Topologies by name.
pub(super) fn topologies<'a>(
    objects: impl Iterator<Item = &'a ClusterTopology>,
) -> BTreeMap<String, ClusterTopologySpec> {
    objects
        .map(|object| (object.name_any(), object.spec.clone()))
        .collect()
}
