//! Samples as Prometheus gives them, and the signals they must become.

use pd_core::signal::{
    HistogramReading,
    name::{Kind, Slot},
};

use super::*;
use crate::{
    engine::VLLM,
    tag::{EDGE, POD, TAG},
};

fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Sample { labels, value }
}

fn part(tag: Tag, labels: &[(&str, &str)], value: f64) -> Sample {
    let tag = tag.to_string();
    let labels = [&[(TAG, tag.as_str())], labels].concat();
    sample(&labels, value)
}

fn pod(tag: Tag, name: &str, value: f64) -> Sample {
    part(tag, &[(POD, name)], value)
}

const fn value(signal: SignalName) -> Tag {
    Tag::Signal(signal, Part::Value)
}

/// The error of nobody in particular.
#[derive(Debug, PartialEq)]
struct Failed;

fn answers(state: Vec<Sample>) -> Answers<Failed> {
    Answers {
        partial: false,
        state: Ok(state),
        histograms: Ok(vec![]),
        wide: Ok(vec![]),
        attainment: Ok(vec![]),
        overrides: Overrides::default(),
    }
}

fn scope() -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "inference".into(),
        prefill_pods: "p-.*".into(),
        decode_pods: "d-.*".into(),
        selectors: vec![],
        window: Duration::from_mins(2),
        attainment_window: Duration::from_hours(1),
    }
}

fn read(answers: &Answers<Failed>, prefill: &[&str], decode: &[&str]) -> Signals {
    let names = |pods: &[&str]| pods.iter().map(|pod| (*pod).to_owned()).collect::<Vec<_>>();
    let (prefill, decode) = (names(prefill), names(decode));
    let ready = PerRole {
        prefill: prefill.as_slice(),
        decode: decode.as_slice(),
    };
    signals(answers, ready, &scope(), Duration::from_secs(30))
}

#[test]
fn readings_of_pods_that_are_gone_are_dropped() {
    let answers = answers(vec![
        pod(Tag::Age, "p-0", 3.0),
        pod(Tag::Age, "p-gone", 3.0),
        pod(value(SignalName::PrefillWaitingRequests), "p-0", 2.0),
        pod(value(SignalName::PrefillWaitingRequests), "p-gone", 40.0),
    ]);
    let signals = read(&answers, &["p-0"], &[]);
    assert_eq!(signals.waiting_requests.prefill, Reading::Value(2.0));
    assert_eq!(signals.coverage.prefill.scraped, 1);
}

#[test]
fn what_a_worker_served_before_it_left_still_counts() {
    let answers = answers(vec![
        pod(Tag::Age, "d-0", 1.0),
        part(value(SignalName::OutputTokenRate), &[], 120.0),
    ]);
    let signals = read(&answers, &[], &["d-0"]);
    assert_eq!(signals.output_token_rate_tps, Reading::Value(120.0));
}

#[test]
fn stale_pods_are_neither_counted_nor_read() {
    let answers = answers(vec![
        pod(Tag::Age, "d-0", 31.0),
        pod(value(SignalName::DecodeRunningRequests), "d-0", 5.0),
    ]);
    let signals = read(&answers, &[], &["d-0"]);
    assert_eq!(signals.coverage.decode.scraped, 0);
    assert_eq!(
        signals.running_requests.decode,
        Reading::Unknown(Gap::Stale)
    );
}

#[test]
fn an_answer_that_waited_is_as_old_as_its_samples_and_the_wait_together() {
    let read_after = |wait_s: u64| {
        let mut state = vec![
            pod(Tag::Age, "d-0", 20.0),
            pod(Tag::Seen, "d-0", 40.0),
            pod(value(SignalName::DecodeRunningRequests), "d-0", 5.0),
        ];
        grow_old(&mut state, Duration::from_secs(wait_s));
        read(&answers(state), &[], &["d-0"])
    };
    let fresh = read_after(10);
    assert_eq!(fresh.running_requests.decode, Reading::Value(5.0));
    let age = fresh.coverage.decode.oldest_age;
    assert_eq!(age, Some(Duration::from_secs(30)));
    // Every number but the age is what it was.
    assert_eq!(fresh.coverage.decode.seen, 1);
    let stale = read_after(11);
    assert_eq!(stale.running_requests.decode, Reading::Unknown(Gap::Stale));
}

