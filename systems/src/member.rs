//! Whose pod it is, as the pod alone shows while it is created.
//!
//! Admission sees a pod before it has a name and may ask the cluster nothing. What it has are the
//! owner and the labels that a workload's controller writes into each pod. Here is which of them
//! says, for each kind of target, that a pod is of that target and of that role. Kinds that only
//! refer to the object whose pods they scale are not in the table: nothing in a pod names them.
//!
//! Sources of the labels are those of the systems' own files below this crate.

use crate::target::Target;

/// How the pods of a kind of targets are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// The controller of the pod is the target itself.
    Controller,
    /// The controller of the pod is a ReplicaSet of the Deployment of the target's name.
    Deployment,
    /// Labels.
    Labels {
        /// The label whose value is the target's name.
        name: &'static str,
        /// The label whose value is the role, of objects with several.
        role: Option<&'static str>,
        /// Labels that have these values in all such pods.
        fixed: &'static [(&'static str, &'static str)],
        /// Values of the role's label that count as the role named first.
        alias: Option<(&'static str, &'static str)>,
    },
}

/// A kind of targets, and how their pods are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The beginning of `apiVersion`: a group and a slash, or a version too where versions differ.
    pub api_version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The marks of its pods.
    pub marks: Marks,
}

const fn labelled(
    api_version: &'static str,
    kind: &'static str,
    name: &'static str,
    role: Option<&'static str>,
) -> Row {
    Row {
        api_version,
        kind,
        marks: Marks::Labels {
            name,
            role,
            fixed: &[],
            alias: None,
        },
    }
}

const fn owned(api_version: &'static str, kind: &'static str, marks: Marks) -> Row {
    Row {
        api_version,
        kind,
        marks,
    }
}

const LWS: &str = "leaderworkerset.sigs.k8s.io/name";

/// Every kind whose pods are known by themselves.
pub const ROWS: [Row; 16] = [
    owned("apps/v1", "Deployment", Marks::Deployment),
    owned("apps/v1", "StatefulSet", Marks::Controller),
    owned("apps/v1", "ReplicaSet", Marks::Controller),
    // The operator makes one Deployment of the same name.
    owned(
        "production-stack.vllm.ai/",
        "VLLMRuntime",
        Marks::Deployment,
    ),
    labelled("leaderworkerset.x-k8s.io/", "LeaderWorkerSet", LWS, None),
    // The controller of llmaz makes one LeaderWorkerSet of the same name.
    labelled("inference.llmaz.io/", "Playground", LWS, None),
    labelled("inference.llmaz.io/", "Service", LWS, None),
    labelled(
        "disaggregatedset.x-k8s.io/",
        "DisaggregatedSet",
        "disaggregatedset.x-k8s.io/name",
        Some("disaggregatedset.x-k8s.io/role"),
    ),
    labelled(
        "workloads.x-k8s.io/v1alpha2",
        "RoleBasedGroup",
        "rbg.workloads.x-k8s.io/group-name",
        Some("rbg.workloads.x-k8s.io/role-name"),
    ),
    labelled(
        "workloads.x-k8s.io/v1alpha1",
        "RoleBasedGroup",
        "rolebasedgroup.workloads.x-k8s.io/name",
        Some("rolebasedgroup.workloads.x-k8s.io/role"),
    ),
    labelled(
        "orchestration.aibrix.ai/",
        "StormService",
        "storm-service-name",
        Some("role-name"),
    ),
    labelled(
        "workload.serving.volcano.sh/",
        "ModelServing",
        "modelserving.volcano.sh/name",
        Some("modelserving.volcano.sh/role"),
    ),
    labelled(
        "nvidia.com/",
        "DynamoGraphDeployment",
        "nvidia.com/dynamo-graph-deployment-name",
        Some("nvidia.com/dynamo-component"),
    ),
    labelled("grove.io/", "PodClique", "grove.io/podclique", None),
    labelled(
        "grove.io/",
        "PodCliqueScalingGroup",
        "grove.io/podcliquescalinggroup",
        None,
    ),
    Row {
        api_version: "serving.kserve.io/",
        kind: "LLMInferenceService",
        marks: Marks::Labels {
            name: "app.kubernetes.io/name",
            role: Some("llm-d.ai/role"),
            fixed: &[
                ("app.kubernetes.io/part-of", "llminferenceservice"),
                ("kserve.io/component", "workload"),
            ],
            alias: Some(("decode", "both")),
        },
    },
];

/// The controller of a pod, by its owner reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller<'a> {
    /// `apiVersion`.
    pub api_version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Name.
    pub name: &'a str,
}

/// The label by which a Deployment distinguishes its ReplicaSets.
const HASH: &str = "pod-template-hash";

/// How the pods of such a target are known; nothing for kinds of which a pod shows nothing.
pub fn marks(api_version: &str, kind: &str) -> Option<Marks> {
    let row = ROWS
        .iter()
        .find(|row| row.kind == kind && api_version.starts_with(row.api_version));
    row.map(|row| row.marks)
}

/// Whether a pod with this controller and these labels is of `target`.
pub fn is_of<'a>(
    target: &Target,
    controller: Option<Controller<'a>>,
    label: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let made_by = |kind: &str, name: &str| {
        controller.is_some_and(|controller| {
            controller.api_version.starts_with("apps/")
                && controller.kind == kind
                && controller.name == name
        })
    };
    match marks(&target.api_version, &target.kind) {
        None => false,
        Some(Marks::Controller) => made_by(&target.kind, &target.name),
        Some(Marks::Deployment) => label(HASH)
            .is_some_and(|hash| made_by("ReplicaSet", &format!("{}-{hash}", target.name))),
        Some(Marks::Labels {
            name,
            role,
            fixed,
            alias,
        }) => {
            let wanted = target.role.as_deref();
            let wanted = wanted.unwrap_or_else(|| target.side.as_str());
            let is_role = |found: &str| {
                found == wanted || alias.is_some_and(|(of, also)| of == wanted && found == also)
            };
            label(name) == Some(target.name.as_str())
                && fixed.iter().all(|(key, value)| label(key) == Some(value))
                && role.is_none_or(|role| label(role).is_some_and(is_role))
        }
    }
}

#[cfg(test)]
mod tests;
