//! Laws of whole decisions, on any snapshot and over any history.
//!
//! Nothing panics; every plan passes the audit and the laws that take deciding again; a restart and
//! the order of lists change nothing; gaps lower nothing; a constant load comes to rest; and the
//! memory stays small whatever happens. Cases come from `testing::any`, which makes the policies
//! that the API accepts and the signals that a broken Prometheus may give.

mod lengths;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    audit::{Facts, audit, audit_after, laws, monotone, with_load},
    memory::{MEMORY_BYTES_MAX, MEMORY_VERSION, Stored},
    role::Role,
    signal::{Coverage, HistogramReading, Signals},
    testing::{self, Load, any},
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
}

/// Snapshots of one history, with the seconds before each. Time may stand still.
fn history(most: usize) -> impl Strategy<Value = Vec<(u64, Snapshot)>> {
    let pause = prop_oneof![
        1 => Just(0u64), 8 => Just(15), 2 => 60u64..700, 1 => 10_000u64..100_000,
    ];
    prop::collection::vec((pause, any::snapshot()), 1..=most)
}

/// The same policy over the whole of `history`, and each plan as the replicas of the next snapshot.
fn carried_out(history: &[(u64, Snapshot)]) -> Vec<(Timestamp, Snapshot, Memory, Decision)> {
    let (mut memory, mut now, mut lived) = (Memory::default(), at(0), Vec::new());
    let mut requested: Option<PerRole<u32>> = None;
    for (pause, snapshot) in history {
        now = now.plus(Duration::from_secs(*pause));
        let mut snapshot = snapshot.clone();
        if let Some(requested) = requested {
            snapshot.policy = history[0].1.policy.clone();
            snapshot.profile.clone_from(&history[0].1.profile);
            for (role, state) in [
                (Role::Prefill, &mut snapshot.roles.prefill),
                (Role::Decode, &mut snapshot.roles.decode),
            ] {
                state.current = requested[role];
            }
        }
        let decision = plan(&snapshot, &memory, now);
        requested = Some(decision.plan.replicas);
        let before = std::mem::replace(&mut memory, decision.memory.clone());
        lived.push((now, snapshot, before, decision));
    }
    lived
}

fn through_json(memory: &Memory) -> Memory {
    let text = serde_json::to_string(memory).unwrap();
    assert!(text.len() <= MEMORY_BYTES_MAX, "{} bytes", text.len());
    serde_json::from_str(&text).unwrap()
}

