//! The linter linted: each invariant broken by hand is found, and nothing that is allowed is.
//!
//! Every case is a real decision whose plan is then changed, with the report changed along, so that
//! the finding is about the invariant and not about the report.

mod mutations;

use std::time::Duration;

use super::*;
use crate::{
    memory::Memory,
    plan::plan,
    ratio::Enforcement,
    ratio::RatioPolicy,
    ratio::{Ratio, RatioBand},
    role_state::StuckCause,
    signal::{Reading, Signals},
    testing::{self, Load},
    time::Timestamp,
    zero::ScaleToZero,
};

const LOAD: Load = Load {
    rate_rps: 10.0,
    prefill_seconds: 0.1,
    output_tokens: 200.0,
};

/// A service of 4:4 of at most 8, and the findings of a plan of `to`.
fn findings(change: impl Fn(&mut Snapshot), to: (u32, u32)) -> Vec<Finding> {
    let mut snapshot = testing::snapshot(4, 4, LOAD);
    snapshot.policy.bounds.prefill.max_replicas = 8;
    snapshot.policy.bounds.decode.max_replicas = 8;
    change(&mut snapshot);
    let mut decision = plan(&snapshot, &Memory::default(), Timestamp::from_millis(0));
    let replicas = PerRole {
        prefill: to.0,
        decode: to.1,
    };
    decision.plan.replicas = replicas;
    decision.report.to = replicas;
    audit(&snapshot, &decision)
}

fn dark(snapshot: &mut Snapshot) {
    snapshot.signals = Signals::default();
}

fn blind(role: Role) -> Vec<Finding> {
    vec![Finding::LoweredBlindly { role }]
}

#[test]
fn a_change_within_all_limits_is_fine() {
    assert_eq!(findings(|_| (), (6, 3)), vec![]);
}

#[test]
fn beyond_bounds_is_found_and_on_the_way_back_to_them_is_not() {
    let out = |role, replicas, min, max| Finding::OutOfBounds {
        role,
        replicas,
        min,
        max,
    };
    assert_eq!(findings(|_| (), (9, 4)), [out(Role::Prefill, 9, 1, 8)]);
    let least = |s: &mut Snapshot| s.policy.bounds.decode.min_replicas = 3;
    assert_eq!(findings(least, (4, 2)), [out(Role::Decode, 2, 3, 8)]);
    let most = |s: &mut Snapshot| s.policy.bounds.decode.max_replicas = 2;
    assert_eq!(findings(most, (4, 3)), vec![]);
}

#[test]
fn one_role_alone_is_never_zero_and_both_only_where_that_is_allowed() {
    let none = |role| Finding::NoReplicas { role };
    let allowed = |s: &mut Snapshot| {
        s.policy.scale_to_zero = Some(ScaleToZero {
            idle_after: Duration::from_mins(5),
        });
        s.signals.wake_requests = Reading::KnownZero;
    };
    assert!(findings(|_| (), (0, 0)).contains(&none(Role::Prefill)));
    assert_eq!(findings(allowed, (0, 0)), vec![]);
    assert!(findings(allowed, (0, 4)).contains(&none(Role::Prefill)));
    assert!(findings(allowed, (4, 0)).contains(&none(Role::Decode)));
    let unknown_wake = |s: &mut Snapshot| {
        allowed(s);
        s.signals.wake_requests = Reading::default();
    };
    assert_eq!(findings(unknown_wake, (0, 0)).len(), 2);
}

#[test]
fn lowering_without_metrics_takes_the_users_word() {
    assert_eq!(findings(dark, (3, 4)), blind(Role::Prefill));
    let limited = |s: &mut Snapshot| {
        dark(s);
        s.policy.bounds.prefill.max_replicas = 3;
    };
    assert_eq!(findings(limited, (3, 4)), vec![]);
    // The maximum lowers to the maximum and no further.
    assert_eq!(findings(limited, (2, 4)), blind(Role::Prefill));
    let short = |s: &mut Snapshot| {
        dark(s);
        s.policy.budget_gpus = Some(24);
    };
    assert_eq!(findings(short, (3, 3)), vec![]);
}

#[test]
fn an_ask_that_never_served_is_taken_back_without_metrics() {
    let stuck = |s: &mut Snapshot| {
        dark(s);
        s.roles.decode.ready = 2;
        s.roles.decode.stuck = Some((1, StuckCause::Unschedulable));
    };
    assert_eq!(findings(stuck, (4, 3)), vec![]);
    assert_eq!(findings(stuck, (4, 2)), blind(Role::Decode));
    let serving = |s: &mut Snapshot| {
        stuck(s);
        s.roles.decode.ready = 4;
    };
    assert_eq!(findings(serving, (4, 3)), blind(Role::Decode));
}

#[test]
fn a_paused_direction_and_a_report_that_lies_are_found() {
    let role = Role::Prefill;
    let paused = |s: &mut Snapshot| s.paused.scale_up = true;
    assert_eq!(
        findings(paused, (5, 4)),
        [Finding::ChangedWhilePaused { role }]
    );
    assert_eq!(findings(paused, (3, 4)), vec![]);
    let snapshot = testing::snapshot(4, 4, LOAD);
    let mut decision = plan(&snapshot, &Memory::default(), Timestamp::from_millis(0));
    decision.report.to.prefill += 1;
    decision.report.bounds.decode.max_replicas = 99;
    decision.report.ratio.policy = Some(hard(1, 1));
    let found = audit(&snapshot, &decision);
    assert!(matches!(
        found[0],
        Finding::Misreported {
            role: Role::Prefill,
            ..
        }
    ));
    assert!(found.contains(&Finding::StrangeBounds { role: Role::Decode }));
    assert!(found.contains(&Finding::StrangeRatio));
}

fn hard(prefill: u32, decode: u32) -> RatioPolicy {
    RatioPolicy {
        band: RatioBand::around(Ratio::new(prefill, decode).unwrap(), 0),
        enforcement: Enforcement::Hard,
    }
}

#[test]
fn a_hard_band_is_not_left_and_may_be_entered() {
    let banded = |s: &mut Snapshot| s.policy.ratio = Some(hard(1, 1));
    let (prefill, decode) = (5, 4);
    let leaves = Finding::LeavesHardBand { prefill, decode };
    assert_eq!(findings(banded, (5, 4)), [leaves]);
    assert_eq!(findings(banded, (5, 5)), vec![]);
}

#[test]
fn what_is_leaving_makes_no_room_in_a_budget() {
    let budget = |s: &mut Snapshot| s.policy.budget_gpus = Some(32);
    // 4 GPUs each: three prefill workers are still there while decode grows.
    let gpus = 36;
    let over = Finding::OverBudget { gpus, budget: 32 };
    assert_eq!(findings(budget, (3, 5)), [over]);
    assert_eq!(findings(budget, (3, 4)), vec![]);
    let leaving = |s: &mut Snapshot| {
        s.policy.budget_gpus = Some(36);
        s.roles.decode.terminating = 1;
    };
    assert!(matches!(
        findings(leaving, (5, 4))[..],
        [Finding::OverBudget { gpus: 40, .. }]
    ));
}