#[test]
fn a_zero_is_known_only_when_every_worker_is_scraped() {
    let answers = answers(vec![
        pod(Tag::Age, "p-0", 1.0),
        part(value(SignalName::PrefillCompletionRate), &[], 0.0),
    ]);
    let rate = |ready: &[&str]| read(&answers, ready, &[]).prefill_completion_rate_rps;
    assert_eq!(rate(&["p-0"]), Reading::KnownZero);
    assert_eq!(rate(&["p-0", "p-1"]), Reading::Value(0.0));
}

#[test]
fn a_failed_query_is_unknown_and_says_so() {
    let down = || Err(Failed);
    let answers = Answers {
        partial: false,
        state: down(),
        histograms: down(),
        wide: down(),
        attainment: down(),
        overrides: Overrides {
            ttft: Some(down()),
            ..Overrides::default()
        },
    };
    let signals = read(&answers, &["p-0"], &["d-0"]);
    assert_eq!(
        signals.waiting_requests.prefill,
        Reading::Unknown(Gap::QueryFailed)
    );
    assert_eq!(
        signals.recent.prefill_ttft,
        HistogramReading::Unknown(Gap::QueryFailed)
    );
    assert_eq!(
        signals.ttft_seconds_override,
        Reading::Unknown(Gap::QueryFailed)
    );
    assert_eq!(
        signals.tpot_seconds_override,
        Reading::Unknown(Gap::NotAsked)
    );
}

#[test]
fn an_own_query_must_give_one_value() {
    let stated = |samples: Vec<Sample>| {
        let overrides = Overrides {
            arrival_rate: Some(Ok(samples)),
            ..Overrides::default()
        };
        read(
            &Answers {
                overrides,
                ..answers(vec![])
            },
            &[],
            &[],
        )
        .arrival_rate_rps_override
    };
    assert_eq!(stated(vec![sample(&[], 3.5)]), Reading::Value(3.5));
    assert_eq!(stated(vec![]), Reading::Unknown(Gap::Empty));
    assert_eq!(
        stated(vec![sample(&[], 1.0), sample(&[], 2.0)]),
        Reading::Unknown(Gap::NotANumber)
    );
}

#[test]
fn histograms_are_put_together_from_their_parts() {
    let of = |part| Tag::Signal(SignalName::Tpot, part);
    let bucket = |le: &str, n| part(of(Part::Buckets), &[(EDGE, le)], n);
    let histograms = vec![
        bucket("0.05", 30.0),
        bucket("+Inf", 40.0),
        bucket("0.025", 10.0),
        part(of(Part::Count), &[], 40.0),
        part(of(Part::Sum), &[], 1.2),
    ];
    let answers = Answers {
        histograms: Ok(histograms),
        ..answers(vec![])
    };
    let HistogramReading::Value(tpot) = read(&answers, &[], &[]).recent.tpot else {
        panic!("no histogram")
    };
    assert_eq!((tpot.count(), tpot.mean()), (40.0, Some(0.03)));
    assert_eq!(tpot.share_at_or_below(0.05), Some(0.75));
}

#[test]
fn the_engine_is_known_by_the_names_it_uses() {
    let named = |names: &[&str]| {
        let samples = names
            .iter()
            .map(|name| part(Tag::Generation, &[(METRIC, name)], 1.0))
            .collect();
        engine(&answers(samples), &scope())
    };
    assert_eq!(named(&["vllm:kv_cache_usage_perc"]), Some("VLLM"));
    assert_eq!(
        named(&["vllm:gpu_cache_usage_perc"]),
        Some("VLLM (names before 0.9.2)")
    );
    assert_eq!(named(&[]), None);
}

