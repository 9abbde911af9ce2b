//! A number of workers as a rate window shows it.
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
    /// Takes in that there are `workers`, `elapsed` after the observation before, where rates are
    /// taken over `window`.
    pub fn observe(&mut self, workers: u32, window: Duration, elapsed: Duration) {
        let workers = f64::from(workers);
        let lag = window.as_secs_f64() / 2.0;
        let kept = if lag > 0.0 {
            (-elapsed.as_secs_f64() / lag).exp()
        } else {
            0.0
        };
        let before = self.0.unwrap_or(workers);
        self.0 = Some(workers + (before - workers) * kept);
    }

    /// The mean, above 0.
    pub fn value(&self) -> Option<f64> {
        self.0.filter(|workers| *workers > 0.0)
    }
}
