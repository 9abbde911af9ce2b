//! The sum of two times of which engines publish each alone.
//!
//! A request's time to first token is what prefill took and what decode took after it; each role
//! publishes its own part. Means add and quantiles do not. Taken as independent, the sum is the
//! convolution of both. However they depend on each other, its share below a limit lies within the
//! bounds of Makarov (Theory of Probability and its Applications 26, 1981), which are the best
//! there are without more knowledge. Requests that pass the second leg alone (short prompts that
//! decode computes itself) have no first part; which of the second leg's times are theirs is not
//! known.

use super::{Histogram, Share};

/// Bisections until a quantile is known to a few thousandths of its range.
const BISECTIONS: u32 = 10;

/// Two legs one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Legs<'a> {
    /// The first leg, of those requests that pass it.
    pub first: &'a Histogram,
    /// Share of the requests, 0 to 1, that pass it.
    pub first_share: f64,
    /// The second leg, of all requests.
    pub second: &'a Histogram,
}

impl Legs<'_> {
    /// Share of the requests whose legs together take no longer than `limit`.
    pub fn share_within(&self, limit: f64) -> Option<Share> {
        let second = self.second.share_within(limit)?;
        let value = self.independent(limit)?;
        let (mut low, mut high) = (0.0_f64, second.high);
        // An edge stays the number that it is: a rounding beyond it would be in the next bucket.
        let cuts = self.first.buckets().iter();
        let cuts = cuts.map(|&(edge, _)| (edge, limit - edge));
        let other_cuts = self.second.buckets().iter();
        let other_cuts = other_cuts.map(|&(edge, _)| (limit - edge, edge));
        for (cut, rest) in cuts.chain(other_cuts) {
            if cut < 0.0 || rest < 0.0 {
                continue;
            }
            let (first, second) = (
                self.first.share_within(cut)?,
                self.second.share_within(rest)?,
            );
            // Late is only who exceeds one part of a limit that is cut in two.
            low = low.max(second.low - self.first_share * (1.0 - first.low));
            // In time is only who keeps one of the two.
            let alone = 1.0 - self.first_share;
            high = high.min(second.high + self.first_share * first.high + alone);
        }
        let high = high.max(low).min(1.0);
        Some(Share {
            value: value.clamp(low, high),
            low,
            high,
        })
    }

    /// The time that `share` (0 to 1) of the requests do not exceed, as independent legs have it.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let most = |leg: &Histogram| leg.quantile(1.0).map(|most| most.value);
        let (mut low, mut high) = (0.0, most(self.first)? + most(self.second)?);
        if self.independent(high)? < share {
            return None;
        }
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if self.independent(middle)? < share {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(high)
    }

    /// Share of the requests within `limit` when the legs do not depend on each other.
    fn independent(&self, limit: f64) -> Option<f64> {
        let mut both = 0.0;
        for span in self.second.spans() {
            let middle = f64::midpoint(span.low, span.high);
            if middle <= limit {
                both += span.share * self.first.share_at_or_below(limit - middle)?;
            }
        }
        let alone = self.second.share_at_or_below(limit)?;
        Some(self.first_share * both + (1.0 - self.first_share) * alone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Draws;

    const EDGES: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

    fn histogram(values: &[f64]) -> Histogram {
        let count = |edge: f64| values.iter().filter(|value| **value <= edge).count() as f64;
        let buckets = EDGES.iter().map(|&edge| (edge, count(edge))).collect();
        let sum = values.iter().sum();
        Histogram::from_cumulative(buckets, values.len() as f64, sum).unwrap()
    }

    #[test]
    fn an_edge_that_no_float_splits_evenly_still_bounds_the_share() {
        // 0.5 - (0.5 - 0.018) is a little more than 0.018.
        let first = Histogram::from_cumulative(
            vec![(0.4, 95.0), (2.0, 95.0), (4.0, 100.0)],
            100.0,
            95.0 * 0.2 + 5.0 * 3.0,
        );
        let second = Histogram::from_cumulative(vec![(0.018, 0.0), (0.022, 100.0)], 100.0, 2.0);
        let legs = Legs {
            first: &first.unwrap(),
            first_share: 1.0,
            second: &second.unwrap(),
        };
        let share = legs.share_within(0.5).unwrap();
        assert!((share.high - 0.95).abs() < 1e-9, "{share:?}");
    }

    #[test]
    fn half_of_the_requests_that_decode_computes_alone_and_late_are_half_of_them() {
        let first = histogram(&[0.05; 50]);
        let second: Vec<f64> = (0..100)
            .map(|n| if n % 2 == 0 { 0.02 } else { 0.8 })
            .collect();
        let second = histogram(&second);
        let legs = Legs {
            first: &first,
            first_share: 0.5,
            second: &second,
        };
        let share = legs.share_within(0.5).unwrap();
        assert!((share.value - 0.5).abs() < 0.01, "{share:?}");
        assert!(
            share.high <= 0.5 + 1e-9 && share.low <= share.value,
            "{share:?}"
        );
    }

    #[test]
    fn a_tail_of_the_second_leg_is_in_the_quantile_of_both() {
        let first = histogram(&[0.3; 100]);
        let second: Vec<f64> = (0..100).map(|n| if n < 90 { 0.02 } else { 0.45 }).collect();
        let second = histogram(&second);
        let legs = Legs {
            first: &first,
            first_share: 1.0,
            second: &second,
        };
        assert!(
            legs.quantile(0.95).unwrap() > 0.6,
            "the mean would add 63 ms"
        );
    }

    proptest! {
        #[test]
        fn whatever_ties_the_legs_together_the_true_share_lies_inside_the_bounds(
            seed in any::<u64>(), limit in 0.05f64..3.0, share in 0.0f64..=1.0, tie in -1.0f64..=1.0,
        ) {
            let mut draws = Draws(seed);
            let (mut first, mut second, mut met) = (Vec::new(), Vec::new(), 0.0);
            for _ in 0..200 {
                let one = draws.next();
                let other = if draws.next() < tie.abs() {
                    if tie > 0.0 { one } else { 1.0 - one }
                } else {
                    draws.next()
                };
                let (x, y) = (0.02 / (1.0 - 0.99 * one), 0.01 / (1.0 - 0.99 * other));
                let uses_first = draws.next() < share;
                if uses_first {
                    first.push(x);
                }
                second.push(y);
                met += f64::from(u8::from(y + if uses_first { x } else { 0.0 } <= limit)) / 200.0;
            }
            prop_assume!(!first.is_empty());
            let first_share = first.len() as f64 / 200.0;
            let (first, second) = (histogram(&first), histogram(&second));
            let legs = Legs { first: &first, first_share, second: &second };
            let found = legs.share_within(limit).unwrap();
            prop_assert!(found.low - 1e-9 <= met && met <= found.high + 1e-9, "{met} {found:?}");
        }
    }
}
