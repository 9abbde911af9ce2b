//! Thin or contradictory evidence moves nothing far.

use std::time::Duration;

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    bottleneck::Bottleneck,
    histogram::Histogram,
    reason::Reason,
    role::{PerRole, Role},
    signal::{Gap, HistogramReading, Reading},
    snapshot::Snapshot,
    testing::{
        self, Load,
        world::{TICK, World},
    },
    zero::ScaleToZero,
};

fn most(world: &World, role: Role) -> u32 {
    world.history.iter().map(|pair| pair[role]).max().unwrap()
}

fn least(world: &World, role: Role) -> u32 {
    world.history.iter().map(|pair| pair[role]).min().unwrap()
}

/// Few of the decode workers are scraped; the sums are of those.
fn stale(snapshot: &mut Snapshot, scraped: u32, seen: u32) {
    let ready = snapshot.roles.decode.ready.max(1);
    let part = f64::from(scraped.min(ready)) / f64::from(ready);
    let signals = &mut snapshot.signals;
    signals.coverage.decode.scraped = scraped.min(ready);
    signals.coverage.decode.seen = seen.min(ready);
    for sum in [
        &mut signals.running_requests.decode,
        &mut signals.output_token_rate_tps,
    ] {
        *sum = sum.known().map_or(*sum, |sum| Reading::of(sum * part));
    }
}

#[rstest]
#[case::most_are_stale(1, 5)]
#[case::most_are_forgotten(1, 1)]
#[case::two_are_stale(3, 5)]
#[case::two_are_forgotten(3, 3)]
fn workers_that_are_not_scraped_teach_nothing(#[case] scraped: u32, #[case] seen: u32) {
    let mut world = steady(Load {
        rate_rps: 70.0,
        prefill_seconds: 0.05,
        output_tokens: 300.0,
    });
    let before = world.current.decode;
    assert!(before >= 5, "{before}");
    let learnt = world.memory.capacity.estimator;
    world.run_seeing(30 * MINUTE, |snapshot| stale(snapshot, scraped, seen));
    let capacity = |estimator: &crate::capacity::Estimator| {
        estimator.capacity(None).batch_within(0.045, 1_100.0)
    };
    assert_eq!(
        capacity(&world.memory.capacity.estimator),
        capacity(&learnt)
    );
    world.run(60 * MINUTE);
    assert_eq!(least(&world, Role::Decode), before, "{:?}", world.history);
}

/// As engines show it after all clients went at once: gauges as they were, counters still.
fn frozen(snapshot: &mut Snapshot, decode: bool, prefill: bool) {
    let signals = &mut snapshot.signals;
    signals.prefill_completion_rate_rps = Reading::KnownZero;
    signals.decode_completion_rate_rps = Reading::KnownZero;
    signals.output_token_rate_tps = Reading::KnownZero;
    signals.prefill_queue_growth_rps = Reading::KnownZero;
    if decode {
        signals.running_requests.decode = Reading::Value(60.0);
        signals.decode_kv_usage = Reading::Value(0.8);
    } else {
        signals.running_requests.decode = Reading::KnownZero;
        signals.decode_kv_usage = Reading::KnownZero;
    }
    if prefill {
        signals.running_requests.prefill = Reading::Value(2.0);
        signals.waiting_requests.prefill = Reading::Value(5.0);
    } else {
        signals.running_requests.prefill = Reading::KnownZero;
    }
}

