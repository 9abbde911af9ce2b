//! Pods of prefill and decode that are placed together and near each other.
//!
//! Pods join by their label `pdautoscaler.io/placement-group`. They are created with a scheduling
//! gate, and released to the nodes of a plan for the whole group. The plan is in the status before
//! any pod is touched, so that whoever leads next goes on with it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use super::{
    rules::{rule, rule_naming_value},
    status::conditions_schema,
};
use pd_core::Role;
pub use pd_systems::stuck::PLACEMENT_CONDITION;

pub use super::placement::{
    ExclusiveSpec, FallbackKind, OnLossKind, PODS_PER_REPLICA_MAX, PlacementSpec, REPLICAS_MAX,
    SpreadSpec,
};
use crate::derives::{CustomResource, JsonSchema, KubeSchema};

/// The scheduling gate of pods that belong to a group.
pub const GATE: &str = "pdautoscaler.io/placement";
/// The label of a pod's group, in the pod's namespace.
pub const GROUP_LABEL: &str = "pdautoscaler.io/placement-group";
/// The label of a pod's role in its group. A group with one role needs none.
pub const ROLE_LABEL: &str = "pdautoscaler.io/placement-role";
/// The annotation with the node that a pod was released to.
pub const NODE_ANNOTATION: &str = "pdautoscaler.io/placement-node";
/// The annotation of a pod that joined a group because a PDAutoscaler asks for it, as `NAME/ROLE`.
/// Its labels of group and role are ours to write, and to take off again.
pub const SOURCE_ANNOTATION: &str = "pdautoscaler.io/placement-from";
/// The topology that groups are placed by if they name none.
pub const DEFAULT_TOPOLOGY: &str = "default";

/// Most roles of a group.
pub const ROLES_MAX: usize = 8;
/// Most pairs of roles with traffic.
pub const TRAFFIC_MAX: usize = 32;
/// Largest weight of a pair.
pub const WEIGHT_MAX: i32 = 1_000;
/// Most labels that pods of a role carry.
pub const LABELS_MAX: usize = 8;
/// Most pods of a plan.
pub const PLANNED_MAX: usize = 4_096;
/// Most nodes that are listed.
pub const NODES_MAX: usize = 4_096;

/// Pods of several roles that are placed together and near each other.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema,
)]
#[kube(
    group = "pdautoscaler.io",
    version = "v1alpha1",
    kind = "PlacementGroup",
    plural = "placementgroups",
    singular = "placementgroup",
    shortname = "pdpg",
    category = "pdautoscaler",
    namespaced,
    status = "PlacementGroupStatus",
    derive = "PartialEq",
    doc = "PlacementGroup places the pods of several roles together: all of its least replicas or none, and near each other. Pods join by their label pdautoscaler.io/placement-group.",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "How it is"
    ),
    printcolumn(
        name = "Domain",
        type_ = "string",
        json_path = ".status.domain",
        description = "The smallest domain that holds it"
    ),
    printcolumn(
        name = "Placed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Placed")].status"#,
        description = "Whether it has its least replicas"
    ),
    printcolumn(
        name = "Plan",
        type_ = "integer",
        json_path = ".status.plan",
        description = "Number of its plan",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "Why it is so",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule(
    "self.roles.all(one, self.roles.exists_one(other, other.name == one.name))",
    "each role needs a name of its own",
))]
pub struct PlacementGroupSpec {
    /// Name of the ClusterTopology whose levels are meant. Default: `default`, which need not exist
    /// for groups that name no level. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub topology_name: Option<String>,
    /// Its roles, such as prefill and decode. 1 to 8.
    #[schemars(length(min = 1, max = ROLES_MAX))]
    pub roles: Vec<PlacementRoleSpec>,
    /// The level of which all its pods are in one domain, such as `rack`. It is never given up: the
    /// group waits instead. `node` is below all levels. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub required_level: Option<String>,
    /// The level of which its pods are in as few domains as can be. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub preferred_level: Option<String>,
    /// A domain for itself. Default: it shares domains with other groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<ExclusiveSpec>,
    /// Distance from other groups of a set. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadSpec>,
    /// Pairs of roles between whose pods bytes go, such as KV caches from prefill to decode: the
    /// levels between them are kept few. Default: none. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TRAFFIC_MAX))]
    pub traffic: Vec<TrafficSpec>,
    /// The answer to lost pods that find no place near the others. Default Wait.
    #[serde(default)]
    pub on_loss: OnLossKind,
    /// Whether replicas of one role are useless without those of the others: none then gets a
    /// larger share of its replicas. Default false.
    #[serde(default)]
    pub lockstep: bool,
}

impl PlacementGroupSpec {
    /// The role of a pod with these labels: by those that roles name, by the label of the role, or
    /// because there is only one that names none.
    pub fn role_of(&self, labels: &BTreeMap<String, String>) -> Option<&PlacementRoleSpec> {
        let carries = |role: &&PlacementRoleSpec| {
            role.pod_labels.as_ref().is_some_and(|wanted| {
                let mut wanted = wanted.0.iter();
                wanted.all(|(key, value)| labels.get(key) == Some(value))
            })
        };
        let stated = labels.get(ROLE_LABEL);
        let is_stated = |role: &&PlacementRoleSpec| Some(&role.name) == stated;
        let only = || match self.roles.as_slice() {
            [only] if stated.is_none() && only.pod_labels.is_none() => Some(only),
            _ => None,
        };
        let found = self.roles.iter().find(carries);
        found
            .or_else(|| self.roles.iter().find(is_stated))
            .or_else(only)
    }
}

