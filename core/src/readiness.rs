//! Readiness that flaps: a pod that is ready half of the time counts by half.
//!
//! The ready count of one moment decides capacity and whether a role is whole; a pod that comes and
//! goes every 20 s would turn both over with it. A count that has held for a minute is taken as it
//! is, so ordinary growth and loss count in full after a minute; while it changes, its mean over
//! time counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A count unchanged for so long is taken as it is.
const HELD_LONG_ENOUGH: Duration = Duration::from_mins(1);

/// Time constant of the mean, seconds.
const MEAN_SECONDS: f64 = 120.0;

/// Memory of a role's ready replicas. Less than 120 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmoothedReadiness(Option<Level>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    /// Mean ready replicas, in hundredths.
    hundredths: u64,
    ready: u32,
    /// Since when `ready` is unchanged; nothing while no change was seen.
    since: Option<Timestamp>,
    seen_at: Timestamp,
}

impl Level {
    /// The count of a first observation is taken to have been so for ever.
    fn held_for(&self, now: Timestamp) -> Duration {
        self.since.map_or(Duration::MAX, |since| now.since(since))
    }
}

impl SmoothedReadiness {
    /// Takes in the ready replicas and gives how many to count on, at most a fraction below or
    /// above the counts that were seen.
    pub fn observe(&mut self, ready: u32, now: Timestamp) -> f64 {
        let Some(level) = self.0.as_mut() else {
            self.0 = Some(Level {
                hundredths: u64::from(ready) * 100,
                ready,
                since: None,
                seen_at: now,
            });
            return f64::from(ready);
        };
        // A stamp that lies ahead would keep the count from being believed until it is passed.
        level.since = level.since.map(|since| since.min(now));
        // Between two observations the earlier count held.
        let elapsed = now.since(level.seen_at).as_secs_f64();
        let kept = (-elapsed / MEAN_SECONDS).exp();
        let target = f64::from(level.ready) * 100.0;
        let mean = target + (level.hundredths as f64 - target) * kept;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between two counts of u32, in hundredths"
        )]
        let hundredths = mean.round() as u64;
        level.hundredths = hundredths;
        level.seen_at = now;
        if level.ready != ready {
            level.ready = ready;
            level.since = Some(now);
        } else if level.held_for(now) >= HELD_LONG_ENOUGH {
            level.hundredths = u64::from(ready) * 100;
        }
        level.hundredths as f64 / 100.0
    }

    /// How long as many have been ready as are now; for ever if no change was seen, and zero before
    /// anything was seen.
    pub fn held_for(&self, now: Timestamp) -> Duration {
        self.0.map_or(Duration::ZERO, |level| level.held_for(now))
    }

    /// Whole replicas to count on: the mean rounded down, because a part of a pod serves nobody
    /// well.
    pub fn whole(&self) -> u32 {
        let whole = self.0.map_or(0, |level| level.hundredths / 100);
        u32::try_from(whole).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_pod_that_flaps_every_20_s_counts_by_its_share_of_time() {
        let mut share = SmoothedReadiness::default();
        share.observe(8, at(0));
        let mut seen = Vec::new();
        for second in (5..1_200).step_by(5) {
            let ready = if second / 20 % 2 == 0 { 8 } else { 7 };
            let level = share.observe(ready, at(second));
            if second > 600 {
                seen.push(level);
                assert_eq!(share.whole(), 7);
            }
        }
        assert!(
            seen.iter().all(|level| (7.35..=7.65).contains(level)),
            "{seen:?}"
        );
    }

    #[test]
    fn growth_and_loss_that_last_are_taken_as_they_are_after_a_minute() {
        let mut share = SmoothedReadiness::default();
        share.observe(4, at(0));
        for (second, ready) in [(15, 8), (30, 8), (45, 8), (60, 8)] {
            let level = share.observe(ready, at(second));
            assert!((4.0..8.0).contains(&level));
        }
        assert!((share.observe(8, at(75)) - 8.0).abs() < 1e-9);
        share.observe(5, at(90));
        share.observe(5, at(150));
        assert_eq!(share.whole(), 5);
    }

    #[test]
    fn one_missed_probe_of_one_pod_takes_no_whole_replica_for_long() {
        let mut share = SmoothedReadiness::default();
        share.observe(8, at(0));
        share.observe(7, at(300));
        assert_eq!(share.whole(), 8);
        assert!(share.observe(8, at(315)) > 7.8);
        share.observe(8, at(375));
        assert_eq!(share.whole(), 8);
    }

    proptest! {
        #[test]
        fn the_count_stays_between_what_was_seen(
            path in prop::collection::vec((0u32..u32::MAX, 0u64..200), 1..50),
        ) {
            let mut share = SmoothedReadiness::default();
            let (mut now, mut least, mut most) = (0, u32::MAX, 0);
            for (ready, step) in path {
                now += step;
                least = least.min(ready);
                most = most.max(ready);
                let level = share.observe(ready, at(now));
                prop_assert!(level >= f64::from(least) - 0.01 && level <= f64::from(most) + 0.01);
            }
            let text = serde_json::to_string(&share).unwrap();
            prop_assert!(text.len() <= 120, "{} bytes", text.len());
            prop_assert_eq!(serde_json::from_str::<SmoothedReadiness>(&text).unwrap(), share);
        }
    }
}
