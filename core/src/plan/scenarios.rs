//! The failures that users of other autoscalers report, each as a scenario that must not happen here.
//!
//! Numbers follow the project's catalogue of failures, F1 to F30. Each test says what goes wrong
//! elsewhere by saying what must hold. Four take real parts and are elsewhere: counter resets (F3) and
//! two Prometheus replicas (F22) in `tests/tests/signals.rs`, two controllers (F14) and a contended target
//! (F15) in `tests/tests/end_to_end.rs`.

use std::time::Duration;

use crate::{
    budget::{self, Claim},
    guard::StuckCause,
    histogram::Histogram,
    memory::Memory,
    policy::{Enforcement, RatioPolicy},
    ratio::{Ratio, RatioBand},
    report::{Bottleneck, Reason},
    role::{PerRole, Role},
    signal::{Gap, HistogramReading, Reading, Signals},
    snapshot::Snapshot,
    testing::{
        self, Load,
        world::{TICK, World},
    },
    zero::ScaleToZero,
};

const LOAD: Load = Load {
    rate_rps: 20.0,
    prefill_seconds: 0.1,
    output_tokens: 300.0,
};

const MINUTE: Duration = Duration::from_mins(1);

/// A service that has served `load` for an hour, with a start-up time of two minutes.
fn settled(load: Load) -> World {
    let mut world = World::new(4, 4, load);
    world.start_up = 2 * MINUTE;
    world.run(60 * MINUTE);
    world.history.clear();
    world
}

fn prometheus_down(snapshot: &mut Snapshot) {
    snapshot.signals = Signals::default();
}

#[test]
fn f1_ten_minutes_without_prometheus_hold_what_serves() {
    let mut world = settled(LOAD);
    let before = world.current;
    let decision = world.run_seeing(10 * MINUTE, prometheus_down);
    assert!(world.history.iter().all(|replicas| *replicas == before));
    assert!(decision.report.has(Reason::MetricsMissing));
}

#[test]
fn f2_a_quantile_of_no_traffic_is_idleness_only_when_the_counter_says_so() {
    let mut world = settled(LOAD);
    world.load.rate_rps = 0.0;
    let nan = |snapshot: &mut Snapshot| {
        snapshot.signals.recent.prefill_ttft = HistogramReading::Unknown(Gap::NotANumber);
        snapshot.signals.recent.tpot = HistogramReading::Unknown(Gap::NotANumber);
    };
    world.run_seeing(30 * MINUTE, nan);
    assert_eq!(
        world.current,
        PerRole {
            prefill: 1,
            decode: 1
        }
    );

    let mut world = settled(LOAD);
    let before = world.current;
    world.load.rate_rps = 0.0;
    world.run_seeing(30 * MINUTE, |snapshot| {
        nan(snapshot);
        snapshot.signals.prefill_completion_rate_rps = Reading::Unknown(Gap::NotANumber);
        snapshot.signals.output_token_rate_tps = Reading::Unknown(Gap::NotANumber);
    });
    assert_eq!(world.current, before);
}

#[test]
fn f4_one_worker_that_is_not_scraped_neither_lowers_nor_stops_growth() {
    let one_missing = |snapshot: &mut Snapshot| {
        let coverage = &mut snapshot.signals.coverage.prefill;
        coverage.scraped = coverage.scraped.saturating_sub(1);
    };
    let mut world = settled(LOAD);
    let before = world.current;
    world.load.rate_rps = 2.0;
    world.run_seeing(20 * MINUTE, one_missing);
    assert_eq!(world.current.prefill, before.prefill);
    world.load.rate_rps = 60.0;
    world.run_seeing(5 * MINUTE, one_missing);
    assert!(world.current.prefill > before.prefill);
}

