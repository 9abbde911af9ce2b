//! Where each kind has its pod template, and what is read of it: annotations, tolerations, node
//! affinity, and the node of a pod that names one.
//!
//! Everything else of an object is skipped without being understood. `null` counts as absent, as in
//! Kubernetes.

use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use pd_tolerations::{
    Toleration,
    mirror::{HOLD, PreferredTerm, Term},
    rewrite::ANNOTATION,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::{Members, object, object_or_default, objects, objects_or_none};

/// The kinds that have a pod template, or are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    ReplicationController,
    PodTemplate,
}

impl Kind {
    /// The kind by its API group and name.
    pub(super) fn of(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            ("", "Pod") => Self::Pod,
            ("apps", "Deployment") => Self::Deployment,
            ("apps", "ReplicaSet") => Self::ReplicaSet,
            ("apps", "StatefulSet") => Self::StatefulSet,
            ("apps", "DaemonSet") => Self::DaemonSet,
            ("batch", "Job") => Self::Job,
            ("batch", "CronJob") => Self::CronJob,
            ("", "ReplicationController") => Self::ReplicationController,
            ("", "PodTemplate") => Self::PodTemplate,
            _ => return None,
        })
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::ReplicationController => "ReplicationController",
            Self::PodTemplate => "PodTemplate",
        }
    }

    /// The members that lead to its pod template.
    const fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &[],
            Self::PodTemplate => &["template"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }

    /// The path of its tolerations, as the API server names fields.
    pub(super) fn tolerations_field(self) -> String {
        let steps = self.steps().iter().map(|step| format!("{step}."));
        format!("{}spec.tolerations", steps.collect::<String>())
    }

    /// The JSON pointer of its pod template.
    pub(super) fn path(self) -> PointerBuf {
        PointerBuf::from_tokens(self.steps().iter().copied())
    }
}

/// An object that holds a pod template.
pub(super) struct Holder<'a> {
    /// The text of the template.
    pub(super) template: &'a RawValue,
    /// The parts that were read of it.
    pub(super) pod: PodTemplate,
    /// The controller of a pod or `ReplicaSet`.
    pub(super) controller: Option<Owner>,
}

impl<'a> Holder<'a> {
    /// Reads an object; nothing if it has no template, or one without a spec, which has no place
    /// for what we write.
    pub(super) fn read(
        object: &'a RawValue,
        kind: Kind,
    ) -> Result<Option<Self>, serde_json::Error> {
        let mut template = object;
        for step in kind.steps() {
            let members: BTreeMap<String, &'a RawValue> = match serde_json::from_str(template.get())
            {
                Ok(members) => members,
                Err(_) if template.get() == "null" => return Ok(None),
                Err(error) => return Err(error),
            };
            match members.get(*step) {
                Some(member) => template = member,
                None => return Ok(None),
            }
        }
        let read: Option<Members<Template>> = serde_json::from_str(template.get())?;
        let pod = read.and_then(|Members(read)| {
            Some(PodTemplate {
                metadata: read.metadata,
                spec: read.spec?,
            })
        });
        let controller = match kind {
            Kind::Pod | Kind::ReplicaSet => serde_json::from_str::<Members<Owned>>(object.get())?
                .0
                .controller(),
            _ => None,
        };
        Ok(pod.map(|pod| Self {
            template,
            pod,
            controller,
        }))
    }

    /// Whether something in it is about numeric tolerations.
    pub(super) fn is_ours(&self) -> bool {
        self.pod.annotation().is_some()
            || self
                .pod
                .spec
                .tolerations()
                .iter()
                .any(|one| one.operator.is_numeric())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    #[serde(deserialize_with = "object")]
    metadata: Option<Metadata>,
    #[serde(deserialize_with = "object")]
    spec: Option<Spec>,
}

/// The parts that were read of a pod or a template.
pub(super) struct PodTemplate {
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) annotations: Option<BTreeMap<String, Option<String>>>,
    labels: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "nodeName")]
    node_name: Option<String>,
    #[serde(deserialize_with = "objects")]
    pub(super) tolerations: Option<Vec<Toleration>>,
    #[serde(deserialize_with = "object")]
    pub(super) affinity: Option<Affinity>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Affinity {
    #[serde(deserialize_with = "object")]
    pub(super) node_affinity: Option<NodeAffinity>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeAffinity {
    #[serde(deserialize_with = "object")]
    pub(super) required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    #[serde(deserialize_with = "objects")]
    pub(super) preferred_during_scheduling_ignored_during_execution: Option<Vec<PreferredTerm>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeSelector {
    #[serde(deserialize_with = "objects_or_none")]
    pub(super) node_selector_terms: Vec<Term>,
}

impl PodTemplate {
    /// Our annotation.
    pub(super) fn annotation(&self) -> Option<&str> {
        let annotations = self.metadata.as_ref()?.annotations.as_ref()?;
        annotations.get(ANNOTATION)?.as_deref()
    }

    /// The token of the pod's hold.
    pub(super) fn hold(&self) -> Option<&str> {
        let annotations = self.metadata.as_ref()?.annotations.as_ref()?;
        annotations.get(HOLD)?.as_deref()
    }

    /// A label of the pod.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let labels = self.metadata.as_ref()?.labels.as_ref()?;
        labels.get(name)?.as_deref()
    }
}

impl Spec {
    pub(super) fn tolerations(&self) -> &[Toleration] {
        self.tolerations.as_deref().unwrap_or_default()
    }

    /// The terms of the required node affinity.
    pub(super) fn terms(&self) -> Option<&[Term]> {
        let required = self
            .affinity
            .as_ref()?
            .node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        Some(&required.node_selector_terms)
    }

    /// The terms of the preferred node affinity.
    pub(super) fn preferred_terms(&self) -> Option<&[PreferredTerm]> {
        let node_affinity = self.affinity.as_ref()?.node_affinity.as_ref()?;
        node_affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_deref()
    }

    /// Whether the pod names its node, so that no scheduler looks for one.
    pub(super) fn is_bound(&self) -> bool {
        self.node_name
            .as_deref()
            .is_some_and(|node| !node.is_empty())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owned {
    #[serde(deserialize_with = "object_or_default")]
    metadata: OwnedMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OwnedMetadata {
    #[serde(deserialize_with = "objects_or_none")]
    owner_references: Vec<Owner>,
}

/// A reference to an owner.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    controller: Option<bool>,
}

impl Owned {
    fn controller(self) -> Option<Owner> {
        let mut owners = self.metadata.owner_references.into_iter();
        owners.find(|owner| owner.controller == Some(true))
    }
}
