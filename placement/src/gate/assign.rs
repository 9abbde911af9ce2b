//! From the slots of a placement to pods: which pod goes to which node.

use std::collections::BTreeMap;

use super::{
    Assignment, SeenPod,
    composition::{GroupView, ReplicaView, RoleView},
    facts::Standing,
};
use crate::plan::Slot;

/// The pods of `view` that go to the slots without a pod, those with the largest requests first:
/// where one of them fails, it fails early. Slots whose pods are not there yet stay open.
pub(super) fn assign(view: &GroupView<'_>, slots: &[Slot]) -> Vec<Assignment> {
    let mut pairs: Vec<(&SeenPod, &str)> = Vec::new();
    for role in &view.roles {
        let mut by_replica: BTreeMap<u32, Vec<&Slot>> = BTreeMap::new();
        let open = slots.iter().filter(|slot| slot.pod.is_none());
        for slot in open.filter(|slot| slot.role == role.rules.name) {
            by_replica.entry(slot.replica).or_default().push(slot);
        }
        let mut new = role.candidates.iter();
        for (number, slots) in by_replica {
            let known = usize::try_from(number).ok();
            let known = known.and_then(|number| role.members.get(number));
            if let Some(replica) = known.or_else(|| new.next()) {
                pairs.extend(fill(role, replica, &slots));
            }
        }
    }
    pairs.sort_by_cached_key(|(pod, _)| {
        let shape = pod.shape.as_ref();
        let requests = shape.map(|shape| shape.requests.clone());
        (std::cmp::Reverse(requests.unwrap_or_default()), &pod.name)
    });
    let assignments = pairs.into_iter().map(|(pod, node)| Assignment {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        node: node.to_owned(),
    });
    assignments.collect()
}

/// The pods of a replica that wait, each to a slot of its kind.
fn fill<'a>(
    role: &RoleView<'a>,
    replica: &ReplicaView<'a>,
    slots: &[&'a Slot],
) -> Vec<(&'a SeenPod, &'a str)> {
    let mut waiting: Vec<&SeenPod> = replica
        .pods
        .iter()
        .filter(|(_, standing)| **standing == Standing::Candidate)
        .map(|(pod, _)| *pod)
        .collect();
    let mut pairs = Vec::new();
    for slot in slots {
        let place = waiting
            .iter()
            .position(|pod| role.kind_of(pod) == slot.kind);
        if let Some(place) = place {
            pairs.push((waiting.remove(place), slot.node.as_str()));
        }
    }
    pairs
}
