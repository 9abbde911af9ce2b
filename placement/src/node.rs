//! A node as placing sees it: labels, taints, amounts, and who is there.

use std::collections::BTreeMap;

use pd_tolerations::extension::ParsedTaint;

use crate::{port::HostPort, resources::Resources};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<ParsedTaint>,
    /// Whether it is cordoned.
    pub is_cordoned: bool,
    /// Whether its kubelet says that it is ready. No pod is placed on a node that is not, whatever
    /// it tolerates.
    pub is_ready: bool,
    /// Amounts that pods may have, [`PODS`](crate::resources::PODS) included.
    pub allocatable: Resources,
    /// Pods that are there and belong to no group of the problem. Members of groups are listed with
    /// their group, and must not be listed here, too.
    pub occupants: Vec<Occupant>,
}

/// A pod on a node that belongs to no group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupant {
    /// Namespace and name.
    pub name: String,
    /// Its requests.
    pub requests: Resources,
    /// Its ports.
    pub ports: Vec<HostPort>,
    /// Whether it would come back if it was moved, as pods of a `DaemonSet` do.
    pub stays: bool,
}
