//! How near each other the pods of both roles are to be placed.
//!
//! Words and types are those of a PlacementGroup: such a group is made of it, with a role for each
//! of ours, and its rules are that group's. Without it nothing is placed.

use pd_core::Role;
use pd_systems::target::Target;
use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::rule_naming_value;
use crate::derives::JsonSchema;

/// Most replicas of a role that a group needs.
pub const REPLICAS_MAX: i32 = 4_096;
/// Most pods of a replica.
pub const PODS_PER_REPLICA_MAX: i32 = 512;
/// Longest name of an object whose group can be named after it: pods carry it in a label.
pub const NAME_LENGTH_MAX: usize = 63;
/// Remedy when a group needs more replicas than may be there.
pub(crate) const LEAST_REMEDY: &str =
    "is more than minReplicas of the role, so that fewer replicas would have no place; lower it";
/// Remedy for a target whose pods show nothing of it.
pub(crate) const PODS_REMEDY: &str = "only refers to the object that makes the pods, which spec.placement cannot know by their labels; \
     name that object as target, or make a PlacementGroup and label its pod template";

/// Where the pods of both roles are placed: together, all of their least replicas or none, and near
/// each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// Name of the ClusterTopology whose levels are meant. Default: `default`, which need not exist
    /// where no level is named. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub topology_name: Option<String>,
    /// The level of which all pods of both roles are in one domain, such as `rack`. It is never
    /// given up: pods wait instead. `node` is below all levels. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub required_level: Option<String>,
    /// The level of which the pods are in as few domains as can be. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub preferred_level: Option<String>,
    /// A domain without other groups. Default: domains are shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<ExclusiveSpec>,
    /// Distance from other groups of a set. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<SpreadSpec>,
    /// The answer to lost pods that find no place near the others. Default Wait.
    #[serde(default)]
    pub on_loss: OnLossKind,
    /// Whether replicas of one role are useless without those of the other: none then gets a larger
    /// share of its replicas. Default false.
    #[serde(default)]
    pub lockstep: bool,
    /// Where the pods of prefill are, beyond that. Default: one replica at least, of one pod.
    #[serde(default)]
    pub prefill: RolePlacementSpec,
    /// Where the pods of decode are, beyond that. Default: one replica at least, of one pod.
    #[serde(default)]
    pub decode: RolePlacementSpec,
}

impl PlacementSpec {
    /// The part about one role.
    pub const fn role(&self, role: Role) -> &RolePlacementSpec {
        match role {
            Role::Prefill => &self.prefill,
            Role::Decode => &self.decode,
        }
    }
}

/// Where the pods of one role are placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolePlacementSpec {
    /// Fewest replicas with which the service is of use: it gets those of both roles, or nothing. 1
    /// to minReplicas of the role. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub min_replicas: i32,
    /// Pods of one replica: 1 for a Deployment, the size of the group for a LeaderWorkerSet. 1 to
    /// 512. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = PODS_PER_REPLICA_MAX))]
    pub pods_per_replica: i32,
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

impl Default for RolePlacementSpec {
    fn default() -> Self {
        Self {
            min_replicas: one(),
            pods_per_replica: one(),
            required_level: None,
            preferred_level: None,
            replica_level: None,
        }
    }
}

const fn one() -> i32 {
    1
}

/// A domain without other groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExclusiveSpec {
    /// The level of the domain. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub level: String,
    /// The answer where no domain is free of others. Default Wait.
    #[serde(default)]
    pub fallback: FallbackKind,
}

/// The answer to a domain that cannot be had alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FallbackKind {
    /// The group waits, and others are kept out of its domain.
    #[default]
    Wait,
    /// It shares a domain with the fewest others.
    Share,
}

/// Distance between groups of a set, such as the replicas of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpreadSpec {
    /// The set's name, in the group's namespace. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub set: String,
    /// The level whose domains differ. At most 63 characters.
    #[schemars(length(min = 1, max = 63))]
    pub level: String,
    /// Most groups of the set in one domain, 1 to 4096. Default: as few as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub max_per_domain: Option<i32>,
}

/// The answer to lost pods that find no place near the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnLossKind {
    /// Nothing moves, and nothing is added before the least replicas are there again.
    #[default]
    Wait,
    /// The whole group moves, if its least replicas fit elsewhere: its pods are evicted.
    Relocate,
    /// Nothing moves, and what fits is added even below the least.
    Degrade,
}

/// Whether the pods of such a target are known by themselves.
pub(crate) fn is_known(target: &Target) -> bool {
    pd_systems::member::marks(&target.api_version, &target.kind).is_some()
}

/// [`is_known`] of the target of `role`, as a rule.
#[cfg(feature = "kube")]
pub(super) fn target_is_known(role: Role) -> kube::core::Rule {
    let target = format!("self.{role}.target");
    let rows = pd_systems::member::ROWS.iter().map(|row| {
        format!(
            "{target}.kind == '{}' && {target}.apiVersion.startsWith('{}')",
            row.kind, row.api_version
        )
    });
    let rows: Vec<String> = rows.collect();
    rule_naming_value(
        &format!("!has(self.placement) || {}", rows.join(" || ")),
        &format!("'{role}.target.kind `' + {target}.kind + '` {PODS_REMEDY}'"),
    )
}

/// A rule that keeps the least replicas of `role` within its bounds.
#[cfg(feature = "kube")]
pub(super) fn least_is_within_bounds(role: Role) -> kube::core::Rule {
    let least = format!("self.placement.{role}.minReplicas");
    rule_naming_value(
        &format!("!has(self.placement) || {least} <= self.{role}.minReplicas"),
        &format!("'placement.{role}.minReplicas `%d` {LEAST_REMEDY}'.format([{least}])"),
    )
}
