//! The clairvoyant plan over the run, made better by plays of it.
//!
//! The closed forms know nothing of prompts that share a step, of prefix caches, or of queues that
//! carry over. So the tables that the programme over the run is made of are corrected, window by
//! window, by what the engine did when a plan was played, and the next plan is made of those. What
//! was not played yet keeps its closed form, so that a plan that looks better is tried. At the end
//! single stretches of a plan are lowered by one replica. Here is what needs no play; whoever plays
//! holds the objective.

use std::collections::BTreeSet;

use pd_core::{PerRole, Role};

use super::misses::Misses;
use super::spend::{self, Costs};
use super::{Bound, ReplicaPlan, paid};
use crate::time::{HOUR, Nanos};

/// Tables of misses, as far as they are known by now.
#[derive(Clone, Debug)]
pub struct Refinement {
    tables: PerRole<Vec<Misses>>,
    hopeless: Vec<f64>,
    /// Decode replicas with which an answer's time per token holds by the closed form.
    decode_needed: Vec<u32>,
    /// The fewest replicas of each role.
    least: PerRole<u32>,
    may_miss: f64,
    costs: Costs,
    length: Nanos,
}

/// One replica less, from the window `from` until before the window `until`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    role: Role,
    from: usize,
    until: usize,
    /// Replicas before.
    replicas: u32,
    /// GPU-hours that it saves.
    saved: f64,
    /// Requests that miss for it, by the tables.
    missing: f64,
}

/// Cuts that were tried and missed the objective.
pub type Refused = BTreeSet<(bool, usize, usize, u32)>;

impl Cut {
    /// Its distinguishing value.
    pub fn key(&self) -> (bool, usize, usize, u32) {
        let is_prefill = self.role == Role::Prefill;
        (is_prefill, self.from, self.until, self.replicas)
    }

    fn touches(&self, other: &Self) -> bool {
        self.role == other.role && self.from <= other.until && other.from <= self.until
    }
}

impl Refinement {
    /// The plan of the closed forms; a role has never fewer replicas than its `least`.
    pub fn new(bound: &Bound, least: PerRole<u32>) -> Self {
        Self {
            tables: bound.tables.clone(),
            hopeless: bound.hopeless.clone(),
            decode_needed: bound.needed.decode.clone(),
            least,
            may_miss: bound.may_miss,
            costs: bound.costs,
            length: bound.length,
        }
    }

    /// The cheapest plan by what is known, with `aim` times the misses that the objective allows.
    pub fn plan(&self, aim: f64) -> ReplicaPlan {
        self.priced(spend::cheapest(
            &self.tables,
            self.costs,
            aim * self.may_miss,
        ))
    }

    /// A plan of these replicas by window.
    pub fn priced(&self, serving: PerRole<Vec<u32>>) -> ReplicaPlan {
        ReplicaPlan::priced(serving, self.costs, self.length)
    }

    /// The same replicas all along.
    pub fn constant(&self, replicas: PerRole<u32>) -> ReplicaPlan {
        let windows = |role| vec![replicas[role]; self.tables[role].len()];
        self.priced(PerRole::from_fn(windows))
    }

    /// Notes what a play of `plan` came to: requests that missed the TTFT limit (`prefill`) and
    /// those that missed only the TPOT limit (`decode`), by the window that they arrived in.
    pub fn learn(&mut self, plan: &ReplicaPlan, missed: &PerRole<Vec<u32>>) {
        let of =
            |role: Role, place: usize| f64::from(missed[role].get(place).copied().unwrap_or(0));
        for (place, table) in self.tables.prefill.iter_mut().enumerate() {
            let hopeless = self.hopeless.get(place).copied().unwrap_or(0.0);
            let late = (of(Role::Prefill, place) - hopeless).max(0.0);
            if let Some(replicas) = plan.serving.prefill.get(place) {
                table.learn(*replicas, late);
            }
        }
        for (place, table) in self.tables.decode.iter_mut().enumerate() {
            let Some(replicas) = plan.serving.decode.get(place) else {
                continue;
            };
            // Prompts that wait for a place in a batch have their first token late, too.
            let short = self.decode_needed.get(place).is_some_and(|n| replicas < n);
            let waited = if short { of(Role::Prefill, place) } else { 0.0 };
            table.learn(*replicas, of(Role::Decode, place) + waited);
        }
    }

    /// Cuts that save something, the best first: those with the fewest misses for what they save.
    pub fn cuts(&self, plan: &ReplicaPlan) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for role in Role::ALL {
            let replicas = &plan.serving[role];
            let mut from = 0;
            while from < replicas.len() {
                let of_run = |n: &u32| *n == replicas[from];
                let run = replicas[from..].iter().take_while(|n| of_run(n)).count();
                let until = from + run;
                if replicas[from] > self.least[role] {
                    let quarter = run.div_ceil(4);
                    for (from, until) in [
                        (from, until),
                        (from, from + 1),
                        (until - 1, until),
                        (from, from + quarter),
                        (until - quarter, until),
                        (from, from + run.div_ceil(2)),
                        (until - run.div_ceil(2), until),
                    ] {
                        cuts.extend(self.cut(plan, role, from, until));
                    }
                }
                from = until;
            }
        }
        cuts.sort_by(|a, b| (a.missing / a.saved).total_cmp(&(b.missing / b.saved)));
        cuts.dedup_by_key(|cut| cut.key());
        cuts
    }

    fn cut(&self, plan: &ReplicaPlan, role: Role, from: usize, until: usize) -> Option<Cut> {
        let mut replicas = plan.serving[role].clone();
        let before = *replicas.get(from)?;
        replicas.get_mut(from..until)?.fill(before - 1);
        let lead = self.costs.lead[role];
        let paid = |replicas: &[u32]| paid(replicas, self.length, lead);
        let gpus = f64::from(self.costs.gpus[role]);
        let saved = (paid(&plan.serving[role]) - paid(&replicas)) * gpus / HOUR as f64;
        let windows = self.tables[role].get(from..until)?;
        let with = |table: &Misses, n| table.with(n).unwrap_or(table.requests);
        let missing = |table: &Misses| with(table, before - 1) - with(table, before);
        (saved > 0.0).then(|| Cut {
            role,
            from,
            until,
            replicas: before,
            saved,
            missing: windows.iter().map(missing).sum(),
        })
    }

    /// The first `count` of `cuts` that do not touch each other.
    pub fn apart(cuts: &[Cut], count: usize) -> Vec<Cut> {
        let mut chosen: Vec<Cut> = Vec::new();
        for cut in cuts {
            if chosen.len() >= count {
                break;
            }
            if !chosen.iter().any(|other| other.touches(cut)) {
                chosen.push(cut.clone());
            }
        }
        chosen
    }

    /// The plan after `cuts` that do not touch each other.
    pub fn lowered(&self, plan: &ReplicaPlan, cuts: &[Cut]) -> ReplicaPlan {
        let mut serving = plan.serving.clone();
        for cut in cuts {
            let windows = serving[cut.role].get_mut(cut.from..cut.until);
            for replicas in windows.into_iter().flatten() {
                *replicas -= 1;
            }
        }
        self.priced(serving)
    }
}
