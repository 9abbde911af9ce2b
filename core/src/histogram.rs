//! Latency and length distributions as engines publish them: cumulative counts at fixed edges.
//!
//! Buckets bound what can be known. A quantile is interpolated inside its bucket, as the buckets
//! beside it suggest, and says so when it falls beyond the last finite edge or into the first
//! bucket; a share below a limit is exact at an edge and interpolated between two, with the shares
//! at both edges beside it, as far as the exact sum does not rule them out. The mean is exact, and
//! moments are scaled to it. Observations of several workers are summed bucket by bucket before any
//! of this: quantiles do not average.

mod bounds;
mod curve;
pub mod legs;

use serde::{Deserialize, Serialize};

use self::{bounds::Around, curve::Curve};

/// Observations of a window, in cumulative buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// `(upper edge, observations at or below it)`, edges rising and finite, counts not falling.
    buckets: Vec<(f64, f64)>,
    /// All observations, those above the last edge too.
    count: f64,
    /// Sum of the observed values.
    sum: f64,
}

/// How a number stands to the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// As near as the buckets allow.
    #[default]
    Near,
    /// The true value is this or more: it lies beyond the last finite edge.
    AtLeast,
    /// The true value is this or less: it lies in the first bucket.
    AtMost,
}

/// A quantile read from buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The interpolated value, or the edge that `bound` speaks of.
    pub value: f64,
    /// Whether it is clipped by the outermost edges.
    pub bound: Bound,
}

/// Share of observations at or below a limit, and what the buckets allow it to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Exact at a bucket edge, interpolated between two, 0 to 1.
    pub value: f64,
    /// The least that is within: the share at or below the edge under the limit, and what the sum
    /// adds to that.
    pub low: f64,
    /// The most that may be within: the share at or below the edge over the limit, less what the
    /// sum rules out.
    pub high: f64,
}

/// The observations of one bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Share of all observations, 0 to 1.
    pub share: f64,
}

impl Span {
    /// Share of all observations that lie in this bucket above `edge`, spread evenly.
    pub fn share_above(&self, edge: f64) -> f64 {
        let width = self.high - self.low;
        let part = if width > 0.0 {
            ((self.high - edge) / width).clamp(0.0, 1.0)
        } else {
            f64::from(u8::from(self.high > edge))
        };
        self.share * part
    }
}

/// Raw moments of a distribution: the means of the value, its square and its cube.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean.
    pub first: f64,
    /// Mean of the squares.
    pub second: f64,
    /// Mean of the cubes.
    pub third: f64,
}

