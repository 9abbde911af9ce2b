//! One try to place one group: the job with running pods that stay, or move, or with others that
//! would leave; then the search, and the choice.

use std::collections::BTreeSet;

use super::{
    Found, SOLVERS_KEPT, Session,
    choose::{Choice, choose},
    counts::Counts,
    job::{Job, Mode},
    slots::trimmed,
    solver::Solver,
    table::Reach,
    view::View,
};
use crate::{group::OnLoss, objective::Search};

impl Session<'_> {
    /// A placement in which running pods stay.
    pub(super) fn stay(&mut self, index: usize, job: &Job, search: &mut Search) -> Option<Found> {
        let mut job = job.clone();
        let running = self.running(index);
        for role in 0..job.roles.len() {
            let begun = self
                .begun(index, role)
                .max(job.replicas_begun(role, &running));
            let is_single = job.replica_of(role) == [1];
            let rule = &mut job.roles[role];
            if begun > rule.desired && is_single {
                job.shrinks[rule.first..rule.end].fill(true);
            } else {
                // Of replicas with several pods the owner chooses which end: halves of two are
                // none.
                rule.desired = rule.desired.max(begun);
                rule.begun = begun;
            }
            if self.groups[index].on_loss == OnLoss::Degrade && !running.is_zero() {
                rule.least = rule.least.min(begun);
            }
        }
        job.most = job.pods(|role| job.roles[role].desired);
        self.solve(index, &job, search)
    }

    /// Replicas of a role of which some pod runs on a node that is there.
    fn begun(&self, index: usize, role: usize) -> u32 {
        let group = self.groups[index];
        let members = group.members.iter().filter(|member| {
            member.role == group.roles[role].name && self.ledger.node(&member.node).is_some()
        });
        let replicas: BTreeSet<u32> = members.map(|member| member.replica).collect();
        u32::try_from(replicas.len()).unwrap_or(u32::MAX)
    }

    /// A placement in which the whole group may move.
    pub(super) fn relocate(
        &mut self,
        index: usize,
        job: &Job,
        search: &mut Search,
    ) -> Option<Found> {
        let mut job = job.clone();
        job.mode = Mode::Move;
        self.give_back(index, &job);
        if self.groups[index].exclusive.is_some() {
            self.ledger.disclaim(index);
        }
        let found = self.solve(index, &job, search);
        if found.is_none() {
            self.take(index, &job);
            self.claim(index);
        }
        found
    }

    pub(super) fn take(&mut self, index: usize, job: &Job) {
        for (node, counts) in &self.placed[index] {
            each_pod(counts, |kind| {
                self.ledger.take(*node, job.kinds[kind].shape, index);
            });
        }
    }

    pub(super) fn give_back(&mut self, index: usize, job: &Job) {
        for (node, counts) in &self.placed[index] {
            each_pod(counts, |kind| {
                self.ledger.give_back(*node, job.kinds[kind].shape, index);
            });
        }
    }

    pub(super) fn running(&self, index: usize) -> Counts {
        self.placed[index].values().copied().sum()
    }

    /// The nodes as the group sees them.
    pub(super) fn view(&self, index: usize) -> View {
        let group = self.groups[index];
        let excluded = group.excluded_nodes.iter();
        let mut own = BTreeSet::new();
        if group.exclusive.is_some() || self.holds.iter().any(|(holder, _)| *holder == index) {
            own.extend((0..self.ledger.nodes.len()).filter(|node| {
                self.ledger.claims[*node].contains_key(&index)
                    || self.ledger.held[*node] == Some(index)
            }));
        }
        View {
            group: index,
            running: self.placed[index].clone(),
            excluded: excluded.filter_map(|name| self.ledger.node(name)).collect(),
            own,
        }
    }

    /// The best placement for a job, by the widest search that its bound allows.
    pub(super) fn solve(&mut self, index: usize, job: &Job, search: &mut Search) -> Option<Found> {
        let view = self.view(index);
        self.solve_as(index, job, view, search)
    }

    /// The best placement for a job, for a group that sees the cluster so.
    fn solve_as(
        &mut self,
        index: usize,
        job: &Job,
        view: View,
        search: &mut Search,
    ) -> Option<Found> {
        let choice = self.choice(index, job, &view, search)?;
        let solver = self.solvers.front()?;
        let mut placed = solver.assignment(&self.ledger, choice.spot, choice.entry);
        let job = &solver.job;
        let all: Counts = placed.iter().map(|(_, counts)| *counts).sum();
        if all != choice.extent.pods {
            let stays = |node: usize| match job.mode {
                Mode::Move => Counts::ZERO,
                _ => view.running.get(&node).copied().unwrap_or_default(),
            };
            let wanted = choice.extent.pods;
            let Some(fewer) = trimmed(job, &self.ledger, stays, placed, wanted) else {
                *search = Search::Bounded;
                return None;
            };
            placed = fewer;
        }
        Some(Found {
            job: job.clone(),
            view,
            choice,
            placed,
            search: *search,
        })
    }

    /// The best choice for a job, whose tables are then the first. Where all pods find room in one
    /// domain of the preferred level, without company, no wider domain can do better, and those are
    /// not looked at.
    fn choice(
        &mut self,
        index: usize,
        job: &Job,
        view: &View,
        search: &mut Search,
    ) -> Option<Choice> {
        let (required, sure) = (job.required, job.sure_depth());
        for depth in [sure, required] {
            self.refresh(job, view, depth, search);
            let solver = self.solvers.front_mut()?;
            let group = self.groups[index];
            let choice = choose(solver, &self.ledger, (group, &self.groups), view, depth);
            let is_sure = choice.is_some_and(|choice| {
                let all = job.pods(|role| job.roles[role].desired);
                choice.extent.pods == all && choice.objective.company == 0
            });
            if is_sure || depth == required {
                return choice;
            }
        }
        None
    }

    /// Brings the tables of a job from `depth` on up to the ledger, found or made, and puts them
    /// first.
    pub(super) fn refresh(&mut self, job: &Job, view: &View, depth: usize, search: &mut Search) {
        let known = self.solvers.iter().position(|solver| solver.job == *job);
        let mut solver = known
            .and_then(|place| self.solvers.remove(place))
            .unwrap_or_else(|| Solver::new(job.clone(), Reach::All, &self.ledger));
        let work_max = self.problem.settings.work_max;
        while solver.refresh(&self.ledger, view, depth, work_max).is_err() {
            let next = match solver.reach {
                Reach::All => Reach::Frontier,
                Reach::Frontier | Reach::Beam => Reach::Beam,
            };
            solver = Solver::new(solver.job, next, &self.ledger);
        }
        *search = (*search).max(match solver.reach {
            Reach::All => Search::Exact,
            Reach::Frontier => Search::MostPods,
            Reach::Beam => Search::Bounded,
        });
        self.solvers.push_front(solver);
        self.solvers.truncate(SOLVERS_KEPT);
    }

    /// A placement of the least that the group needs on nodes that others leave, with the least to
    /// leave. The hold before is kept if one fits into it.
    pub(super) fn drained(&mut self, index: usize, job: &Job) -> Option<Found> {
        let mut job = self.least(index, job);
        job.mode = Mode::Drain;
        let before = self
            .problem
            .holds
            .iter()
            .find(|hold| hold.group == self.groups[index].name);
        let kept = before.and_then(|hold| {
            let nodes: BTreeSet<usize> = hold
                .nodes
                .iter()
                .filter_map(|name| self.ledger.node(name))
                .collect();
            self.solve_within(index, &job, &nodes)
        });
        kept.or_else(|| self.solve(index, &job, &mut Search::Exact))
    }

    /// The job of just the replicas that the group needs at least. Running pods beyond them may be
    /// left out.
    pub(super) fn least(&self, index: usize, job: &Job) -> Job {
        let mut job = job.clone();
        job.most = job.least();
        let running = self.running(index);
        for role in 0..job.roles.len() {
            let rule = &mut job.roles[role];
            rule.desired = rule.least;
            let kinds = rule.first..rule.end;
            if kinds
                .clone()
                .any(|kind| running.get(kind) > job.most.get(kind))
            {
                job.shrinks[kinds].fill(true);
            }
        }
        job
    }

    /// A placement within some nodes, and those with running pods of the group.
    fn solve_within(&mut self, index: usize, job: &Job, nodes: &BTreeSet<usize>) -> Option<Found> {
        let mut view = self.view(index);
        let all = 0..self.ledger.nodes.len();
        view.excluded
            .extend(all.filter(|node| !nodes.contains(node)));
        self.solve_as(index, job, view, &mut Search::Exact)
    }
}

/// Calls `act` with the kind of each pod.
fn each_pod(counts: &Counts, mut act: impl FnMut(usize)) {
    for (kind, count) in counts.0.iter().enumerate() {
        for _ in 0..*count {
            act(kind);
        }
    }
}
