//! Whole decisions: scenarios that users would recognise, and laws that hold for any snapshot.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    audit::audit,
    policy::{Enforcement, OnMissingMetrics, RatioPolicy},
    ratio::{Ratio, RatioBand},
    signal::{Gap, HistogramReading, Reading, Signals},
    snapshot::Paused,
    testing::{self, Load},
};

const LOAD: Load = Load {
    rate_rps: 10.0,
    prefill_seconds: 0.1,
    output_tokens: 200.0,
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
}

/// Decides every 15 s for `seconds` under a steady load, applying each plan at once.
fn settle(prefill: u32, decode: u32, load: Load, seconds: u64) -> (Decision, Vec<PerRole<u32>>) {
    let mut memory = Memory::default();
    let mut replicas = PerRole { prefill, decode };
    let mut history = Vec::new();
    let mut now = 0;
    loop {
        let snapshot = testing::snapshot(replicas.prefill, replicas.decode, load);
        let decision = plan(&snapshot, &memory, at(now));
        assert_eq!(
            audit(&snapshot, &decision),
            vec![],
            "{}",
            decision.report.paragraph()
        );
        replicas = decision.plan.replicas;
        history.push(replicas);
        if now >= seconds {
            return (decision, history);
        }
        memory = decision.memory;
        now += 15;
    }
}

#[test]
fn longer_prompts_grow_prefill_and_leave_decode() {
    let (before, _) = settle(2, 3, LOAD, 600);
    let (after, _) = settle(
        2,
        3,
        Load {
            prefill_seconds: 0.4,
            ..LOAD
        },
        600,
    );
    assert!(after.plan.replicas.prefill > before.plan.replicas.prefill);
    assert_eq!(after.plan.replicas.decode, before.plan.replicas.decode);
    assert_eq!(after.report.need.decode, before.report.need.decode);
}

#[test]
fn longer_answers_grow_decode_and_leave_prefill() {
    let (before, _) = settle(3, 2, LOAD, 600);
    let (after, _) = settle(
        3,
        2,
        Load {
            output_tokens: 1_500.0,
            ..LOAD
        },
        600,
    );
    assert!(
        after.plan.replicas.decode > before.plan.replicas.decode,
        "{:?}",
        after.report
    );
    assert_eq!(after.plan.replicas.prefill, before.plan.replicas.prefill);
}

#[test]
fn a_decision_says_why_with_the_numbers() {
    let decision = plan(&testing::snapshot(1, 2, LOAD), &Memory::default(), at(0));
    assert_eq!(decision.report.reason, Reason::PrefillWork);
    let text = decision.report.paragraph();
    assert!(text.starts_with("prefill 1 -> "), "{text}");
    assert!(
        text.contains("10.00 requests/s of 100 ms each keep 1.00 workers busy"),
        "{text}"
    );
}

#[test]
fn fewer_replicas_wait_for_the_whole_window() {
    let quiet = Load {
        rate_rps: 0.5,
        ..LOAD
    };
    let (_, history) = settle(10, 2, quiet, 600);
    let lowered = history
        .iter()
        .position(|r| r.prefill < 10)
        .expect("it is lowered in the end");
    assert_eq!(lowered, 20, "300 s are twenty intervals of 15 s");
}

#[test]
fn a_restart_without_memory_waits_for_a_whole_window() {
    let quiet = testing::snapshot(
        10,
        2,
        Load {
            rate_rps: 0.5,
            ..LOAD
        },
    );
    let decision = plan(&quiet, &Memory::default(), at(0));
    assert_eq!(decision.plan.replicas.prefill, 10);
    assert!(decision.report.has(Reason::StabilizingDown));
    // The same after the controller was away for longer than decisions may be apart.
    let mut memory = decision.memory;
    memory = plan(&quiet, &memory, at(3_600)).memory;
    let later = plan(&quiet, &memory, at(3_615));
    assert_eq!(later.plan.replicas.prefill, 10);
}

#[test]
fn no_traffic_at_all_lowers_to_the_minimum_and_says_idle() {
    let (decision, _) = settle(
        4,
        4,
        Load {
            rate_rps: 0.0,
            ..LOAD
        },
        600,
    );
    assert_eq!(
        decision.plan.replicas,
        PerRole {
            prefill: 1,
            decode: 1
        }
    );
    assert_eq!(decision.report.need.prefill, Some(1));
}

