//! The promises of the engine model, checked through its public face.

mod dispatch;
mod golden;
mod laws;
mod lives;
mod prefixes;
mod queueing;

use super::*;
use crate::time::{MINUTE, SECOND, seconds};
use crate::traffic::{Arrivals, Curve, Load, servegen_day};

fn load(requests_per_second: f64, input_tokens_mean: f64, output_tokens_mean: f64) -> Load {
    Load {
        requests_per_second,
        input_tokens_mean,
        output_tokens_mean,
        input_tokens_cv: 1.0,
        output_tokens_cv: 1.0,
    }
}

fn service(profile: Profile, prefill: usize, decode: usize) -> Service {
    let mut service = Service::new(profile);
    for index in 0..prefill {
        service
            .add_worker_ready_at(0, Role::Prefill, &format!("p{index}"), 0)
            .unwrap();
    }
    for index in 0..decode {
        service
            .add_worker_ready_at(0, Role::Decode, &format!("d{index}"), 0)
            .unwrap();
    }
    service
}

fn run(service: &mut Service, arrivals: impl Iterator<Item = Arrival>) -> Vec<RequestOutcome> {
    let mut outcomes = Vec::new();
    for arrival in arrivals {
        service.offer(arrival);
        outcomes.extend(service.drain_outcomes());
    }
    outcomes.extend(finish(service));
    outcomes
}

fn finish(service: &mut Service) -> Vec<RequestOutcome> {
    while let Some(at) = service.next_event_at() {
        service.advance(at);
    }
    service.observe(service.now());
    service.drain_outcomes().collect()
}

