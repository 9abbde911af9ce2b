//! Kthena's ModelServings: roles of every ServingGroup, an entry pod and its workers each.
//!
//! A role's replicas are those of each group, so that a service of three groups changes by three.
//! They are not part of the revision: a change of them replaces nothing.

use crate::{
    build::{entry, listed, template_gpus},
    drain::Leaving,
    gpus::sum,
    json::{count, list, name, text},
    kind::{Form, Kind, Roles, Victim},
    place::{Floor, Place, PodSelector, Serving, Unit},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Target},
};

/// ModelServing.
#[derive(Clone, Copy, Debug)]
pub struct ModelServings;

/// ModelServings.
pub const MODEL_SERVING: Kind = Kind {
    group: "workload.serving.volcano.sh",
    version: "v1alpha1",
    kind: "ModelServing",
    plural: "modelservings",
    roles: Roles::Several,
    form: Form::JsonPatch,
    switch: "modelServings",
    replica: "entry pod and its `workerReplicas`, in every ServingGroup",
    serving: "entry pod",
    victim: Victim::DeletionCost,
    refused: "below `gangPolicy.minRoleReplicas`; made by a ModelBooster; no ServingGroup",
};

const ROLES: &str = "/spec/template/roles";
/// The role's replica within its ServingGroup.
const KEY: &[&[&str]] = &[
    &["modelserving.volcano.sh/group-name"],
    &["modelserving.volcano.sh/role-id"],
];

impl System for ModelServings {
    fn name(&self) -> &'static str {
        "Kthena ModelServing"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 1] = [MODEL_SERVING];
        &KINDS
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let serving = near.object;
        let entry = entry(target, list(serving, ROLES), |_| None)?;
        let role = entry.value;
        let groups = count(serving, "/spec/replicas").unwrap_or(1);
        if groups == 0 {
            return Err(Refusal::NotATarget {
                kind: target.kind.clone(),
                name: target.name.clone(),
                remedy: "it has no ServingGroup: set `spec.replicas` to 1 or more",
            });
        }
        let mut place = listed(&MODEL_SERVING, near, ROLES, &entry, "/replicas").copied(groups);
        place.pods = PodSelector::labelled(Selector::equal(&[
            ("modelserving.volcano.sh/name", name(serving)),
            ("modelserving.volcano.sh/role", entry.name),
        ]));
        let workers = count(role, "/workerReplicas").unwrap_or(0);
        place.unit = Unit {
            pods: workers.saturating_add(1),
            key: KEY,
            serving: Serving::Label("modelserving.volcano.sh/entry", "true"),
        };
        place.gpus = sum([
            (1, template_gpus(&role["entryTemplate"], near)),
            (workers, template_gpus(&role["workerTemplate"], near)),
        ]);
        place.leaving = Leaving::of(&role["entryTemplate"], target.side);
        let least = serving
            .pointer("/spec/template/gangPolicy/minRoleReplicas")
            .and_then(|least| count(least, &format!("/{}", entry.name)));
        if let Some(least) = least {
            place.floor = Floor {
                replicas: least.saturating_mul(groups),
                cause: "gangPolicy.minRoleReplicas",
            };
        }
        let revision = |field: &str| text(serving, field);
        let updated = revision("/status/updateRevision");
        place.rolling_out = updated.is_some() && updated != revision("/status/currentRevision");
        Ok(place)
    }
}

#[cfg(test)]
mod tests;