/// A quiet service with one signal broken, hours into its life.
fn blinded(blind: impl Fn(&mut Signals)) -> Snapshot {
    let mut snapshot = testing::snapshot(
        10,
        10,
        Load {
            rate_rps: 0.1,
            ..LOAD
        },
    );
    blind(&mut snapshot.signals);
    snapshot
}

#[rstest]
#[case::prometheus_down(|s: &mut Signals| *s = Signals::default())]
#[case::request_counter_gone(|s: &mut Signals| {
    s.prefill_completion_rate_rps = Reading::Unknown(Gap::Empty);
})]
#[case::queue_is_nan(|s: &mut Signals| s.waiting_requests.prefill = Reading::of(f64::NAN))]
#[case::stale(|s: &mut Signals| s.prefill_completion_rate_rps = Reading::Unknown(Gap::Stale))]
#[case::a_worker_is_not_scraped(|s: &mut Signals| s.coverage.prefill.scraped = 9)]
#[case::own_query_fails(|s: &mut Signals| {
    s.arrival_rate_rps_override = Reading::Unknown(Gap::QueryFailed);
})]
fn what_is_not_known_never_lowers_prefill(#[case] blind: fn(&mut Signals)) {
    let snapshot = blinded(blind);
    let mut memory = Memory::default();
    for tick in 0..100 {
        let decision = plan(&snapshot, &memory, at(tick * 15));
        assert_eq!(decision.plan.replicas.prefill, 10);
        assert!(!decision.report.metrics_complete.prefill);
        memory = decision.memory;
    }
}

#[test]
fn partial_metrics_still_raise() {
    let mut snapshot = testing::snapshot(
        2,
        2,
        Load {
            rate_rps: 100.0,
            ..LOAD
        },
    );
    snapshot.signals.coverage.prefill.scraped = 1;
    let decision = plan(&snapshot, &Memory::default(), at(0));
    assert!(decision.plan.replicas.prefill > 10);
    assert!(decision.report.has(Reason::MetricsPartial));
}

#[test]
fn metrics_back_after_an_outage_do_not_lower_at_once() {
    let quiet = testing::snapshot(
        10,
        10,
        Load {
            rate_rps: 0.1,
            ..LOAD
        },
    );
    let dark = blinded(|s| *s = Signals::default());
    let mut memory = Memory::default();
    for tick in 0..60 {
        memory = plan(&dark, &memory, at(tick * 15)).memory;
    }
    let back = plan(&quiet, &memory, at(60 * 15));
    assert_eq!(
        back.plan.replicas,
        PerRole {
            prefill: 10,
            decode: 10
        }
    );
}

#[test]
fn fallback_raises_after_its_time_and_never_lowers() {
    let mut dark = blinded(|s| *s = Signals::default());
    dark.policy.on_missing_metrics = OnMissingMetrics::Fallback {
        replicas: PerRole {
            prefill: 12,
            decode: 2,
        },
        after: Duration::from_mins(1),
    };
    let first = plan(&dark, &Memory::default(), at(0));
    assert_eq!(
        first.plan.replicas,
        PerRole {
            prefill: 10,
            decode: 10
        }
    );
    let second = plan(&dark, &first.memory, at(60));
    assert_eq!(
        second.plan.replicas,
        PerRole {
            prefill: 12,
            decode: 10
        }
    );
    assert_eq!(second.report.reason, Reason::FallbackReplicas);
}

#[test]
fn measured_ttft_over_the_limit_asks_for_one_more_once_things_have_settled() {
    let mut snapshot = testing::snapshot(3, 3, LOAD);
    snapshot.signals.recent.prefill_ttft = testing::around(2.0, 600.0);
    snapshot.signals.prefill_ttft_attainment = testing::around(2.0, 600.0);
    snapshot.signals.waiting_requests.prefill = Reading::of(2.0);
    let first = plan(&snapshot, &Memory::default(), at(0));
    assert_eq!(first.report.reason, Reason::PrefillLatency);
    assert_eq!(first.plan.replicas.prefill, 4);
    // A budget that is not spent covers single misses.
    let mut covered = snapshot.clone();
    covered.signals.prefill_ttft_attainment = testing::around(0.1, 600.0);
    assert_eq!(
        plan(&covered, &Memory::default(), at(0))
            .plan
            .replicas
            .prefill,
        3
    );
    // The windows still show the slow requests while the new replica starts and settles.
    snapshot.roles.prefill = testing::serving(4);
    snapshot.signals.coverage.prefill.scraped = 4;
    let second = plan(&snapshot, &first.memory, at(15));
    assert_eq!(second.plan.replicas.prefill, 4);
}

