//! The choice among all tables: the most pods, then the least cost, then the narrowest domain.
//!
//! Every domain at the required level and below it, down to single nodes, is a candidate for the
//! smallest one that holds the group. Their tables are exact for themselves, so the best of them is
//! the best placement.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    counts::Counts,
    extent::{Extent, extent},
    job::{Job, Mode},
    ledger::Ledger,
    solver::Solver,
    table::{Entry, Reach},
    tree::NOWHERE,
    view::View,
};
use crate::{
    group::{Fallback, Group},
    objective::Objective,
};

/// A placement of the whole group within one spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) extent: Extent,
    pub(crate) objective: Objective,
    pub(crate) spot: usize,
    /// The entry of the spot's table that holds the pods, and perhaps more.
    pub(crate) entry: Counts,
}

/// The best entry of a table.
fn best(solver: &Solver, must: &Counts, table: &[Entry]) -> Option<(Extent, Entry)> {
    let mut best: Option<(Extent, Entry)> = None;
    let least = solver.job.least();
    for entry in table.iter().filter(|entry| entry.counts.covers(&least)) {
        let Some(extent) = extent(&solver.job, must, &entry.counts) else {
            continue;
        };
        // Where every count is in the table, one that holds more than the replicas is beside one
        // that holds just them.
        if solver.reach == Reach::All && extent.pods != entry.counts {
            continue;
        }
        let is_better = best.as_ref().is_none_or(|(known, known_entry)| {
            (Reverse(extent), entry.cost) < (Reverse(*known), known_entry.cost)
        });
        if is_better {
            best = Some((extent, *entry));
        }
    }
    best
}

/// The best placement of the view's group in a spot at `depth` or below.
pub(crate) fn choose(
    solver: &mut Solver,
    ledger: &Ledger<'_>,
    (group, groups): (&Group, &[&Group]),
    view: &View,
    depth: usize,
) -> Option<Choice> {
    let job = &solver.job;
    if job.required == NOWHERE {
        return None;
    }
    let must = must(job, view);
    // The best entry of a table is the same for every group of which nothing has to stay.
    let mut known = if must.is_zero() {
        std::mem::take(&mut solver.bests)
    } else {
        BTreeMap::new()
    };
    let mut chosen: Option<Choice> = None;
    let scarcest = ledger.scarcest(&job.shapes());
    for spot in candidates(job, ledger, view, &must) {
        if ledger.tree.depth_of(spot) < depth {
            continue;
        }
        let Some(table) = solver.table_id(spot) else {
            continue;
        };
        let best = known
            .entry(table)
            .or_insert_with(|| best(solver, &must, solver.table(spot)));
        let Some((extent, entry)) = *best else {
            continue;
        };
        if chosen.as_ref().is_some_and(|chosen| chosen.extent > extent) {
            continue;
        }
        let Some(company) = company(job, ledger, group, groups, view, spot) else {
            continue;
        };
        let at = (spot, scarcest);
        let objective = whole_cost(job, ledger, view, at, &must, (&extent, entry.cost), company);
        let choice = Choice {
            extent,
            objective,
            spot,
            entry: entry.counts,
        };
        let order = |choice: &Choice| {
            let depth = ledger.tree.depth_of(choice.spot);
            (
                Reverse(choice.extent),
                choice.objective,
                Reverse(depth),
                choice.spot,
            )
        };
        if chosen
            .as_ref()
            .is_none_or(|chosen| order(&choice) < order(chosen))
        {
            chosen = Some(choice);
        }
    }
    if must.is_zero() {
        solver.bests = known;
    }
    chosen
}

/// The cost of an entry of a spot as that of the whole group: with the levels around the spot, its
/// room, its company, and the running pods outside.
fn whole_cost(
    job: &Job,
    ledger: &Ledger<'_>,
    view: &View,
    (spot, scarcest): (usize, usize),
    must: &Counts,
    (extent, mut objective): (&Extent, Objective),
    company: u64,
) -> Objective {
    objective.company = objective.company.saturating_add(company);
    let new = extent.pods.minus(*must);
    objective.room = room(job, ledger, (spot, scarcest), &new);
    let moved = moved_outside(ledger, view, spot);
    objective.moves = objective.moves.saturating_add(moved);
    // A node without some label pays for those levels itself.
    let around = ledger.tree.parent(spot);
    let above = around.map_or(0, |around| ledger.tree.depth_of(around));
    for depth in 1..=above {
        let used = job.preference(depth, &extent.pods);
        objective.preferred = objective.preferred.saturating_add(used);
    }
    objective
}

