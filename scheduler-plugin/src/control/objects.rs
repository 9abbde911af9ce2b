//! The fields that controllers read of nodes and pods, and nothing else of them: a cluster's worth
//! has to fit a small process.
//!
//! A field that a controller needs is added here and comes with the one watch. Everything may be
//! absent, for objects that other versions wrote are still objects.

use k8s_openapi::{
    api::core::v1::{Node, ObjectReference, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt as _};
use pd_tolerations::{
    ExtendedToleration, Rule, Taint, Toleration,
    extension::ParsedTaint,
    rewrite::{ANNOTATION, Authored, restore},
};
use serde::{Deserialize, Serialize};

use super::cache::Cached;

/// The fields that are read of a node.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = Node)]
pub struct WatchedNode {
    /// Its name, labels and annotations.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedNodeSpec,
    #[serde(default)]
    status: WatchedNodeStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchedNodeSpec {
    taints: Option<Vec<Taint>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedNodeStatus {
    node_info: Option<WatchedNodeInfo>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedNodeInfo {
    #[serde(default)]
    kubelet_version: String,
}

impl WatchedNode {
    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.spec.taints.as_deref().unwrap_or_default()
    }

    /// The same, ready to be judged by rules.
    pub fn parsed_taints(&self) -> Vec<ParsedTaint> {
        let taints = self.taints().iter().cloned();
        taints.map(ParsedTaint::from).collect()
    }

    /// Version of its kubelet, such as `v1.36.2`; empty if it does not say.
    pub fn kubelet_version(&self) -> &str {
        let info = self.status.node_info.as_ref();
        info.map_or("", |info| &info.kubelet_version)
    }

    /// A reference for events about it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.name_any()),
            uid: self.metadata.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

impl Cached for WatchedNode {}

/// The fields that are read of a pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct WatchedPod {
    /// Its name, UID, labels, annotations, owners and deletion.
    pub metadata: ObjectMeta,
    /// Its spec.
    #[serde(default)]
    pub spec: WatchedPodSpec,
    /// How it is.
    #[serde(default)]
    pub status: WatchedPodStatus,
}

/// The fields that are read of a pod's spec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedPodSpec {
    /// The node it runs on, once it is placed.
    pub node_name: Option<String>,
    /// Its tolerations, as they are stored.
    pub tolerations: Option<Vec<Toleration>>,
}

/// The fields that are read of a pod's status.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WatchedPodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: Option<String>,
    /// Its conditions.
    pub conditions: Option<Vec<PodCondition>>,
}

impl WatchedPod {
    /// Its tolerations as meant, if it was rewritten and can be read.
    pub fn numeric_rules(&self) -> Option<Vec<Rule>> {
        let annotation = self.annotations().get(ANNOTATION)?;
        let originals: Vec<ExtendedToleration> = serde_json::from_str(annotation).ok()?;
        let tolerations = self.spec.tolerations.as_deref().unwrap_or_default();
        let asked = restore(tolerations, &originals).ok()?;
        let rules = asked.iter().map(Authored::rule);
        rules.collect::<Result<_, _>>().ok()
    }

    /// A reference for events about it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.name_any()),
            namespace: self.namespace(),
            uid: self.metadata.uid.clone(),
            resource_version: self.resource_version(),
            ..ObjectReference::default()
        }
    }
}

impl Cached for WatchedPod {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_empty_objects_are_read() {
        let node: WatchedNode = serde_json::from_str(
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"},"spec":{"podCIDR":"x","taints":[{"key":"sla","value":"950","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}]},"status":{"images":[],"nodeInfo":{"kubeletVersion":"v1.36.2","osImage":"x"}}}"#,
        )
        .unwrap();
        assert_eq!(node.kubelet_version(), "v1.36.2");
        assert_eq!(
            node.taints()[0].time_added.as_deref(),
            Some("2026-01-01T00:00:00Z")
        );
        let node: WatchedNode = serde_json::from_str(r#"{"metadata":{"name":"m"}}"#).unwrap();
        assert!(node.taints().is_empty() && node.kubelet_version().is_empty());
        let pod: WatchedPod = serde_json::from_str(r#"{"metadata":{"name":"p"}}"#).unwrap();
        assert!(pod.spec.node_name.is_none());
    }
}
