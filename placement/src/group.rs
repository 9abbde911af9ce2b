//! A placement group: pods of several roles that are placed together, or not at all.
//!
//! A group has roles, a role replicas, a replica pods of one or several kinds. Constraints are at
//! each of these: the group, each role, each replica may have to be in one domain of a level. What
//! is required is never given up; what is preferred decides between placements.

use std::collections::BTreeSet;

use crate::pod::PodShape;

/// Most kinds of pods in a group: prefill and decode, each a leader, workers, and two to spare.
pub const KINDS_MAX: usize = 8;

/// Most pods of one kind in a group.
pub const PODS_MAX: u32 = 4_096;

/// A placement group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Namespace and name, unique.
    pub name: String,
    /// Kubernetes' priority. Strict: a lower one never goes before a higher one.
    pub priority: i32,
    /// How long it has been waiting, or running, seconds.
    pub age_seconds: u64,
    /// Its roles.
    pub roles: Vec<Role>,
    /// The level of which it must be in one domain.
    pub required: Option<String>,
    /// The level of which it should be in one domain, as narrow as `required` or narrower.
    pub preferred: Option<String>,
    /// A domain for itself.
    pub exclusive: Option<Exclusive>,
    /// Distance from other groups of a set.
    pub spread: Option<Spread>,
    /// Traffic between roles.
    pub traffic: Vec<Traffic>,
    /// The answer to lost pods that cannot be replaced near the others.
    pub on_loss: OnLoss,
    /// Whether replicas of one role are useless without those of the others: a role then gets no
    /// larger share of its desired replicas than the others.
    pub lockstep: bool,
    /// Nodes on which its pods failed, and which it is not placed on again.
    pub excluded_nodes: BTreeSet<String>,
    /// Pods that run, or are on their way to a node.
    pub members: Vec<Member>,
}

/// A role of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name, such as `prefill`.
    pub name: String,
    /// The pods of one replica.
    pub pods: Vec<PodKind>,
    /// Fewest replicas with which the group is of use.
    pub min: u32,
    /// Replicas that it should have.
    pub desired: u32,
    /// The level of which all its pods must be in one domain.
    pub required: Option<String>,
    /// The level of which all its pods should be in one domain.
    pub preferred: Option<String>,
    /// The level of which the pods of each replica must be in one domain.
    pub replica_required: Option<String>,
}

/// Pods of one kind in a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodKind {
    /// Its name, such as `leader`.
    pub name: String,
    /// How many of them a replica has.
    pub count: u32,
    /// Their needs.
    pub shape: PodShape,
}

/// A claim to a domain in which no other group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusive {
    /// The level of the domain. The group is in one domain of it, too.
    pub level: String,
    /// The fallback where no domain is free of others.
    pub fallback: Fallback,
}

/// The answer to a domain that cannot be had alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// The group waits, and others are kept out of its domain.
    #[default]
    Wait,
    /// It shares a domain with the fewest others, and others come into its domain only where they
    /// have no other place.
    Share,
}

/// Distance between groups of a set, such as the replicas of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The set's name.
    pub set: String,
    /// The level whose domains are to differ, as wide as `required` or wider.
    pub level: String,
    /// Most groups of the set in a domain; without it the domain with the fewest is preferred.
    pub most_per_domain: Option<u32>,
}

/// Bytes that go between each pod of one role and each of another, compared with other pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// One role.
    pub from: String,
    /// The other role, or the same one.
    pub to: String,
    /// The weight of each pair's distance.
    pub weight: u32,
}

/// The answer of a running group to lost pods that cannot be replaced in its domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Nothing moves, and nothing is added before `min` is reached again.
    #[default]
    Wait,
    /// The whole group moves, if it reaches `min` elsewhere.
    Relocate,
    /// Nothing moves, and what fits is added even below `min`.
    Degrade,
}

/// A pod of the group that has a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub pod: String,
    /// Its role.
    pub role: String,
    /// Its kind within the replica.
    pub kind: String,
    /// Its replica's number within the role.
    pub replica: u32,
    /// Its node.
    pub node: String,
}

/// Why a group is not planned at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A level that the topology does not have.
    #[error("{field}: the topology has no level `{level}`: name one of {known}")]
    UnknownLevel {
        /// The field.
        field: String,
        /// The name.
        level: String,
        /// The levels that there are.
        known: String,
    },
    /// A level that is wider than another must be.
    #[error(
        "{field}: level `{level}` is wider than `{other}`: name the same level or a narrower one"
    )]
    TooWide {
        /// The field.
        field: String,
        /// Its level.
        level: String,
        /// The level that it must lie in.
        other: String,
    },
    /// Spread without co-location.
    #[error(
        "spread.level: the group itself may span several domains of `{0}`: set `required` to that level or a narrower one"
    )]
    SpreadWithoutRequired(String),
    /// A name that is there twice.
    #[error("{field}: the name `{name}` is there twice: give each its own")]
    NameTwice {
        /// The field.
        field: String,
        /// The name.
        name: String,
    },
    /// Bounds of replicas in the wrong order, or none at all.
    #[error(
        "roles.{role}: min is `{min}` and desired is `{desired}`: both must be 1 or more, and min at most desired"
    )]
    Replicas {
        /// The role.
        role: String,
        /// Fewest replicas.
        min: u32,
        /// Desired replicas.
        desired: u32,
    },
    /// A replica without pods.
    #[error("roles.{0}: a replica has no pods: list at least one kind with a count of 1 or more")]
    NoPods(String),
    /// A group without roles.
    #[error("roles: none is there: list at least one")]
    NoRoles,
    /// More than the planner can count.
    #[error("roles: `{count}` {what} are too many: at most {most}")]
    TooMany {
        /// The number.
        count: u64,
        /// Of these.
        what: &'static str,
        /// The most.
        most: u64,
    },
    /// A name that leads nowhere.
    #[error("{field}: there is no role or kind `{name}`: name one of the group's")]
    UnknownRole {
        /// The field.
        field: String,
        /// The name.
        name: String,
    },
}

impl Group {
    /// Its pods of a kind, by the names of their role and kind.
    pub fn pods(&self, role: &str, kind: &str) -> Option<&PodKind> {
        let role = self.roles.iter().find(|known| known.name == role)?;
        role.pods.iter().find(|known| known.name == kind)
    }
}
