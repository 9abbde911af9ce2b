//! The third step: the decision of pd-core, audited. No I/O.

use pd_core::{Decision, Facts, Finding, Memory, Role, Snapshot, Timestamp, audit_after};

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

impl Planned<'_> {
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
