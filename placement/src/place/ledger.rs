//! The cluster while groups are placed one after another: free amounts, ports, claims, tenants.
//!
//! Every change of a node is written to a journal, so that a search that was made before looks
//! again only at those nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{counts::Counts, job::Job, tree::Tree};
use crate::{
    node::Node,
    pod::{PodShape, Unfit},
    port::HostPort,
    problem::Problem,
    resources::Resources,
};

/// Resources that are devices have a vendor's domain in their name.
const VENDOR_MARK: char = '/';

/// The state of the cluster.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    /// Nodes, by name.
    pub(crate) nodes: Vec<&'a Node>,
    pub(crate) tree: Tree,
    /// Names of resources that some pod of a group requests.
    pub(crate) resources: Vec<String>,
    pub(crate) shapes: Vec<&'a PodShape>,
    /// Requests of each shape, by the place of the resource.
    pub(crate) amounts: Vec<Vec<i64>>,
    /// Free amounts of each node, below zero where it is overcommitted.
    pub(crate) free: Vec<Vec<i64>>,
    /// Amounts of each node that pods have which could be elsewhere.
    movable: Vec<Vec<i64>>,
    /// Free amounts of each domain, overcommitted nodes left out.
    pub(crate) room: Vec<Vec<i64>>,
    /// Ports of each node that are taken, and the group that took them.
    ports: Vec<Vec<(Option<usize>, HostPort)>>,
    /// For each shape and node whether it fits, whatever is free, and the reluctance if it does.
    fits: Vec<Vec<Option<u64>>>,
    /// Pods of each group in each domain, and behind the domains on each node.
    pub(crate) tenants: Vec<BTreeMap<usize, u32>>,
    /// The group that has the node's domain for itself, and whether others are kept out.
    pub(crate) claims: Vec<BTreeMap<usize, bool>>,
    /// The group that the node drains for.
    pub(crate) held: Vec<Option<usize>>,
    /// Nodes in the order of their changes.
    pub(crate) journal: Vec<usize>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(problem: &'a Problem) -> Self {
        let by_name: BTreeMap<&str, &Node> = problem
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node))
            .collect();
        let nodes: Vec<&Node> = by_name.into_values().collect();
        let tree = Tree::new(&problem.topology, &nodes);
        let shapes_of_groups = problem
            .groups
            .iter()
            .flat_map(|group| &group.roles)
            .flat_map(|role| &role.pods)
            .map(|pods| &pods.shape);
        let names: BTreeSet<&str> = shapes_of_groups
            .flat_map(|shape| shape.requests.iter())
            .filter(|(_, amount)| *amount > 0)
            .map(|(name, _)| name)
            .collect();
        let resources: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let (count, domains) = (nodes.len(), tree.domains.len());
        let mut ledger = Self {
            room: vec![vec![0; resources.len()]; domains],
            tenants: vec![BTreeMap::new(); domains + count],
            free: vec![vec![0; resources.len()]; count],
            movable: vec![vec![0; resources.len()]; count],
            ports: vec![Vec::new(); count],
            claims: vec![BTreeMap::new(); count],
            held: vec![None; count],
            shapes: Vec::new(),
            amounts: Vec::new(),
            fits: Vec::new(),
            journal: Vec::new(),
            nodes,
            tree,
            resources,
        };
        for index in 0..count {
            let node = ledger.nodes[index];
            let amounts = ledger.vector(&node.allocatable);
            ledger.change(index, &amounts, 1);
            for occupant in &node.occupants {
                let amounts = ledger.vector(&occupant.requests);
                ledger.reserve(index, &amounts, &occupant.ports, None);
                if !occupant.stays {
                    ledger.shift(index, &amounts, 1);
                }
            }
        }
        ledger.journal.clear();
        ledger
    }

    /// The place of a node by its name.
    pub(crate) fn node(&self, name: &str) -> Option<usize> {
        self.nodes
            .binary_search_by(|node| node.name.as_str().cmp(name))
            .ok()
    }

    /// Amounts by the place of their resource; others than those that groups request are left out.
    pub(crate) fn vector(&self, resources: &Resources) -> Vec<i64> {
        let amounts = self.resources.iter();
        amounts.map(|name| resources.get(name)).collect()
    }

    /// The place of a shape, equal ones having one.
    pub(crate) fn shape(&mut self, shape: &'a PodShape) -> usize {
        if let Some(known) = self.shapes.iter().position(|known| *known == shape) {
            return known;
        }
        let fits = self
            .nodes
            .iter()
            .map(|node| match shape.unfit(node) {
                Some(_) => None,
                None => Some(shape.reluctance(node)),
            })
            .collect();
        self.fits.push(fits);
        self.amounts.push(self.vector(&shape.requests));
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    /// The reluctance of a node, if pods of the shape may be there at all.
    pub(crate) fn fit(&self, shape: usize, node: usize) -> Option<u64> {
        self.fits[shape][node]
    }

    /// Why pods of the shape may not be on the node, if so.
    pub(crate) fn unfit(&self, shape: usize, node: usize) -> Option<Unfit> {
        self.shapes[shape].unfit(self.nodes[node])
    }

    /// Whether ports of the shape are taken on the node, by others than `group`.
    pub(crate) fn ports_taken(&self, shape: usize, node: usize, group: Option<usize>) -> bool {
        let wanted = &self.shapes[shape].ports;
        !wanted.is_empty()
            && self.ports[node].iter().any(|(holder, taken)| {
                (group.is_none() || *holder != group)
                    && wanted.iter().any(|port| port.conflicts(taken))
            })
    }

    /// Whether others than `group` are kept out of the node for now.
    pub(crate) fn is_closed(&self, node: usize, group: usize) -> bool {
        let is_claimed = self.claims[node]
            .iter()
            .any(|(owner, is_hard)| *owner != group && *is_hard);
        is_claimed || self.held[node].is_some_and(|holder| holder != group)
    }

    /// Whether another group would rather have the node's domain for itself.
    pub(crate) fn is_avoided(&self, node: usize, group: usize) -> bool {
        self.claims[node].keys().any(|owner| *owner != group)
    }

    /// Takes a node's amounts and ports for a pod of `group`.
    pub(crate) fn take(&mut self, node: usize, shape: usize, group: usize) {
        let amounts = self.amounts[shape].clone();
        let pod = self.shapes[shape];
        self.reserve(node, &amounts, &pod.ports, Some(group));
        self.shift(node, &amounts, 1);
        self.count(node, group, 1);
    }

    /// Gives back what a pod of `group` took.
    pub(crate) fn give_back(&mut self, node: usize, shape: usize, group: usize) {
        let amounts = self.amounts[shape].clone();
        let pod = self.shapes[shape];
        self.release(node, &amounts, &pod.ports, Some(group));
        self.shift(node, &amounts, -1);
        self.count(node, group, -1);
    }

    /// Takes amounts and ports without a pod.
    pub(crate) fn reserve(
        &mut self,
        node: usize,
        amounts: &[i64],
        ports: &[HostPort],
        holder: Option<usize>,
    ) {
        self.change(node, amounts, -1);
        let ports = ports.iter().map(|port| (holder, port.clone()));
        self.ports[node].extend(ports);
    }

    /// Gives back what was reserved.
    pub(crate) fn release(
        &mut self,
        node: usize,
        amounts: &[i64],
        ports: &[HostPort],
        holder: Option<usize>,
    ) {
        self.change(node, amounts, 1);
        let taken = &mut self.ports[node];
        for port in ports {
            let mut known = taken.iter();
            if let Some(place) = known.position(|(by, other)| *by == holder && other == port) {
                taken.swap_remove(place);
            }
        }
    }

    /// Keeps others out of the nodes of a spot, or has them avoid it.
    pub(crate) fn claim(&mut self, spot: usize, group: usize, is_hard: bool) {
        for node in self.tree.nodes_in(spot) {
            self.claims[node].insert(group, is_hard);
            self.journal.push(node);
        }
    }

    /// Lets others back into the domains of `group`.
    pub(crate) fn disclaim(&mut self, group: usize) {
        for node in 0..self.nodes.len() {
            if self.claims[node].remove(&group).is_some() {
                self.journal.push(node);
            }
        }
    }

    /// Keeps later groups out of a node.
    pub(crate) fn hold(&mut self, node: usize, group: usize) {
        self.held[node] = Some(group);
        self.journal.push(node);
    }

    /// The amount of a node that pods have which could be elsewhere.
    pub(crate) fn movable(&self, node: usize, resource: usize) -> i64 {
        self.movable[node][resource]
    }

    /// The amount of a resource that pods of a job request.
    pub(crate) fn requested(&self, job: &Job, pods: &Counts, resource: usize) -> i64 {
        let kinds = job.kinds.iter().enumerate();
        kinds.fold(0, |sum, (kind, of)| {
            let amount = self.amounts[of.shape][resource];
            amount
                .saturating_mul(i64::from(pods.get(kind)))
                .saturating_add(sum)
        })
    }

    /// The resource that is scarcest for pods of these shapes: the device most of which they
    /// request; CPU, or the first resource, where they request none.
    pub(crate) fn scarcest(&self, shapes: &[usize]) -> usize {
        let total = |place: usize| -> i64 {
            let amounts = shapes.iter().map(|shape| self.amounts[*shape][place]);
            amounts.fold(0, i64::saturating_add)
        };
        let devices = (0..self.resources.len())
            .filter(|place| self.resources[*place].contains(VENDOR_MARK) && total(*place) > 0);
        let most = devices.max_by_key(|place| (total(*place), std::cmp::Reverse(*place)));
        let cpu = || self.resources.iter().position(|name| name == "cpu");
        most.or_else(cpu).unwrap_or(0)
    }

    fn shift(&mut self, node: usize, amounts: &[i64], sign: i64) {
        for (movable, amount) in self.movable[node].iter_mut().zip(amounts) {
            *movable = movable.saturating_add(amount.saturating_mul(sign));
        }
    }

    fn change(&mut self, node: usize, amounts: &[i64], sign: i64) {
        for (place, amount) in amounts.iter().enumerate() {
            let before = self.free[node][place];
            let after = before.saturating_add(amount.saturating_mul(sign));
            self.free[node][place] = after;
            let more = after.max(0) - before.max(0);
            let mut at = Some(self.tree.home[node]);
            while let Some(domain) = at {
                self.room[domain][place] = self.room[domain][place].saturating_add(more);
                at = self.tree.domains[domain].parent;
            }
        }
        self.journal.push(node);
    }

    fn count(&mut self, node: usize, group: usize, more: i32) {
        let mut at = Some(self.tree.spot(node));
        while let Some(spot) = at {
            let pods = self.tenants[spot].entry(group).or_insert(0);
            *pods = pods.saturating_add_signed(more);
            if *pods == 0 {
                self.tenants[spot].remove(&group);
            }
            at = self.tree.parent(spot);
        }
    }
}