fn constant(load: Load, seed: u64, duration: Nanos) -> Arrivals {
    Arrivals::new(Curve::constant(load).unwrap(), seed, 0, duration)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

fn mean_ttft(outcomes: &[RequestOutcome]) -> f64 {
    mean(outcomes.iter().map(RequestOutcome::ttft_seconds))
}

fn mean_tpot(outcomes: &[RequestOutcome]) -> f64 {
    mean(outcomes.iter().filter_map(RequestOutcome::tpot_seconds))
}

#[test]
fn a_lone_request_takes_the_time_of_the_profile() {
    let profile = Profile::default();
    let mut service = service(profile.clone(), 1, 1);
    service.offer(Arrival {
        at: SECOND,
        input_tokens: 1000,
        output_tokens: 3,
        prompt: None,
    });
    let outcome = finish(&mut service)[0];
    let first_step = profile.decode_step_nanos(1, 1000) * 1e-9;
    let ttft = seconds(profile.prefill_time(1000, 0) + profile.kv_transfer_time(1000)) + first_step;
    assert!((outcome.ttft_seconds() - ttft).abs() < 1e-7);
    let later_steps = profile.decode_step_nanos(1, 1001) + profile.decode_step_nanos(1, 1002);
    assert!((outcome.tpot_seconds().unwrap() - later_steps * 0.5e-9).abs() < 1e-7);
    assert_eq!(outcome.ending, Ending::Completed);
}

#[test]
fn tokens_of_the_metrics_are_those_of_the_requests() {
    let mut service = service(Profile::default(), 3, 2);
    let outcomes = run(
        &mut service,
        constant(load(12.0, 600.0, 150.0), 1, 20 * MINUTE),
    );
    let prompt: u64 = outcomes.iter().map(|o| u64::from(o.input_tokens)).sum();
    let answer: u64 = outcomes.iter().map(|o| u64::from(o.output_tokens)).sum();
    let requests = outcomes.len() as u64;
    let sum = |role, read: fn(&WorkerMetrics) -> u64| -> u64 {
        service
            .workers()
            .filter(|w| w.role == role)
            .map(|w| read(w.metrics))
            .sum()
    };
    assert_eq!(
        sum(Role::Prefill, |m| m.prompt_tokens_local_compute),
        prompt
    );
    assert_eq!(sum(Role::Prefill, |m| m.generation_tokens), requests);
    assert_eq!(sum(Role::Prefill, |m| m.inter_token_latency.count()), 0);
    assert_eq!(sum(Role::Prefill, |m| m.finished_length), requests);
    assert_eq!(
        sum(Role::Decode, |m| m.prompt_tokens_external_kv_transfer),
        prompt
    );
    assert_eq!(sum(Role::Decode, |m| m.generation_tokens), answer);
    assert_eq!(
        sum(Role::Decode, |m| m.inter_token_latency.count()),
        answer - requests
    );
    assert_eq!(
        sum(Role::Decode, |m| m.time_to_first_token.count()),
        requests
    );
    assert_eq!(sum(Role::Decode, |m| m.finished_stop), requests);
    assert_eq!(sum(Role::Decode, |m| m.requests_running), 0);
}

#[test]
fn means_of_both_roles_add_up_to_the_users_ttft() {
    let mut service = service(Profile::default(), 2, 2);
    let outcomes = run(
        &mut service,
        constant(load(10.0, 600.0, 150.0), 5, 20 * MINUTE),
    );
    let part = |role| {
        let of_role = service.workers().filter(move |w| w.role == role);
        let (sum, count) = of_role.fold((0.0, 0), |(sum, count), w| {
            let ttft = &w.metrics.time_to_first_token;
            (sum + ttft.sum(), count + ttft.count())
        });
        sum / count as f64
    };
    let of_parts = part(Role::Prefill) + part(Role::Decode);
    assert!((of_parts / mean_ttft(&outcomes) - 1.0).abs() < 1e-6);
}

#[test]
fn generated_tokens_advance_before_any_request_ends() {
    let mut service = service(Profile::default(), 1, 1);
    service.offer(Arrival {
        at: 0,
        input_tokens: 500,
        output_tokens: 100_000,
        prompt: None,
    });
    let mut last = 0;
    for second in 1..60 {
        service.observe(second * SECOND);
        let tokens = service.workers().last().unwrap().metrics.generation_tokens;
        assert!(tokens > last + 50, "{tokens} after {last}");
        last = tokens;
    }
    assert_eq!(service.drain_outcomes().count(), 0);
}

#[test]
fn more_prefill_workers_shorten_ttft_and_leave_tpot() {
    let outcomes: Vec<_> = [2, 3, 4, 8]
        .map(|count| {
            let mut service = service(Profile::default(), count, 4);
            run(
                &mut service,
                constant(load(30.0, 1500.0, 100.0), 3, 10 * MINUTE),
            )
        })
        .into();
    for pair in outcomes.windows(2) {
        assert!(mean_ttft(&pair[1]) <= mean_ttft(&pair[0]));
    }
    assert!(mean_ttft(&outcomes[0]) > 5.0 * mean_ttft(&outcomes[3]));
    assert!((mean_tpot(&outcomes[1]) / mean_tpot(&outcomes[3]) - 1.0).abs() < 0.1);
}

#[test]
fn more_decode_workers_shorten_tpot_and_leave_ttft() {
    let outcomes: Vec<_> = [1, 2, 4, 8]
        .map(|count| {
            let mut service = service(Profile::default(), 8, count);
            run(
                &mut service,
                constant(load(20.0, 400.0, 400.0), 3, 10 * MINUTE),
            )
        })
        .into();
    for pair in outcomes.windows(2) {
        assert!(mean_tpot(&pair[1]) <= mean_tpot(&pair[0]));
    }
    assert!(mean_tpot(&outcomes[0]) > 1.5 * mean_tpot(&outcomes[3]));
    assert!((mean_ttft(&outcomes[1]) / mean_ttft(&outcomes[3]) - 1.0).abs() < 0.2);
}

#[test]
fn one_prefill_worker_waits_as_pollaczek_and_khinchine_say() {
    let profile = Profile {
        // A server of the theory works on one customer at a time.
        prefill_step_requests: 1,
        prefill_step_tokens: u32::MAX,
        decode_milliseconds_per_megatoken: 0.0,
        ..Profile::default()
    };
    let mut service = service(profile.clone(), 1, 4);
    let arrivals = constant(load(9.0, 1200.0, 2.0), 11, 40 * 3600 * SECOND);
    let outcomes = run(&mut service, arrivals);
    let times: Vec<_> = outcomes
        .iter()
        .map(|o| seconds(profile.prefill_time(o.input_tokens, 0)))
        .collect();
    let first = mean(times.iter().copied());
    let second = mean(times.iter().map(|time| time * time));
    let rate = outcomes.len() as f64 / (40.0 * 3600.0);
    let expected = rate * second / (2.0 * (1.0 - rate * first));
    let worker = service.workers().next().unwrap().metrics;
    let seen = worker.request_queue_time.mean().unwrap();
    assert!(
        (seen / expected - 1.0).abs() < 0.03,
        "waited {seen} s, expected {expected} s"
    );
}

#[test]
fn looking_at_the_metrics_changes_nothing() {
    let arrivals = || constant(load(15.0, 800.0, 200.0), 9, 10 * MINUTE);
    let plain = run(&mut service(Profile::default(), 2, 1), arrivals());
    let mut watched = service(Profile::default(), 2, 1);
    let mut outcomes = Vec::new();
    let mut look_at = 0;
    for arrival in arrivals() {
        while look_at < arrival.at {
            watched.observe(look_at);
            look_at += 37_000_003;
        }
        watched.offer(arrival);
        outcomes.extend(watched.drain_outcomes());
    }
    outcomes.extend(finish(&mut watched));
    assert_eq!(plain, outcomes);
}

#[test]
fn requests_wait_at_the_router_until_a_worker_is_ready() {
    let mut service = Service::new(Profile::default());
    service.offer(Arrival {
        at: SECOND,
        input_tokens: 100,
        output_tokens: 10,
        prompt: None,
    });
    service
        .add_worker_ready_at(2 * SECOND, Role::Prefill, "p", 5 * SECOND)
        .unwrap();
    service.advance(4 * SECOND);
    assert_eq!(service.waiting_at_router(Role::Prefill), 1);
    assert_eq!(
        service.worker_count(Role::Prefill, WorkerState::Starting),
        1
    );
    service.advance(10 * SECOND);
    assert_eq!(service.waiting_at_router(Role::Prefill), 0);
    assert_eq!(service.waiting_at_router(Role::Decode), 1);
    service
        .add_worker_ready_at(20 * SECOND, Role::Decode, "d", 0)
        .unwrap();
    let outcome = finish(&mut service)[0];
    assert!(outcome.ttft_seconds() > 19.0 && outcome.ttft_seconds() < 19.1);
}

#[test]
fn a_draining_worker_finishes_and_leaves() {
    let mut service = service(Profile::default(), 2, 2);
    for index in 0..40 {
        service.offer(Arrival {
            at: index,
            input_tokens: 500,
            output_tokens: 200,
            prompt: None,
        });
    }
    service
        .remove_worker(SECOND / 100, "p0", Removal::Drain)
        .unwrap();
    service
        .remove_worker(2 * SECOND, "d0", Removal::Drain)
        .unwrap();
    assert_eq!(service.worker_count(Role::Decode, WorkerState::Draining), 1);
    service.offer(Arrival {
        at: 2 * SECOND,
        input_tokens: 500,
        output_tokens: 200,
        prompt: None,
    });
    let outcomes = finish(&mut service);
    assert_eq!(outcomes.len(), 41);
    assert!(outcomes.iter().all(|o| o.restarts == 0));
    let names: Vec<_> = service.workers().map(|w| w.name.to_owned()).collect();
    assert_eq!(names, ["p1", "d1"]);
}

#[test]
fn a_crash_restarts_requests_and_counts_their_time_from_arrival() {
    let mut service = service(Profile::default(), 1, 1);
    service.offer(Arrival {
        at: 0,
        input_tokens: 500,
        output_tokens: 500,
        prompt: None,
    });
    service
        .remove_worker(3 * SECOND, "d0", Removal::Crash)
        .unwrap();
    service
        .add_worker_ready_at(4 * SECOND, Role::Decode, "d1", 0)
        .unwrap();
    let outcomes = finish(&mut service);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].restarts, 1);
    assert!(outcomes[0].ttft_seconds() > 4.0);
    assert_eq!(outcomes[0].output_tokens, 500);
}

