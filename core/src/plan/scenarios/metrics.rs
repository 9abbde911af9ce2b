//! Metrics that fail, lie or are few: nothing is lowered on them, and nothing is
//! raised on one outlier.

use super::{LOAD, MINUTE, prometheus_down, steady};
use crate::{
    bottleneck::Bottleneck,
    histogram::Histogram,
    reason::Reason,
    role::PerRole,
    signal::{Gap, HistogramReading, Reading},
    snapshot::Snapshot,
    testing::{self, world::TICK},
};

#[test]
fn f1_ten_minutes_without_prometheus_hold_what_serves() {
    let mut world = steady(LOAD);
    let before = world.current;
    let decision = world.run_seeing(10 * MINUTE, prometheus_down);
    assert!(world.history.iter().all(|replicas| *replicas == before));
    assert!(decision.report.has(Reason::MetricsMissing));
}

#[test]
fn f2_a_quantile_of_no_traffic_is_idleness_only_when_the_counter_says_so() {
    let mut world = steady(LOAD);
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

    let mut world = steady(LOAD);
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
    let mut world = steady(LOAD);
    let before = world.current;
    world.load.rate_rps = 2.0;
    world.run_seeing(20 * MINUTE, one_missing);
    assert_eq!(world.current.prefill, before.prefill);
    world.load.rate_rps = 60.0;
    world.run_seeing(5 * MINUTE, one_missing);
    assert!(world.current.prefill > before.prefill);
}

#[test]
fn f9_ttft_that_decode_causes_grows_decode() {
    let mut world = steady(LOAD);
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
    let mut world = steady(LOAD);
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
    let mut world = steady(LOAD);
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
    let mut world = steady(LOAD);
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
fn f21_samples_that_are_late_hold() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.load.rate_rps = 1.0;
    world.run_seeing(30 * MINUTE, |snapshot| {
        // As the observer reports a scrape delay beyond the allowed age.
        snapshot.signals.coverage = PerRole::default();
        snapshot.signals.prefill_completion_rate_rps = Reading::Unknown(Gap::Stale);
        snapshot.signals.output_token_rate_tps = Reading::Unknown(Gap::Stale);
    });
    assert_eq!(world.current, before);
}

#[test]
fn f23_an_idle_worker_without_latency_spoils_no_mean() {
    let mut world = steady(LOAD);
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
fn f27_seconds_that_become_milliseconds_hold_and_are_named() {
    let mut world = steady(LOAD);
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
