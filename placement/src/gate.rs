//! The gate: which pods of a group may go to the scheduler, to which node, and which have to end.
//!
//! A pod of a group is created with a scheduling gate of ours, so the scheduler leaves it alone.
//! [`step`] looks at everything once and says what to do next. It remembers nothing: all that it
//! needs of the past is in the [`Record`] of each group, which is in the cluster. A plan is
//! written there first ([`Action::Write`]); pods are touched only for a plan that was *read back*
//! ([`Action::Release`], [`Action::End`]). A process that is killed between any two actions, or
//! another that leads after it, therefore goes on where this one was.
//!
//! These hold at every moment:
//!
//! - **All or nothing.** A group that has nothing yet gets its least replicas or none. Between the
//!   first pod that is bound and the last there is a window; when it ends, pods that the scheduler
//!   did not take are ended, and all of a group that never had its least.
//! - **Levels.** Pods are released only to the nodes of a placement that keeps what is required.
//! - **No half places.** All groups are placed together, and what is planned counts as used.
//! - **Nothing of others.** Only pods with an owner that makes them again are ended, only our own
//!   gate is taken off, and a pod that others gate, too, is not planned before they have let go.
//!
//! Source: Kubernetes' rules for gated pods, KEP-3521 and KEP-3838.

mod assign;
mod composition;
mod directed;
mod facts;
mod planned;
mod room;
mod settle;
mod what_if;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use crate::{group::Group, node::Node, pod::PodShape, topology::Topology};

pub use self::{
    settle::step,
    what_if::{Room, RoomError, room},
};

/// Longest text of a record, characters: longer ones are cut, so that they are read back as they
/// were written.
pub const TEXT_MAX: usize = 1_024;

/// Everything that is seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The time, seconds since 1970. It should not step while a process runs.
    pub now_seconds: u64,
    /// Nodes, with the pods on them that belong to no group.
    pub nodes: Vec<Node>,
    /// Groups, each with its pods.
    pub groups: Vec<SeenGroup>,
    /// Times and bounds.
    pub settings: GateSettings,
}

impl Seen {
    fn nodes_by_name(&self) -> BTreeMap<&str, &Node> {
        let nodes = self.nodes.iter();
        nodes.map(|node| (node.name.as_str(), node)).collect()
    }
}

/// A placement group as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenGroup {
    /// The rules that its owner wrote: name, roles and levels. Shapes, members, age and priority
    /// are filled in here, and a `desired` of 0 means as many replicas as there are pods for.
    pub rules: Group,
    /// Pods of one replica, by role; 1 where nothing is stated.
    pub pods_per_replica: BTreeMap<String, u32>,
    /// The name of its topology; empty for none.
    pub topology_name: String,
    /// Its topology, or why there is none.
    pub topology: Result<Topology, String>,
    /// All that is known of it from before.
    pub record: Record,
    /// Its pods.
    pub pods: Vec<SeenPod>,
}

/// A pod of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPod {
    /// Its name.
    pub name: String,
    /// Its UID: a pod that is made again under its name is another one.
    pub uid: String,
    /// The version that was seen.
    pub resource_version: String,
    /// When it was created, seconds since 1970.
    pub created_seconds: u64,
    /// Its role.
    pub role: String,
    /// Its replica: pods with the same text belong together.
    pub replica: String,
    /// Its kind within the replica, such as `leader`.
    pub kind: String,
    /// Its priority.
    pub priority: i32,
    /// Its needs, or what of it cannot be kept.
    pub shape: Result<PodShape, String>,
    /// Whether somebody makes it again when it ends.
    pub has_owner: bool,
    /// Whether a plan released it. One whose gate somebody else took off is never ended.
    pub is_ours: bool,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// The state of the group that it carries as a condition.
    pub marked: Option<GroupState>,
    /// How far it is.
    pub state: PodState,
}

/// How far a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodState {
    /// Our gate alone holds it.
    #[default]
    Gated,
    /// Somebody else's gate holds it.
    GatedByOthers,
    /// No gate holds it, and it has no node yet.
    Released {
        /// The node that it was released to; nothing if somebody else took our gate off.
        node: Option<String>,
    },
    /// It has a node.
    Bound {
        /// The node.
        node: String,
    },
    /// It has ended, and uses nothing.
    Ended {
        /// The node that refused to run it.
        refused_by: Option<String>,
    },
}

/// All that is known of a group from before, kept in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The number of the plan, one more for each.
    pub plan: u64,
    /// Pods of the plan that are on their way.
    pub assignments: Vec<Assignment>,
    /// When they must have nodes, seconds since 1970.
    pub deadline_seconds: Option<u64>,
    /// Pods that have to end.
    pub ending: Vec<Ending>,
    /// Whether it has had its least replicas.
    pub was_placed: bool,
    /// Replicas that it had, by role: their slots are kept for a while.
    pub replicas: BTreeMap<String, u32>,
    /// Since when it has fewer, seconds since 1970.
    pub short_since_seconds: Option<u64>,
    /// Since when it waits, or runs, seconds since 1970.
    pub since_seconds: u64,
    /// Nodes that failed it, and until when they are left out, seconds since 1970.
    pub excluded: BTreeMap<String, u64>,
    /// Windows that ended without all pods, one after another.
    pub failures: u32,
    /// Not planned again before, seconds since 1970.
    pub retry_seconds: Option<u64>,
    /// How it is.
    pub state: GroupState,
    /// The same in words.
    pub message: String,
    /// The smallest domain that holds it.
    pub domain: String,
    /// Whether nodes drain for it.
    pub holds: BTreeSet<String>,
}

/// A pod of a plan, and its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// The node.
    pub node: String,
}

