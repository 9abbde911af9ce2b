//! Random histories of a shared budget: never above it, at any instant.
//!
//! The API server, the workload controllers and two processes that follow the ledger's rules are
//! modelled, each step of them an event. Between any two events there may be a crash, a change of
//! leader, a write that lands late or whose answer is lost, a stale read, a manual edit, a pod
//! deleted by somebody, a rollout with surge, or another size of the budget. An observer of the
//! modelled API server checks the sum after every event; then everything is left in peace, and all
//! services must come to their shares and stay there.
//!
//! `PD_BUDGET_SEEDS=10000 cargo test -p pd-core --test budget_histories --release` plays many more
//! than the usual number.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod process;
mod random;
mod world;

use self::{
    random::Random,
    world::{Faults, World},
};

/// Histories of a usual run: a few seconds.
const SEEDS: u64 = 400;

/// Events of a history before it is left in peace.
const EVENTS: usize = 1_500;

#[expect(
    clippy::disallowed_methods,
    reason = "the caller may want many more seeds"
)]
fn seeds() -> u64 {
    let asked = std::env::var("PD_BUDGET_SEEDS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

fn play(seed: u64, faults: Faults) -> World {
    let mut world = World::new(Random::new(seed), faults);
    for event in 0..EVENTS {
        let what = world.step();
        world.check(&format!("seed {seed}, event {event}: {what}"));
    }
    world
}

#[test]
fn no_history_ever_exceeds_the_budget() {
    let mut busy = 0;
    for seed in 0..seeds() {
        let world = play(seed, Faults::ALL);
        busy += world.scale_ups;
    }
    assert!(busy > seeds() * 5, "only {busy} scale-ups");
}

#[test]
fn without_others_hands_the_sum_stays_within_the_budget_in_plain_numbers() {
    for seed in 0..seeds() {
        let mut world = play(seed, Faults::OURS);
        assert_eq!(world.beyond_grants(), 0, "seed {seed}");
        assert!(world.held() <= world.gpus_lately(), "seed {seed}");
        world.leave_in_peace();
    }
}

#[test]
fn left_in_peace_everybody_comes_to_its_share_and_stays() {
    for seed in 0..seeds() {
        let mut world = play(seed, Faults::ALL);
        world.leave_in_peace();
        for event in 0..world::CALM_EVENTS {
            let what = world.step();
            world.check(&format!("seed {seed}, calm event {event}: {what}"));
        }
        world.check_shares(&format!("seed {seed}"));
        let settled = world.replicas();
        for _ in 0..EVENTS {
            world.step();
            assert_eq!(
                world.replicas(),
                settled,
                "seed {seed}: replicas move again"
            );
        }
    }
}

/// The test can fail: a process that breaks one rule of the ledger is caught.
#[test]
fn each_broken_rule_is_found() {
    for rule in process::Broken::ALL {
        let caught = (0..20_000).any(|seed| {
            let mut world = World::new(Random::new(seed), Faults::OURS);
            world.broken = Some(rule);
            (0..EVENTS).any(|_| {
                world.step();
                world.excess() > 0
            })
        });
        assert!(caught, "{rule:?}");
    }
}
