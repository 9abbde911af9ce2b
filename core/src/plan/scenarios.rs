//! The failures that users of other autoscalers report, each as a scenario that must not happen here.
//!
//! Numbers follow the project's catalogue of failures, F1 to F30. Each test says what goes wrong
//! elsewhere by saying what must hold. What takes a real cluster (two controllers, a contended target,
//! a real Prometheus) has its scenario in the end-to-end tests as well.

use std::time::Duration;

use crate::{
    memory::Memory,
    policy::{Enforcement, RatioPolicy},
    ratio::{Ratio, RatioBand},
    report::{Bottleneck, Reason},
    role::PerRole,
    signal::{Gap, HistogramReading, Reading, Signals},
    snapshot::Snapshot,
    testing::{
        self, Load,
        world::{TICK, World},
    },
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
    let asks = world.history.windows(2).filter(|pair| pair[1] != pair[0]);
    let lowered = world
        .history
        .windows(2)
        .any(|pair| pair[1].prefill < pair[0].prefill || pair[1].decode < pair[0].decode);
    assert!(!lowered, "{:?}", world.history);
    // The measured rate climbs over its window, and the queue is seen; then nothing is added.
    assert!(asks.count() <= 3, "{:?}", world.history);
    let asked = world.current;
    world.run(5 * MINUTE);
    assert!(
        world.current.prefill <= asked.prefill + 1,
        "{:?}",
        world.history
    );
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
