//! Changes over time: restarts, edits, traffic that shifts, many services, and a record of it all.

use std::time::Duration;

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    memory::Memory,
    snapshot::Snapshot,
    testing::{Load, world::World},
};

#[test]
fn f13_a_restart_in_a_burst_lowers_nothing_for_a_whole_window() {
    let mut world = steady(LOAD);
    world.load.rate_rps *= 3.0;
    world.run(10 * MINUTE);
    let high = world.current;
    world.load = LOAD;
    world.memory = Memory::default();
    world.run(Duration::from_secs(285));
    assert!(world.current.prefill >= high.prefill && world.current.decode >= high.decode);
    world.run(20 * MINUTE);
    assert!(world.current.prefill < high.prefill);
}

#[test]
fn f19_a_jump_of_prefix_cache_hits_leaves_decode_alone() {
    let mut world = steady(Load {
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
    let mut world = steady(Load {
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
    // Decode goes back in steps that are seen to hold, and never up again.
    let first = world
        .history
        .windows(2)
        .position(|pair| pair[1].decode < pair[0].decode);
    let after = &world.history[first.unwrap_or(world.history.len() - 1)..];
    assert!(
        after
            .windows(2)
            .all(|pair| pair[1].decode <= pair[0].decode),
        "{:?}",
        world.history
    );
}

#[test]
fn f24_an_edited_policy_keeps_history_and_requests() {
    let mut world = steady(LOAD);
    world.load.rate_rps *= 2.0;
    world.run(MINUTE);
    let requested = world.current;
    world.load = LOAD;
    world.policy.objective.ttft.limit = Duration::from_millis(600);
    world.run(4 * MINUTE);
    assert_eq!(world.current, requested, "the window of 300 s still holds");
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
    let mut world = steady(LOAD);
    let mut recorded = Vec::new();
    for tick in 0..240 {
        world.load.rate_rps = 20.0 + 15.0 * (f64::from(tick) / 40.0).sin();
        let memory = serde_json::to_string(&world.memory).unwrap();
        // Time advances before the world decides; its observation then is recorded.
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

/// A service with three times the replicas that it needs, decided about every `seconds`.
fn oversized(seconds: u64) -> World {
    let mut world = steady(LOAD);
    let enough = world.current;
    world.apply(enough.map(|replicas| replicas * 3));
    world.tick = Duration::from_secs(seconds);
    world
}

#[rstest]
#[case::default_interval(15)]
#[case::just_not_watched(91)]
#[case::a_slow_controller(130)]
#[case::a_long_interval(300)]
#[case::longer_than_the_window(600)]
fn decisions_that_are_always_far_apart_lower_in_the_end(#[case] seconds: u64) {
    let mut world = oversized(seconds);
    let before = world.current;
    // First sight of the interval, a window of 300 s or three decisions, and steps down.
    world.run(90 * MINUTE);
    let after = world.current;
    assert!(
        after.prefill < before.prefill && after.decode < before.decode,
        "{after:?}"
    );
}

#[rstest]
#[case::now_and_then(&[15, 15, 15, 15, 120])]
#[case::every_other(&[60, 100])]
#[case::in_no_order(&[95, 170, 20, 110, 190, 45])]
fn decisions_that_are_late_now_and_then_lower_in_the_end(#[case] intervals: &[u64]) {
    let mut world = oversized(15);
    let before = world.current;
    for _ in 0..20 {
        for &seconds in intervals {
            world.tick = Duration::from_secs(seconds);
            world.run(world.tick);
        }
    }
    let after = world.current;
    assert!(
        after.prefill < before.prefill && after.decode < before.decode,
        "{after:?}"
    );
}

#[rstest]
#[case::at_the_default_interval(15, 1_800)]
#[case::just_long_enough(15, 91)]
#[case::where_decisions_are_far_apart(120, 1_800)]
fn after_an_unusual_time_a_whole_window_passes(#[case] interval: u64, #[case] outage: u64) {
    let mut world = oversized(interval);
    // The load needs every replica until nobody looks.
    world.load.rate_rps *= 3.0;
    world.run(30 * MINUTE);
    world.load = LOAD;
    let high = world.current;
    world.tick = Duration::from_secs(outage);
    world.run(world.tick);
    assert_eq!(
        world.current, high,
        "one look after the outage lowers nothing"
    );
    world.tick = Duration::from_secs(interval);
    // A window of 300 s begins with that look.
    world.run(Duration::from_secs(300 - interval));
    assert_eq!(world.current, high);
    world.run(30 * MINUTE);
    assert!(world.current.prefill < high.prefill);
}
