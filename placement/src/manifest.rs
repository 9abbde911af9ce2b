//! Kubernetes' pods and nodes, as far as placing needs them, and a refusal of what it cannot keep.
//!
//! A hard rule that is not modelled would be dropped in silence if it were skipped here, so it is
//! an error with its name: devices by dynamic resource allocation, required pod affinity and
//! anti-affinity, topology spread that must hold, volume claims of which it is not known where they
//! can be reached. Soft rules change no feasibility: [`PodManifest::unheard`] lists those that are
//! left to the scheduler.

mod wire;

use std::collections::BTreeMap;

use pd_tolerations::{
    ExtendedToleration,
    extension::{BoundError, ParsedTaint},
    rewrite::{Disagreement, restore},
};
use serde::Deserialize;

use self::wire::{ContainerSpec, Metadata, NodeSpec, NodeStatus, PodSpec, Volume, amounts};
use crate::{
    node::{Node, Occupant},
    pod::PodShape,
    port::HostPort,
    quantity::QuantityError,
    resources::{Container, PodRequests},
    selector::NodeSelector,
};

/// Where claims can be reached: for each claim the selectors that must all match.
pub type VolumeRules = BTreeMap<String, Vec<NodeSelector>>;

/// Why a pod or node is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Devices by claim.
    #[error(
        "spec.resourceClaims: claim `{0}`: dynamic resource allocation is not modelled: request the devices as extended resources, or leave the pod out of the group"
    )]
    ResourceClaim(String),
    /// A hard rule about other pods.
    #[error(
        "{field}: `{topology_key}`: required rules about other pods are not modelled: use the group's levels, spread and exclusive domains, or make the rule preferred"
    )]
    OtherPods {
        /// The field.
        field: &'static str,
        /// Its topology key.
        topology_key: String,
    },
    /// A claim that nobody said anything about.
    #[error(
        "spec.volumes: claim `{0}`: it is not known where it can be reached: pass its volume's node affinity, an empty one if there is none"
    )]
    Claim(String),
    /// An amount.
    #[error("resources: {0}")]
    Quantity(#[from] QuantityError),
    /// Numeric tolerations that contradict their annotation.
    #[error("spec.tolerations: {0}")]
    Tolerations(#[from] Disagreement),
    /// A numeric toleration without a number.
    #[error("spec.tolerations: {0}")]
    Bound(#[from] BoundError),
}

/// A pod, or the template of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodManifest {
    metadata: Metadata,
    spec: PodSpec,
}

impl PodManifest {
    /// The needs of the pod. `numbers` are its numeric tolerations where they were rewritten,
    /// `volumes` says where its claims can be reached. Every fault is listed.
    pub fn shape(
        &self,
        numbers: &[ExtendedToleration],
        volumes: &VolumeRules,
    ) -> Result<PodShape, Vec<ManifestError>> {
        let mut faults = self.unmodelled();
        let mut reached = Vec::new();
        for claim in self.claims() {
            match volumes.get(&claim) {
                Some(rules) => reached.extend(rules.iter().cloned()),
                None => faults.push(ManifestError::Claim(claim)),
            }
        }
        let mut shape = PodShape {
            ports: self.ports(),
            node_selector: self.spec.node_selector.clone(),
            affinity: self
                .spec
                .affinity
                .node
                .required_during_scheduling_ignored_during_execution
                .clone(),
            volumes: reached,
            ..PodShape::default()
        };
        match self.requests() {
            Ok(requests) => shape.requests = requests.total(),
            Err(fault) => faults.push(fault.into()),
        }
        match restore(&self.spec.tolerations, numbers) {
            Ok(authored) => {
                for toleration in authored {
                    match toleration.rule() {
                        Ok(rule) => shape.tolerations.push(rule),
                        Err(fault) => faults.push(fault.into()),
                    }
                }
            }
            Err(fault) => faults.push(fault.into()),
        }
        if faults.is_empty() {
            Ok(shape)
        } else {
            Err(faults)
        }
    }

    /// The pod as one that is on a node and in no group. Its hard rules were kept when it came.
    pub fn occupant(&self) -> Result<Occupant, ManifestError> {
        let mut owners = self.metadata.owner_references.iter();
        // Static pods are owned by their node.
        let stays = owners.any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
        Ok(Occupant {
            name: format!("{}/{}", self.metadata.namespace, self.metadata.name),
            requests: self.requests()?.total(),
            ports: self.ports(),
            stays,
        })
    }

    /// Soft rules that are left to the scheduler, by field.
    pub fn unheard(&self) -> Vec<&'static str> {
        let affinity = &self.spec.affinity;
        let soft = |terms: &[serde::de::IgnoredAny]| !terms.is_empty();
        let node = &affinity.node;
        let of_pods = &affinity.pod;
        let anti = &affinity.pod_anti;
        let mut spreads = self.spec.topology_spread_constraints.iter();
        let rules = [
            (
                "preferred node affinity",
                soft(&node.preferred_during_scheduling_ignored_during_execution),
            ),
            (
                "preferred pod affinity",
                soft(&of_pods.preferred_during_scheduling_ignored_during_execution),
            ),
            (
                "preferred pod anti-affinity",
                soft(&anti.preferred_during_scheduling_ignored_during_execution),
            ),
            (
                "topology spread with ScheduleAnyway",
                spreads.any(|spread| !spread.must_hold()),
            ),
        ];
        let there = rules.into_iter().filter(|(_, is_there)| *is_there);
        there.map(|(rule, _)| rule).collect()
    }

    /// Hard rules that are not modelled.
    fn unmodelled(&self) -> Vec<ManifestError> {
        let claims = self.spec.resource_claims.iter();
        let mut faults: Vec<ManifestError> = claims
            .map(|claim| ManifestError::ResourceClaim(claim.name.clone()))
            .collect();
        let affinity = &self.spec.affinity;
        let spreads = self.spec.topology_spread_constraints.iter();
        let of_pods = [
            ("spec.affinity.podAffinity", &affinity.pod),
            ("spec.affinity.podAntiAffinity", &affinity.pod_anti),
        ];
        for (field, rules) in of_pods {
            let required = &rules.required_during_scheduling_ignored_during_execution;
            faults.extend(required.iter().map(|term| ManifestError::OtherPods {
                field,
                topology_key: term.topology_key.clone(),
            }));
        }
        let hard = spreads.filter(|spread| spread.must_hold());
        faults.extend(hard.map(|spread| ManifestError::OtherPods {
            field: "spec.topologySpreadConstraints",
            topology_key: spread.topology_key.clone(),
        }));
        faults
    }

    /// Names of the claims, those of ephemeral volumes as Kubernetes will name them.
    pub fn claims(&self) -> Vec<String> {
        let of_volume = |volume: &Volume| match (&volume.persistent_volume_claim, &volume.ephemeral)
        {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", self.metadata.name, volume.name)),
            (None, None) => None,
        };
        self.spec.volumes.iter().filter_map(of_volume).collect()
    }

    fn requests(&self) -> Result<PodRequests, QuantityError> {
        let all = |specs: &[ContainerSpec]| -> Result<Vec<Container>, QuantityError> {
            let each = specs.iter();
            each.map(|spec| spec.resources.container(spec.is_sidecar()))
                .collect()
        };
        Ok(PodRequests {
            containers: all(&self.spec.containers)?,
            init: all(&self.spec.init_containers)?,
            whole: self.spec.resources.container(false)?,
            overhead: amounts(&self.spec.overhead)?,
        })
    }

    /// Ports of the node. On the node's own network every port of a container is one.
    fn ports(&self) -> Vec<HostPort> {
        let sidecars = self.spec.init_containers.iter();
        let sidecars = sidecars.filter(|container| container.is_sidecar());
        let containers = self.spec.containers.iter().chain(sidecars);
        let ports = containers.flat_map(|container| &container.ports);
        let of_node = ports.filter_map(|port| {
            let number = match port.host_port {
                0 if self.spec.host_network => port.container_port,
                number => number,
            };
            (number > 0).then(|| HostPort {
                address: port.host_ip.clone(),
                protocol: match port.protocol.as_str() {
                    "" => "TCP".to_owned(),
                    other => other.to_owned(),
                },
                port: number,
            })
        });
        of_node.collect()
    }
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeManifest {
    metadata: Metadata,
    spec: NodeSpec,
    status: NodeStatus,
}

impl NodeManifest {
    /// The node, with these pods on it.
    pub fn node(&self, occupants: Vec<Occupant>) -> Result<Node, ManifestError> {
        let mut conditions = self.status.conditions.iter();
        Ok(Node {
            name: self.metadata.name.clone(),
            labels: self.metadata.labels.clone(),
            taints: self
                .spec
                .taints
                .iter()
                .cloned()
                .map(ParsedTaint::from)
                .collect(),
            is_cordoned: self.spec.unschedulable,
            is_ready: conditions
                .any(|condition| condition.kind == "Ready" && condition.status == "True"),
            allocatable: amounts(&self.status.allocatable)?,
            occupants,
        })
    }
}