#[test]
fn a_sample_from_the_future_is_reported_as_clock_skew() {
    let read_at = |age: f64| {
        let answers = answers(vec![
            pod(Tag::Age, "d-0", age),
            pod(value(SignalName::DecodeRunningRequests), "d-0", 5.0),
        ]);
        read(&answers, &[], &["d-0"])
    };
    let skewed = read_at(-45.0);
    assert_eq!(
        skewed.running_requests.decode,
        Reading::Unknown(Gap::ClockSkew)
    );
    assert_eq!(skewed.coverage.decode.scraped, 0);
    let slightly = read_at(-3.0);
    assert_eq!(slightly.running_requests.decode, Reading::Value(5.0));
    assert_eq!(slightly.coverage.decode.oldest_age, Some(Duration::ZERO));
}

#[test]
fn an_idle_pod_without_a_number_is_left_out_of_the_mean() {
    let answers = answers(vec![
        pod(Tag::Age, "d-0", 1.0),
        pod(Tag::Age, "d-1", 1.0),
        pod(value(SignalName::DecodeKvUsage), "d-0", 0.6),
        pod(value(SignalName::DecodeKvUsage), "d-1", f64::NAN),
    ]);
    let signals = read(&answers, &[], &["d-0", "d-1"]);
    assert_eq!(signals.decode_kv_usage, Reading::Value(0.6));
}

#[test]
fn a_pod_that_was_scraped_and_is_not_any_more_is_missing_and_a_new_one_is_not() {
    let answers = answers(vec![
        pod(Tag::Age, "d-0", 1.0),
        pod(Tag::Seen, "d-0", 40.0),
        pod(Tag::Seen, "d-1", 39.0),
    ]);
    let coverage = read(&answers, &[], &["d-0", "d-1", "d-new"])
        .coverage
        .decode;
    assert_eq!((coverage.scraped, coverage.seen), (1, 2));
}

#[test]
fn kv_caches_are_as_large_as_the_engines_of_a_pod_say() {
    let config = |name: &str, blocks: &str, engines: f64| {
        let labels = [
            (POD, name),
            ("block_size", "16"),
            ("num_gpu_blocks", blocks),
        ];
        part(value(SignalName::DecodeKvCapacity), &labels, engines)
    };
    let read_with = |config: Vec<Sample>| {
        let mut state = vec![pod(Tag::Age, "d-0", 1.0), pod(Tag::Age, "d-1", 1.0)];
        state.extend(config);
        read(&answers(state), &[], &["d-0", "d-1"]).decode_kv_capacity_tokens
    };
    let capacity = read_with(vec![
        config("d-0", "1000", 2.0),
        config("d-1", "3000", 1.0),
        config("d-gone", "9000", 1.0),
    ]);
    assert_eq!(capacity, Reading::Value(40_000.0));
    let unknown = read_with(vec![config("d-0", "None", 1.0)]);
    assert_eq!(unknown, Reading::Unknown(Gap::Empty));
}

#[test]
fn prefix_hits_are_a_share_of_what_was_looked_up() {
    let of = |part| Tag::Signal(SignalName::PrefixHitShare, part);
    let hits = |hits: f64, lookups: f64| {
        let rates = vec![
            part(of(Part::Share), &[], hits),
            part(of(Part::Whole), &[], lookups),
        ];
        read(&answers(rates), &[], &[]).prefix_hit_share
    };
    assert_eq!(hits(300.0, 1_000.0), Reading::Value(0.3));
    assert_eq!(hits(0.0, 0.0), Reading::Unknown(Gap::TooFewSamples));
}

#[test]
fn dispersion_is_half_the_squared_change_over_the_mean() {
    let tag = |part| Tag::Signal(SignalName::ArrivalDispersion, part);
    let of = |mean: f64, squared: f64| {
        let counts = vec![
            part(tag(Part::Mean), &[], mean),
            part(tag(Part::SquaredChange), &[], squared),
        ];
        read(&answers(counts), &[], &[]).arrival_dispersion
    };
    assert_eq!(of(50.0, 300.0), Reading::Value(3.0));
    assert_eq!(of(0.2, 0.4), Reading::Unknown(Gap::TooFewSamples));
    assert_eq!(of(f64::NAN, 1.0), Reading::Unknown(Gap::NotANumber));
}