#[test]
fn f5_a_doubled_load_is_asked_for_once_while_replicas_start() {
    let mut world = settled(LOAD);
    world.start_up = 5 * MINUTE;
    world.load.rate_rps *= 2.0;
    world.run(5 * MINUTE);
    let asks = |role| {
        let raised = |pair: &&[PerRole<u32>]| pair[1].get(role) > pair[0].get(role);
        world.history.windows(2).filter(raised).count()
    };
    let lowered = world
        .history
        .windows(2)
        .any(|pair| pair[1].prefill < pair[0].prefill || pair[1].decode < pair[0].decode);
    assert!(!lowered, "{:?}", world.history);
    // What a full pool lets through is all that is measured at first; then the surprise makes careful.
    let raised = (asks(Role::Prefill), asks(Role::Decode));
    assert!(raised.0 <= 3 && raised.1 <= 3, "{:?}", world.history);
    assert!(
        world.current.prefill <= 8 && world.current.decode <= 6,
        "{:?}",
        world.current
    );
}

#[test]
fn f6_a_role_that_gets_no_gpus_does_not_stop_the_other() {
    let mut world = settled(LOAD);
    let before = world.current;
    world.never_ready = Some(Role::Decode);
    world.load = Load {
        rate_rps: 40.0,
        output_tokens: 600.0,
        ..LOAD
    };
    let stuck = |snapshot: &mut Snapshot| {
        let pending = snapshot.roles.decode.starting;
        if pending > 0 {
            snapshot.roles.decode.stuck = Some((pending, StuckCause::Unschedulable));
        }
    };
    world.run_seeing(8 * MINUTE, stuck);
    assert!(world.ready(Role::Prefill) > before.prefill);
    assert!(world.current.decode > before.decode);
    let decision = world.run_seeing(6 * MINUTE, stuck);
    assert_eq!(world.current.decode, before.decode, "the ask is taken back");
    assert!(decision.report.has(Reason::StuckWaiting));
}

#[test]
fn f7_at_a_full_budget_the_idle_role_releases_before_the_other_grows() {
    let mut world = settled(LOAD);
    world.drain = MINUTE;
    let held = world.current.prefill + world.current.decode;
    world.policy.budget_gpus = Some(held * world.gpus_per_replica);
    world.load = Load {
        prefill_seconds: 0.2,
        output_tokens: 20.0,
        ..LOAD
    };
    // The audit of every tick holds the sum at every instant.
    world.run(30 * MINUTE);
    assert!(
        world.current.decode == 1 && world.current.prefill == held - 1,
        "{held} {:?}",
        world.history
    );
}

#[test]
fn f8_a_budget_below_the_least_replicas_holds_and_is_told() {
    let mut world = settled(LOAD);
    let before = world.current;
    world.policy.budget_gpus = Some(4);
    let decision = world.run(10 * MINUTE);
    assert_eq!(world.current, before);
    assert!(decision.report.has(Reason::BudgetInfeasible));
}

#[test]
fn f9_ttft_that_decode_causes_grows_decode() {
    let mut world = settled(LOAD);
    let before = world.current;
    let full = |snapshot: &mut Snapshot| {
        let ttft = testing::around(1.5, 600.0);
        snapshot.signals.recent.decode_ttft = ttft.clone();
        snapshot.signals.wide.decode_ttft = ttft;
        snapshot.signals.waiting_requests.decode = Reading::Value(80.0);
        snapshot.signals.decode_kv_usage = Reading::Value(0.99);
    };
    let decision = world.run_seeing(3 * MINUTE, full);
    assert_eq!(decision.report.bottleneck, Bottleneck::DecodeAdmission);
    assert!(world.current.decode > before.decode);
    assert_eq!(world.current.prefill, before.prefill);
}

#[test]
fn f10_a_clipped_quantile_is_a_lower_bound_and_the_queue_decides() {
    let mut world = settled(LOAD);
    let before = world.current;
    world.load.rate_rps *= 2.0;
    let clipped = |snapshot: &mut Snapshot| {
        // Every request is beyond the last bucket, which ends far below the limit.
        let beyond = Histogram::from_cumulative(vec![(0.1, 0.0), (0.3, 0.0)], 2_000.0, 9_000.0);
        let beyond = HistogramReading::Value(beyond.unwrap());
        snapshot.signals.recent.prefill_ttft = beyond.clone();
        snapshot.signals.wide.prefill_ttft = beyond;
    };
    let decision = world.run_seeing(MINUTE, clipped);
    assert_eq!(decision.report.bottleneck, Bottleneck::PrefillQueue);
    assert!(world.current.prefill > before.prefill);
}

