//! The window of a plan: its end, and what follows from pods that have no node by then.

use std::collections::BTreeMap;

use super::{GateSettings, PodState, Record, SeenGroup, SeenPod, composition::GroupView};
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
        .filter(|pod| matches!(pod.state, PodState::Released { node: Some(_) }))
        .filter(|pod| !pod.is_ending && !record.has_to_end(pod))
        .filter(|pod| is_over || is_hopeless(pod, nodes))
        .collect();
    let is_unreleased =
        |pod: &SeenPod| pod.state == PodState::Gated && record.planned(pod).is_some();
    let has_unreleased = is_over && group.pods.iter().any(is_unreleased);
    let part = if is_over { part(view) } else { Vec::new() };
    if late.is_empty() && !has_unreleased && part.is_empty() {
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
    next.end(late.into_iter().filter(|pod| pod.may_be_ended()));
    next.end(part);
    Some(next)
}

/// The pods on nodes of a group that never had its least and has not now: they are of no use to it,
/// and others wait for their places.
pub(super) fn part<'a>(view: &GroupView<'a>) -> Vec<&'a SeenPod> {
    let group = view.seen;
    if group.record.was_placed || has_least(view) {
        return Vec::new();
    }
    let pods = group.pods.iter();
    pods.filter(|pod| pod.is_bound() && pod.may_be_ended())
        .collect()
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
        is_on_its_way && !pod.is_ending && group.record.planned(pod).is_some()
    })
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
