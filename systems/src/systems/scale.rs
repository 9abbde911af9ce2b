//! Any other kind with a `scale` subresource, which is all that is known of it: one pod is one
//! replica, found by the selector that `scale` states.

use crate::{
    build::bare,
    json::{count, is_behind, text},
    kind::{Form, Kind, Roles, Victim},
    owner::{controller, referring},
    place::{Place, PodSelector},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, ObjectRef, Target},
};

/// Kinds with `scale` of which nothing else is known.
#[derive(Clone, Copy, Debug)]
pub struct AnyScale;

/// The facts of any kind with `scale`.
pub const ANY: Kind = Kind {
    group: "",
    version: "",
    kind: "any with `scale`",
    plural: "",
    roles: Roles::One,
    form: Form::Scale,
    switch: "scale",
    replica: "1 pod",
    serving: "every pod",
    victim: Victim::Own,
    refused: "no `scale`; made by another object that sets its replicas",
};

/// Kinds that are scaled as a whole, both roles with them, or not at all: group, kind, and what to
/// do instead.
const NOT_TARGETS: [(&str, &str, &str); 8] = [
    (
        "grove.io",
        "PodCliqueSet",
        "its replicas are copies of all roles: name the PodClique or PodCliqueScalingGroup of the role",
    ),
    (
        "grove.io",
        "PodGang",
        "it is the scheduler's: name the PodClique or PodCliqueScalingGroup of the role",
    ),
    (
        "workloads.x-k8s.io",
        "RoleBasedGroupSet",
        "its replicas are copies of all roles: name a RoleBasedGroup and the role",
    ),
    (
        "workloads.x-k8s.io",
        "RoleInstanceSet",
        "its RoleBasedGroup writes it: name that and the role",
    ),
    (
        "nvidia.com",
        "DynamoComponentDeployment",
        "its DynamoGraphDeployment writes it: name that and the component",
    ),
    (
        "nvidia.com",
        "DynamoGraphDeploymentRequest",
        "it only makes a DynamoGraphDeployment: name that and the component",
    ),
    (
        "inference.networking.k8s.io",
        "InferencePool",
        "it has no replicas: name the workloads behind it",
    ),
    (
        "orchestration.aibrix.ai",
        "RoleSet",
        "its StormService writes it: name that and the role",
    ),
];

impl System for AnyScale {
    fn name(&self) -> &'static str {
        "any other"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 1] = [ANY];
        &KINDS
    }

    fn reads_scale(&self) -> bool {
        true
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        let (kind, name) = (target.kind.clone(), target.name.clone());
        let mut known = NOT_TARGETS.iter();
        let not = known.find(|(group, kind, _)| *group == target.group() && *kind == target.kind);
        if let Some((_, _, remedy)) = not {
            return Err(Refusal::NotATarget { kind, name, remedy });
        }
        target.without_role()?;
        let Some(scale) = near.scale else {
            return Err(Refusal::NoScale { kind, name });
        };
        let text_of_selector = text(scale, "/status/selector").unwrap_or_default();
        let labels = Selector::parse(text_of_selector).map_err(|cause| Refusal::Selector {
            kind: kind.clone(),
            name: name.clone(),
            selector: text_of_selector.to_owned(),
            cause,
        })?;
        let mut place = bare(&ANY, near, count(scale, "/spec/replicas"));
        // `scale` leaves a zero out.
        place.desired = place.stated.unwrap_or(0);
        place.object = ObjectRef {
            api_version: target.api_version.clone(),
            kind,
            // Discovery knows it.
            plural: String::new(),
            name,
        };
        place.resource_version = text(scale, "/metadata/resourceVersion").map(str::to_owned);
        place.owners = referring(near, &[&place.object]);
        place.owners.extend(controller(near.object, &[]));
        place.pods = PodSelector::labelled(labels);
        let rolls = near.object.pointer("/status/observedGeneration").is_some();
        place.rolling_out = rolls && is_behind(near.object);
        // Where most kinds have their template.
        Ok(place.made_of(&near.object["spec"]["template"], target, near))
    }
}

#[cfg(test)]
mod tests;
