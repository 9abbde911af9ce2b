//! A placement: for each group where its pods go, and why not where they do not.

use std::collections::BTreeMap;

use crate::{
    explain::Explanation,
    group::{GroupError, Member},
    objective::{Objective, Search},
    problem::Hold,
    topology::DomainPath,
};

/// The placement of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Plans by the name of the group.
    pub groups: BTreeMap<String, GroupPlan>,
    /// Names of the groups in the order in which they were placed.
    pub order: Vec<String>,
    /// Nodes that drain for groups which have waited long.
    pub holds: Vec<Hold>,
}

/// The plan of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Whether it is placed.
    pub outcome: Outcome,
    /// All its pods, those that run and stay included. Those of a group that waits are the ones
    /// that run.
    pub slots: Vec<Slot>,
    /// Running pods that have to end: moved, or more than desired.
    pub ends: Vec<String>,
    /// Members whose node is gone.
    pub lost: Vec<String>,
    /// The smallest domain that holds the group; nothing where it has no pods.
    pub domain: Option<DomainPath>,
    /// Placed replicas of each role.
    pub replicas: BTreeMap<String, u32>,
    /// The cost; zero of a group that is not placed.
    pub objective: Objective,
    /// How far the search went.
    pub search: Search,
    /// Why it is not placed, or not in full.
    pub explanation: Option<Explanation>,
}

/// Whether a group is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least `min` replicas of every role have nodes.
    Placed,
    /// It is below `min`, gets what fits, and runs so ([`OnLoss::Degrade`](crate::group::OnLoss)).
    Degraded,
    /// It holds nothing new.
    Waiting,
    /// It says something that cannot be.
    Refused(Vec<GroupError>),
}

/// A pod and its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The role.
    pub role: String,
    /// The replica's number within the role.
    pub replica: u32,
    /// The kind within the replica.
    pub kind: String,
    /// The node.
    pub node: String,
    /// The pod, if it runs there already.
    pub pod: Option<String>,
}

impl Slot {
    /// The slot as a member of its group, `pod` being the name of its pod.
    pub fn member(&self, pod: String) -> Member {
        Member {
            pod,
            role: self.role.clone(),
            kind: self.kind.clone(),
            replica: self.replica,
            node: self.node.clone(),
        }
    }
}

impl GroupPlan {
    /// A plan without pods.
    pub fn empty(outcome: Outcome) -> Self {
        Self {
            outcome,
            slots: Vec::new(),
            ends: Vec::new(),
            lost: Vec::new(),
            domain: None,
            replicas: BTreeMap::new(),
            objective: Objective::default(),
            search: Search::Exact,
            explanation: None,
        }
    }
}