/// `snapshot` with every list whose order means nothing turned round.
fn turned_round(mut snapshot: Snapshot) -> Snapshot {
    snapshot.policy.schedules.reverse();
    if let Some(offered) = &mut snapshot.policy.operating_points {
        offered.points.reverse();
    }
    snapshot.policy.behavior.scale_up.policies.reverse();
    snapshot.policy.behavior.scale_down.policies.reverse();
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_decision_passes_the_audit_and_the_laws(history in history(4)) {
        for (now, snapshot, before, decision) in carried_out(&history) {
            let mut findings = audit(&snapshot, &decision);
            findings.extend(audit_after(&Facts::of(&before, &snapshot, now), &snapshot, &decision));
            findings.extend(laws(&snapshot, now, &decision));
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", decision.report.paragraph());
        }
    }

    #[test]
    fn any_snapshots_with_anything_between_them_pass_the_audit(history in history(3)) {
        let mut memory = Memory::default();
        let mut now = at(0);
        for (pause, snapshot) in &history {
            now = now.plus(Duration::from_secs(*pause));
            let decision = plan(snapshot, &memory, now);
            let findings = audit_after(&Facts::of(&memory, snapshot, now), snapshot, &decision);
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", decision.report.paragraph());
            let again = plan(snapshot, &decision.memory, now);
            prop_assert_eq!(again.plan, decision.plan);
            memory = decision.memory;
        }
    }

    #[test]
    fn a_restart_at_any_moment_changes_nothing(history in history(4)) {
        for (now, snapshot, before, decision) in carried_out(&history) {
            let again = plan(&snapshot, &through_json(&before), now);
            prop_assert_eq!(again.plan, decision.plan);
            prop_assert_eq!(again.report, decision.report);
            prop_assert_eq!(again.memory, decision.memory);
        }
    }

    #[test]
    fn the_order_of_lists_does_not_matter(history in history(3)) {
        let turned: Vec<_> = history.iter().cloned().map(|(pause, s)| (pause, turned_round(s))).collect();
        for (one, other) in carried_out(&history).into_iter().zip(carried_out(&turned)) {
            prop_assert_eq!(one.3.plan, other.3.plan);
            prop_assert_eq!(one.3.report.need, other.3.report.need);
            prop_assert_eq!(one.3.memory, other.3.memory);
        }
    }

    #[test]
    fn any_load_more_never_needs_less(history in history(2), factor in 1.0f64..20.0) {
        for (now, snapshot, _, decision) in carried_out(&history) {
            let findings = monotone(&snapshot, &decision.memory, now, factor);
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", decision.report.paragraph());
        }
    }

    #[test]
    fn without_any_metrics_nothing_is_lowered(history in history(3)) {
        let mut memory = Memory::default();
        let mut now = at(0);
        for (pause, snapshot) in &history {
            now = now.plus(Duration::from_secs(*pause));
            let mut dark = snapshot.clone();
            dark.signals = Signals { rate_window: dark.signals.rate_window, ..Signals::default() };
            // The user's own limits, and requests that are stuck, may lower whatever is known.
            dark.policy.budget_gpus = None;
            dark.policy.schedules.clear();
            for bounds in [&mut dark.policy.bounds.prefill, &mut dark.policy.bounds.decode] {
                bounds.max_replicas = 100;
            }
            for state in [&mut dark.roles.prefill, &mut dark.roles.decode] {
                state.ready = state.current;
                state.stuck = None;
            }
            let decision = plan(&dark, &memory, now);
            for role in Role::ALL {
                prop_assert!(decision.plan.replicas[role] >= dark.roles[role].current);
            }
            memory = decision.memory;
        }
    }

    #[test]
    fn budget_and_bounds_hold_at_every_instant(history in history(4)) {
        for (_, snapshot, _, decision) in carried_out(&history) {
            let (roles, to) = (&snapshot.roles, decision.plan.replicas);
            for role in Role::ALL {
                let (bounds, from) = (decision.report.bounds[role], roles[role].current);
                prop_assert!(to[role] <= bounds.max_replicas.max(from));
                let least = if to == PerRole::default() { 0 } else { bounds.min_replicas.min(from) };
                prop_assert!(to[role] >= least);
            }
            let Some(budget) = snapshot.policy.budget_gpus else { continue };
            let held = |requested: PerRole<u32>| -> u64 {
                let of = |role: Role| {
                    let s = &roles[role];
                    let pods = (s.ready + s.starting).max(requested[role]).max(s.current);
                    u64::from((pods + s.terminating) * s.gpus_per_replica)
                };
                of(Role::Prefill) + of(Role::Decode)
            };
            let most = held(roles.map(|state| state.current)).max(budget.into());
            prop_assert!(held(to) <= most, "{} GPUs of {budget}", held(to));
        }
    }
}