impl Histogram {
    /// A histogram from cumulative buckets in any order, a count and a sum.
    ///
    /// Rates of counters that reset at different times can make cumulative counts dip; they are
    /// raised to their predecessor. Nothing is returned if a number is not finite, negative, or if
    /// there is no bucket.
    pub fn from_cumulative(mut buckets: Vec<(f64, f64)>, count: f64, sum: f64) -> Option<Self> {
        let valid = |number: f64| number.is_finite() && number >= 0.0;
        buckets.retain(|(edge, _)| edge.is_finite());
        let numbers_valid = buckets.iter().all(|&(edge, n)| valid(edge) && valid(n));
        if buckets.is_empty() || !numbers_valid || !valid(count) || !valid(sum) {
            return None;
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut least = 0.0_f64;
        for (_, n) in &mut buckets {
            least = least.max(*n);
            *n = least;
        }
        Some(Self {
            buckets,
            count: count.max(least),
            sum,
        })
    }

    /// As many observations times `factor`, spread as they are; unchanged where that is no number.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        if factor.is_finite() && factor >= 0.0 && (self.sum * factor).is_finite() {
            for (_, at_or_below) in &mut self.buckets {
                *at_or_below *= factor;
            }
            self.count *= factor;
            self.sum *= factor;
        }
        self
    }

    /// Number of observations; a rate times a window, so not always whole.
    pub const fn count(&self) -> f64 {
        self.count
    }

    /// Upper edges and the observations at or below each, both rising.
    pub fn cumulative(&self) -> &[(f64, f64)] {
        &self.buckets
    }

    /// Mean of the observations, or nothing when there are none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// The value that `share` (0 to 1) of the observations do not exceed.
    pub fn quantile(&self, share: f64) -> Option<Quantile> {
        if self.count <= 0.0 || !(0.0..=1.0).contains(&share) {
            return None;
        }
        let rank = share * self.count;
        let mut below = 0.0;
        for (index, &(edge, at_or_below)) in self.buckets.iter().enumerate() {
            if at_or_below >= rank && at_or_below > below {
                return Some(if index == 0 {
                    Quantile {
                        value: edge,
                        bound: Bound::AtMost,
                    }
                } else {
                    let (least, most) = self.around(index).value_of(rank - below);
                    Quantile {
                        value: self.curve(index).argument(rank).clamp(least, most),
                        bound: Bound::Near,
                    }
                });
            }
            below = at_or_below;
        }
        Some(Quantile {
            value: self.buckets.last().map_or(0.0, |&(edge, _)| edge),
            bound: Bound::AtLeast,
        })
    }

    /// Share of the observations at or below `limit`; what lies beyond the last edge counts as
    /// above.
    pub fn share_within(&self, limit: f64) -> Option<Share> {
        if self.count <= 0.0 || limit.is_nan() {
            return None;
        }
        let mut below = 0.0;
        for (index, &(edge, at_or_below)) in self.buckets.iter().enumerate() {
            if edge >= limit {
                if edge <= limit {
                    let value = at_or_below / self.count;
                    return Some(Share {
                        value,
                        low: value,
                        high: value,
                    });
                }
                let (least, most) = self.around(index).within(limit);
                let (low, high) = (below + least, (below + most).min(at_or_below));
                return Some(Share {
                    value: self.curve(index).value(limit).clamp(low, high) / self.count,
                    low: low / self.count,
                    high: high / self.count,
                });
            }
            below = at_or_below;
        }
        // The more of the sum is needed for those above the limit, the fewer there can be.
        let (least, _) = self.around(self.buckets.len()).within(limit);
        let value = (below + least).min(self.count) / self.count;
        Some(Share {
            value,
            low: value,
            high: 1.0,
        })
    }

    /// The distribution inside a bucket.
    fn curve(&self, index: usize) -> Curve {
        let knot = |index: usize| match index.checked_sub(1) {
            Some(before) => self.buckets.get(before).copied(),
            None => Some((0.0, 0.0)),
        };
        // Knots are the lower edges of buckets, the first of them 0.
        let (before, low, high, after) = (
            index.checked_sub(1).and_then(knot),
            knot(index).unwrap_or_default(),
            knot(index + 1).unwrap_or_default(),
            knot(index + 2),
        );
        Curve::through(before, low, high, after)
    }

    /// The bucket at `index`, or the one beyond the last edge, and the sum that is left for it.
    fn around(&self, index: usize) -> Around {
        let (mut others_least, mut others_most) = (0.0, 0.0);
        let (mut low, mut below) = (0.0_f64, 0.0);
        let (mut own, last) = ((0.0, f64::INFINITY, 0.0), self.buckets.len());
        let beyond = (f64::INFINITY, self.count);
        for (at, &(high, at_or_below)) in self.buckets.iter().chain([&beyond]).enumerate() {
            let inside = (at_or_below - below).max(0.0);
            if at == index {
                own = (low, high, inside);
            } else if inside > 0.0 {
                others_least += low * inside;
                others_most += high * inside;
            }
            (below, low) = (at_or_below, if at < last { high } else { low });
        }
        let (low, high, inside) = own;
        Around {
            low,
            high,
            inside,
            others_least,
            others_most,
            sum: self.sum,
        }
    }

    /// The value of [`Histogram::share_within`], 0 to 1.
    pub fn share_at_or_below(&self, limit: f64) -> Option<f64> {
        self.share_within(limit).map(|share| share.value)
    }

    /// Upper edges, increasing, each with the observations at or below it; the last is finite.
    pub fn buckets(&self) -> &[(f64, f64)] {
        &self.buckets
    }

    /// Sum of the observations.
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Moments, with the observations of a bucket spread evenly over it, those beyond the last edge
    /// at it, and all scaled so that the first is the exact mean.
    pub fn moments(&self) -> Option<Moments> {
        let mean = self.mean()?;
        let (mut first, mut second, mut third) = (0.0, 0.0, 0.0);
        let (mut low, mut below) = (0.0_f64, 0.0);
        for &(high, at_or_below) in &self.buckets {
            let share = (at_or_below - below) / self.count;
            first += share * f64::midpoint(low, high);
            second += share * (low * low + low * high + high * high) / 3.0;
            third += share * (low + high) * (low * low + high * high) / 4.0;
            (low, below) = (high, at_or_below);
        }
        let beyond = (self.count - below) / self.count;
        first += beyond * low;
        second += beyond * low * low;
        third += beyond * low * low * low;
        let scale = if first > 0.0 { mean / first } else { 0.0 };
        let moments = Moments {
            first: mean,
            second: second * scale * scale,
            third: third * scale * scale * scale,
        };
        let finite = moments.second.is_finite() && moments.third.is_finite();
        finite.then_some(moments)
    }

    /// `(representative value, share of observations)` of every bucket that holds any: the middle
    /// of the bucket, all scaled so that their mean is the exact mean.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let middle = |span: Span| (f64::midpoint(span.low, span.high), span.share);
        self.spans().into_iter().map(middle).collect()
    }

    /// Every bucket that holds any observation, all scaled so that with observations spread evenly
    /// over their buckets the mean is the exact mean. Those beyond the last edge are at it.
    pub fn spans(&self) -> Vec<Span> {
        let Some(mean) = self.mean() else {
            return Vec::new();
        };
        let mut spans = Vec::with_capacity(self.buckets.len() + 1);
        let (mut low, mut below) = (0.0, 0.0);
        for &(high, at_or_below) in &self.buckets {
            if at_or_below > below {
                let share = (at_or_below - below) / self.count;
                spans.push(Span { low, high, share });
            }
            (low, below) = (high, at_or_below);
        }
        if self.count > below {
            let share = (self.count - below) / self.count;
            spans.push(Span {
                low,
                high: low,
                share,
            });
        }
        let rough: f64 = spans
            .iter()
            .map(|span| f64::midpoint(span.low, span.high) * span.share)
            .sum();
        if rough > 0.0 {
            for span in &mut spans {
                span.low *= mean / rough;
                span.high *= mean / rough;
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ttft() -> Histogram {
        // 10 up to 0.1 s, 60 up to 0.25, 30 up to 0.5; none above.
        Histogram::from_cumulative(
            vec![(0.1, 10.0), (0.25, 70.0), (0.5, 100.0), (1.0, 100.0)],
            100.0,
            20.0,
        )
        .unwrap()
    }

    #[test]
    fn quantiles_interpolate_inside_their_bucket() {
        // Nothing is above this bucket, so its own observations lie in its lower half.
        let q = ttft().quantile(0.85).unwrap();
        assert!((0.25..0.375).contains(&q.value), "{q:?}");
        assert_eq!(q.bound, Bound::Near);
        assert!((ttft().quantile(1.0).unwrap().value - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_quantile_beyond_the_last_edge_is_only_a_lower_bound() {
        let h = Histogram::from_cumulative(vec![(1.0, 5.0)], 10.0, 30.0).unwrap();
        assert_eq!(
            h.quantile(0.9).unwrap(),
            Quantile {
                value: 1.0,
                bound: Bound::AtLeast
            }
        );
    }

    #[test]
    fn a_quantile_in_the_first_bucket_is_only_an_upper_bound() {
        // SGLang's buckets of TTFT begin at 100 ms: 30 ms and 90 ms look the same.
        let h = Histogram::from_cumulative(vec![(0.1, 95.0), (0.2, 100.0)], 100.0, 6.0).unwrap();
        assert_eq!(
            h.quantile(0.5).unwrap(),
            Quantile {
                value: 0.1,
                bound: Bound::AtMost
            }
        );
        assert_eq!(h.quantile(0.99).unwrap().bound, Bound::Near);
    }

    #[test]
    fn attainment_is_exact_at_an_edge_and_between_two_says_how_far_it_may_be_off() {
        let at_edge = ttft().share_within(0.25).unwrap();
        assert_eq!((at_edge.low, at_edge.high), (at_edge.value, at_edge.value));
        let between = ttft().share_within(0.375).unwrap();
        assert!((between.low - 0.7).abs() < 1e-12 && (between.high - 1.0).abs() < 1e-12);
        let h = Histogram::from_cumulative(vec![(1.0, 5.0)], 10.0, 30.0).unwrap();
        let beyond = h.share_within(2.0).unwrap();
        assert_eq!((beyond.value, beyond.low, beyond.high), (0.5, 0.5, 1.0));
    }

    #[test]
    fn moments_of_an_even_spread_are_its_own() {
        // Evenly from 0 to 3: means of x, x^2, x^3 are 1.5, 3 and 6.75.
        let buckets = vec![(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)];
        let moments = Histogram::from_cumulative(buckets, 30.0, 45.0)
            .unwrap()
            .moments()
            .unwrap();
        assert!((moments.first - 1.5).abs() < 1e-12);
        assert!((moments.second - 3.0).abs() < 1e-12);
        assert!((moments.third - 6.75).abs() < 1e-12);
    }

    #[test]
    fn a_counter_that_was_reset_leaves_no_bucket_negative() {
        let h = Histogram::from_cumulative(vec![(1.0, 9.0), (2.0, 4.0)], 3.0, 5.0).unwrap();
        assert!((h.count() - 9.0).abs() < 1e-12);
        assert_eq!(h.share_at_or_below(2.0), Some(1.0));
    }

    #[test]
    fn shares_are_exact_at_edges() {
        assert!((ttft().share_at_or_below(0.25).unwrap() - 0.7).abs() < 1e-12);
        let halfway = ttft().share_at_or_below(0.375).unwrap();
        assert!((0.85..1.0).contains(&halfway), "{halfway}");
        assert!((ttft().share_at_or_below(9.0).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_window_has_no_statistics() {
        let h = Histogram::from_cumulative(vec![(1.0, 0.0)], 0.0, 0.0).unwrap();
        assert_eq!(
            (h.mean(), h.quantile(0.5), h.share_at_or_below(1.0)),
            (None, None, None)
        );
        assert!(h.points().is_empty());
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        assert_eq!(Histogram::from_cumulative(vec![], 0.0, 0.0), None);
        assert_eq!(
            Histogram::from_cumulative(vec![(1.0, f64::NAN)], 1.0, 1.0),
            None
        );
        assert_eq!(
            Histogram::from_cumulative(vec![(1.0, 1.0)], -1.0, 1.0),
            None
        );
    }

    /// All between 1 and 2.5 s.
    fn of_one_bucket(mean: f64) -> Histogram {
        Histogram::from_cumulative(vec![(1.0, 0.0), (2.5, 200.0)], 200.0, 200.0 * mean).unwrap()
    }

    #[test]
    fn a_mean_rules_out_shares_that_the_edges_allow() {
        let near_the_end = of_one_bucket(2.45).share_within(2.0).unwrap();
        assert!((near_the_end.high - 0.1).abs() < 1e-9 && near_the_end.value <= near_the_end.high);
        let near_the_start = of_one_bucket(1.05).share_within(2.0).unwrap();
        assert!(
            (near_the_start.low - 0.95).abs() < 1e-9,
            "{near_the_start:?}"
        );
        let median = of_one_bucket(2.45).quantile(0.5).unwrap().value;
        assert!(median >= 2.4, "{median}");
    }

    #[test]
    fn a_sum_bounds_what_lies_beyond_the_last_edge() {
        // Half are beyond 1 s, with a mean of 1.1 s: hardly any is beyond 5 s.
        let h = Histogram::from_cumulative(vec![(1.0, 50.0)], 100.0, 25.0 + 55.0).unwrap();
        let within = h.share_within(5.0).unwrap();
        assert!(within.low > 0.9, "{within:?}");
    }

    #[test]
    fn a_sum_that_cannot_be_rules_nothing_out() {
        for mean in [0.2, 9.0] {
            let share = of_one_bucket(mean).share_within(2.0).unwrap();
            assert_eq!((share.low, share.high), (0.0, 1.0));
        }
    }

    proptest! {
        #[test]
        fn the_true_share_lies_inside_its_bounds(
            values in prop::collection::vec(0.0f64..3.0, 1..60), limit in 0.01f64..3.0,
        ) {
            let count = |edge: f64| values.iter().filter(|value| **value <= edge).count() as f64;
            let buckets = [0.1, 0.25, 0.5, 1.0, 2.5].map(|edge| (edge, count(edge)));
            let all = values.len() as f64;
            let h = Histogram::from_cumulative(buckets.to_vec(), all, values.iter().sum()).unwrap();
            let (share, met) = (h.share_within(limit).unwrap(), count(limit) / all);
            prop_assert!(share.low - 1e-9 <= met && met <= share.high + 1e-9, "{met} {share:?}");
        }

        #[test]
        fn quantile_and_share_are_inverse(
            counts in prop::collection::vec(0.0f64..50.0, 4), share in 0.01f64..0.99,
        ) {
            let edges = [0.1, 0.25, 0.5, 1.0];
            let mut total = 0.0;
            let buckets: Vec<_> =
                edges.iter().zip(&counts).map(|(&e, &n)| { total += n; (e, total) }).collect();
            prop_assume!(total > 1.0);
            let h = Histogram::from_cumulative(buckets, total, total).unwrap();
            let q = h.quantile(share).unwrap();
            let back = h.share_at_or_below(q.value).unwrap();
            let consistent = match q.bound {
                Bound::Near => (back - share).abs() < 1e-6,
                Bound::AtMost => back >= share,
                Bound::AtLeast => back <= share,
            };
            prop_assert!(consistent, "{} -> {:?} -> {}", share, q, back);
        }

        #[test]
        fn points_keep_the_mean(counts in prop::collection::vec(0u32..50, 4), sum in 0.1f64..1e4) {
            let edges = [1.0, 2.0, 5.0, 10.0];
            let mut total = 0.0;
            let buckets: Vec<_> = edges.iter().zip(&counts)
                .map(|(&e, &n)| { total += f64::from(n); (e, total) }).collect();
            prop_assume!(total > 0.0);
            let h = Histogram::from_cumulative(buckets, total, sum).unwrap();
            let mean: f64 = h.points().iter().map(|(v, p)| v * p).sum();
            prop_assert!((mean - sum / total).abs() < 1e-9 * (1.0 + sum));
        }
    }
}
