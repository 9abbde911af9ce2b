//! Replicas a role needs for its objective, before ratio, budget and guards.
//!
//! A need is `None` when nothing can be said; the caller then keeps the replicas. It carries both
//! the whole number and the number before rounding, which the tolerance is judged by.

mod decode;
mod prefill;

use std::time::Duration;

use crate::{
    memory::{Memory, RoleMemory},
    report::Reason,
    role::PerRole,
    snapshot::{RoleState, Snapshot},
    time::Timestamp,
    workload::Workload,
};

/// Replicas a role needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Whole replicas, at least 1.
    pub replicas: u32,
    /// Before rounding up.
    pub exact: f64,
    /// What drives it.
    pub reason: Reason,
    /// A sentence without its full stop, with the numbers.
    pub message: String,
}

impl Need {
    /// A need of `exact` replicas, rounded up to at least 1 and at most `replicas_max`.
    pub fn of(exact: f64, replicas_max: u32, reason: Reason, message: String) -> Self {
        let bounded = if exact.is_finite() {
            exact.max(0.0)
        } else {
            f64::from(replicas_max)
        };
        // The sliver keeps 3.0000000001, an artefact of division, from costing a replica.
        let whole = (bounded - 1e-9)
            .ceil()
            .clamp(1.0, f64::from(replicas_max.max(1)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped between 1 and a u32"
        )]
        let replicas = whole as u32;
        Self {
            replicas,
            exact: bounded,
            reason,
            message,
        }
    }

    /// The larger of two needs.
    #[must_use]
    pub fn or_larger(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.exact > self.exact => other,
            _ => self,
        }
    }
}

/// Replicas each role needs, or nothing where that is not known.
pub fn needs(
    snapshot: &Snapshot,
    workload: &Workload,
    memory: &Memory,
    now: Timestamp,
) -> PerRole<Option<Need>> {
    if workload.idle(&snapshot.signals) {
        return snapshot.policy.bounds.map(|bounds| {
            let message = "no request arrives, waits or runs".to_owned();
            Some(Need::of(0.0, bounds.max_replicas, Reason::Idle, message))
        });
    }
    PerRole {
        prefill: prefill::need(snapshot, workload, memory, now),
        decode: decode::need(snapshot, workload, memory, now),
    }
}

/// How long after a change the latency windows still show the time before it.
const SETTLE: Duration = Duration::from_mins(2);

/// One step more than the replicas that are ready, for latency that misses its objective although
/// the model says the replicas suffice. Only when nothing is starting and the last change has
/// settled, so that one miss is not answered twice.
fn correction(state: &RoleState, memory: &RoleMemory, now: Timestamp) -> Option<u32> {
    let settled = memory
        .changes
        .iter()
        .all(|change| now.since(change.at) >= SETTLE);
    let whole = state.starting == 0 && state.ready >= state.current && state.ready > 0;
    (settled && whole).then(|| state.ready.saturating_add((state.ready / 10).max(1)))
}
