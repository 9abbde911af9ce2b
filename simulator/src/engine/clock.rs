//! The token clock of a decode worker: when the n-th step from now ends, without taking the steps.
//!
//! Between two changes of a batch every step is longer than the one before by the same amount, as
//! each request's context grows by one token. So the n-th step ends at `anchor + n*length +
//! growth*n(n-1)/2`, and the number of steps by any moment is the root of that. All of it is
//! counted in integers, in parts of a nanosecond so fine that rounding each step's length costs
//! nothing, and the anchor keeps its parts: skipping steps gives exactly the times that taking them
//! one by one would. Only what is told outside is rounded, up to the next nanosecond.

use crate::time::{Nanos, rounded};

/// Binary digits below one nanosecond: a part is 2^-20 ns, about a femtosecond.
const PART_BITS: u32 = 20;

/// Steps that are told apart at once, far beyond the longest answer.
const STEPS_MAX: u64 = u32::MAX as u64;

/// A duration in parts of a nanosecond; `u64` holds five hours.
pub(super) type Parts = u64;

/// Converts nanoseconds to parts; what is negative or not a number becomes 0, what is too long the
/// longest.
#[inline]
pub(super) fn parts(nanos: f64) -> Parts {
    rounded(nanos * f64::from(1_u32 << PART_BITS))
}

/// Converts parts to nanoseconds.
pub(super) fn nanos(parts: Parts) -> f64 {
    parts as f64 / f64::from(1_u32 << PART_BITS)
}

/// Steps, their number and their ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenClock {
    /// The moment that steps are counted from, in parts.
    anchor: u128,
    /// Steps taken until then.
    taken: u64,
    length: Parts,
    growth: Parts,
}

impl TokenClock {
    /// Steps taken until the anchor, over the worker's life.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Begins a step at `now`, after a time without any.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.anchor = u128::from(now) << PART_BITS;
    }

    /// Takes `steps` steps: the anchor is at the exact end of the last.
    pub(super) fn take(&mut self, steps: u64) {
        self.anchor = self.exact_end(steps);
        self.taken += steps;
    }

    /// Sets the length of the next step, and what each one after it takes longer than the one
    /// before.
    pub(super) fn set_pace(&mut self, length: Parts, growth: Parts) {
        self.length = length.max(1);
        self.growth = growth;
    }

    /// When the n-th step from the anchor ends, at the latest nanosecond that it touches.
    #[inline]
    pub(super) fn end(&self, steps: u64) -> Nanos {
        let up = (1_u128 << PART_BITS) - 1;
        Nanos::try_from((self.exact_end(steps) + up) >> PART_BITS).unwrap_or(Nanos::MAX)
    }

    /// Steps that have ended since the anchor by `now`: the inverse of [`Self::end`].
    #[inline]
    pub(super) fn steps_by(&self, now: Nanos) -> u64 {
        let now = u128::from(now) << PART_BITS;
        match now.checked_sub(self.anchor) {
            Some(elapsed) if elapsed >= u128::from(self.length) => self.steps_within(elapsed),
            _ => 0,
        }
    }

    /// Steps that fit into so many parts, which one does.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and a float-to-integer cast saturates"
    )]
    fn steps_within(&self, elapsed: u128) -> u64 {
        // Short spans, which are nearly all, convert at a fraction of the cost of long ones.
        let span = u64::try_from(elapsed).map_or_else(|_| elapsed as f64, |short| short as f64);
        let (length, growth) = (self.length as f64, self.growth as f64);
        let linear = length - growth * 0.5;
        let root = (linear * linear + 2.0 * growth * span).sqrt();
        let estimate = (2.0 * span / (linear + root)) as u64;
        // The estimate is off by less than one step where steps are told apart at all.
        let mut steps = estimate.clamp(1, STEPS_MAX);
        while steps > 0 && self.span(steps) > elapsed {
            steps -= 1;
        }
        while steps < STEPS_MAX && self.span(steps + 1) <= elapsed {
            steps += 1;
        }
        steps
    }

    #[inline]
    fn exact_end(&self, steps: u64) -> u128 {
        self.anchor.saturating_add(self.span(steps))
    }

    /// The time that so many steps take in all.
    #[inline]
    fn span(&self, steps: u64) -> u128 {
        let steps = steps.min(STEPS_MAX);
        let pairs = steps * steps.saturating_sub(1) / 2;
        u128::from(steps) * u128::from(self.length) + u128::from(pairs) * u128::from(self.growth)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_is_fine_enough_for_any_coefficient() {
        // 1.2 ms per million tokens, the least of the models measured, to seven digits.
        let per_token = parts(1.2e6 * 1e-6);
        assert!((nanos(per_token) / 1.2 - 1.0).abs() < 1e-6);
        assert_eq!(parts(-1.0), 0);
        assert_eq!(parts(f64::NAN), 0);
        assert_eq!(parts(f64::INFINITY), Parts::MAX);
    }

    #[test]
    fn the_longest_lengths_overflow_nothing() {
        let mut clock = TokenClock::default();
        clock.begin(Nanos::MAX);
        clock.set_pace(Parts::MAX, Parts::MAX);
        assert_eq!(clock.end(u64::MAX), Nanos::MAX);
        assert_eq!(clock.steps_by(Nanos::MAX), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn skipping_steps_gives_the_times_of_taking_them(
            began in 0..u64::from(u32::MAX),
            length in 1..parts(1e8),
            growth in 0..parts(1e5),
            runs in prop::collection::vec(1..200u64, 1..6),
        ) {
            let mut clock = TokenClock::default();
            clock.begin(began);
            let mut time = u128::from(began) << PART_BITS;
            let mut step = length;
            for steps in runs {
                clock.set_pace(step, growth);
                let mut last = clock.end(0);
                for taken in 1..=steps {
                    time += u128::from(step);
                    step += growth;
                    let end = u64::try_from(time.div_ceil(1 << PART_BITS)).unwrap();
                    prop_assert_eq!(clock.end(taken), end);
                    prop_assert_eq!(clock.steps_by(end), taken + (1..u64::MAX).take_while(|more| clock.end(taken + more) <= end).count() as u64);
                    if end > last {
                        prop_assert_eq!(clock.steps_by(end - 1), taken - 1);
                    }
                    last = end;
                }
                clock.take(steps);
            }
        }
    }
}
