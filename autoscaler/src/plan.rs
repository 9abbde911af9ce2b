//! The third step: the decision of pd-core, audited. No I/O.

use pd_core::{
    Decision, Facts, Finding, Memory, PerRole, Reason, Role, Snapshot, Timestamp, audit_after,
    bounds::Bounds, snapshot::Paused,
};

use crate::observe::Observed;

/// A decision that is not applied yet.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Everything it rests on.
    pub observed: Observed<'a>,
    /// The decision.
    pub decision: Decision,
    /// Invariants that it breaks; a plan with any is a bug, and is not applied.
    pub findings: Vec<Finding>,
    memory: &'a Memory,
    now: Timestamp,
}

/// The object's own rules, in whose place a limit of ours stands while plans are made under it.
#[derive(Clone, Copy, Debug)]
pub struct OwnRules {
    bounds: PerRole<Bounds>,
    paused: Paused,
}

impl OwnRules {
    /// Bounds within these under which no role has more than `most` replicas, or one.
    pub fn capped(&self, most: PerRole<u32>) -> PerRole<Bounds> {
        PerRole::from_fn(|role| {
            let max_replicas = self.bounds[role].max_replicas.min(most[role].max(1));
            Bounds {
                min_replicas: self.bounds[role].min_replicas.min(max_replicas),
                max_replicas,
            }
        })
    }
}

impl Planned<'_> {
    /// The rules that it was made under.
    pub fn own_rules(&self) -> OwnRules {
        let snapshot = &self.observed.snapshot;
        OwnRules {
            bounds: snapshot.policy.bounds,
            paused: snapshot.paused,
        }
    }

    /// The same plan with the object's `own` rules beside it, once a limit has had its say. Steps
    /// that say that a person set the limit are taken away.
    #[must_use]
    pub fn under_own_rules(mut self, own: OwnRules) -> Self {
        let snapshot = &mut self.observed.snapshot;
        (snapshot.policy.bounds, snapshot.paused) = (own.bounds, own.paused);
        let steps = &mut self.decision.report.steps;
        steps.retain(|step| {
            let is_pause = step.reason == Reason::Paused && !own.paused.scale_up;
            step.reason != Reason::AtMaximum && !is_pause
        });
        self
    }

    /// Another decision at the same moment, after a `change` of the snapshot it rests on.
    #[must_use]
    pub fn again(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.observed.snapshot);
        plan(self.observed, self.memory, self.now)
    }

    /// Whether any role has more replicas than are requested now.
    pub fn grows(&self) -> bool {
        let roles = &self.observed.snapshot.roles;
        let to = self.decision.plan.replicas;
        Role::ALL
            .into_iter()
            .any(|role| to[role] > roles[role].current)
    }
}

/// Decides about what was `observed`, remembering `memory`.
pub fn plan<'a>(observed: Observed<'a>, memory: &'a Memory, now: Timestamp) -> Planned<'a> {
    let decision = pd_core::plan(&observed.snapshot, memory, now);
    let facts = Facts::of(memory, &observed.snapshot, now);
    let findings = audit_after(&facts, &observed.snapshot, &decision);
    Planned {
        observed,
        decision,
        findings,
        memory,
        now,
    }
}