#[rstest]
#[case::decode_gauges(true, false)]
#[case::gauges_of_both(true, true)]
fn gauges_that_freeze_while_no_counter_moves_are_not_believed_for_long(
    #[case] decode: bool,
    #[case] prefill: bool,
) {
    let mut world = steady(Load {
        rate_rps: 40.0,
        output_tokens: 500.0,
        ..LOAD
    });
    let before = world.current;
    world.policy.scale_to_zero = Some(ScaleToZero {
        idle_after: 10 * MINUTE,
    });
    world.load.rate_rps = 0.0;
    let decision = world.run_seeing(60 * MINUTE, |snapshot| {
        frozen(snapshot, decode, prefill);
        snapshot.signals.wake_requests = Reading::KnownZero;
    });
    assert!(
        most(&world, Role::Prefill) <= before.prefill,
        "{:?}",
        world.history
    );
    assert!(
        most(&world, Role::Decode) <= before.decode,
        "{:?}",
        world.history
    );
    let one = PerRole {
        prefill: 1,
        decode: 1,
    };
    assert_eq!(world.current, one, "lowered, and not to zero");
    assert!(decision.report.has(Reason::SignalsContradict));
}

#[rstest]
#[case::four_of_four(4.0, 4)]
#[case::two_of_four(2.0, 2)]
fn prompts_that_compute_for_minutes_keep_their_workers(#[case] running: f64, #[case] kept: u32) {
    let mut world = steady(Load {
        rate_rps: 20.0,
        ..LOAD
    });
    world.apply(PerRole {
        prefill: 4,
        decode: 2,
    });
    world.policy.scale_to_zero = Some(ScaleToZero {
        idle_after: 10 * MINUTE,
    });
    world.load.rate_rps = 0.0;
    world.run_seeing(40 * MINUTE, |snapshot| {
        let signals = &mut snapshot.signals;
        signals.wake_requests = Reading::KnownZero;
        signals.running_requests = PerRole {
            prefill: Reading::Value(running),
            decode: Reading::KnownZero,
        };
    });
    assert!(least(&world, Role::Prefill) >= kept, "{:?}", world.history);
    assert!(least(&world, Role::Decode) >= 1);
}

/// 33 times too few tokens.
const TOO_SMALL_TOKENS: f64 = 400_000.0 / 33.0;

#[test]
fn a_kv_capacity_that_its_use_contradicts_is_not_believed() {
    let mut world = steady(LOAD);
    let before = world.current;
    let decision = world.run_seeing(30 * MINUTE, |snapshot| {
        let signals = &mut snapshot.signals;
        let batch = signals.running_requests.decode.known().unwrap()
            / f64::from(snapshot.roles.decode.ready);
        signals.decode_kv_usage = Reading::of(batch * 1_150.0 / 400_000.0);
        signals.decode_kv_capacity_tokens = Reading::of(TOO_SMALL_TOKENS);
    });
    assert_eq!(
        most(&world, Role::Decode),
        before.decode,
        "{:?}",
        world.history
    );
    let step = decision.report.step(Reason::SignalsContradict);
    assert!(
        step.is_some_and(|step| step.message.contains("12121")),
        "{step:?}"
    );
}

/// Every step gives `tokens` tokens, and engines observe the time of the step.
fn drafted(snapshot: &mut Snapshot, tokens: f64) {
    for window in [&mut snapshot.signals.recent, &mut snapshot.signals.wide] {
        if let HistogramReading::Value(times) = &window.inter_token_latency {
            let (mean, count) = (times.mean().unwrap(), times.count());
            window.inter_token_latency = testing::around(mean * tokens, count / tokens);
        }
    }
}

#[rstest]
#[case::two_tokens(2.0)]
#[case::three_and_a_half(3.5)]
#[case::chunks_of_eight(8.0)]
fn the_time_of_a_step_with_several_tokens_is_not_that_of_one(#[case] tokens: f64) {
    let mut world = steady(LOAD);
    let before = world.current;
    world.run_seeing(60 * MINUTE, |snapshot| drafted(snapshot, tokens));
    assert_eq!(world.current, before);
    assert_eq!(
        most(&world, Role::Decode),
        before.decode,
        "{:?}",
        world.history
    );
}

/// Clients leave before they are served: few prompts are completed while all workers compute.
fn given_up(snapshot: &mut Snapshot, waiting: f64) {
    let workers = f64::from(snapshot.roles.prefill.ready);
    let signals = &mut snapshot.signals;
    signals.prefill_completion_rate_rps = Reading::of(0.5);
    signals.decode_completion_rate_rps = Reading::of(0.5);
    signals.output_token_rate_tps = Reading::of(150.0);
    signals.prefill_queue_growth_rps = Reading::KnownZero;
    signals.running_requests.prefill = Reading::of(workers);
    signals.waiting_requests.prefill = Reading::of(waiting);
}