#[test]
fn f11_one_slow_request_of_twelve_moves_nothing() {
    let mut world = settled(LOAD);
    world.policy.objective.ttft.percentile = 99;
    world.run(30 * MINUTE);
    world.history.clear();
    let before = world.current;
    let outlier = |snapshot: &mut Snapshot| {
        let edges = vec![(0.1, 0.0), (0.25, 11.0), (5.0, 11.0), (10.0, 12.0)];
        let few = Histogram::from_cumulative(edges, 12.0, 10.0).unwrap();
        snapshot.signals.recent.prefill_ttft = HistogramReading::Value(few);
    };
    world.run_seeing(5 * MINUTE, outlier);
    assert!(
        world.history.iter().all(|replicas| *replicas == before),
        "{:?}",
        world.history
    );
}

#[test]
fn f12_one_low_sample_lowers_nothing() {
    let mut world = settled(LOAD);
    let before = world.current;
    world.load.rate_rps /= 10.0;
    world.run(TICK);
    world.load = LOAD;
    world.run(10 * MINUTE);
    assert!(
        world.history.iter().all(|replicas| *replicas == before),
        "{:?}",
        world.history
    );
}

#[test]
fn f13_a_restart_in_a_burst_lowers_nothing_for_a_whole_window() {
    let mut world = settled(LOAD);
    world.load.rate_rps *= 3.0;
    world.run(10 * MINUTE);
    let high = world.current;
    world.load = LOAD;
    world.memory = Memory::default();
    world.run(Duration::from_secs(285));
    assert_eq!(world.current, high);
    world.run(20 * MINUTE);
    assert!(world.current.prefill < high.prefill);
}

#[test]
fn f16_a_role_at_its_maximum_follows_the_declared_priority() {
    let ratio = |enforcement| RatioPolicy {
        band: RatioBand::around("1:1".parse::<Ratio>().unwrap(), 20),
        enforcement,
    };
    let squeezed = |enforcement| {
        let mut world = World::new(3, 3, LOAD);
        world.policy.ratio = Some(ratio(enforcement));
        world.policy.bounds.prefill.max_replicas = 3;
        world.load.output_tokens = 2_000.0;
        let decision = world.run(30 * MINUTE);
        (world.current, decision.report)
    };
    let (soft, report) = squeezed(Enforcement::Soft);
    assert!(
        soft.decode > 4 && report.has(Reason::RatioBreach),
        "{soft:?}"
    );
    let (hard, report) = squeezed(Enforcement::Hard);
    assert!(
        hard.decode <= 3 && report.has(Reason::RatioBand),
        "{hard:?}"
    );
}

#[test]
fn f17_pods_of_a_rolling_update_are_not_counted_twice() {
    let mut world = settled(LOAD);
    let before = world.current;
    let surge = |snapshot: &mut Snapshot| {
        snapshot.roles.prefill.ready += 2;
        snapshot.roles.decode.starting += 2;
        snapshot.roles.prefill.rolling_out = true;
        snapshot.signals.coverage.prefill.scraped += 2;
        snapshot.signals.coverage.prefill.seen += 2;
    };
    world.run_seeing(10 * MINUTE, surge);
    assert!(
        world.history.iter().all(|replicas| *replicas == before),
        "{:?}",
        world.history
    );
    assert_eq!(
        world.memory.roles.decode.lead.samples(),
        settled(LOAD).memory.roles.decode.lead.samples()
    );
}

