//! Why a group is not placed, in values and in words.
//!
//! Per level: how many domains would hold it. Per domain, nearest first: which replicas it would
//! take, and which resource is short. Besides: nodes that are out of the question and why, nodes
//! without a label, and the pods that would have to move.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{objective::Search, resources::InWords, topology::DomainPath};

/// The explanation of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The group.
    pub group: String,
    /// Whether it is placed all the same, with fewer replicas than desired.
    pub is_partial: bool,
    /// The level of which it must be in one domain; `cluster` if none.
    pub level: String,
    /// The replicas that are to be placed, by role.
    pub wanted: BTreeMap<String, u32>,
    /// Levels that a rule names and no node has.
    pub absent_levels: Vec<String>,
    /// Nodes without a label down to the required level, which no placement can use.
    pub unlabelled_nodes: u64,
    /// Levels from the required one outwards.
    pub levels: Vec<LevelReport>,
    /// Domains of the required level, nearest to a placement first; the first few.
    pub domains: Vec<DomainReport>,
    /// Nodes on which pods of a role may not be, by the role and the reason.
    pub unfit_nodes: BTreeMap<String, u64>,
    /// Pods that would have to move, by node, for the group to fit.
    pub would_move: BTreeMap<String, Vec<String>>,
    /// Anything else that was not kept, or cannot be.
    pub notes: Vec<String>,
    /// How certain it is that no placement exists.
    pub search: Search,
}

/// One level: would the group fit into a domain of it?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelReport {
    /// Its name.
    pub level: String,
    /// Its domains.
    pub domains: u64,
    /// Those that would hold the group.
    pub fitting: u64,
}

/// One domain of the required level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainReport {
    /// The domain.
    pub path: DomainPath,
    /// Replicas that it would take together, by role.
    pub replicas: BTreeMap<String, u32>,
    /// Pods that find no place in it.
    pub missing_pods: u64,
    /// The resources that are short.
    pub short: Vec<Shortage>,
    /// Whether it would hold the group but for other groups: an exclusive domain, or a spread.
    pub is_kept_apart: bool,
}

/// A resource that is short in a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// A role whose pods find no place.
    pub role: String,
    /// The resource.
    pub resource: String,
    /// The amount of one of its pods.
    pub of_one_pod: i64,
    /// The amount of all pods that must be placed.
    pub needed: i64,
    /// The amount that is free on nodes that its pods may use.
    pub free: i64,
    /// The largest amount that is free on one of them.
    pub most_on_a_node: i64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |amount| InWords {
            name: &self.resource,
            amount,
        };
        if self.needed > self.free {
            write!(
                f,
                "{} short for {}",
                words(self.needed - self.free),
                self.role
            )
        } else {
            write!(
                f,
                "{} are free but in pieces, at most {} on a node, and one pod of {} needs {}",
                words(self.free),
                self.most_on_a_node,
                self.role,
                self.of_one_pod
            )
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = listed(&self.wanted);
        let state = if self.is_partial {
            "has less than it wants"
        } else {
            "waits"
        };
        write!(f, "group `{}` {state}: ", self.group)?;
        let is_cluster = self.level == "cluster";
        match self.search {
            Search::Bounded => write!(
                f,
                "no {} was found for {wanted} before the search was cut off",
                if is_cluster { "place" } else { &self.level }
            )?,
            _ if is_cluster => write!(f, "the cluster does not hold {wanted}")?,
            _ => write!(f, "no {} holds {wanted}", self.level)?,
        }
        self.write_domains(f)?;
        self.write_nodes(f)
    }
}

impl Explanation {
    /// Levels and domains that would, or nearly would, hold the group.
    fn write_domains(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in &self.absent_levels {
            write!(f, "; no node has a label for level `{level}`")?;
        }
        if let Some(best) = self.domains.first() {
            write!(
                f,
                "; the best is {}, which takes {}",
                best.path,
                listed(&best.replicas)
            )?;
            if best.is_kept_apart {
                f.write_str(" but must not be shared with the groups that are there")?;
            }
            for short in &best.short {
                write!(f, "; there {short}")?;
            }
        }
        if let Some(level) = self.levels.iter().find(|level| level.fitting > 0)
            && level.level != self.level
        {
            write!(
                f,
                "; {} of {} domains of level `{}` would hold it",
                level.fitting, level.domains, level.level
            )?;
        }
        Ok(())
    }

    /// Nodes that are out, pods that are in the way, and notes.
    fn write_nodes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unlabelled_nodes > 0 {
            write!(
                f,
                "; {} nodes have no label down to level `{}`",
                self.unlabelled_nodes, self.level
            )?;
        }
        for (reason, nodes) in &self.unfit_nodes {
            write!(f, "; {nodes} nodes are out for {reason}")?;
        }
        for (node, pods) in &self.would_move {
            write!(
                f,
                "; on {node} these would have to move: {}",
                pods.join(", ")
            )?;
        }
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

fn listed(replicas: &BTreeMap<String, u32>) -> String {
    let roles = replicas
        .iter()
        .map(|(role, count)| format!("{count} {role}"));
    roles.collect::<Vec<String>>().join(" and ")
}
