//! The answer to one query, by the tags of its parts.

use std::collections::BTreeMap;

use pd_core::{
    Gap, Reading,
    histogram::Histogram,
    signal::{HistogramReading, name::SignalName},
};

use crate::{
    sample::Sample,
    tag::{EDGE, NATIVE, NATIVE_BUCKET, NATIVE_COUNT, NATIVE_SUM, Part, TAG, Tag},
};

/// Samples by the tag of their part; nothing when the query failed.
pub(super) struct Answer<'a>(Option<BTreeMap<&'a str, Vec<&'a Sample>>>);

impl<'a> Answer<'a> {
    pub(super) fn of<E>(answer: &'a Result<Vec<Sample>, E>) -> Self {
        Self(answer.as_deref().ok().map(by_tag))
    }

    pub(super) fn of_samples(samples: &'a [Sample]) -> Self {
        Self(Some(by_tag(samples)))
    }

    pub(super) const fn failed(&self) -> bool {
        self.0.is_none()
    }

    /// The samples of a part, in their order.
    pub(super) fn samples(&self, tag: Tag) -> &[&'a Sample] {
        let parts = self.0.as_ref();
        parts
            .and_then(|parts| parts.get(tag.to_string().as_str()))
            .map_or(&[], Vec::as_slice)
    }

    /// The number of a part that is one.
    fn number(&self, tag: Tag) -> Option<f64> {
        self.samples(tag).first().map(|sample| sample.value)
    }

    /// A sum that Prometheus made, workers that have left included: what they served was served.
    pub(super) fn total(&self, tag: Tag) -> Reading {
        if self.failed() {
            return Reading::Unknown(Gap::QueryFailed);
        }
        self.number(tag)
            .map_or(Reading::Unknown(Gap::Empty), Reading::of)
    }

    /// The histogram of `signal`: the classic one, or the native one where there is no other, or an
    /// even spread where only the mean is known.
    pub(super) fn histogram(&self, signal: SignalName) -> HistogramReading {
        if self.failed() {
            return HistogramReading::Unknown(Gap::QueryFailed);
        }
        let found = self
            .classic(&|part| Tag::Signal(signal, part))
            .or_else(|| self.native(signal))
            .or_else(|| self.even(signal));
        read(found)
    }

    /// The classic histogram whose parts have the tags of `tag`.
    pub(super) fn histogram_of(&self, tag: &dyn Fn(Part) -> Tag) -> HistogramReading {
        if self.failed() {
            return HistogramReading::Unknown(Gap::QueryFailed);
        }
        read(self.classic(tag))
    }

    fn classic(&self, tag: &dyn Fn(Part) -> Tag) -> Option<Parts> {
        let number = |part| self.number(tag(part));
        let (count, sum) = number(Part::Count).zip(number(Part::Sum))?;
        let buckets = self.samples(tag(Part::Buckets));
        Some(Parts {
            buckets: edges(buckets.iter().copied()),
            count,
            sum,
        })
    }

    /// Of an engine that counts tokens and requests and has no distribution: lengths spread evenly
    /// from none to twice their mean, for nothing is known but that.
    fn even(&self, signal: SignalName) -> Option<Parts> {
        let number = |part| self.number(Tag::Signal(signal, part));
        let (sum, count) = number(Part::Tokens).zip(number(Part::Requests))?;
        let edge = if count > 0.0 { 2.0 * sum / count } else { 1.0 };
        Some(Parts {
            buckets: vec![(edge, count)],
            count,
            sum,
        })
    }

    fn native(&self, signal: SignalName) -> Option<Parts> {
        let all = self.samples(Tag::Signal(signal, Part::Native));
        let named = |name| {
            all.iter()
                .copied()
                .filter(move |sample| sample.label(NATIVE) == name)
        };
        let number = |name| named(name).next().map(|sample: &Sample| sample.value);
        let (count, sum) = number(NATIVE_COUNT).zip(number(NATIVE_SUM))?;
        Some(Parts {
            buckets: edges(named(NATIVE_BUCKET)),
            count,
            sum,
        })
    }
}

/// The parts of a histogram.
struct Parts {
    /// `(upper edge, observations up to it)`; an edge may be there in several spellings.
    buckets: Vec<(f64, f64)>,
    count: f64,
    sum: f64,
}

/// The histogram of `parts`, if there are any.
fn read(parts: Option<Parts>) -> HistogramReading {
    let Some(parts) = parts else {
        return HistogramReading::Unknown(Gap::Empty);
    };
    let Parts {
        buckets,
        count,
        sum,
    } = parts;
    Histogram::from_cumulative(merged(buckets, count), count, sum).map_or(
        HistogramReading::Unknown(Gap::NotANumber),
        HistogramReading::Value,
    )
}

/// `(upper edge, observations up to it)` of samples.
fn edges<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<(f64, f64)> {
    samples
        .filter_map(|sample| Some((sample.label(EDGE).parse().ok()?, sample.value)))
        .collect()
}

/// The buckets, each edge once. Pipelines spell edges in ways that no query makes one of. Where
/// workers come through different pipelines, the counts at an edge add up. Where each worker comes
/// through several, the sum is more than was observed, and the largest is all of it.
fn merged(mut buckets: Vec<(f64, f64)>, count: f64) -> Vec<(f64, f64)> {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let join = |join: fn(f64, f64) -> f64| {
        let mut once: Vec<(f64, f64)> = Vec::with_capacity(buckets.len());
        for &(edge, observations) in &buckets {
            match once.last_mut() {
                Some((last, joined)) if last.total_cmp(&edge).is_eq() => {
                    *joined = join(*joined, observations);
                }
                _ => once.push((edge, observations)),
            }
        }
        once
    };
    let added = join(|a, b| a + b);
    // Counters that are extrapolated differ a little from bucket to bucket.
    let is_more = |(_, observations): &(f64, f64)| *observations > count * MORE_THAN_ALL;
    if added.len() < buckets.len() && added.iter().any(is_more) {
        return join(f64::max);
    }
    added
}

/// Times all observations from which a bucket has more than there were.
const MORE_THAN_ALL: f64 = 1.05;

fn by_tag(samples: &[Sample]) -> BTreeMap<&str, Vec<&Sample>> {
    let mut parts: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        parts.entry(sample.label(TAG)).or_default().push(sample);
    }
    parts
}