/// A plausible sample for each part of `query`, of a pod of each role.
fn answered(query: &str, left_out: Option<&str>) -> Vec<Sample> {
    let marker = format!("\"{TAG}\", \"");
    let tags = query.split(&marker).skip(1);
    let tags = tags.filter_map(|rest| rest.split_once('"').map(|(tag, _)| tag));
    let labels = |tag, pod| {
        let labels = [
            (TAG, tag),
            (POD, pod),
            (EDGE, "10"),
            (METRIC, VLLM.generation.names[0]),
            ("block_size", "16"),
            ("num_gpu_blocks", "100"),
        ];
        let often = tag == Tag::Samples.to_string();
        sample(&labels, if often { 40.0 } else { 1.0 })
    };
    tags.filter(|tag| Some(*tag) != left_out)
        .flat_map(|tag| ["p-0", "d-0"].map(|pod| labels(tag, pod)))
        .collect()
}

/// Whether each signal is known, who was seen, and whether the engine, the scrape interval,
/// addresses and the model are.
type Read = (Vec<(SignalName, bool)>, PerRole<u32>, [bool; 4]);

/// All queries answered but for the parts of one tag.
fn all_answered(left_out: Option<&str>) -> Read {
    let scope = scope();
    let one_of_each_bucket = |query: &str| {
        let mut samples = answered(query, left_out);
        samples.retain(|sample| sample.label(POD) == "p-0");
        samples
    };
    let answers = Answers {
        partial: false,
        state: Ok(answered(&scope.state_query(), left_out)),
        histograms: Ok(one_of_each_bucket(&scope.histogram_query())),
        wide: Ok(one_of_each_bucket(&scope.wide_query())),
        attainment: Ok(one_of_each_bucket(&scope.attainment_query())),
        overrides: Overrides::default(),
    };
    let signals = read(&answers, &["p-0"], &["d-0"]);
    let known = |signal: &SignalName| match signals.slot(*signal) {
        Slot::Number(reading) => reading.known().is_some(),
        Slot::Distribution(recent, wide) => recent.gap().is_none() && wide.gap().is_none(),
        Slot::Attainment(reading) => reading.gap().is_none(),
    };
    let engines = SignalName::ALL
        .iter()
        .filter(|signal| signal.kind() != Kind::UserQuery && !signal.is_gateway());
    let known = engines.map(|signal| (*signal, known(signal))).collect();
    let seen = signals.coverage.map(|coverage| coverage.seen);
    let others = [
        engine(&answers, &scope).is_some(),
        scrape_interval(&answers).is_some(),
        scraped_twice(&answers).is_some(),
        model(&answers, &scope).is_some(),
    ];
    (known, seen, others)
}

#[test]
fn every_signal_is_read_from_the_parts_of_the_queries() {
    for (signal, known) in all_answered(None).0 {
        assert!(known, "{signal:?}");
    }
}

#[test]
fn every_part_of_the_queries_is_read() {
    let scope = scope();
    let queries = [
        scope.state_query(),
        scope.histogram_query(),
        scope.attainment_query(),
    ];
    let all = all_answered(None);
    // A native histogram counts where there is no classic one, which another test shows.
    let native = |sample: &Sample| sample.label(TAG).ends_with("_native");
    let parts = answered(&queries.concat(), None);
    for sample in parts.iter().filter(|sample| !native(sample)) {
        let tag = sample.label(TAG);
        assert_ne!(all_answered(Some(tag)), all, "nobody reads `{tag}`");
    }
}

/// The recent TPOT histogram of these samples of its buckets, of 40 observations.
fn tpot_of(buckets: &[(&str, f64)]) -> HistogramReading {
    let of = |part| Tag::Signal(SignalName::Tpot, part);
    let bucket = |&(edge, n): &(&str, f64)| part(of(Part::Buckets), &[(EDGE, edge)], n);
    let mut histograms: Vec<Sample> = buckets.iter().map(bucket).collect();
    histograms.push(part(of(Part::Count), &[], 40.0));
    histograms.push(part(of(Part::Sum), &[], 1.2));
    let answers = Answers {
        histograms: Ok(histograms),
        ..answers(vec![])
    };
    read(&answers, &[], &[]).recent.tpot
}

