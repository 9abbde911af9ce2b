//! The workload of one role, and how far it may be scaled.
//!
//! A target is an object in the same namespace: of a kind that pd-systems knows, or of a group that
//! is none of Kubernetes' own and has `/scale`. Every other kind is refused by name, so that nobody
//! waits for an autoscaler that will never act. Objects with several roles name one as `role`.

use serde::{Deserialize, Serialize};

#[cfg(feature = "kube")]
use super::rules::{matching, rule, rule_naming_value};
use super::toleration::{self, NumericTolerationSpec};
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
/// Remedy for a target.
pub(crate) const TARGET_REMEDY: &str = "is not supported by this version; use a Deployment or \
     StatefulSet of apps/v1, or another kind that docs/systems.md lists";
/// Remedy for a role inside an object that is one role.
pub(crate) const ROLE_REMEDY: &str =
    "role is only for objects with several roles, which this kind is not; remove it";
/// Remedy for tolerations of pods that the webhook does not see.
pub(crate) const TOLERATIONS_REMEDY: &str = "numericTolerations are given to pods of targets of apps/v1 alone; \
     state them in the pod template of this kind instead";
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
#[x_kube(validation = rule(
    "!has(self.numericTolerations) || size(self.numericTolerations) == 0 || self.target.apiVersion == 'apps/v1'",
    TOLERATIONS_REMEDY,
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
#[x_kube(validation = rule(&role_rule(), ROLE_REMEDY))]
pub struct TargetReference {
    /// API group and version of the workload, such as apps/v1.
    #[schemars(length(min = 1, max = 128))]
    pub api_version: String,
    /// Kind of the workload, such as Deployment or LeaderWorkerSet.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = matching("name", NAME_REGEX, NAME_REMEDY))]
    pub name: String,
    /// Role inside an object that has several, such as a RoleBasedGroup. Default: the one that is
    /// for prefill or decode, by its type or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub role: Option<String>,
}

/// API groups of people's own: not Kubernetes', which are without a dot or end in `.k8s.io`.
#[cfg(feature = "kube")]
const OWN_GROUP: &str = "^[a-z0-9-]+([.][a-z0-9-]+)+/v[a-z0-9]+$";

impl TargetReference {
    /// The workload of `side`, as pd-systems takes it.
    pub fn of_side(&self, side: pd_core::Role) -> pd_systems::target::Target {
        pd_systems::target::Target {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            role: self.role.clone(),
            side,
        }
    }

    /// Whether this version scales such a workload.
    pub fn is_supported(&self) -> bool {
        pd_systems::find(&self.api_version, &self.kind).is_some() || self.is_of_own_group()
    }

    /// Whether its group is none that Kubernetes or a known system has: its `/scale` is all that is
    /// known of it.
    fn is_of_own_group(&self) -> bool {
        let group = pd_systems::target::group(&self.api_version);
        group.contains('.') && !group.ends_with(".k8s.io") && !groups().contains(&group)
    }

    /// Whether such an object has several roles.
    pub fn has_roles(&self) -> bool {
        pd_systems::find(&self.api_version, &self.kind)
            .is_some_and(|(_, kind)| kind.roles == pd_systems::kind::Roles::Several)
    }

    /// The replicas that it names for `side`, as kind and name: equal where two PDAutoscalers scale
    /// the same ones. A kind without a group is of apps/v1, whose pods admission knows.
    pub fn replicas(&self, side: pd_core::Role) -> (String, String) {
        let kind = match self.api_version.as_str() {
            "apps/v1" => self.kind.clone(),
            version => format!("{}.{}", self.kind, pd_systems::target::group(version)),
        };
        let name = if self.has_roles() {
            let role = self.role.as_deref().unwrap_or_else(|| side.as_str());
            format!("{}/{role}", self.name)
        } else {
            self.name.clone()
        };
        (kind, name)
    }
}

/// Both roles name one object only if it has several roles, named as different ones or found by
/// their side, as CEL.
#[cfg(feature = "kube")]
pub(super) fn distinct_rule() -> String {
    let kinds = pd_systems::ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds);
    let several = kinds.filter(|kind| kind.roles == pd_systems::kind::Roles::Several);
    let mut several: Vec<String> = several.map(|kind| format!("'{}'", kind.kind)).collect();
    several.dedup();
    let role =
        |side: &str| format!("(has(self.{side}.target.role) ? self.{side}.target.role : '{side}')");
    format!(
        "self.prefill.target.kind != self.decode.target.kind || \
         self.prefill.target.name != self.decode.target.name || \
         self.prefill.target.kind in [{}] && {} != {}",
        several.join(", "),
        role("prefill"),
        role("decode")
    )
}

/// Groups of known systems.
fn groups() -> Vec<&'static str> {
    let kinds = pd_systems::ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds);
    kinds.map(|kind| kind.group).collect()
}

/// Known kinds that `wanted` says yes to, as CEL.
#[cfg(feature = "kube")]
fn kinds_rule(wanted: impl Fn(&pd_systems::kind::Kind) -> bool) -> String {
    let kinds = pd_systems::ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds);
    let rules = kinds.filter(|kind| wanted(kind)).map(|kind| {
        let version = kind.api_version();
        format!(
            "self.apiVersion == '{version}' && self.kind == '{}'",
            kind.kind
        )
    });
    rules.collect::<Vec<_>>().join(" || ")
}

/// [`TargetReference::is_supported`] as CEL.
#[cfg(feature = "kube")]
fn supported_rule() -> String {
    let mut known = groups();
    known.dedup();
    let known: Vec<String> = known.iter().map(|group| format!("'{group}/'")).collect();
    format!(
        "{} || self.apiVersion.matches('{OWN_GROUP}') && !self.apiVersion.contains('.k8s.io/') && \
         ![{}].exists(group, self.apiVersion.startsWith(group))",
        kinds_rule(|_| true),
        known.join(", ")
    )
}

/// A role is named only in objects that have several, as CEL.
#[cfg(feature = "kube")]
fn role_rule() -> String {
    let several = kinds_rule(|kind| kind.roles == pd_systems::kind::Roles::Several);
    format!("!has(self.role) || {several}")
}

const fn one() -> i32 {
    1
}