/// A pod that has to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
}

/// How a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// Not all pods of its least replicas are there yet.
    #[default]
    WaitingForPods,
    /// There is no place for it.
    WaitingForRoom,
    /// Its topology is missing or cannot be used.
    WaitingForTopology,
    /// Its last plans failed, and the next is made later.
    BackingOff,
    /// Its pods are on their way to their nodes.
    Placing,
    /// It has its least replicas, and all that it can have.
    Placed,
    /// It has its least replicas, and others find no place.
    PlacedInPart,
    /// It has fewer than its least replicas, and runs so.
    Degraded,
    /// It moves to another domain.
    Relocating,
    /// Its owner wrote something that cannot be.
    Refused,
}

impl GroupState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::WaitingForPods,
        Self::WaitingForRoom,
        Self::WaitingForTopology,
        Self::BackingOff,
        Self::Placing,
        Self::Placed,
        Self::PlacedInPart,
        Self::Degraded,
        Self::Relocating,
        Self::Refused,
    ];

    /// Its word in status, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForPods => "WaitingForPods",
            Self::WaitingForRoom => "WaitingForRoom",
            Self::WaitingForTopology => "WaitingForTopology",
            Self::BackingOff => "BackingOff",
            Self::Placing => "Placing",
            Self::Placed => "Placed",
            Self::PlacedInPart => "PlacedInPart",
            Self::Degraded => "Degraded",
            Self::Relocating => "Relocating",
            Self::Refused => "Refused",
        }
    }

    /// The state of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether the group has its least replicas; nothing while it is on its way there.
    pub const fn is_placed(self) -> Option<bool> {
        match self {
            Self::Placed | Self::PlacedInPart => Some(true),
            Self::Placing => None,
            _ => Some(false),
        }
    }

    /// Whether its pods wait for something that may not come.
    pub const fn is_waiting(self) -> bool {
        matches!(
            self,
            Self::WaitingForRoom | Self::WaitingForTopology | Self::BackingOff | Self::Refused
        )
    }
}

/// Times and bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateSettings {
    /// Time in which pods of a plan must have nodes, seconds. A scheduler binds a gang of hundreds
    /// in a few; a minute covers its restart.
    pub window_seconds: u64,
    /// Time for which the slots of lost pods are kept, seconds: a controller makes them again in
    /// one or two, and back-off after failures is minutes.
    pub protect_seconds: u64,
    /// First pause after a failed window, seconds; twice as long after each further one.
    pub retry_seconds: u64,
    /// Longest pause, seconds.
    pub retry_max_seconds: u64,
    /// Time for which a node that failed a group is left out, seconds.
    pub exclude_seconds: u64,
    /// Age from which a pod that waits says so, seconds. Gangs come within a few; a write for each
    /// of their pods would only keep them waiting.
    pub mark_seconds: u64,
    /// Bounds of the planner.
    pub planner: crate::problem::Settings,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            window_seconds: 60,
            protect_seconds: 300,
            retry_seconds: 10,
            retry_max_seconds: 600,
            exclude_seconds: 600,
            mark_seconds: 5,
            planner: crate::problem::Settings::default(),
        }
    }
}

/// A thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write what is known of a group, if it is still at the version that was seen.
    Write {
        /// The group.
        group: String,
        /// All that is known of it now.
        record: Box<Record>,
    },
    /// Take our gate off a pod and pin it to its node, if it is still the pod that was seen.
    Release {
        /// The group.
        group: String,
        /// The number of the plan.
        plan: u64,
        /// The pod.
        pod: PodVersion,
        /// The node.
        node: String,
    },
    /// Say on a pod how its group is: who reads pods and no groups, such as an autoscaler, then
    /// knows why it waits.
    Mark {
        /// The group.
        group: String,
        /// The pod.
        pod: PodVersion,
        /// The state.
        state: GroupState,
    },
    /// End a pod, if it is still the one that was seen.
    End {
        /// The group.
        group: String,
        /// The pod.
        pod: PodVersion,
        /// Whether it runs: then it is evicted, so that disruption budgets are kept to.
        is_bound: bool,
    },
}

/// A pod at the version that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodVersion {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version.
    pub resource_version: String,
}

impl SeenPod {
    /// The pod at the version that was seen.
    pub fn version(&self) -> PodVersion {
        PodVersion {
            name: self.name.clone(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }

    /// The node that it has, or is on its way to.
    fn node(&self) -> Option<&str> {
        match &self.state {
            PodState::Bound { node } => Some(node),
            PodState::Released { node } => node.as_deref(),
            PodState::Gated | PodState::GatedByOthers | PodState::Ended { .. } => None,
        }
    }

    fn is_bound(&self) -> bool {
        matches!(self.state, PodState::Bound { .. })
    }

    /// Whether it may be ended: we released it, and it is made again.
    fn may_be_ended(&self) -> bool {
        self.is_ours && self.has_owner && !self.is_ending
    }
}

impl Record {
    /// The plan of a pod that is on its way.
    fn planned(&self, pod: &SeenPod) -> Option<&Assignment> {
        let mut planned = self.assignments.iter();
        planned.find(|planned| planned.uid == pod.uid)
    }

    /// Whether a pod has to end.
    fn has_to_end(&self, pod: &SeenPod) -> bool {
        self.ending.iter().any(|ending| ending.uid == pod.uid)
    }

    /// These pods have to end, too.
    fn end<'a>(&mut self, pods: impl IntoIterator<Item = &'a SeenPod>) {
        let pods = pods.into_iter().map(|pod| Ending {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
        });
        self.ending.extend(pods);
        self.ending.sort();
        self.ending.dedup();
    }
}
