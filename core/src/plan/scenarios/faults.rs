//! Faults of pods, of the other role and of the clock: they take nothing away from a service.

use std::time::Duration;

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    memory::Memory,
    policy::{ChangeLimit, RatePolicy},
    replicas::ReplicaChanges,
    role::{PerRole, Role},
    role_state::StuckCause,
    signal::{Coverage, Reading, Signals},
    testing::{
        Load,
        world::{TICK, World},
    },
};

/// A load that takes two dozen decode workers.
const LARGE: Load = Load {
    rate_rps: 80.0,
    prefill_seconds: 0.1,
    output_tokens: 700.0,
};

/// A service of `role` in great number that has run for an hour.
fn large() -> World {
    let mut world = World::new(12, 20, LARGE);
    world.policy.bounds.decode.max_replicas = 64;
    world.policy.bounds.prefill.max_replicas = 64;
    world.start_up = 2 * MINUTE;
    world.run(60 * MINUTE);
    world.history.clear();
    world
}

/// The fewest replicas of `role` in the history.
fn fewest(world: &World, role: Role) -> u32 {
    world.history.iter().map(|pair| pair[role]).min().unwrap()
}

#[rstest]
#[case::crash_looping(Some(StuckCause::CrashLoop))]
#[case::unready_without_a_cause(None)]
#[case::their_node_is_gone(Some(StuckCause::Unschedulable))]
#[case::the_image_is_gone(Some(StuckCause::ImagePull))]
#[case::refused_by_a_quota(Some(StuckCause::QuotaExceeded))]
#[case::refused_by_a_webhook(Some(StuckCause::CreateFailed))]
fn all_decode_workers_broken_for_half_an_hour_stay(#[case] cause: Option<StuckCause>) {
    let mut world = large();
    let before = world.current;
    world.broken.decode = before.decode;
    world.broken_cause = cause;
    world.run(30 * MINUTE);
    assert!(
        fewest(&world, Role::Decode) >= before.decode
            && fewest(&world, Role::Prefill) >= before.prefill,
        "{before:?} {:?}",
        world.history
    );
    world.broken.decode = 0;
    world.run(10 * MINUTE);
    assert!(world.ready(Role::Decode) >= before.decode);
}

#[rstest]
#[case::most_of_decode(Role::Decode, 18)]
#[case::half_of_decode(Role::Decode, 10)]
#[case::a_quarter_of_decode(Role::Decode, 5)]
#[case::most_of_prefill(Role::Prefill, 9)]
#[case::half_of_prefill(Role::Prefill, 5)]
fn a_part_that_is_broken_takes_nothing_from_either_role(#[case] role: Role, #[case] broken: u32) {
    let mut world = large();
    let before = world.current;
    world.broken[role] = broken;
    world.broken_cause = Some(StuckCause::CrashLoop);
    world.run(40 * MINUTE);
    for role in Role::ALL {
        assert!(
            fewest(&world, role) >= before[role],
            "{before:?} {:?}",
            world.history
        );
    }
}

#[test]
fn a_rollout_whose_new_pods_find_no_node_takes_nothing_back() {
    let mut world = large();
    let before = world.current;
    world.run_seeing(30 * MINUTE, |snapshot| {
        let state = &mut snapshot.roles.decode;
        state.rolling_out = true;
        state.ready -= 4;
        state.starting += 6;
        state.stuck = Some((6, StuckCause::Unschedulable));
        snapshot.signals.coverage.decode.scraped -= 4;
        snapshot.signals.coverage.decode.seen -= 4;
    });
    assert!(
        fewest(&world, Role::Decode) >= before.decode,
        "{:?}",
        world.history
    );
}

