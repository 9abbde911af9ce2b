//! Where we claim HPA's semantics, its own facts: tables typed from the Kubernetes documentation
//! ("Configurable scaling behavior", the autoscaling/v2 API, KEP-853) and from the numbers that its
//! unit tests expect (kubernetes/kubernetes, `pkg/controller/podautoscaler/horizontal_test.go`).
//!
//! A case is a row of numbers; the code that they run against shares nothing with HPA's. Its rule
//! from pass to pass is written again beside it, and any behavior over any history has to give the
//! same. Differences on purpose have a test of their own, so that none hides in a row.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::super::*;
use crate::{
    behavior::{Behavior, ChangeLimit, RatePolicy, ScalingRules, SelectPolicy},
    need::Need,
    reason::Reason,
    replicas::{ReplicaChange, ReplicaChanges},
    role::Role,
    testing,
    time::Timestamp,
};

/// Seconds into the tests, far enough from zero for history.
const NOW: i64 = 100_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// Policies as (pods, period) and (percent, period); a value of zero leaves one out.
fn rules(pods: (u32, u64), percent: (u32, u64), select: SelectPolicy) -> ScalingRules {
    let policy = |change, seconds| RatePolicy {
        change,
        period: Duration::from_secs(seconds),
    };
    let mut policies = Vec::new();
    if pods.0 > 0 {
        policies.push(policy(ChangeLimit::Replicas(pods.0), pods.1));
    }
    if percent.0 > 0 {
        policies.push(policy(ChangeLimit::Percent(percent.0), percent.1));
    }
    ScalingRules {
        select,
        policies,
        ..testing::rules(0, 0)
    }
}

fn both(rules: ScalingRules) -> Behavior {
    Behavior {
        scale_up: rules.clone(),
        scale_down: rules,
        drain_timeout: None,
    }
}

/// Changes spread evenly over the last `seconds`, each in the middle of its share.
fn spread(sizes: &[u32], seconds: i64, up: bool) -> Vec<ReplicaChange> {
    let count = i64::try_from(sizes.len()).unwrap();
    let shares = (1i64..).zip(sizes);
    let changes = shares.map(|(index, &size)| {
        let age = seconds - seconds * index / count + seconds / count / 2;
        let (from, to) = if up { (0, size) } else { (size, 0) };
        ReplicaChange {
            at: at(NOW - age),
            from,
            to,
        }
    });
    changes.collect()
}

fn limited(current: u32, wanted: u32, rules: ScalingRules, changes: &[ReplicaChange]) -> u32 {
    limit_rate(
        Role::Decode,
        wanted,
        current,
        &both(rules),
        changes,
        at(NOW),
    )
    .0
}

use SelectPolicy::{Disabled, Max, Min};

#[rstest]
#[case::pods_larger(10, 500, (100, 60), (100, 60), Max, 110)]
#[case::percent_larger(10, 500, (2, 60), (100, 60), Max, 20)]
#[case::default_up_doubles(10, 50, (4, 15), (100, 15), Max, 20)]
#[case::default_up_adds_four_to_few(3, 50, (4, 15), (100, 15), Max, 7)]
#[case::large_policy_reaches_the_need(10, 50, (100, 60), (0, 0), Max, 50)]
#[case::pods_limit(10, 50, (30, 60), (0, 0), Max, 40)]
#[case::percent_limit(10, 50, (0, 0), (200, 60), Max, 30)]
#[case::one_percent_of_three_is_one(3, 1_000, (0, 0), (1, 60), Max, 4)]
#[case::seven_fold(3, 1_000, (0, 0), (700, 60), Max, 24)]
#[case::least_change_up(1, 1_000, (2, 60), (50, 60), Min, 2)]
#[case::disabled_up(10, 50, (30, 60), (0, 0), Disabled, 10)]
#[case::disabled_without_policies(10, 50, (0, 0), (0, 0), Disabled, 10)]
#[case::pods_limit_down(10, 2, (5, 60), (0, 0), Max, 5)]
#[case::larger_of_two_down(100, 2, (20, 60), (1, 60), Max, 80)]
#[case::two_pods_beat_one_percent(100, 2, (2, 60), (1, 60), Max, 98)]
#[case::twenty_of_a_thousand(1_000, 3, (20, 60), (0, 0), Max, 980)]
#[case::half_reaches_the_need(10, 5, (0, 0), (50, 60), Max, 5)]
#[case::least_change_down(5, 1, (2, 60), (50, 60), Min, 3)]
#[case::documented_80_to_10(80, 10, (4, 60), (10, 60), Max, 72)]
#[case::documented_next_72(72, 10, (4, 60), (10, 60), Max, 64)]
#[case::documented_below_40(40, 10, (4, 60), (10, 60), Max, 36)]
#[case::fraction_down_is_dropped(5, 1, (0, 0), (50, 60), Max, 2)]
#[case::documented_default_down_all(10, 1, (0, 0), (100, 15), Max, 1)]
#[case::disabled_down(10, 2, (5, 60), (0, 0), Disabled, 10)]
fn policies_allow_what_hpa_allows(
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] pods: (u32, u64),
    #[case] percent: (u32, u64),
    #[case] select: SelectPolicy,
    #[case] want: u32,
) {
    assert_eq!(
        limited(current, wanted, rules(pods, percent, select), &[]),
        want
    );
}

