//! How far decisions are apart, and which of these times are unusual.
//!
//! The time between two decisions that are far apart was not watched: nobody knows what was needed
//! in it. Where that is unusual, the replicas that there are count as a need, so that a full window
//! passes before they are changed. Where decisions are always far apart, each would seem such a
//! time, and replicas would never be lowered: then the window goes by what is watched of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, UNWATCHED_MAX};

/// Longest time between decisions that can be usual: as long as the longest window.
pub const USUAL_MAX: Duration = Duration::from_hours(1);

/// How much longer than the longest of late a time may be and still be usual. Retries and turns
/// double a time now and then; what is longer is another fault.
const LONGER_MAX: u32 = 2;

/// The time since the decision before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It was watched.
    None,
    /// It is so long, as others of late: decisions are far apart here.
    Usual(Duration),
    /// It is long, and no other of late was.
    Sudden,
}

impl Gap {
    /// The part of this time that does not count towards `window`: a need has to last over two
    /// times between decisions at least, of which each counts as half a window at most.
    pub fn unwatched(self, window: Duration) -> Duration {
        match self {
            Self::None | Self::Sudden => Duration::ZERO,
            Self::Usual(time) => time.saturating_sub(UNWATCHED_MAX.max(window / 2)),
        }
    }
}

/// Memory of the times between decisions that were long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GapMemory {
    /// When the last of them ended.
    pub ended_at: Timestamp,
    /// The longest of those that came within a window of each other, milliseconds.
    pub longest_millis: u64,
}

