//! The answer to one query, by the tags of its parts.

use std::collections::BTreeMap;

use pd_core::{
    Gap, Reading,
    histogram::Histogram,
    signal::{HistogramReading, name::SignalName},
};

use crate::{
    sample::Sample,
    tag::{BUCKET, Part, TAG, Tag},
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

    pub(super) fn histogram(&self, signal: SignalName) -> HistogramReading {
        if self.failed() {
            return HistogramReading::Unknown(Gap::QueryFailed);
        }
        let number = |part| self.number(Tag::Signal(signal, part));
        let (Some(count), Some(sum)) = (number(Part::Count), number(Part::Sum)) else {
            return HistogramReading::Unknown(Gap::Empty);
        };
        let buckets = self.samples(Tag::Signal(signal, Part::Buckets)).iter();
        let buckets = buckets
            .filter_map(|sample| Some((sample.label(BUCKET).parse().ok()?, sample.value)))
            .collect();
        Histogram::from_cumulative(buckets, count, sum).map_or(
            HistogramReading::Unknown(Gap::NotANumber),
            HistogramReading::Value,
        )
    }
}

fn by_tag(samples: &[Sample]) -> BTreeMap<&str, Vec<&Sample>> {
    let mut parts: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        parts.entry(sample.label(TAG)).or_default().push(sample);
    }
    parts
}
