//! The objects that placing reads, cut down to what it needs as soon as they arrive.
//!
//! A pod that belongs to no group is kept as an amount on a node and nothing else: a cluster's
//! worth of them has to fit a small process. Pods of groups keep their spec, and are read once.

use k8s_openapi::{
    api::core::v1::{
        Node as KubernetesNode, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt as _};
use pd_api::v1alpha1::{
    ClusterTopology, PlacementGroup,
    placement_group::{GATE, GROUP_LABEL, NODE_ANNOTATION, PLACEMENT_CONDITION, SOURCE_ANNOTATION},
};
use pd_placement::{
    manifest::{NodeManifest, PodManifest},
    node::{Node, Occupant},
    selector::NodeSelector,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pin::unpinned;
use crate::control::cache::Cached;

/// A pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct PlacementPod {
    /// Its name, labels, annotations and owners.
    pub metadata: ObjectMeta,
    /// Its spec, of pods that belong to a group.
    #[serde(default)]
    pub spec: Value,
    /// How it is.
    #[serde(default)]
    pub status: PlacementPodStatus,
    /// Its node, if it has one.
    #[serde(skip)]
    pub node: Option<String>,
    /// The amounts that it uses of its node; nothing if that cannot be read.
    #[serde(skip)]
    pub occupant: Option<Occupant>,
    /// Its manifest as its author wrote it, of pods that belong to a group.
    #[serde(skip)]
    pub authored: Option<Result<PodManifest, String>>,
    /// The node that it was released to. The annotation alone is no proof, for anybody can write
    /// it: the pin must be there, too.
    #[serde(skip)]
    pub released_to: Option<String>,
}

/// How a pod is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// Why it failed, such as `OutOfcpu`.
    pub reason: Option<String>,
    /// The node that is kept for it.
    pub nominated_node_name: Option<String>,
    /// Its condition about placing; others are dropped.
    #[serde(default)]
    conditions: Option<Vec<PodCondition>>,
}

impl PlacementPodStatus {
    /// The state of its group that the pod carries.
    pub fn mark(&self) -> Option<&str> {
        let mut conditions = self.conditions.iter().flatten();
        let found = conditions.find(|condition| condition.type_ == PLACEMENT_CONDITION)?;
        found.reason.as_deref()
    }
}

impl PlacementPod {
    /// The name of its group, in its namespace.
    pub fn group(&self) -> Option<&str> {
        self.labels().get(GROUP_LABEL).map(String::as_str)
    }

    /// Namespace and name of its group.
    pub fn group_key(&self) -> Option<String> {
        let group = self.group()?;
        Some(format!("{}/{group}", self.namespace().unwrap_or_default()))
    }

    /// The PDAutoscaler that it joined its group for, if it did not by a label of its own.
    pub fn source(&self) -> Option<&str> {
        let source = self.annotations().get(SOURCE_ANNOTATION)?;
        Some(source.split_once('/').map_or(source, |(name, _)| name))
    }

    /// Whether our gate holds it.
    pub fn is_gated(&self) -> bool {
        let gates = self.spec["schedulingGates"].as_array();
        gates.into_iter().flatten().any(|gate| gate["name"] == GATE)
    }

    /// Whether it has ended and uses nothing.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// The claims to volumes that it names.
    pub fn claims(&self) -> Vec<String> {
        let authored = self.authored.as_ref();
        let authored = authored.and_then(|authored| authored.as_ref().ok());
        authored.map(PodManifest::claims).unwrap_or_default()
    }

    fn manifest(&self, spec: &Value) -> Result<PodManifest, String> {
        serde_json::from_value(json!({ "metadata": self.metadata, "spec": spec }))
            .map_err(|error| format!("its spec cannot be read: {error}"))
    }
}

impl Cached for PlacementPod {
    fn prune(&mut self) {
        let metadata = self.meta_mut();
        metadata.managed_fields = None;
        self.node = self.spec["nodeName"].as_str().map(ToOwned::to_owned);
        let conditions = self.status.conditions.take().into_iter().flatten();
        let ours = conditions.filter(|condition| condition.type_ == PLACEMENT_CONDITION);
        self.status.conditions = Some(ours.collect());
        let manifest = self.manifest(&self.spec);
        self.occupant = manifest
            .as_ref()
            .ok()
            .and_then(|manifest| manifest.occupant().ok());
        if self.group().is_some() {
            let node = self.annotations().get(NODE_ANNOTATION).cloned();
            let unpinned = node.and_then(|node| Some((unpinned(&self.spec, &node)?, node)));
            let is_held = self.spec["schedulingGates"]
                .as_array()
                .is_some_and(|gates| !gates.is_empty());
            self.authored = Some(match &unpinned {
                Some((before, _)) if !is_held => self.manifest(before),
                _ => manifest,
            });
            self.released_to = unpinned.map(|(_, node)| node);
            return;
        }
        self.spec = Value::Null;
        let metadata = self.meta_mut();
        metadata.annotations = None;
        metadata.labels = None;
        metadata.owner_references = None;
    }
}

/// Namespace and name of a group.
pub(super) fn key(group: &PlacementGroup) -> String {
    format!(
        "{}/{}",
        group.namespace().unwrap_or_default(),
        group.name_any()
    )
}

/// Namespace and name of the group of this key.
pub(super) fn parts(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = KubernetesNode)]
pub struct PlacementNode {
    /// Its name and labels.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
    /// The node as the planner sees it, without who is there; nothing if it cannot be read.
    #[serde(skip)]
    pub node: Option<Node>,
}

impl Cached for PlacementNode {
    fn prune(&mut self) {
        let manifest = json!({
            "metadata": { "name": self.name_any(), "labels": self.labels() },
            "spec": std::mem::take(&mut self.spec),
            "status": std::mem::take(&mut self.status),
        });
        let manifest: Option<NodeManifest> = serde_json::from_value(manifest).ok();
        self.node = manifest.and_then(|manifest| manifest.node(Vec::new()).ok());
        let metadata = self.meta_mut();
        metadata.managed_fields = None;
        metadata.annotations = None;
        metadata.labels = None;
    }
}

/// A claim to a volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = PersistentVolumeClaim)]
pub struct WatchedClaim {
    /// Its name.
    pub metadata: ObjectMeta,
    /// Its volume.
    #[serde(default)]
    pub spec: WatchedClaimSpec,
}

/// The volume of a claim.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedClaimSpec {
    /// Its name, once there is one.
    pub volume_name: Option<String>,
}

impl Cached for WatchedClaim {}

/// A volume.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = PersistentVolume)]
pub struct WatchedVolume {
    /// Its name.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedVolumeSpec,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedVolumeSpec {
    #[serde(default)]
    node_affinity: Value,
}

impl WatchedVolume {
    /// The nodes from which it can be reached; nothing if from all.
    pub fn reach(&self) -> Option<NodeSelector> {
        serde_json::from_value(self.spec.node_affinity["required"].clone()).ok()
    }
}

impl Cached for WatchedVolume {}
impl Cached for PlacementGroup {}
impl Cached for ClusterTopology {}
