//! A number as a rate window shows it.
//!
//! A rate over two minutes is of one minute ago on average, and while workers come or go it belongs
//! to none of the numbers that there are. A fading mean with the same lag does: what is divided by
//! it describes the same time as the rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The mean; nothing while nothing was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowMean(Option<f64>);

impl WindowMean {
    /// Takes in that there are `number` now, `elapsed` after the observation before, where rates
    /// are taken over `window`.
    pub fn observe(&mut self, number: f64, window: Duration, elapsed: Duration) {
        let lag = lag_seconds(window);
        let kept = if lag > 0.0 {
            (-elapsed.as_secs_f64() / lag).exp()
        } else {
            0.0
        };
        let before = self.0.unwrap_or(number);
        self.0 = Some(number + (before - number) * kept);
    }

    /// The mean, above 0.
    pub fn value(&self) -> Option<f64> {
        self.0.filter(|mean| *mean > 0.0)
    }
}

/// How far the mean is behind what is seen, seconds: as far as a rate over `window`.
pub fn lag_seconds(window: Duration) -> f64 {
    window.as_secs_f64() / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(2);
    const TICK: Duration = Duration::from_secs(15);

    #[test]
    fn workers_that_came_count_as_far_as_the_window_shows_them() {
        let mut mean = WindowMean::default();
        mean.observe(4.0, WINDOW, TICK);
        assert_eq!(mean.value(), Some(4.0));
        mean.observe(8.0, WINDOW, TICK);
        let after_one = mean.value().unwrap();
        assert!((4.0..6.0).contains(&after_one), "{after_one}");
        for _ in 0..16 {
            mean.observe(8.0, WINDOW, TICK);
        }
        assert!(mean.value().unwrap() > 7.9);
    }

    #[test]
    fn without_workers_there_is_no_mean() {
        let mut mean = WindowMean::default();
        mean.observe(0.0, WINDOW, TICK);
        assert_eq!(mean.value(), None);
    }

    proptest! {
        #[test]
        fn the_mean_lies_between_what_was_seen(
            seen in prop::collection::vec(1u32..500, 1..40), window in 0u64..900, tick in 0u64..600,
        ) {
            let mut mean = WindowMean::default();
            for &workers in &seen {
                mean.observe(f64::from(workers), Duration::from_secs(window), Duration::from_secs(tick));
            }
            let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
            let within = f64::from(*least) - 1e-9..=f64::from(*most) + 1e-9;
            prop_assert!(within.contains(&mean.value().unwrap()));
        }
    }
}
