//! The window of a plan: its end, and what follows from pods that have no node by then.

use std::collections::BTreeMap;

use super::{Ending, GateSettings, PodState, Record, SeenGroup, SeenPod, composition::GroupView};
use crate::node::Node;

/// The record after the window, where the window has come to an end; nothing while it is open.
pub(super) fn close(
    view: &GroupView<'_>,
    nodes: &BTreeMap<&str, &Node>,
    now_seconds: u64,
    settings: &GateSettings,
) -> Option<Record> {
    let group = view.seen;
    let record = &group.record;
    let is_over = record
        .deadline_seconds
        .is_some_and(|end| now_seconds >= end);
    let late: Vec<&SeenPod> = group
        .pods
        .iter()
        .filter(|pod| !pod.is_ending && is_new_to_end(pod, record))
        .filter(|pod| is_over || is_hopeless(pod, nodes))
        .collect();
    let is_unreleased = |pod: &SeenPod| pod.state == PodState::Gated && is_planned(pod, record);
    let has_unreleased = is_over && group.pods.iter().any(is_unreleased);
    let bound: Vec<&SeenPod> = group
        .pods
        .iter()
        .filter(|pod| pod.is_bound() && pod.is_ours && pod.has_owner && !pod.is_ending)
        .collect();
    // It never ran: the part that it holds is of no use to it, and others wait for that.
    let is_part = is_over && !record.was_placed && !has_least(view) && !bound.is_empty();
    if late.is_empty() && !has_unreleased && !is_part {
        return None;
    }
    let mut next = record.clone();
    if is_over {
        next.failures = next.failures.saturating_add(1);
        next.retry_seconds = Some(now_seconds + pause(next.failures, settings));
        next.assignments.clear();
        next.deadline_seconds = None;
    }
    for pod in &late {
        if let Some(node) = pod.node() {
            let until = now_seconds + settings.exclude_seconds;
            next.excluded.insert(node.to_owned(), until);
        }
    }
    let mut ending: Vec<&SeenPod> = late.into_iter().filter(|pod| pod.has_owner).collect();
    if is_part {
        ending.extend(bound);
    }
    next.ending.extend(ending.into_iter().map(|pod| Ending {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
    }));
    next.ending.sort();
    next.ending.dedup();
    Some(next)
}

/// Whether every role has its least replicas on nodes.
pub(super) fn has_least(view: &GroupView<'_>) -> bool {
    let mut roles = view.roles.iter();
    roles.all(|role| role.bound() >= role.rules.min)
}

/// Whether all pods of the plan have nodes, or are gone.
pub(super) fn is_done(group: &SeenGroup) -> bool {
    !group.pods.iter().any(|pod| {
        let is_on_its_way = matches!(pod.state, PodState::Gated | PodState::Released { .. });
        is_on_its_way && !pod.is_ending && is_planned(pod, &group.record)
    })
}

fn is_planned(pod: &SeenPod, record: &Record) -> bool {
    let mut planned = record.assignments.iter();
    planned.any(|planned| planned.uid == pod.uid)
}

/// Whether we released it, and it is not known yet that it has to end.
fn is_new_to_end(pod: &SeenPod, record: &Record) -> bool {
    matches!(pod.state, PodState::Released { node: Some(_) })
        && !record.ending.iter().any(|ending| ending.uid == pod.uid)
}

/// Whether the only node that it may go to cannot take it any more.
fn is_hopeless(pod: &SeenPod, nodes: &BTreeMap<&str, &Node>) -> bool {
    let Some(node) = pod.node().and_then(|name| nodes.get(name)) else {
        return true;
    };
    let shape = pod.shape.as_ref();
    shape.is_ok_and(|shape| shape.unfit(node).is_some())
}

/// Twice as long after each failure.
fn pause(failures: u32, settings: &GateSettings) -> u64 {
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1));
    let pause = doubled.and_then(|times| settings.retry_seconds.checked_mul(times));
    pause
        .unwrap_or(settings.retry_max_seconds)
        .min(settings.retry_max_seconds)
}