#[rstest]
#[case::spent(100, 500, &[1, 5, 9], &[], (5, 120), (0, 0), 100)]
#[case::pods_from_the_start(100, 500, &[1, 5, 9], &[], (150, 120), (0, 0), 235)]
#[case::percent_from_the_start(100, 500, &[1, 5, 9], &[], (0, 0), (200, 120), 255)]
#[case::up_and_down_within_the_period(6, 24, &[4], &[2], (0, 0), (300, 300), 16)]
#[case::down_spent(100, 2, &[], &[1, 5, 9], (5, 120), (0, 0), 100)]
#[case::down_percent_from_the_start(100, 0, &[], &[2, 4, 6], (0, 0), (50, 120), 56)]
#[case::down_with_ups(10, 1, &[2], &[4], (0, 0), (50, 180), 6)]
#[case::down_never_raises(100, 0, &[], &[10, 10, 10], (0, 0), (10, 120), 100)]
#[case::more_than_all(10, 5, &[], &[10, 10, 10], (0, 0), (1_000, 120), 5)]
#[case::half_of_the_history_is_older(100, 200, &[8, 12, 9, 11], &[], (30, 60), (0, 0), 110)]
#[case::each_policy_its_own_period(100, 5_000, &[8, 12, 9, 11], &[], (1_000, 120), (100, 60), 1_060)]
fn changes_within_the_period_count_as_in_hpa(
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] ups: &[u32],
    #[case] downs: &[u32],
    #[case] pods: (u32, u64),
    #[case] percent: (u32, u64),
    #[case] want: u32,
) {
    let mut changes = spread(ups, 120, true);
    changes.extend(spread(downs, 120, false));
    assert_eq!(
        limited(current, wanted, rules(pods, percent, Max), &changes),
        want
    );
}

/// Past needs are given as (need, seconds ago), windows in seconds.
#[rstest]
#[case::nothing_known_down(&[], 100, 5, 0, 0, 5)]
#[case::largest_on_the_way_down(&[(4, 120), (5, 60)], 100, 3, 0, 180, 5)]
#[case::least_on_the_way_up(&[(4, 120), (5, 60)], 1, 7, 300, 0, 4)]
#[case::lower_past_needs_do_not_hold(&[(1, 120), (2, 60)], 100, 3, 300, 0, 3)]
#[case::higher_past_needs_do_not_hold(&[(4, 120), (5, 60)], 1, 3, 0, 300, 3)]
#[case::old_needs_are_gone_down(&[(10, 600), (9, 540)], 100, 3, 0, 300, 3)]
#[case::old_needs_are_gone_up(&[(10, 600), (9, 540)], 1, 100, 300, 0, 100)]
#[case::old_and_recent(&[(10, 600), (9, 540), (5, 120), (4, 60)], 100, 3, 0, 180, 5)]
#[case::recent_up(&[(10, 6_000), (9, 180), (5, 120), (6, 60)], 1, 100, 300, 0, 5)]
#[case::no_rise_while_the_need_falls(&[(2, 6_000), (3, 180)], 2, 1, 300, 300, 2)]
#[case::no_fall_while_the_need_rises(&[(2, 6_000), (1, 180)], 2, 3, 300, 300, 2)]
#[case::a_need_as_old_as_the_window_is_out(&[(9, 300)], 9, 3, 0, 300, 3)]
#[case::a_second_younger_is_in(&[(9, 299)], 9, 3, 0, 300, 9)]
fn windows_hold_what_hpa_holds(
    #[case] past: &[(u32, i64)],
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] up_seconds: u64,
    #[case] down_seconds: u64,
    #[case] want: u32,
) {
    let behavior = Behavior {
        scale_up: testing::rules(up_seconds, 0),
        scale_down: testing::rules(down_seconds, 0),
        drain_timeout: None,
    };
    let mut windows = StabilizationWindows::default();
    for &(need, ago) in past {
        stabilize(
            Role::Prefill,
            need,
            current,
            &behavior,
            &mut windows,
            at(NOW - ago),
        );
    }
    let (got, _) = stabilize(
        Role::Prefill,
        wanted,
        current,
        &behavior,
        &mut windows,
        at(NOW),
    );
    assert_eq!(got, want);
}

