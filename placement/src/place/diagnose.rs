//! Finds out why a group has no place: the same search, for the least that the group needs, at
//! every level from the required one outwards.

use std::collections::BTreeMap;

use super::{
    Found, Session,
    counts::Counts,
    job::{Job, Mode},
    ledger::Ledger,
    solver::Solver,
    table::Entry,
    tree::NOWHERE,
    view::View,
};
use crate::{
    explain::{DomainReport, Explanation, LevelReport, Shortage},
    group::Group,
    objective::Search,
    pod::Unfit,
};

/// Domains that an explanation names: the nearest few, which people read.
const DOMAINS_SHOWN: usize = 5;

impl Session<'_> {
    /// Why no domain holds the least of `job`.
    pub(super) fn diagnose(
        &mut self,
        index: usize,
        job: &Job,
        search: Search,
        is_partial: bool,
    ) -> Explanation {
        let group = self.groups[index];
        let view = self.view(index);
        let required = job.required;
        let wanted = job.roles.iter().zip(&group.roles);
        let mut explanation = Explanation {
            group: group.name.clone(),
            is_partial,
            level: level_name(group, &self.ledger, required),
            wanted: wanted
                .map(|(rule, role)| (role.name.clone(), rule.least))
                .collect(),
            absent_levels: self.absent_levels(group),
            unfit_nodes: self.unfit_nodes(index, job, &view),
            search,
            ..Explanation::default()
        };
        if !self.lost[index].is_empty() {
            let lost = self.lost[index].join(", ");
            let note = format!("the nodes of these pods are gone: {lost}");
            explanation.notes.push(note);
        }
        if required == NOWHERE {
            return explanation;
        }
        explanation.unlabelled_nodes = number(self.ledger.tree.nodes_without(required));
        let mut plain = self.least(index, job);
        plain.mode = Mode::Stay;
        plain.required = 0;
        plain.preferred = 0;
        plain.traffic.clear();
        for rule in &mut plain.roles {
            rule.preferred = 0;
        }
        let mut searched = Search::Exact;
        self.refresh(&plain, &view, 0, &mut searched);
        let Some(solver) = self.solvers.front() else {
            return explanation;
        };
        explanation.levels = (0..=required)
            .rev()
            .map(|depth| level(solver, &self.ledger, depth))
            .collect();
        explanation.domains = self.domains(index, solver, required);
        if !view.running.is_empty() && explanation.domains.is_empty() {
            let note = format!(
                "its pods run in more than one {}, or break another rule of levels",
                explanation.level
            );
            explanation.notes.push(note);
        }
        explanation.notes.extend(self.narrowings(index, job));
        explanation
    }

    /// Rules of roles by which pods need more than free amounts.
    fn narrowings(&self, index: usize, job: &Job) -> Vec<String> {
        let mut notes = Vec::new();
        for (rule, role) in job.roles.iter().zip(&self.groups[index].roles) {
            for (depth, whose) in [
                (rule.required, "all pods"),
                (rule.replica, "each replica's pods"),
            ] {
                if depth > 0 && depth != NOWHERE {
                    let level = self.ledger.tree.level_name(depth);
                    notes.push(format!("{whose} of {} must be in one {level}", role.name));
                }
            }
            if role.pods.iter().any(|pods| !pods.shape.ports.is_empty()) {
                notes.push(format!(
                    "pods of {} take host ports, one of them a node",
                    role.name
                ));
            }
        }
        notes
    }

    /// Levels that the group names and no node has.
    fn absent_levels(&self, group: &Group) -> Vec<String> {
        let of_roles = group
            .roles
            .iter()
            .flat_map(|role| [&role.required, &role.preferred, &role.replica_required]);
        let named = [&group.required, &group.preferred]
            .into_iter()
            .chain(of_roles)
            .flatten()
            .chain(group.exclusive.iter().map(|claim| &claim.level))
            .chain(group.spread.iter().map(|spread| &spread.level));
        let mut absent: Vec<String> = named
            .filter(|level| self.ledger.tree.depth(level) == NOWHERE)
            .cloned()
            .collect();
        absent.sort();
        absent.dedup();
        absent
    }

    /// Nodes on which pods of a role may not be, by role and reason.
    fn unfit_nodes(&self, index: usize, job: &Job, view: &View) -> BTreeMap<String, u64> {
        let group = self.groups[index];
        let mut counted = BTreeMap::new();
        for node in 0..self.ledger.nodes.len() {
            let reasons: Vec<Option<Unfit>> = job
                .kinds
                .iter()
                .map(|kind| {
                    if view.excluded.contains(&node) {
                        return Some(Unfit::Excluded);
                    }
                    let closed = self.ledger.is_closed(node, index).then_some(Unfit::Closed);
                    closed.or_else(|| self.ledger.unfit(kind.shape, node))
                })
                .collect();
            let is_same = reasons.windows(2).all(|pair| pair[0] == pair[1]);
            for (kind, reason) in job.kinds.iter().zip(reasons) {
                let Some(reason) = reason else { continue };
                let role = if is_same {
                    "all roles"
                } else {
                    group.roles[kind.role].name.as_str()
                };
                *counted.entry(format!("{role}: {reason}")).or_insert(0) += 1;
                if is_same {
                    break;
                }
            }
        }
        counted
    }

    /// The domains of the required level, nearest to a placement first.
    fn domains(&self, index: usize, solver: &Solver, depth: usize) -> Vec<DomainReport> {
        let job = &solver.job;
        let least = job.least();
        // A group that runs is where it is, or in no domain of this level.
        let around = self.ledger.tree.around(self.placed[index].keys().copied());
        let own = around.map(|around| self.ledger.tree.ancestor(around, depth));
        let mut nearest: Vec<(u64, usize, Entry)> = spots(&self.ledger, depth)
            .filter(|spot| own.is_none_or(|own| own == Some(*spot)))
            .filter_map(|spot| {
                let entries = solver.table(spot).iter();
                let missing = |entry: &Entry| least.minus(entry.counts).total();
                let entry = entries.min_by_key(|entry| (missing(entry), entry.counts))?;
                Some((missing(entry), spot, *entry))
            })
            .collect();
        nearest.sort_by_key(|(missing, spot, _)| (*missing, *spot));
        nearest.truncate(DOMAINS_SHOWN);
        let reports = nearest
            .into_iter()
            .map(|(missing, spot, entry)| DomainReport {
                path: self.ledger.tree.path_of(spot, &self.ledger.nodes),
                replicas: self.replicas(index, job, &entry.counts),
                missing_pods: missing,
                short: self.shortages(index, job, spot, &entry.counts),
                is_kept_apart: missing == 0,
            });
        reports.collect()
    }

    /// The resources that keep the pods which are missing from `counts` out of a spot.
    fn shortages(&self, index: usize, job: &Job, spot: usize, counts: &Counts) -> Vec<Shortage> {
        let ledger = &self.ledger;
        let group = self.groups[index];
        let least = job.least();
        let missing = least.minus(self.running(index));
        let nodes = ledger.tree.nodes_in(spot);
        let mut found: Vec<Shortage> = Vec::new();
        for (place, kind) in job.kinds.iter().enumerate() {
            if counts.get(place) >= least.get(place) {
                continue;
            }
            let usable = nodes.iter().filter(|node| {
                ledger.fit(kind.shape, **node).is_some() && !ledger.is_closed(**node, index)
            });
            let usable: Vec<usize> = usable.copied().collect();
            let resources = ledger.resources.iter().enumerate();
            let requested = resources.filter(|(at, _)| ledger.amounts[kind.shape][*at] > 0);
            let all = requested.map(|(resource, name)| {
                let of_one_pod = ledger.amounts[kind.shape][resource];
                let free = usable
                    .iter()
                    .map(|node| ledger.free[*node][resource].max(0));
                let pods = free.clone().map(|free| free / of_one_pod);
                let shortage = Shortage {
                    role: group.roles[kind.role].name.clone(),
                    resource: name.clone(),
                    of_one_pod,
                    needed: ledger.requested(job, &missing, resource),
                    free: free.clone().fold(0, i64::saturating_add),
                    most_on_a_node: free.max().unwrap_or(0),
                };
                (pods.fold(0, i64::saturating_add), shortage)
            });
            let (short, enough): (Vec<_>, Vec<_>) =
                all.partition(|(_, shortage)| shortage.needed > shortage.free);
            // Where there is enough in all, the resource that the fewest pods find is in pieces.
            let in_pieces = enough.into_iter().min_by_key(|(pods, _)| *pods);
            let in_pieces = in_pieces.filter(|_| short.is_empty());
            let named = short.into_iter().chain(in_pieces);
            found.extend(named.map(|(_, shortage)| shortage));
        }
        found.dedup_by(|one, other| one.role == other.role && one.resource == other.resource);
        found
    }

    /// Pods of others that would have to leave for a placement, by node.
    pub(super) fn would_move(
        &self,
        index: usize,
        drained: &Found,
    ) -> BTreeMap<String, Vec<String>> {
        let mut by_node = BTreeMap::new();
        for (node, counts) in &drained.placed {
            let running = self.placed[index].get(node).copied().unwrap_or_default();
            let new = counts.minus(running);
            let free = self.ledger.free[*node].iter().enumerate();
            let left = free.map(|(resource, free)| {
                free.saturating_sub(self.ledger.requested(&drained.job, &new, resource))
            });
            let pods = self.leaving(index, *node, left.collect());
            if !pods.is_empty() {
                by_node.insert(self.ledger.nodes[*node].name.clone(), pods);
            }
        }
        by_node
    }

    /// Pods on `node` that have to leave until no amount is below zero, the largest first.
    fn leaving(&self, index: usize, node: usize, mut left: Vec<i64>) -> Vec<String> {
        let occupants = self.ledger.nodes[node].occupants.iter();
        let mut there: Vec<(Vec<i64>, String)> = occupants
            .filter(|occupant| !occupant.stays)
            .map(|occupant| {
                (
                    self.ledger.vector(&occupant.requests),
                    occupant.name.clone(),
                )
            })
            .collect();
        let others = self.placed.iter().enumerate();
        for (other, placed) in others.filter(|(other, _)| *other != index) {
            let (Some(counts), Ok(job)) = (placed.get(&node), &self.jobs[other]) else {
                continue;
            };
            let group = self.groups[other];
            for (kind, of) in job.kinds.iter().enumerate() {
                let name = format!("a {} pod of {}", group.roles[of.role].name, group.name);
                for _ in 0..counts.get(kind) {
                    there.push((self.ledger.amounts[of.shape].clone(), name.clone()));
                }
            }
        }
        let mut leaving = Vec::new();
        while let Some(short) = left.iter().position(|left| *left < 0) {
            // The one that gives the most of what is short, by name among equal ones.
            let most = there
                .iter()
                .enumerate()
                .filter(|(_, (amounts, _))| amounts[short] > 0)
                .min_by_key(|(_, (amounts, name))| (std::cmp::Reverse(amounts[short]), name));
            let Some(place) = most.map(|(place, _)| place) else {
                break;
            };
            let (amounts, name) = there.remove(place);
            for (left, amount) in left.iter_mut().zip(amounts) {
                *left = left.saturating_add(amount);
            }
            leaving.push(name);
        }
        leaving
    }
}

