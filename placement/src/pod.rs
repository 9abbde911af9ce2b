//! A pod as placing sees it: what a node must have for it.
//!
//! Only hard rules are here, and each of them is kept. Rules that this crate does not model are
//! refused where objects are read (see [`manifest`](crate::manifest)), so that none is dropped in
//! silence.

use std::{collections::BTreeMap, fmt};

use pd_tolerations::{Effect, Rule, Taint, extension::ParsedTaint};

use crate::{node::Node, port::HostPort, resources::Resources, selector::NodeSelector};

/// The taint that Kubernetes puts on cordoned nodes.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A margin of a number that counts no more, in the unit of the number: that of a promise in
/// hundredths of a percent, where 10,000 is always.
pub const MARGIN_MOST: u64 = 10_000;

/// The needs of a pod. Pods of one kind have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodShape {
    /// Requests, with those of init containers, sidecars and overhead.
    pub requests: Resources,
    /// Ports of the node.
    pub ports: Vec<HostPort>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity.
    pub affinity: Option<NodeSelector>,
    /// Where its volumes can be reached: all of these must match.
    pub volumes: Vec<NodeSelector>,
    /// Tolerations, numeric ones included.
    pub tolerations: Vec<Rule>,
}

/// Why a node is nothing for a pod, whatever it has free.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// It is not ready.
    NotReady,
    /// It is cordoned.
    Cordoned,
    /// A taint, which is not tolerated.
    Taint(String),
    /// A tolerated number must be there, and is not.
    TaintMissing(String),
    /// A label of the node selector.
    Selector(String),
    /// Node affinity.
    Affinity,
    /// A volume cannot be reached from it.
    Volume,
    /// The group excluded it.
    Excluded,
    /// Another group has the domain for itself, or is waiting for it to drain.
    Closed,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Taint(taint) => write!(f, "taint {taint} is not tolerated"),
            Self::TaintMissing(key) => write!(f, "no tolerated taint {key}"),
            Self::Selector(label) => write!(f, "label {label} of the node selector"),
            Self::Affinity => f.write_str("node affinity"),
            Self::Volume => f.write_str("a volume is elsewhere"),
            Self::Excluded => f.write_str("excluded after a failure"),
            Self::Closed => f.write_str("kept for another group"),
        }
    }
}

impl PodShape {
    /// Why the pod may not run on the node, if so. Free amounts and ports are judged elsewhere.
    pub fn unfit(&self, node: &Node) -> Option<Unfit> {
        if !node.is_ready {
            return Some(Unfit::NotReady);
        }
        if node.is_cordoned && !self.tolerates_cordons() {
            return Some(Unfit::Cordoned);
        }
        for parsed in &node.taints {
            if parsed.taint.effect.forbids_scheduling() && !self.tolerates(parsed) {
                return Some(Unfit::Taint(parsed.taint.to_string()));
            }
        }
        let missing = self.tolerations.iter().find(|rule| {
            rule.must_be_present && !node.taints.iter().any(|taint| rule.tolerates(taint))
        });
        if let Some(rule) = missing {
            return Some(Unfit::TaintMissing(rule.key.clone()));
        }
        let other = self
            .node_selector
            .iter()
            .find(|(key, value)| node.labels.get(*key) != Some(value));
        if let Some((key, value)) = other {
            return Some(Unfit::Selector(format!("{key}={value}")));
        }
        let matches = |selector: &NodeSelector| selector.matches(&node.name, &node.labels);
        if !self.affinity.as_ref().is_none_or(matches) {
            return Some(Unfit::Affinity);
        }
        (!self.volumes.iter().all(matches)).then_some(Unfit::Volume)
    }

    /// Whether the pods may go to the same nodes as far as labels, names and volumes decide it.
    pub fn has_same_places(&self, other: &Self) -> bool {
        self.node_selector == other.node_selector
            && self.affinity == other.affinity
            && self.volumes == other.volumes
    }

    /// How far the node is from the best one for the pod's soft rules: untolerated
    /// `PreferNoSchedule` taints first, then the margin of its numbers that is missing to
    /// [`MARGIN_MOST`]. A node without a number promises nothing.
    pub fn reluctance(&self, node: &Node) -> u64 {
        let avoided = node.taints.iter().filter(|parsed| {
            parsed.taint.effect == Effect::PreferNoSchedule && !self.tolerates(parsed)
        });
        let avoided = u64::try_from(avoided.count()).unwrap_or(u64::MAX);
        let missing = if self.tolerations.iter().any(|rule| rule.is_numeric) {
            MARGIN_MOST - self.margin(node).min(MARGIN_MOST)
        } else {
            0
        };
        avoided
            .saturating_mul(MARGIN_MOST + 1)
            .saturating_add(missing)
    }

    /// The best alternative of each taint, the worst taint; 0 where no number is tolerated.
    fn margin(&self, node: &Node) -> u64 {
        let of_taints = node.taints.iter().filter_map(|parsed| {
            self.tolerations
                .iter()
                .filter_map(|rule| rule.margin(parsed))
                .max()
        });
        of_taints.min().unwrap_or(0)
    }

    fn tolerates_cordons(&self) -> bool {
        self.tolerates(&Taint::new(UNSCHEDULABLE, "", Effect::NoSchedule).into())
    }

    fn tolerates(&self, parsed: &ParsedTaint) -> bool {
        self.tolerations.iter().any(|rule| rule.tolerates(parsed))
    }

    /// Whether two pods with these needs cannot be on one node because of their ports.
    pub fn ports_conflict(&self, other: &Self) -> bool {
        self.ports
            .iter()
            .any(|port| other.ports.iter().any(|taken| port.conflicts(taken)))
    }
}
