//! The fields of Kubernetes' objects that placing reads. All others are passed over.

use std::collections::BTreeMap;

use pd_tolerations::{Taint, Toleration};
use serde::Deserialize;

use crate::{
    quantity::QuantityError,
    resources::{Container, Resources},
    selector::NodeSelector,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) owner_references: Vec<Owner>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    pub(super) kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodSpec {
    pub(super) containers: Vec<ContainerSpec>,
    pub(super) init_containers: Vec<ContainerSpec>,
    pub(super) resources: ResourceSpec,
    pub(super) overhead: BTreeMap<String, Amount>,
    pub(super) host_network: bool,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) affinity: Affinity,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) resource_claims: Vec<Named>,
    pub(super) topology_spread_constraints: Vec<SpreadConstraint>,
    pub(super) volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerSpec {
    pub(super) resources: ResourceSpec,
    pub(super) restart_policy: String,
    pub(super) ports: Vec<PortSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResourceSpec {
    pub(super) requests: BTreeMap<String, Amount>,
    pub(super) limits: BTreeMap<String, Amount>,
}

/// An amount as YAML may have it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Amount {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortSpec {
    pub(super) container_port: u16,
    pub(super) host_port: u16,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: String,
    pub(super) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Affinity {
    #[serde(rename = "nodeAffinity")]
    pub(super) node: NodeAffinity,
    #[serde(rename = "podAffinity")]
    pub(super) pod: PodAffinity,
    #[serde(rename = "podAntiAffinity")]
    pub(super) pod_anti: PodAffinity,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeAffinity {
    pub(super) required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    pub(super) preferred_during_scheduling_ignored_during_execution: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodAffinity {
    pub(super) required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    pub(super) preferred_during_scheduling_ignored_during_execution: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodAffinityTerm {
    pub(super) topology_key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SpreadConstraint {
    pub(super) topology_key: String,
    pub(super) when_unsatisfiable: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) persistent_volume_claim: Option<ClaimName>,
    pub(super) ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClaimName {
    pub(super) claim_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeSpec {
    pub(super) taints: Vec<Taint>,
    pub(super) unschedulable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeStatus {
    pub(super) allocatable: BTreeMap<String, Amount>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
}

impl ContainerSpec {
    /// Whether it stays, if it is an init container.
    pub(super) fn is_sidecar(&self) -> bool {
        self.restart_policy == "Always"
    }
}

impl ResourceSpec {
    /// The amounts of a container with this specification.
    pub(super) fn container(&self, is_sidecar: bool) -> Result<Container, QuantityError> {
        Ok(Container {
            requests: amounts(&self.requests)?,
            limits: amounts(&self.limits)?,
            is_sidecar,
        })
    }
}

impl SpreadConstraint {
    pub(super) fn must_hold(&self) -> bool {
        self.when_unsatisfiable != "ScheduleAnyway"
    }
}

pub(super) fn amounts(texts: &BTreeMap<String, Amount>) -> Result<Resources, QuantityError> {
    let written: Vec<(&str, String)> = texts
        .iter()
        .map(|(name, amount)| {
            let text = match amount {
                Amount::Text(text) => text.clone(),
                Amount::Whole(whole) => whole.to_string(),
                Amount::Fraction(fraction) => fraction.to_string(),
            };
            (name.as_str(), text)
        })
        .collect();
    Resources::parse(written.iter().map(|(name, text)| (*name, text.as_str())))
}