/// HPA's tolerance is a share of the ratio of metric and target; a metric of one per replica makes
/// the ratio the need over the replicas.
#[rstest]
#[case::default_10_percent_up(10.9, 10, 10, 10, 10)]
#[case::just_outside_up(11.1, 10, 10, 10, 12)]
#[case::exactly_at_the_edge_is_inside(11.0, 10, 10, 10, 10)]
#[case::own_tolerance_up(10.4, 10, 5, 10, 10)]
#[case::outside_own_tolerance_up(10.6, 10, 5, 10, 11)]
#[case::zero_tolerance(10.01, 10, 0, 10, 11)]
#[case::inside_down(9.1, 10, 10, 10, 10)]
fn tolerance_ignores_what_hpa_ignores(
    #[case] exact: f64,
    #[case] current: u32,
    #[case] up: u32,
    #[case] down: u32,
    #[case] want: u32,
) {
    let behavior = Behavior {
        scale_up: testing::rules(0, up),
        scale_down: testing::rules(0, down),
        drain_timeout: None,
    };
    let need = Need::of(exact, Reason::DecodeWork, String::new());
    assert_eq!(tolerate(&need, current, &behavior).0, want);
}

#[test]
fn unlike_hpa_half_of_the_down_tolerance_stays_as_slack() {
    let behavior = Behavior {
        scale_up: testing::rules(0, 0),
        scale_down: testing::rules(0, 10),
        drain_timeout: None,
    };
    let need = Need::of(8.0, Reason::DecodeWork, String::new());
    // HPA would give 8, which the next request more raises to 9 again.
    assert_eq!(tolerate(&need, 10, &behavior).0, 9);
}

#[test]
fn unlike_hpa_the_percentages_are_exact() {
    // In floating point 100 * 1.1 is a little over 110 and rounds up to 111, and 100 * (1 - 0.29) a
    // little under 71.
    let percent = |value| rules((0, 0), (value, 60), Max);
    assert_eq!(limited(100, 500, percent(10), &[]), 110);
    assert_eq!(limited(100, 1, percent(29), &[]), 71);
}

#[test]
fn unlike_hpa_a_change_by_a_person_uses_up_the_period() {
    let mut changes = ReplicaChanges::default();
    changes.observe(4, at(NOW - 30));
    // Not our own decision: `kubectl scale` from 4 to 8.
    changes.observe(8, at(NOW - 15));
    let four_a_minute = rules((4, 60), (0, 0), Max);
    assert_eq!(limited(8, 20, four_a_minute, changes.as_slice()), 8);
}

#[test]
fn unlike_hpa_no_policies_mean_no_limit() {
    // Where HPA fills in its defaults (up: double or four pods in 15 s), a direction has no limit.
    assert_eq!(limited(3, 1_000, rules((0, 0), (0, 0), Max), &[]), 1_000);
    assert_eq!(limited(1_000, 3, rules((0, 0), (0, 0), Min), &[]), 3);
}

