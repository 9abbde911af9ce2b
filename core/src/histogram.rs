//! Latency and length distributions as engines publish them: cumulative counts at fixed edges.
//!
//! Buckets bound what can be known. A quantile is interpolated inside its bucket and says so when
//! it falls beyond the last finite edge; a share below a limit is exact at an edge and interpolated
//! between two. The mean is exact. Observations of several workers are summed bucket by bucket
//! before any of this: quantiles do not average.

use serde::{Deserialize, Serialize};

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

/// A quantile read from buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The interpolated value, or the last finite edge when `at_least`.
    pub value: f64,
    /// The true value lies beyond the last finite edge.
    pub at_least: bool,
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

    /// Number of observations; a rate times a window, so not always whole.
    pub const fn count(&self) -> f64 {
        self.count
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
        let (mut lower_edge, mut below) = (0.0, 0.0);
        for &(edge, at_or_below) in &self.buckets {
            if at_or_below >= rank && at_or_below > below {
                let part = ((rank - below) / (at_or_below - below)).max(0.0);
                return Some(Quantile {
                    value: lower_edge + part * (edge - lower_edge),
                    at_least: false,
                });
            }
            (lower_edge, below) = (edge, at_or_below);
        }
        Some(Quantile {
            value: lower_edge,
            at_least: true,
        })
    }

    /// Share (0 to 1) of the observations at or below `limit`: exact at a bucket edge, interpolated
    /// between two; what lies beyond the last edge counts as above.
    pub fn share_at_or_below(&self, limit: f64) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let (mut lower_edge, mut below) = (0.0, 0.0);
        for &(edge, at_or_below) in &self.buckets {
            if edge >= limit {
                let width = edge - lower_edge;
                let part = if width > 0.0 {
                    ((limit - lower_edge) / width).clamp(0.0, 1.0)
                } else {
                    1.0
                };
                return Some((below + part * (at_or_below - below)) / self.count);
            }
            (lower_edge, below) = (edge, at_or_below);
        }
        Some(below / self.count)
    }

    /// `(representative value, share of observations)` of every bucket that holds any: the middle
    /// of the bucket, all scaled so that their mean is the exact mean.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let Some(mean) = self.mean() else {
            return Vec::new();
        };
        let mut points = Vec::with_capacity(self.buckets.len() + 1);
        let (mut lower_edge, mut below) = (0.0, 0.0);
        for &(edge, at_or_below) in &self.buckets {
            if at_or_below > below {
                let middle = f64::midpoint(lower_edge, edge);
                points.push((middle, (at_or_below - below) / self.count));
            }
            (lower_edge, below) = (edge, at_or_below);
        }
        if self.count > below {
            points.push((lower_edge, (self.count - below) / self.count));
        }
        let rough: f64 = points.iter().map(|(value, share)| value * share).sum();
        if rough > 0.0 {
            for (value, _) in &mut points {
                *value *= mean / rough;
            }
        }
        points
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
        let q = ttft().quantile(0.85).unwrap();
        assert!((q.value - 0.375).abs() < 1e-12 && !q.at_least, "{q:?}");
        assert!((ttft().quantile(1.0).unwrap().value - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_quantile_beyond_the_last_edge_is_only_a_lower_bound() {
        let h = Histogram::from_cumulative(vec![(1.0, 5.0)], 10.0, 30.0).unwrap();
        assert_eq!(
            h.quantile(0.9).unwrap(),
            Quantile {
                value: 1.0,
                at_least: true
            }
        );
    }

    #[test]
    fn shares_are_exact_at_edges() {
        assert!((ttft().share_at_or_below(0.25).unwrap() - 0.7).abs() < 1e-12);
        assert!((ttft().share_at_or_below(0.375).unwrap() - 0.85).abs() < 1e-12);
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

    proptest! {
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
            prop_assert!((back - share).abs() < 1e-6, "{} -> {:?} -> {}", share, q, back);
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
