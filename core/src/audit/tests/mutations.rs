//! Plans changed at random, so that each promise is broken, and found broken.
//!
//! Every case is a decision on any snapshot after a first decision on it, of which the plan is
//! replaced, and the report with it. The snapshot is changed only as far as the promise takes.

use proptest::prelude::*;

use super::*;
use crate::{
    behavior::{ChangeLimit, RatePolicy},
    operating_point::OperatingPoints,
    ratio::Enforcement,
    role_state::StuckCause,
    schedule::{Schedule, ScheduledBounds},
    testing::any,
};

fn start() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

/// A decision a quarter of a minute after another on the same snapshot, with its past.
fn decided(snapshot: &Snapshot) -> (Facts, Decision) {
    let first = plan(snapshot, &Memory::default(), start());
    let now = start().plus(Duration::from_secs(15));
    let facts = Facts::of(&first.memory, snapshot, now);
    (facts, plan(snapshot, &first.memory, now))
}

/// The findings of `snapshot` when the plan is `to`.
fn forged(snapshot: &Snapshot, to: PerRole<u32>) -> Vec<Finding> {
    let (facts, mut decision) = decided(snapshot);
    decision.plan.replicas = to;
    decision.report.to = to;
    audit_after(&facts, snapshot, &decision)
}

fn currents(snapshot: &Snapshot) -> PerRole<u32> {
    snapshot.roles.map(|state| state.current)
}

/// Any snapshot of a service with replicas, without what licenses a change.
fn plain() -> impl Strategy<Value = Snapshot> {
    let counts = (1u32..60, 1u32..60);
    (any::snapshot(), counts, 0u32..9, 0u32..9).prop_map(|(mut snapshot, counts, p, d)| {
        let policy = &mut snapshot.policy;
        policy.budget_gpus = None;
        policy.ratio = None;
        policy.operating_points = None;
        policy.schedules.clear();
        policy.scale_to_zero = None;
        for (role, count, gpus) in [(Role::Prefill, counts.0, p), (Role::Decode, counts.1, d)] {
            policy.bounds[role] = Bounds {
                min_replicas: 1,
                max_replicas: 100,
            };
            snapshot.roles[role] = RoleState {
                gpus_per_replica: gpus,
                ..testing::serving(count)
            };
        }
        snapshot.paused = crate::snapshot::Paused::default();
        snapshot
    })
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Prefill), Just(Role::Decode)]
}

