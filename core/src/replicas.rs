//! The replicas of one role as a decision sees them: as they are, with their recent history.
//!
//! Changes by anyone count, because they are read off the target and not taken from our own
//! decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{lead::LeadSummary, role_state::RoleState, time::Timestamp};

/// Changes remembered at most: one in every default interval of the longest period, and some more.
/// Beyond them the oldest two become one.
pub const CHANGES_MAX: usize = 128;

/// Longest period of a rate policy: older changes are forgotten.
pub const CHANGE_PERIOD_MAX: Duration = Duration::from_mins(30);

/// The target's replicas changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaChange {
    /// When: at the decision that requested it, or when it was first seen if somebody else did.
    pub at: Timestamp,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

/// Changes of a target's replicas, oldest first. Less than 4 kB of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredChanges", into = "StoredChanges")]
pub struct ReplicaChanges {
    /// The target's replicas when last seen.
    replicas_seen: Option<u32>,
    /// The last decision that requested another number, and that number.
    requested: Option<(Timestamp, u32)>,
    changes: Vec<ReplicaChange>,
}

/// [`ReplicaChanges`] in short: a change in every decision of half an hour has to fit into the
/// memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredChanges {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicas_seen: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requested: Option<(Timestamp, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<StoredChange>,
}

/// Milliseconds after the change before, replicas before and after.
type StoredChange = (i64, u32, u32);

impl From<ReplicaChanges> for StoredChanges {
    fn from(known: ReplicaChanges) -> Self {
        let mut before = 0;
        let stored = known.changes.iter().map(|change| {
            let at = change.at.as_millis();
            (
                at.wrapping_sub(std::mem::replace(&mut before, at)),
                change.from,
                change.to,
            )
        });
        Self {
            changes: stored.collect(),
            replicas_seen: known.replicas_seen,
            requested: known.requested,
        }
    }
}

impl From<StoredChanges> for ReplicaChanges {
    fn from(stored: StoredChanges) -> Self {
        let mut at = 0_i64;
        let known = stored.changes.iter().map(|&(after, from, to)| {
            at = at.wrapping_add(after);
            let at = Timestamp::from_millis(at);
            ReplicaChange { at, from, to }
        });
        Self {
            changes: known.collect(),
            replicas_seen: stored.replicas_seen,
            requested: stored.requested,
        }
    }
}

impl ReplicaChanges {
    /// When the target got `replicas`: at the decision that requested them, or now.
    pub fn changed_at(&self, replicas: u32, now: Timestamp) -> Timestamp {
        let own = self
            .requested
            .filter(|(at, to)| *to == replicas && *at <= now);
        own.map_or(now, |(at, _)| at)
    }

    /// Takes in the target's replicas, and a change if there was one.
    pub fn observe(&mut self, replicas: u32, now: Timestamp) {
        if let Some(from) = self.replicas_seen.filter(|&from| from != replicas) {
            let change = ReplicaChange {
                at: self.changed_at(replicas, now),
                from,
                to: replicas,
            };
            self.changes.push(change);
            self.requested = None;
        }
        self.replicas_seen = Some(replicas);
        self.changes
            .retain(|change| change.at <= now && now.since(change.at) <= CHANGE_PERIOD_MAX);
        if self.changes.len() > CHANGES_MAX {
            let oldest = self.changes.remove(0);
            // The later time: it uses up a rate for longer than it had to, and never for less.
            if let Some(first) = self.changes.first_mut() {
                first.from = oldest.from;
            }
        }
    }

    /// Takes in the decision of this moment, which requests `replicas`.
    pub fn request(&mut self, replicas: u32, now: Timestamp) {
        self.requested = (self.replicas_seen != Some(replicas)).then_some((now, replicas));
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

/// Replicas that have served, as far as they are still requested.
///
/// A replica that served and stopped is broken, and is needed as before; one that never came may be
/// given up. At first sight all that are requested count: nobody knows which of them served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Served(Option<u32>);

impl Served {
    /// Takes in the replicas requested and those of them that serve.
    pub fn observe(&mut self, current: u32, serving: u32) {
        let before = self.0.unwrap_or(current);
        self.0 = Some(before.max(serving).min(current));
    }

    /// Replicas that have served.
    pub fn replicas(self) -> u32 {
        self.0.unwrap_or(0)
    }
}

/// The replicas of one role as a decision sees them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ObservedReplicas<'a> {
    /// The workload as it is.
    pub state: RoleState,
    /// Ready replicas to count on: one whose readiness comes and goes counts by its share of time.
    pub smoothed_ready: u32,
    /// Replicas that have served, as far as they are still requested.
    pub served: u32,
    /// When the replicas requested came to be as many as they are, if they changed just now.
    pub changed_at: Timestamp,
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