/// Pods that run and stay whatever is chosen.
pub(crate) fn must(job: &Job, view: &View) -> Counts {
    if job.mode == Mode::Move {
        return Counts::ZERO;
    }
    let mut must: Counts = view.running.values().copied().sum();
    for (kind, shrinks) in job.shrinks.iter().enumerate() {
        if *shrinks {
            must.set(kind, 0);
        }
    }
    must
}

/// The spots that could hold the whole group: those around its running pods, or all at the required
/// level and below.
fn candidates(job: &Job, ledger: &Ledger<'_>, view: &View, must: &Counts) -> Vec<usize> {
    let tree = &ledger.tree;
    if !must.is_zero() {
        let stays = |counts: &Counts| {
            let kinds = 0..job.kinds.len();
            kinds
                .filter(|kind| !job.shrinks[*kind])
                .any(|kind| counts.get(kind) > 0)
        };
        let nodes = view.running.iter().filter(|(_, counts)| stays(counts));
        let mut around = tree.around(nodes.map(|(node, _)| *node));
        let mut spots = Vec::new();
        while let Some(spot) = around.filter(|spot| tree.depth_of(*spot) >= job.required) {
            spots.push(spot);
            around = tree.parent(spot);
        }
        return spots;
    }
    let spots = 0..tree.domains.len() + ledger.nodes.len();
    let is_inside = |spot: &usize| tree.ancestor(*spot, job.required).is_some();
    spots.filter(is_inside).collect()
}

/// The cost of others where the group would be, or nothing where it may not be.
pub(crate) fn company(
    job: &Job,
    ledger: &Ledger<'_>,
    group: &Group,
    groups: &[&Group],
    view: &View,
    spot: usize,
) -> Option<u64> {
    // A running group that is mixed with others stays, for there is nothing to keep apart.
    let is_fixed = job.mode != Mode::Move && !view.running.is_empty();
    let mut cost = 0_u64;
    let others = |depth: usize, set: Option<&str>| {
        let domain = ledger.tree.ancestor(spot, depth)?;
        let tenants = ledger.tenants[domain].keys();
        let is_other = |other: &&usize| {
            let of_set = |set: &str| {
                let spread = groups[**other].spread.as_ref();
                spread.is_some_and(|spread| spread.set == set)
            };
            **other != view.group && set.is_none_or(of_set)
        };
        u64::try_from(tenants.filter(is_other).count()).ok()
    };
    if let Some(claim) = &group.exclusive {
        let count = others(ledger.tree.depth(&claim.level), None)?;
        if count > 0 && claim.fallback == Fallback::Wait && !is_fixed && job.mode != Mode::Drain {
            return None;
        }
        cost = cost.saturating_add(count);
    }
    if let Some(spread) = &group.spread {
        match others(ledger.tree.depth(&spread.level), Some(&spread.set)) {
            Some(count) => {
                let most = spread.most_per_domain.map(u64::from);
                if most.is_some_and(|most| count >= most) && !is_fixed {
                    return None;
                }
                cost = cost.saturating_add(count);
            }
            None if spread.most_per_domain.is_some() && !is_fixed => return None,
            None => {}
        }
    }
    Some(cost)
}

/// Units of the scarcest resource that stay free in the spot beside `new` pods.
pub(crate) fn room(
    job: &Job,
    ledger: &Ledger<'_>,
    (spot, scarcest): (usize, usize),
    new: &Counts,
) -> u64 {
    if ledger.resources.is_empty() {
        return 0;
    }
    let free = match ledger.tree.node_of(spot) {
        Some(node) => ledger.free[node][scarcest].max(0),
        None => ledger.room[spot][scarcest],
    };
    let used = ledger.requested(job, new, scarcest);
    u64::try_from(free.saturating_sub(used)).unwrap_or(0)
}

/// Running pods outside of the spot, which have to move into it or end.
pub(crate) fn moved_outside(ledger: &Ledger<'_>, view: &View, spot: usize) -> u64 {
    let depth = ledger.tree.depth_of(spot);
    let outside = view.running.iter().filter(|(node, _)| {
        let own = ledger.tree.spot(**node);
        ledger.tree.ancestor(own, depth) != Some(spot)
    });
    outside.map(|(_, counts)| counts.total()).sum()
}