/// `snapshot` with metrics that all are known.
fn lit(mut snapshot: Snapshot) -> Snapshot {
    let roles = currents(&snapshot);
    snapshot.signals = testing::snapshot(roles.prefill, roles.decode, LOAD).signals;
    snapshot
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a u32"
)]
fn fewer(current: u32, share: f64) -> u32 {
    (f64::from(current) * share) as u32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    #[test]
    fn a_role_alone_at_zero(snapshot in plain(), role in any_role(), other in 1u32..90) {
        let mut to = PerRole { prefill: other, decode: other };
        to[role] = 0;
        let found = forged(&snapshot, to);
        prop_assert!(found.contains(&Finding::NoReplicas { role }), "{found:?}");
        prop_assert!(forged(&snapshot, PerRole::default()).len() >= 2);
    }

    #[test]
    fn replicas_outside_their_bounds(snapshot in plain(), role in any_role(), beyond in 1u32..50, up in any::<bool>()) {
        let mut snapshot = snapshot;
        let current = snapshot.roles[role].current;
        let mut to = currents(&snapshot);
        let bounds = &mut snapshot.policy.bounds[role];
        if up {
            to[role] = bounds.max_replicas.max(current) + beyond;
        } else {
            bounds.min_replicas = current;
            to[role] = current.saturating_sub(beyond);
        }
        let found = forged(&snapshot, to);
        let out = |finding: &Finding| matches!(finding, Finding::OutOfBounds { role: of, .. } if *of == role);
        prop_assert!(found.iter().any(out), "{found:?}");
    }

    #[test]
    fn a_direction_that_is_paused(snapshot in plain(), role in any_role(), to in 1u32..100) {
        let mut snapshot = snapshot;
        let current = snapshot.roles[role].current;
        prop_assume!(to != current);
        snapshot.paused.scale_up = to > current;
        snapshot.paused.scale_down = to < current;
        let mut pair = currents(&snapshot);
        pair[role] = to;
        let found = forged(&snapshot, pair);
        prop_assert!(found.contains(&Finding::ChangedWhilePaused { role }), "{found:?}");
    }

    #[test]
    fn growth_beyond_the_budget(
        snapshot in plain(), role in any_role(), more in 1u32..40, over in 1u32..9, shrink in 0.0f64..1.0,
    ) {
        let mut snapshot = snapshot;
        snapshot.roles[role].gpus_per_replica = over;
        let held: u32 = snapshot.roles.iter().map(|(_, s)| s.current * s.gpus_per_replica).sum();
        // The budget has room for less than is added; what the other gives back is no room yet.
        snapshot.policy.budget_gpus = Some(held + over * more - 1);
        let mut to = currents(&snapshot);
        to[role] += more;
        let other = role.other();
        to[other] = fewer(to[other], shrink);
        let found = forged(&snapshot, to);
        prop_assert!(found.iter().any(|f| matches!(f, Finding::OverBudget { .. })), "{found:?}");
    }

    #[test]
    fn lowering_without_metrics(snapshot in plain(), role in any_role(), share in 0.0f64..1.0, all_dark in any::<bool>()) {
        let mut snapshot = lit(snapshot);
        match role {
            _ if all_dark => snapshot.signals = Signals::default(),
            Role::Prefill => snapshot.signals.waiting_requests.prefill = Reading::default(),
            Role::Decode => snapshot.signals.coverage.decode.scraped -= 1,
        }
        let mut to = currents(&snapshot);
        to[role] = fewer(to[role], share);
        let found = forged(&snapshot, to);
        prop_assert!(found.contains(&Finding::LoweredBlindly { role }), "{found:?}");
    }

    #[test]
    fn lowering_further_than_a_short_budget_takes_without_metrics(
        snapshot in plain(), prefill in 2u32..50, decode in 2u32..50, gpus in 1u32..9, over in 1u32..9,
        to in (1u32..50, 1u32..50),
    ) {
        let mut snapshot = snapshot;
        snapshot.signals = Signals::default();
        for (role, count) in [(Role::Prefill, prefill), (Role::Decode, decode)] {
            snapshot.roles[role] = RoleState { gpus_per_replica: gpus, ..testing::serving(count) };
        }
        let held = (prefill + decode) * gpus;
        let budget = held.saturating_sub(over);
        snapshot.policy.budget_gpus = Some(budget);
        let to = PerRole { prefill: to.0.min(prefill), decode: to.1.min(decode) };
        // Enough would be left for one more of each.
        prop_assume!(to.prefill < prefill || to.decode < decode);
        prop_assume!((to.prefill + to.decode + 1) * gpus <= budget);
        let found = forged(&snapshot, to);
        let blind = |f: &Finding| matches!(f, Finding::LoweredBlindly { .. });
        prop_assert!(found.iter().any(blind), "{found:?}");
    }

    #[test]
    fn the_users_own_limit_in_one_step(snapshot in plain(), count in 20u32..90, maximum in any::<bool>(), share in 0.0f64..0.85) {
        let mut snapshot = lit(snapshot);
        snapshot.signals = Signals::default();
        snapshot.policy.behavior.scale_down.policies.clear();
        snapshot.roles.decode = testing::serving(count);
        let to = fewer(count, share).max(1);
        if maximum {
            snapshot.policy.bounds.decode.max_replicas = to;
        } else {
            let other = snapshot.roles.prefill.current * snapshot.roles.prefill.gpus_per_replica;
            snapshot.policy.budget_gpus = Some(other + to * 4);
        }
        let mut pair = currents(&snapshot);
        pair.decode = to;
        let found = forged(&snapshot, pair);
        let fast = |f: &Finding| matches!(f, Finding::TooFast { role: Role::Decode, .. });
        prop_assert!(found.iter().any(fast), "{found:?}");
    }

    #[test]
    fn decode_without_its_supplier(snapshot in plain(), share in 0.0f64..1.0, down in any::<bool>()) {
        let mut snapshot = lit(snapshot);
        if down {
            let prefill = &mut snapshot.roles.prefill;
            (prefill.ready, prefill.starting) = (0, prefill.current);
        } else {
            snapshot.signals.prefill_completion_rate_rps = Reading::Unknown(crate::Gap::Stale);
        }
        let mut to = currents(&snapshot);
        to.decode = fewer(to.decode, share);
        let found = forged(&snapshot, to);
        prop_assert!(found.contains(&Finding::LoweredWithoutOther { role: Role::Decode }), "{found:?}");
    }

    #[test]
    fn prefill_while_no_decode_worker_serves(snapshot in plain(), share in 0.0f64..1.0) {
        let mut snapshot = lit(snapshot);
        let decode = &mut snapshot.roles.decode;
        (decode.ready, decode.starting) = (0, decode.current);
        let mut to = currents(&snapshot);
        to.prefill = fewer(to.prefill, share);
        let found = forged(&snapshot, to);
        prop_assert!(found.contains(&Finding::LoweredWithoutOther { role: Role::Prefill }), "{found:?}");
    }

    #[test]
    fn replicas_that_served(
        snapshot in plain(), role in any_role(), cause in 0usize..3, share in 0.0f64..1.0, rolling in any::<bool>(),
    ) {
        let healthy = lit(snapshot);
        let mut snapshot = healthy.clone();
        let state = &mut snapshot.roles[role];
        let causes = [StuckCause::CrashLoop, StuckCause::Unschedulable, StuckCause::QuotaExceeded];
        (state.ready, state.starting) = (0, state.current);
        state.stuck = Some((state.current, causes[cause]));
        state.rolling_out = rolling;
        let first = plan(&healthy, &Memory::default(), start());
        let now = start().plus(Duration::from_secs(15));
        let facts = Facts::of(&first.memory, &snapshot, now);
        let mut decision = plan(&snapshot, &first.memory, now);
        let mut to = currents(&snapshot);
        to[role] = fewer(to[role], share);
        (decision.plan.replicas, decision.report.to) = (to, to);
        let found = audit_after(&facts, &snapshot, &decision);
        prop_assert!(found.contains(&Finding::LoweredBlindly { role }), "{found:?}");
    }

    #[test]
    fn a_change_beyond_the_policies(snapshot in plain(), role in any_role(), to in 1u32..100, pods in 1u32..20, percent in 1u32..50) {
        let mut snapshot = lit(snapshot);
        let minute = |change| RatePolicy { change, period: Duration::from_mins(1) };
        let current = snapshot.roles[role].current;
        let policies = vec![minute(ChangeLimit::Replicas(pods)), minute(ChangeLimit::Percent(percent))];
        for rules in [&mut snapshot.policy.behavior.scale_up, &mut snapshot.policy.behavior.scale_down] {
            rules.select = SelectPolicy::Max;
            rules.policies.clone_from(&policies);
        }
        let change = pods.max((current * percent).div_ceil(100));
        prop_assume!(to.abs_diff(current) > change);
        let mut pair = currents(&snapshot);
        pair[role] = to;
        let found = forged(&snapshot, pair);
        let fast = |f: &Finding| matches!(f, Finding::TooFast { role: of, .. } if *of == role);
        prop_assert!(found.iter().any(fast), "{found:?}");
    }

    #[test]
    fn lowering_before_those_that_went_are_gone(
        snapshot in plain(), role in any_role(), count in 2u32..50, share in 0.0f64..1.0,
    ) {
        let mut before = snapshot;
        before.roles[role] = testing::serving(count + 2);
        before.policy.behavior.drain_timeout = Some(Duration::from_mins(10));
        let mut after = before.clone();
        let mut to = currents(&after);
        to[role] = fewer(count, share);
        let first = plan(&before, &Memory::default(), start());
        let now = start().plus(Duration::from_secs(15));
        for (terminating, found) in [(2, true), (0, false)] {
            after.roles[role] = RoleState { terminating, ..testing::serving(count) };
            let mut decision = plan(&after, &first.memory, now);
            (decision.plan.replicas, decision.report.to) = (to, to);
            let facts = Facts::of(&first.memory, &after, now);
            let findings = audit_after(&facts, &after, &decision);
            prop_assert_eq!(findings.contains(&Finding::LoweredWhileDraining { role }), found);
        }
    }

    #[test]
    fn a_change_against_a_window(snapshot in plain(), role in any_role(), to in 1u32..100) {
        let mut snapshot = lit(snapshot);
        let current = snapshot.roles[role].current;
        prop_assume!(to != current);
        for rules in [&mut snapshot.policy.behavior.scale_up, &mut snapshot.policy.behavior.scale_down] {
            rules.stabilization_window = Duration::from_mins(10);
        }
        // The first decision held the replicas as a need of both windows.
        let mut pair = currents(&snapshot);
        pair[role] = to;
        let found = forged(&snapshot, pair);
        let left = |f: &Finding| matches!(f, Finding::OutsideWindow { role: of, .. } if *of == role);
        prop_assert!(found.iter().any(left), "{found:?}");
    }

    #[test]
    fn bounds_that_no_schedule_states(snapshot in plain(), role in any_role(), least in 1u32..90, more in 0u32..90) {
        let mut snapshot = snapshot;
        let bound = |min_replicas, max_replicas| ScheduledBounds { min_replicas, max_replicas };
        let never_now = Schedule {
            // 2023-11-14 is a Tuesday.
            cron: "0 3 * * 6".parse().unwrap(),
            time_zone: "UTC".parse().unwrap(),
            duration: Duration::from_mins(30),
            replicas: PerRole { prefill: bound(Some(7), Some(77)), decode: bound(Some(5), Some(55)) },
        };
        snapshot.policy.schedules = vec![never_now];
        let stated = Bounds { min_replicas: least, max_replicas: least + more };
        prop_assume!(stated != snapshot.policy.bounds[role]);
        let (facts, mut decision) = decided(&snapshot);
        decision.report.bounds[role] = stated;
        let found = audit_after(&facts, &snapshot, &decision);
        prop_assert!(found.contains(&Finding::StrangeBounds { role }), "{found:?}");
        // Without a moment, what no schedule ever states.
        let ever = [1, 7, 5].contains(&least) && [100, 77, 55, least].contains(&(least + more));
        let found = audit(&snapshot, &decision);
        prop_assert!(ever || found.contains(&Finding::StrangeBounds { role }), "{found:?}");
    }

    #[test]
    fn a_band_that_no_point_states(snapshot in any::snapshot(), prefill in 5u32..50) {
        let mut snapshot = snapshot;
        snapshot.policy.ratio = None;
        snapshot.policy.operating_points.get_or_insert_with(|| OperatingPoints {
            points: Vec::new(),
            tolerance_percent: 20,
            enforcement: Enforcement::Hard,
        });
        let (facts, mut decision) = decided(&snapshot);
        decision.report.ratio.policy = Some(hard(prefill, 1));
        let found = audit_after(&facts, &snapshot, &decision);
        prop_assert!(found.contains(&Finding::StrangeRatio), "{found:?}");
    }

    #[test]
    fn a_hard_band_that_is_left(snapshot in plain(), count in 1u32..50, to in (1u32..50, 1u32..50)) {
        let mut snapshot = snapshot;
        snapshot.policy.ratio = Some(hard(1, 1));
        for role in Role::ALL {
            snapshot.roles[role] = testing::serving(count);
        }
        prop_assume!(to.0 != to.1);
        let found = forged(&snapshot, PerRole { prefill: to.0, decode: to.1 });
        prop_assert!(found.iter().any(|f| matches!(f, Finding::LeavesHardBand { .. })), "{found:?}");
    }

    #[test]
    fn a_report_that_lies(snapshot in any::snapshot(), role in any_role(), off in 1u32..9, from in any::<bool>()) {
        let (facts, mut decision) = decided(&snapshot);
        let report = &mut decision.report;
        let number = if from { &mut report.from[role] } else { &mut report.to[role] };
        *number += off;
        let found = audit_after(&facts, &snapshot, &decision);
        let lies = |f: &Finding| matches!(f, Finding::Misreported { role: of, .. } if *of == role);
        prop_assert!(found.iter().any(lies), "{found:?}");
    }
}

#[test]
fn twenty_to_one_for_one_gpu_too_many_is_found() {
    let mut snapshot = testing::snapshot(20, 20, LOAD);
    snapshot.signals = Signals::default();
    snapshot.policy.budget_gpus = Some(159);
    let to = PerRole {
        prefill: 1,
        decode: 1,
    };
    let found = forged(&snapshot, to);
    for role in Role::ALL {
        assert!(
            found.contains(&Finding::LoweredBlindly { role }),
            "{found:?}"
        );
    }
    let (_, mut decision) = decided(&snapshot);
    (decision.plan.replicas, decision.report.to) = (to, to);
    assert_eq!(
        audit(&snapshot, &decision).len(),
        2,
        "from the snapshot alone"
    );
}
