//! Partial placements of one part of the cluster: for each count of pods the least cost.
//!
//! A table of a domain is made of those of its parts, pair by pair: every count of one with every
//! count of the other. The costs that depend on both, traffic across and roles that must not be
//! split, are known at that moment, so the least cost is exact, whatever the shapes of pods.
//!
//! Where that is too much, only counts are kept that no other count covers (`Frontier`). Pods can
//! always be left out, so the most pods are still found exactly; only costs are not compared for
//! fewer. Where even those are too many, the best few are kept (`Beam`).

use super::{counts::Counts, extent::WHOLE, job::Job};
use crate::objective::Objective;

/// Most counts with which a table of all of them is indexed densely.
pub(crate) const DENSE_MAX: u64 = 65_536;

/// Counts that a bounded search keeps of each table: two tables join in 4,096 steps, so that the
/// last resort is fast for thousands of nodes.
const BEAM: usize = 64;

/// How much of a table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every count.
    All,
    /// Counts that no other one covers.
    Frontier,
    /// The best of those.
    Beam,
}

/// A count that can be placed, with its least cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) counts: Counts,
    /// One number for the counts, see [`Joiner::number`].
    pub(crate) number: usize,
    pub(crate) cost: Objective,
}

/// Steps that a search may still take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work(pub(crate) u64);

/// Counts that can be placed, in order.
pub(crate) type Table = Vec<Entry>;

/// Joins parts of a domain.
#[derive(Debug)]
pub(crate) struct Joiner {
    reach: Reach,
    /// Factors that make one number of a count; empty where there are too many.
    radix: Vec<usize>,
    /// The place of each count in the table that is being made, by its number.
    places: Vec<u32>,
}

impl Joiner {
    pub(crate) fn new(job: &Job, reach: Reach) -> Self {
        let mut radix = Vec::new();
        let mut states = 1_u64;
        for kind in 0..job.kinds.len() {
            radix.push(usize::try_from(states).unwrap_or(usize::MAX));
            states = states.saturating_mul(u64::from(job.most.get(kind)) + 1);
        }
        let is_dense = states <= DENSE_MAX;
        if !is_dense {
            radix.clear();
        }
        let places = if is_dense { states } else { 0 };
        Self {
            reach,
            radix,
            places: vec![u32::MAX; usize::try_from(places).unwrap_or(0)],
        }
    }

    /// Both parts together; `depth` is that of the domain they are parts of, `distance` that of two
    /// pods in different ones. Nothing if that takes more work than is left; the beam ends always.
    pub(crate) fn join(
        &mut self,
        job: &Job,
        (one, other): (&Table, &Table),
        (depth, distance): (usize, u64),
        work: &mut Work,
    ) -> Option<Table> {
        let pairs = one.len().saturating_mul(other.len());
        self.spend(work, pairs)?;
        let may_split = job.roles.iter().any(|rule| rule.required > depth);
        let mut joined: Table = Vec::with_capacity(pairs.min(self.places.len()));
        for left in one {
            for right in other {
                let Some(counts) = self.sum(job, &left.counts, &right.counts, depth) else {
                    continue;
                };
                if may_split && splits_role(job, &left.counts, &right.counts, depth) {
                    continue;
                }
                let cost = joint_cost(job, left, right, distance);
                let number = match self.reach {
                    Reach::All => left.number + right.number,
                    _ => self.number(&counts),
                };
                self.keep(
                    &mut joined,
                    Entry {
                        counts,
                        number,
                        cost,
                    },
                );
            }
        }
        self.settle(job, joined, depth, work)
    }

    /// Both counts together, if they are not too many. Where only the largest counts are kept, pods
    /// that are too many are left out: the parts without them were not kept.
    pub(crate) fn sum(
        &self,
        job: &Job,
        one: &Counts,
        other: &Counts,
        depth: usize,
    ) -> Option<Counts> {
        let sum = one.plus(*other);
        if job.most.covers(&sum) {
            return Some(sum);
        }
        let leaves_out = self.reach != Reach::All && !has_parts(job, depth);
        leaves_out.then(|| sum.at_most(job.most))
    }