#[rstest]
#[case::crash_loop(StuckCause::CrashLoop)]
#[case::image_pull(StuckCause::ImagePull)]
#[case::container_config(StuckCause::CreateFailed)]
fn one_broken_worker_of_several_does_not_stop_growth(#[case] cause: StuckCause) {
    let mut world = steady(Load {
        rate_rps: 60.0,
        ..LOAD
    });
    let before = world.current;
    world.broken.decode = 1;
    world.broken_cause = Some(cause);
    world.run(5 * MINUTE);
    assert!(
        world.ready(Role::Decode) >= before.decode,
        "it is replaced: {:?}",
        world.history
    );
    world.load.rate_rps *= 1.5;
    world.run(4 * MINUTE);
    assert!(
        world.ready(Role::Decode) > before.decode,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn new_workers_that_are_all_broken_do_not_buy_ever_more() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.blocked.decode = Some(StuckCause::ImagePull);
    world.load.rate_rps *= 2.0;
    world.run(60 * MINUTE);
    assert!(
        world.current.decode <= 3 * before.decode,
        "{before:?} {:?}",
        world.history
    );
    world.blocked.decode = None;
    world.run(3 * MINUTE);
    assert!(
        world.ready(Role::Decode) > before.decode,
        "the image is there again: {before:?} {:?}",
        world.history
    );
}

#[test]
fn decode_stays_while_all_prefill_workers_are_down() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.broken.prefill = before.prefill;
    world.run(40 * MINUTE);
    assert!(
        fewest(&world, Role::Decode) >= before.decode,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn decode_stays_while_the_metrics_of_prefill_are_missing() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.load.rate_rps = 1.0;
    world.run_seeing(40 * MINUTE, |snapshot| {
        let signals = &mut snapshot.signals;
        signals.coverage.prefill = Coverage::default();
        signals.prefill_completion_rate_rps = Reading::default();
        signals.waiting_requests.prefill = Reading::default();
    });
    assert!(
        fewest(&world, Role::Decode) >= before.decode,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn prefill_stays_while_all_decode_workers_are_down() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.broken.decode = before.decode;
    world.load.rate_rps = 0.0;
    world.run(40 * MINUTE);
    assert!(
        fewest(&world, Role::Prefill) >= before.prefill,
        "{before:?} {:?}",
        world.history
    );
}

/// Replicas of `role` that were taken away within a minute beyond a tenth, rounded up: the most.
fn steepest_fall(world: &World, role: Role) -> u32 {
    let minute = usize::try_from(MINUTE.as_secs() / TICK.as_secs()).unwrap();
    let falls = world.history.windows(minute + 1).map(|pairs| {
        let (from, to) = (pairs[0][role], pairs[minute][role]);
        from.saturating_sub(to).saturating_sub(from.div_ceil(10))
    });
    falls.max().unwrap_or(0)
}

#[rstest]
#[case::with_metrics(false)]
#[case::without_metrics(true)]
fn a_lowered_budget_is_reached_in_steps(#[case] dark: bool) {
    let mut world = large();
    world.drain = MINUTE;
    world.run(TICK);
    let before = world.current;
    let held = (before.prefill + before.decode) * world.gpus_per_replica;
    world.policy.budget_gpus = Some(held / 2);
    let see = |snapshot: &mut crate::Snapshot| {
        if dark {
            snapshot.signals = Signals::default();
        }
    };
    world.run_seeing(30 * MINUTE, see);
    for role in Role::ALL {
        let fall = steepest_fall(&world, role);
        assert_eq!(fall, 0, "of {role} in a minute: {:?}", world.history);
    }
    let held = (world.current.prefill + world.current.decode) * world.gpus_per_replica;
    assert!(
        held <= world.policy.budget_gpus.unwrap(),
        "{:?}",
        world.current
    );
}

#[test]
fn replicas_that_hold_more_gpus_than_before_come_down_to_the_budget_in_steps() {
    let mut world = large();
    world.policy.budget_gpus = Some(4 * 45);
    world.run(5 * MINUTE);
    world.history.clear();
    world.gpus_per_replica = 8;
    world.run(40 * MINUTE);
    for role in Role::ALL {
        let fall = steepest_fall(&world, role);
        assert_eq!(fall, 0, "of {role} in a minute: {:?}", world.history);
    }
    assert!((world.current.prefill + world.current.decode) * 8 <= 180);
}

#[test]
fn a_lowered_budget_keeps_to_the_scale_down_policies_of_the_user() {
    let mut world = large();
    let before = world.current;
    world.policy.behavior.scale_down.policies = vec![RatePolicy {
        change: ChangeLimit::Replicas(1),
        period: MINUTE,
    }];
    world.policy.budget_gpus = Some((before.prefill + before.decode) * 2);
    world.run(5 * MINUTE);
    assert!(
        world.current.decode + 6 >= before.decode && world.current.decode < before.decode,
        "{before:?} {:?}",
        world.history
    );
}

#[rstest]
#[case::ten_minutes(10 * MINUTE)]
#[case::a_minute(MINUTE)]
#[case::a_day(1_440 * MINUTE)]
fn a_clock_that_steps_back_forgets_no_window(#[case] step: Duration) {
    let mut world = steady(Load {
        rate_rps: 60.0,
        ..LOAD
    });
    let before = world.current;
    world.step_clock_back(step);
    world.load.rate_rps = 1.0;
    world.run(4 * MINUTE);
    assert_eq!(world.current, before, "{:?}", world.history);
    world.run(30 * MINUTE);
    assert!(
        world.current.decode < before.decode,
        "a window later it is lowered"
    );
}

#[test]
fn a_clock_that_was_an_hour_ahead_for_one_decision_stops_nothing() {
    let mut world = steady(LOAD);
    let behavior = &mut world.policy.behavior;
    behavior.scale_up.policies = vec![RatePolicy {
        change: ChangeLimit::Replicas(2),
        period: MINUTE,
    }];
    let before = world.current;
    // One decision, which raises, is made an hour ahead.
    world.now = world.now.plus(60 * MINUTE);
    world.load.rate_rps = 60.0;
    world.run(TICK);
    world.step_clock_back(60 * MINUTE);
    world.run(5 * MINUTE);
    assert!(
        world.current.decode >= before.decode + 3,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn changes_stamped_in_the_future_stop_no_growth() {
    let mut world = steady(LOAD);
    world.policy.behavior.scale_up.policies = vec![RatePolicy {
        change: ChangeLimit::Replicas(2),
        period: 30 * MINUTE,
    }];
    let ahead = world.now.plus(60 * MINUTE);
    for role in Role::ALL {
        let changes = &mut world.memory.replicas[role].changes;
        *changes = ReplicaChanges::default();
        changes.observe(1, ahead);
        changes.observe(world.current[role], ahead);
    }
    let before = world.current;
    world.load.rate_rps = 60.0;
    world.run(2 * MINUTE);
    assert!(
        world.current.decode >= before.decode + 2,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn a_clock_that_steps_ahead_cancels_nothing_that_starts() {
    let mut world = steady(LOAD);
    world.start_up = 6 * MINUTE;
    world.load.rate_rps = 60.0;
    world.run(MINUTE);
    let requested = world.current;
    let (samples, lead) = {
        let lead = &world.memory.replicas.decode.lead;
        (lead.samples(), lead.p90(MINUTE))
    };
    world.step_clock_ahead(60 * MINUTE);
    world.run(2 * MINUTE);
    assert!(
        world.current.decode >= requested.decode,
        "{:?}",
        world.history
    );
    world.run(10 * MINUTE);
    let after = &world.memory.replicas.decode.lead;
    assert!(
        after.p90(MINUTE) <= lead.max(7 * MINUTE),
        "{samples} {after:?}"
    );
}

#[test]
fn a_fresh_memory_over_broken_workers_takes_nothing_back() {
    let mut world = large();
    let before = world.current;
    world.broken.decode = before.decode;
    world.broken_cause = Some(StuckCause::CrashLoop);
    world.memory = Memory::default();
    world.run(30 * MINUTE);
    assert!(
        fewest(&world, Role::Decode) >= before.decode,
        "{before:?} {:?}",
        world.history
    );
}

#[test]
fn prefill_is_not_lowered_below_the_load_that_it_serves() {
    let mut world = steady(Load {
        rate_rps: 60.0,
        ..LOAD
    });
    // The forecast takes the load to be gone soon; the load is still there.
    for second in 0..40 {
        world.load.rate_rps = 60.0 - f64::from(second);
        world.tick_seeing(|_| {});
    }
    let busy = world.load.rate_rps * world.load.prefill_seconds;
    assert!(
        f64::from(world.current.prefill) >= busy,
        "{busy} {:?}",
        world.current
    );
    let pair = PerRole {
        prefill: 1,
        decode: 1,
    };
    assert_ne!(world.current, pair);
}
