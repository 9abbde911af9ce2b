//! One histogram over the long attainment window, kept up to date scrape by scrape.
//!
//! The increases of all workers between two scrapes are added up; those of scrapes that fall out of
//! the window are taken off again. An hour of buckets thus costs the same per scrape as a minute.
//! Only shares are read from it, so nothing is carried to the window's ends.

use std::collections::VecDeque;

use pd_core::Gap;
use pd_core::histogram::Histogram as Distribution;
use pd_core::signal::HistogramReading;

use crate::engine::Histogram;
use crate::time::Nanos;

/// Cumulative counts by bucket, the last one holding all, and the sum of the values.
#[derive(Clone, Debug)]
struct Counts {
    buckets: Vec<u64>,
    sum: f64,
}

/// A histogram over a sliding window.
#[derive(Debug)]
pub(super) struct Attainment {
    edges: &'static [f64],
    /// The increase since the last scrape, over all workers.
    open: Counts,
    scrapes: VecDeque<(Nanos, Counts)>,
    total: Counts,
}

impl Attainment {
    pub(super) fn new(edges: &'static [f64]) -> Self {
        let none = Counts {
            buckets: vec![0; edges.len() + 1],
            sum: 0.0,
        };
        Self {
            edges,
            open: none.clone(),
            scrapes: VecDeque::new(),
            total: none,
        }
    }

    /// Adds what one worker observed between two of its scrapes.
    pub(super) fn add(&mut self, before: &Histogram, after: &Histogram) {
        let increases = before.cumulative().zip(after.cumulative());
        for (bucket, ((_, before), (_, after))) in self.open.buckets.iter_mut().zip(increases) {
            *bucket += after.saturating_sub(before);
        }
        self.open.sum += (after.sum() - before.sum()).max(0.0);
    }

    /// Ends a scrape at `now` and forgets those that are older than the window.
    pub(super) fn close(&mut self, now: Nanos, window: Nanos) {
        let none = Counts {
            buckets: vec![0; self.edges.len() + 1],
            sum: 0.0,
        };
        let scrape = std::mem::replace(&mut self.open, none);
        for (total, more) in self.total.buckets.iter_mut().zip(&scrape.buckets) {
            *total += more;
        }
        self.total.sum += scrape.sum;
        self.scrapes.push_back((now, scrape));
        while self
            .scrapes
            .front()
            .is_some_and(|(at, _)| at + window <= now)
        {
            let Some((_, old)) = self.scrapes.pop_front() else {
                break;
            };
            for (total, less) in self.total.buckets.iter_mut().zip(&old.buckets) {
                *total -= less;
            }
            self.total.sum = (self.total.sum - old.sum).max(0.0);
        }
    }

    pub(super) fn reading(&self) -> HistogramReading {
        let edges = self.edges.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, f64)> = edges
            .zip(&self.total.buckets)
            .map(|(edge, n)| (edge, *n as f64))
            .collect();
        let count = buckets.last().map_or(0.0, |bucket| bucket.1);
        Distribution::from_cumulative(buckets, count, self.total.sum).map_or(
            HistogramReading::Unknown(Gap::NotANumber),
            HistogramReading::Value,
        )
    }
}