/// The group that places the pods of a PDAutoscaler's roles, under the names of ours.
impl From<&PlacementSpec> for PlacementGroupSpec {
    fn from(placement: &PlacementSpec) -> Self {
        let role = |role: Role| {
            let of = placement.role(role);
            PlacementRoleSpec {
                name: role.as_str().to_owned(),
                min_replicas: of.min_replicas,
                max_replicas: None,
                pods_per_replica: of.pods_per_replica,
                pod_labels: None,
                required_level: of.required_level.clone(),
                preferred_level: of.preferred_level.clone(),
                replica_level: of.replica_level.clone(),
            }
        };
        let [prefill, decode] = [Role::Prefill, Role::Decode].map(|role| role.as_str().to_owned());
        Self {
            topology_name: placement.topology_name.clone(),
            roles: Role::ALL.map(role).to_vec(),
            required_level: placement.required_level.clone(),
            preferred_level: placement.preferred_level.clone(),
            exclusive: placement.exclusive.clone(),
            spread: placement.spread.clone(),
            // KV caches go from prefill to decode, so that the two are near each other.
            traffic: vec![TrafficSpec {
                from: prefill,
                to: decode,
                weight: one(),
            }],
            on_loss: placement.on_loss,
            lockstep: placement.lockstep,
        }
    }
}

/// A role of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule_naming_value(
    "!has(self.maxReplicas) || self.maxReplicas >= self.minReplicas",
    "'maxReplicas `%d` must be at least minReplicas (%d)'.format([self.maxReplicas, self.minReplicas])",
))]
pub struct PlacementRoleSpec {
    /// Its name, such as `prefill`. Pods are of this role if they carry it in their label
    /// `pdautoscaler.io/placement-role`, or all labels of podLabels.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Fewest replicas with which the group is of use: it gets those of every role, or nothing. 1
    /// to
    /// 4096. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub min_replicas: i32,
    /// Most replicas that get a place, up to 4096. Default: as many as there are pods for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub max_replicas: Option<i32>,
    /// Pods of one replica: 1 for a Deployment, the size of the group for a LeaderWorkerSet. 1 to
    /// 512. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = PODS_PER_REPLICA_MAX))]
    pub pods_per_replica: i32,
    /// Labels that its pods carry, all of them, instead of the label of the role. At most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<PodLabels>,
    /// The level of which all its pods are in one domain. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub required_level: Option<String>,
    /// The level of which its pods are in as few domains as can be. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub preferred_level: Option<String>,
    /// The level of which the pods of each replica are in one domain. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub replica_level: Option<String>,
}

/// Labels by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodLabels(pub BTreeMap<String, String>);

const fn one() -> i32 {
    1
}

/// Bytes between the pods of two roles, compared with other pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSpec {
    /// One role. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// The other role, or the same one. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub to: String,
    /// The weight of each pair of pods, 1 to 1000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = WEIGHT_MAX))]
    pub weight: i32,
}

/// The plan of a group, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementGroupStatus {
    /// Generation of the spec that this answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether it has its least replicas: Placed.
    #[schemars(schema_with = "conditions_schema")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How it is. At most 64 characters.
    #[schemars(length(max = 64))]
    pub state: String,
    /// The same in words. At most 4096 characters.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// The smallest domain that holds it. At most 1024 characters.
    #[schemars(length(max = 1024))]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Number of its plan, one more for each.
    pub plan: i64,
    /// Pods of the plan that are on their way to their nodes. At most 4096.
    #[schemars(length(max = PLANNED_MAX))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<PlannedPodStatus>,
    /// When they must be there, or end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// Pods that have to end. At most 4096.
    #[schemars(length(max = PLANNED_MAX))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<EndingPodStatus>,
    /// Whether it has had its least replicas.
    pub was_placed: bool,
    /// Replicas that it had last, whose places are kept for a while. At most 8.
    #[schemars(length(max = ROLES_MAX))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<PlacementRoleStatus>,
    /// Since when it has fewer than it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub short_since: Option<Time>,
    /// Since when it waits, or runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Nodes that failed it, and until when they are left out. At most 4096.
    #[schemars(length(max = NODES_MAX))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded_nodes: Vec<ExcludedNodeStatus>,
    /// Plans that failed, one after another.
    pub failures: i32,
    /// When the next plan is made after a failed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Nodes that drain for it because it has waited long. At most 4096.
    #[schemars(length(max = NODES_MAX), inner(length(max = 253)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_nodes: Vec<String>,
}

/// A pod and its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlannedPodStatus {
    /// The pod's name. At most 253 characters.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Its UID. At most 64 characters.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The node. At most 253 characters.
    #[schemars(length(max = 253))]
    pub node: String,
}

/// A pod that has to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndingPodStatus {
    /// The pod's name. At most 253 characters.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Its UID. At most 64 characters.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Replicas of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementRoleStatus {
    /// The role. At most 63 characters.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its replicas.
    pub replicas: i32,
}

/// A node that is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExcludedNodeStatus {
    /// The node. At most 253 characters.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}
