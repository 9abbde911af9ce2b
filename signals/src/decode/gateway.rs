//! From the samples of the gateway's query to its signals.

use pd_core::{
    Gap, Signals,
    histogram::Histogram,
    signal::{HistogramReading, name::SignalName},
};

use super::answer::Answer;
use crate::{
    gateway::{FirstToken, GATEWAYS, Gateway},
    queries::gateway::RANGE,
    sample::Sample,
    tag::{METRIC, Part, Tag},
};

/// Share of requests that are not streamed from which a time to the first token that holds whole
/// answers says nothing: with one in a hundred its 99th percentile is theirs.
const UNSTREAMED_MAX: f64 = 0.01;

/// Milliseconds in a second: ranges are in the former.
const MILLISECONDS: f64 = 1e3;

/// The gateway that `answer` shows: the one that is `stated`, or the first in the order of their
/// list; nothing where none is there.
pub fn gateway_found<E>(
    answer: &Result<Vec<Sample>, E>,
    stated: Option<&'static Gateway>,
) -> Option<&'static Gateway> {
    let answer = Answer::of(answer);
    let samples = answer.samples(Tag::Gateway);
    let may_be = |gateway: &&Gateway| stated.is_none_or(|stated| stated.name == gateway.name);
    GATEWAYS.into_iter().filter(may_be).find(|gateway| {
        let names = gateway.names();
        let is_shown = |sample: &&Sample| names.contains(&sample.label(METRIC));
        samples.iter().any(is_shown)
    })
}

/// Puts what `answer` has of `gateway` into `signals`. A time to the first token that holds whole
/// answers is left out, and the sentence without its full stop that says so is given back.
pub fn add_gateway<E>(
    answer: &Result<Vec<Sample>, E>,
    gateway: &Gateway,
    signals: &mut Signals,
) -> Option<String> {
    let parts = Answer::of(answer);
    let arrivals = Tag::Signal(SignalName::GatewayArrivalRate, Part::Value);
    signals.gateway_arrival_rate_rps = parts.total(arrivals);
    let unstreamed = match gateway.first_token {
        FirstToken::Absent => return None,
        FirstToken::OfStreams { .. } => unstreamed(&parts),
        FirstToken::Histogram(_) | FirstToken::Ranges(_) => 0.0,
    };
    if unstreamed > UNSTREAMED_MAX {
        return Some(format!(
            "{:.0} % of the answers are not streamed, whose first token {} does not time, so TTFT is \
             that of the engines",
            unstreamed * 100.0,
            gateway.product
        ));
    }
    let ttft = |tag: &dyn Fn(Part) -> Tag| match gateway.first_token {
        FirstToken::Ranges(_) if !parts.failed() => ranges(parts.samples(tag(Part::Ranges))),
        _ => parts.histogram_of(tag),
    };
    signals.recent.gateway_ttft = ttft(&|part| Tag::Signal(SignalName::GatewayTtft, part));
    signals.wide.gateway_ttft = ttft(&|part| Tag::Wide(SignalName::GatewayTtft, part));
    signals.gateway_ttft_attainment =
        ttft(&|part| Tag::Signal(SignalName::GatewayTtftAttainment, part));
    None
}

/// Share of requests that were not streamed; 1 where that is not known.
fn unstreamed(parts: &Answer<'_>) -> f64 {
    let of = |part| {
        parts
            .total(Tag::Signal(SignalName::GatewayTtft, part))
            .known()
    };
    match (of(Part::Share), of(Part::Whole)) {
        (Some(unstreamed), Some(all)) if all > 0.0 => unstreamed / all,
        // No request that is not streamed has ever come: there is no such series.
        (None, Some(_)) => 0.0,
        _ => 1.0,
    }
}

/// A histogram of counters of disjoint ranges. The sum of the observations is not published, so
/// each counts as the middle of its range, and one in the open range as its lower edge.
fn ranges(samples: &[&Sample]) -> HistogramReading {
    let read = |sample: &&Sample| Some((range(sample.label(RANGE))?, sample.value));
    let mut counted: Vec<((f64, f64), f64)> = samples.iter().filter_map(read).collect();
    if counted.is_empty() {
        return HistogramReading::Unknown(Gap::Empty);
    }
    counted.sort_by(|((_, one), _), ((_, other), _)| one.total_cmp(other));
    let (mut buckets, mut count, mut sum) = (Vec::new(), 0.0, 0.0);
    for ((low, high), observations) in counted {
        count += observations;
        let middle = if high.is_finite() {
            f64::midpoint(low, high)
        } else {
            low
        };
        sum += observations * middle;
        buckets.push((high, count));
    }
    Histogram::from_cumulative(buckets, count, sum).map_or(
        HistogramReading::Unknown(Gap::NotANumber),
        HistogramReading::Value,
    )
}