#[test]
fn names_are_unique_and_must_exist() {
    let mut service = service(Profile::default(), 1, 0);
    let duplicate = service.add_worker(0, Role::Decode, "p0").unwrap_err();
    assert_eq!(duplicate, ServiceError::Duplicate("p0".into()));
    let unknown = service.remove_worker(0, "x", Removal::Drain).unwrap_err();
    assert_eq!(unknown, ServiceError::Unknown("x".into()));
}

#[test]
fn a_full_kv_cache_makes_requests_wait_for_capacity() {
    let profile = Profile {
        kv_capacity_tokens: 20_000,
        ..Profile::default()
    };
    let mut service = service(profile, 4, 1);
    let mut waited = 0;
    let mut used: f64 = 0.0;
    for arrival in constant(load(12.0, 600.0, 400.0), 2, 3 * MINUTE) {
        let at = arrival.at;
        service.offer(arrival);
        service.observe(at);
        let decode = service.workers().last().unwrap().metrics;
        waited = waited.max(decode.requests_waiting_capacity);
        used = used.max(decode.kv_cache_usage);
    }
    assert!(waited > 50, "{waited}");
    assert!(used > 0.95, "{used}");
    let preemptions = service.workers().last().unwrap().metrics.preemptions;
    assert!(preemptions > 0);
    let outcomes = finish(&mut service);
    assert!(outcomes.iter().all(|o| o.ending == Ending::Completed));
}

