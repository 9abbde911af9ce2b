//! Nodes with GPUs: what they look like, and their creation in numbers.
//!
//! A node is posted with its capacity, labels and taints; KWOK only makes and keeps it ready. Nodes
//! of one spec are laid out in racks, blocks and zones by their number, so a test of topology needs
//! no list of names.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeSpec as KubernetesNodeSpec, NodeStatus, Taint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

/// The extended resource of a GPU.
pub const GPU_RESOURCE: &str = "nvidia.com/gpu";

/// Label of the rack; its value is unique in the cluster.
pub const RACK_LABEL: &str = "tests.pdautoscaler.io/rack";

/// Label of the block (a group of racks); its value is unique in the cluster.
pub const BLOCK_LABEL: &str = "tests.pdautoscaler.io/block";

/// Label of the zone, as all clouds set it.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A number of equal nodes.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Nodes are named PREFIX-0, PREFIX-1, ...
    pub prefix: String,
    /// How many.
    pub count: usize,
    /// GPUs of each.
    pub gpus: u32,
    /// CPU of each, as a Kubernetes quantity.
    pub cpu: String,
    /// Memory of each, as a Kubernetes quantity.
    pub memory: String,
    /// Labels of each, over those of the topology.
    pub labels: BTreeMap<String, String>,
    /// Taints of each.
    pub taints: Vec<Taint>,
    /// Nodes in a rack; 0 labels no rack, block or zone.
    pub nodes_per_rack: usize,
    /// Racks in a block; 0 labels no block or zone.
    pub racks_per_block: usize,
    /// Blocks in a zone; 0 labels no zone.
    pub blocks_per_zone: usize,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self {
            prefix: "gpu".to_owned(),
            count: 1,
            gpus: 8,
            cpu: "128".to_owned(),
            memory: "1Ti".to_owned(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            nodes_per_rack: 0,
            racks_per_block: 0,
            blocks_per_zone: 0,
        }
    }
}

impl NodeSpec {
    /// The names of the nodes.
    pub fn names(&self) -> Vec<String> {
        (0..self.count)
            .map(|index| format!("{}-{index}", self.prefix))
            .collect()
    }

    fn node(&self, index: usize, ready: bool) -> Node {
        let name = format!("{}-{index}", self.prefix);
        let mut labels = self.topology(index);
        labels.insert("kubernetes.io/hostname".to_owned(), name.clone());
        labels.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
        labels.insert("kubernetes.io/arch".to_owned(), "amd64".to_owned());
        labels.extend(self.labels.clone());
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), Quantity(self.cpu.clone())),
            ("memory".to_owned(), Quantity(self.memory.clone())),
            ("pods".to_owned(), Quantity("250".to_owned())),
        ]);
        if self.gpus > 0 {
            capacity.insert(GPU_RESOURCE.to_owned(), Quantity(self.gpus.to_string()));
        }
        Node {
            metadata: ObjectMeta {
                name: Some(name),
                labels: Some(labels),
                annotations: Some(BTreeMap::from([(
                    "kwok.x-k8s.io/node".to_owned(),
                    "fake".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            spec: Some(KubernetesNodeSpec {
                taints: (!self.taints.is_empty()).then(|| self.taints.clone()),
                ..KubernetesNodeSpec::default()
            }),
            status: Some(NodeStatus {
                allocatable: Some(capacity.clone()),
                capacity: Some(capacity),
                conditions: ready.then(|| {
                    vec![NodeCondition {
                        type_: "Ready".to_owned(),
                        status: "True".to_owned(),
                        ..NodeCondition::default()
                    }]
                }),
                ..NodeStatus::default()
            }),
        }
    }

    fn topology(&self, index: usize) -> BTreeMap<String, String> {
        let sizes = [
            (RACK_LABEL, "rack", self.nodes_per_rack),
            (BLOCK_LABEL, "block", self.racks_per_block),
            (ZONE_LABEL, "zone", self.blocks_per_zone),
        ];
        let mut labels = BTreeMap::new();
        let mut number = index;
        for (label, word, size) in sizes {
            if size == 0 {
                break;
            }
            number /= size;
            labels.insert(label.to_owned(), format!("{}-{word}-{number}", self.prefix));
        }
        labels
    }
}

/// Posts the nodes of a spec, as ready ones when nobody plays them.
pub(super) async fn create(
    client: &Client,
    spec: &NodeSpec,
    ready: bool,
) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    stream::iter(0..spec.count)
        .map(|index| {
            let (nodes, node) = (nodes.clone(), spec.node(index, ready));
            async move { nodes.create(&PostParams::default(), &node).await }
        })
        .buffer_unordered(16)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
}

/// Whether a node is ready and the node controller has taken the taints of an unready one away.
pub(super) fn is_usable(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready
        && !taints
            .into_iter()
            .flatten()
            .any(|taint| taint.key.starts_with("node.kubernetes.io/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_laid_out_in_racks_blocks_and_zones_by_number() {
        let spec = NodeSpec {
            nodes_per_rack: 4,
            racks_per_block: 2,
            blocks_per_zone: 3,
            ..NodeSpec::default()
        };
        let labels = spec.node(30, false).metadata.labels.unwrap();
        assert_eq!(labels[RACK_LABEL], "gpu-rack-7");
        assert_eq!(labels[BLOCK_LABEL], "gpu-block-3");
        assert_eq!(labels[ZONE_LABEL], "gpu-zone-1");
    }

    #[test]
    fn nodes_without_topology_have_no_topology_labels() {
        let labels = NodeSpec::default().node(0, false).metadata.labels.unwrap();
        assert!(!labels.contains_key(RACK_LABEL) && !labels.contains_key(ZONE_LABEL));
    }
}
