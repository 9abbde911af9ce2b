//! Numbers from distributions, each with how good it is.
//!
//! A tail needs samples: below two observations beyond the percentile, and twenty in all, the rate
//! window gives way to the wide one, and that to the mean, which is then said to be one. A mean
//! informs users and judges nothing: one outlier among twelve requests is not a p99. A number that
//! the buckets clip says on which side the truth lies, and judges only when that settles it.

use serde::{Deserialize, Serialize};

use super::{Gap, HistogramReading};
use crate::histogram::{Bound, Histogram};

/// Fewest observations for any quantile: below, one slow request is 5 %.
const QUANTILE_SAMPLES_MIN: f64 = 20.0;

/// Observations that must lie beyond a percentile.
const TAIL_SAMPLES_MIN: f64 = 2.0;

/// Observations from which the rate window gives a mean of its own.
const MEAN_SAMPLES_ENOUGH: f64 = 10.0;

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The engines' metrics over the rate window, or their gauges.
    Engine,
    /// The engines' metrics over the wide window.
    WideWindow,
    /// The gateway's metrics.
    Gateway,
    /// The user's own query.
    UserQuery,
}

/// A latency with its quality.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// Seconds.
    pub value: f64,
    /// Where it comes from.
    pub source: Source,
    /// Observations behind it; nothing for the user's own query.
    pub samples: Option<f64>,
    /// On which side the truth may lie.
    pub bound: Bound,
    /// It is the mean, because there are too few observations for the percentile.
    pub is_mean: bool,
}

impl Estimate {
    /// The number of the user's own query.
    pub const fn stated(value: f64) -> Self {
        Self {
            value,
            source: Source::UserQuery,
            samples: None,
            bound: Bound::Near,
            is_mean: false,
        }
    }

    /// Whether the true number is over `limit`; nothing where this one does not settle it.
    pub fn exceeds(&self, limit: f64) -> Option<bool> {
        match (self.is_mean, self.bound) {
            (true, _) => None,
            (false, Bound::Near) => Some(self.value > limit),
            (false, Bound::AtLeast) => (self.value >= limit).then_some(true),
            (false, Bound::AtMost) => (self.value <= limit).then_some(false),
        }
    }

    /// The same, of each of `count` parts.
    #[must_use]
    pub fn over(self, count: f64) -> Self {
        Self {
            value: self.value / count,
            ..self
        }
    }

    /// The same, as the gateway before the workers published it.
    #[must_use]
    pub const fn at_gateway(self) -> Self {
        Self {
            source: Source::Gateway,
            ..self
        }
    }

    /// The same, later by `seconds`.
    #[must_use]
    pub fn plus(self, seconds: f64) -> Self {
        Self {
            value: self.value + seconds,
            ..self
        }
    }

    /// A caveat to add to the number; nothing when it is as good as any.
    pub fn remark(&self) -> Option<String> {
        let samples = self.samples.unwrap_or(0.0);
        if self.is_mean {
            return Some(format!(
                "the mean of {samples:.0} requests, too few for a percentile"
            ));
        }
        match (self.bound, self.source) {
            (Bound::AtLeast, _) => Some(
                "at least: it lies beyond the last bucket, so the growth of the queue decides"
                    .to_owned(),
            ),
            (Bound::AtMost, _) => Some("at most: it lies in the first bucket".to_owned()),
            (Bound::Near, Source::WideWindow) => {
                Some(format!("over ten minutes, from {samples:.0} requests"))
            }
            (Bound::Near, _) => None,
        }
    }
}

/// Observations that a quantile at `share` (0 to 1) needs.
pub fn samples_min(share: f64) -> f64 {
    (TAIL_SAMPLES_MIN / (1.0 - share)).max(QUANTILE_SAMPLES_MIN)
}

/// The quantile at `share` (0 to 1) from the best window that has enough samples, else the mean.
pub fn quantile(
    recent: &HistogramReading,
    wide: &HistogramReading,
    share: f64,
) -> Result<Estimate, Gap> {
    let needed = samples_min(share);
    for (reading, source) in [(recent, Source::Engine), (wide, Source::WideWindow)] {
        let Ok(histogram) = reading.with_samples(needed) else {
            continue;
        };
        if let Some(quantile) = histogram.quantile(share) {
            return Ok(Estimate {
                value: quantile.value,
                source,
                samples: Some(histogram.count()),
                bound: quantile.bound,
                is_mean: false,
            });
        }
    }
    mean(recent, wide)
}

