//! The third step: the decision of pd-core, audited. No I/O.

use pd_core::{Decision, Facts, Finding, Memory, Timestamp, audit_after};

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
}

/// Decides about what was `observed`, remembering `memory`.
pub fn plan<'a>(observed: Observed<'a>, memory: &Memory, now: Timestamp) -> Planned<'a> {
    let decision = pd_core::plan(&observed.snapshot, memory, now);
    let facts = Facts::of(memory, &observed.snapshot, now);
    let findings = audit_after(&facts, &observed.snapshot, &decision);
    Planned {
        observed,
        decision,
        findings,
    }
}
