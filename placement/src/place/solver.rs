//! The search: tables of all domains for one job, kept from group to group.
//!
//! A table follows from the tables of its parts, so it is made once for equal parts, and again only
//! where a node changed. Looking a placement up is going back from a table to its parts.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    counts::Counts,
    extent::Extent,
    job::Job,
    leaf::{Facts, Leaves},
    ledger::Ledger,
    table::{Entry, Joiner, Reach, Table, Work, joint_cost, splits_role},
    view::View,
};

/// The work of a group exceeds its bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exceeded;

/// The tables of one job.
#[derive(Debug)]
pub(crate) struct Solver {
    pub(crate) job: Job,
    pub(crate) reach: Reach,
    leaves: Leaves,
    joiner: Joiner,
    tables: Vec<Table>,
    known_leaves: BTreeMap<Facts, usize>,
    known_joins: BTreeMap<(usize, usize, usize), usize>,
    known_ends: BTreeMap<(usize, usize), usize>,
    /// The best entry of a table by its number, where it was looked for.
    pub(crate) bests: BTreeMap<usize, Option<(Extent, Entry)>>,
    /// The table of each spot, domains first; nothing where it was not needed.
    spots: Vec<Option<usize>>,
    seen: Option<usize>,
    /// Domains with a part that changed since their table was made.
    stale: Vec<bool>,
    /// Nodes whose tables are one group's own.
    pending: BTreeSet<usize>,
}

impl Solver {
    pub(crate) fn new(job: Job, reach: Reach, ledger: &Ledger<'_>) -> Self {
        let requests = |place: &usize| {
            let mut kinds = job.kinds.iter();
            kinds.any(|kind| ledger.amounts[kind.shape][*place] > 0)
        };
        let resources: Vec<usize> = (0..ledger.resources.len()).filter(requests).collect();
        let scarcest = ledger.scarcest(&job.shapes());
        let mut places = resources.iter();
        let scarcest = places.position(|place| *place == scarcest).unwrap_or(0);
        let enough = resources.iter().enumerate().map(|(place, resource)| {
            if place == scarcest {
                i64::MAX
            } else {
                ledger.requested(&job, &job.most, *resource)
            }
        });
        let amounts = job.kinds.iter().map(|kind| {
            let of_shape = &ledger.amounts[kind.shape];
            resources.iter().map(|place| of_shape[*place]).collect()
        });
        let conflicts = job.kinds.iter().map(|one| {
            let shape = ledger.shapes[one.shape];
            let others = job.kinds.iter();
            others
                .map(|other| shape.ports_conflict(ledger.shapes[other.shape]))
                .collect()
        });
        let leaves = Leaves {
            amounts: amounts.collect(),
            scarcest,
            enough: enough.collect(),
            conflicts: conflicts.collect(),
            node_depth: ledger.tree.node_depth(),
            resources,
        };
        let spots = ledger.tree.domains.len() + ledger.nodes.len();
        Self {
            joiner: Joiner::new(&job, reach),
            leaves,
            tables: Vec::new(),
            known_leaves: BTreeMap::new(),
            known_joins: BTreeMap::new(),
            known_ends: BTreeMap::new(),
            bests: BTreeMap::new(),
            spots: vec![None; spots],
            seen: None,
            stale: vec![true; ledger.tree.domains.len()],
            pending: BTreeSet::new(),
            job,
            reach,
        }
    }

    /// The table of a spot; empty where there is none.
    pub(crate) fn table(&self, spot: usize) -> &[Entry] {
        match self.spots[spot] {
            Some(table) => &self.tables[table],
            None => &[],
        }
    }

    /// A number that equal tables share.
    pub(crate) fn table_id(&self, spot: usize) -> Option<usize> {
        self.spots[spot]
    }

