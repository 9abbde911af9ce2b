//! Arithmetic of points in time that cannot fail: it stops at the ends of the calendar.
//!
//! Owns no clock: the caller passes every [`Timestamp`].

use std::time::Duration;

use jiff::Timestamp;

/// The moment `span` after `at`.
pub(crate) fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// The span from `earlier` to `at`; zero when `earlier` lies in the future, so that a clock that
/// jumped back never makes anything look old.
pub(crate) fn since(at: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(earlier)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_back_ages_nothing() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::new(4, 0).unwrap());
        assert_eq!(since(early, late), Duration::ZERO);
        assert_eq!(since(late, early), Duration::from_secs(4));
    }

    #[test]
    fn the_far_future_is_the_end_of_the_calendar() {
        assert_eq!(later(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
    }
}