#[rstest]
#[case::with_a_queue(60.0)]
#[case::without_one(0.0)]
fn completions_that_fall_while_all_workers_compute_lower_nothing(#[case] waiting: f64) {
    let mut world = steady(Load {
        rate_rps: 60.0,
        ..LOAD
    });
    let before = world.current.prefill;
    assert!(before >= 8, "{before}");
    world.run_seeing(30 * MINUTE, |snapshot| given_up(snapshot, waiting));
    assert!(
        least(&world, Role::Prefill) >= before,
        "{:?}",
        world.history
    );
}

#[test]
fn a_backlog_that_drains_does_not_arrive() {
    let mut world = steady(LOAD);
    let drained = |snapshot: &mut Snapshot| {
        let signals = &mut snapshot.signals;
        signals.prefill_completion_rate_rps = Reading::of(40.0);
        signals.prefill_queue_drain_rps = Reading::of(20.0);
    };
    let decision = world.run_seeing(TICK, drained);
    assert_eq!(decision.report.observed.arrival_rate_rps, Some(20.0));
}

#[test]
fn prompts_that_decode_computes_late_are_late_and_those_in_time_are_in_time() {
    let mut world = steady(LOAD);
    // Half of the requests use prefill; the others take 0.9 s on decode alone.
    let half = |snapshot: &mut Snapshot| {
        let signals = &mut snapshot.signals;
        let edges = vec![(0.025, 600.0), (0.8, 600.0), (1.0, 1_200.0)];
        let both = Histogram::from_cumulative(edges, 1_200.0, 600.0 * 0.02 + 600.0 * 0.9);
        signals.decode_ttft_attainment = HistogramReading::Value(both.unwrap());
        signals.prefill_ttft_attainment = testing::around(0.05, 600.0);
    };
    let decision = world.run_seeing(TICK, half);
    let attained = decision.report.observed.ttft_attainment.unwrap();
    assert!((attained - 0.5).abs() < 0.02, "{attained}");
}

/// As measured on a real service: 2.4 requests/s, workers 12 % busy, nobody waits.
fn real(snapshot: &mut Snapshot) {
    let signals = &mut snapshot.signals;
    for window in [&mut signals.recent, &mut signals.wide] {
        window.prefill_ttft = testing::around(0.55, 144.0);
        window.decode_ttft = testing::around(0.1, 144.0);
    }
    signals.prefill_ttft_attainment = testing::around(0.55, 8_640.0);
}

#[test]
fn time_that_is_lost_in_neither_queue_nor_compute_buys_nothing() {
    let mut world = steady(Load {
        rate_rps: 2.4,
        prefill_seconds: 0.05,
        output_tokens: 40.0,
    });
    let before = world.current;
    let decision = world.run_seeing(60 * MINUTE, real);
    assert_eq!(decision.report.bottleneck, Bottleneck::Overhead);
    assert_eq!(world.current, before);
    assert!(!decision.report.has(Reason::PrefillLatency));
}

#[test]
fn the_first_few_requests_buy_nothing() {
    let mut world = World::new(
        1,
        1,
        Load {
            rate_rps: 0.24,
            prefill_seconds: 0.4,
            output_tokens: 40.0,
        },
    );
    world.run_seeing(MINUTE, |snapshot| {
        let signals = &mut snapshot.signals;
        for window in [&mut signals.recent, &mut signals.wide] {
            window.prompt_tokens = testing::around(473.0, 5.0);
            window.prefill_time = testing::around(0.4, 5.0);
            window.prefill_ttft = testing::around(0.42, 5.0);
        }
    });
    assert_eq!(most(&world, Role::Prefill), 1, "{:?}", world.history);
}

