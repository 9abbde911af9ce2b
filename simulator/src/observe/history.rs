//! The samples of one worker within the widest window, and what they say.
//!
//! Counters here never reset: a worker's name is its own for ever and its counters only rise. What
//! is left of Prometheus' rules is the carrying of an increase from the samples to the window.

use std::collections::VecDeque;

use pd_core::Role;

use crate::engine::{Histogram, WorkerMetrics};
use crate::time::{Nanos, seconds};

/// Prometheus takes a series as covering the window when the gap at an end is below so many sample
/// intervals.
const GAP_INTERVALS_MAX: f64 = 1.1;

#[derive(Debug)]
struct Sample {
    at: Nanos,
    metrics: WorkerMetrics,
}

/// One worker's samples, oldest first.
#[derive(Debug)]
pub(super) struct History {
    pub(super) role: Role,
    /// Whether the worker's pod was shown as ready at the last scrape.
    pub(super) ready: bool,
    samples: VecDeque<Sample>,
}

/// The increase of a histogram over a window.
#[derive(Debug)]
pub(super) struct Increase {
    pub(super) buckets: Vec<(f64, f64)>,
    pub(super) count: f64,
    pub(super) sum: f64,
}

impl Increase {
    /// Adds another worker's increase of the same histogram.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.1 += other.1;
        }
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// How far the samples reach and how far the window goes on around them, in seconds.
#[derive(Clone, Copy, Debug)]
struct Reach {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

impl Reach {
    fn increase(&self, first: f64, last: f64) -> f64 {
        let increase = last - first;
        if increase <= 0.0 {
            return 0.0;
        }
        let to_zero = self.sampled * (first / increase);
        let to_start = self.to_start.min(to_zero);
        increase * (self.sampled + to_start + self.to_end) / self.sampled
    }
}

impl History {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            ready: false,
            samples: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, at: Nanos, metrics: WorkerMetrics) {
        self.samples.push_back(Sample { at, metrics });
    }

    /// Whether there is a sample of `now`: a lost scrape ends the series for instant queries.
    pub(super) fn is_fresh(&self, now: Nanos) -> bool {
        self.samples.back().is_some_and(|sample| sample.at == now)
    }

    pub(super) fn last(&self) -> Option<&WorkerMetrics> {
        self.samples.back().map(|sample| &sample.metrics)
    }

    /// Drops samples as old as `oldest` or older; returns whether any is left.
    pub(super) fn forget_until(&mut self, oldest: Nanos) -> bool {
        while self
            .samples
            .front()
            .is_some_and(|sample| sample.at <= oldest && oldest > 0)
        {
            self.samples.pop_front();
        }
        !self.samples.is_empty()
    }

    /// The samples of the window that ends now.
    fn within(&self, now: Nanos, window: Nanos) -> impl DoubleEndedIterator<Item = &Sample> {
        let oldest = now.saturating_sub(window);
        let first = self
            .samples
            .partition_point(|sample| sample.at <= oldest && oldest > 0);
        self.samples.range(first..)
    }

    /// First and last sample of the window and their reach, if there are two.
    fn ends(&self, now: Nanos, window: Nanos) -> Option<(&WorkerMetrics, &WorkerMetrics, Reach)> {
        let mut inside = self.within(now, window);
        let (first, last) = (inside.next()?, inside.next_back()?);
        let sampled = seconds(last.at.saturating_sub(first.at));
        if sampled <= 0.0 {
            return None;
        }
        let intervals = inside.count() + 1;
        let interval = sampled / intervals as f64;
        let carried = |gap: f64| {
            if gap < interval * GAP_INTERVALS_MAX {
                gap
            } else {
                interval / 2.0
            }
        };
        // The window may start before time 0, where there was nothing either.
        let to_start = seconds((first.at + window).saturating_sub(now));
        let reach = Reach {
            sampled,
            to_start: carried(to_start),
            to_end: carried(seconds(now - last.at)),
        };
        Some((&first.metrics, &last.metrics, reach))
    }

    /// Increase of a counter over the window.
    pub(super) fn increase(
        &self,
        now: Nanos,
        window: Nanos,
        counter: impl Fn(&WorkerMetrics) -> f64,
    ) -> Option<f64> {
        let (first, last, reach) = self.ends(now, window)?;
        Some(reach.increase(counter(first), counter(last)))
    }

    /// Increase of a histogram over the window: every bucket is a counter of its own.
    pub(super) fn histogram_increase(
        &self,
        now: Nanos,
        window: Nanos,
        histogram: impl Fn(&WorkerMetrics) -> &Histogram,
    ) -> Option<Increase> {
        let (first, last, reach) = self.ends(now, window)?;
        let (first, last) = (histogram(first), histogram(last));
        let buckets = first
            .cumulative()
            .zip(last.cumulative())
            .map(|((edge, before), (_, after))| (edge, reach.increase(before as f64, after as f64)))
            .collect();
        Some(Increase {
            buckets,
            count: reach.increase(first.count() as f64, last.count() as f64),
            sum: reach.increase(first.sum(), last.sum()),
        })
    }

    /// Mean of a gauge over the samples after `since`.
    pub(super) fn mean_since(
        &self,
        since: Nanos,
        gauge: impl Fn(&WorkerMetrics) -> f64,
    ) -> Option<f64> {
        let recent = self
            .samples
            .iter()
            .rev()
            .take_while(|sample| sample.at > since || since == 0);
        let (sum, count) = recent.fold((0.0, 0_u32), |(sum, count), sample| {
            (sum + gauge(&sample.metrics), count + 1)
        });
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Most that a gauge was at the samples of the window.
    pub(super) fn most(
        &self,
        now: Nanos,
        window: Nanos,
        gauge: impl Fn(&WorkerMetrics) -> f64,
    ) -> Option<f64> {
        self.within(now, window)
            .map(|sample| gauge(&sample.metrics))
            .max_by(f64::total_cmp)
    }

    /// Least-squares slope of a gauge over the samples of the window, per second.
    pub(super) fn slope_per_second(
        &self,
        now: Nanos,
        window: Nanos,
        gauge: impl Fn(&WorkerMetrics) -> f64,
    ) -> Option<f64> {
        let start = self.within(now, window).next()?.at;
        let points = || {
            self.within(now, window)
                .map(|sample| (seconds(sample.at - start), gauge(&sample.metrics)))
        };
        let count = points().count() as f64;
        let (x, y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (x, y) = (x / count, y / count);
        let spread: f64 = points().map(|point| (point.0 - x).powi(2)).sum();
        let common: f64 = points().map(|point| (point.0 - x) * (point.1 - y)).sum();
        (spread > 0.0).then(|| common / spread)
    }
}
