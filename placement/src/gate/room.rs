//! The room that is left on nodes, for pods that are placed one by one.

use std::collections::BTreeMap;

use crate::{node::Node, pod::PodShape, port::HostPort, resources::Resources};

/// All that is used of each node.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    used: BTreeMap<String, (Resources, Vec<HostPort>)>,
}

impl Room {
    /// The room beside the pods of no group.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let mut room = Self::default();
        for node in nodes {
            for occupant in &node.occupants {
                room.fill(&node.name, &occupant.requests, &occupant.ports);
            }
        }
        room
    }

    /// Takes the needs of a pod.
    pub(super) fn take(&mut self, node: &str, shape: &PodShape) {
        self.fill(node, &shape.requests, &shape.ports);
    }

    /// Takes amounts and ports.
    pub(super) fn fill(&mut self, node: &str, requests: &Resources, ports: &[HostPort]) {
        let (used, taken) = self.used.entry(node.to_owned()).or_default();
        used.add(requests);
        taken.extend_from_slice(ports);
    }

    /// Whether a node has all that a pod needs.
    pub(super) fn fits(&self, node: &Node, shape: &PodShape) -> bool {
        let ports_taken = self.used.get(&node.name).is_some_and(|(_, taken)| {
            let mut ports = shape.ports.iter();
            ports.any(|port| taken.iter().any(|taken| port.conflicts(taken)))
        });
        let amounts = self.left(node, shape);
        !ports_taken && amounts.into_iter().all(|amount| amount >= 0)
    }

    /// The amounts that would be left of what a pod requests, by the names of the resources.
    pub(super) fn left(&self, node: &Node, shape: &PodShape) -> Vec<i64> {
        let used = self.used.get(&node.name).map(|(used, _)| used);
        let requests = shape.requests.iter().filter(|(_, amount)| *amount > 0);
        requests
            .map(|(name, amount)| {
                let used = used.map_or(0, |used| used.get(name));
                let free = node.allocatable.get(name).saturating_sub(used);
                free.saturating_sub(amount)
            })
            .collect()
    }
}
