//! Which nodes are near each other, by their labels.

use serde::{Deserialize, Serialize};

use super::rules::rule;
use crate::derives::{CustomResource, JsonSchema, KubeSchema};

/// Most levels.
pub const LEVELS_MAX: usize = 16;
/// Most labels of a level.
pub const LEVEL_LABELS_MAX: usize = 8;

/// Levels of nearness, wide to narrow.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema,
)]
#[kube(
    group = "pdautoscaler.io",
    version = "v1alpha1",
    kind = "ClusterTopology",
    plural = "clustertopologies",
    singular = "clustertopology",
    category = "pdautoscaler",
    derive = "PartialEq",
    doc = "ClusterTopology says which nodes are near each other: levels from wide to narrow, each with the node label that names its domains. Groups without a topologyName use the one called default.",
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".spec.profile",
        description = "The built-in levels"
    ),
    printcolumn(
        name = "Levels",
        type_ = "string",
        json_path = ".spec.levels[*].name",
        description = "Its own levels"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "has(self.profile) != (has(self.levels) && size(self.levels) > 0)",
    "a topology needs either a profile or levels",
))]
pub struct ClusterTopologySpec {
    /// Built-in levels of a cloud or a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<TopologyProfile>,
    /// Levels, wide to narrow. The node itself is below all of them, under the name `node`. At most
    /// 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = LEVELS_MAX))]
    pub levels: Vec<TopologyLevelSpec>,
}

/// Built-in levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TopologyProfile {
    /// Region and zone.
    Kubernetes,
    /// Block, subblock and host of Google's GPU nodes.
    GKE,
    /// The network layers of AWS.
    AWS,
    /// RDMA islands and blocks of Oracle Cloud.
    OCI,
    /// Blocks and racks of hosts of Oracle Cloud.
    OCIHost,
    /// Fabric, superpod and leaf group of CoreWeave.
    CoreWeave,
    /// Racks and NVLink domains of CoreWeave.
    CoreWeaveNVLink,
    /// Clusters and tiers of Nebius.
    Nebius,
    /// Labels of NVIDIA topograph.
    Topograph,
    /// Labels of NVIDIA topograph before its renaming.
    TopographOld,
    /// NVLink cliques.
    NVLink,
    /// The labels of Kueue's examples.
    Kueue,
}

/// A level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologyLevelSpec {
    /// Its name, such as `rack`. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Node labels that name its domains. The first that a node has counts. 1 to 8.
    #[schemars(length(min = 1, max = LEVEL_LABELS_MAX), inner(length(min = 1, max = 317)))]
    pub node_labels: Vec<String>,
    /// Whether it is skipped while no node has it, for fabrics of varying depth. Default false.
    #[serde(default)]
    pub optional: bool,
}
