//! The product: [`pd_core::plan()`], unchanged, with its memory.
//!
//! Every plan is audited as the controller audits it before a write. A plan that breaks an invariant
//! is not applied; the replicas stay as they are. Besides, every decision is held against the laws that
//! take deciding again, which the controller does not do; a law that is broken is a finding too.

use pd_core::{
    Memory, Snapshot, Timestamp,
    audit::{audit, laws},
    plan,
};

use super::{Autoscaler, Verdict};
use crate::time::{MILLISECOND, Nanos};

/// The decision core with what it remembers.
#[derive(Debug, Default)]
pub struct PdAutoscaler {
    memory: Memory,
}

impl PdAutoscaler {
    /// What the last decision left behind.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Autoscaler for PdAutoscaler {
    fn decide(&mut self, snapshot: &Snapshot, now: Nanos) -> Verdict {
        let millis = i64::try_from(now / MILLISECOND).unwrap_or(i64::MAX);
        let at = Timestamp::from_millis(millis);
        let decision = plan(snapshot, &self.memory, at);
        let mut findings = audit(snapshot, &decision);
        let replicas = if findings.is_empty() {
            decision.plan.replicas
        } else {
            snapshot.roles.map(|role| role.current)
        };
        findings.extend(laws(snapshot, at, &decision));
        self.memory = decision.memory;
        Verdict {
            replicas,
            findings,
            report: Some(decision.report),
        }
    }
}
