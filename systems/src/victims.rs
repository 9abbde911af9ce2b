//! Which pods go first when replicas are lowered: those with the least work in flight.
//!
//! A ReplicaSet removes pods that are not ready before others, and of the ready ones those with the
//! lowest `controller.kubernetes.io/pod-deletion-cost`; a pod without one has 0. So the pods that
//! are to go get a cost below 0, and no other pod gets any. A cost that somebody else set is
//! theirs: it is not written over, and decides before the work does. A pod whose work is not known
//! counts as the busiest, and gets no cost.
//!
//! RBG's label `rbg.workloads.x-k8s.io/role-instance-delete` is no rank but an order: its
//! controller deletes the RoleInstance at once, and makes another while replicas are not lowered
//! yet. So it is not written: a scale-down that then fails would have ended requests for nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::{list, text};

/// Rank among a ReplicaSet's ready pods when it shrinks: the lowest goes first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The field manager of our writes, by which our costs are told from others'.
pub const MANAGER: &str = "pd-autoscaler";

/// Most pods whose cost is written for one change of replicas. Of a larger step the others go in
/// the ReplicaSet's own order, so that one decision is no flood of writes.
pub const EDITS_MAX: usize = 100;

/// A pod's deletion cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// The cost.
    pub value: i32,
    /// Whether we set it.
    pub is_ours: bool,
}

impl Cost {
    /// The cost of a pod with this metadata, if it has one; ours where [`MANAGER`] wrote it.
    pub fn of(metadata: &Value) -> Option<Self> {
        let value = metadata.get("annotations")?.get(DELETION_COST)?.as_str()?;
        let annotation = format!("f:{DELETION_COST}");
        let wrote = |entry: &Value| {
            let fields = entry.pointer("/fieldsV1/f:metadata/f:annotations");
            text(entry, "/manager") == Some(MANAGER)
                && fields.is_some_and(|fields| fields.get(&annotation).is_some())
        };
        Some(Self {
            value: number(value),
            is_ours: list(metadata, "/managedFields").iter().any(wrote),
        })
    }
}

/// The cost that a ReplicaSet reads: 0 where it finds no number.
fn number(text: &str) -> i32 {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = text == "0" || !digits.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical).unwrap_or(0)
}

/// A replica that a controller may remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The pod that a cost is read from and written to: the one that serves metrics.
    pub pod: String,
    /// Whether it serves.
    pub is_ready: bool,
    /// The pod's cost.
    pub cost: Option<Cost>,
}

/// A change of a pod's cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostEdit {
    /// The pod.
    pub pod: String,
    /// The cost; nothing takes it away.
    pub cost: Option<i32>,
}

/// The edits after which the `fewer` of `replicas` with the least `work` go first. `work` is the
/// requests in flight by pod, of the pods that were measured.
///
/// Costs of ours that pods have and should not have are taken away, so that with `fewer` 0 no pod
/// keeps one. Pods that are not ready go first by themselves, and where none stays there is nothing
/// to choose.
pub fn cost_edits(
    replicas: &[Replica],
    work: &BTreeMap<String, f64>,
    fewer: usize,
) -> Vec<CostEdit> {
    if fewer >= replicas.len() {
        return Vec::new();
    }
    let (mut ready, unready): (Vec<&Replica>, Vec<&Replica>) =
        replicas.iter().partition(|replica| replica.is_ready);
    let measured = |replica: &Replica| {
        let work = work.get(&replica.pod).copied();
        work.filter(|work| work.is_finite())
            .unwrap_or(f64::INFINITY)
    };
    ready.sort_by(|a, b| {
        // At the same work a cost that is there already saves a write.
        let rank = |replica: &Replica| (others(replica).unwrap_or(0), ours(replica).unwrap_or(0));
        let ((others_a, ours_a), (others_b, ours_b)) = (rank(a), rank(b));
        others_a
            .cmp(&others_b)
            .then(measured(a).total_cmp(&measured(b)))
            .then(ours_a.cmp(&ours_b))
            .then(a.pod.cmp(&b.pod))
    });
    let going = fewer.saturating_sub(unready.len()).min(ready.len());
    let (goes, stays) = ready.split_at(going);
    let (ranked, unranked): (Vec<&Replica>, Vec<&Replica>) = goes
        .iter()
        .partition(|replica| others(replica).is_none() && measured(replica).is_finite());
    // A cost that misleads is taken away first, in case not all can be written.
    let stale = unranked.iter().chain(stays).chain(&unready);
    let stale = stale.filter(|replica| ours(replica).is_some());
    let mut edits: Vec<CostEdit> = stale.map(|replica| edit(replica, None)).collect();
    if !in_order(&ranked) {
        let costs = (-width(ranked.len())..).zip(ranked);
        let wrong = costs.filter(|(cost, replica)| ours(replica) != Some(*cost));
        edits.extend(wrong.map(|(cost, replica)| edit(replica, Some(cost))));
    }
    edits.truncate(EDITS_MAX);
    edits
}

fn edit(replica: &Replica, cost: Option<i32>) -> CostEdit {
    let pod = replica.pod.clone();
    CostEdit { pod, cost }
}

/// Whether pods that go have costs of ours already that take them in this order, before those that
/// stay.
fn in_order(ranked: &[&Replica]) -> bool {
    let mut before = i32::MIN;
    ranked.iter().all(|replica| {
        let cost = ours(replica).filter(|cost| *cost < 0 && *cost > before);
        before = cost.unwrap_or(before);
        cost.is_some()
    })
}

fn ours(replica: &Replica) -> Option<i32> {
    let cost = replica.cost.filter(|cost| cost.is_ours)?;
    Some(cost.value)
}

fn others(replica: &Replica) -> Option<i32> {
    let cost = replica.cost.filter(|cost| !cost.is_ours)?;
    Some(cost.value)
}

fn width(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