fn level_name(group: &Group, ledger: &Ledger<'_>, required: usize) -> String {
    if required != NOWHERE {
        return ledger.tree.level_name(required).to_owned();
    }
    let claimed = group.exclusive.as_ref().map(|claim| &claim.level);
    let absent = [claimed, group.required.as_ref()]
        .into_iter()
        .flatten()
        .find(|level| ledger.tree.depth(level) == NOWHERE);
    absent.cloned().unwrap_or_default()
}

/// The spots at `depth`.
fn spots(ledger: &Ledger<'_>, depth: usize) -> impl Iterator<Item = usize> {
    let all = 0..ledger.tree.domains.len() + ledger.nodes.len();
    all.filter(move |spot| ledger.tree.depth_of(*spot) == depth)
}

/// How many domains at `depth` would hold the least of the solver's job.
fn level(solver: &Solver, ledger: &Ledger<'_>, depth: usize) -> LevelReport {
    let least = solver.job.least();
    let holds = |spot: &usize| {
        let mut table = solver.table(*spot).iter();
        table.any(|entry| entry.counts.covers(&least))
    };
    LevelReport {
        level: ledger.tree.level_name(depth).to_owned(),
        domains: number(spots(ledger, depth).count()),
        fitting: number(spots(ledger, depth).filter(holds).count()),
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
