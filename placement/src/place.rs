//! Placing: one group after another, each by an exact search, against what is left.
//!
//! Order decides between groups, the search within one. The order is strict: priority, then groups
//! that run and lost something, then age, then name. A group gets all that it needs at least or
//! holds nothing, so two groups never hold parts of each other's place.
//!
//! A large group must not starve while small ones come and go. One that has waited longer than the
//! patience gets a *hold*: the nodes that have the least to drain for it are closed to all groups
//! after it in the order. There is one hold at a time, for the first such group, so holds cannot
//! block each other.

mod answer;
mod attempt;
mod choose;
mod counts;
mod diagnose;
mod evaluate;
mod extent;
mod job;
mod leaf;
mod ledger;
mod slots;
mod solver;
mod table;
mod tree;
mod view;
mod write;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use self::{choose::Choice, counts::Counts, job::Job, ledger::Ledger, solver::Solver, view::View};
use crate::{
    group::{Fallback, Group, GroupError, OnLoss},
    objective::Search,
    plan::{GroupPlan, Outcome, Placement},
    problem::{Hold, Problem, Reservation},
};

/// Jobs whose tables are kept. Services of one cluster are made from few templates.
const SOLVERS_KEPT: usize = 32;

/// Holds at a time. With one, no two groups can wait for each other to drain.
const HOLDS_MAX: usize = 1;

/// Places all groups of a problem.
pub fn place(problem: &Problem) -> Placement {
    Session::new(problem).placement()
}

/// A problem that is solved, and the cluster as it is with the placement: for further questions.
#[derive(Debug)]
pub struct Session<'a> {
    problem: &'a Problem,
    ledger: Ledger<'a>,
    /// Groups by name.
    groups: Vec<&'a Group>,
    jobs: Vec<Result<Job, Vec<GroupError>>>,
    /// Pods of each group by node, as they are or are planned.
    placed: Vec<BTreeMap<usize, Counts>>,
    /// The reservations that are kept for each group.
    reserved: Vec<Vec<&'a Reservation>>,
    lost: Vec<Vec<String>>,
    plans: Vec<GroupPlan>,
    order: Vec<usize>,
    holds: Vec<(usize, BTreeSet<usize>)>,
    solvers: VecDeque<Solver>,
}

/// A placement that was found, and how.
struct Found {
    job: Job,
    view: View,
    choice: Choice,
    placed: Vec<(usize, Counts)>,
    search: Search,
}

impl<'a> Session<'a> {
    /// Places all groups of `problem`.
    pub fn new(problem: &'a Problem) -> Self {
        let mut by_name: BTreeMap<&str, &Group> = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for group in &problem.groups {
            if by_name.insert(&group.name, group).is_some() {
                twice.insert(group.name.as_str());
            }
        }
        let groups: Vec<&Group> = by_name.into_values().collect();
        let mut ledger = Ledger::new(problem);
        let mut jobs = Vec::new();
        for group in &groups {
            let kinds = group.roles.iter().flat_map(|role| &role.pods);
            let shapes: Vec<usize> = kinds.map(|pods| ledger.shape(&pods.shape)).collect();
            let job = Job::new(group, &ledger.tree, &shapes);
            jobs.push(if twice.contains(group.name.as_str()) {
                Err(vec![GroupError::NameTwice {
                    field: "groups".to_owned(),
                    name: group.name.clone(),
                }])
            } else {
                job
            });
        }
        let count = groups.len();
        let mut session = Self {
            problem,
            ledger,
            jobs,
            placed: vec![BTreeMap::new(); count],
            reserved: vec![Vec::new(); count],
            lost: vec![Vec::new(); count],
            plans: vec![GroupPlan::empty(Outcome::Waiting); count],
            order: Vec::new(),
            holds: Vec::new(),
            solvers: VecDeque::new(),
            groups,
        };
        session.settle_in();
        session.order = session.ordered();
        for group in session.order.clone() {
            session.plan(group);
        }
        session
    }

    /// The placement.
    pub fn placement(&self) -> Placement {
        let names = |index: &usize| self.groups[*index].name.clone();
        let node = |index: &usize| self.ledger.nodes[*index].name.clone();
        let holds = self.holds.iter().map(|(group, nodes)| Hold {
            group: names(group),
            nodes: nodes.iter().map(node).collect(),
        });
        Placement {
            groups: self
                .groups
                .iter()
                .zip(&self.plans)
                .map(|(group, plan)| (group.name.clone(), plan.clone()))
                .collect(),
            order: self.order.iter().map(names).collect(),
            holds: holds.collect(),
        }
    }

