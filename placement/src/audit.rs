//! The promises of a placement, checked on every plan.
//!
//! It reads the problem and the placement as plain facts and shares no code with the search: a
//! fault of the search cannot hide itself. Findings are sentences; none means that all holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    group::{Fallback, Group},
    node::Node,
    plan::{GroupPlan, Outcome, Placement, Slot},
    pod::PodShape,
    port::HostPort,
    problem::Problem,
    resources::Resources,
    topology::{Level, NODE_LEVEL, Topology},
};

/// Everything that a placement breaks.
pub fn audit(problem: &Problem, placement: &Placement) -> Vec<String> {
    let nodes = problem.nodes.iter();
    let nodes: BTreeMap<&str, &Node> = nodes.map(|node| (node.name.as_str(), node)).collect();
    let labels: Vec<_> = nodes.values().map(|node| &node.labels).collect();
    let mut audit = Audit {
        levels: problem.topology.in_force(&labels),
        nodes,
        problem,
        placement,
        findings: Vec::new(),
    };
    for group in &problem.groups {
        match placement.groups.get(&group.name) {
            None => audit.finding(format!("group `{}` has no plan", group.name)),
            Some(plan) => audit.group(group, plan),
        }
    }
    audit.amounts();
    audit.ports();
    audit.apart();
    audit.findings
}

struct Audit<'a> {
    problem: &'a Problem,
    placement: &'a Placement,
    /// The levels in force.
    levels: Vec<&'a Level>,
    nodes: BTreeMap<&'a str, &'a Node>,
    findings: Vec<String>,
}

impl<'a> Audit<'a> {
    fn finding(&mut self, finding: String) {
        self.findings.push(finding);
    }

    fn group(&mut self, group: &Group, plan: &GroupPlan) {
        let name = &group.name;
        for slot in &plan.slots {
            let Some(node) = self.nodes.get(slot.node.as_str()).copied() else {
                self.finding(format!(
                    "group `{name}` uses node `{}`, which is gone",
                    slot.node
                ));
                continue;
            };
            let Some(pods) = group.pods(&slot.role, &slot.kind) else {
                self.finding(format!(
                    "group `{name}` has no pods {}/{}",
                    slot.role, slot.kind
                ));
                continue;
            };
            if slot.pod.is_none() {
                if let Some(unfit) = pods.shape.unfit(node) {
                    self.finding(format!("group `{name}`: `{}` is unfit: {unfit}", node.name));
                }
                if group.excluded_nodes.contains(&node.name) {
                    self.finding(format!("group `{name}`: `{}` is excluded", node.name));
                }
            }
        }
        let is_waiting = !matches!(plan.outcome, Outcome::Placed | Outcome::Degraded);
        if is_waiting && plan.slots.iter().any(|slot| slot.pod.is_none()) {
            self.finding(format!("group `{name}` waits and holds something"));
        }
        if !is_waiting {
            self.replicas(group, plan);
            self.levels(group, plan);
        }
    }

    /// Whole replicas, between `min` and `desired`.
    fn replicas(&mut self, group: &Group, plan: &GroupPlan) {
        for role in &group.roles {
            let mut by_replica: BTreeMap<u32, BTreeMap<&str, u32>> = BTreeMap::new();
            for slot in plan.slots.iter().filter(|slot| slot.role == role.name) {
                let kinds = by_replica.entry(slot.replica).or_default();
                *kinds.entry(&slot.kind).or_default() += 1;
            }
            for (replica, kinds) in &by_replica {
                let is_whole = role
                    .pods
                    .iter()
                    .all(|pods| kinds.get(pods.name.as_str()) == Some(&pods.count));
                if !is_whole {
                    self.finding(format!(
                        "group `{}`: replica {replica} of {} is not whole",
                        group.name, role.name
                    ));
                }
            }
            let count = u32::try_from(by_replica.len()).unwrap_or(u32::MAX);
            let is_short = count < role.min && plan.outcome == Outcome::Placed;
            let mut new = plan.slots.iter().filter(|slot| slot.pod.is_none());
            let is_over = count > role.desired && new.any(|slot| slot.role == role.name);
            if is_short || is_over {
                self.finding(format!(
                    "group `{}`: {} has {count} replicas, not {} to {}",
                    group.name, role.name, role.min, role.desired
                ));
            }
        }
    }

