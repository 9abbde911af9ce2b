//! The metric pipeline of the simulated controller against numbers worked out by hand.

use super::*;
use crate::engine::{Arrival, Profile, Removal, Role as EngineRole};

fn metrics(tokens: u64) -> WorkerMetrics {
    WorkerMetrics {
        generation_tokens: tokens,
        ..WorkerMetrics::default()
    }
}

/// A worker whose counter rises by 10 per second, sampled at the given seconds.
fn sampled_at(at_seconds: impl IntoIterator<Item = u64>, counter_from: u64) -> History {
    let mut history = History::new(Role::Decode);
    for at in at_seconds {
        history.push(at * SECOND, metrics((at - counter_from) * 10));
    }
    history
}

fn increase(history: &History, now_seconds: u64) -> Option<f64> {
    history.increase(now_seconds * SECOND, 2 * MINUTE, |m| {
        m.generation_tokens as f64
    })
}

#[test]
fn an_increase_is_carried_to_the_ends_of_the_window() {
    let history = sampled_at((195..=300).step_by(15), 0);
    let carried = increase(&history, 300).unwrap();
    assert!((carried - 1_200.0).abs() < 1e-9, "{carried}");
}

#[test]
fn a_worker_that_came_within_the_window_counts_from_its_start() {
    // Its counter was 0 at 270 s; nothing before that may be made up.
    let history = sampled_at([285, 300], 270);
    let carried = increase(&history, 300).unwrap();
    assert!((carried - 225.0).abs() < 1e-9, "{carried}");
    // Zero at the first sample: nothing happened before.
    let history = sampled_at([285, 300], 285);
    assert!((increase(&history, 300).unwrap() - 150.0).abs() < 1e-9);
}

#[test]
fn a_worker_that_left_counts_until_half_an_interval_after_its_last_sample() {
    let history = sampled_at((195..=240).step_by(15), 0);
    let carried = increase(&history, 300).unwrap();
    assert!(
        (carried - (45.0 + 15.0 + 7.5) * 10.0).abs() < 1e-9,
        "{carried}"
    );
}

#[test]
fn one_sample_tells_no_increase() {
    assert_eq!(increase(&sampled_at([300], 0), 300), None);
}

#[test]
fn slopes_and_means_are_those_of_the_samples() {
    let history = sampled_at((0..=120).step_by(15), 0);
    let slope = history.slope_per_second(120 * SECOND, 2 * MINUTE, |m| m.generation_tokens as f64);
    assert!((slope.unwrap() - 10.0).abs() < 1e-9);
    let mean = history.mean_since(90 * SECOND, |m| m.generation_tokens as f64);
    assert!((mean.unwrap() - 1_125.0).abs() < 1e-9);
}

fn service(prefill: u32, decode: u32) -> Service {
    let mut service = Service::new(Profile::default());
    for number in 0..prefill {
        let name = format!("p{number}");
        service
            .add_worker_ready_at(0, EngineRole::Prefill, &name, 0)
            .unwrap();
    }
    for number in 0..decode {
        let name = format!("d{number}");
        service
            .add_worker_ready_at(0, EngineRole::Decode, &name, 0)
            .unwrap();
    }
    service
}

/// Sends `rps` requests per second for `length`, scraped every 15 s.
fn run(service: &mut Service, observer: &mut Observer, rps: u64, length: Nanos) {
    let end = service.now() + length;
    while service.now() < end {
        let from = service.now();
        for number in 0..15 * rps {
            service.offer(Arrival {
                at: from + number * SECOND / rps,
                input_tokens: 500,
                output_tokens: 100,
                prompt: None,
            });
        }
        service.observe(from + 15 * SECOND);
        observer.scrape(service);
    }
}

