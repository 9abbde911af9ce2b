//! Samples as Prometheus gives them, and the signals they must become.

use super::*;

fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Sample { labels, value }
}

fn pod(signal: &str, name: &str, value: f64) -> Sample {
    sample(&[(SIGNAL, signal), (POD, name)], value)
}

/// The error of nobody in particular.
#[derive(Debug, PartialEq)]
struct Failed;

fn answers(state: Vec<Sample>) -> Answers<Failed> {
    Answers {
        state: Ok(state),
        histograms: Ok(vec![]),
        wide: Ok(vec![]),
        attainment: Ok(vec![]),
        overrides: Overrides::default(),
    }
}

fn read(answers: &Answers<Failed>, prefill: &[&str], decode: &[&str]) -> Signals {
    let names = |pods: &[&str]| pods.iter().map(|pod| (*pod).to_owned()).collect::<Vec<_>>();
    let (prefill, decode) = (names(prefill), names(decode));
    let ready = PerRole {
        prefill: prefill.as_slice(),
        decode: decode.as_slice(),
    };
    let scope = Scope {
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "inference".into(),
        prefill_pods: "p-.*".into(),
        decode_pods: "d-.*".into(),
        selectors: vec![],
        window: Duration::from_mins(2),
        attainment_window: Duration::from_hours(1),
    };
    signals(answers, ready, &scope, Duration::from_secs(30))
}

#[test]
fn readings_of_pods_that_are_gone_are_dropped() {
    let answers = answers(vec![
        pod("age", "p-0", 3.0),
        pod("age", "p-gone", 3.0),
        pod("waiting", "p-0", 2.0),
        pod("waiting", "p-gone", 40.0),
    ]);
    let signals = read(&answers, &["p-0"], &[]);
    assert_eq!(signals.waiting_requests.prefill, Reading::Value(2.0));
    assert_eq!(signals.coverage.prefill.scraped, 1);
}

#[test]
fn what_a_worker_served_before_it_left_still_counts() {
    let answers = answers(vec![
        pod("age", "d-0", 1.0),
        sample(&[(SIGNAL, "output_token_rate")], 120.0),
    ]);
    let signals = read(&answers, &[], &["d-0"]);
    assert_eq!(signals.output_token_rate_tps, Reading::Value(120.0));
}

#[test]
fn stale_pods_are_neither_counted_nor_read() {
    let answers = answers(vec![pod("age", "d-0", 31.0), pod("running", "d-0", 5.0)]);
    let signals = read(&answers, &[], &["d-0"]);
    assert_eq!(signals.coverage.decode.scraped, 0);
    assert_eq!(
        signals.running_requests.decode,
        Reading::Unknown(Gap::Stale)
    );
}

#[test]
fn a_zero_is_known_only_when_every_worker_is_scraped() {
    let answers = answers(vec![
        pod("age", "p-0", 1.0),
        sample(&[(SIGNAL, "finished_rate")], 0.0),
    ]);
    let rate = |ready: &[&str]| read(&answers, ready, &[]).prefill_completion_rate_rps;
    assert_eq!(rate(&["p-0"]), Reading::KnownZero);
    assert_eq!(rate(&["p-0", "p-1"]), Reading::Value(0.0));
}

#[test]
fn a_failed_query_is_unknown_and_says_so() {
    let down = || Err(Failed);
    let answers = Answers {
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
    let bucket = |le: &str, n| sample(&[(SIGNAL, "tpot"), ("le", le)], n);
    let histograms = vec![
        bucket("0.05", 30.0),
        bucket("+Inf", 40.0),
        bucket("0.025", 10.0),
        sample(&[(SIGNAL, "tpot_count")], 40.0),
        sample(&[(SIGNAL, "tpot_sum")], 1.2),
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
fn the_engine_is_told_by_the_names_it_uses() {
    let named = |names: &[&str]| {
        let samples = names
            .iter()
            .map(|n| sample(&[(SIGNAL, "names"), ("name", n)], 1.0))
            .collect();
        engine(&answers(samples))
    };
    assert_eq!(named(&["vllm:kv_cache_usage_perc"]), Some("VLLM"));
    assert_eq!(
        named(&["vllm:gpu_cache_usage_perc"]),
        Some("VLLM (names before 0.9.2)")
    );
    assert_eq!(named(&[]), None);
}

#[test]
fn a_sample_from_the_future_is_told_as_clock_skew() {
    let read_at = |age: f64| {
        let answers = answers(vec![pod("age", "d-0", age), pod("running", "d-0", 5.0)]);
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
        pod("age", "d-0", 1.0),
        pod("age", "d-1", 1.0),
        pod("kv_usage", "d-0", 0.6),
        pod("kv_usage", "d-1", f64::NAN),
    ]);
    let signals = read(&answers, &[], &["d-0", "d-1"]);
    assert_eq!(signals.decode_kv_usage, Reading::Value(0.6));
}

#[test]
fn a_pod_that_was_scraped_and_is_not_any_more_is_missing_and_a_new_one_is_not() {
    let answers = answers(vec![
        pod("age", "d-0", 1.0),
        pod("seen", "d-0", 40.0),
        pod("seen", "d-1", 39.0),
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
            (SIGNAL, "kv_config"),
            (POD, name),
            ("block_size", "16"),
            ("num_gpu_blocks", blocks),
        ];
        sample(&labels, engines)
    };
    let read_with = |config: Vec<Sample>| {
        let mut state = vec![pod("age", "d-0", 1.0), pod("age", "d-1", 1.0)];
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
    let hits = |hits: f64, asked: f64| {
        let rates = vec![
            sample(&[(SIGNAL, "prefix_hit_rate")], hits),
            sample(&[(SIGNAL, "prefix_query_rate")], asked),
        ];
        read(&answers(rates), &[], &[]).prefix_hit_share
    };
    assert_eq!(hits(300.0, 1_000.0), Reading::Value(0.3));
    assert_eq!(hits(0.0, 0.0), Reading::Unknown(Gap::TooFewSamples));
}

#[test]
fn dispersion_is_half_the_squared_change_over_the_mean() {
    let of = |mean: f64, squared: f64| {
        let counts = vec![
            sample(&[(SIGNAL, "count_mean")], mean),
            sample(&[(SIGNAL, "count_change_squared")], squared),
        ];
        read(&answers(counts), &[], &[]).arrival_dispersion
    };
    assert_eq!(of(50.0, 300.0), Reading::Value(3.0));
    assert_eq!(of(0.2, 0.4), Reading::Unknown(Gap::TooFewSamples));
    assert_eq!(of(f64::NAN, 1.0), Reading::Unknown(Gap::NotANumber));
}