/// A service of `start` replicas under `load`, decided every 15 s, each plan carried out at once,
/// with the rates off by `noise` of themselves one time up and one time down, in no simple order.
fn decided_repeatedly(load: Load, start: (u32, u32), noise: f64, ticks: u64) -> Vec<PerRole<u32>> {
    let mut memory = Memory::default();
    let mut replicas = PerRole {
        prefill: start.0,
        decode: start.1,
    };
    let mut path = Vec::new();
    for tick in 0..ticks {
        // A low-discrepancy sequence: even over any span, and the same in every run.
        let off = ((tick as f64 * 0.618_034).fract() - 0.5) * 2.0 * noise;
        let rate_rps = load.rate_rps * (1.0 + off);
        let snapshot =
            testing::snapshot(replicas.prefill, replicas.decode, Load { rate_rps, ..load });
        let decision = plan(&snapshot, &memory, at(tick * 15));
        let findings = audit(&snapshot, &decision);
        assert!(
            findings.is_empty(),
            "{findings:?}\n{}",
            decision.report.paragraph()
        );
        replicas = decision.plan.replicas;
        memory = decision.memory;
        path.push(replicas);
    }
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn constant_load_does_not_flap(
        rate_rps in 0.5f64..60.0, prefill_seconds in 0.02f64..0.4, output_tokens in 20.0f64..800.0,
        start in (1u32..20, 1u32..20), noise in prop_oneof![Just(0.0), 0.0f64..0.05],
    ) {
        let load = Load { rate_rps, prefill_seconds, output_tokens };
        // The pretended engine is no engine any more beyond 4,700 tokens/s per worker.
        let carries = (rate_rps * output_tokens / 3_000.0).ceil();
        let start = (start.0, (1..100).find(|d| f64::from(*d) > carries).unwrap_or(100) + start.1);
        let path = decided_repeatedly(load, start, noise, 3 * 240);
        for role in Role::ALL {
            let path: Vec<u32> = path.iter().map(|replicas| replicas[role]).collect();
            let moves: Vec<i64> = path
                .windows(2)
                .map(|pair| i64::from(pair[1]) - i64::from(pair[0]))
                .filter(|change| *change != 0)
                .collect();
            let turns = moves.windows(2).filter(|pair| pair[0].signum() != pair[1].signum()).count();
            // Learning the decode line on the way down costs a turn, and a first wrong step
            // another. Noise across the edge of a whole replica moves it to and fro, and the flap
            // governor holds that to a few times an hour.
            let most = if noise > 0.0 { 12 } else { 2 };
            prop_assert!(turns <= most, "{moves:?}");
            let late = &path[path.len() * 2 / 3..];
            let calm = late.windows(2).all(|pair| pair[0] == pair[1]);
            prop_assert!(calm || noise > 0.0, "{moves:?}");
        }
    }
}

fn absurd() -> impl Strategy<Value = f64> {
    prop_oneof![
        prop::num::f64::ANY,
        prop::sample::select(vec![
            0.0,
            -0.0,
            1e-300,
            1e300,
            f64::MAX,
            f64::NAN,
            f64::INFINITY,
            -1.0
        ]),
    ]
}

fn any_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 0u32..1_100, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_number_panics(
        snapshot in any::snapshot(), times in prop::collection::vec(any::<i64>(), 1..4),
        numbers in prop::collection::vec(absurd(), 30), counts in prop::collection::vec(any_u32(), 14),
        (edge, count, sum) in (absurd(), absurd(), absurd()), window in any::<u64>(),
    ) {
        let mut snapshot = snapshot;
        let mut numbers = numbers.iter();
        snapshot.signals.update_numbers(|_, reading| {
            if let Some(number) = numbers.next() {
                *reading = crate::signal::Reading::Value(*number);
            }
        });
        let histogram = crate::histogram::Histogram::from_cumulative(vec![(edge, count)], count, sum);
        if let Some(histogram) = histogram {
            snapshot.signals.update_distributions(|_, reading| {
                *reading = HistogramReading::Value(histogram.clone());
            });
        }
        let mut counts = counts.into_iter();
        let mut next = || counts.next().unwrap_or(0);
        for state in [&mut snapshot.roles.prefill, &mut snapshot.roles.decode] {
            (state.current, state.ready, state.starting) = (next(), next(), next());
            (state.terminating, state.gpus_per_replica) = (next(), next());
        }
        let covered = |scraped, seen| Coverage { scraped, seen, oldest_age: Some(Duration::from_millis(window)) };
        snapshot.signals.coverage.prefill = covered(next(), next());
        snapshot.signals.coverage.decode = covered(next(), next());
        snapshot.signals.rate_window = Duration::from_millis(window);
        let mut memory = Memory::default();
        for millis in times {
            let decision = plan(&snapshot, &memory, Timestamp::from_millis(millis));
            let findings = audit(&snapshot, &decision);
            prop_assert!(findings.is_empty(), "{findings:?}\n{}", decision.report.paragraph());
            prop_assert_eq!(through_json(&decision.memory), decision.memory.clone());
            memory = decision.memory;
        }
    }
}

