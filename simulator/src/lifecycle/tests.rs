//! Lives of replicas, one rule each, with a load that is not the point.

mod laws;

use pd_core::role_state::StuckCause;
use rstest::rstest;

use super::*;
use crate::engine::{Arrival, Profile};
use crate::fault::{Effect, Fault};
use crate::time::MINUTE;

const LEAD: Nanos = 60 * SECOND;

struct Life {
    fleet: Fleet,
    service: Service,
}

impl Life {
    fn of(lifecycle: Lifecycle, prefill: u32, decode: u32) -> Self {
        let gpus = PerRole::from_fn(|_| 4);
        let mut life = Self {
            fleet: Fleet::new(lifecycle, gpus, PerRole::from_fn(|_| LEAD), 7),
            service: Service::new(Profile::default()),
        };
        let first = PerRole { prefill, decode };
        life.fleet.populate(first, &mut life.service);
        life
    }

    fn until(&mut self, now_seconds: u64) {
        let now = now_seconds * SECOND;
        while let Some(at) = self.fleet.next_event_at().filter(|at| *at <= now) {
            self.service.advance(at);
            self.fleet.process_events(&mut self.service);
        }
        self.service.observe(now);
        self.fleet.reconcile(&mut self.service);
    }

    fn scale(&mut self, prefill: u32, decode: u32) {
        let wanted = PerRole { prefill, decode };
        self.fleet.scale(wanted, &mut self.service);
    }

    fn strike(&mut self, effect: Effect, role: Role, lasts_seconds: u64) {
        let fault = Fault {
            effect,
            at: 0,
            every: None,
            lasts: None,
            role: Some(role),
            share: 0.0,
        };
        let ends_at = Some(self.service.now() + lasts_seconds * SECOND);
        self.fleet.strike(&fault, ends_at, &mut self.service);
    }

    fn conditions(&mut self, change: impl FnOnce(&mut Conditions)) {
        let mut conditions = Conditions::default();
        change(&mut conditions);
        self.fleet.set_conditions(conditions, &mut self.service);
    }

    /// Ready, starting, pending, draining.
    fn counts(&self, role: Role) -> [u32; 4] {
        let replicas = self.fleet.replicas(role, self.service.now());
        let (ready, starting) = (replicas.ready, replicas.starting);
        [ready, starting, replicas.pending, replicas.draining]
    }

    fn offer(&mut self, output_tokens: u32) {
        self.service.offer(Arrival {
            at: self.service.now(),
            input_tokens: 500,
            output_tokens,
            ..Arrival::default()
        });
    }
}

#[test]
fn a_replica_serves_after_its_lead_and_is_seen_at_a_probe() {
    let probed = Lifecycle {
        readiness_period: 25 * SECOND,
        ..Lifecycle::default()
    };
    for (lifecycle, ready_at) in [(Lifecycle::default(), 60), (probed, 75)] {
        let mut life = Life::of(lifecycle, 1, 1);
        life.scale(2, 1);
        life.until(ready_at - 1);
        assert_eq!(life.counts(Role::Prefill), [1, 1, 0, 0]);
        life.until(ready_at);
        assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
    }
}

#[test]
fn replicas_wait_for_gpus_and_get_those_that_others_give_back() {
    let full = Lifecycle {
        gpus: Some(12),
        ..Lifecycle::default()
    };
    let mut life = Life::of(full, 2, 1);
    life.scale(2, 3);
    assert_eq!(life.counts(Role::Decode), [1, 0, 2, 0]);
    let unschedulable = Some((2, StuckCause::Unschedulable));
    assert_eq!(life.fleet.stuck(Role::Decode), unschedulable);
    life.until(600);
    assert_eq!(life.counts(Role::Decode), [1, 0, 2, 0]);
    life.scale(1, 3);
    assert_eq!(life.counts(Role::Decode), [1, 1, 1, 0]);
    // Waiting pods are the first to go.
    life.scale(1, 2);
    assert_eq!(life.counts(Role::Decode), [1, 1, 0, 0]);
    assert_eq!(life.fleet.stuck(Role::Decode), None);
}

#[test]
fn a_crash_restarts_in_place_and_loses_what_ran() {
    let mut life = Life::of(Lifecycle::default(), 1, 1);
    life.until(10);
    life.offer(5_000);
    life.until(15);
    life.strike(Effect::Crash, Role::Decode, 0);
    assert_eq!(life.counts(Role::Decode), [0, 1, 0, 0]);
    let lost = Loss {
        cause: LossCause::Fault,
        requests: 1,
    };
    assert_eq!(life.fleet.take_losses(), [lost]);
    // The first crash is followed by a restart at once, the second by ten seconds of back-off.
    life.until(75);
    assert_eq!(life.counts(Role::Decode), [1, 0, 0, 0]);
    life.strike(Effect::Crash, Role::Decode, 0);
    assert_eq!(
        life.fleet.stuck(Role::Decode),
        Some((1, StuckCause::CrashLoop))
    );
    life.until(144);
    assert_eq!(life.counts(Role::Decode), [0, 1, 0, 0]);
    life.until(145);
    assert_eq!(life.counts(Role::Decode), [1, 0, 0, 0]);
}