#[test]
fn f18_two_services_share_a_budget_by_priority_above_their_floors() {
    let claim = |name, priority| Claim {
        name,
        priority,
        floor_gpus: 8,
        wanted_gpus: 64,
        unit_gpus: 4,
    };
    let split = budget::split(64, &[claim("chat", 1), claim("code", 3)]);
    assert!(split.feasible);
    let (chat, code) = (split.granted_gpus[0], split.granted_gpus[1]);
    assert!(chat >= 8 && chat + code <= 64, "{chat} {code}");
    assert_eq!(chat * 3, code);
}

#[test]
fn f19_a_jump_of_prefix_cache_hits_leaves_decode_alone() {
    let mut world = settled(Load {
        prefill_seconds: 0.5,
        ..LOAD
    });
    let before = world.current;
    world.load.prefill_seconds = 0.1;
    world.run(30 * MINUTE);
    assert!(
        world
            .history
            .iter()
            .all(|replicas| replicas.decode == before.decode)
    );
    assert!(world.current.prefill < before.prefill);
}

#[test]
fn f20_a_flip_of_the_traffic_moves_the_ratio_once() {
    let mut world = settled(Load {
        rate_rps: 10.0,
        prefill_seconds: 0.8,
        output_tokens: 100.0,
    });
    let before = world.current;
    world.load.prefill_seconds = 0.02;
    world.load.output_tokens = 2_000.0;
    world.run(60 * MINUTE);
    let after = world.current;
    assert!(after.prefill < before.prefill && after.decode > before.decode);
    let risen = world
        .history
        .windows(2)
        .any(|pair| pair[1].prefill > pair[0].prefill);
    assert!(!risen, "{:?}", world.history);
    let fallen = world
        .history
        .windows(2)
        .filter(|pair| pair[1].decode < pair[0].decode);
    assert!(fallen.count() <= 1, "{:?}", world.history);
}

#[test]
fn f21_samples_that_are_late_hold() {
    let mut world = settled(LOAD);
    let before = world.current;
    world.load.rate_rps = 1.0;
    world.run_seeing(30 * MINUTE, |snapshot| {
        // What the observer makes of a scrape delay beyond the allowed age.
        snapshot.signals.coverage = PerRole::default();
        snapshot.signals.prefill_completion_rate_rps = Reading::Unknown(Gap::Stale);
        snapshot.signals.output_token_rate_tps = Reading::Unknown(Gap::Stale);
    });
    assert_eq!(world.current, before);
}

#[test]
fn f23_an_idle_worker_without_latency_spoils_no_mean() {
    let mut world = settled(LOAD);
    let before = world.current;
    // Distributions are summed over workers before anything is read from them, so a worker without
    // requests adds nothing; its NaN quotient never exists.
    let idle = Histogram::from_cumulative(vec![(1.0, 0.0)], 0.0, 0.0).unwrap();
    assert_eq!((idle.mean(), idle.quantile(0.99)), (None, None));
    world.run_seeing(10 * MINUTE, |snapshot| {
        snapshot.signals.recent.tpot = HistogramReading::Value(
            Histogram::from_cumulative(vec![(1.0, 0.0)], 0.0, 0.0).unwrap(),
        );
    });
    assert_eq!(world.current, before);
}

#[test]
fn f24_an_edited_policy_keeps_history_and_asks() {
    let mut world = settled(LOAD);
    world.load.rate_rps *= 2.0;
    world.run(MINUTE);
    let asked = world.current;
    world.load = LOAD;
    world.policy.objective.ttft.limit = Duration::from_millis(600);
    world.run(4 * MINUTE);
    assert_eq!(world.current, asked, "the window of 300 s still holds");
}

#[test]
fn f25_a_request_in_the_drain_window_keeps_one_of_each() {
    let mut world = settled(LOAD);
    world.drain = 5 * MINUTE;
    world.policy.scale_to_zero = Some(ScaleToZero {
        idle_after: 10 * MINUTE,
    });
    world.load.rate_rps = 0.0;
    let nobody = |snapshot: &mut Snapshot| snapshot.signals.wake_requests = Reading::KnownZero;
    world.run_seeing(30 * MINUTE, nobody);
    assert_eq!(world.current, PerRole::default(), "both roles are at zero");
    assert!(
        world
            .history
            .iter()
            .all(|pair| (pair.prefill == 0) == (pair.decode == 0)),
        "never one alone"
    );
    let somebody = |snapshot: &mut Snapshot| snapshot.signals.wake_requests = Reading::Value(1.0);
    let decision = world.run_seeing(TICK, somebody);
    assert_eq!(
        world.current,
        PerRole {
            prefill: 1,
            decode: 1
        }
    );
    assert_eq!(decision.report.reason, Reason::Waking);
}