#[test]
fn more_load_is_more_of_what_arrives_and_waits_and_no_longer_requests() {
    let load = Load {
        rate_rps: 10.0,
        prefill_seconds: 0.1,
        output_tokens: 200.0,
    };
    let signals = testing::snapshot(2, 2, load).signals;
    let loaded = with_load(&signals, 2.0);
    assert_eq!(loaded.output_token_rate_tps.known(), Some(4_000.0));
    assert_eq!(loaded.decode_kv_usage.known(), Some(0.4));
    let (recent, before) = (&loaded.recent, &signals.recent);
    assert_eq!(recent.prefill_time, before.prefill_time);
    assert_eq!(recent.tpot, before.tpot);
    let mean = recent
        .inter_token_latency
        .mean()
        .zip(before.inter_token_latency.mean());
    assert!(mean.is_some_and(|(now, before)| (now / before - 1.0).abs() < 1e-9));
    assert_eq!(loaded.running_requests, signals.running_requests);
    assert_eq!(with_load(&signals, 9.0).decode_kv_usage.known(), Some(1.0));
}

#[test]
fn memory_stays_small_through_hours_of_everything() {
    let mut memory = Memory::default();
    let mut largest = 0;
    for tick in 0..3_000_u64 {
        // The remainders make a load and replicas that keep moving without any randomness.
        let rate_rps = 1.234_567 + ((tick * 37) % 23) as f64;
        let replicas = 4 + u32::try_from((tick * 7) % 5).unwrap();
        let load = Load {
            rate_rps,
            prefill_seconds: 0.101_3,
            output_tokens: 200.7 + ((tick * 11) % 17) as f64 * 13.7,
        };
        let mut snapshot = testing::snapshot(replicas, replicas, load);
        snapshot.roles.prefill.ready = replicas - u32::from(tick % 3 == 0);
        snapshot.roles.decode.ready = replicas - u32::from(tick % 4 == 0);
        snapshot.roles.decode.stuck =
            (tick % 4 == 0).then_some((1, crate::role_state::StuckCause::CrashLoop));
        memory = through_json(&plan(&snapshot, &memory, at(tick * 15)).memory);
        largest = largest.max(serde_json::to_string(&memory).unwrap().len());
    }
    assert!(largest <= MEMORY_BYTES_MAX, "{largest} bytes");
    eprintln!("largest memory: {largest} bytes of JSON");
}

#[test]
fn memory_of_the_version_before_is_read_and_forgotten() {
    let mut before = serde_json::to_value(Memory::default()).unwrap();
    before["version"] = (MEMORY_VERSION - 1).into();
    let capacity = before["capacity"].as_object_mut().unwrap();
    assert!(capacity.remove("decodeProven").is_some());
    assert!(capacity.remove("decodeWorkers").is_some());
    let read: Memory = serde_json::from_value(before).unwrap();
    assert_eq!(read.usable(), Memory::default());
}

#[test]
fn memory_of_a_version_that_is_not_said_to_be_readable_is_forgotten() {
    let written = lived();
    for readable_from in [0, MEMORY_VERSION + 1] {
        let foreign = Memory {
            version: MEMORY_VERSION + 97,
            readable_from,
            ..written.clone()
        };
        assert_eq!(foreign.usable(), Memory::default());
    }
}

