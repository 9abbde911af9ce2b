//! Points in time as callers have them, with arithmetic that cannot fail.
//!
//! Owns no clock: every moment is an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A point in time.
pub trait Moment: Copy + Ord {
    /// The moment `span` after this one, at most the end of time.
    #[must_use]
    fn later(self, span: Duration) -> Self;

    /// The span from `earlier` to this moment; zero when `earlier` lies in the future, so that a
    /// clock that jumped back never makes anything look old.
    fn elapsed_since(self, earlier: Self) -> Duration;
}

impl Moment for Timestamp {
    fn later(self, span: Duration) -> Self {
        self.checked_add(span).unwrap_or(Self::MAX)
    }

    fn elapsed_since(self, earlier: Self) -> Duration {
        Duration::try_from(self.duration_since(earlier)).unwrap_or_default()
    }
}

impl Moment for Instant {
    fn later(self, span: Duration) -> Self {
        self.checked_add(span).unwrap_or(self)
    }

    fn elapsed_since(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_back_ages_nothing() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::new(4, 0).unwrap());
        assert_eq!(early.elapsed_since(late), Duration::ZERO);
        assert_eq!(late.elapsed_since(early), Duration::from_secs(4));
    }

    #[test]
    fn the_far_future_is_the_end_of_the_calendar() {
        assert_eq!(Timestamp::UNIX_EPOCH.later(Duration::MAX), Timestamp::MAX);
    }
}
