//! How unevenly requests come: their counts in short spans over a long window.
//!
//! Counts are taken scrape by scrape and put together into spans. Variance is read from the
//! differences of neighbouring spans, so that a slow trend does not look like bursts.

use std::collections::VecDeque;

use pd_core::signal::DISPERSION_SPAN;
use pd_core::{Gap, Reading};

use crate::time::Nanos;

/// Spans that a variance takes.
const SPANS_MIN: usize = 4;

/// Requests that a span must hold on average to say anything.
const COUNT_MEAN_MIN: f64 = 1.0;

/// Requests counted between scrapes, over a sliding window.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: f64,
    scrapes: VecDeque<(Nanos, f64)>,
}

impl Counts {
    /// Adds what one worker finished since its last scrape.
    pub(super) fn add(&mut self, count: f64) {
        self.open += count.max(0.0);
    }

    /// Ends a scrape at `now` and forgets those that are older than the window.
    pub(super) fn close(&mut self, now: Nanos, window: Nanos) {
        self.scrapes.push_back((now, self.open));
        self.open = 0.0;
        let old = |scrape: &(Nanos, f64)| scrape.0 + window <= now;
        while self.scrapes.front().is_some_and(old) {
            self.scrapes.pop_front();
        }
    }

    /// Index of dispersion of the counts: variance over mean.
    pub(super) fn dispersion(&self, now: Nanos) -> Reading {
        let spans = self.spans(now);
        if spans.len() < SPANS_MIN {
            return Reading::Unknown(Gap::TooFewSamples);
        }
        let mean = spans.iter().sum::<f64>() / spans.len() as f64;
        if mean < COUNT_MEAN_MIN {
            return Reading::Unknown(Gap::TooFewSamples);
        }
        let changes = spans.windows(2).map(|pair| (pair[1] - pair[0]).powi(2));
        let squared = changes.sum::<f64>() / (spans.len() - 1) as f64;
        Reading::of(squared / 2.0 / mean)
    }

    /// Counts of whole spans, the newest first. The first scrape of the window tells only when
    /// counting began. Nothing where some span has no scrape.
    fn spans(&self, now: Nanos) -> Vec<f64> {
        let span = Nanos::try_from(DISPERSION_SPAN.as_nanos()).unwrap_or(Nanos::MAX);
        let Some(&(began, _)) = self.scrapes.front() else {
            return Vec::new();
        };
        let whole = usize::try_from((now - began) / span).unwrap_or(0);
        let mut spans = vec![(0.0, 0_u32); whole];
        for &(at, count) in &self.scrapes {
            let index = usize::try_from((now - at) / span).unwrap_or(usize::MAX);
            if let Some(slot) = spans.get_mut(index)
                && at > began
            {
                *slot = (slot.0 + count, slot.1 + 1);
            }
        }
        if spans.iter().any(|(_, scrapes)| *scrapes == 0) {
            return Vec::new();
        }
        spans.into_iter().map(|(count, _)| count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MINUTE, SECOND};

    fn counted(counts: impl IntoIterator<Item = f64>) -> Reading {
        let mut window = Counts::default();
        let mut now = 0;
        for count in counts {
            now += 15 * SECOND;
            window.add(count);
            window.close(now, 10 * MINUTE);
        }
        window.dispersion(now)
    }

    #[test]
    fn steady_requests_have_no_dispersion_even_when_they_grow() {
        assert_eq!(counted(vec![10.0; 40]), Reading::Value(0.0));
        let growing = counted((0..40).map(|n| 100.0 + f64::from(n))).known();
        assert!(growing.unwrap() < 0.05, "{growing:?}");
    }

    #[test]
    fn all_or_nothing_is_far_from_poisson() {
        // 20 or 0 requests in turns over nineteen spans: half the squared change is 200, the mean
        // 200 / 19.
        let bursts = (1..42).map(|n| if n % 4 < 2 { 10.0 } else { 0.0 });
        let dispersion = counted(bursts).known().unwrap();
        assert!((dispersion - 19.0).abs() < 1e-9, "{dispersion}");
    }

    #[test]
    fn too_little_is_not_known() {
        assert_eq!(counted(vec![10.0; 6]), Reading::Unknown(Gap::TooFewSamples));
        let rare = (0..40).map(|n| f64::from(u8::from(n == 7)));
        assert_eq!(counted(rare), Reading::Unknown(Gap::TooFewSamples));
    }
}
