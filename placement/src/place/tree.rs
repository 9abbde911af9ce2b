//! Domains as a tree: the cluster, its domains level by level, and the nodes below.
//!
//! A node hangs at the deepest domain that its labels name. Parents come before their children in
//! the list, so that going backwards visits children first. A *spot* is a domain or a single node:
//! numbers from the number of domains on are nodes.

use std::collections::BTreeMap;

use crate::{
    node::Node,
    topology::{DomainPath, NODE_LEVEL, Topology},
};

/// The depth of a level that no node has: deeper than anything.
pub(crate) const NOWHERE: usize = usize::MAX;

/// The cluster's domains.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The domains; the cluster is the first.
    pub(crate) domains: Vec<Domain>,
    /// The deepest domain of each node.
    pub(crate) home: Vec<usize>,
    /// Names of the levels in force, wide to narrow, without that of the nodes.
    levels: Vec<String>,
    /// Names of all levels of the topology.
    known: Vec<String>,
}

/// A domain.
#[derive(Debug, Default)]
pub(crate) struct Domain {
    /// 0 for the cluster, 1 for domains of the widest level, and so on.
    pub(crate) depth: usize,
    pub(crate) parent: Option<usize>,
    pub(crate) path: DomainPath,
    pub(crate) children: Vec<usize>,
    /// Nodes whose deepest domain this is.
    pub(crate) nodes: Vec<usize>,
}

impl Tree {
    pub(crate) fn new(topology: &Topology, nodes: &[&Node]) -> Self {
        let all: Vec<_> = nodes.iter().map(|node| &node.labels).collect();
        let levels = topology.in_force(&all);
        let mut domains = vec![Domain::default()];
        let mut by_value: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        let mut paths: Vec<(Vec<&str>, usize)> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (Topology::path(&levels, &node.labels), index))
            .collect();
        // In order of their paths, so that the order of domains is that of their names.
        paths.sort();
        let mut home = vec![0; nodes.len()];
        for (path, node) in paths {
            let mut at = 0;
            for (value, level) in path.into_iter().zip(&levels) {
                let next = domains.len();
                let found = *by_value.entry((at, value)).or_insert(next);
                if found == next {
                    let mut path = domains[at].path.clone();
                    path.0.push((level.name.clone(), value.to_owned()));
                    domains[at].children.push(next);
                    domains.push(Domain {
                        depth: domains[at].depth + 1,
                        parent: Some(at),
                        path,
                        ..Domain::default()
                    });
                }
                at = found;
            }
            home[node] = at;
            domains[at].nodes.push(node);
        }
        Self {
            domains,
            home,
            levels: levels.iter().map(|level| level.name.clone()).collect(),
            known: topology
                .levels()
                .iter()
                .map(|level| level.name.clone())
                .collect(),
        }
    }

    /// The depth of a node, one below the narrowest level.
    pub(crate) fn node_depth(&self) -> usize {
        self.levels.len() + 1
    }

    /// The place of a level among all of the topology, from 1; nothing for an unknown name.
    pub(crate) fn rank(&self, level: &str) -> Option<usize> {
        if level == NODE_LEVEL {
            return Some(self.known.len() + 1);
        }
        let position = self.known.iter().position(|known| known == level)?;
        Some(position + 1)
    }

    /// The depth of a level; [`NOWHERE`] where no node has it.
    pub(crate) fn depth(&self, level: &str) -> usize {
        if level == NODE_LEVEL {
            return self.node_depth();
        }
        let position = self.levels.iter().position(|known| known == level);
        position.map_or(NOWHERE, |position| position + 1)
    }

    /// The name of the level at `depth`.
    pub(crate) fn level_name(&self, depth: usize) -> &str {
        match depth.checked_sub(1) {
            None => "cluster",
            Some(index) => self.levels.get(index).map_or(NODE_LEVEL, String::as_str),
        }
    }

    /// Names of all levels, for messages.
    pub(crate) fn known_levels(&self) -> String {
        let mut names: Vec<&str> = self.known.iter().map(String::as_str).collect();
        names.push(NODE_LEVEL);
        names.join(", ")
    }

    /// The spot of a node.
    pub(crate) fn spot(&self, node: usize) -> usize {
        self.domains.len() + node
    }

    /// The node of a spot, if it is one.
    pub(crate) fn node_of(&self, spot: usize) -> Option<usize> {
        spot.checked_sub(self.domains.len())
    }

    /// The depth of a spot.
    pub(crate) fn depth_of(&self, spot: usize) -> usize {
        let domain = self.domains.get(spot);
        domain.map_or_else(|| self.node_depth(), |domain| domain.depth)
    }

    /// The spot that a spot is directly in.
    pub(crate) fn parent(&self, spot: usize) -> Option<usize> {
        match self.domains.get(spot) {
            Some(domain) => domain.parent,
            None => self.node_of(spot).map(|node| self.home[node]),
        }
    }

    /// The spot at `depth` that holds `spot`, or is it; nothing where labels end before.
    pub(crate) fn ancestor(&self, spot: usize, depth: usize) -> Option<usize> {
        let mut at = spot;
        while self.depth_of(at) > depth {
            at = self.parent(at)?;
        }
        (self.depth_of(at) == depth).then_some(at)
    }

    /// The spot at `depth` that holds a node. A node whose labels end before is one for itself.
    pub(crate) fn domain_of(&self, node: usize, depth: usize) -> usize {
        let spot = self.spot(node);
        self.ancestor(spot, depth).unwrap_or(spot)
    }

    /// The path of a spot, the node's name last if it is one.
    pub(crate) fn path_of(&self, spot: usize, nodes: &[&Node]) -> DomainPath {
        match self.node_of(spot) {
            None => self.domains[spot].path.clone(),
            Some(node) => {
                let mut path = self.domains[self.home[node]].path.clone();
                path.0
                    .push((NODE_LEVEL.to_owned(), nodes[node].name.clone()));
                path
            }
        }
    }

    /// All nodes in a spot, in their order.
    pub(crate) fn nodes_in(&self, spot: usize) -> Vec<usize> {
        if let Some(node) = self.node_of(spot) {
            return vec![node];
        }
        let mut nodes = Vec::new();
        let mut open = vec![spot];
        while let Some(next) = open.pop() {
            nodes.extend(&self.domains[next].nodes);
            open.extend(&self.domains[next].children);
        }
        nodes.sort_unstable();
        nodes
    }

    /// The smallest spot that holds all of `nodes`; nothing for none.
    pub(crate) fn around(&self, mut nodes: impl Iterator<Item = usize>) -> Option<usize> {
        let mut around = self.spot(nodes.next()?);
        for node in nodes {
            let mut at = self.spot(node);
            while at != around {
                let (one, other) = (self.depth_of(at), self.depth_of(around));
                if one >= other {
                    at = self.parent(at)?;
                }
                if other >= one {
                    around = self.parent(around)?;
                }
            }
        }
        Some(around)
    }

    /// How many nodes have no domain at `depth`.
    pub(crate) fn nodes_without(&self, depth: usize) -> usize {
        if depth >= self.node_depth() {
            return 0;
        }
        let is_above = |home: &&usize| self.domains[**home].depth < depth;
        self.home.iter().filter(is_above).count()
    }
}
