//! The plans of all groups that can be planned: what is seen as a problem for the planner.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    PodState, Seen, SeenGroup, SeenPod,
    composition::{GroupView, RoleView},
    directed::{Directed, directed},
    facts::{Standing, Standings},
    room::Room,
};
use crate::{
    group::Fallback,
    node::{Node, Occupant},
    place::Session,
    plan::{GroupPlan, Outcome, Placement, Slot},
    pod::PodShape,
    problem::{Hold, Problem, Reservation},
    topology::{NODE_LEVEL, Topology},
};

/// The plans of all groups that can be planned.
#[derive(Default)]
pub(super) struct Plans {
    /// Those of the planner, with the nodes that drain for the group.
    pub(super) planned: BTreeMap<String, (GroupPlan, BTreeSet<String>)>,
    /// Those of groups whose pods have places of their own.
    pub(super) directed: BTreeMap<String, Directed>,
}

/// The plans of all groups that can be planned: directed groups find the places of all others
/// taken.
pub(super) fn plans(seen: &Seen, views: &[GroupView<'_>], standings: &Standings) -> Plans {
    let mut plans = Plans::default();
    let taken = in_turn(seen, views, standings, |_, placement| {
        let Placement { groups, holds, .. } = placement;
        for (name, plan) in groups {
            let mut of_group = holds.iter().filter(|hold| hold.group == name);
            let drains = of_group.next().map(|hold| hold.nodes.clone());
            plans
                .planned
                .insert(name, (plan, drains.unwrap_or_default()));
        }
    });
    let is_chosen = |view: &&GroupView<'_>| can_be(view, seen) && view.directed().is_some();
    let chosen: Vec<&GroupView<'_>> = views.iter().filter(is_chosen).collect();
    if !chosen.is_empty() {
        direct(seen, views, &chosen, standings, &taken, &mut plans);
    }
    plans
}

/// Makes all plans of the planner, and shows each session with its placement. The groups of one
/// topology are planned together; later topologies find the places of earlier ones taken. All that
/// are taken come back.
pub(super) fn in_turn(
    seen: &Seen,
    views: &[GroupView<'_>],
    standings: &Standings,
    mut show: impl FnMut(&mut Session<'_>, Placement),
) -> Vec<Reservation> {
    let mut topologies: BTreeMap<&str, &Topology> = BTreeMap::new();
    for view in views {
        if let Ok(topology) = &view.seen.topology {
            topologies.insert(&view.seen.topology_name, topology);
        }
    }
    let mut taken: Vec<Reservation> = Vec::new();
    for (name, topology) in topologies {
        let planned: Vec<&GroupView<'_>> = views
            .iter()
            .filter(|view| view.seen.topology_name == name && is_planned(view, seen))
            .collect();
        let problem = problem(seen, views, &planned, standings, topology, &taken);
        let mut session = Session::new(&problem);
        let placement = session.placement();
        for group in &problem.groups {
            let plan = placement.groups.get(&group.name);
            let is_placed =
                |plan: &&GroupPlan| matches!(plan.outcome, Outcome::Placed | Outcome::Degraded);
            let slots = plan
                .filter(is_placed)
                .into_iter()
                .flat_map(|plan| &plan.slots);
            taken.extend(slots.filter(|slot| slot.pod.is_none()).filter_map(|slot| {
                let kind = group.pods(&slot.role, &slot.kind)?;
                Some(reservation(slot, &kind.shape))
            }));
        }
        show(&mut session, placement);
    }
    taken
}

/// Whether the planner makes a plan for it now.
pub(super) fn is_planned(view: &GroupView<'_>, seen: &Seen) -> bool {
    can_be(view, seen) && view.directed().is_none()
}

fn can_be(view: &GroupView<'_>, seen: &Seen) -> bool {
    let is_known = view.seen.topology.is_ok() && view.fault.is_none();
    is_known && view.lacks().is_none() && !is_put_off(view, seen)
}

/// The plans of directed groups, in the order of their priority, age and name.
fn direct(
    seen: &Seen,
    views: &[GroupView<'_>],
    chosen: &[&GroupView<'_>],
    standings: &Standings,
    taken: &[Reservation],
    plans: &mut Plans,
) {
    let mut room = Room::new(&seen.nodes);
    for pod in views.iter().flat_map(|view| &view.seen.pods) {
        if let (Standing::Member { node } | Standing::Leaving { node }, Ok(shape)) =
            (standings.of(pod), &pod.shape)
        {
            room.take(node, shape);
        }
    }
    for reservation in taken {
        room.fill(&reservation.node, &reservation.requests, &reservation.ports);
    }
    let mut in_order: Vec<&GroupView<'_>> = chosen.to_vec();
    in_order.sort_by_cached_key(|view| {
        let group = view.group(seen.now_seconds, |role| role.rules.min);
        (
            Reverse(group.priority),
            Reverse(view.has_members()),
            Reverse(group.age_seconds),
            group.name,
        )
    });
    for view in in_order {
        let name = &view.seen.rules.name;
        let closed = closed_to(name, seen, views, standings, plans);
        let excluded = excluded(view.seen, seen.now_seconds);
        let found = directed(view, &seen.nodes, &mut room, &excluded, &closed);
        plans.directed.insert(name.clone(), found);
    }
}

/// Nodes that others than `group` have to themselves, or that drain for them.
fn closed_to(
    group: &str,
    seen: &Seen,
    views: &[GroupView<'_>],
    standings: &Standings,
    plans: &Plans,
) -> BTreeSet<String> {
    let labels: Vec<_> = seen.nodes.iter().map(|node| &node.labels).collect();
    let mut closed = BTreeSet::new();
    for view in views.iter().filter(|view| view.seen.rules.name != group) {
        let rules = &view.seen.rules;
        let plan = plans.planned.get(&rules.name);
        closed.extend(plan.into_iter().flat_map(|(_, drains)| drains.clone()));
        let (Ok(topology), Some(exclusive)) = (&view.seen.topology, &rules.exclusive) else {
            continue;
        };
        if exclusive.fallback == Fallback::Share {
            continue;
        }
        let running = view
            .seen
            .pods
            .iter()
            .filter_map(|pod| match standings.of(pod) {
                Standing::Member { node } => Some(node.as_str()),
                _ => None,
            });
        let slots = plan.into_iter().flat_map(|(plan, _)| &plan.slots);
        let own: BTreeSet<&str> = slots
            .map(|slot| slot.node.as_str())
            .chain(running)
            .collect();
        let levels = topology.in_force(&labels);
        let depth = levels
            .iter()
            .position(|level| level.name == exclusive.level);
        let depth = depth.map_or(levels.len(), |place| place + 1);
        let path = |node: &Node| {
            let path = Topology::path(&levels, &node.labels);
            let path = path.get(..depth)?;
            Some(path.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let is_own = |node: &&Node| own.contains(node.name.as_str());
        let domains: BTreeSet<_> = seen.nodes.iter().filter(is_own).filter_map(path).collect();
        let inside = seen.nodes.iter().filter(|node| {
            let is_node = exclusive.level == NODE_LEVEL;
            own.contains(node.name.as_str())
                || (!is_node && path(node).is_some_and(|path| domains.contains(&path)))
        });
        closed.extend(inside.map(|node| node.name.clone()));
    }
    closed
}

/// Whether it has nothing, and failed so lately that it is not tried again yet.
fn is_put_off(view: &GroupView<'_>, seen: &Seen) -> bool {
    let retry = view.seen.record.retry_seconds;
    !view.has_members() && retry.is_some_and(|retry| seen.now_seconds < retry)
}

fn problem(
    seen: &Seen,
    views: &[GroupView<'_>],
    planned: &[&GroupView<'_>],
    standings: &Standings,
    topology: &Topology,
    taken: &[Reservation],
) -> Problem {
    let mut nodes = seen.nodes.clone();
    let names: BTreeMap<String, usize> = (0..)
        .zip(&nodes)
        .map(|(place, node)| (node.name.clone(), place))
        .collect();
    let mut occupy = |node: &str, occupant: Occupant| {
        if let Some(node) = names.get(node).and_then(|place| nodes.get_mut(*place)) {
            node.occupants.push(occupant);
        }
    };
    let in_turn: BTreeSet<&str> = planned
        .iter()
        .map(|view| view.seen.rules.name.as_str())
        .collect();
    for view in views {
        let is_planned = in_turn.contains(view.seen.rules.name.as_str());
        for pod in &view.seen.pods {
            let node = match standings.of(pod) {
                Standing::Leaving { node } => node,
                Standing::Member { node } if !is_planned => node,
                _ => continue,
            };
            if let Ok(shape) = &pod.shape {
                occupy(node, occupant(view.seen, pod, shape));
            }
        }
        if is_planned {
            for (node, pod, requests) in view.beyond() {
                let name = format!("{} (beyond its kind)", pod.name);
                occupy(
                    node,
                    Occupant {
                        name,
                        requests,
                        ..Occupant::default()
                    },
                );
            }
        }
    }
    let groups = planned.iter().map(|view| {
        let mut group = view.group(seen.now_seconds, |role| wanted(view, role, seen));
        group
            .excluded_nodes
            .extend(excluded(view.seen, seen.now_seconds));
        group
    });
    let holds = planned
        .iter()
        .filter(|view| !view.seen.record.holds.is_empty());
    Problem {
        groups: groups.collect(),
        topology: topology.clone(),
        reservations: taken.to_vec(),
        holds: holds
            .map(|view| Hold {
                group: view.seen.rules.name.clone(),
                nodes: view.seen.record.holds.clone(),
            })
            .collect(),
        settings: seen.settings.planner,
        nodes,
    }
}

fn occupant(group: &SeenGroup, pod: &SeenPod, shape: &PodShape) -> Occupant {
    Occupant {
        name: format!("{} of {}", pod.name, group.rules.name),
        requests: shape.requests.clone(),
        ports: shape.ports.clone(),
        stays: false,
    }
}

fn reservation(slot: &Slot, shape: &PodShape) -> Reservation {
    Reservation {
        node: slot.node.clone(),
        requests: shape.requests.clone(),
        ports: shape.ports.clone(),
        holder: None,
    }
}

/// Nodes that failed the group lately, or refused one of its pods.
fn excluded(group: &SeenGroup, now_seconds: u64) -> BTreeSet<String> {
    let failed = group.record.excluded.iter();
    let failed = failed.filter(|(_, until)| now_seconds < **until);
    let refused = group.pods.iter().filter_map(|pod| match &pod.state {
        PodState::Ended { refused_by } => refused_by.clone(),
        _ => None,
    });
    failed
        .map(|(node, _)| node.clone())
        .chain(refused)
        .collect()
}

/// Replicas of a role that are to have places: those that are there, and those that were there a
/// while ago and may come back.
fn wanted(view: &GroupView<'_>, role: &RoleView<'_>, seen: &Seen) -> u32 {
    let record = &view.seen.record;
    let had = record.replicas.get(&role.rules.name).copied().unwrap_or(0);
    let is_kept = record
        .short_since_seconds
        .is_none_or(|since| seen.now_seconds < since.saturating_add(seen.settings.protect_seconds));
    let kept = if is_kept { had } else { 0 };
    let wanted = role.there().max(kept);
    match role.rules.desired {
        0 => wanted,
        desired => wanted.min(desired),
    }
}
