//! Everything that a placement follows from, as one value.
//!
//! No clock: ages are arguments. No order: nodes and groups are sorted by name before anything is
//! decided, so the same facts give the same placement on every machine.

use std::collections::BTreeSet;

use crate::{group::Group, node::Node, port::HostPort, resources::Resources, topology::Topology};

/// The facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Nodes, with the pods on them that belong to no group.
    pub nodes: Vec<Node>,
    /// Which of them are near each other.
    pub topology: Topology,
    /// Groups, with their pods that have nodes.
    pub groups: Vec<Group>,
    /// Amounts of nodes that are spoken for.
    pub reservations: Vec<Reservation>,
    /// The holds of the placement before.
    pub holds: Vec<Hold>,
    /// Bounds of the planner.
    pub settings: Settings,
}

/// Amounts of a node that are not free although nobody is there yet: pods of a plan that are on
/// their way, slots kept for lost members, daemon pods that have not landed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// The node.
    pub node: String,
    /// The amounts.
    pub requests: Resources,
    /// The ports.
    pub ports: Vec<HostPort>,
    /// The group that it is kept for, which may use it; nothing for what is lost to all groups.
    pub holder: Option<String>,
}

/// Nodes that drain for a group which has waited long: later groups are kept out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The group.
    pub group: String,
    /// The nodes.
    pub nodes: BTreeSet<String>,
}

/// Bounds of the planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A group that cannot be placed for so long gets a hold, seconds. Ten minutes: longer than
    /// nodes take to come, so that a cluster that grows needs no hold.
    pub patience_seconds: u64,
    /// Steps of the search for one group, pairs of partial placements looked at. A step takes about
    /// 20 ns; four million are less than a tenth of a second.
    pub work_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience_seconds: 600,
            work_max: 4_000_000,
        }
    }
}
