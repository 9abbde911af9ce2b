//! Stabilization windows: the needs of the last while, of which one extreme counts.
//!
//! Windows keep only the samples that can still become the extreme, and merge towards the safe side
//! when full.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Samples a window keeps at most.
pub const WINDOW_SAMPLES_MAX: usize = 64;

/// The two windows of one role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StabilizationWindows {
    /// Needs whose largest counts before replicas are lowered.
    pub largest: Window,
    /// Needs whose least counts before replicas are raised.
    pub least: Window,
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

    /// Whether a sample of the last `span` is held: an empty window remembers nothing.
    pub fn reaches(&self, now: Timestamp, span: Duration) -> bool {
        self.0
            .iter()
            .any(|&(at, _)| at <= now && now.since(at) < span)
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
}
