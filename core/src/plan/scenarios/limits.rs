//! Limits that no number of replicas keeps: the part out of reach is named and not paid for, longer
//! work never needs less, and a maximum that binds is in the report.

use std::time::Duration;

use rstest::rstest;

use super::{LOAD, MINUTE, steady};
use crate::{
    plan::Decision,
    reason::Reason,
    role::{PerRole, Role},
    testing::{
        Load,
        world::{TICK, World},
    },
};

/// Steps of the world's replicas take 8.2 ms with one request.
fn with_tpot_limit(micros: u64) -> (World, u32, Decision) {
    let mut world = steady(Load {
        rate_rps: 10.0,
        output_tokens: 200.0,
        ..LOAD
    });
    let before = world.current.decode;
    world.policy.objective.tpot.limit = Duration::from_micros(micros);
    let decision = world.run(2 * 60 * MINUTE);
    (world, before, decision)
}

fn most(world: &World, role: Role) -> u32 {
    world.history.iter().map(|pair| pair[role]).max().unwrap()
}

#[rstest]
#[case::far_below(2_000)]
#[case::below(6_000)]
#[case::half_a_millisecond_below(7_600)]
fn a_tpot_limit_below_the_floor_buys_nothing_and_is_named(#[case] limit_us: u64) {
    let (world, before, decision) = with_tpot_limit(limit_us);
    assert!(
        most(&world, Role::Decode) <= before + 1,
        "{:?}",
        world.history
    );
    let step = decision.report.step(Reason::ObjectiveUnreachable);
    let message = &step.expect("it is named").message;
    assert!(message.contains("100.0 % of requests"), "{message}");
    let paragraph = decision.report.paragraph();
    let promise = format!("keeps TPOT under {} ms", limit_us / 1_000);
    assert!(!paragraph.contains(&promise), "{paragraph}");
}

#[test]
fn out_of_reach_or_not_decode_grows_with_the_tokens_that_it_must_generate() {
    let (mut world, ..) = with_tpot_limit(6_000);
    let before = world.current.decode;
    world.load.rate_rps *= 8.0;
    world.run(30 * MINUTE);
    assert!(world.current.decode > before, "{:?}", world.history);
    assert!(world.current.decode <= 12, "{:?}", world.history);
}

#[rstest]
#[case::a_tenth_above(9_000, 7, 4)]
#[case::a_fifth_above(10_000, 4, 2)]
fn a_tpot_limit_near_the_floor_takes_the_replicas_that_keep_it(
    #[case] limit_us: u64,
    #[case] enough: u32,
    #[case] fewest: u32,
) {
    let (world, before, decision) = with_tpot_limit(limit_us);
    assert!(
        most(&world, Role::Decode) <= enough.max(before),
        "{:?}",
        world.history
    );
    assert!(!decision.report.has(Reason::ObjectiveUnreachable));
    // 2,000 tokens/s take 2,000 x 9 ms = 18 requests in flight at 9 ms, where a replica has 5.
    assert!(world.current.decode >= fewest);
}

#[test]
fn prompts_that_grow_towards_their_limit_and_beyond_never_need_fewer_replicas() {
    let mut world = steady(Load {
        rate_rps: 10.0,
        prefill_seconds: 0.2,
        output_tokens: 100.0,
    });
    for milliseconds in [300, 350, 400, 450, 500, 600, 1_000, 2_000] {
        let before = world.current.prefill;
        world.load.prefill_seconds = f64::from(milliseconds) / 1e3;
        let decision = world.run(20 * MINUTE);
        assert!(
            world.current.prefill >= before,
            "{milliseconds} ms: {before} -> {}",
            world.current.prefill
        );
        let named = decision.report.has(Reason::ObjectiveUnreachable);
        assert_eq!(named, milliseconds >= 450, "{milliseconds} ms");
    }
}

#[test]
fn decode_that_is_full_buys_no_prefill_however_long_its_leg_becomes() {
    let mut world = steady(LOAD);
    let before = world.current;
    for seconds in [0.1, 0.3, 0.45, 0.6, 1.0, 3.0] {
        world.run_seeing(5 * MINUTE, |snapshot| {
            let ttft = crate::testing::around(seconds, 600.0);
            snapshot.signals.recent.decode_ttft = ttft.clone();
            snapshot.signals.wide.decode_ttft = ttft;
            snapshot.signals.waiting_requests.decode = crate::signal::Reading::Value(80.0);
            snapshot.signals.decode_kv_usage = crate::signal::Reading::Value(0.99);
        });
    }
    let prefill = world
        .history
        .iter()
        .all(|pair| pair.prefill == before.prefill);
    assert!(prefill, "{:?}", world.history);
    assert!(world.current.decode > before.decode);
}

#[rstest]
#[case::prefill(Role::Prefill)]
#[case::decode(Role::Decode)]
fn a_maximum_that_binds_is_reported_at_every_decision(#[case] role: Role) {
    let mut world = steady(LOAD);
    world.policy.bounds = PerRole::from_fn(|of: Role| {
        let mut bounds = world.policy.bounds[of];
        bounds.max_replicas = world.current[of];
        bounds
    });
    world.load.rate_rps *= 3.0;
    if role == Role::Decode {
        world.load.output_tokens *= 2.0;
        world.load.prefill_seconds /= 4.0;
    }
    world.run(2 * MINUTE);
    for _ in 0..20 {
        let decision = world.run(TICK);
        let report = &decision.report;
        let step = report
            .steps
            .iter()
            .find(|step| step.reason == Reason::AtMaximum && step.role == Some(role));
        assert!(step.is_some(), "{}", report.paragraph());
        assert!(report.need[role] > Some(world.policy.bounds[role].max_replicas));
    }
}

#[test]
fn a_maximum_that_is_just_enough_does_not_bind() {
    let mut world = steady(LOAD);
    let current = world.current;
    for role in Role::ALL {
        world.policy.bounds = PerRole::from_fn(|of: Role| {
            let mut bounds = world.policy.bounds[of];
            if of == role {
                bounds.max_replicas = current[of];
            }
            bounds
        });
    }
    let decision = world.run(10 * MINUTE);
    assert!(
        !decision.report.has(Reason::AtMaximum),
        "{}",
        decision.report.paragraph()
    );
}
