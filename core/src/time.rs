//! Points in time, as an argument of every decision.
//!
//! The core never reads a clock: callers pass a [`Timestamp`]. It is an integer, so that
//! simulated and real runs agree to the bit and memory round-trips through JSON unchanged.
//! Spans are [`std::time::Duration`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// After so long between two decisions, the time between them is not known. Six default intervals.
pub const UNWATCHED_MAX: Duration = Duration::from_secs(90);

/// A point in time: whole milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The span from `earlier` to this moment; zero when `earlier` lies in the future, so that a
    /// clock that jumped back never makes anything look old.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(millis.unsigned_abs())
    }

    /// This moment moved back by `span`.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// This moment moved forward by `span`.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_back_ages_nothing() {
        let later = Timestamp::from_millis(5_000);
        assert_eq!(Timestamp::from_millis(1_000).since(later), Duration::ZERO);
        assert_eq!(
            later.since(Timestamp::from_millis(1_000)),
            Duration::from_secs(4)
        );
    }

    #[test]
    fn the_far_future_saturates() {
        assert_eq!(
            Timestamp::from_millis(1).plus(Duration::MAX),
            Timestamp::from_millis(i64::MAX)
        );
    }
}
