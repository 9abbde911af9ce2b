//! LeaderWorkerSets: one replica is a group of a leader and its workers. A group serves through its
//! leader, and one failed pod takes all of them down.

use serde_json::Value;

use crate::{
    build::{scaled, template_gpus},
    drain::Leaving,
    gpus::{GpusUnknown, sum},
    json::{condition, count, has_older, name, text},
    kind::{Form, Kind, Roles, Victim},
    place::{Place, PodSelector, Serving, Unit},
    refusal::Refusal,
    selector::Selector,
    system::System,
    target::{Near, Target},
};

/// LeaderWorkerSet.
#[derive(Clone, Copy, Debug)]
pub struct LeaderWorkerSets;

/// LeaderWorkerSets.
pub const LEADER_WORKER_SET: Kind = Kind {
    group: "leaderworkerset.x-k8s.io",
    version: "v1",
    kind: "LeaderWorkerSet",
    plural: "leaderworkersets",
    roles: Roles::One,
    form: Form::Scale,
    switch: "leaderWorkerSets",
    replica: "leader and its workers (`leaderWorkerTemplate.size` pods)",
    serving: "leader",
    victim: Victim::HighestOrdinal,
    refused: "made by another object that sets its replicas",
};

/// Label with the name of the LeaderWorkerSet.
pub(crate) const NAME: &str = "leaderworkerset.sigs.k8s.io/name";
/// Label with the group: an ordinal, or a hash where `groupIdentity` is `Hash`.
pub(crate) const GROUP: &str = "leaderworkerset.sigs.k8s.io/group-index";
/// Label with the pod's index in its group, 0 for the leader.
pub(crate) const WORKER: &str = "leaderworkerset.sigs.k8s.io/worker-index";

impl System for LeaderWorkerSets {
    fn name(&self) -> &'static str {
        "LeaderWorkerSet (llm-d too)"
    }

    fn kinds(&self) -> &'static [Kind] {
        const KINDS: [Kind; 1] = [LEADER_WORKER_SET];
        &KINDS
    }

    fn resolve(&self, target: &Target, near: &Near<'_>) -> Result<Place, Refusal> {
        groups(target, near, &[])
    }
}

/// The place of a LeaderWorkerSet, whose controller may be of the kinds in `leave_alone`.
pub(crate) fn groups(
    target: &Target,
    near: &Near<'_>,
    leave_alone: &[&str],
) -> Result<Place, Refusal> {
    let object = near.object;
    let mut place = scaled(
        &LEADER_WORKER_SET,
        target,
        near,
        "/spec/replicas",
        leave_alone,
    )?;
    let spec = &object["spec"];
    place.pods = PodSelector::labelled(Selector::equal(&[(NAME, name(object))]));
    place.unit = unit(spec, &[&[GROUP]]);
    place.gpus = group_gpus(spec, near);
    place.leaving = Leaving::of(leader(&spec["leaderWorkerTemplate"]), target.side);
    place.rolling_out = rolls(object);
    place.victim = victim(spec);
    if place.victim == Victim::HighestOrdinal {
        // Leaders are a StatefulSet's: workers serve no metrics, so that leaders' names are enough.
        place.past_pods = Some(format!("{}-[0-9]+", literal(name(object))));
    }
    Ok(place)
}

/// Whether a LeaderWorkerSet replaces its pods.
pub(crate) fn rolls(object: &Value) -> bool {
    condition(object, "UpdateInProgress") || has_older(object, "/status")
}

/// The group that goes first. With groups named by a hash, leaders are a Deployment's, which ranks
/// victims.
pub(crate) fn victim(spec: &Value) -> Victim {
    if text(spec, "/groupIdentity") == Some("Hash") {
        Victim::DeletionCost
    } else {
        Victim::HighestOrdinal
    }
}

/// The unit of groups with the LeaderWorkerSet's `spec`, distinguished by the labels of `key`.
pub(crate) fn unit(spec: &Value, key: &'static [&'static [&'static str]]) -> Unit {
    Unit {
        pods: size(spec),
        key,
        serving: Serving::Label(WORKER, "0"),
    }
}

/// Pods of one group.
pub(crate) fn size(spec: &Value) -> u32 {
    count(spec, "/leaderWorkerTemplate/size")
        .unwrap_or(1)
        .max(1)
}

/// GPUs of one group of a LeaderWorkerSet's `spec`.
pub(crate) fn group_gpus(spec: &Value, near: &Near<'_>) -> Result<u32, GpusUnknown> {
    let template = &spec["leaderWorkerTemplate"];
    sum([
        (1, template_gpus(leader(template), near)),
        (
            size(spec) - 1,
            template_gpus(&template["workerTemplate"], near),
        ),
    ])
}

/// The leader's template: the workers' where it has none of its own.
pub(crate) fn leader(template: &Value) -> &Value {
    let own = template.get("leaderTemplate").filter(|own| own.is_object());
    own.unwrap_or(&template["workerTemplate"])
}

/// A name of Kubernetes so that RE2 matches it literally.
pub(crate) fn literal(name: &str) -> String {
    name.replace('.', "\\.")
}

#[cfg(test)]
mod tests;