#[test]
fn a_request_no_worker_can_hold_is_refused() {
    let profile = Profile {
        kv_capacity_tokens: 20_000,
        ..Profile::default()
    };
    let mut service = service(profile, 1, 1);
    service.offer(Arrival {
        at: 0,
        input_tokens: 19_000,
        output_tokens: 1_001,
        prompt: None,
    });
    service.offer(Arrival {
        at: 0,
        input_tokens: 19_000,
        output_tokens: 1_000,
        prompt: None,
    });
    let endings: Vec<_> = finish(&mut service).iter().map(|o| o.ending).collect();
    assert_eq!(endings, [Ending::Refused, Ending::Completed]);
}

#[test]
fn a_real_shaped_day_needs_few_workers_and_serves_all() {
    let mut service = service(Profile::default(), 4, 4);
    let arrivals = Arrivals::new(servegen_day().unwrap(), 1, 0, 4 * 3600 * SECOND);
    let count = arrivals.clone().count();
    let outcomes = run(&mut service, arrivals);
    assert_eq!(outcomes.len(), count);
    assert!(mean_ttft(&outcomes) < 0.3);
}

/// Prints the speed of the model; run in release with `--ignored --nocapture`.
#[test]
#[ignore = "measures speed, which only a quiet machine and a release build can show"]
fn requests_per_second_of_wall_time() {
    let started = std::time::Instant::now();
    let mut service = service(Profile::default(), 12, 12);
    let day = servegen_day().unwrap().scaled(4.0).unwrap();
    let mut ended = 0;
    for arrival in Arrivals::new(day, 1, 0, crate::time::DAY) {
        service.offer(arrival);
        ended += service.drain_outcomes().len();
    }
    let elapsed = started.elapsed().as_secs_f64();
    println!(
        "{ended} requests in {elapsed:.2} s: {:.0} requests/s",
        ended as f64 / elapsed
    );
    assert!(ended > 1_000_000);
}
