//! Stabilization windows: the needs of the last while, of which one extreme counts.
//!
//! Windows keep only the samples that can still become the extreme, and merge towards the safe side
//! when full.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gap::Gap;
use crate::{behavior::Behavior, time::Timestamp};

/// Samples a window keeps at most: one in every default interval of the longest window, an hour,
/// and some more.
pub const WINDOW_SAMPLES_MAX: usize = 256;

/// The two windows of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StabilizationWindows {
    /// Needs whose largest counts before replicas are lowered.
    pub largest: Window,
    /// Needs whose least counts before replicas are raised.
    pub least: Window,
}

impl StabilizationWindows {
    /// Takes in the replicas that there are as a need, where the time before is not known: at first
    /// sight, as HPA does, and after a time that was unusually long. So a full window passes before
    /// they are changed. Of a time that is usual here, what was not watched does not count.
    pub fn watch(&mut self, current: u32, behavior: &Behavior, gap: Gap, now: Timestamp) {
        let Self { largest, least } = self;
        let span = behavior.scale_down.stabilization_window;
        largest.hold_still(gap.unwatched(span));
        if gap == Gap::Sudden || !largest.remembers(now) {
            largest.extreme(current, now, span, Extreme::Largest);
        }
        if gap == Gap::Sudden || !least.remembers(now) {
            let span = behavior.scale_up.stabilization_window;
            least.extreme(current, now, span, Extreme::Least);
        }
    }
}

/// The extreme that a window gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest sample.
    Largest,
    /// The least sample.
    Least,
}

/// Samples of the last while, of which one extreme counts.
///
/// Holds a monotone queue: a sample that a later one beats can never be the extreme again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<StoredSample>", into = "Vec<StoredSample>")]
pub struct Window(Vec<(Timestamp, u32)>);

/// Milliseconds after the sample before, and the value: a full window has to fit into the memory.
type StoredSample = (i64, u32);

impl From<Window> for Vec<StoredSample> {
    fn from(known: Window) -> Self {
        let mut before = 0;
        let stored = known.0.into_iter().map(|(at, value)| {
            let at = at.as_millis();
            (at.wrapping_sub(std::mem::replace(&mut before, at)), value)
        });
        stored.collect()
    }
}

impl From<Vec<StoredSample>> for Window {
    fn from(stored: Vec<StoredSample>) -> Self {
        let mut at = 0_i64;
        let known = stored.into_iter().map(|(after, value)| {
            at = at.wrapping_add(after);
            (Timestamp::from_millis(at), value)
        });
        Self(known.collect())
    }
}

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

    /// Keeps every sample as much longer as `unwatched`, which does not count towards the window.
    fn hold_still(&mut self, unwatched: Duration) {
        for (at, _) in &mut self.0 {
            *at = at.plus(unwatched);
        }
    }

    /// Whether a sample is held. Those that lie ahead are none.
    fn remembers(&self, now: Timestamp) -> bool {
        self.0.iter().any(|&(at, _)| at <= now)
    }

    /// The samples that may still become the extreme, oldest first.
    pub fn samples(&self) -> &[(Timestamp, u32)] {
        &self.0
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
        fn a_full_window_errs_towards_holding(len in 257u32..600) {
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
}
