//! Topology: which nodes are near each other, by labels.
//!
//! A topology is a list of levels, wide to narrow, each with the label that names a node's domain
//! at it. A **domain is a whole path**: two racks `r1` in two blocks are two domains, for narrow
//! names repeat. Below all levels is the node itself, under the name [`NODE_LEVEL`].
//!
//! Labels come late and are missing. A node without the label of a level, or with an empty one, is
//! in no domain at that level and below: constraints there keep pods from it, and the explanation
//! counts it. A level that nobody has is not dropped: what requires it waits. Only levels that are
//! marked optional, for fabrics of varying depth, are skipped while no node has them; requiring
//! such a level waits, too.

pub mod profiles;

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

/// The name of the level below all others: the node itself.
pub const NODE_LEVEL: &str = "node";

/// Most levels of a topology; Kueue has the same bound.
pub const LEVELS_MAX: usize = 16;

/// A list of levels, wide to narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    levels: Vec<Level>,
}

/// A level of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name, such as `rack`.
    pub name: String,
    /// Labels that name a node's domain at it. The first that the node has counts: old and new keys
    /// live side by side while a cluster migrates.
    pub labels: Vec<String>,
    /// Whether it is skipped while no node at all has it.
    pub is_optional: bool,
}

/// Why levels are no topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Two levels with one name.
    #[error("levels: the name `{0}` is there twice: give each level its own")]
    NameTwice(String),
    /// A label at two levels.
    #[error("levels: the label `{0}` is at two levels: each level needs a label of its own")]
    LabelTwice(String),
    /// A level without a label.
    #[error("levels: `{0}` has no label: name the node label of its domains")]
    NoLabel(String),
    /// The name of the level that is always there.
    #[error("levels: `node` is always there, below all others: leave it out")]
    NodeLevel,
    /// Too many levels.
    #[error("levels: {0} are too many: name at most {most}", most = LEVELS_MAX)]
    TooMany(usize),
}

impl Level {
    /// A level with one label.
    pub fn new(name: &str, label: &str) -> Self {
        Self::with_labels(name, &[label])
    }

    /// A level with several labels, of which a node's first counts.
    pub fn with_labels(name: &str, labels: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.iter().map(ToString::to_string).collect(),
            is_optional: false,
        }
    }

    /// The same, skipped while no node has it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// The domain that `labels` name at this level; an empty value names none.
    pub fn value<'a>(&self, labels: &'a BTreeMap<String, String>) -> Option<&'a str> {
        self.labels
            .iter()
            .filter_map(|key| labels.get(key))
            .map(String::as_str)
            .find(|value| !value.is_empty())
    }
}

impl Topology {
    /// A topology of these levels, wide to narrow.
    pub fn new(levels: Vec<Level>) -> Result<Self, TopologyError> {
        if levels.len() > LEVELS_MAX {
            return Err(TopologyError::TooMany(levels.len()));
        }
        let mut names = std::collections::BTreeSet::new();
        let mut labels = std::collections::BTreeSet::new();
        for level in &levels {
            if level.name == NODE_LEVEL {
                return Err(TopologyError::NodeLevel);
            }
            if !names.insert(level.name.clone()) {
                return Err(TopologyError::NameTwice(level.name.clone()));
            }
            if level.labels.is_empty() {
                return Err(TopologyError::NoLabel(level.name.clone()));
            }
            for label in &level.labels {
                if !labels.insert(label.clone()) {
                    return Err(TopologyError::LabelTwice(label.clone()));
                }
            }
        }
        Ok(Self { levels })
    }

    /// The levels, wide to narrow, without [`NODE_LEVEL`].
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The levels that nodes with such labels show: all but the optional ones that none has.
    pub fn in_force(&self, nodes: &[&BTreeMap<String, String>]) -> Vec<&Level> {
        let is_there = |level: &&Level| {
            !level.is_optional || nodes.iter().any(|labels| level.value(labels).is_some())
        };
        self.levels.iter().filter(is_there).collect()
    }

    /// The path of a node with these labels over `levels`: as far as no label is missing.
    pub fn path<'a>(levels: &[&Level], labels: &'a BTreeMap<String, String>) -> Vec<&'a str> {
        levels
            .iter()
            .map_while(|level| level.value(labels))
            .collect()
    }
}

/// A domain, by its whole path: `block b1 / rack r2`. The empty path is the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainPath(pub Vec<(String, String)>);

impl Serialize for DomainPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for DomainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the cluster");
        }
        for (index, (level, value)) in self.0.iter().enumerate() {
            let slash = if index > 0 { " / " } else { "" };
            write!(f, "{slash}{level} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_path_ends_where_a_label_is_missing_or_empty() {
        let topology = Topology::new(vec![Level::new("block", "b"), Level::new("rack", "r")]);
        let topology = topology.unwrap();
        let levels: Vec<&Level> = topology.levels().iter().collect();
        let path = |pairs| Topology::path(&levels, &labels(pairs)).len();
        assert_eq!(path(&[("b", "1"), ("r", "2")]), 2);
        assert_eq!(path(&[("b", "1")]), 1);
        assert_eq!(
            path(&[("r", "2")]),
            0,
            "a rack without its block is not known"
        );
        assert_eq!(path(&[("b", ""), ("r", "2")]), 0);
    }

    #[test]
    fn the_first_label_that_a_node_has_counts() {
        let level = Level::with_labels("leaf", &["new", "old"]);
        assert_eq!(level.value(&labels(&[("old", "s1")])), Some("s1"));
        assert_eq!(
            level.value(&labels(&[("old", "s1"), ("new", "s2")])),
            Some("s2")
        );
        assert_eq!(
            level.value(&labels(&[("old", "s1"), ("new", "")])),
            Some("s1")
        );
    }

    #[test]
    fn only_optional_levels_that_nobody_has_are_skipped() {
        let topology = Topology::new(vec![
            Level::new("core", "c").optional(),
            Level::new("spine", "s"),
            Level::new("leaf", "l").optional(),
        ]);
        let topology = topology.unwrap();
        let nodes = [labels(&[("l", "1")]), labels(&[])];
        let names: Vec<&str> = topology
            .in_force(&[&nodes[0], &nodes[1]])
            .iter()
            .map(|level| level.name.as_str())
            .collect();
        assert_eq!(names, ["spine", "leaf"]);
    }

    #[test]
    fn bad_levels_are_refused_with_a_remedy() {
        let refused = |levels: Vec<Level>| Topology::new(levels).unwrap_err().to_string();
        let rack = Level::new("rack", "r");
        assert!(refused(vec![rack.clone(), Level::new("rack", "s")]).contains("`rack`"));
        assert!(refused(vec![rack.clone(), Level::new("row", "r")]).contains("`r`"));
        assert!(refused(vec![Level::with_labels("rack", &[])]).contains("has no label"));
        assert!(refused(vec![Level::new("node", "n")]).contains("leave it out"));
        let many = (0..17).map(|n| Level::new(&format!("l{n}"), &format!("k{n}")));
        assert!(refused(many.collect()).contains("at most 16"));
    }
}