    /// Takes steps from those that are left; nothing if there are not so many.
    pub(crate) fn spend(&self, work: &mut Work, steps: usize) -> Option<()> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        match work.0.checked_sub(steps) {
            Some(rest) => work.0 = rest,
            None if self.reach == Reach::Beam => work.0 = 0,
            None => return None,
        }
        Some(())
    }

    /// One number for a count, that of a sum being the sum of both; 0 where there are too many.
    pub(crate) fn number(&self, counts: &Counts) -> usize {
        let factors = self.radix.iter().enumerate();
        let each = factors.map(|(kind, factor)| factor * usize::from(counts.get(kind)));
        each.sum()
    }

    /// Adds an entry, or lowers the cost of the one with its count.
    fn keep(&mut self, table: &mut Table, entry: Entry) {
        if self.radix.is_empty() {
            table.push(entry);
            return;
        }
        let place = self.places[entry.number];
        if let Some(known) = table.get_mut(place as usize) {
            if entry.cost < known.cost {
                *known = entry;
            }
        } else {
            self.places[entry.number] = u32::try_from(table.len()).unwrap_or(u32::MAX);
            table.push(entry);
        }
    }

    /// Orders a new table and leaves out what the reach does.
    pub(crate) fn settle(
        &mut self,
        job: &Job,
        mut table: Table,
        depth: usize,
        work: &mut Work,
    ) -> Option<Table> {
        if self.radix.is_empty() {
            table.sort_unstable_by_key(|entry| (entry.counts, entry.cost));
            table.dedup_by_key(|entry| entry.counts);
        } else {
            for entry in &table {
                self.places[entry.number] = u32::MAX;
            }
            table.sort_unstable_by_key(|entry| entry.counts);
        }
        if self.reach == Reach::Beam && table.len() > BEAM {
            table.sort_by_cached_key(|entry| {
                std::cmp::Reverse((worst_share(job, &entry.counts), entry.counts.total()))
            });
            table.truncate(BEAM);
            table.sort_unstable_by_key(|entry| entry.counts);
        }
        if self.reach != Reach::All && !has_parts(job, depth) {
            table = self.frontier(job, table, work)?;
        }
        Some(table)
    }

    /// Entries that none with the same roles covers.
    fn frontier(&self, job: &Job, table: Table, work: &mut Work) -> Option<Table> {
        let mut kept: Vec<(Entry, Vec<bool>)> = Vec::new();
        // From the largest: what covers an entry comes before it.
        for entry in table.into_iter().rev() {
            // Comparing counts alone takes about an eighth of a step.
            self.spend(work, kept.len() / 8)?;
            let support = support(job, &entry.counts);
            let is_covered = kept
                .iter()
                .any(|(larger, of)| larger.counts.covers(&entry.counts) && *of == support);
            if !is_covered {
                kept.push((entry, support));
            }
        }
        kept.reverse();
        Some(kept.into_iter().map(|(entry, _)| entry).collect())
    }
}

/// The cost of two parts together, `distance` being that of two pods in different ones.
#[inline]
pub(crate) fn joint_cost(job: &Job, left: &Entry, right: &Entry, distance: u64) -> Objective {
    let mut cost = left.cost + right.cost;
    let crossing = job.crossing(&left.counts, &right.counts);
    cost.traffic = cost
        .traffic
        .saturating_add(crossing.saturating_mul(distance));
    cost
}

/// Whether replicas may be begun at `depth`, so that only whole ones can be left out.
fn has_parts(job: &Job, depth: usize) -> bool {
    let mut roles = job.roles.iter();
    roles.any(|rule| rule.replica > 0 && rule.replica <= depth)
}

/// Whether a role that must be in one domain below `depth` would be in two.
pub(crate) fn splits_role(job: &Job, one: &Counts, other: &Counts, depth: usize) -> bool {
    job.roles.iter().enumerate().any(|(role, rule)| {
        rule.required > depth && job.has_role(role, one) && job.has_role(role, other)
    })
}

/// The smallest share of its pods that a kind has, in parts of [`WHOLE`].
fn worst_share(job: &Job, counts: &Counts) -> u64 {
    let shares = (0..job.kinds.len())
        .map(|kind| u64::from(counts.get(kind)) * WHOLE / u64::from(job.most.get(kind).max(1)));
    shares.min().unwrap_or(0)
}

/// The roles with a domain of their own that are among `counts`: leaving one of them out makes a
/// count useful that another covers.
fn support(job: &Job, counts: &Counts) -> Vec<bool> {
    let roles = job.roles.iter().enumerate();
    roles
        .map(|(role, rule)| rule.required > 0 && job.has_role(role, counts))
        .collect()
}
