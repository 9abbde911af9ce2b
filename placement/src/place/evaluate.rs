//! The cost of a placement that is known, counted from the placement itself.
//!
//! The search adds up the same costs part by part; that both agree is tested against trying every
//! placement.

use std::collections::BTreeMap;

use super::{
    choose::{company, must, room},
    counts::Counts,
    job::{Job, Mode},
    ledger::Ledger,
    view::View,
};
use crate::{group::Group, objective::Objective};

/// The cost of `placed`, before any of its new pods is taken from the ledger.
pub(crate) fn evaluate(
    job: &Job,
    ledger: &Ledger<'_>,
    (group, groups): (&Group, &[&Group]),
    view: &View,
    placed: &[(usize, Counts)],
) -> Objective {
    let tree = &ledger.tree;
    let Some(around) = tree.around(placed.iter().map(|(node, _)| *node)) else {
        return Objective::default();
    };
    let mut cost = Objective {
        company: company(job, ledger, group, groups, view, around).unwrap_or(0),
        preferred: preferred(job, ledger, placed),
        traffic: traffic(job, ledger, placed),
        ..Objective::default()
    };
    let scarcest = ledger.scarcest(&job.shapes());
    let all: Counts = placed.iter().map(|(_, counts)| *counts).sum();
    cost.room = room(job, ledger, (around, scarcest), &all.minus(must(job, view)));
    let on = |node: usize| {
        let found = placed.iter().find(|(other, _)| *other == node);
        found.map(|(_, counts)| *counts).unwrap_or_default()
    };
    for (node, running) in &view.running {
        cost.moves = cost.moves.saturating_add(running.minus(on(*node)).total());
    }
    for (node, counts) in placed {
        let running = view.running.get(node).copied().unwrap_or_default();
        let new = match job.mode {
            Mode::Move => *counts,
            _ => counts.minus(running),
        };
        let mut left = ledger
            .free
            .get(*node)
            .and_then(|free| free.get(scarcest))
            .copied()
            .unwrap_or(0);
        for (index, kind) in job.kinds.iter().enumerate() {
            let amount = ledger.amounts[kind.shape]
                .get(scarcest)
                .copied()
                .unwrap_or(0);
            left = left.saturating_sub(amount.saturating_mul(i64::from(new.get(index))));
            let reluctance = ledger.fit(kind.shape, *node).unwrap_or(0);
            let margin = reluctance.saturating_mul(u64::from(counts.get(index)));
            cost.margin = cost.margin.saturating_add(margin);
        }
        let left = u64::try_from(left.max(0)).unwrap_or(0);
        cost.fragments = cost.fragments.saturating_add(left);
        if ledger.is_avoided(*node, view.group) {
            cost.company = cost.company.saturating_add(counts.total());
        }
    }
    cost
}

/// Domains of preferred levels that are used. A node without a label is a domain of its own.
fn preferred(job: &Job, ledger: &Ledger<'_>, placed: &[(usize, Counts)]) -> u64 {
    let mut cost = 0_u64;
    for depth in 1..=ledger.tree.node_depth() {
        let mut used: BTreeMap<usize, Counts> = BTreeMap::new();
        for (node, counts) in placed {
            let domain = ledger.tree.domain_of(*node, depth);
            let sum = used.entry(domain).or_default();
            *sum = sum.plus(*counts);
        }
        for counts in used.values() {
            cost = cost.saturating_add(job.preference(depth, counts));
        }
    }
    cost
}

/// The weight of each pair of pods times the levels between them.
fn traffic(job: &Job, ledger: &Ledger<'_>, placed: &[(usize, Counts)]) -> u64 {
    let mut cost = 0_u64;
    if job.traffic.is_empty() {
        return cost;
    }
    for (place, (node, counts)) in placed.iter().enumerate() {
        for (other, of_other) in placed.iter().skip(place + 1) {
            let around = ledger.tree.around([*node, *other].into_iter());
            let depth = around.map_or(0, |spot| ledger.tree.depth_of(spot));
            let levels = ledger.tree.node_depth().saturating_sub(depth);
            let weight = job.crossing(counts, of_other);
            let levels = u64::try_from(levels).unwrap_or(u64::MAX);
            cost = cost.saturating_add(weight.saturating_mul(levels));
        }
    }
    cost
}
