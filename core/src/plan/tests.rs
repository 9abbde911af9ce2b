//! Whole decisions: scenarios that users would recognise.
//!
//! Each is a service of a few numbers, decided once or every 15 s, and the replicas that must come
//! out. Laws of any service are in `laws`, and effects that take time in `scenarios`.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::{
    audit::audit,
    policy::OnMissingMetrics,
    reason::Reason,
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
fn decided_repeatedly(
    prefill: u32,
    decode: u32,
    load: Load,
    seconds: u64,
) -> (Decision, Vec<PerRole<u32>>) {
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
    let (before, _) = decided_repeatedly(2, 3, LOAD, 600);
    let (after, _) = decided_repeatedly(
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
    let (before, _) = decided_repeatedly(3, 2, LOAD, 600);
    let (after, _) = decided_repeatedly(
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
    let (_, history) = decided_repeatedly(10, 2, quiet, 600);
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
    let (decision, _) = decided_repeatedly(
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
fn measured_ttft_over_the_limit_asks_for_one_more_after_the_cooldown() {
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
    // The new replica starts, and then the windows still show the slow requests for a while.
    snapshot.roles.prefill.current = 4;
    snapshot.roles.prefill.starting = 1;
    let starting = plan(&snapshot, &first.memory, at(15));
    snapshot.roles.prefill = testing::serving(4);
    snapshot.signals.coverage.prefill.scraped = 4;
    let serving = plan(&snapshot, &starting.memory, at(180));
    let cooling = plan(&snapshot, &serving.memory, at(240));
    for decision in [starting, serving, cooling] {
        assert_eq!(decision.plan.replicas.prefill, 4);
    }
}

#[test]
fn replicas_that_are_there_are_needed_a_little_longer_than_they_would_be_asked_for() {
    let mut kept = 0;
    for tenths in 5..60 {
        let load = Load {
            rate_rps: f64::from(tenths),
            ..LOAD
        };
        let needs: Vec<u32> = (1..=10)
            .map(|current| {
                let decision = plan(
                    &testing::snapshot(current, 3, load),
                    &Memory::default(),
                    at(0),
                );
                decision.report.need.prefill.unwrap()
            })
            .collect();
        let asked_for = *needs.iter().min().unwrap();
        // With fewer than that, the queue that builds up meanwhile counts too. With more, the
        // replicas stay, but never more than one: the next one would save far fewer misses.
        for (current, need) in (1..=10)
            .zip(&needs)
            .skip_while(|(current, _)| *current < asked_for)
        {
            assert!(
                *need == asked_for || *need == current.min(asked_for + 1),
                "{tenths}: {needs:?}"
            );
        }
        kept += u32::from(needs[9] > asked_for);
    }
    assert!((1..30).contains(&kept), "{kept}");
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
