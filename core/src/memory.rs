//! What one decision leaves behind for the next: plain data that lives in the object's status.
//!
//! A restart or a new leader is just another call with the memory it finds. Everything is bounded:
//! windows keep only the samples that can still become an extreme, and merge towards the safe side
//! when full.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    capacity::{Ceiling, Estimator},
    forecast::Forecaster,
    guard::{FlapMemory, StuckMemory},
    lead::LeadTimes,
    operating_point::PointState,
    ratio::RatioState,
    readiness::SmoothedReadiness,
    role::PerRole,
    time::Timestamp,
    zero::ZeroMemory,
};

/// Version of the format.
///
/// Memory of any other version is forgotten, which only costs one window.
pub const MEMORY_VERSION: u32 = 3;

/// Most bytes of JSON that the memory of one service takes.
pub const MEMORY_BYTES_MAX: usize = 16 * 1_024;

/// Samples a window keeps at most.
pub const WINDOW_SAMPLES_MAX: usize = 64;

/// Replica changes remembered at most, per role.
pub const CHANGES_MAX: usize = 32;

/// Longest period of a rate policy.
pub const CHANGE_PERIOD_MAX: Duration = Duration::from_mins(30);

/// Memory of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Format version.
    pub version: u32,
    /// When the last decision was made.
    pub decided_at: Option<Timestamp>,
    /// History of each role.
    pub roles: PerRole<RoleMemory>,
    /// What one replica can do.
    #[serde(default)]
    pub capacity: Estimator,
    /// Output tokens per second that a decode replica failed at.
    #[serde(default)]
    pub decode_ceiling: Ceiling,
    /// The ratio over time.
    #[serde(default)]
    pub ratio: RatioState,
    /// Which operating point is in force.
    #[serde(default)]
    pub operating_point: PointState,
    /// Idleness, and what is known at zero.
    #[serde(default)]
    pub zero: ZeroMemory,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: MEMORY_VERSION,
            decided_at: None,
            roles: PerRole::default(),
            capacity: Estimator::default(),
            decode_ceiling: Ceiling::default(),
            ratio: RatioState::default(),
            operating_point: PointState::default(),
            zero: ZeroMemory::default(),
        }
    }
}

impl Memory {
    /// This memory if it is of the present version, or a fresh one.
    #[must_use]
    pub fn usable(self) -> Self {
        if self.version == MEMORY_VERSION {
            self
        } else {
            Self::default()
        }
    }
}

/// History of one role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleMemory {
    /// Needs whose largest counts before replicas are lowered.
    pub largest: Window,
    /// Needs whose least counts before replicas are raised.
    pub least: Window,
    /// Changes of the target's replicas as seen, oldest first.
    pub changes: Vec<ReplicaChange>,
    /// The target's replicas when last seen.
    pub replicas_seen: Option<u32>,
    /// Since when the role's metrics have not been complete.
    pub missing_since: Option<Timestamp>,
    /// How long its replicas take to serve.
    #[serde(default)]
    pub lead: LeadTimes,
    /// Scale-up requests that are stuck.
    #[serde(default)]
    pub stuck: StuckMemory,
    /// Replicas that went back and forth.
    #[serde(default)]
    pub flaps: FlapMemory,
    /// Ready replicas, smoothed.
    #[serde(default)]
    pub readiness: SmoothedReadiness,
    /// The role's work over time, and how wrong forecasts of it were.
    #[serde(default)]
    pub forecast: Forecaster,
}

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

impl RoleMemory {
    /// Notes the target's replicas, and a change if there was one. Changes by anyone count.
    pub fn see_replicas(&mut self, replicas: u32, now: Timestamp) {
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

    /// Whether for `span` neither the replicas asked for nor those that serve have changed. Both count:
    /// replicas serve long after they were asked for, and windows mix before and after from then on.
    pub fn cooled_down_for(&self, span: Duration, now: Timestamp) -> bool {
        let asked_before = |change: &ReplicaChange| now.since(change.at) >= span;
        self.readiness.held_for(now) >= span && self.changes.iter().all(asked_before)
    }
}

/// An extreme a window looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest sample.
    Largest,
    /// The least sample.
    Least,
}

/// Samples of the last while, of which one extreme is wanted.
///
/// Holds a monotone queue: a sample that a later one beats can never be the extreme again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Window(Vec<(Timestamp, u32)>);

impl Window {
    /// Takes in `sample` and gives the extreme of the last `span`, this sample included.
    pub fn extreme(
        &mut self,
        sample: u32,
        now: Timestamp,
        span: Duration,
        extreme: Extreme,
    ) -> u32 {
        let beaten = |old: u32| match extreme {
            Extreme::Largest => old <= sample,
            Extreme::Least => old >= sample,
        };
        self.0
            .retain(|&(at, old)| at <= now && now.since(at) < span && !beaten(old));
        self.0.push((now, sample));
        if self.0.len() > WINDOW_SAMPLES_MAX {
            self.merge_oldest();
        }
        self.0.first().map_or(sample, |&(_, value)| value)
    }

    /// Merges the two oldest samples into one with the more extreme value and the later time: it
    /// stays in force longer than it had to, which holds replicas and never changes them early.
    fn merge_oldest(&mut self) {
        let (_, value) = self.0.remove(0);
        if let Some(first) = self.0.first_mut() {
            first.1 = value;
        }
    }

    /// Samples held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no sample is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_agrees_with_looking_at_every_sample(
            samples in prop::collection::vec((1u64..40, 0u32..20), 1..60), span in 1u64..200,
        ) {
            let span = Duration::from_secs(span);
            for extreme in [Extreme::Largest, Extreme::Least] {
                let mut window = Window::default();
                let mut all: Vec<(Timestamp, u32)> = Vec::new();
                let mut now = Timestamp::from_millis(0);
                for &(step, sample) in &samples {
                    now = now.plus(Duration::from_secs(step));
                    all.push((now, sample));
                    let recent = all.iter().filter(|(at, _)| now.since(*at) < span).map(|s| s.1);
                    let want = match extreme {
                        Extreme::Largest => recent.max(),
                        Extreme::Least => recent.min(),
                    };
                    // With a span of zero samples the newest still counts.
                    let want = want.unwrap_or(sample);
                    prop_assert_eq!(window.extreme(sample, now, span, extreme), want);
                }
            }
        }

        #[test]
        fn a_full_window_errs_towards_holding(len in 65u32..300) {
            // Falling samples all stay possible as the largest.
            let mut window = Window::default();
            for step in 0..len {
                let now = Timestamp::from_millis(i64::from(step));
                let got = window.extreme(1_000 - step, now, Duration::from_mins(1), Extreme::Largest);
                prop_assert_eq!(got, 1_000);
            }
            prop_assert!(window.len() <= WINDOW_SAMPLES_MAX);
        }
    }

    #[test]
    fn changes_are_noted_once_and_forgotten_after_the_longest_period() {
        let mut role = RoleMemory::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        role.see_replicas(3, at(0));
        role.see_replicas(3, at(10));
        role.see_replicas(5, at(20));
        role.see_replicas(5, at(30));
        assert_eq!(
            role.changes,
            vec![ReplicaChange {
                at: at(20),
                from: 3,
                to: 5
            }]
        );
        role.see_replicas(5, at(20 + 1_801));
        assert!(role.changes.is_empty());
    }
}
