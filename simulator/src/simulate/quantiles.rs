//! Quantiles of a stream of durations, to within 0.8 %, in a few kilobytes.
//!
//! Durations are counted by their leading bits: 128 classes per octave. Integer arithmetic alone
//! decides the class, so a run gives the same numbers on every machine.

use crate::time::{Nanos, seconds};

/// Bits kept below the leading one.
const BITS: u32 = 7;

/// Counts of durations by class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantiles {
    counts: Vec<u64>,
    total: u64,
}

impl Quantiles {
    pub(crate) fn add(&mut self, duration: Nanos) {
        let class = class(duration);
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.total += 1;
    }

    /// The smallest class whose end `percent` of the durations do not exceed, seconds.
    pub(crate) fn seconds(&self, percent: u64) -> Option<f64> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut below = 0;
        let place = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(seconds(class_end(place)))
    }
}

fn class(duration: Nanos) -> usize {
    let shift = (Nanos::BITS - duration.leading_zeros()).saturating_sub(BITS + 1);
    let class = (Nanos::from(shift) << BITS) + (duration >> shift);
    usize::try_from(class).unwrap_or(usize::MAX)
}

/// The largest duration of a class.
fn class_end(class: usize) -> Nanos {
    let class = class as Nanos;
    let shift = (class >> BITS).saturating_sub(1);
    let leading = class - (shift << BITS);
    (((u128::from(leading) + 1) << shift) - 1)
        .try_into()
        .unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_class_ends_at_most_0_8_percent_after_its_durations(duration: u64) {
            let end = class_end(class(duration));
            prop_assert!(end >= duration);
            prop_assert!((end - duration) as f64 <= duration as f64 * 0.008);
            prop_assert!(end == u64::MAX || class(end + 1) == class(duration) + 1);
        }
    }

    #[test]
    fn quantiles_of_a_hundred_durations() {
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.seconds(50), None);
        for n in 1..=100 {
            quantiles.add(n);
        }
        assert_eq!(quantiles.seconds(50), Some(seconds(50)));
        assert_eq!(quantiles.seconds(99), Some(seconds(99)));
        assert_eq!(quantiles.seconds(100), Some(seconds(100)));
    }
}