    /// Required levels of the group, its roles and its replicas.
    fn levels(&mut self, group: &Group, plan: &GroupPlan) {
        let mut sets: Vec<(String, &str, Vec<&Slot>)> = Vec::new();
        let all: Vec<&Slot> = plan.slots.iter().collect();
        if let Some(level) = &group.required {
            sets.push(("the group".to_owned(), level, all.clone()));
        }
        if let Some(claim) = &group.exclusive {
            sets.push(("the group".to_owned(), &claim.level, all));
        }
        for role in &group.roles {
            let of_role = plan.slots.iter().filter(|slot| slot.role == role.name);
            if let Some(level) = &role.required {
                sets.push((role.name.clone(), level, of_role.clone().collect()));
            }
            if let Some(level) = &role.replica_required {
                let numbers: BTreeSet<u32> = of_role.clone().map(|slot| slot.replica).collect();
                for number in numbers {
                    let of_replica = of_role.clone().filter(|slot| slot.replica == number);
                    let name = format!("replica {number} of {}", role.name);
                    sets.push((name, level, of_replica.collect()));
                }
            }
        }
        for (whose, level, slots) in sets {
            let domains: BTreeSet<Option<Vec<String>>> = slots
                .iter()
                .map(|slot| self.domain(&slot.node, level))
                .collect();
            if domains.len() > 1 || domains.contains(&None) {
                self.finding(format!(
                    "group `{}`: {whose} is not in one domain of `{level}`",
                    group.name
                ));
            }
        }
    }

    /// The path of a node down to a level.
    fn domain(&self, node: &str, level: &str) -> Option<Vec<String>> {
        let node = self.nodes.get(node)?;
        if level == NODE_LEVEL {
            return Some(vec![node.name.clone()]);
        }
        let depth = self.levels.iter().position(|known| known.name == level)?;
        let path = Topology::path(&self.levels, &node.labels);
        let path = path.get(..=depth)?;
        Some(path.iter().map(ToString::to_string).collect())
    }

    /// No node has less than its pods request, but for what was there before.
    fn amounts(&mut self) {
        let mut used: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let mut new: BTreeSet<(&str, &str)> = BTreeSet::new();
        for node in &self.problem.nodes {
            for occupant in &node.occupants {
                add(&mut used, &node.name, &occupant.requests);
            }
        }
        for (group, slot, shape) in self.slots() {
            add(&mut used, &slot.node, &shape.requests);
            let members = &group.members;
            let is_new = !members
                .iter()
                .any(|member| Some(&member.pod) == slot.pod.as_ref());
            if is_new {
                let requests = shape.requests.iter().filter(|(_, amount)| *amount > 0);
                new.extend(requests.map(|(name, _)| (slot.node.as_str(), name)));
            }
        }
        for reservation in &self.problem.reservations {
            let holder = reservation.holder.as_deref().unwrap_or_default();
            let plan = self.placement.groups.get(holder);
            let is_used = plan
                .is_some_and(|plan| matches!(plan.outcome, Outcome::Placed | Outcome::Degraded));
            if !is_used {
                add(&mut used, &reservation.node, &reservation.requests);
            }
        }
        for ((node, resource), amount) in used {
            let most = self
                .nodes
                .get(node)
                .map_or(0, |node| node.allocatable.get(resource));
            if amount > most && new.contains(&(node, resource)) {
                self.finding(format!(
                    "node `{node}` has {most} {resource}, and its pods request {amount}"
                ));
            }
        }
    }