#[test]
fn starts_that_fail_back_off_ever_longer_until_they_succeed() {
    let mut life = Life::of(Lifecycle::default(), 1, 1);
    life.conditions(|at| at.start_failure_share.prefill = 1.0);
    life.scale(2, 1);
    life.until(1_000);
    assert_eq!(life.counts(Role::Prefill), [1, 1, 0, 0]);
    // Starts of 60 s at 0, 60, 130, 210, 310, 450 and 670: the next after 300 s.
    assert_eq!(
        life.fleet.stuck(Role::Prefill),
        Some((1, StuckCause::CrashLoop))
    );
    life.conditions(|_| {});
    life.until(1_030);
    assert_eq!(life.fleet.stuck(Role::Prefill), None);
    life.until(1_090);
    assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
}

#[test]
fn images_that_cannot_be_pulled_are_tried_again() {
    let mut life = Life::of(Lifecycle::default(), 1, 1);
    life.conditions(|at| at.image_pull_fails.decode = true);
    life.scale(1, 2);
    let stuck = Some((1, StuckCause::ImagePull));
    assert_eq!(life.fleet.stuck(Role::Decode), stuck);
    life.until(65);
    life.conditions(|_| {});
    life.until(70);
    assert_eq!(life.fleet.stuck(Role::Decode), None);
    life.until(130);
    assert_eq!(life.counts(Role::Decode), [2, 0, 0, 0]);
}

#[test]
fn a_failed_node_is_noticed_late_and_its_replicas_replaced_later() {
    let mut life = Life::of(Lifecycle::default(), 2, 1);
    life.until(10);
    life.strike(Effect::NodeFailure, Role::Prefill, 100_000);
    // Both prefill replicas were on one node; nobody knows yet.
    assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
    assert_eq!(life.fleet.ghosts().count(), 2);
    life.until(50);
    assert_eq!(life.counts(Role::Prefill), [0, 2, 0, 0]);
    assert_eq!(life.fleet.ghosts().count(), 0);
    life.until(350 + 59);
    assert_eq!(life.counts(Role::Prefill), [0, 2, 0, 0]);
    life.until(350 + 60);
    assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
}

#[test]
fn replicas_of_a_node_that_comes_back_soon_start_there() {
    let mut life = Life::of(Lifecycle::default(), 2, 1);
    life.strike(Effect::NodeFailure, Role::Prefill, 100);
    life.until(159);
    assert_eq!(life.counts(Role::Prefill), [0, 2, 0, 0]);
    life.until(160);
    assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
    life.until(1_000);
    assert_eq!(life.counts(Role::Prefill), [2, 0, 0, 0]);
}

#[test]
fn a_reclaimed_node_gives_notice_and_its_replicas_are_replaced_at_once() {
    let mut life = Life::of(Lifecycle::default(), 1, 1);
    life.until(10);
    life.offer(5_000);
    life.until(15);
    let notice = 30 * SECOND;
    life.strike(Effect::SpotReclaim { notice }, Role::Decode, 100_000);
    assert_eq!(life.counts(Role::Decode), [0, 1, 0, 1]);
    assert_eq!(life.fleet.reclaimed(Role::Decode), 1);
    life.until(44);
    assert_eq!(life.fleet.take_losses(), []);
    life.until(45);
    let losses = life.fleet.take_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].cause, LossCause::Fault);
    life.until(75);
    assert_eq!(life.counts(Role::Decode), [1, 0, 0, 0]);
}

#[rstest]
#[case::as_long_as_it_takes(None, 0)]
#[case::too_short(Some(5 * SECOND), 1)]
#[case::long_enough(Some(10 * MINUTE), 0)]
fn what_is_removed_drains_within_its_grace(#[case] grace: Option<Nanos>, #[case] dropped: usize) {
    let lifecycle = Lifecycle {
        grace,
        ..Lifecycle::default()
    };
    let mut life = Life::of(lifecycle, 1, 2);
    life.until(10);
    life.offer(2_000);
    life.offer(2_000);
    life.until(12);
    life.scale(1, 1);
    assert_eq!(life.counts(Role::Decode), [1, 0, 0, 1]);
    life.until(200);
    assert_eq!(life.counts(Role::Decode), [1, 0, 0, 0]);
    let losses = life.fleet.take_losses();
    assert_eq!(losses.len(), dropped);
    assert!(losses.iter().all(|loss| loss.cause == LossCause::ScaleDown));
}

#[test]
fn requests_reach_a_removed_replica_until_all_routers_know() {
    let late = Lifecycle {
        endpoint_delay: 5 * SECOND,
        ..Lifecycle::default()
    };
    let mut life = Life::of(late, 2, 1);
    life.until(10);
    life.scale(1, 1);
    assert_eq!(life.counts(Role::Prefill), [1, 0, 0, 1]);
    let ready = |life: &Life| {
        let prefill = crate::engine::Role::Prefill;
        life.service.worker_count(prefill, WorkerState::Ready)
    };
    assert_eq!(ready(&life), 2);
    assert_eq!(life.fleet.deleted().count(), 1);
    life.until(15);
    assert_eq!(ready(&life), 1);
    assert_eq!(life.counts(Role::Prefill), [1, 0, 0, 0]);
}