#[test]
fn before_anything_is_learnt_saturation_asks_for_one_more() {
    let mut snapshot = testing::snapshot(2, 2, LOAD);
    snapshot.signals.recent.prefill_time = HistogramReading::Unknown(Gap::Empty);
    snapshot.signals.wide.prefill_time = HistogramReading::Unknown(Gap::Empty);
    snapshot.signals.waiting_requests.prefill = Reading::of(50.0);
    let decision = plan(&snapshot, &Memory::default(), at(0));
    assert_eq!(decision.plan.replicas.prefill, 3);
    assert_eq!(decision.report.reason, Reason::Saturated);
}

#[test]
fn a_full_kv_cache_asks_for_decode() {
    let mut snapshot = testing::snapshot(3, 4, LOAD);
    snapshot.signals.decode_kv_usage = Reading::of(0.99);
    let decision = plan(&snapshot, &Memory::default(), at(0));
    assert_eq!(
        (decision.plan.replicas.decode, decision.report.reason),
        (5, Reason::DecodeKvCache)
    );
}

#[test]
fn a_pause_stops_its_direction_only() {
    let mut snapshot = testing::snapshot(1, 8, LOAD);
    snapshot.paused = Paused {
        scale_up: true,
        scale_down: false,
    };
    let decision = plan(&snapshot, &Memory::default(), at(0));
    assert_eq!(decision.plan.replicas.prefill, 1);
    assert!(decision.report.has(Reason::Paused));
}

#[test]
fn a_lowered_maximum_is_reached_in_steps_even_without_metrics() {
    let mut memory = Memory::default();
    let mut path = vec![10];
    for tick in 0..40 {
        let mut snapshot = blinded(|s| *s = Signals::default());
        snapshot.policy.bounds.prefill.max_replicas = 6;
        snapshot.roles.prefill = testing::serving(path[path.len() - 1]);
        let decision = plan(&snapshot, &memory, at(tick * 15));
        assert_eq!(audit(&snapshot, &decision), vec![]);
        assert_eq!(decision.plan.replicas.decode, 10);
        if decision.plan.replicas.prefill > 6 {
            assert!(
                decision.report.has(Reason::BoundsStepDown),
                "{:?}",
                decision.report
            );
        }
        path.push(decision.plan.replicas.prefill);
        memory = decision.memory;
    }
    path.dedup();
    assert_eq!(path, vec![10, 9, 8, 7, 6]);
}

#[test]
fn memory_stays_small_and_survives_json() {
    let mut memory = Memory::default();
    for tick in 0..2_000_u64 {
        // The remainder makes a load that keeps moving without any randomness.
        let rate_rps = 1.0 + ((tick * 37) % 23) as f64;
        let snapshot = testing::snapshot(4, 4, Load { rate_rps, ..LOAD });
        memory = plan(&snapshot, &memory, at(tick * 15)).memory;
    }
    let text = serde_json::to_string(&memory).expect("memory serialises");
    assert!(text.len() <= 16 * 1024, "{} bytes", text.len());
    assert_eq!(
        serde_json::from_str::<Memory>(&text).expect("memory parses"),
        memory
    );
}

#[test]
fn memory_of_another_version_is_forgotten() {
    let foreign = Memory {
        version: 99,
        ..Memory::default()
    };
    assert_eq!(foreign.usable(), Memory::default());
}

prop_compose! {
    fn any_reading()(kind in 0u8..5, value in prop_oneof![0.0f64..1e3, Just(f64::NAN), Just(-1.0), Just(1e308)])
        -> Reading {
        match kind {
            0 => Reading::KnownZero,
            1 => Reading::Unknown(Gap::QueryFailed),
            _ => Reading::Value(value),
        }
    }
}

