//! Would more replicas find a place, and how many at most?
//!
//! The autoscaler asks this before it asks for replicas. Nothing is changed: the question is put to
//! the cluster as it is with the placement of all groups, and running pods stay.

use std::collections::BTreeMap;

use crate::explain::Explanation;

/// Most sets of further replicas that are tried. More than a service grows by in one step.
pub const SETS_MAX: u32 = 64;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// Whether all of them find a place.
    pub fits: bool,
    /// The replicas that find one, by role: those that the group would get if it desired them.
    pub granted: BTreeMap<String, u32>,
    /// How many times the whole set, all roles in lockstep, would find a place; at most
    /// [`SETS_MAX`].
    pub sets_at_most: u32,
    /// Why not all of them do.
    pub explanation: Option<Explanation>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhatIfError {
    /// No such group.
    #[error("group: there is no group `{0}`: name one of the problem's")]
    UnknownGroup(String),
    /// No such role.
    #[error("replicas: the group has no role `{0}`: name one of its roles")]
    UnknownRole(String),
    /// The group itself says something that cannot be.
    #[error("group: `{0}` is refused: correct it first")]
    Refused(String),
    /// More than the planner can count.
    #[error("replicas: `{0}` more are too many for one group: ask for fewer")]
    TooMany(u32),
    /// No replicas at all.
    #[error("replicas: none is asked about: name at least one")]
    Nothing,
}
