//! The formulas against closed forms, laws, and a queue simulated request by request.
//!
//! The oracle draws arrivals and service times and gives each request to the server that is free
//! first. It shares nothing with the formulas but the description of the work.

use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::testing::Draws;

fn exponential_like(rate: f64) -> Work {
    // Service of exactly 1 s has no variance; the M/M/c table below wants SCV 1, which two
    // points of equal share at 0 and 2 seconds have.
    Work {
        arrival_rate_rps: rate,
        arrival_scv: 1.0,
        service: vec![(0.0, 0.5), (2.0, 0.5)],
    }
}

/// A limit without a wait that is always allowed.
fn within(seconds: f64) -> Limit {
    Limit {
        seconds,
        wait_min_seconds: None,
        overload_seconds: 60.0,
    }
}

fn servers_for(work: &Work, limit_seconds: f64, servers_max: u32) -> Option<u32> {
    attainment(work, within(limit_seconds), 1.0, servers_max).servers_for(0.05)
}

// Erlang C by hand: C(1, 0.5) = 0.5; C(2, 1) = 1/3; C(3, 2) = 4/9. At a limit of exactly the
// service time nobody may wait, so what misses is the chance to wait.
#[rstest]
#[case(1, 0.5, 0.5)]
#[case(2, 1.0, 1.0 / 3.0)]
#[case(3, 2.0, 4.0 / 9.0)]
fn erlang_c_matches_its_closed_form(#[case] servers: u32, #[case] load: f64, #[case] want: f64) {
    let work = Work {
        arrival_rate_rps: load,
        arrival_scv: 1.0,
        service: vec![(1.0, 1.0)],
    };
    // Below a half the share of an overloaded pool would be the floor.
    let got = 1.0 - attainment(&work, within(1.0), 1.0, 8).share(servers);
    assert!((got - want.min(0.5)).abs() < 1e-12, "{got} != {want}");
}

#[test]
fn larger_pools_may_run_hotter() {
    let utilisation =
        |rate: f64| rate / f64::from(servers_for(&exponential_like(rate), 4.0, 1_000).unwrap());
    assert!(utilisation(1.0) < utilisation(10.0));
    assert!(utilisation(10.0) < utilisation(100.0));
}

#[test]
fn a_router_that_does_not_know_the_work_takes_more_servers() {
    let work = exponential_like(20.0);
    let blind = attainment(&work, within(4.0), 5.0, 1_000).servers_for(0.05);
    assert!(blind > servers_for(&work, 4.0, 1_000), "{blind:?}");
}

#[test]
fn bursts_take_more_servers() {
    let bursty = Work {
        arrival_scv: 6.0,
        ..exponential_like(20.0)
    };
    assert!(servers_for(&bursty, 4.0, 1_000) > servers_for(&exponential_like(20.0), 4.0, 1_000));
}

#[test]
fn prompts_longer_than_the_limit_wait_no_longer_than_is_always_allowed() {
    let work = Work {
        arrival_rate_rps: 1.0,
        arrival_scv: 1.0,
        service: vec![(0.1, 0.9), (9.0, 0.1)],
    };
    let limit = Limit {
        seconds: 0.5,
        wait_min_seconds: Some(0.05),
        overload_seconds: 60.0,
    };
    let servers = attainment(&work, limit, 1.0, 100).servers_for(0.05);
    assert!(servers.is_some_and(|servers| servers < 8), "{servers:?}");
}

#[test]
fn no_work_needs_one_server_and_too_much_is_not_met() {
    assert_eq!(servers_for(&exponential_like(0.0), 1.0, 8), Some(1));
    assert_eq!(servers_for(&exponential_like(100.0), 1.0, 8), None);
}

proptest! {
    #[test]
    fn more_load_never_needs_fewer_servers(
        rate in 0.0f64..50.0, more in 0.0f64..20.0, service in 0.01f64..2.0, limit in 0.1f64..5.0,
    ) {
        let work = |rate| Work { arrival_rate_rps: rate, arrival_scv: 1.0, service: vec![(service, 1.0)] };
        let less = servers_for(&work(rate), limit, 500);
        let greater = servers_for(&work(rate + more), limit, 500);
        prop_assert!(less <= greater || greater.is_none(), "{less:?} {greater:?}");
    }

    #[test]
    fn longer_service_never_needs_fewer_servers(
        rate in 0.1f64..40.0, limit in -0.5f64..3.0, allowed in 0.01f64..0.3,
        service in prop::collection::vec((0.01f64..3.0, 0.01f64..1.0), 1..6),
        longer in 1.0f64..3.0, to_longer in 0.0f64..1.0,
    ) {
        let shares: f64 = service.iter().map(|(_, share)| share).sum();
        let of = |factor: f64, moved: f64| {
            let last = service.len() - 1;
            let mut points: Vec<(f64, f64)> = service
                .iter()
                .map(|(seconds, share)| (seconds * factor, share / shares))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            // A part of the shortest becomes as long as the longest.
            let part = points[0].1 * moved;
            points[0].1 -= part;
            points[last].1 += part;
            let work = Work { arrival_rate_rps: rate, arrival_scv: 1.0, service: points };
            let limit = Limit { seconds: limit, wait_min_seconds: Some(0.05), overload_seconds: 60.0 };
            attainment(&work, limit, 1.0, 400).servers_for(allowed).unwrap_or(401)
        };
        let as_it_is = of(1.0, 0.0);
        prop_assert!(of(longer, 0.0) >= as_it_is, "longer");
        prop_assert!(of(1.0, to_longer) >= as_it_is, "another mix");
    }

    #[test]
    fn shares_never_fall_with_servers_and_stay_shares(
        rate in 0.0f64..80.0, scv in 0.0f64..20.0, factor in 0.0f64..9.0,
        long in 0.1f64..9.0, limit in -1.0f64..9.0,
    ) {
        let work = Work { arrival_rate_rps: rate, arrival_scv: scv, service: vec![(0.1, 0.7), (long, 0.3)] };
        let attained = attainment(&work, within(limit), factor, 64);
        prop_assert_eq!(attained.shares.len(), 65);
        prop_assert!(attained.shares.iter().all(|share| (0.0..=1.0).contains(share)));
        prop_assert!(attained.shares.is_sorted());
    }
}

