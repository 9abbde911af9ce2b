//! The end of a group's turn: what it gets is taken and written down, or why it gets nothing, and
//! the hold of one that has waited long.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Found, HOLDS_MAX, Session,
    counts::Counts,
    evaluate::evaluate,
    job::{Job, Mode},
    ledger::Ledger,
    slots::slots,
};
use crate::{
    group::Role,
    objective::Search,
    plan::{GroupPlan, Outcome},
    topology::DomainPath,
};

impl Session<'_> {
    /// Takes what a placement needs, and writes the plan.
    pub(super) fn commit(&mut self, index: usize, found: Found) {
        let Found {
            job,
            view,
            choice,
            placed,
            search,
        } = found;
        let group = self.groups[index];
        let with = (group, self.groups.as_slice());
        let objective = evaluate(&job, &self.ledger, with, &view, &placed);
        if job.mode != Mode::Move {
            self.give_back(index, &job);
        }
        self.placed[index] = placed.iter().copied().collect();
        self.take(index, &job);
        if group.exclusive.is_some() {
            self.ledger.disclaim(index);
        }
        self.claim(index);
        let (slots, ends) = slots(&job, &self.ledger, group, &placed);
        let pods = choice.extent.pods;
        let is_below = |(role, rule): (usize, &Role)| job.replicas(role, &pods) < rule.min;
        let is_degraded = group.roles.iter().enumerate().any(is_below);
        let is_partial =
            (0..job.roles.len()).any(|role| job.replicas(role, &pods) < job.roles[role].desired);
        self.plans[index] = GroupPlan {
            outcome: if is_degraded {
                Outcome::Degraded
            } else {
                Outcome::Placed
            },
            slots,
            ends,
            lost: self.lost[index].clone(),
            domain: self.domain(index),
            replicas: self.replicas(index, &job, &pods),
            objective,
            search,
            explanation: None,
        };
        if is_partial {
            let mut all = job.clone();
            all.mode = Mode::Stay;
            for rule in &mut all.roles {
                rule.least = rule.desired;
            }
            let explanation = self.diagnose(index, &all, search, true);
            self.plans[index].explanation = Some(explanation);
        }
    }

    /// Writes that a group waits, why, and its hold if it has waited long.
    pub(super) fn wait(&mut self, index: usize, job: &Job, search: Search) {
        let group = self.groups[index];
        let placed: Vec<(usize, Counts)> = self.placed[index]
            .iter()
            .map(|(node, counts)| (*node, *counts))
            .collect();
        let mut explanation = self.diagnose(index, job, search, false);
        let drained = self.drained(index, job);
        if let Some(drained) = &drained {
            explanation.would_move = self.would_move(index, drained);
            let has_waited = group.age_seconds >= self.problem.settings.patience_seconds;
            if has_waited && self.holds.len() < HOLDS_MAX {
                self.hold(index, drained);
            }
        }
        let (slots, _) = slots(job, &self.ledger, group, &placed);
        self.plans[index] = GroupPlan {
            slots,
            lost: self.lost[index].clone(),
            domain: self.domain(index),
            replicas: self.replicas(index, job, &self.running(index)),
            search,
            explanation: Some(explanation),
            ..GroupPlan::empty(Outcome::Waiting)
        };
    }

    /// The smallest domain that holds the group's pods; nothing where there are none.
    fn domain(&self, index: usize) -> Option<DomainPath> {
        let Ledger { tree, nodes, .. } = &self.ledger;
        let around = tree.around(self.placed[index].keys().copied())?;
        Some(tree.path_of(around, nodes))
    }

    /// Replicas of each role among `pods`.
    pub(super) fn replicas(&self, index: usize, job: &Job, pods: &Counts) -> BTreeMap<String, u32> {
        let roles = self.groups[index].roles.iter().enumerate();
        roles
            .map(|(role, of)| (of.name.clone(), job.replicas(role, pods)))
            .collect()
    }

    /// Closes nodes to later groups: those of the hold before, while the group would fit into them
    /// once they have drained, or else the ones with the least to drain.
    fn hold(&mut self, index: usize, drained: &Found) {
        let nodes: BTreeSet<usize> = drained
            .placed
            .iter()
            .map(|(node, _)| *node)
            .filter(|node| !self.placed[index].contains_key(node))
            .collect();
        for node in &nodes {
            self.ledger.hold(*node, index);
        }
        self.holds.push((index, nodes));
    }
}
