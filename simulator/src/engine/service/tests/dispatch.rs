//! Routers, prefix caches and links in a running service.

use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::engine::{
    BetweenDomains, Links, LocalPrefill, PrefixCaches, PromptBlocks, Routing, Rule, Sessions,
};
use crate::time::{HOUR, MILLISECOND};

fn dispatched(dispatch: Dispatch, prefill: usize, decode: usize) -> Service {
    let mut service = Service::with_dispatch(Profile::default(), dispatch);
    for (role, count) in [(Role::Prefill, prefill), (Role::Decode, decode)] {
        for index in 0..count {
            let name = format!("{role:?}-{index}");
            service.add_worker_ready_at(0, role, &name, 0).unwrap();
        }
    }
    service
}

fn routed(rule: Rule) -> Dispatch {
    Dispatch {
        routing: Routing {
            prefill: rule,
            decode: rule,
            ..Routing::default()
        },
        ..Dispatch::default()
    }
}

fn remembering(rule: Rule, caches: PrefixCaches) -> Dispatch {
    Dispatch {
        prefix_caches: Some(caches),
        ..routed(rule)
    }
}

fn linked(links: Links) -> Dispatch {
    Dispatch {
        links: Some(links),
        ..Dispatch::default()
    }
}

fn total(service: &Service, role: Role, read: fn(&WorkerMetrics) -> u64) -> u64 {
    let of_role = service.workers().filter(|worker| worker.role == role);
    of_role.map(|worker| read(worker.metrics)).sum()
}

fn mean_prefill_wait(dispatch: Dispatch, seed: u64, workers: usize, rate: f64) -> f64 {
    let mut service = dispatched(dispatch, workers, 4);
    run(
        &mut service,
        constant(load(rate, 1_500.0, 4.0), seed, HOUR / 2),
    );
    let waits = service
        .workers()
        .filter(|worker| worker.role == Role::Prefill);
    let (sum, count) = waits.fold((0.0, 0), |(sum, count), worker| {
        let wait = &worker.metrics.request_queue_time;
        (sum + wait.sum(), count + wait.count())
    });
    sum / count as f64
}

#[rstest]
fn least_work_waits_least_and_two_choices_less_than_turns(
    #[values(1, 2, 3)] seed: u64,
    #[values(2, 4, 8)] workers: usize,
    #[values(0.6, 0.9)] utilisation: f64,
) {
    let rate = utilisation * workers as f64 / 0.076;
    let wait = |rule| mean_prefill_wait(routed(rule), seed, workers, rate);
    let least_work = wait(Rule::LeastWork);
    let round_robin = wait(Rule::RoundRobin);
    assert!(
        least_work <= round_robin,
        "{least_work} s against {round_robin} s"
    );
    for rule in [Rule::PowerOfTwo, Rule::CacheAware, Rule::EppScoring] {
        let other = wait(rule);
        assert!(
            least_work <= other,
            "{rule:?}: {other} s against {least_work} s"
        );
    }
}

#[rstest]
fn every_rule_serves_all_and_the_same_again(
    #[values(
        Rule::LeastWork,
        Rule::RoundRobin,
        Rule::PowerOfTwo,
        Rule::CacheAware,
        Rule::EppScoring
    )]
    rule: Rule,
) {
    let caches = PrefixCaches {
        sessions: Some(Sessions::default()),
        ..PrefixCaches::default()
    };
    let dispatch = Dispatch {
        links: Some(Links {
            domains: 2,
            ..Links::default()
        }),
        ..remembering(rule, caches)
    };
    let arrivals = || constant(load(20.0, 800.0, 60.0), 4, 4 * MINUTE);
    let play = || {
        let mut service = dispatched(dispatch, 3, 2);
        let outcomes = run(&mut service, arrivals());
        (outcomes, service.kv_traffic())
    };
    let (outcomes, traffic) = play();
    assert_eq!(outcomes.len(), arrivals().count());
    assert_eq!(traffic.begun, outcomes.len() as u64);
    assert_eq!((outcomes, traffic), play());
}

#[test]
fn a_prompt_that_comes_again_is_computed_only_beyond_what_is_held() {
    let caches = PrefixCaches {
        decode: false,
        ..PrefixCaches::default()
    };
    let mut service = dispatched(remembering(Rule::LeastWork, caches), 1, 1);
    let prompt = Arc::new(PromptBlocks::new(512, (0..4).collect()));
    let offer = |service: &mut Service, at| {
        service.offer(Arrival {
            at,
            input_tokens: 2_000,
            output_tokens: 1,
            prompt: Some(Arc::clone(&prompt)),
        });
        finish(service)[0].ttft_seconds()
    };
    let cold = offer(&mut service, 0);
    let warm = offer(&mut service, 10 * SECOND);
    let profile = Profile::default();
    let saved = profile.prefill_time(2_000, 0) - profile.prefill_time(2_000, 1_536);
    assert!((cold - warm - seconds(saved)).abs() < 1e-6);
    assert_eq!(
        total(&service, Role::Prefill, |m| m.prefix_cache_hits),
        1_536
    );
    assert_eq!(
        total(&service, Role::Prefill, |m| m.prompt_tokens_local_compute),
        2_464
    );
    assert_eq!(
        total(&service, Role::Decode, |m| m
            .prompt_tokens_external_kv_transfer),
        4_000
    );
}

