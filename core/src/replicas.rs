//! The replicas of one role as a decision sees them: as they are, with their recent history.
//!
//! Changes by anyone count, because they are read off the target and not taken from our own
//! decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{lead::LeadSummary, role_state::RoleState, time::Timestamp};

/// Changes remembered at most.
pub const CHANGES_MAX: usize = 32;

/// Longest period of a rate policy: older changes are forgotten.
pub const CHANGE_PERIOD_MAX: Duration = Duration::from_mins(30);

/// The target's replicas were seen to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaChange {
    /// When it was seen.
    pub at: Timestamp,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

/// Changes of a target's replicas, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaChanges {
    /// The target's replicas when last seen.
    replicas_seen: Option<u32>,
    changes: Vec<ReplicaChange>,
}

impl ReplicaChanges {
    /// Takes in the target's replicas, and a change if there was one.
    pub fn observe(&mut self, replicas: u32, now: Timestamp) {
        if let Some(from) = self.replicas_seen.filter(|&from| from != replicas) {
            self.changes.push(ReplicaChange {
                at: now,
                from,
                to: replicas,
            });
        }
        self.replicas_seen = Some(replicas);
        self.changes
            .retain(|change| now.since(change.at) <= CHANGE_PERIOD_MAX);
        let excess = self.changes.len().saturating_sub(CHANGES_MAX);
        self.changes.drain(..excess);
    }

    /// The changes of the last [`CHANGE_PERIOD_MAX`], oldest first.
    pub fn as_slice(&self) -> &[ReplicaChange] {
        &self.changes
    }

    /// How long ago the last change was; for ever without one.
    pub fn unchanged_for(&self, now: Timestamp) -> Duration {
        let ages = self.changes.iter().map(|change| now.since(change.at));
        ages.min().unwrap_or(Duration::MAX)
    }
}

/// The replicas of one role as a decision sees them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedReplicas<'a> {
    /// The workload as it is.
    pub state: RoleState,
    /// Ready replicas to count on: one whose readiness comes and goes counts by its share of time.
    pub smoothed_ready: u32,
    /// For how long neither the replicas requested nor those that serve have changed. Both count:
    /// replicas serve long after they were requested, and windows mix before and after from then
    /// on.
    pub unchanged_for: Duration,
    /// Changes of the replicas requested in the last [`CHANGE_PERIOD_MAX`], oldest first.
    pub changes: &'a [ReplicaChange],
    /// How long replicas take to serve.
    pub lead: LeadSummary,
    /// How long the oldest pending replica is waited for without any other arriving; nothing while
    /// none is pending.
    pub waiting_for: Option<Duration>,
}

impl ObservedReplicas<'_> {
    /// Replicas that serve and stay. A flapping probe is no loss of capacity every other decision,
    /// so the smoothed count holds where it is the larger.
    pub fn serving(&self) -> u32 {
        let smoothed = self.smoothed_ready.min(self.state.current);
        self.state.serving().max(smoothed)
    }

    /// Whether the last change took replicas away.
    pub fn lowered_last(&self) -> bool {
        self.changes.last().is_some_and(|last| last.to < last.from)
    }

    /// Whether windows of `cooldown` show nothing of the time before the last change.
    pub fn cooled_down(&self, cooldown: Duration) -> bool {
        self.unchanged_for >= cooldown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_noted_once_and_forgotten_after_the_longest_period() {
        let mut changes = ReplicaChanges::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        changes.observe(3, at(0));
        changes.observe(3, at(10));
        changes.observe(5, at(20));
        changes.observe(5, at(30));
        assert_eq!(
            changes.as_slice(),
            [ReplicaChange {
                at: at(20),
                from: 3,
                to: 5
            }]
        );
        assert_eq!(changes.unchanged_for(at(30)), Duration::from_secs(10));
        changes.observe(5, at(20 + 1_801));
        assert_eq!(changes, {
            let mut fresh = ReplicaChanges::default();
            fresh.observe(5, at(0));
            fresh
        });
    }
}