#[test]
fn what_is_scraped_agrees_with_what_was_sent() {
    let mut service = service(2, 2);
    let mut observer = Observer::new(Windows::default());
    run(&mut service, &mut observer, 20, 10 * MINUTE);
    let signals = observer.signals();
    let rate = signals.prefill_completion_rate_rps.known().unwrap();
    assert!((rate - 20.0).abs() < 0.2, "{rate}");
    let tokens = signals.output_token_rate_tps.known().unwrap();
    assert!((tokens - 2_000.0).abs() < 40.0, "{tokens}");
    let prompts = signals.recent.prompt_tokens.with_samples(1.0).unwrap();
    assert!((prompts.mean().unwrap() - 500.0).abs() < 1e-6);
    assert!((prompts.count() - 2_400.0).abs() < 24.0);
    let coverage = signals.coverage.map(|role| role.scraped);
    assert_eq!((coverage.prefill, coverage.decode), (2, 2));
}

#[test]
fn a_worker_that_left_stays_in_the_rate_and_leaves_the_gauges() {
    let mut service = service(2, 2);
    let mut observer = Observer::new(Windows::default());
    run(&mut service, &mut observer, 20, 5 * MINUTE);
    let now = service.now();
    service.remove_worker(now, "p1", Removal::Drain).unwrap();
    run(&mut service, &mut observer, 20, 15 * SECOND);
    let signals = observer.signals();
    assert_eq!(signals.coverage.prefill.scraped, 1);
    let rate = signals.prefill_completion_rate_rps.known().unwrap();
    assert!((rate - 20.0).abs() < 1.5, "{rate}");
}

#[test]
fn an_idle_service_is_known_to_be_idle_and_an_absent_one_is_not() {
    let mut idle = service(1, 1);
    let mut observer = Observer::new(Windows::default());
    for scrape in 1..=8 {
        idle.observe(scrape * 15 * SECOND);
        observer.scrape(&idle);
    }
    let signals = observer.signals();
    assert_eq!(signals.prefill_completion_rate_rps, Reading::KnownZero);
    assert_eq!(signals.waiting_requests.decode, Reading::KnownZero);

    let mut observer = Observer::new(Windows::default());
    observer.scrape(&Service::new(Profile::default()));
    let signals = observer.signals();
    let nothing = Reading::Unknown(Gap::Empty);
    assert_eq!(signals.prefill_completion_rate_rps, nothing);
    assert_eq!(signals.waiting_requests.prefill, nothing);
    assert_eq!(
        signals.recent.prefill_ttft,
        HistogramReading::Unknown(Gap::Empty)
    );
    assert_eq!(signals.coverage.prefill, Coverage::default());
}

#[test]
fn attainment_forgets_what_is_older_than_its_window() {
    let count = |observer: &Observer| match observer.signals().prefill_ttft_attainment {
        HistogramReading::Value(histogram) => histogram.count(),
        HistogramReading::Unknown(gap) => panic!("{gap:?}"),
    };
    let mut service = service(1, 1);
    let mut observer = Observer::new(Windows::default());
    run(&mut service, &mut observer, 4, 30 * MINUTE);
    let half = count(&observer);
    run(&mut service, &mut observer, 2, 60 * MINUTE);
    let later = count(&observer);
    assert!(half > 7_000.0, "{half}");
    assert!((later - 7_200.0).abs() < 20.0, "{later}");
}

#[test]
fn what_only_the_engines_know_is_scraped_too() {
    let mut service = service(2, 2);
    let mut observer = Observer::new(Windows::default());
    run(&mut service, &mut observer, 20, 12 * MINUTE);
    let signals = observer.signals();
    let rate = signals.decode_completion_rate_rps.known().unwrap();
    assert!((rate - 20.0).abs() < 0.5, "{rate}");
    let wide = signals.wide.prompt_tokens.with_samples(1.0).unwrap();
    assert!((wide.count() - 12_000.0).abs() < 120.0, "{}", wide.count());
    // Requests come like clockwork.
    let dispersion = signals.arrival_dispersion.known().unwrap();
    assert!(dispersion < 0.2, "{dispersion}");
    let capacity = Profile::default().kv_capacity_tokens as f64;
    assert_eq!(signals.decode_kv_capacity_tokens, Reading::Value(capacity));
    assert_eq!(signals.decode_preemption_rate_rps, Reading::KnownZero);
    let (peak, running) = (signals.requests_peak, signals.running_requests);
    assert!(peak.decode.known() >= running.decode.known());
    assert_eq!(signals.doubts(), vec![]);
    let ready = PerRole::from_fn(|_| 2);
    assert_eq!(signals.judged(ready), signals);
}

