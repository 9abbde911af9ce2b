//! How good a placement of one group is: several costs, compared one after the other.
//!
//! Required levels are no cost, for they hold or there is no placement. The first cost that differs
//! decides, so no amount of a later one outweighs an earlier one.

use std::ops::Add;

use serde::Serialize;

/// Costs of a group's placement, the first that differs decides; less is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objective {
    /// Company: other groups in a domain that should be the group's own, groups of its set in its
    /// spread domain, its pods in domains that others would rather have for themselves.
    pub company: u64,
    /// Domains of the preferred levels that are used, wide levels first.
    pub preferred: u64,
    /// Traffic: for each pair of pods the weight times the levels between them, 0 on one node.
    pub traffic: u64,
    /// Room: units of the scarcest resource that stay free in the smallest domain which holds the
    /// group. Small is good: large holes stay for large groups.
    pub room: u64,
    /// Fragments: the same units that stay free on the nodes of the group.
    pub fragments: u64,
    /// Running pods that have to move or end.
    pub moves: u64,
    /// Reluctance of nodes: untolerated `PreferNoSchedule` taints, and SLA margin that is missing.
    pub margin: u64,
}

impl Add for Objective {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            company: self.company.saturating_add(other.company),
            preferred: self.preferred.saturating_add(other.preferred),
            traffic: self.traffic.saturating_add(other.traffic),
            room: self.room.saturating_add(other.room),
            fragments: self.fragments.saturating_add(other.fragments),
            moves: self.moves.saturating_add(other.moves),
            margin: self.margin.saturating_add(other.margin),
        }
    }
}

/// How far the search went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Search {
    /// The placement is the best there is; if there is none, none exists.
    #[default]
    Exact,
    /// The bound was hit while comparing. No placement has more pods, and if there is none, none
    /// exists; but one with the same pods may cost less.
    MostPods,
    /// The bound was hit while looking for places: a better placement may exist, or one at all.
    Bounded,
}