#[test]
fn what_a_decode_worker_holds_does_not_travel() {
    let dispatch = Dispatch {
        links: Some(Links::default()),
        ..remembering(Rule::LeastWork, PrefixCaches::default())
    };
    let mut service = dispatched(dispatch, 1, 1);
    let prompt = Arc::new(PromptBlocks::new(500, (0..4).collect()));
    for at in [0, 10 * SECOND] {
        service.offer(Arrival {
            at,
            input_tokens: 2_000,
            output_tokens: 1,
            prompt: Some(Arc::clone(&prompt)),
        });
        finish(&mut service);
    }
    let traffic = service.kv_traffic();
    assert_eq!(traffic.ended_bytes, Profile::default().kv_bytes(2_500));
    assert_eq!(
        total(&service, Role::Decode, |m| m.prefix_cache_hits),
        1_500
    );
}

#[test]
fn rules_that_see_prefixes_find_more_of_them() {
    let caches = PrefixCaches {
        capacity_tokens: Some(200_000),
        sessions: Some(Sessions {
            returning_share: 0.7,
            open: 400,
            ..Sessions::default()
        }),
        ..PrefixCaches::default()
    };
    let hits = |rule| {
        let mut service = dispatched(remembering(rule, caches), 8, 4);
        run(
            &mut service,
            constant(load(30.0, 2_000.0, 20.0), 6, 20 * MINUTE),
        );
        let queries = total(&service, Role::Prefill, |m| m.prefix_cache_queries);
        let hits = total(&service, Role::Prefill, |m| m.prefix_cache_hits);
        hits as f64 / queries as f64
    };
    let blind = hits(Rule::RoundRobin);
    for rule in [Rule::CacheAware, Rule::EppScoring] {
        let seeing = hits(rule);
        assert!(seeing > blind + 0.1, "{rule:?}: {seeing} against {blind}");
    }
}

#[test]
fn a_link_in_a_scenario_alone_takes_the_time_of_the_profile() {
    let profile = Profile::default();
    let links = Links {
        bandwidth_gigabytes_per_second: profile.kv_transfer_gigabytes_per_second,
        latency_seconds: profile.kv_transfer_base_milliseconds * 1e-3,
        ..Links::default()
    };
    let arrival = Arrival {
        at: SECOND,
        input_tokens: 7_000,
        output_tokens: 3,
        prompt: None,
    };
    let play = |mut service: Service| {
        service.offer(arrival.clone());
        finish(&mut service)[0]
    };
    let shared = play(dispatched(linked(links), 1, 1));
    let constant = play(dispatched(Dispatch::default(), 1, 1));
    assert!(shared.finished_at.abs_diff(constant.finished_at) <= 2);
}

#[test]
fn a_narrow_link_between_domains_delays_those_that_must_cross_it() {
    let narrow = Links {
        domains: 2,
        between_domains: BetweenDomains {
            bandwidth_gigabytes_per_second: 0.5,
            ..BetweenDomains::default()
        },
        ..Links::default()
    };
    let ttft = |links| {
        let mut service = dispatched(linked(links), 4, 4);
        mean_ttft(&run(
            &mut service,
            constant(load(8.0, 1_500.0, 50.0), 2, 5 * MINUTE),
        ))
    };
    let wide = ttft(Links::default());
    let crossing = ttft(narrow);
    let staying = ttft(Links {
        stay_in_domain: true,
        ..narrow
    });
    assert!(crossing > wide + 0.2, "{crossing} s against {wide} s");
    assert!(
        (staying / wide - 1.0).abs() < 0.1,
        "{staying} s against {wide} s"
    );
}

#[test]
fn without_a_worker_in_the_domain_another_domain_serves() {
    let links = Links {
        domains: 2,
        stay_in_domain: true,
        ..Links::default()
    };
    // The one decode worker stands in the first domain, the prefill workers in both.
    let mut service = dispatched(linked(links), 2, 1);
    let outcomes = run(&mut service, constant(load(8.0, 1_500.0, 50.0), 2, MINUTE));
    assert!(outcomes.iter().all(|o| o.ending == Ending::Completed));
}

