//! The product: [`pd_core::plan()`], unchanged, with its memory.
//!
//! Every plan is audited as the controller audits it before a write. A plan that breaks an
//! invariant is not applied; the replicas stay as they are. Besides, decisions are held against the
//! laws that take deciding again, which the controller does not do; a law that is broken is a
//! finding too. In tests that is every decision; in a release every one that changes replicas and
//! one in eight of the others, as deciding again would else cost more than deciding.

use pd_core::{
    Memory, Timestamp, Tuning,
    audit::{Facts, audit_after, laws},
    plan_tuned,
};

use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::{MILLISECOND, Nanos};

/// Of decisions that change nothing, one in so many is held against the laws.
const LAWS_EVERY: u64 = if cfg!(debug_assertions) { 1 } else { 8 };

/// The decision core with what it remembers.
#[derive(Debug, Default)]
pub struct PdAutoscaler {
    memory: Memory,
    decisions: u64,
    /// When the run begins, Unix time.
    began_millis: i64,
    /// Multiples of the constants.
    tuning: Tuning,
}

impl PdAutoscaler {
    /// One whose run begins at a moment of the calendar, for what depends on the time of day.
    pub fn starting_at(began_millis: i64) -> Self {
        Self {
            began_millis,
            ..Self::default()
        }
    }

    /// The same with other constants. The laws that take deciding again are left out then.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { tuning, ..self }
    }

    /// The memory of the last decision.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Autoscaler for PdAutoscaler {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let snapshot = &observation.snapshot;
        let millis = i64::try_from(now / MILLISECOND).unwrap_or(i64::MAX);
        let at = Timestamp::from_millis(self.began_millis.saturating_add(millis));
        let decision = plan_tuned(snapshot, &self.memory, at, &self.tuning);
        let facts = Facts::of(&self.memory, snapshot, at);
        let mut findings = audit_after(&facts, snapshot, &decision);
        let replicas = if findings.is_empty() {
            decision.plan.replicas
        } else {
            snapshot.roles.map(|role| role.current)
        };
        self.decisions += 1;
        let changes = decision.plan.replicas != snapshot.roles.map(|role| role.current);
        let due = changes || self.decisions.is_multiple_of(LAWS_EVERY);
        if due && self.tuning == Tuning::NONE {
            findings.extend(laws(snapshot, at, &decision));
        }
        self.memory = decision.memory;
        PolicyVerdict {
            replicas,
            findings,
            report: Some(decision.report),
            failure: None,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Signals
    }
}