#[test]
fn f26_a_worker_whose_readiness_flaps_moves_nothing() {
    let mut world = settled(LOAD);
    let before = world.current;
    for tick in 0..120 {
        world.tick_seeing(|snapshot| {
            if tick % 2 == 0 {
                let role = &mut snapshot.roles.prefill;
                role.ready -= 1;
                role.starting += 1;
                snapshot.signals.coverage.prefill.scraped -= 1;
                snapshot.signals.coverage.prefill.seen -= 1;
            }
        });
    }
    assert!(
        world.history.iter().all(|replicas| *replicas == before),
        "{:?}",
        world.history
    );
}

#[test]
fn f27_seconds_that_become_milliseconds_hold_and_are_named() {
    let mut world = settled(LOAD);
    let before = world.current;
    let decision = world.run_seeing(20 * MINUTE, |snapshot| {
        let slow = testing::around(20.0, 600.0);
        snapshot.signals.recent.inter_token_latency = slow.clone();
        snapshot.signals.wide.inter_token_latency = slow;
    });
    assert_eq!(world.current, before);
    assert!(!decision.report.metrics_complete.decode);
    assert!(
        decision.report.paragraph().contains("interTokenLatency"),
        "{}",
        decision.report.paragraph()
    );
}

#[test]
fn f28_a_maximum_below_the_replicas_is_reached_in_steps() {
    let mut world = World::new(30, 4, LOAD);
    world.policy.bounds.prefill.max_replicas = 10;
    world.run(MINUTE);
    let after = world.current.prefill;
    assert!((20..30).contains(&after), "{:?}", world.history);
    world.run(30 * MINUTE);
    assert!(world.current.prefill <= 10, "{:?}", world.history);
}

#[test]
fn f29_a_thousand_services_are_decided_for_one_by_one_from_the_same_code() {
    // Time is the benchmark's; here, that decisions of many services do not touch each other.
    let mut worlds: Vec<World> = (1..=100)
        .map(|rate| {
            World::new(
                2,
                2,
                Load {
                    rate_rps: f64::from(rate) / 4.0,
                    ..LOAD
                },
            )
        })
        .collect();
    for world in &mut worlds {
        world.run(5 * MINUTE);
    }
    let mut alone = World::new(
        2,
        2,
        Load {
            rate_rps: 12.5,
            ..LOAD
        },
    );
    alone.run(5 * MINUTE);
    assert_eq!(worlds[49].history, alone.history);
}

#[test]
fn f30_a_recorded_week_of_advice_replays_to_the_same_advice() {
    let mut world = settled(LOAD);
    let mut recorded = Vec::new();
    for tick in 0..240 {
        world.load.rate_rps = 20.0 + 15.0 * (f64::from(tick) / 40.0).sin();
        let memory = serde_json::to_string(&world.memory).unwrap();
        // A tick passes before the world decides; what it sees then is recorded.
        let seen = std::cell::RefCell::new(None);
        let decision = world.tick_seeing(|snapshot| {
            *seen.borrow_mut() = Some(serde_json::to_string(snapshot).unwrap());
        });
        recorded.push((seen.into_inner().unwrap(), memory, world.now, decision.plan));
    }
    for (snapshot, memory, now, plan) in recorded {
        let snapshot: Snapshot = serde_json::from_str(&snapshot).unwrap();
        let memory: Memory = serde_json::from_str(&memory).unwrap();
        assert_eq!(crate::plan(&snapshot, &memory, now).plan, plan);
    }
}
