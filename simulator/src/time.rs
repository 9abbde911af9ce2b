//! Virtual time: nanoseconds since an origin that the caller chooses, as a plain `u64`.
//!
//! Owns the conversions between that and seconds, and nothing else. There is no clock here: whoever
//! drives the engine says what time it is, so that a simulated day and a real-time emulator run the
//! same code, and a run can be repeated exactly. A `u64` of nanoseconds covers 584 years.

use std::time::Duration;

/// A moment, or a duration, in nanoseconds of virtual time.
pub type Nanos = u64;

/// One millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000_000_000;
/// One minute.
pub const MINUTE: Nanos = 60 * SECOND;
/// One hour.
pub const HOUR: Nanos = 60 * MINUTE;
/// One day.
pub const DAY: Nanos = 24 * HOUR;

/// Converts a duration to seconds.
#[inline]
pub fn seconds(duration: Nanos) -> f64 {
    duration as f64 * 1e-9
}

/// Converts a standard duration; what is too long becomes the longest duration.
pub fn from_duration(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Milliseconds of a standard duration.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

/// Converts seconds to the nearest nanosecond. Negative and not-a-number become 0, what is too long
/// becomes the longest duration.
#[inline]
pub fn from_seconds(duration_seconds: f64) -> Nanos {
    rounded(duration_seconds * 1e9)
}

/// Converts milliseconds to the nearest nanosecond, with the limits of [`from_seconds`].
#[inline]
pub fn from_milliseconds(duration_milliseconds: f64) -> Nanos {
    rounded(duration_milliseconds * 1e6)
}

/// Floats from here on are whole numbers.
const WHOLE_FROM: f64 = (1_u64 << 52) as f64;

/// The nearest whole number, halves away from zero, as `round` has it; what is negative or not a
/// number becomes 0, what is too large the largest. `round` itself is a call where the processor's
/// instruction for it may not be assumed, and this is done several times per request.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, which is the documented behaviour"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    if value < WHOLE_FROM {
        let whole = (value as i64).max(0);
        whole as u64 + u64::from(value - whole as f64 >= 0.5)
    } else {
        value as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast whose saturation is meant"
        )]
        fn rounding_is_that_of_the_standard_library(value in prop::num::f64::ANY, halves in 0..1_u64 << 53) {
            let near = halves as f64 * 0.5;
            for value in [value, near, near.next_up(), near.next_down()] {
                prop_assert_eq!(rounded(value), value.round() as u64);
            }
        }
    }

    #[test]
    fn seconds_and_nanoseconds_convert_both_ways() {
        assert_eq!(from_seconds(1.5), 1_500_000_000);
        assert_eq!(from_milliseconds(8.64), 8_640_000);
        assert!((seconds(DAY) - 86_400.0).abs() < 1e-9);
    }

    #[test]
    fn impossible_durations_are_clamped() {
        assert_eq!(from_seconds(-1.0), 0);
        assert_eq!(from_seconds(f64::NAN), 0);
        assert_eq!(from_seconds(f64::INFINITY), u64::MAX);
    }
}