    /// Brings the tables of nodes and of domains at `depth` and below up to the ledger as `view`
    /// sees it, in at most `work_max` steps.
    pub(crate) fn refresh(
        &mut self,
        ledger: &Ledger<'_>,
        view: &View,
        depth: usize,
        work_max: u64,
    ) -> Result<(), Exceeded> {
        let mut changed: BTreeSet<usize> = match self.seen {
            None => (0..ledger.nodes.len()).collect(),
            Some(seen) => ledger.journal[seen..].iter().copied().collect(),
        };
        changed.append(&mut self.pending);
        self.pending.extend(view.running.keys());
        self.pending.extend(&view.excluded);
        self.pending.extend(&view.own);
        changed.extend(&self.pending);
        self.seen = Some(ledger.journal.len());
        let mut work = Work(work_max);
        for node in changed {
            let facts = self.leaves.facts(&self.job, ledger, view, node);
            let table = self.leaf(facts, &mut work).ok_or(Exceeded)?;
            let spot = ledger.tree.spot(node);
            if self.spots[spot] != Some(table) {
                self.spots[spot] = Some(table);
                self.stale[ledger.tree.home[node]] = true;
            }
        }
        for domain in (0..self.stale.len()).rev() {
            if !self.stale[domain] || ledger.tree.domains[domain].depth < depth {
                continue;
            }
            let table = self.domain(ledger, domain, &mut work).ok_or(Exceeded)?;
            if self.spots[domain] != Some(table) {
                self.spots[domain] = Some(table);
                if let Some(parent) = ledger.tree.domains[domain].parent {
                    self.stale[parent] = true;
                }
            }
            self.stale[domain] = false;
        }
        Ok(())
    }

    /// Where the pods of `counts`, an entry of the table of `spot`, are.
    pub(crate) fn assignment(
        &self,
        ledger: &Ledger<'_>,
        spot: usize,
        counts: Counts,
    ) -> Vec<(usize, Counts)> {
        let mut placed = Vec::new();
        self.walk(ledger, spot, counts, &mut placed);
        placed.sort_unstable();
        placed
    }

    fn walk(
        &self,
        ledger: &Ledger<'_>,
        spot: usize,
        counts: Counts,
        placed: &mut Vec<(usize, Counts)>,
    ) {
        if let Some(node) = ledger.tree.node_of(spot) {
            if !counts.is_zero() {
                placed.push((node, counts));
            }
            return;
        }
        let parts = self.parts(ledger, spot);
        let depth = ledger.tree.domains[spot].depth;
        let mut layers = vec![self.ids(&parts)];
        while let Some(layer) = layers.last()
            && layer.len() > 1
        {
            let joined = layer
                .chunks(2)
                .map(|pair| match pair {
                    [one, other] => self.known_joins.get(&key(depth, *one, *other)).copied(),
                    _ => pair.first().copied(),
                })
                .map(|id| id.unwrap_or(0));
            layers.push(joined.collect());
        }
        let mut wanted = vec![counts];
        for pair in layers.windows(2).rev() {
            let [below, _] = pair else { continue };
            let mut split = Vec::with_capacity(below.len());
            for (place, counts) in wanted.iter().enumerate() {
                match below.get(place * 2..(place * 2 + 2).min(below.len())) {
                    Some([one, other]) => {
                        let (left, right) = self.split(depth, (*one, *other), *counts);
                        split.extend([left, right]);
                    }
                    _ => split.push(*counts),
                }
            }
            wanted = split;
        }
        for (part, counts) in parts.into_iter().zip(wanted) {
            self.walk(ledger, part, counts, placed);
        }
    }

    /// The counts of two parts that make `counts` at the least cost.
    fn split(
        &self,
        depth: usize,
        (one, other): (usize, usize),
        counts: Counts,
    ) -> (Counts, Counts) {
        let distance = self.distance(depth);
        let mut best = None;
        for left in &self.tables[one] {
            for right in self.partners(other, &left.counts, &counts) {
                let sum = self
                    .joiner
                    .sum(&self.job, &left.counts, &right.counts, depth);
                if sum != Some(counts) || splits_role(&self.job, &left.counts, &right.counts, depth)
                {
                    continue;
                }
                let cost = joint_cost(&self.job, left, right, distance);
                let option = (cost, left.counts, right.counts);
                if best.is_none_or(|best| option < best) {
                    best = Some(option);
                }
            }
        }
        best.map_or((Counts::ZERO, Counts::ZERO), |(_, left, right)| {
            (left, right)
        })
    }

    /// Entries of a table that may make `counts` with `left`: just one where all counts are kept.
    fn partners(&self, table: usize, left: &Counts, counts: &Counts) -> &[Entry] {
        let table = &self.tables[table];
        if self.reach != Reach::All {
            return table;
        }
        let rest = counts.minus(*left);
        match table.binary_search_by_key(&rest, |entry| entry.counts) {
            Ok(place) => &table[place..=place],
            Err(_) => &[],
        }
    }

