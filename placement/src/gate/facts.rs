//! Where every pod of every group stands, and which plans no longer hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{PodState, Seen, SeenGroup, SeenPod};
use crate::{node::Node, resources::Resources};

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a node, is on its way to one, or is planned there.
    Member {
        /// The node.
        node: String,
    },
    /// It waits for a plan.
    Candidate,
    /// It uses this node until it has ended.
    Leaving {
        /// The node.
        node: String,
    },
    /// It is not ours to place now, and uses nothing.
    Apart,
}

/// The standing of every pod, by UID.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<String, Standing>);

impl Standings {
    /// Reads all groups. Plans that no longer hold are dropped: their pods are candidates again.
    pub(super) fn read(seen: &Seen, nodes: &BTreeMap<&str, &Node>) -> Self {
        let mut standings = Self::default();
        for group in &seen.groups {
            for pod in &group.pods {
                let standing = standing(pod, group, seen.now_seconds);
                standings.0.insert(pod.uid.clone(), standing);
            }
        }
        standings.drop_broken_plans(seen, nodes);
        standings
    }

    /// The standing of a pod.
    pub(super) fn of(&self, pod: &SeenPod) -> &Standing {
        self.0.get(&pod.uid).unwrap_or(&Standing::Apart)
    }

    fn drop_broken_plans(&mut self, seen: &Seen, nodes: &BTreeMap<&str, &Node>) {
        let overfull = self.overfull(seen);
        for group in &seen.groups {
            let planned: Vec<(&SeenPod, String)> = group
                .pods
                .iter()
                .filter(|pod| pod.state == PodState::Gated)
                .filter_map(|pod| match self.of(pod) {
                    Standing::Member { node } => Some((pod, node.clone())),
                    _ => None,
                })
                .collect();
            let holds = |pod: &SeenPod, name: &str| {
                let node = nodes.get(name);
                let fits = node.is_some_and(|node| {
                    let shape = pod.shape.as_ref();
                    shape.is_ok_and(|shape| shape.unfit(node).is_none())
                });
                fits && !overfull.contains(name)
            };
            let broken: Vec<&SeenPod> = planned
                .iter()
                .filter(|(pod, node)| !holds(pod, node))
                .map(|(pod, _)| *pod)
                .collect();
            // A group of which nothing is on its way is planned again as a whole.
            let is_begun = group.pods.iter().any(|pod| {
                pod.state != PodState::Gated && matches!(self.of(pod), Standing::Member { .. })
            });
            let is_whole = is_begun || planned.len() == group.record.assignments.len();
            let dropped: Vec<&SeenPod> = if is_begun && !broken.is_empty() {
                broken
            } else if !broken.is_empty() || !is_whole {
                planned.iter().map(|(pod, _)| *pod).collect()
            } else {
                continue;
            };
            for pod in dropped {
                self.0.insert(pod.uid.clone(), Standing::Candidate);
            }
        }
    }

    /// Nodes on which more is planned than there is.
    fn overfull(&self, seen: &Seen) -> BTreeSet<String> {
        let mut used: BTreeMap<&str, Resources> = BTreeMap::new();
        for node in &seen.nodes {
            let used = used.entry(&node.name).or_default();
            for occupant in &node.occupants {
                used.add(&occupant.requests);
            }
        }
        for pod in seen.groups.iter().flat_map(|group| &group.pods) {
            let node = match self.of(pod) {
                Standing::Member { node } | Standing::Leaving { node } => node.as_str(),
                Standing::Candidate | Standing::Apart => continue,
            };
            if let (Some(used), Ok(shape)) = (used.get_mut(node), &pod.shape) {
                used.add(&shape.requests);
            }
        }
        let is_overfull = |node: &&Node| {
            let mut used = used[node.name.as_str()].iter();
            used.any(|(name, amount)| amount > 0 && amount > node.allocatable.get(name))
        };
        let overfull = seen.nodes.iter().filter(is_overfull);
        overfull.map(|node| node.name.clone()).collect()
    }
}

fn standing(pod: &SeenPod, group: &SeenGroup, now_seconds: u64) -> Standing {
    let record = &group.record;
    let has_to_end = record.has_to_end(pod);
    match (&pod.state, pod.node()) {
        (PodState::Ended { .. }, _) => Standing::Apart,
        (_, Some(node)) if pod.is_ending || has_to_end => Standing::Leaving {
            node: node.to_owned(),
        },
        (_, Some(node)) => Standing::Member {
            node: node.to_owned(),
        },
        (PodState::Gated, None) if !pod.is_ending && !has_to_end => {
            let is_open = record.deadline_seconds.is_some_and(|end| now_seconds < end);
            match record.planned(pod).filter(|_| is_open) {
                Some(planned) => Standing::Member {
                    node: planned.node.clone(),
                },
                None => Standing::Candidate,
            }
        }
        _ => Standing::Apart,
    }
}