/// The edges in seconds of `100-200ms` or `5000ms+`.
fn range(label: &str) -> Option<(f64, f64)> {
    let number = |text: &str| Some(text.parse::<f64>().ok()? / MILLISECONDS);
    if let Some(low) = label.strip_suffix("ms+") {
        return Some((number(low)?, f64::INFINITY));
    }
    let (low, high) = label.strip_suffix("ms")?.split_once('-')?;
    Some((number(low)?, number(high)?))
}

#[cfg(test)]
mod tests {
    use pd_core::Reading;
    use rstest::rstest;

    use super::*;
    use crate::{
        gateway::{AIBRIX, KTHENA, SMG},
        tag::TAG,
    };

    fn sample(tag: Tag, labels: &[(&str, &str)], value: f64) -> Sample {
        let tag = (TAG.to_owned(), tag.to_string());
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Sample {
            labels: labels.chain([tag]).collect(),
            value,
        }
    }

    fn read(samples: Vec<Sample>, gateway: &Gateway) -> (Signals, Option<String>) {
        let mut signals = Signals::default();
        let answer: Result<Vec<Sample>, ()> = Ok(samples);
        let note = add_gateway(&answer, gateway, &mut signals);
        (signals, note)
    }

    #[rstest]
    #[case::a_range("100-200ms", Some((0.1, 0.2)))]
    #[case::the_first("0-1ms", Some((0.0, 0.001)))]
    #[case::the_open_one("5000ms+", Some((5.0, f64::INFINITY)))]
    #[case::tokens("0-256", None)]
    #[case::nonsense("slow", None)]
    fn ranges_have_their_edges_in_their_names(
        #[case] label: &str,
        #[case] edges: Option<(f64, f64)>,
    ) {
        assert_eq!(range(label), edges);
    }

    #[test]
    fn disjoint_ranges_add_up_from_the_shortest_whatever_their_order() {
        let tag = Tag::Signal(SignalName::GatewayTtft, Part::Ranges);
        let counted = [("1000-2000ms", 10.0), ("5000ms+", 5.0), ("100-200ms", 85.0)];
        let samples = counted.map(|(label, value)| sample(tag, &[(RANGE, label)], value));
        let (signals, _) = read(samples.to_vec(), &AIBRIX);
        let ttft = signals.recent.gateway_ttft.with_samples(1.0).unwrap();
        assert_eq!(ttft.cumulative(), [(0.2, 85.0), (2.0, 95.0)]);
        assert!((ttft.count() - 100.0).abs() < 1e-9);
        assert_eq!(ttft.share_at_or_below(0.2), Some(0.85));
        assert_eq!(signals.wide.gateway_ttft.gap(), Some(Gap::Empty));
    }

    #[rstest]
    #[case::all_streamed(&[(Part::Share, 0.0), (Part::Whole, 100.0)], true)]
    #[case::none_was_ever_not_streamed(&[(Part::Whole, 100.0)], true)]
    #[case::some_are_not(&[(Part::Share, 5.0), (Part::Whole, 100.0)], false)]
    #[case::nothing_is_known_of_it(&[], false)]
    fn a_first_token_that_may_be_a_whole_answer_is_not_read(
        #[case] shares: &[(Part, f64)],
        #[case] is_read: bool,
    ) {
        let ttft = |part| Tag::Signal(SignalName::GatewayTtft, part);
        let mut samples = vec![
            sample(ttft(Part::Buckets), &[("edge", "0.5")], 90.0),
            sample(ttft(Part::Count), &[], 100.0),
            sample(ttft(Part::Sum), &[], 30.0),
        ];
        samples.extend(
            shares
                .iter()
                .map(|(part, value)| sample(ttft(*part), &[], *value)),
        );
        let (signals, note) = read(samples, &SMG);
        assert_eq!(signals.recent.gateway_ttft.mean().is_some(), is_read);
        assert_eq!(note.is_some(), !is_read);
    }

    #[test]
    fn a_gateway_without_a_first_token_gives_arrivals_alone() {
        let arrivals = Tag::Signal(SignalName::GatewayArrivalRate, Part::Value);
        let (signals, note) = read(vec![sample(arrivals, &[], 3.0)], &KTHENA);
        assert_eq!(signals.gateway_arrival_rate_rps, Reading::Value(3.0));
        assert_eq!(signals.recent.gateway_ttft, HistogramReading::default());
        assert_eq!(note, None);
    }

    #[test]
    fn the_gateway_is_the_first_of_those_that_are_there() {
        let there = |name: &str| sample(Tag::Gateway, &[(METRIC, name)], 1.0);
        let answer: Result<Vec<Sample>, ()> = Ok(vec![
            there("kthena_router_requests_total"),
            there("smg_router_requests_total"),
        ]);
        let found = |stated| gateway_found(&answer, stated).map(|found| found.name);
        assert_eq!(found(None), Some("SMG"));
        assert_eq!(found(Some(&KTHENA)), Some("Kthena"));
        assert_eq!(found(Some(&AIBRIX)), None);
        assert!(gateway_found::<()>(&Ok(vec![]), None).is_none());
        assert!(gateway_found(&Err(()), None).is_none());
    }
}
