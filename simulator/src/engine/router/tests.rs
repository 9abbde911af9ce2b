//! Each rule on tables of workers: what it takes, and what it draws.

use rstest::rstest;

use super::*;

/// Workers as (requests, waiting, KV usage, share of the prompt held), by place.
fn candidates(workers: &[(u64, u64, f64, f64)]) -> Vec<Candidate> {
    let candidate = |(place, &(requests, waiting, kv_usage, cached_share))| Candidate {
        place,
        requests,
        waiting,
        kv_usage,
        cached_share,
    };
    (0..).zip(workers).map(candidate).collect()
}

fn router(rule: Rule, routing: Routing) -> Router {
    let routing = Routing {
        prefill: rule,
        ..routing
    };
    Router::new(&routing, Role::Prefill, 7)
}

#[rstest]
#[case::holds_most(&[(5, 0, 0.1, 0.4), (9, 0, 0.1, 0.8), (1, 0, 0.1, 0.0)], 1)]
#[case::not_above_threshold(&[(5, 0, 0.1, 0.3), (9, 0, 0.1, 0.2), (1, 0, 0.1, 0.0)], 2)]
#[case::equal_prefix_less_load(&[(5, 0, 0.1, 0.8), (4, 0, 0.1, 0.8), (1, 0, 0.1, 0.0)], 1)]
#[case::difference_at_threshold(&[(74, 0, 0.1, 0.8), (10, 0, 0.1, 0.0)], 0)]
#[case::out_of_balance(&[(75, 0, 0.1, 0.8), (10, 0, 0.1, 0.0)], 1)]
#[case::much_in_all_is_balanced(&[(265, 0, 0.1, 0.8), (200, 0, 0.1, 0.0)], 0)]
#[case::nothing_known(&[(2, 0, 0.1, 0.0), (2, 0, 0.1, 0.0)], 0)]
fn cache_aware_weighs_prefix_against_balance(
    #[case] workers: &[(u64, u64, f64, f64)],
    #[case] want: u32,
) {
    let mut router = router(Rule::CacheAware, Routing::default());
    assert_eq!(router.choose(&candidates(workers)), Some(want));
}

#[rstest]
// 3 * 0.5 + 2 * 0 + 2 * 0.5 = 2.5 against 0 + 2 + 2 * 0.9 = 3.8.
#[case::queue_and_kv_outweigh(&[(9, 8, 0.5, 0.5), (1, 0, 0.1, 0.0)], 1)]
// 3 * 1 + 0 + 2 * 0.5 = 4 against 3.8.
#[case::a_whole_prefix_outweighs(&[(9, 8, 0.5, 1.0), (1, 0, 0.1, 0.0)], 0)]
// Equal queues count 1 each, so 2 + 1 against 2 + 1.8.
#[case::equal_queues_are_neutral(&[(9, 3, 0.5, 0.0), (1, 3, 0.1, 0.0)], 1)]
// The queue in the middle counts 2 * 0.5: 1 + 3 * 0.9 + 2 against 2 + 2 and 0 + 2.
#[case::queues_are_placed_between(&[(4, 4, 0.0, 0.9), (0, 0, 0.0, 0.0), (8, 8, 0.0, 0.0)], 0)]
fn epp_scoring_takes_the_highest_sum(#[case] workers: &[(u64, u64, f64, f64)], #[case] want: u32) {
    let mut router = router(Rule::EppScoring, Routing::default());
    assert_eq!(router.choose(&candidates(workers)), Some(want));
}

#[test]
fn epp_weights_decide() {
    let scoring = EppScoring {
        prefix_weight: 0.0,
        ..EppScoring::default()
    };
    let routing = Routing {
        epp_scoring: scoring,
        ..Routing::default()
    };
    let workers = candidates(&[(9, 8, 0.5, 1.0), (1, 0, 0.1, 0.0)]);
    assert_eq!(router(Rule::EppScoring, routing).choose(&workers), Some(1));
}

#[test]
fn epp_draws_evenly_among_equals() {
    let workers = candidates(&[(1, 0, 0.1, 0.0); 4]);
    let mut router = router(Rule::EppScoring, Routing::default());
    let mut counts = [0; 4];
    for _ in 0..4_000 {
        counts[router.choose(&workers).unwrap() as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (850..1_150).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn round_robin_takes_turns() {
    let mut router = router(Rule::RoundRobin, Routing::default());
    let three = candidates(&[(0, 0, 0.0, 0.0); 3]);
    let taken: Vec<_> = (0..5).map(|_| router.choose(&three).unwrap()).collect();
    assert_eq!(taken, [0, 1, 2, 0, 1]);
    assert_eq!(router.choose(&three[..1]), Some(0));
}

#[test]
fn power_of_two_never_takes_the_most_loaded_and_draws_all_others() {
    let mut router = router(Rule::PowerOfTwo, Routing::default());
    let workers = candidates(&[(9, 0, 0.0, 0.0), (1, 0, 0.0, 0.0), (5, 0, 0.0, 0.0)]);
    let mut counts = [0; 3];
    for _ in 0..3_000 {
        counts[router.choose(&workers).unwrap() as usize] += 1;
    }
    // The least loaded is in two of three pairs.
    assert_eq!(counts[0], 0);
    assert!((1_900..2_100).contains(&counts[1]), "{counts:?}");
}

#[rstest]
fn without_workers_nobody_is_chosen(
    #[values(Rule::RoundRobin, Rule::PowerOfTwo, Rule::CacheAware, Rule::EppScoring)] rule: Rule,
) {
    assert_eq!(router(rule, Routing::default()).choose(&[]), None);
}

#[rstest]
fn a_single_worker_gets_all(
    #[values(Rule::RoundRobin, Rule::PowerOfTwo, Rule::CacheAware, Rule::EppScoring)] rule: Rule,
) {
    let mut router = router(rule, Routing::default());
    let mut alone = candidates(&[(3, 1, 0.5, 0.2)]);
    alone[0].place = 6;
    assert_eq!(router.choose(&alone), Some(6));
}