    fn leaf(&mut self, facts: Facts, work: &mut Work) -> Option<usize> {
        if let Some(known) = self.known_leaves.get(&facts) {
            return Some(*known);
        }
        let mut table = self.leaves.table(&self.job, &facts);
        for entry in &mut table {
            entry.number = self.joiner.number(&entry.counts);
        }
        self.joiner.spend(work, table.len())?;
        let depth = self.leaves.node_depth;
        let table = self.joiner.settle(&self.job, table, depth, work)?;
        let id = self.store(table);
        self.known_leaves.insert(facts, id);
        Some(id)
    }

    fn domain(&mut self, ledger: &Ledger<'_>, domain: usize, work: &mut Work) -> Option<usize> {
        let depth = ledger.tree.domains[domain].depth;
        let mut layer = self.ids(&self.parts(ledger, domain));
        while layer.len() > 1 {
            let mut joined = Vec::with_capacity(layer.len() / 2 + 1);
            for pair in layer.chunks(2) {
                joined.push(match pair {
                    [one, other] => self.join(depth, *one, *other, work)?,
                    _ => pair.first().copied().unwrap_or(0),
                });
            }
            layer = joined;
        }
        let whole = match layer.first() {
            Some(whole) => *whole,
            None => self.store(vec![Entry {
                counts: Counts::ZERO,
                number: 0,
                cost: crate::objective::Objective::default(),
            }]),
        };
        Some(self.end(depth, whole))
    }

    fn join(&mut self, depth: usize, one: usize, other: usize, work: &mut Work) -> Option<usize> {
        let key = key(depth, one, other);
        if let Some(known) = self.known_joins.get(&key) {
            return Some(*known);
        }
        let at = (depth, self.distance(depth));
        let parts = (&self.tables[one], &self.tables[other]);
        let table = self.joiner.join(&self.job, parts, at, work)?;
        let id = self.store(table);
        self.known_joins.insert(key, id);
        Some(id)
    }

    /// The table of a domain at `depth` from that of all its parts: whole replicas alone, and the
    /// cost of using one domain more.
    fn end(&mut self, depth: usize, whole: usize) -> usize {
        if depth == 0 {
            return whole;
        }
        if let Some(known) = self.known_ends.get(&(depth, whole)) {
            return *known;
        }
        let job = &self.job;
        let is_whole = |entry: &&Entry| {
            let mut roles = job.roles.iter().enumerate();
            roles.all(|(role, rule)| rule.replica != depth || job.is_whole(role, &entry.counts))
        };
        let kept = self.tables[whole].iter().filter(is_whole);
        let table = kept
            .map(|entry| {
                let mut entry = *entry;
                let used = job.preference(depth, &entry.counts);
                entry.cost.preferred = entry.cost.preferred.saturating_add(used);
                entry
            })
            .collect();
        let id = self.store(table);
        self.known_ends.insert((depth, whole), id);
        id
    }

    fn store(&mut self, table: Table) -> usize {
        self.tables.push(table);
        self.tables.len() - 1
    }

    /// The parts of a domain, equal ones side by side, so that equal pairs are joined once.
    fn parts(&self, ledger: &Ledger<'_>, domain: usize) -> Vec<usize> {
        let of = &ledger.tree.domains[domain];
        let nodes = of.nodes.iter().map(|node| ledger.tree.spot(*node));
        let mut parts: Vec<usize> = nodes.chain(of.children.iter().copied()).collect();
        parts.sort_unstable_by_key(|part| (self.spots[*part], *part));
        parts
    }

    fn ids(&self, parts: &[usize]) -> Vec<usize> {
        let known = parts.iter().map(|part| self.spots[*part].unwrap_or(0));
        known.collect()
    }

    /// Levels between two pods in different parts of a domain at `depth`.
    fn distance(&self, depth: usize) -> u64 {
        let levels = self.leaves.node_depth.saturating_sub(depth);
        u64::try_from(levels).unwrap_or(u64::MAX)
    }
}

/// Joining is the same both ways round.
fn key(depth: usize, one: usize, other: usize) -> (usize, usize, usize) {
    (depth, one.min(other), one.max(other))
}
