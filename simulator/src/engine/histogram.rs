//! A cumulative histogram with fixed upper edges, the way a Prometheus client library keeps it.
//!
//! Owns the bucket edges of vLLM and the rule that a value equal to an edge belongs to that edge's
//! bucket (`le`). Counts are kept per bucket and summed when read, because observing is by far the
//! more frequent operation. Observations can be made in bulk, as a thousand decode steps of one
//! length are one fact to the model.

use std::ops::Deref;

/// Most edges of a histogram.
const EDGES_MAX: usize = 22;

/// Increasing upper edges, at most 22.
///
/// Infinities fill the rest of the places, so that finding a value's bucket is as many comparisons
/// as there are places, without a branch: the commonest operation of all, and so the one worth it.
#[derive(Debug, PartialEq)]
pub struct Edges {
    padded: [f64; EDGES_MAX],
    used: usize,
}

impl Edges {
    const fn new(edges: &[f64]) -> Self {
        let mut padded = [f64::INFINITY; EDGES_MAX];
        let mut used = 0;
        while used < edges.len() {
            padded[used] = edges[used];
            used += 1;
        }
        Self { padded, used }
    }

    /// Edges below a value.
    #[inline]
    fn below(&self, value: f64) -> usize {
        let mut below = 0;
        for edge in &self.padded {
            below += usize::from(*edge < value);
        }
        below
    }
}

impl Deref for Edges {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.padded[..self.used]
    }
}

/// Upper edges of `time_to_first_token_seconds`, in seconds.
pub static TTFT_BUCKETS: &Edges = &Edges::new(&[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
]);

/// Upper edges of the time between tokens and of the time per output token, in seconds.
pub static ITL_BUCKETS: &Edges = &Edges::new(&[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
]);

/// Upper edges of the request phases (queue, prefill, decode, inference, end to end), in seconds.
pub static PHASE_BUCKETS: &Edges = &Edges::new(&[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
]);

/// Upper edges of tokens per request, for a model with 131,072 tokens of context.
pub static TOKEN_BUCKETS: &Edges = &Edges::new(&[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
]);

/// Upper edges of tokens per engine step.
pub static STEP_BUCKETS: &Edges = &Edges::new(&[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0,
]);

const MAX_BUCKETS: usize = EDGES_MAX + 1;

/// A histogram: observations counted by upper edge, their number and their sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    edges: &'static Edges,
    counts: [u64; MAX_BUCKETS],
    sum: f64,
}

impl Histogram {
    /// An empty histogram over `edges`.
    pub fn new(edges: &'static Edges) -> Self {
        Self {
            edges,
            counts: [0; MAX_BUCKETS],
            sum: 0.0,
        }
    }

    /// Counts one observation.
    #[inline]
    pub fn observe(&mut self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Counts `times` observations of the same value.
    #[inline]
    pub fn observe_many(&mut self, value: f64, times: u64) {
        let bucket = self.edges.below(value);
        self.counts[bucket] += times;
        self.sum += value * times as f64;
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all observed values, in the unit of the edges.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The mean of all observations, or `None` without any.
    pub fn mean(&self) -> Option<f64> {
        match self.count() {
            0 => None,
            count => Some(self.sum / count as f64),
        }
    }

    /// The finite upper edges.
    pub fn edges(&self) -> &'static [f64] {
        self.edges
    }

    /// Each upper edge with the number of observations at or below it; the last edge is infinity.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let edges = self.edges.iter().copied().chain([f64::INFINITY]);
        edges
            .zip(self.counts.iter())
            .scan(0, |below, (edge, count)| {
                *below += count;
                Some((edge, *below))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_belongs_to_that_edge() {
        let mut histogram = Histogram::new(ITL_BUCKETS);
        histogram.observe(0.025);
        histogram.observe_many(0.03, 3);
        histogram.observe(1000.0);
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative[0], (0.01, 0));
        assert_eq!(cumulative[1], (0.025, 1));
        assert_eq!(cumulative[2], (0.05, 4));
        assert_eq!(cumulative.last(), Some(&(f64::INFINITY, 5)));
        assert_eq!(cumulative.len(), ITL_BUCKETS.len() + 1);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 1000.115).abs() < 1e-9);
    }

    #[test]
    fn every_edge_list_fits_and_increases() {
        for edges in [
            TTFT_BUCKETS,
            ITL_BUCKETS,
            PHASE_BUCKETS,
            TOKEN_BUCKETS,
            STEP_BUCKETS,
        ] {
            assert_eq!(Histogram::new(edges).edges().len(), edges.len());
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