#[rstest::rstest]
#[case::spelt_alike(&[("1", 10.0), ("2", 40.0)])]
#[case::other_workers_through_another_pipeline(&[("1", 4.0), ("1e+00", 6.0), ("2", 15.0), ("2.0e0", 25.0)])]
#[case::three_spellings(&[("1", 4.0), ("1.0", 4.0), ("1e0", 2.0), ("2", 40.0)])]
#[case::the_same_workers_twice(&[("1", 10.0), ("1e0", 10.0), ("2", 40.0), ("20e-1", 40.0)])]
#[case::twice_and_a_little_apart(&[("1", 10.0), ("1e0", 9.8), ("2", 40.0), ("20e-1", 39.5)])]
#[case::one_edge_in_one_pipeline_alone(&[("1", 10.0), ("2", 20.0), ("2e0", 20.0)])]
fn an_edge_counts_once_however_it_is_spelt(#[case] buckets: &[(&str, f64)]) {
    let HistogramReading::Value(histogram) = tpot_of(buckets) else {
        panic!("no histogram")
    };
    assert_eq!(histogram.cumulative(), [(1.0, 10.0), (2.0, 40.0)]);
}

#[test]
fn a_native_histogram_counts_where_there_is_no_classic_one() {
    let of = |part| Tag::Signal(SignalName::Tpot, part);
    let native = part(of(Part::Native), &[], 0.0);
    let native = Sample::of_native(
        &native.labels,
        40.0,
        1.2,
        &[(0.025, 10.0), (0.05, 20.0), (0.1, 10.0)],
    );
    let read = |histograms: Vec<Sample>| {
        let answers = Answers {
            histograms: Ok(histograms),
            ..answers(vec![])
        };
        match read(&answers, &[], &[]).recent.tpot {
            HistogramReading::Value(tpot) => (tpot.count(), tpot.share_at_or_below(0.05)),
            HistogramReading::Unknown(gap) => panic!("{gap:?}"),
        }
    };
    assert_eq!(read(native.clone()), (40.0, Some(0.75)));
    let mut both = native;
    both.push(part(of(Part::Buckets), &[(EDGE, "0.05")], 5.0));
    both.push(part(of(Part::Count), &[], 10.0));
    both.push(part(of(Part::Sum), &[], 0.5));
    assert_eq!(read(both), (10.0, Some(0.5)));
}

#[rstest::rstest]
#[case::the_usual_one(&["vllm:kv_cache_usage_perc"], None, None)]
#[case::an_operators(&["kserve_vllm:kv_cache_usage_perc"], None, Some("kserve_vllm:"))]
#[case::of_opentelemetry(&["vllm_kv_cache_usage_perc"], None, Some("vllm_"))]
#[case::under_an_older_name(&["x_vllm:gpu_cache_usage_perc"], None, Some("x_vllm:"))]
#[case::the_usual_one_beside_another(&["vllm:kv_cache_usage_perc", "a_vllm:kv_cache_usage_perc"], None, None)]
#[case::it_stays(&["b_vllm:kv_cache_usage_perc"], Some("b_vllm:"), None)]
#[case::it_stays_beside_the_usual_one(&["b_vllm:kv_cache_usage_perc", "vllm:kv_cache_usage_perc"], Some("b_vllm:"), None)]
#[case::it_goes_back(&["vllm:kv_cache_usage_perc"], Some("b_vllm:"), Some("vllm:"))]
#[case::none_at_all(&[], None, None)]
fn the_beginning_of_names_is_found(
    #[case] names: &[&str],
    #[case] asked: Option<&str>,
    #[case] want: Option<&str>,
) {
    let samples = names
        .iter()
        .map(|name| part(Tag::Generation, &[(METRIC, name)], 1.0));
    let answers = answers(samples.collect());
    let scope = Scope {
        prefix: asked.map(str::to_owned),
        ..scope()
    };
    assert_eq!(prefix(&answers, &scope).as_deref(), want);
    assert_eq!(engine(&answers, &scope).is_some(), !names.is_empty());
}

#[test]
fn the_scrape_interval_is_the_wide_window_over_its_samples() {
    for (samples, seconds) in [(40.0, 15), (20.0, 30), (10.0, 60), (5.0, 120)] {
        let answers = answers(vec![part(Tag::Samples, &[], samples)]);
        assert_eq!(
            scrape_interval(&answers),
            Some(Duration::from_secs(seconds))
        );
    }
    assert_eq!(scrape_interval(&answers(vec![])), None);
}