#[test]
fn memory_of_a_newer_version_that_says_so_is_gone_on_with() {
    let written = lived();
    let newer = Memory {
        version: MEMORY_VERSION + 1,
        readable_from: MEMORY_VERSION,
        ..written.clone()
    };
    assert_eq!(newer.usable(), written);
}

/// Memory with something in most of its parts.
fn lived() -> Memory {
    let mut memory = Memory::default();
    for tick in 0..40 {
        let load = Load {
            rate_rps: 8.0 + (tick % 7) as f64,
            prefill_seconds: 0.1,
            output_tokens: 200.0,
        };
        let mut snapshot = testing::snapshot(6, 6, load);
        snapshot.roles.decode.ready = 5;
        snapshot.roles.decode.stuck = Some((1, crate::role_state::StuckCause::CrashLoop));
        memory = through_json(&plan(&snapshot, &memory, at(tick * 15)).memory);
    }
    memory
}

/// JSON pointers of all values.
fn pointers(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    if let Some(object) = value.as_object() {
        for (key, value) in object {
            let at = format!("{at}/{key}");
            found.push(at.clone());
            pointers(value, &at, found);
        }
    }
}

#[test]
fn a_field_that_nobody_knows_changes_nothing_wherever_it_is() {
    let memory = lived();
    let written = serde_json::to_value(&memory).unwrap();
    let mut places = vec![String::new()];
    pointers(&written, "", &mut places);
    for place in places {
        let mut newer = written.clone();
        let Some(object) = newer.pointer_mut(&place).and_then(|at| at.as_object_mut()) else {
            continue;
        };
        object.insert(
            "fieldOfTheFuture".to_owned(),
            serde_json::json!({ "a": [1] }),
        );
        let stored = Stored::read(&newer);
        assert_eq!(
            (stored.memory, stored.lost),
            (memory.clone(), vec![]),
            "{place}"
        );
    }
}

#[test]
fn a_value_that_nobody_can_read_costs_itself_and_no_other() {
    let memory = lived();
    let written = serde_json::to_value(&memory).unwrap();
    let mut places = Vec::new();
    pointers(&written, "", &mut places);
    for place in places {
        for strange in [
            serde_json::json!("Future"),
            serde_json::json!({ "Future": 1 }),
        ] {
            let mut newer = written.clone();
            *newer.pointer_mut(&place).unwrap() = strange;
            let stored = Stored::read(&newer);
            let read = serde_json::to_value(&stored.memory).unwrap();
            let top = place.split('/').nth(1).unwrap();
            for (key, value) in written.as_object().unwrap() {
                let is_kept = key == top || read.get(key) == Some(value);
                assert!(is_kept, "{place} took {key} with it: {:?}", stored.lost);
            }
        }
    }
}

#[test]
fn a_field_that_was_never_written_costs_itself_and_no_other() {
    let memory = lived();
    let written = serde_json::to_value(&memory).unwrap();
    let mut places = Vec::new();
    pointers(&written, "", &mut places);
    for place in places {
        let (parent, key) = place.rsplit_once('/').unwrap();
        let mut older = written.clone();
        let parent = older.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key);
        let read = serde_json::to_value(Stored::read(&older).memory).unwrap();
        let top = place.split('/').nth(1).unwrap();
        for (key, value) in written.as_object().unwrap() {
            let is_kept = key == top || read.get(key) == Some(value);
            assert!(is_kept, "without {place} {key} is lost");
        }
    }
}

#[test]
fn what_is_no_memory_at_all_is_a_fresh_one() {
    for strange in [
        serde_json::json!(null),
        serde_json::json!([1]),
        serde_json::json!("x"),
    ] {
        let stored = Stored::read(&strange);
        assert_eq!(stored.memory, Memory::default());
        assert_eq!(stored.lost, [""]);
    }
}