prop_compose! {
    fn any_snapshot()(
        replicas in (0u32..40, 0u32..40), ready in (0u32..40, 0u32..40), leaving in (0u32..5, 0u32..5),
        gpus in (0u32..9, 0u32..9), max in (1u32..40, 1u32..40), budget in prop::option::of(0u32..400),
        ratio in prop::option::of((1u32..5, 1u32..5, 0u8..60, prop::bool::ANY)),
        load in (0.0f64..200.0, 0.001f64..3.0, 1.0f64..3_000.0), scraped in (0u32..40, 0u32..40),
        readings in prop::array::uniform6(any_reading()), paused in (prop::bool::ANY, prop::bool::ANY),
    ) -> Snapshot {
        let load = Load { rate_rps: load.0, prefill_seconds: load.1, output_tokens: load.2 };
        let mut snapshot = testing::snapshot(replicas.0, replicas.1, load);
        snapshot.policy.bounds.prefill.max_replicas = max.0;
        snapshot.policy.bounds.decode.max_replicas = max.1;
        snapshot.policy.budget_gpus = budget;
        snapshot.policy.ratio = ratio.map(|(p, d, tolerance_percent, hard)| RatioPolicy {
            band: RatioBand::around(Ratio::new(p, d).unwrap(), tolerance_percent),
            enforcement: if hard { Enforcement::Hard } else { Enforcement::Soft },
        });
        snapshot.paused = Paused { scale_up: paused.0, scale_down: paused.1 };
        let roles = &mut snapshot.roles;
        (roles.prefill.ready, roles.decode.ready) = ready;
        (roles.prefill.terminating, roles.decode.terminating) = leaving;
        (roles.prefill.gpus_per_replica, roles.decode.gpus_per_replica) = gpus;
        let signals = &mut snapshot.signals;
        (signals.coverage.prefill.scraped, signals.coverage.decode.scraped) = scraped;
        let [a, b, c, d, e, f] = readings;
        signals.waiting_requests = PerRole { prefill: a, decode: b };
        (signals.decode_kv_usage, signals.output_token_rate_tps) = (c, d);
        (signals.prefill_queue_growth_rps, signals.running_requests.decode) = (e, f);
        snapshot
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_plan_passes_the_audit(snapshots in prop::collection::vec(any_snapshot(), 1..4)) {
        let mut memory = Memory::default();
        for (tick, snapshot) in snapshots.iter().enumerate() {
            let decision = plan(snapshot, &memory, at(tick as u64 * 15));
            let findings = audit(snapshot, &decision);
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", decision.report.paragraph());
            memory = decision.memory;
        }
    }

    #[test]
    fn planning_twice_is_planning_once(snapshot in any_snapshot()) {
        let once = plan(&snapshot, &Memory::default(), at(0));
        let twice = plan(&snapshot, &once.memory, at(0));
        prop_assert_eq!(once.plan, twice.plan);
    }

    #[test]
    fn more_load_never_needs_fewer_replicas(
        rate in 0.1f64..100.0, more in 0.0f64..50.0, prefill_seconds in 0.01f64..0.4,
    ) {
        let need = |rate_rps| {
            let load = Load { rate_rps, prefill_seconds, output_tokens: 100.0 };
            plan(&testing::snapshot(8, 8, load), &Memory::default(), at(0)).report.need
        };
        let (less, greater) = (need(rate), need(rate + more));
        prop_assert!(less.prefill <= greater.prefill, "{less:?} {greater:?}");
    }
}

proptest! {
    // Each case is two hours of decisions.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn constant_load_does_not_flap(rate_rps in 0.5f64..60.0, start in (1u32..20, 1u32..20)) {
        let load = Load { rate_rps, ..LOAD };
        let (_, history) = settle(start.0, start.1, load, 7_200);
        for role in Role::ALL {
            let path: Vec<u32> = history.iter().map(|r| *r.get(role)).collect();
            let turns = path.windows(3).filter(|w| (w[1] > w[0]) != (w[2] > w[1]) && w[0] != w[1] && w[1] != w[2]);
            // One turn is the price of learning the decode line on the way down.
            prop_assert!(turns.count() <= 1, "{:?}", path);
            prop_assert_eq!(path[path.len() - 1], path[path.len() - 20], "{:?}", path);
        }
    }
}
