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

fn answers(state: Vec<Sample>) -> Answers {
    Answers {
        state: Ok(state),
        histograms: Ok(vec![]),
        attainment: Ok(vec![]),
        overrides: Overrides::default(),
    }
}

fn read(answers: &Answers, prefill: &[&str], decode: &[&str]) -> Signals {
    let names = |pods: &[&str]| pods.iter().map(|pod| (*pod).to_owned()).collect::<Vec<_>>();
    let (prefill, decode) = (names(prefill), names(decode));
    let ready = PerRole {
        prefill: prefill.as_slice(),
        decode: decode.as_slice(),
    };
    signals(answers, ready, Duration::from_secs(30))
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
    let down = || Err(QueryError::NoServer);
    let answers = Answers {
        state: down(),
        histograms: down(),
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