    /// Takes what members and reservations have, and the domains of exclusive groups that run.
    fn settle_in(&mut self) {
        for index in 0..self.groups.len() {
            let group = self.groups[index];
            let Ok(job) = &self.jobs[index] else {
                // A group that is refused keeps its pods all the same.
                self.keep_refused(index);
                continue;
            };
            let kinds: Vec<(usize, usize)> = group
                .members
                .iter()
                .filter_map(|member| {
                    let node = self.ledger.node(&member.node)?;
                    Some((node, kind_of(group, job, &member.role, &member.kind)?))
                })
                .collect();
            let shapes = job.shapes();
            self.lost[index] = group
                .members
                .iter()
                .filter(|member| self.ledger.node(&member.node).is_none())
                .map(|member| member.pod.clone())
                .collect();
            for (node, kind) in kinds {
                self.placed[index].entry(node).or_default().increment(kind);
                self.ledger.take(node, shapes[kind], index);
            }
            self.claim(index);
        }
        let problem = self.problem;
        for reservation in &problem.reservations {
            let holder = reservation.holder.as_deref();
            let holder = holder.and_then(|name| self.group_named(name));
            if let Some(group) = holder {
                self.reserved[group].push(reservation);
            }
            if let Some(node) = self.ledger.node(&reservation.node) {
                let amounts = self.ledger.vector(&reservation.requests);
                self.ledger
                    .reserve(node, &amounts, &reservation.ports, holder);
            }
        }
    }

    /// Takes the amounts of the members of a group that is refused.
    fn keep_refused(&mut self, index: usize) {
        let group = self.groups[index];
        for member in &group.members {
            let pods = group.pods(&member.role, &member.kind);
            if let (Some(pods), Some(node)) = (pods, self.ledger.node(&member.node)) {
                let shape = self.ledger.shape(&pods.shape);
                self.ledger.take(node, shape, index);
            }
        }
    }

    /// The place of a group by its name.
    fn group_named(&self, name: &str) -> Option<usize> {
        self.groups
            .binary_search_by(|group| group.name.as_str().cmp(name))
            .ok()
    }

    /// Strict order: priority, then running groups, then age, then name.
    fn ordered(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|index| {
            let group = self.groups[*index];
            let is_running = !self.placed[*index].is_empty();
            (
                Reverse(group.priority),
                Reverse(is_running),
                Reverse(group.age_seconds),
                *index,
            )
        });
        order
    }

    /// Claims the exclusive domains of a group's pods.
    fn claim(&mut self, index: usize) {
        let Some(exclusive) = &self.groups[index].exclusive else {
            return;
        };
        let depth = self.ledger.tree.depth(&exclusive.level);
        let spots: BTreeSet<usize> = self.placed[index]
            .keys()
            .filter_map(|node| {
                let spot = self.ledger.tree.spot(*node);
                self.ledger.tree.ancestor(spot, depth)
            })
            .collect();
        for spot in spots {
            self.ledger
                .claim(spot, index, exclusive.fallback == Fallback::Wait);
        }
    }

    /// Plans one group against what is left.
    fn plan(&mut self, index: usize) {
        let job = match &self.jobs[index] {
            Ok(job) => job.clone(),
            Err(faults) => {
                self.plans[index] = GroupPlan::empty(Outcome::Refused(faults.clone()));
                return;
            }
        };
        self.reserve_own(index, false);
        let mut search = Search::Exact;
        let found = self.stay(index, &job, &mut search).or_else(|| {
            let may_move = self.groups[index].on_loss == OnLoss::Relocate;
            (may_move && !self.placed[index].is_empty())
                .then(|| self.relocate(index, &job, &mut search))
                .flatten()
        });
        if let Some(found) = found {
            self.commit(index, found);
        } else {
            self.reserve_own(index, true);
            self.wait(index, &job, search);
        }
    }

    /// Gives the group's own reservations back, for it may use them, or takes them again.
    fn reserve_own(&mut self, index: usize, takes: bool) {
        for reservation in &self.reserved[index] {
            let Some(node) = self.ledger.node(&reservation.node) else {
                continue;
            };
            let amounts = self.ledger.vector(&reservation.requests);
            let (ports, holder) = (&reservation.ports, Some(index));
            if takes {
                self.ledger.reserve(node, &amounts, ports, holder);
            } else {
                self.ledger.release(node, &amounts, ports, holder);
            }
        }
    }
}

/// The number of a kind by the names of its role and itself.
fn kind_of(group: &Group, job: &Job, role: &str, kind: &str) -> Option<usize> {
    let place = group.roles.iter().position(|known| known.name == role)?;
    let pods = &group.roles[place].pods;
    let inner = pods.iter().position(|known| known.name == kind)?;
    Some(job.roles[place].first + inner)
}