proptest! {
    #[test]
    fn the_two_windows_never_contradict_each_other(
        needs in prop::collection::vec((1i64..60, 1u32..50), 1..60), up in 0u64..400, down in 0u64..400,
        current in 1u32..50,
    ) {
        let behavior =
            Behavior { scale_up: testing::rules(up, 0), scale_down: testing::rules(down, 0), drain_timeout: None };
        let mut windows = StabilizationWindows::default();
        let (mut now, mut seen) = (0, Vec::new());
        for (step, need) in needs {
            now += step;
            seen.push((now, need));
            let within = |span: u64| {
                let span = i64::try_from(span).unwrap();
                seen.iter().filter(move |(then, _)| now - then < span).map(|s| s.1)
            };
            let least = within(up).min().unwrap_or(need).min(need);
            let largest = within(down).max().unwrap_or(need).max(need);
            prop_assert!(least <= largest);
            let (got, _) = stabilize(Role::Decode, need, current, &behavior, &mut windows, at(now));
            // Rising first or falling first is the same, because the least is below the largest.
            prop_assert_eq!(got, current.max(least).min(largest));
            prop_assert_eq!(got, current.min(largest).max(least));
        }
    }

    #[test]
    fn policies_never_turn_a_change_around(
        current in 0u32..u32::MAX, wanted in 0u32..u32::MAX, pods in 1u32..u32::MAX, percent in 1u32..u32::MAX,
        min in prop::bool::ANY, changes in prop::collection::vec((0u32..u32::MAX, 0u32..u32::MAX), 0..32),
    ) {
        let changes: Vec<ReplicaChange> =
            changes.into_iter().map(|(from, to)| ReplicaChange { at: at(NOW), from, to }).collect();
        let select = if min { Min } else { Max };
        let got = limited(current, wanted, rules((pods, 60), (percent, 60), select), &changes);
        prop_assert!(got >= current.min(wanted) && got <= current.max(wanted));
    }
}

/// HPA's own rule from one pass to the next, written after `horizontal.go` of Kubernetes 1.35 with
/// plain lists and nothing forgotten (`stabilizeRecommendationWithBehaviors`,
/// `convertDesiredReplicasWithBehaviorRate`, `recordInitialRecommendation`, `storeScaleEvent`).
/// Percentages are exact, as ours.
#[derive(Default)]
struct Hpa {
    recommendations: Vec<(i64, i64)>,
    /// Seconds and the replicas added; those taken away are below zero.
    events: Vec<(i64, i64)>,
}

impl Hpa {
    fn pass(&mut self, now: i64, current: i64, wanted: i64, behavior: &Behavior) -> i64 {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
        let seconds =
            |rules: &ScalingRules| i64::try_from(rules.stabilization_window.as_secs()).unwrap();
        let (up, down) = (seconds(&behavior.scale_up), seconds(&behavior.scale_down));
        let (mut least, mut largest) = (wanted, wanted);
        for &(at, recommended) in &self.recommendations {
            if at > now - up {
                least = least.min(recommended);
            }
            if at > now - down {
                largest = largest.max(recommended);
            }
        }
        self.recommendations.push((now, wanted));
        let mut desired = current;
        if desired < least {
            desired = least;
        }
        if desired > largest {
            desired = largest;
        }
        let limited = if desired > current {
            desired.min(
                self.limit(now, current, &behavior.scale_up, true)
                    .max(current),
            )
        } else {
            desired.max(
                self.limit(now, current, &behavior.scale_down, false)
                    .min(current),
            )
        };
        if limited != current {
            self.events.push((now, limited - current));
        }
        limited
    }

    fn limit(&self, now: i64, current: i64, rules: &ScalingRules, up: bool) -> i64 {
        if rules.select == Disabled {
            return current;
        }
        let proposed = rules.policies.iter().map(|policy| {
            let cutoff = now - i64::try_from(policy.period.as_secs()).unwrap();
            let recent = self.events.iter().filter(|(at, _)| *at > cutoff);
            let start = current - recent.map(|(_, added)| added).sum::<i64>();
            match (policy.change, up) {
                (ChangeLimit::Replicas(count), true) => start + i64::from(count),
                (ChangeLimit::Replicas(count), false) => start - i64::from(count),
                (ChangeLimit::Percent(percent), true) => {
                    // Rounded up, and below zero towards zero as `math.Ceil` does.
                    -(-(start * (100 + i64::from(percent)))).div_euclid(100)
                }
                (ChangeLimit::Percent(percent), false) => {
                    start * (100 - i64::from(percent.min(100))) / 100
                }
            }
        });
        let none = if up { i64::MAX } else { i64::MIN };
        match (rules.select == Min, up) {
            (true, true) | (false, false) => proposed.min(),
            _ => proposed.max(),
        }
        .unwrap_or(none)
    }
}

/// Our guards from one pass to the next, in the order of a decision.
#[derive(Default)]
struct Ours {
    windows: StabilizationWindows,
    changes: ReplicaChanges,
}