#[test]
fn a_crash_cuts_what_is_on_its_way_and_every_byte_is_accounted_for() {
    let links = Links {
        bandwidth_gigabytes_per_second: 1.0,
        ..Links::default()
    };
    let mut service = dispatched(linked(links), 4, 2);
    let mut arrivals = constant(load(12.0, 1_500.0, 50.0), 2, 2 * MINUTE).peekable();
    let mut outcomes = 0;
    for round in 0..6 {
        let until = (round + 1) * 15 * SECOND;
        while let Some(arrival) = arrivals.next_if(|arrival| arrival.at < until) {
            service.offer(arrival);
        }
        let name = service.workers().last().unwrap().name.to_owned();
        service.remove_worker(until, &name, Removal::Crash).unwrap();
        let other = format!("other-{round}");
        service
            .add_worker_ready_at(until, Role::Decode, &other, until + MILLISECOND)
            .unwrap();
        outcomes += service.drain_outcomes().count();
    }
    let offered = service.in_flight() + outcomes;
    outcomes += finish(&mut service).len();
    assert_eq!(outcomes, offered);
    let traffic = service.kv_traffic();
    assert!(traffic.cut > 0);
    assert_eq!(traffic.begun, traffic.ended + traffic.cut);
    assert_eq!(traffic.begun_bytes, traffic.ended_bytes + traffic.cut_bytes);
    // Each request that ended was transferred once after its last restart.
    assert!(traffic.ended >= outcomes as u64);
}

fn local(below_tokens: u32) -> Dispatch {
    Dispatch {
        routing: Routing {
            local_prefill: Some(LocalPrefill {
                below_tokens,
                below_share: None,
            }),
            ..Routing::default()
        },
        links: Some(Links::default()),
        ..Dispatch::default()
    }
}

#[test]
fn a_short_prompt_is_computed_in_a_step_of_its_decode_worker() {
    let profile = Profile::default();
    let mut service = dispatched(local(512), 1, 1);
    service.offer(Arrival {
        at: SECOND,
        input_tokens: 500,
        output_tokens: 3,
        prompt: None,
    });
    let outcome = finish(&mut service)[0];
    // The step has the constant part of a decode step, and the token comes at its end.
    let step = profile.prefill_time(500, 0) as f64 * 1e-9
        + (profile.decode_base_milliseconds - profile.prefill_base_milliseconds) * 1e-3;
    assert!((outcome.ttft_seconds() - step).abs() < 1e-7);
    assert_eq!(service.kv_traffic().begun, 0);
    assert_eq!(total(&service, Role::Prefill, |m| m.generation_tokens), 0);
    assert_eq!(
        total(&service, Role::Decode, |m| m.prompt_tokens_local_compute),
        500
    );
    assert_eq!(total(&service, Role::Decode, |m| m.generation_tokens), 3);
}

#[test]
fn local_prefill_spares_prefill_workers_and_slows_the_batch() {
    let arrivals = || constant(load(12.0, 600.0, 150.0), 3, 10 * MINUTE);
    let count = arrivals().count() as u64;
    let mut split = dispatched(local(0), 3, 2);
    let mut mixed = dispatched(local(1_000), 3, 2);
    let (of_split, of_mixed) = (run(&mut split, arrivals()), run(&mut mixed, arrivals()));
    assert_eq!(of_mixed.len() as u64, count);
    assert_eq!(split.kv_traffic().begun, count);
    let travelled = mixed.kv_traffic().begun;
    assert!(travelled < count / 2, "{travelled} of {count}");
    assert_eq!(
        total(&mixed, Role::Prefill, |m| m.finished_length),
        travelled
    );
    let answer: u64 = of_mixed.iter().map(|o| u64::from(o.output_tokens)).sum();
    assert_eq!(total(&mixed, Role::Decode, |m| m.generation_tokens), answer);
    assert!(mean_tpot(&of_mixed) > mean_tpot(&of_split) * 1.05);
}

#[test]
fn what_a_crash_interrupts_is_computed_again_on_another_decode_worker() {
    let mut service = dispatched(local(1_000), 1, 2);
    for at in 0..40 {
        service.offer(Arrival {
            at,
            input_tokens: 900,
            output_tokens: 20,
            prompt: None,
        });
    }
    let crash = Removal::Crash;
    service
        .remove_worker(50 * MILLISECOND, "Decode-0", crash)
        .unwrap();
    let outcomes = finish(&mut service);
    assert_eq!(outcomes.len(), 40);
    assert_eq!(outcomes.iter().filter(|o| o.restarts == 1).count(), 20);
    assert_eq!(total(&service, Role::Prefill, |m| m.generation_tokens), 0);
}

#[test]
fn a_prefill_worker_that_crashes_cuts_what_it_was_sending() {
    let links = Links {
        bandwidth_gigabytes_per_second: 0.01,
        ..Links::default()
    };
    let mut service = dispatched(linked(links), 2, 1);
    for at in 0..8 {
        service.offer(Arrival {
            at,
            input_tokens: 900,
            output_tokens: 20,
            prompt: None,
        });
    }
    service
        .remove_worker(SECOND, "Prefill-0", Removal::Crash)
        .unwrap();
    assert!(service.kv_traffic().cut > 0);
    let outcomes = finish(&mut service);
    assert_eq!(outcomes.len(), 8);
    let traffic = service.kv_traffic();
    assert_eq!(traffic.ended, 8);
    assert_eq!(traffic.begun, traffic.ended + traffic.cut);
    assert_eq!(traffic.begun_bytes, traffic.ended_bytes + traffic.cut_bytes);
}
