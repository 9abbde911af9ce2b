//! The cluster as one group sees it: its own pods, nodes that it avoids or has to itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    counts::Counts,
    job::{Job, Mode},
    leaf::{Facts, Leaves},
    ledger::Ledger,
};

/// All that one group has and others with the same job do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) group: usize,
    /// Its pods by node.
    pub(crate) running: BTreeMap<usize, Counts>,
    /// Nodes that it is not placed on.
    pub(crate) excluded: BTreeSet<usize>,
    /// Other nodes that differ for it: those of its own claims and its hold.
    pub(crate) own: BTreeSet<usize>,
}

impl Leaves {
    /// The facts of a node as the view's group sees it.
    pub(super) fn facts(&self, job: &Job, ledger: &Ledger<'_>, view: &View, node: usize) -> Facts {
        let group = view.group;
        let is_open = !ledger.is_closed(node, group) && !view.excluded.contains(&node);
        let own_ports = (job.mode == Mode::Move).then_some(group);
        let (mut takes, mut reluctance) = (Vec::new(), Vec::new());
        for kind in &job.kinds {
            let fit = ledger.fit(kind.shape, node);
            let ports = job.mode != Mode::Drain && ledger.ports_taken(kind.shape, node, own_ports);
            takes.push(is_open && fit.is_some() && !ports);
            reluctance.push(fit.unwrap_or(0));
        }
        let of_node = &ledger.free[node];
        let mut free: Vec<i64> = self.resources.iter().map(|place| of_node[*place]).collect();
        let mut movable = vec![0; free.len()];
        let running = view.running.get(&node).copied().unwrap_or_default();
        if job.mode == Mode::Drain {
            let amounts = free.iter_mut().zip(&mut movable);
            for ((free, movable), resource) in amounts.zip(&self.resources) {
                let own = ledger.requested(job, &running, *resource);
                let all = ledger.movable(node, *resource);
                *movable = all.saturating_sub(own).max(0);
                *free = free.saturating_add(*movable);
            }
        }
        if takes.iter().all(|takes| !takes) && running.is_zero() {
            // Nothing can be there, so nothing else about it matters.
            free.fill(0);
            movable.fill(0);
            reluctance.fill(0);
        } else if job.mode != Mode::Drain {
            for (free, enough) in free.iter_mut().zip(&self.enough) {
                *free = (*free).min(*enough);
            }
        }
        let home = ledger.tree.home[node];
        Facts {
            depth: ledger.tree.domains[home].depth,
            is_avoided: ledger.is_avoided(node, group),
            takes,
            reluctance,
            free,
            movable,
            running,
        }
    }
}