    /// No two pods take one port of a node, unless they did before.
    fn ports(&mut self) {
        let mut taken: BTreeMap<&str, Vec<(&HostPort, bool)>> = BTreeMap::new();
        for node in &self.problem.nodes {
            let ports = node.occupants.iter().flat_map(|occupant| &occupant.ports);
            let there = taken.entry(&node.name).or_default();
            there.extend(ports.map(|port| (port, false)));
        }
        for (_, slot, shape) in self.slots() {
            let ports = shape.ports.iter().map(|port| (port, slot.pod.is_none()));
            taken.entry(&slot.node).or_default().extend(ports);
        }
        for (node, ports) in taken {
            for (place, (port, is_new)) in ports.iter().enumerate() {
                let clash = ports
                    .iter()
                    .skip(place + 1)
                    .find(|(other, other_new)| port.conflicts(other) && (*is_new || *other_new));
                if let Some((other, _)) = clash {
                    self.finding(format!("node `{node}`: port {} is taken twice", other.port));
                }
            }
        }
    }

    /// Exclusive domains and spreads, wherever a group has new pods.
    fn apart(&mut self) {
        let groups = &self.problem.groups;
        for one in groups {
            let claim = one.exclusive.as_ref();
            let Some(claim) = claim.filter(|claim| claim.fallback == Fallback::Wait) else {
                continue;
            };
            for other in groups.iter().filter(|other| other.name != one.name) {
                if self.share(one, other, &claim.level) {
                    self.finding(format!(
                        "group `{}` is not alone in its {}: `{}` is there",
                        one.name, claim.level, other.name
                    ));
                }
            }
        }
        for one in groups {
            let Some(spread) = &one.spread else { continue };
            let Some(most) = spread.most_per_domain else {
                continue;
            };
            let is_of_set =
                |other: &&Group| other.spread.as_ref().is_some_and(|of| of.set == spread.set);
            let others = groups.iter().filter(is_of_set);
            let beside = others
                .filter(|other| other.name != one.name && self.share(one, other, &spread.level));
            let count = u32::try_from(beside.count()).unwrap_or(u32::MAX);
            if count >= most && self.has_new(one) {
                self.finding(format!(
                    "group `{}` shares its {} with {count} others of set `{}`",
                    one.name, spread.level, spread.set
                ));
            }
        }
    }

    /// Whether both are in one domain of `level`, and one of them came there now.
    fn share(&self, one: &Group, other: &Group, level: &str) -> bool {
        let domains = |group: &Group| -> BTreeSet<Vec<String>> {
            let plan = self.placement.groups.get(&group.name);
            let slots = plan.into_iter().flat_map(|plan| &plan.slots);
            slots
                .filter_map(|slot| self.domain(&slot.node, level))
                .collect()
        };
        !domains(one).is_disjoint(&domains(other)) && (self.has_new(one) || self.has_new(other))
    }

    /// Whether the group has new pods and none that ran before: those may be mixed already.
    fn has_new(&self, group: &Group) -> bool {
        let plan = self.placement.groups.get(&group.name);
        let mut slots = plan.into_iter().flat_map(|plan| &plan.slots);
        group.members.is_empty() && slots.any(|slot| slot.pod.is_none())
    }

    fn slots(&self) -> Vec<(&'a Group, &'a Slot, &'a PodShape)> {
        let mut slots = Vec::new();
        for group in &self.problem.groups {
            let plan = self.placement.groups.get(&group.name);
            for slot in plan.into_iter().flat_map(|plan| &plan.slots) {
                if let Some(pods) = group.pods(&slot.role, &slot.kind) {
                    slots.push((group, slot, &pods.shape));
                }
            }
        }
        slots
    }
}

fn add<'a>(used: &mut BTreeMap<(&'a str, &'a str), i64>, node: &'a str, requests: &'a Resources) {
    for (name, amount) in requests.iter() {
        let sum = used.entry((node, name)).or_default();
        *sum = sum.saturating_add(amount);
    }
}