/// Share of `requests` requests that miss the limit in a pool of `servers`, first come first
/// served.
fn simulated_miss_share(work: &Work, servers: u32, limit_seconds: f64, requests: u32) -> f64 {
    let mut draws = Draws(7);
    // Times as integers of a nanosecond, so that the heap can order them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "simulated times are small and not negative"
    )]
    let nanos = |seconds: f64| (seconds * 1e9) as u64;
    let mut free_at: BinaryHeap<Reverse<u64>> = (0..servers).map(|_| Reverse(0)).collect();
    let (mut now, mut missed, mut reachable) = (0.0_f64, 0_u32, 0_u32);
    for _ in 0..requests {
        now += -(1.0 - draws.next()).ln() / work.arrival_rate_rps;
        let seconds = draws.of(&work.service);
        let Reverse(free) = free_at.pop().unwrap();
        let start = free.max(nanos(now));
        free_at.push(Reverse(start + nanos(seconds)));
        if seconds <= limit_seconds {
            reachable += 1;
            missed += u32::from(start as f64 / 1e9 - now + seconds > limit_seconds);
        }
    }
    f64::from(missed) / f64::from(reachable)
}

/// Prompt mixes as `(prefill milliseconds, share)`: of chats (mild spread), of code (many short,
/// some long), of very long documents, and of reasoning (mostly tiny, a few huge).
fn mix(name: &str) -> Vec<(f64, f64)> {
    let points: &[(f64, f64)] = match name {
        "chat" => &[(20.0, 0.3), (50.0, 0.4), (110.0, 0.2), (200.0, 0.1)],
        "code" => &[(40.0, 0.35), (75.0, 0.3), (160.0, 0.25), (330.0, 0.1)],
        "documents" => &[(90.0, 0.3), (310.0, 0.4), (900.0, 0.2), (3_000.0, 0.1)],
        _ => &[(14.0, 0.6), (40.0, 0.25), (130.0, 0.1), (430.0, 0.05)],
    };
    points
        .iter()
        .map(|&(ms, share)| (ms / 1e3, share))
        .collect()
}

/// The highest load per server at which the formula promises the limit for 95 %.
fn utilisation_promised(service: &[(f64, f64)], servers: u32, limit_seconds: f64) -> f64 {
    let (mut good, mut bad) = (0.0, 1.0);
    for _ in 0..20 {
        let middle = f64::midpoint(good, bad);
        let work = at_utilisation(service, servers, middle);
        let share = attainment(&work, within(limit_seconds), 1.0, servers).share(servers);
        if share >= 0.95 {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

fn at_utilisation(service: &[(f64, f64)], servers: u32, utilisation: f64) -> Work {
    let mean: f64 = service.iter().map(|(seconds, share)| seconds * share).sum();
    Work {
        arrival_rate_rps: utilisation * f64::from(servers) / mean,
        arrival_scv: 1.0,
        service: service.to_vec(),
    }
}

/// The bar: with two or more servers, the load that the formula promises to bear is right to within
/// 0.02 of utilisation on either side.
#[rstest]
fn the_formula_finds_the_load_that_a_simulated_queue_bears(
    #[values(("chat", 0.30), ("code", 0.51), ("documents", 7.2), ("documents", 3.6), ("reasoning", 0.48))]
    case: (&str, f64),
    #[values(2, 4, 8, 16, 32)] servers: u32,
) {
    const WITHIN: f64 = 0.02;
    let (service, limit_seconds) = (mix(case.0), case.1);
    let promised = utilisation_promised(&service, servers, limit_seconds);
    let simulated = |utilisation: f64| {
        let work = at_utilisation(&service, servers, utilisation);
        simulated_miss_share(&work, servers, limit_seconds, 400_000)
    };
    let kept = simulated(promised - WITHIN);
    assert!(kept <= 0.05, "{kept} miss at {promised:.3} - {WITHIN}");
    if promised + WITHIN < 1.0 {
        let broken = simulated(promised + WITHIN);
        assert!(broken >= 0.05, "{broken} miss at {promised:.3} + {WITHIN}");
    }
}
