//! Replicas that come late, or not until something is put right.

use std::time::Duration;

use rstest::rstest;

use super::{LOAD, MINUTE};
use crate::{
    role::{PerRole, Role},
    role_state::StuckCause,
    testing::{
        Load,
        world::{TICK, World},
    },
};

/// A load that takes a handful of workers of each role.
const BUSY: Load = Load {
    rate_rps: 60.0,
    ..LOAD
};

/// A service whose load doubles, in a cluster of which nothing is known yet, and its replicas
/// before.
fn growing(node_after: Duration, start_up: Duration) -> (World, PerRole<u32>) {
    let mut world = World::new(8, 6, BUSY);
    world.run(60 * MINUTE);
    world.history.clear();
    world.start_up = start_up;
    world.node_after = node_after;
    world.load.rate_rps *= 2.0;
    let before = world.current;
    (world, before)
}

/// Whether the history ever takes replicas of `role` back within `span`.
fn taken_back(world: &World, role: Role) -> bool {
    world
        .history
        .windows(2)
        .any(|pair| pair[1][role] < pair[0][role])
}

#[rstest]
#[case::eleven_minutes(Duration::ZERO, 11 * MINUTE)]
#[case::a_node_of_8_and_a_start_of_6(8 * MINUTE, 6 * MINUTE)]
#[case::a_node_of_9_and_a_start_of_16(9 * MINUTE, 16 * MINUTE)]
#[case::twenty_five_minutes(Duration::ZERO, 25 * MINUTE)]
#[case::forty_minutes(Duration::ZERO, 40 * MINUTE)]
fn a_start_that_takes_longer_than_any_before_is_waited_for(
    #[case] node_after: Duration,
    #[case] start_up: Duration,
) {
    let (mut world, before) = growing(node_after, start_up);
    world.run((node_after + start_up).saturating_sub(MINUTE));
    assert!(
        !taken_back(&world, Role::Prefill) && !taken_back(&world, Role::Decode),
        "{:?}",
        world.history
    );
    world.run(2 * MINUTE);
    assert!(
        world.ready(Role::Prefill) > before.prefill && world.ready(Role::Decode) > before.decode,
        "{:?}",
        world.history
    );
    let lead = &world.memory.replicas.prefill.lead;
    assert!(
        lead.samples() > 0 && lead.p50(MINUTE) >= node_after + start_up,
        "{lead:?}"
    );
}

#[test]
fn a_node_that_takes_longer_than_the_first_wait_is_waited_for_the_second_time() {
    let (mut world, before) = growing(18 * MINUTE, 4 * MINUTE);
    world.run(60 * MINUTE);
    assert!(
        world.ready(Role::Decode) > before.decode,
        "{:?}",
        world.history
    );
}

#[rstest]
#[case::a_quota_after_a_while(StuckCause::QuotaExceeded, 30 * MINUTE)]
#[case::a_quota_after_hours(StuckCause::QuotaExceeded, 240 * MINUTE)]
#[case::a_node_pool_after_a_while(StuckCause::Unschedulable, 30 * MINUTE)]
#[case::a_node_pool_after_hours(StuckCause::Unschedulable, 240 * MINUTE)]
#[case::an_image_after_a_while(StuckCause::ImagePull, 30 * MINUTE)]
#[case::an_image_after_hours(StuckCause::ImagePull, 240 * MINUTE)]
#[case::a_webhook_after_hours(StuckCause::CreateFailed, 240 * MINUTE)]
#[case::a_crash_after_hours(StuckCause::CrashLoop, 240 * MINUTE)]
fn once_the_cause_is_gone_replicas_come_within_minutes(
    #[case] cause: StuckCause,
    #[case] after: Duration,
) {
    let (mut world, before) = growing(Duration::ZERO, 2 * MINUTE);
    world.blocked.decode = Some(cause);
    world.run(after);
    assert_eq!(world.ready(Role::Decode), before.decode);
    let lead = world.memory.replicas.decode.lead.p90(2 * MINUTE);
    assert!(
        lead <= 11 * MINUTE,
        "waiting for somebody is no lead time: {lead:?}"
    );
    world.blocked.decode = None;
    // A probe starts in 2 min, 2 min more until it is believed, and the rest starts in 2 min.
    world.run(7 * MINUTE);
    assert!(
        world.ready(Role::Decode) > before.decode + 2,
        "{before:?} {:?}",
        world.history
    );
    world.run(30 * MINUTE);
    let lead = world.memory.replicas.decode.lead.p90(2 * MINUTE);
    assert!(lead <= 11 * MINUTE, "{lead:?}");
}

#[test]
fn a_part_of_the_quota_that_came_back_is_used() {
    let (mut world, before) = growing(Duration::ZERO, 2 * MINUTE);
    world.blocked.decode = Some(StuckCause::QuotaExceeded);
    world.run(60 * MINUTE);
    world.blocked.decode = None;
    world.run(4 * MINUTE);
    world.blocked.decode = Some(StuckCause::QuotaExceeded);
    let some = world.ready(Role::Decode);
    world.run(30 * MINUTE);
    assert!(
        some > before.decode && world.ready(Role::Decode) >= some,
        "{:?}",
        world.history
    );
}

#[test]
fn a_lead_time_is_read_as_it_is() {
    let (mut world, _) = growing(Duration::ZERO, 2 * MINUTE);
    world.run(20 * MINUTE);
    let lead = &world.memory.replicas.decode.lead;
    let measured = lead.p50(MINUTE);
    assert!(
        lead.samples() > 0 && measured >= 2 * MINUTE && measured <= 2 * MINUTE + TICK,
        "{lead:?}"
    );
}

#[test]
fn while_decode_waits_for_a_quota_prefill_has_the_rest_of_the_budget() {
    let (mut world, before) = growing(Duration::ZERO, 2 * MINUTE);
    world.policy.budget_gpus = Some((before.prefill + before.decode + 6) * 4);
    world.blocked.decode = Some(StuckCause::QuotaExceeded);
    world.run(30 * MINUTE);
    assert!(
        world.ready(Role::Prefill) >= before.prefill + 5,
        "{before:?} {:?}",
        world.history
    );
}
