//! Tolerance, windows, rate policies and releases, from tables typed from the documentation of
//! `HorizontalPodAutoscaler` where semantics are its own.

mod hpa;

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::{
    need::Need,
    policy::{
        Behavior, ChangeLimit, Enforcement, RatePolicy, RatioPolicy, ScalingRules, SelectPolicy,
    },
    ratio::{Ratio, RatioBand},
    reason::Reason,
    replicas::ReplicaChange,
    role::{PerRole, Role},
    testing,
    time::Timestamp,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn policy(change: ChangeLimit, period_seconds: u64) -> RatePolicy {
    RatePolicy {
        change,
        period: Duration::from_secs(period_seconds),
    }
}

/// The example policies of the Kubernetes documentation: 4 replicas or 10 % a minute.
fn documented(select: SelectPolicy) -> Behavior {
    let policies = vec![
        policy(ChangeLimit::Replicas(4), 60),
        policy(ChangeLimit::Percent(10), 60),
    ];
    let rules = ScalingRules {
        select,
        policies,
        ..testing::rules(0, 0)
    };
    Behavior {
        scale_up: rules.clone(),
        scale_down: rules,
        drain_timeout: None,
    }
}

#[rstest]
// 80 replicas, target 10: 10 % is 8, more than 4, so 72; below 40, four replicas are the larger
// step.
#[case::percent_is_larger(SelectPolicy::Max, 80, 10, 72)]
#[case::pods_are_larger(SelectPolicy::Max, 30, 10, 26)]
#[case::least_change(SelectPolicy::Min, 80, 10, 76)]
#[case::disabled(SelectPolicy::Disabled, 80, 10, 80)]
#[case::close_target(SelectPolicy::Max, 80, 79, 79)]
fn scale_down_policies_as_documented_for_hpa(
    #[case] select: SelectPolicy,
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] want: u32,
) {
    let (got, step) = limit_rate(
        Role::Decode,
        wanted,
        current,
        &documented(select),
        &[],
        at(0),
    );
    assert_eq!(got, want);
    assert_eq!(step.is_some(), want != wanted);
}

#[rstest]
#[case::percent_rounds_up(vec![policy(ChangeLimit::Percent(10), 60)], 4, 5)]
#[case::doubling(vec![policy(ChangeLimit::Percent(100), 15)], 3, 6)]
#[case::four_a_period(vec![policy(ChangeLimit::Replicas(4), 15)], 3, 7)]
#[case::no_policy_no_limit(vec![], 3, 30)]
fn scale_up_policies_limit_the_step(
    #[case] policies: Vec<RatePolicy>,
    #[case] current: u32,
    #[case] want: u32,
) {
    let mut behavior = documented(SelectPolicy::Max);
    behavior.scale_up.policies = policies;
    assert_eq!(
        limit_rate(Role::Prefill, 30, current, &behavior, &[], at(0)).0,
        want
    );
}

#[test]
fn changes_within_the_period_count_against_the_policy() {
    let mut behavior = documented(SelectPolicy::Max);
    behavior.scale_up.policies = vec![policy(ChangeLimit::Replicas(4), 60)];
    let changes = [ReplicaChange {
        at: at(0),
        from: 2,
        to: 5,
    }];
    let limit = |now| limit_rate(Role::Prefill, 30, 5, &behavior, &changes, at(now)).0;
    assert_eq!(limit(30), 6, "three of four were used half a minute ago");
    assert_eq!(limit(60), 9, "the period has passed");
}

#[test]
fn the_largest_need_of_the_window_counts_on_the_way_down() {
    let behavior = testing::policy().behavior;
    let mut windows = StabilizationWindows::default();
    let mut step = |wanted, seconds| {
        stabilize(
            Role::Decode,
            wanted,
            8,
            &behavior,
            &mut windows,
            at(seconds),
        )
        .0
    };
    assert_eq!(step(8, 0), 8);
    assert_eq!(step(3, 15), 8);
    assert_eq!(step(5, 150), 8);
    assert_eq!(step(2, 299), 8, "the need of 8 is 299 s old");
    assert_eq!(step(2, 300), 5, "now the largest is 5");
}

#[rstest]
#[case::ten_percent_lower_holds(18.5, 20, 20)]
#[case::well_below_acts(16.1, 20, 17)]
#[case::a_tight_pool_keeps_one_in_reserve(15.9, 20, 17)]
#[case::one_less_would_be_too_tight(2.99, 4, 4)]
#[case::one_less_leaves_slack(2.8, 4, 3)]
#[case::any_more_acts_by_default(20.1, 20, 21)]
fn a_need_close_to_the_replicas_changes_nothing(
    #[case] exact: f64,
    #[case] current: u32,
    #[case] want: u32,
) {
    let need = Need::of(exact, Reason::DecodeWork, String::new());
    assert_eq!(
        tolerate(&need, current, &testing::policy().behavior).0,
        want
    );
}

#[test]
fn at_a_full_budget_a_role_grows_only_into_what_was_released() {
    let load = testing::Load {
        rate_rps: 1.0,
        prefill_seconds: 0.1,
        output_tokens: 10.0,
    };
    let mut snapshot = testing::snapshot(2, 4, load);
    let wanted = PerRole {
        prefill: 4,
        decode: 2,
    };
    let (granted, steps) = await_releases(wanted, &snapshot.roles, Some(24));
    assert_eq!(
        granted,
        PerRole {
            prefill: 2,
            decode: 2
        }
    );
    assert_eq!(
        steps.first().map(|step| step.reason),
        Some(Reason::BudgetWaitsForRelease)
    );

    snapshot.roles.decode = crate::RoleState {
        current: 2,
        ready: 2,
        terminating: 1,
        gpus_per_replica: 4,
        ..Default::default()
    };
    assert_eq!(
        await_releases(wanted, &snapshot.roles, Some(24)).0.prefill,
        3,
        "one decode pod is still leaving"
    );
}

#[test]
fn a_role_over_its_maximum_comes_down_even_through_pairs_outside_a_hard_band() {
    let load = testing::Load {
        rate_rps: 1.0,
        prefill_seconds: 0.1,
        output_tokens: 10.0,
    };
    let mut snapshot = testing::snapshot(10, 20, load);
    snapshot.policy.ratio = Some(RatioPolicy {
        band: RatioBand::around(Ratio::new(1, 2).unwrap(), 0),
        enforcement: Enforcement::Hard,
    });
    let pair = |prefill, decode| PerRole { prefill, decode };
    let keep = |snapshot: &crate::Snapshot, wanted| {
        let (current, policy) = (snapshot.roles.map(|state| state.current), &snapshot.policy);
        let limits = BeforeBand {
            bounds: policy.bounds,
            over_budget: false,
        };
        keep_hard_band(wanted, current, policy.ratio, limits).0
    };
    assert_eq!(
        keep(&snapshot, pair(9, 19)),
        pair(10, 20),
        "no pair on the way"
    );
    snapshot.policy.bounds.prefill.max_replicas = 5;
    assert_eq!(keep(&snapshot, pair(9, 19)), pair(9, 19));
    assert_eq!(
        keep(&snapshot, pair(9, 17)),
        pair(9, 18),
        "in the band where that moves it too"
    );
}