impl GapMemory {
    /// Judges the time since `before`, when the decision before was made, and gives the memory with
    /// it. `window` is that of scale-down: a gap that comes after a whole one is a new one, for
    /// replicas could be lowered in between.
    pub fn judge(
        known: Option<Self>,
        before: Timestamp,
        now: Timestamp,
        window: Duration,
    ) -> (Gap, Option<Self>) {
        let time = now.since(before);
        if time <= UNWATCHED_MAX {
            return (Gap::None, known);
        }
        let of_late = known.filter(|known| before.since(known.ended_at) <= window);
        let longest = of_late.map_or(Duration::ZERO, |known| {
            Duration::from_millis(known.longest_millis)
        });
        let gap = if time <= USUAL_MAX && time <= longest.saturating_mul(LONGER_MAX) {
            Gap::Usual(time)
        } else {
            Gap::Sudden
        };
        let longest_millis = u64::try_from(longest.max(time).as_millis()).unwrap_or(u64::MAX);
        let memory = Self {
            ended_at: now,
            longest_millis,
        };
        (gap, Some(memory))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{
        behavior::Behavior,
        guard::{StabilizationWindows, stabilize},
        role::Role,
        testing,
    };

    const WINDOW: Duration = Duration::from_mins(5);

    /// The gaps between decisions that are `seconds` apart.
    fn gaps(seconds: &[u64]) -> Vec<Gap> {
        let (mut now, mut memory) = (Timestamp::from_millis(1_700_000_000_000), None);
        let of = |&seconds: &u64| {
            let before = now;
            now = now.plus(Duration::from_secs(seconds));
            let gap;
            (gap, memory) = GapMemory::judge(memory, before, now, WINDOW);
            gap
        };
        seconds.iter().map(of).collect()
    }

    /// Which of them are unusual.
    fn sudden(seconds: &[u64]) -> Vec<usize> {
        let gaps = gaps(seconds).into_iter().enumerate();
        let sudden = gaps.filter(|(_, gap)| *gap == Gap::Sudden);
        sudden.map(|(index, _)| index).collect()
    }

    #[rstest]
    #[case::always_watched(&[15, 60, 90, 15], &[])]
    #[case::an_outage(&[15, 15, 600, 15, 15], &[2])]
    #[case::always_far_apart(&[120, 120, 120, 120], &[0])]
    #[case::now_and_then(&[15, 100, 15, 15, 110, 15, 15, 15, 95], &[1])]
    #[case::ever_longer(&[100, 190, 370, 700], &[0])]
    #[case::an_outage_where_they_are_far_apart(&[100, 100, 201, 100], &[0, 2])]
    #[case::a_second_outage_a_window_later(
        &[600, 15, 90, 90, 90, 15, 15, 600],
        &[0, 7],
    )]
    #[case::beyond_what_can_be_usual(&[3_000, 3_601, 3_601, 3_000], &[0, 1, 2])]
    fn a_long_time_is_usual_after_others_like_it(#[case] seconds: &[u64], #[case] want: &[usize]) {
        assert_eq!(sudden(seconds), want);
    }

    /// A role of 10 replicas that needs 4, decided about after each of `spans`: when it is lowered.
    fn lowered_after(
        spans: impl IntoIterator<Item = Duration>,
        window: Duration,
    ) -> Option<Duration> {
        let mut behavior: Behavior = testing::policy().behavior;
        behavior.scale_down.stabilization_window = window;
        let start = Timestamp::from_millis(1_700_000_000_000);
        let (mut now, mut memory) = (start, None);
        let mut windows = StabilizationWindows::default();
        windows.watch(10, &behavior, Gap::Sudden, now);
        for span in spans {
            let before = now;
            now = now.plus(span);
            let gap;
            (gap, memory) = GapMemory::judge(memory, before, now, window);
            windows.watch(10, &behavior, gap, now);
            let (to, _) = stabilize(Role::Decode, 4, 10, &behavior, &mut windows, now);
            if to < 10 {
                return Some(now.since(start));
            }
        }
        None
    }

    #[rstest]
    #[case::default_interval(15, 300)]
    #[case::a_minute(60, 300)]
    #[case::just_watched(90, 360)]
    #[case::just_not(91, 455)]
    #[case::two_minutes(120, 480)]
    #[case::longer_than_the_window(400, 1_200)]
    fn the_window_follows_the_interval(#[case] seconds: u64, #[case] lowered: u64) {
        let spans = std::iter::repeat_n(Duration::from_secs(seconds), 100);
        let lowered = Duration::from_secs(lowered);
        assert_eq!(lowered_after(spans, WINDOW), Some(lowered));
    }

    proptest! {
        #[test]
        fn decisions_at_any_steady_interval_lower_in_the_end(
            interval_millis in 1_000u64..=3_600_000, window_seconds in 0u64..=3_600,
        ) {
            let (interval, window) =
                (Duration::from_millis(interval_millis), Duration::from_secs(window_seconds));
            let spans = std::iter::repeat_n(interval, 4_000);
            let lowered = lowered_after(spans, window);
            prop_assert!(lowered.is_some());
            // A window, and three decisions: the one that shows the interval, and those at its
            // ends.
            let most = window.max(2 * interval) + 3 * interval;
            prop_assert!(lowered <= Some(most), "{lowered:?} > {most:?}");
            // And the window was waited for.
            prop_assert!(lowered >= Some(window.min(interval.max(window))));
        }

        #[test]
        fn decisions_that_vary_within_a_factor_of_two_lower_in_the_end(
            least in 1_000u64..=1_800_000, shares in prop::collection::vec(0.0f64..=1.0, 8),
            window_seconds in 0u64..=3_600,
        ) {
            let spans = shares.iter().cycle().map(|share| {
                Duration::from_millis(least).mul_f64(1.0 + share)
            });
            let lowered = lowered_after(spans.take(8_000), Duration::from_secs(window_seconds));
            prop_assert!(lowered.is_some());
        }

        #[test]
        fn any_mix_of_quick_and_slow_decisions_lowers_in_the_end(
            spans in prop::collection::vec(prop_oneof![5u64..=90, 91u64..=3_600], 1..12),
            window_seconds in 0u64..=3_600,
        ) {
            let spans = spans.iter().cycle().map(|&seconds| Duration::from_secs(seconds));
            let lowered = lowered_after(spans.take(8_000), Duration::from_secs(window_seconds));
            prop_assert!(lowered.is_some());
        }

        #[test]
        fn after_an_unusual_time_a_whole_window_passes(
            before in prop::collection::vec(5u64..=90, 0..40), outage in 91u64..200_000,
            window_seconds in 0u64..=3_600,
        ) {
            let window = Duration::from_secs(window_seconds);
            let seconds = before.iter().copied().chain([outage]).chain([15; 241]);
            let spans: Vec<Duration> = seconds.map(Duration::from_secs).collect();
            let at_outage: Duration = spans[..=before.len()].iter().sum();
            let lowered = lowered_after(spans.iter().copied(), window);
            let before_outage: Duration = spans[..before.len()].iter().sum();
            prop_assert!(
                lowered <= Some(before_outage) || lowered >= Some(at_outage + window),
                "{lowered:?} after an outage that ended at {at_outage:?}"
            );
        }
    }
}
