//! Tolerations that a pod gets because of the role it plays: whose pod it is, and what it lacks.
//!
//! A pod is of the workload that made it: of the `StatefulSet` that controls it, or of the
//! Deployment whose `ReplicaSet` does, which the pod itself shows, for the name of the set is the
//! Deployment's, a dash and the pod's `pod-template-hash`. So nothing has to be asked of the
//! cluster. A key about which the pod says anything by itself is the pod's own affair.
//!
//! Pods only, and only when they are created: a template that were changed would no longer be what
//! its author wrote.

use pd_core::Role;
use pd_tolerations::{Effect, ExtendedToleration, Operator, Toleration};

use super::template::Holder;

/// The annotation of a pod that says which PDAutoscaler and role it has tolerations from, as
/// `NAME/ROLE`.
pub(super) const SOURCE: &str = "pdautoscaler.io/tolerations-from";
/// The label by which a Deployment distinguishes its `ReplicaSets`.
const HASH: &str = "pod-template-hash";

/// A workload, which makes pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its kind, of apps/v1.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The tolerations that the pods of a workload get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The PDAutoscaler that says so.
    pub autoscaler: String,
    /// The role of the workload.
    pub role: Role,
    /// The tolerations.
    pub tolerations: Vec<ExtendedToleration>,
}

impl Defaults {
    /// Those about whose keys neither tolerations nor annotation of a pod say anything. A
    /// toleration without a key is about all of them, but for other effects than its own.
    pub(super) fn missing(
        &self,
        spec: &[Toleration],
        entries: &[ExtendedToleration],
    ) -> Vec<&ExtendedToleration> {
        let tolerates_all = |one: &Toleration, effect: &Effect| {
            let is_its_effect = one.effect.is_unset() || one.effect == *effect;
            one.key.is_empty() && one.operator == Operator::Exists && is_its_effect
        };
        let is_stated = |given: &ExtendedToleration| {
            spec.iter()
                .any(|one| one.key == given.key || tolerates_all(one, &given.effect))
                || entries.iter().any(|one| one.key == given.key)
        };
        let missing = |one: &&ExtendedToleration| !is_stated(one);
        self.tolerations.iter().filter(missing).collect()
    }
}

/// The workload that a pod is of, if it is one that a PDAutoscaler can have for a target.
pub(super) fn workload(pod: &Holder<'_>, namespace: &str) -> Option<Workload> {
    let owner = pod.controller.as_ref()?;
    if !owner.api_version.starts_with("apps/") {
        return None;
    }
    let name = match owner.kind.as_str() {
        "StatefulSet" => owner.name.as_str(),
        "ReplicaSet" => {
            let hash = pod.pod.label(HASH)?;
            owner.name.strip_suffix(hash)?.strip_suffix('-')?
        }
        _ => return None,
    };
    let kind = if owner.kind == "ReplicaSet" {
        "Deployment"
    } else {
        "StatefulSet"
    };
    Some(Workload {
        namespace: namespace.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}
