//! Which pods join and leave the groups of PDAutoscalers after they were made.
//!
//! A pod joins when it is created. One of before, or of a moment in which nobody admitted pods,
//! gets the same labels later: it runs where it is, and the others are placed near it. A pod whose
//! PDAutoscaler does not ask any more leaves: labels, annotation and gate are taken off, so that it
//! waits for nobody. The annotation tells such pods from those that people label by hand, which are
//! never touched. Pure: pods in, changes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use json_patch::PatchOperation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pd_api::v1alpha1::placement_group::{GATE, GROUP_LABEL, ROLE_LABEL, SOURCE_ANNOTATION};
use pd_systems::member::Controller;
use serde_json::{Value, json};

use super::{
    act::{as_seen, at, removed},
    autoscaler::{Asked, PlacingAutoscaler},
};

/// The PDAutoscalers that ask for placement.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// By namespace, in the order in which they count.
    by_namespace: BTreeMap<String, Vec<Arc<PlacingAutoscaler>>>,
    /// Namespaces and names of those that cannot be read: their pods stay as they are.
    unread: BTreeSet<(String, String)>,
}

impl Asking {
    /// Those of `objects` that ask.
    pub(super) fn of(objects: &[Arc<PlacingAutoscaler>]) -> Self {
        let mut asking = Self::default();
        for object in objects {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            match object.asked() {
                Asked::Placement(_) => {
                    let of_namespace = asking.by_namespace.entry(namespace).or_default();
                    of_namespace.push(object.clone());
                }
                Asked::Wrong(_) => {
                    let name = object.metadata.name.clone().unwrap_or_default();
                    asking.unread.insert((namespace, name));
                }
                Asked::Nothing | Asked::Idle => {}
            }
        }
        for of_namespace in asking.by_namespace.values_mut() {
            of_namespace.sort_by_key(|object| object.rank());
        }
        asking
    }

    /// Whether nobody asks.
    pub(super) fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }

    /// Whether what a pod joined cannot be read now.
    fn is_unread(&self, pod: &ObjectMeta, source: &str) -> bool {
        let name = source.split_once('/').map_or(source, |(name, _)| name);
        let namespace = pod.namespace.clone().unwrap_or_default();
        self.unread.contains(&(namespace, name.to_owned()))
    }

    /// The PDAutoscaler and role of a pod, as its annotation has them.
    pub(super) fn source(&self, pod: &ObjectMeta) -> Option<String> {
        let asking = self
            .by_namespace
            .get(pod.namespace.as_deref().unwrap_or_default())?;
        let is_controller = |owner: &&OwnerReference| owner.controller == Some(true);
        let mut owners = pod.owner_references.iter().flatten();
        let controller = owners.find(is_controller).map(|owner| Controller {
            api_version: &owner.api_version,
            kind: &owner.kind,
            name: &owner.name,
        });
        let labels = pod.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key).map(String::as_str));
        asking.iter().find_map(|object| {
            let role = object.role_of(controller, label)?;
            let name = object.metadata.name.as_deref().unwrap_or_default();
            Some(format!("{name}/{role}"))
        })
    }
}

/// A change of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodChange {
    /// It joins, as this PDAutoscaler and role.
    Join(String),
    /// It leaves.
    Leave,
}

/// The change that a pod needs.
pub(super) fn change(pod: &ObjectMeta, asking: &Asking) -> Option<PodChange> {
    if pod.deletion_timestamp.is_some() {
        return None;
    }
    let labels = pod.labels.as_ref();
    let annotations = pod.annotations.as_ref();
    let is_labelled = labels.is_some_and(|labels| labels.contains_key(GROUP_LABEL));
    let is = annotations.and_then(|annotations| annotations.get(SOURCE_ANNOTATION));
    let wanted = asking.source(pod);
    match (is_labelled, is) {
        // A label without our annotation is its author's.
        (true, None) => None,
        (true, Some(is)) if wanted.as_ref() == Some(is) => None,
        (_, Some(is)) if asking.is_unread(pod, is) => None,
        (true | false, Some(_)) | (false, None) => match wanted {
            Some(wanted) => Some(PodChange::Join(wanted)),
            None => is.map(|_| PodChange::Leave),
        },
    }
}

/// The patch of a change. `gates` are the pod's scheduling gates, as far as they are known.
pub(super) fn patch(
    pod: &ObjectMeta,
    gates: &[Value],
    change: &PodChange,
) -> Option<Vec<PatchOperation>> {
    let mut patch = Vec::from(as_seen(pod.uid.clone()?, pod.resource_version.clone()?));
    match change {
        PodChange::Join(source) => {
            let (autoscaler, role) = source.split_once('/')?;
            if pod.labels.is_none() {
                patch.push(at(&["metadata", "labels"], json!({})));
            }
            if pod.annotations.is_none() {
                patch.push(at(&["metadata", "annotations"], json!({})));
            }
            patch.push(at(&["metadata", "labels", GROUP_LABEL], autoscaler.into()));
            patch.push(at(&["metadata", "labels", ROLE_LABEL], role.into()));
            let annotation = ["metadata", "annotations", SOURCE_ANNOTATION];
            patch.push(at(&annotation, source.as_str().into()));
        }
        PodChange::Leave => {
            let labels = pod.labels.as_ref();
            for label in [GROUP_LABEL, ROLE_LABEL] {
                if labels.is_some_and(|labels| labels.contains_key(label)) {
                    patch.push(removed(&["metadata", "labels", label]));
                }
            }
            patch.push(removed(&["metadata", "annotations", SOURCE_ANNOTATION]));
            if let Some(gate) = gates.iter().position(|gate| gate["name"] == GATE) {
                patch.push(removed(&["spec", "schedulingGates", &gate.to_string()]));
            }
        }
    }
    Some(patch)
}

#[cfg(test)]
mod tests;