#[test]
fn burstiness_is_not_known_where_scrapes_are_further_apart_than_spans() {
    let tag = |part| Tag::Signal(SignalName::ArrivalDispersion, part);
    let at = |samples: f64| {
        let answers = answers(vec![
            part(tag(Part::Mean), &[], 50.0),
            part(tag(Part::SquaredChange), &[], 300.0),
            part(Tag::Samples, &[], samples),
        ]);
        read(&answers, &[], &[]).arrival_dispersion
    };
    assert_eq!(at(40.0), Reading::Value(3.0));
    assert_eq!(at(19.0), Reading::Value(3.0));
    assert_eq!(at(10.0), Reading::Unknown(Gap::TooFewSamples));
}

#[test]
fn engines_that_are_scraped_twice_are_named() {
    let at = |pods: &[&str]| {
        let samples = pods.iter().map(|name| pod(Tag::Addresses, name, 2.0));
        scraped_twice(&answers(samples.collect()))
    };
    assert_eq!(at(&[]), None);
    let one = at(&["d-1"]).unwrap();
    assert!(
        one.starts_with("an engine of `d-1` is scraped at several addresses"),
        "{one}"
    );
    let many = at(&["d-2", "d-1", "d-3", "d-4", "d-5"]).unwrap();
    assert!(many.contains("`d-1`, `d-2`, `d-3` and 2 others"), "{many}");
}

#[test]
fn an_answer_that_is_not_whole_lowers_nothing() {
    let answers = |partial| Answers {
        partial,
        ..answers(vec![pod(Tag::Age, "p-0", 1.0)])
    };
    assert!(!read(&answers(false), &["p-0"], &[]).answer_partial);
    assert!(read(&answers(true), &["p-0"], &[]).answer_partial);
}

#[test]
fn the_work_of_a_worker_is_what_waits_and_what_runs_there() {
    use SignalName::{DecodeRunningRequests as Running, DecodeWaitingRequests as Waiting};
    let fresh = ["d-0", "d-1", "d-2", "d-3", "p-0"].map(|name| pod(Tag::Age, name, 5.0));
    let mut state = vec![
        pod(Tag::Age, "d-4", 900.0),
        pod(value(Running), "d-0", 3.0),
        pod(value(Waiting), "d-0", 2.0),
        pod(value(Running), "d-1", 0.0),
        pod(value(Waiting), "d-1", 0.0),
        // Half of a number is none.
        pod(value(Running), "d-2", 1.0),
        pod(value(Running), "d-3", f64::NAN),
        pod(value(Waiting), "d-3", 1.0),
        // Stale, and gone.
        pod(value(Running), "d-4", 0.0),
        pod(value(Waiting), "d-4", 0.0),
        pod(value(Running), "d-9", 0.0),
        pod(value(Waiting), "d-9", 0.0),
        pod(value(SignalName::PrefillRunningRequests), "p-0", 1.0),
        pod(value(SignalName::PrefillWaitingRequests), "p-0", 0.5),
    ];
    state.extend(fresh);
    let names = |of: &[&str]| of.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let (prefill, decode) = (names(&["p-0"]), names(&["d-0", "d-1", "d-2", "d-3", "d-4"]));
    let ready = PerRole {
        prefill: prefill.as_slice(),
        decode: decode.as_slice(),
    };
    let age_max = Duration::from_secs(90);
    let mut answers = answers(state);
    let work = in_flight(&answers, ready, &scope(), age_max);
    let decode: Vec<(String, f64)> = work.decode.into_iter().collect();
    assert_eq!(decode, [("d-0".to_owned(), 5.0), ("d-1".to_owned(), 0.0)]);
    assert_eq!(work.prefill.get("p-0"), Some(&1.5));
    answers.partial = true;
    assert!(
        in_flight(&answers, ready, &scope(), age_max)
            .decode
            .is_empty()
    );
    answers.state = Err(Failed);
    answers.partial = false;
    assert!(
        in_flight(&answers, ready, &scope(), age_max)
            .decode
            .is_empty()
    );
}