#[test]
fn partial_evidence_shows_a_rise() {
    let mut world = steady(LOAD);
    let one_missing = |snapshot: &mut Snapshot| {
        let coverage = &mut snapshot.signals.coverage.prefill;
        coverage.scraped = coverage.scraped.saturating_sub(1);
    };
    world.load.rate_rps = 60.0;
    let decision = world.run_seeing(5 * MINUTE, one_missing);
    let forecast = decision.report.forecast.prefill.unwrap();
    assert!(forecast.latest > 4.0, "{forecast:?}");
}

#[test]
fn a_window_that_a_start_fills_in_part_teaches_no_wait() {
    let mut world = World::new(4, 4, LOAD);
    let mut elapsed = Duration::ZERO;
    while elapsed < 3 * MINUTE {
        elapsed += TICK;
        let filled = elapsed.as_secs_f64().min(60.0);
        world.tick_seeing(|snapshot| {
            let signals = &mut snapshot.signals;
            // The first prompts waited for a second; the counters began with the service.
            let count = 20.0 * filled;
            let since_start = 20.0 * elapsed.as_secs_f64();
            signals.recent.prefill_ttft = testing::around(1.3, count);
            signals.wide.prefill_ttft = testing::around(1.3, since_start);
            signals.prefill_completion_rate_rps = Reading::of(count / 60.0);
        });
    }
    let capacity = world.memory.capacity.estimator.capacity(None);
    assert!(capacity.ttft_residual_seconds < 0.01, "{capacity:?}");
    assert!(capacity.routing_factor < 1.01, "{capacity:?}");
}

#[test]
fn a_minute_of_prompts_beyond_the_limit_excuses_no_hour_of_misses() {
    let mut world = steady(LOAD);
    // 5 % of the hour were late. For a minute all prompts compute longer than the limit.
    let late = |snapshot: &mut Snapshot| {
        let all = LOAD.rate_rps * 3_600.0;
        let (kept, missed) = (0.95 * all, 0.05 * all);
        let edges = vec![(0.4, kept), (2.0, kept), (4.0, all)];
        let hour = Histogram::from_cumulative(edges, all, kept * 0.2 + missed * 3.0);
        snapshot.signals.prefill_ttft_attainment = HistogramReading::Value(hour.unwrap());
    };
    world.load.prefill_seconds = 0.7;
    let decision = world.run_seeing(MINUTE, late);
    let left = decision.report.risk_target.prefill.budget_left;
    assert!(left < Some(0.0), "{left:?}");
}

#[test]
fn without_the_decode_part_the_share_is_that_of_prefill() {
    let mut world = steady(LOAD);
    let alone = |snapshot: &mut Snapshot| {
        let signals = &mut snapshot.signals;
        signals.decode_ttft_attainment = HistogramReading::Unknown(Gap::Empty);
        signals.recent.decode_ttft = HistogramReading::Unknown(Gap::Empty);
        signals.wide.decode_ttft = HistogramReading::Unknown(Gap::Empty);
    };
    let decision = world.run_seeing(TICK, alone);
    assert_eq!(decision.report.observed.ttft_attainment, Some(1.0));
}

/// The gateway's TTFT is `seconds`, whatever the engines do.
fn slow_gateway(snapshot: &mut Snapshot, seconds: f64) {
    let requests = 600.0;
    for window in [&mut snapshot.signals.recent, &mut snapshot.signals.wide] {
        window.gateway_ttft = testing::around(seconds, requests);
    }
    snapshot.signals.gateway_ttft_attainment = testing::around(seconds, requests);
}

#[rstest]
#[case::within_the_limit(0.3)]
#[case::twice_the_limit(1.0)]
#[case::far_over_it(5.0)]
fn time_that_requests_lose_before_the_workers_buys_none(#[case] seconds: f64) {
    let mut world = steady(LOAD);
    let before = world.current;
    world.run_seeing(60 * MINUTE, |snapshot| slow_gateway(snapshot, seconds));
    assert_eq!(world.current, before, "{:?}", world.history);
}
