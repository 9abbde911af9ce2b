//! Partial placements on one node: every count of pods that it can take.

use super::{
    counts::Counts,
    job::{Job, Mode},
    table::{Entry, Table},
};
use crate::objective::Objective;

/// A node as one group sees it. Nodes with equal facts have equal tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Facts {
    /// The depth of the deepest domain that its labels name.
    pub(crate) depth: usize,
    /// Whether another group would rather be alone there.
    pub(crate) is_avoided: bool,
    /// Which kinds may be added.
    pub(crate) takes: Vec<bool>,
    /// The node's reluctance for each kind.
    pub(crate) reluctance: Vec<u64>,
    /// Free amounts of the resources that the group requests. In [`Mode::Drain`] those that pods
    /// which could move have, too.
    pub(crate) free: Vec<i64>,
    /// Of those amounts how much pods that would have to move have.
    pub(crate) movable: Vec<i64>,
    /// Pods of the group that are there.
    pub(crate) running: Counts,
}

/// All that the facts of a node are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Leaves {
    /// Requests of each kind, in the order of [`Facts::free`].
    pub(crate) amounts: Vec<Vec<i64>>,
    /// The place of the scarcest resource in them.
    pub(crate) scarcest: usize,
    /// The most of each resource that the whole group uses. Free amounts are cut to it, so that
    /// more nodes are alike; that of the scarcest resource is not, for what is left of it counts.
    pub(crate) enough: Vec<i64>,
    /// Kinds that cannot be on one node with each other, or with a second of their own.
    pub(crate) conflicts: Vec<Vec<bool>>,
    /// The depth of nodes.
    pub(crate) node_depth: usize,
    /// The resources that the group requests, by their place in the ledger.
    pub(crate) resources: Vec<usize>,
}

impl Leaves {
    /// The table of a node.
    pub(crate) fn table(&self, job: &Job, facts: &Facts) -> Table {
        let mut table = Vec::new();
        let mut free = facts.free.clone();
        self.extend(job, facts, (0, Counts::ZERO), &mut free, &mut table);
        table.retain(|entry| self.is_allowed(job, facts, &entry.counts));
        table
    }

    /// Chooses the number of pods of `kind`, then of the kinds after it.
    fn extend(
        &self,
        job: &Job,
        facts: &Facts,
        (kind, counts): (usize, Counts),
        free: &mut Vec<i64>,
        table: &mut Table,
    ) {
        if kind == job.kinds.len() {
            let cost = self.cost(job, facts, &counts, free);
            table.push(Entry {
                counts,
                number: 0,
                cost,
            });
            return;
        }
        let running = facts.running.get(kind);
        let is_fixed = job.mode != Mode::Move;
        if is_fixed && job.shrinks[kind] {
            for count in 0..=running.min(job.most.get(kind)) {
                let mut more = counts;
                more.set(kind, count);
                self.extend(job, facts, (kind + 1, more), free, table);
            }
            return;
        }
        let kept = if is_fixed { running } else { 0 };
        let added = job.most.get(kind).saturating_sub(kept);
        let most = added.min(self.fitting(facts, &counts, kind, free));
        for new in 0..=most {
            let mut more = counts;
            more.set(kind, kept.saturating_add(new));
            self.extend(job, facts, (kind + 1, more), free, table);
            if new < most {
                self.change(free, kind, 1);
            }
        }
        self.change(free, kind, -i64::from(most));
    }

    /// Most pods of `kind` that can be added beside `counts`.
    fn fitting(&self, facts: &Facts, counts: &Counts, kind: usize, free: &[i64]) -> u16 {
        if !facts.takes[kind] {
            return 0;
        }
        let added = |other: usize| counts.get(other) > facts.running.get(other);
        if (0..kind).any(|other| self.conflicts[kind][other] && added(other)) {
            return 0;
        }
        let by_amounts = self.amounts[kind]
            .iter()
            .zip(free)
            .filter(|(amount, _)| **amount > 0)
            .map(|(amount, free)| free.max(&0) / amount)
            .min()
            .unwrap_or(i64::MAX);
        let most = u16::try_from(by_amounts).unwrap_or(u16::MAX);
        if self.conflicts[kind][kind] {
            most.min(1)
        } else {
            most
        }
    }

    /// Takes the amounts of so many pods of `kind`; none of a negative number gives them back.
    fn change(&self, free: &mut [i64], kind: usize, pods: i64) {
        for (free, amount) in free.iter_mut().zip(&self.amounts[kind]) {
            *free = free.saturating_sub(amount.saturating_mul(pods));
        }
    }

    /// Whether levels allow such a count on a node with these labels.
    fn is_allowed(&self, job: &Job, facts: &Facts, counts: &Counts) -> bool {
        job.roles.iter().enumerate().all(|(role, rule)| {
            let is_there = |depth: usize| depth <= facts.depth || depth == self.node_depth;
            let is_in_domains = is_there(rule.required) && is_there(rule.replica);
            let has_role = job.has_role(role, counts);
            (is_in_domains || !has_role)
                && (rule.replica != self.node_depth || job.is_whole(role, counts))
        })
    }

    fn cost(&self, job: &Job, facts: &Facts, counts: &Counts, free: &[i64]) -> Objective {
        let mut cost = Objective::default();
        let left = free.get(self.scarcest).copied().unwrap_or(0);
        if !counts.is_zero() {
            cost.fragments = u64::try_from(left.max(0)).unwrap_or(0);
            for depth in (facts.depth + 1)..=self.node_depth {
                cost.preferred = cost.preferred.saturating_add(job.preference(depth, counts));
            }
        }
        if facts.is_avoided {
            cost.company = counts.total();
        }
        for (kind, reluctance) in facts.reluctance.iter().enumerate() {
            let pods = u64::from(counts.get(kind));
            let margin = pods.saturating_mul(*reluctance);
            cost.margin = cost.margin.saturating_add(margin);
        }
        cost.moves = facts.running.minus(*counts).total();
        if job.mode == Mode::Drain {
            // Amounts that are not free yet have to leave before.
            let short = free.iter().zip(&facts.movable).map(|(left, movable)| {
                let missing = movable.saturating_sub((*left).max(0));
                u64::try_from(missing.max(0)).unwrap_or(0)
            });
            let scarcest = short.clone().nth(self.scarcest).unwrap_or(0);
            let others = u64::from(short.clone().any(|missing| missing > 0));
            cost.company = if counts.is_zero() {
                0
            } else {
                scarcest.saturating_add(others)
            };
        }
        cost
    }
}
