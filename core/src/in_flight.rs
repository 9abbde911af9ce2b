//! Requests in flight on decode, and how many more of them there are every second.
//!
//! The tokens that a pool generates show its load late, for two reasons. A pool that is too small
//! generates no more of them, whatever arrives. And of answers that become longer the short ones
//! are finished first, so that their mean length rises only after the batches have filled. The
//! number of requests in flight shows both at once: it grows while more of them come than go.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::window_mean::{WindowMean, lag_seconds};

/// Standard deviations beyond which a number has grown, and has not only varied: by chance it does
/// so in one of forty-four looks.
const GROWN_Z: f64 = 2.0;

/// Requests in flight at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InFlight {
    /// Requests that run, or wait for a place in a batch.
    pub requests: f64,
    /// Requests that come in a second beyond those that go, as far as that is no chance; 0 or more.
    pub growth_rps: f64,
}

impl InFlight {
    /// The same, with the growth that is not explained: `come_rps` requests come in a second, and
    /// as many as `go_rps` would go by the tokens that are generated and the length of finished
    /// answers. If fewer would go than come, the pool falls behind, and those that are more are a
    /// queue, which goes once there are the replicas that the arrivals need. If not, answers become
    /// longer, and those that are not finished show it first.
    #[must_use]
    pub fn unexplained(self, come_rps: f64, go_rps: f64) -> Self {
        let behind_rps = (come_rps - go_rps).max(0.0);
        Self {
            growth_rps: (self.growth_rps.min(come_rps) - behind_rps).max(0.0),
            ..self
        }
    }
}

/// Their number of late, by which growth is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InFlightMemory(WindowMean);

impl InFlightMemory {
    /// Takes in that `requests` are in flight, `elapsed` after the observation before, where rates
    /// are taken over `window`, and returns how they grow. Their number scatters by the root of
    /// itself times `peakedness`, 1 for Poisson arrivals.
    pub fn observe(
        &mut self,
        requests: f64,
        peakedness: f64,
        window: Duration,
        elapsed: Duration,
    ) -> InFlight {
        self.0.observe(requests, window, elapsed);
        // The fading mean of a number that grows evenly is behind it by the growth of its lag.
        let lag = lag_seconds(window);
        let scatter = (peakedness.max(1.0) * requests.max(0.0)).sqrt();
        let mean = self.0.value().unwrap_or(0.0);
        let grown = requests - mean - GROWN_Z * scatter;
        let growth_rps = if lag > 0.0 {
            (grown / lag).max(0.0)
        } else {
            0.0
        };
        InFlight {
            requests,
            growth_rps,
        }
    }

    /// Forgets, since the number is not known: one that is known again later did not grow from the
    /// last one.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(2);
    const TICK: Duration = Duration::from_secs(15);

    /// The last look at numbers that were seen a tick apart.
    fn last(numbers: impl IntoIterator<Item = f64>) -> InFlight {
        let mut memory = InFlightMemory::default();
        let looks = numbers
            .into_iter()
            .map(|number| memory.observe(number, 1.0, WINDOW, TICK));
        looks.last().unwrap()
    }

    #[test]
    fn even_growth_is_seen_as_it_is() {
        let numbers = (0..40).map(|tick| 10_000.0 + f64::from(tick) * 15.0 * 50.0);
        let seen = last(numbers).growth_rps;
        // A sixth less by what could be chance, and by a mean that is seen four times a minute.
        assert!((35.0..=50.0).contains(&seen), "{seen}");
    }

    #[test]
    fn growth_ends_when_the_number_stands() {
        let grown = (0..20).map(|tick| 1_000.0 + f64::from(tick) * 200.0);
        let stands = std::iter::repeat_n(4_800.0, 20);
        assert!(last(grown.chain(stands)).growth_rps <= 0.0);
    }

    #[test]
    fn a_number_that_is_known_again_has_not_grown() {
        let mut memory = InFlightMemory::default();
        memory.observe(100.0, 1.0, WINDOW, TICK);
        memory.forget();
        assert!(memory.observe(900.0, 1.0, WINDOW, TICK).growth_rps <= 0.0);
    }

    #[test]
    fn after_a_long_pause_a_number_has_not_grown() {
        let mut memory = InFlightMemory::default();
        memory.observe(100.0, 1.0, WINDOW, TICK);
        let seen = memory.observe(900.0, 1.0, WINDOW, Duration::from_mins(20));
        assert!(seen.growth_rps < 1e-3, "{seen:?}");
    }

    proptest! {
        #[test]
        fn chance_is_no_growth(mean in 1.0f64..5_000.0, beyond in prop::collection::vec(-2.0f64..2.0, 1..60)) {
            let mut memory = InFlightMemory::default();
            memory.observe(mean, 1.0, WINDOW, TICK);
            // Each number lies within a standard deviation of the mean, so no two differ by more
            // than two.
            for z in beyond {
                let number = (mean + z / 2.0 * mean.sqrt()).max(0.0);
                let seen = memory.observe(number, 1.5, WINDOW, TICK);
                prop_assert!(seen.growth_rps <= 0.0);
            }
        }

        #[test]
        fn what_falls_does_not_grow(from in 1.0f64..1e6, falls in prop::collection::vec(0.0f64..1.0, 1..40)) {
            let (mut memory, mut number) = (InFlightMemory::default(), from);
            for share in falls {
                number *= share;
                prop_assert!(memory.observe(number, 1.0, WINDOW, TICK).growth_rps <= 0.0);
            }
        }

        #[test]
        fn growth_is_never_more_than_came(numbers in prop::collection::vec(0.0f64..1e5, 2..40)) {
            let mut memory = InFlightMemory::default();
            let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
            for &number in &numbers {
                let seen = memory.observe(number, 1.0, WINDOW, TICK);
                let most = (number - least) / (WINDOW.as_secs_f64() / 2.0);
                prop_assert!(seen.growth_rps <= most + 1e-9);
            }
        }
    }
}
