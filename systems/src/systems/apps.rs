//! Deployments, StatefulSets and ReplicaSets: one pod is one replica.
//!
//! Charts and gateways that make plain workloads are these too: vLLM's production stack, llm-d's
//! model service (whose decode may be a ReplicaSet), and the workers behind SMG.

use serde_json::Value;

use crate::{
    build::scaled,
    json::{count, has_older, is_behind, list, name, text},
    kind::{Form, Kind, Roles, Victim},
    place::{OwnedBy, Place, PodSelector},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Target},
};

/// Plain workloads.
#[derive(Clone, Copy, Debug)]
pub struct Apps;

const fn kind(kind: &'static str, plural: &'static str, victim: Victim) -> Kind {
    Kind {
        group: "apps",
        version: "v1",
        kind,
        plural,
        roles: Roles::One,
        form: Form::Scale,
        switch: "",
        replica: "1 pod",
        serving: "every pod",
        victim,
        refused: "made by another object that sets its replicas",
    }
}

/// Deployments.
pub const DEPLOYMENT: Kind = kind("Deployment", "deployments", Victim::DeletionCost);
/// StatefulSets.
pub const STATEFUL_SET: Kind = kind("StatefulSet", "statefulsets", Victim::HighestOrdinal);
/// ReplicaSets without a Deployment.
pub const REPLICA_SET: Kind = Kind {
    switch: "replicaSets",
    ..kind("ReplicaSet", "replicasets", Victim::DeletionCost)
};

/// Condition of a workload whose pods cannot be created; its message is the API server's.
const REPLICA_FAILURE: &str = "ReplicaFailure";

impl System for Apps {
    fn name(&self) -> &'static str {
        "Kubernetes (llm-d, SMG and production-stack charts too)"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 3] = [DEPLOYMENT, STATEFUL_SET, REPLICA_SET];
        &KINDS
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        workload(target, near, &[])
    }
}

/// The place of a plain workload, whose controller may be of the kinds in `leave_alone`.
pub(crate) fn workload(
    target: &Target,
    near: &Near<'_>,
    leave_alone: &[&str],
) -> Result<Place, Refusal> {
    let object = near.object;
    let kind = match text(object, "/kind").unwrap_or(&target.kind) {
        "StatefulSet" => &STATEFUL_SET,
        "ReplicaSet" => &REPLICA_SET,
        _ => &DEPLOYMENT,
    };
    let labels = Selector::of(&object["spec"]["selector"]).map_err(|cause| Refusal::Selector {
        kind: kind.kind.to_owned(),
        name: name(object).to_owned(),
        selector: object["spec"]["selector"].to_string(),
        cause,
    })?;
    let mut place = scaled(kind, target, near, "/spec/replicas", leave_alone)?;
    place.pods = PodSelector {
        labels,
        owner: Some(OwnedBy {
            uid: text(object, "/metadata/uid").unwrap_or_default().to_owned(),
            name: name(object).to_owned(),
        }),
    };
    place.rolling_out = match kind.kind {
        "Deployment" => deployment_rolls(object),
        "StatefulSet" => stateful_set_rolls(object),
        _ => false,
    };
    place.create_failure = create_failure(object);
    Ok(place.made_of(&object["spec"]["template"], target, near))
}

fn create_failure(object: &Value) -> Option<String> {
    let conditions = list(object, "/status/conditions").iter();
    let mut failures = conditions.filter(|condition| {
        text(condition, "/type") == Some(REPLICA_FAILURE)
            && text(condition, "/status") == Some("True")
    });
    let message = failures.next()?;
    Some(text(message, "/message").unwrap_or_default().to_owned())
}

/// Whether a Deployment has pods of an older template beside those of the newest. A status that is
/// older than the spec shows nothing, so that it counts as a change.
fn deployment_rolls(object: &Value) -> bool {
    let unseen = object.get("status").is_some_and(Value::is_object) && is_behind(object);
    unseen || has_older(object, "/status")
}

/// Whether a StatefulSet is on its way to another revision. Pods that its partition holds back, and
/// those that wait to be deleted by hand, are not on their way.
fn stateful_set_rolls(object: &Value) -> bool {
    let by_hand = text(object, "/spec/updateStrategy/type") == Some("OnDelete");
    if by_hand || !object.get("status").is_some_and(Value::is_object) {
        return false;
    }
    let partition = count(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let revision = |field: &str| text(object, field).unwrap_or_default();
    let differ = revision("/status/updateRevision") != revision("/status/currentRevision");
    let moving = count(object, "/spec/replicas")
        .unwrap_or(1)
        .saturating_sub(partition);
    let updated = count(object, "/status/updatedReplicas").unwrap_or(0);
    is_behind(object) || (differ && (partition == 0 || updated < moving))
}

#[cfg(test)]
mod tests;