#[test]
fn a_lost_scrape_takes_a_worker_from_coverage_and_not_from_what_it_served() {
    let mut service = Service::new(Profile::default());
    for name in ["p-0", "p-1"] {
        service
            .add_worker_ready_at(0, EngineRole::Prefill, name, 0)
            .unwrap();
    }
    let mut observer = Observer::new(Windows::default());
    for scrape in 1..=8 {
        service.observe(scrape * 15 * SECOND);
        observer.scrape(&service);
    }
    let all = observer.signals();
    let lost = Blur {
        unanswered: vec!["p-1".to_owned()],
        ..Blur::default()
    };
    service.observe(135 * SECOND);
    observer.scrape_through(&service, &lost);
    let some = observer.signals();
    assert_eq!(all.coverage.prefill.scraped, 2);
    assert_eq!(
        (some.coverage.prefill.scraped, some.coverage.prefill.seen),
        (1, 2)
    );
    assert_eq!(some.prefill_completion_rate_rps, Reading::KnownZero);
    assert_eq!(some.waiting_requests.prefill, Reading::KnownZero);
}

#[test]
fn a_worker_that_died_unnoticed_is_seen_and_not_scraped_and_a_deleted_one_is_neither() {
    let mut service = Service::new(Profile::default());
    for name in ["p-0", "p-1", "p-2"] {
        service
            .add_worker_ready_at(0, EngineRole::Prefill, name, 0)
            .unwrap();
    }
    let mut observer = Observer::new(Windows::default());
    service.observe(15 * SECOND);
    observer.scrape(&service);
    service
        .remove_worker(16 * SECOND, "p-1", Removal::Crash)
        .unwrap();
    service.observe(30 * SECOND);
    let blur = Blur {
        ghosts: vec!["p-1".to_owned()],
        deleted: vec!["p-2".to_owned()],
        unanswered: Vec::new(),
    };
    observer.scrape_through(&service, &blur);
    let coverage = observer.signals().coverage.prefill;
    assert_eq!((coverage.scraped, coverage.seen), (1, 2));
}

#[test]
fn while_prometheus_is_down_nothing_is_known_and_nothing_reads_as_zero() {
    let mut service = Service::new(Profile::default());
    service
        .add_worker_ready_at(0, EngineRole::Prefill, "p-0", 0)
        .unwrap();
    let mut observer = Observer::new(Windows::default());
    service.observe(15 * SECOND);
    observer.scrape(&service);
    observer.miss(30 * SECOND);
    let down = observer.signals();
    assert_eq!(down.coverage.prefill, Coverage::default());
    let mut numbers = down
        .numbers()
        .filter(|(_, reading)| reading.gap() != Some(Gap::NotAsked));
    assert!(numbers.all(|(_, reading)| reading.gap() == Some(Gap::QueryFailed)));
    // No gateway is asked about.
    let mut distributions = down.distributions().filter(|(name, ..)| !name.is_gateway());
    assert!(distributions.all(|(_, recent, wide)| {
        recent.gap() == Some(Gap::QueryFailed) && wide.gap() == Some(Gap::QueryFailed)
    }));
    service.observe(45 * SECOND);
    observer.scrape(&service);
    assert_eq!(observer.signals().coverage.prefill.scraped, 1);
}
