//! The workload of one role, and how far it may be scaled.
//!
//! A target is an object in the same namespace. This version scales Deployments and StatefulSets
//! through their `/scale`; every other kind is refused by name, so that nobody waits for an
//! autoscaler that will never act.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{matching, refused, rule_naming_value};
use super::{
    reserved,
    toleration::{self, NumericTolerationSpec},
};
use crate::derives::KubeSchema;

/// Most replicas of a role.
pub const REPLICAS_MAX: i32 = 10_000;
/// Most GPUs of one replica.
pub const GPUS_PER_REPLICA_MAX: i32 = 1_024;
/// Names of Kubernetes objects, as RE2.
pub(crate) const NAME_REGEX: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Remedy for a name.
pub(crate) const NAME_REMEDY: &str =
    "must be the name of an object: lower-case letters, digits, `-` and `.`";
/// The workloads that are scaled, by apiVersion and kind.
const SUPPORTED: [(&str, &str); 2] = [("apps/v1", "Deployment"), ("apps/v1", "StatefulSet")];
/// Remedy for a target.
pub(crate) const TARGET_REMEDY: &str =
    "is not supported by this version; use a Deployment or StatefulSet of apps/v1";
/// Remedy when the bounds cross.
pub(crate) const BOUNDS_REMEDY: &str = "lower minReplicas or raise maxReplicas";

/// One role: its workload and the bounds of its replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule_naming_value(
    "self.minReplicas <= self.maxReplicas",
    &format!(
        "'minReplicas `%d` is above maxReplicas `%d`; {BOUNDS_REMEDY}'\
         .format([self.minReplicas, self.maxReplicas])"
    ),
))]
pub struct RoleSpec {
    /// The workload whose replicas are set. It must be in the same namespace, and no other
    /// autoscaler may act on it.
    pub target: TargetReference,
    /// Fewest replicas, 1 to 10000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub min_replicas: i32,
    /// Most replicas, minReplicas to 10000.
    #[schemars(range(min = 1, max = REPLICAS_MAX))]
    pub max_replicas: i32,
    /// GPUs that one replica holds, 1 to 1024. Default: read from the limits of the target's pod
    /// template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = GPUS_PER_REPLICA_MAX))]
    pub gpus_per_replica: Option<i32>,
    /// Numeric tolerations that the target's pods get when they are created, unless a pod states
    /// its own for the same key. The admission webhook gives them, on every cluster; the target is
    /// not changed, and running pods keep what they have. At most 8. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = toleration::MAX))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub numeric_tolerations: Vec<NumericTolerationSpec>,
}

/// A workload in the namespace of the PDAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule_naming_value(
    &supported_rule(),
    &format!("'kind `' + self.kind + '` of apiVersion `' + self.apiVersion + '` {TARGET_REMEDY}'"),
))]
pub struct TargetReference {
    /// API group and version of the workload: apps/v1.
    #[schemars(length(min = 1, max = 128))]
    pub api_version: String,
    /// Kind of the workload: Deployment or StatefulSet.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = matching("name", NAME_REGEX, NAME_REMEDY))]
    pub name: String,
    /// Not supported by this version. Will name the role inside an object that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = refused("role", reserved::ROLE))]
    pub role: Option<String>,
}

impl TargetReference {
    /// Whether this version scales such a workload.
    pub fn is_supported(&self) -> bool {
        SUPPORTED.contains(&(self.api_version.as_str(), self.kind.as_str()))
    }
}

/// [`TargetReference::is_supported`] as CEL.
fn supported_rule() -> String {
    let kinds = SUPPORTED
        .map(|(version, kind)| format!("self.apiVersion == '{version}' && self.kind == '{kind}'"));
    kinds.join(" || ")
}

const fn one() -> i32 {
    1
}