impl Ours {
    fn pass(&mut self, now: i64, current: u32, wanted: u32, behavior: &Behavior) -> u32 {
        let now = at(now);
        self.changes.observe(current, now);
        self.windows.watch(current, behavior, Gap::None, now);
        let (lasting, _) = stabilize(
            Role::Decode,
            wanted,
            current,
            behavior,
            &mut self.windows,
            now,
        );
        let changes = self.changes.as_slice();
        let (to, _) = limit_rate(Role::Decode, lasting, current, behavior, changes, now);
        self.changes.request(to, now);
        to
    }
}

fn any_rules() -> impl Strategy<Value = ScalingRules> {
    let change = prop_oneof![
        (1u32..40).prop_map(ChangeLimit::Replicas),
        (1u32..300).prop_map(ChangeLimit::Percent)
    ];
    let period = prop_oneof![
        1u64..=120,
        120u64..=1_800,
        Just(1_800u64),
        Just(15),
        Just(60)
    ];
    let policy = (change, period).prop_map(|(change, seconds)| RatePolicy {
        change,
        period: Duration::from_secs(seconds),
    });
    let window = prop_oneof![
        Just(0u64),
        1u64..=60,
        60u64..=900,
        Just(300u64),
        Just(3_600u64)
    ];
    let select = prop_oneof![4 => Just(Max), 2 => Just(Min), 1 => Just(Disabled)];
    (window, select, prop::collection::vec(policy, 1..4)).prop_map(|(window, select, policies)| {
        ScalingRules {
            stabilization_window: Duration::from_secs(window),
            tolerance_ppm: 0,
            select,
            policies,
        }
    })
}

/// Recommendations of a few hours, in passes of 15 s: any, ramps, and steps.
fn any_needs() -> impl Strategy<Value = Vec<u32>> {
    let part = (1u32..400, 0u32..400, 1usize..90, 0u8..3);
    prop::collection::vec(part, 1..8).prop_map(|parts| {
        let of_part = |(from, to, passes, shape): (u32, u32, usize, u8)| {
            (0..passes).map(move |pass| match shape {
                0 => from,
                1 => (i64::from(from)
                    + (i64::from(to) - i64::from(from)) * i64::try_from(pass).unwrap()
                        / i64::try_from(passes).unwrap())
                .try_into()
                .unwrap(),
                _ if pass % 2 == 0 => from,
                _ => to,
            })
        };
        parts
            .into_iter()
            .flat_map(of_part)
            .map(|need| need.max(1))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_behavior_over_any_history_gives_what_hpa_gives(
        up in any_rules(), down in any_rules(), needs in any_needs(), start in 1u32..200,
    ) {
        let behavior = Behavior { scale_up: up, scale_down: down, drain_timeout: None };
        let (mut hpa, mut ours) = (Hpa::default(), Ours::default());
        let mut current = start;
        for (pass, wanted) in (0i64..).zip(needs) {
            let now = NOW + pass * 15;
            let want = hpa.pass(now, current.into(), wanted.into(), &behavior);
            let got = ours.pass(now, current, wanted, &behavior);
            prop_assert_eq!(i64::from(got), want, "pass {} from {} to {}", pass, current, wanted);
            current = got;
        }
    }
}

/// Replicas after each pass of 15 s, with a need that nothing reaches.
fn grown(start: u32, passes: u32, rules: ScalingRules) -> Vec<u32> {
    let behavior = both(rules);
    let (mut ours, mut current) = (Ours::default(), start);
    let grow = |pass: u32| {
        current = ours.pass(NOW + i64::from(pass) * 15, current, 100_000, &behavior);
        current
    };
    (0..passes).map(grow).collect()
}

#[test]
fn four_pods_a_minute_are_four_in_every_minute() {
    let path = grown(4, 9, rules((4, 60), (0, 0), Max));
    assert_eq!(path, [8, 8, 8, 8, 12, 12, 12, 12, 16]);
}

#[test]
fn the_default_of_hpa_doubles_in_every_pass() {
    let path = grown(4, 5, rules((4, 15), (100, 15), Max));
    assert_eq!(path, [8, 16, 32, 64, 128]);
}

#[test]
fn a_period_of_half_an_hour_forgets_no_change_in_it() {
    // One more in every pass uses a doubling up, and no pass of the half hour gives more.
    let one_a_pass = RatePolicy {
        change: ChangeLimit::Replicas(1),
        period: Duration::from_secs(15),
    };
    let mut both_policies = rules((0, 0), (100, 1_800), Min);
    both_policies.policies.push(one_a_pass);
    let path = grown(40, 120, both_policies);
    assert_eq!(path.iter().max(), Some(&80));
}
