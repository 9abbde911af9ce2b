//! Replicas that are slow, stuck, doubled, limited, too many, or none at all.

use super::{LOAD, MINUTE, steady};
use crate::{
    budget::{self, Claim},
    policy::{Enforcement, RatioPolicy},
    ratio::{Ratio, RatioBand},
    reason::Reason,
    role::{PerRole, Role},
    role_state::StuckCause,
    signal::Reading,
    snapshot::Snapshot,
    testing::{
        Load,
        world::{TICK, World},
    },
    zero::ScaleToZero,
};

#[test]
fn f5_a_doubled_load_is_requested_once_while_replicas_start() {
    let mut world = steady(LOAD);
    world.start_up = 5 * MINUTE;
    world.load.rate_rps *= 2.0;
    world.run(5 * MINUTE);
    let requests = |role: Role| {
        let raised = |pair: &&[PerRole<u32>]| pair[1][role] > pair[0][role];
        world.history.windows(2).filter(raised).count()
    };
    let lowered = world
        .history
        .windows(2)
        .any(|pair| pair[1].prefill < pair[0].prefill || pair[1].decode < pair[0].decode);
    assert!(!lowered, "{:?}", world.history);
    // At first only the work that a full pool lets through is measured; then the surprise takes
    // risk away.
    let raised = (requests(Role::Prefill), requests(Role::Decode));
    assert!(raised.0 <= 3 && raised.1 <= 3, "{:?}", world.history);
    assert!(
        world.current.prefill <= 8 && world.current.decode <= 6,
        "{:?}",
        world.current
    );
}

#[test]
fn f6_a_role_that_gets_no_gpus_does_not_stop_the_other() {
    let mut world = steady(LOAD);
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
    assert_eq!(
        world.current.decode, before.decode,
        "the request is cancelled"
    );
    assert!(decision.report.has(Reason::ScaleUpBackedOff));
}

#[test]
fn f7_at_a_full_budget_the_idle_role_releases_before_the_other_grows() {
    let mut world = steady(LOAD);
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
fn f8_a_budget_below_the_least_replicas_holds_and_is_reported() {
    let mut world = steady(LOAD);
    let before = world.current;
    world.policy.budget_gpus = Some(4);
    let decision = world.run(10 * MINUTE);
    assert_eq!(world.current, before);
    assert!(decision.report.has(Reason::BudgetInfeasible));
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
fn no_more_replicas_go_before_those_that_went_are_gone() {
    let after_five_minutes = |timeout, leave_for_ever: bool| {
        let mut world = steady(Load {
            rate_rps: 70.0,
            ..LOAD
        });
        let before = world.current.decode;
        // A lower maximum takes one a minute.
        let see = |snapshot: &mut Snapshot| {
            snapshot.policy.behavior.drain_timeout = timeout;
            snapshot.policy.bounds.decode.max_replicas = 1;
            let decode = &mut snapshot.roles.decode;
            decode.terminating = u32::from(leave_for_ever && decode.current < before);
        };
        world.run_seeing(5 * MINUTE, see);
        before - world.current.decode
    };
    let pace = after_five_minutes(None, true);
    assert!(pace > 1, "{pace}");
    assert_eq!(after_five_minutes(Some(10 * MINUTE), true), 1);
    assert_eq!(after_five_minutes(Some(10 * MINUTE), false), pace);
    // A pod on a node that is lost leaves for ever, and is waited for no longer than that.
    let patience = after_five_minutes(Some(2 * MINUTE), true);
    assert!((2..pace).contains(&patience), "{patience} of {pace}");
}

#[test]
fn f17_pods_of_a_rolling_update_are_not_counted_twice() {
    let mut world = steady(LOAD);
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
        world.memory.replicas.decode.lead.samples(),
        steady(LOAD).memory.replicas.decode.lead.samples()
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
fn f25_a_request_in_the_drain_window_keeps_one_of_each() {
    let mut world = steady(LOAD);
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
    let mut world = steady(LOAD);
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
fn f28_a_maximum_below_the_replicas_is_reached_in_steps() {
    let mut world = World::new(30, 4, LOAD);
    world.policy.bounds.prefill.max_replicas = 10;
    world.run(MINUTE);
    let after = world.current.prefill;
    assert!((20..30).contains(&after), "{:?}", world.history);
    world.run(30 * MINUTE);
    assert!(world.current.prefill <= 10, "{:?}", world.history);
}