/// The mean from the rate window if it has ten observations, else from the wide one if that has any
/// more.
pub fn mean(recent: &HistogramReading, wide: &HistogramReading) -> Result<Estimate, Gap> {
    let (histogram, source) = better(recent, wide)?;
    let value = histogram.mean().ok_or(Gap::TooFewSamples)?;
    Ok(Estimate {
        value,
        source,
        samples: Some(histogram.count()),
        bound: Bound::Near,
        is_mean: true,
    })
}

/// The distribution to take means and moments from.
pub fn better<'a>(
    recent: &'a HistogramReading,
    wide: &'a HistogramReading,
) -> Result<(&'a Histogram, Source), Gap> {
    if let Ok(histogram) = recent.with_samples(MEAN_SAMPLES_ENOUGH) {
        return Ok((histogram, Source::Engine));
    }
    match (recent.with_samples(1.0), wide.with_samples(1.0)) {
        (Ok(recent), Ok(wide)) if recent.count() >= wide.count() => Ok((recent, Source::Engine)),
        (_, Ok(wide)) => Ok((wide, Source::WideWindow)),
        (Ok(recent), Err(_)) => Ok((recent, Source::Engine)),
        (Err(gap), Err(_)) => Err(gap),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `count` observations, nine in ten at 0.1 s and the others at 2 s; `beyond` more at 20 s.
    fn latencies(count: f64, beyond: f64) -> HistogramReading {
        let (fast, all) = (count * 0.9, count);
        let buckets = vec![(0.05, 0.0), (0.15, fast), (1.9, fast), (2.1, all)];
        let sum = fast * 0.1 + (all - fast) * 2.0 + beyond * 20.0;
        HistogramReading::Value(Histogram::from_cumulative(buckets, all + beyond, sum).unwrap())
    }

    const NONE: HistogramReading = HistogramReading::Unknown(Gap::Empty);

    #[rstest]
    #[case::p50(0.5, 20.0)]
    #[case::p95(0.95, 40.0)]
    #[case::p99(0.99, 200.0)]
    fn a_deeper_tail_needs_more_requests(#[case] share: f64, #[case] needed: f64) {
        assert!((samples_min(share) - needed).abs() < 1e-9);
    }

    #[test]
    fn p99_of_twelve_requests_is_read_over_ten_minutes() {
        let estimate = quantile(&latencies(12.0, 0.0), &latencies(300.0, 0.0), 0.99).unwrap();
        assert_eq!(estimate.source, Source::WideWindow);
        assert!(estimate.value > 1.9 && !estimate.is_mean);
        let remark = estimate.remark().unwrap();
        assert_eq!(remark, "over ten minutes, from 300 requests");
    }

    #[test]
    fn a_mean_in_place_of_a_percentile_says_so_and_condemns_nobody() {
        let estimate = quantile(&latencies(12.0, 1.0), &latencies(15.0, 1.0), 0.99).unwrap();
        assert!(estimate.is_mean);
        assert_eq!(estimate.exceeds(0.5), None);
        let remark = estimate.remark().unwrap();
        assert_eq!(remark, "the mean of 13 requests, too few for a percentile");
    }

    #[test]
    fn ttft_beyond_the_last_bucket_misses_a_limit_that_lies_before_it_and_settles_no_other() {
        let estimate = quantile(&latencies(50.0, 50.0), &NONE, 0.95).unwrap();
        assert_eq!((estimate.value, estimate.bound), (2.1, Bound::AtLeast));
        assert_eq!(estimate.exceeds(1.0), Some(true));
        assert_eq!(estimate.exceeds(10.0), None);
        assert!(estimate.remark().unwrap().contains("growth of the queue"));
    }

    #[test]
    fn tpot_in_the_first_bucket_keeps_a_limit_behind_it_and_settles_no_other() {
        let all_fast = Histogram::from_cumulative(vec![(0.01, 90.0), (0.025, 90.0)], 90.0, 0.6);
        let estimate = quantile(&HistogramReading::Value(all_fast.unwrap()), &NONE, 0.95).unwrap();
        assert_eq!(estimate.exceeds(0.05), Some(false));
        assert_eq!(estimate.exceeds(0.005), None);
    }

    #[test]
    fn without_any_request_there_is_no_latency_and_the_cause_is_stated() {
        assert_eq!(quantile(&NONE, &NONE, 0.95), Err(Gap::Empty));
        assert_eq!(
            quantile(&latencies(0.0, 0.0), &NONE, 0.95),
            Err(Gap::TooFewSamples)
        );
    }
}
