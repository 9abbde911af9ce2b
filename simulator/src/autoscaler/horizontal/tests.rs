//! The cases of kubernetes/kubernetes `horizontal_test.go` that concern these rules, in our words.

use rstest::rstest;

use super::*;

const fn pods(count: u32) -> Policy {
    Policy {
        amount: Amount::Pods(count),
        period: MINUTE,
    }
}

const fn percent(count: u32) -> Policy {
    Policy {
        amount: Amount::Percent(count),
        period: MINUTE,
    }
}

/// An object that has recommended this before; at the time of the first it found nothing else.
fn with_past(behavior: Option<Behavior>, past: &[(Nanos, u32)]) -> Horizontal {
    Horizontal {
        recommended: past.iter().copied().collect(),
        ..Horizontal::new(behavior)
    }
}

/// From the published rule: desired = ceil(current * metric / target), unless within 10 %.
#[rstest]
#[case::documented_doubling(2.0, 1, 2)]
#[case::documented_halving(0.5, 4, 2)]
#[case::inside_the_tolerance_above(1.099, 10, 10)]
#[case::inside_the_tolerance_below(0.901, 10, 10)]
#[case::just_outside(1.11, 10, 12)]
#[case::rounds_up(0.61, 3, 2)]
#[case::nothing_at_all(0.0, 3, 0)]
fn desired_replicas_follow_the_ratio(#[case] ratio: f64, #[case] current: u32, #[case] want: u32) {
    assert_eq!(replicas_for(ratio, current, current), want);
}

/// `TestConvertDesiredReplicasWithRules`: no `behavior`, bounds, and twice the pods or four.
#[rstest]
#[case::within_range(5, 7, (3, 8), 7)]
#[case::below_the_minimum(3, 1, (2, 8), 2)]
#[case::zero_where_it_is_allowed(1, 0, (0, 10), 0)]
#[case::the_maximum_binds_first(20, 1_000, (1, 10), 10)]
#[case::twice_the_pods_bind_first(3, 1_000, (1, 2_000), 6)]
#[case::four_pods_however_few(1, 100, (1, 2_000), 4)]
fn without_behavior_replicas_at_most_double_or_reach_four(
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] (least, most): (u32, u32),
    #[case] want: u32,
) {
    let mut horizontal = with_past(None, &[(0, 0)]);
    let replicas = horizontal.decide(MINUTE, current, wanted, |replicas| {
        replicas.clamp(least, most)
    });
    assert_eq!(replicas, want);
}

/// `TestNormalizeDesiredReplicas`: the highest of five minutes, whatever it is compared with.
#[rstest]
#[case::a_higher_one_of_a_minute_ago(&[(8, 4), (9, 5)], 3, 5)]
#[case::lower_ones(&[(8, 1), (9, 2)], 3, 3)]
#[case::only_old_ones(&[(0, 10), (1, 9)], 3, 3)]
#[case::old_and_new_ones(&[(0, 10), (1, 9), (8, 5), (9, 4)], 3, 5)]
#[case::one_of_exactly_five_minutes_ago(&[(5, 9)], 3, 9)]
fn without_behavior_the_highest_of_five_minutes_counts(
    #[case] past: &[(Nanos, u32)],
    #[case] wanted: u32,
    #[case] want: u32,
) {
    let past: Vec<_> = past
        .iter()
        .map(|(at, count)| (at * MINUTE, *count))
        .collect();
    let mut horizontal = with_past(None, &past);
    assert_eq!(
        horizontal.decide(10 * MINUTE, 10, wanted, |count| count),
        want
    );
}

#[test]
fn without_behavior_an_old_peak_also_raises() {
    // Two pods may become four at once; the peak of ten stands for five minutes, so they go on.
    let mut horizontal = Horizontal::new(None);
    let mut current = 2;
    for (pass, wanted, want) in [(0, 10, 4), (1, 2, 8), (2, 2, 10)] {
        current = horizontal.decide(pass * INTERVAL, current, wanted, |count| count);
        assert_eq!(current, want);
    }
}

#[test]
fn the_replicas_that_are_found_are_the_first_recommendation() {
    for behavior in [None, Some(Behavior::DEFAULTS)] {
        let mut horizontal = Horizontal::new(behavior);
        assert_eq!(horizontal.decide(0, 10, 2, |count| count), 10);
        assert_eq!(horizontal.decide(5 * MINUTE + 1, 10, 2, |count| count), 2);
    }
}

/// `TestScalingWithRules`, those with rates: policies, current, wanted and what follows.
#[rstest]
#[case::one_percent_rounds_up(const { &[percent(1)] }, 3, 1_000, 4)]
#[case::pods_above_percent(const { &[pods(100), percent(100)] }, 10, 500, 110)]
#[case::percent_above_pods(const { &[pods(2), percent(100)] }, 10, 500, 20)]
#[case::more_pods_than_wanted(const { &[pods(100)] }, 10, 50, 50)]
#[case::pods_alone(const { &[pods(30)] }, 10, 50, 40)]
#[case::percent_alone(const { &[percent(200)] }, 10, 50, 30)]
fn with_behavior_growth_has_a_rate(
    #[case] up: &'static [Policy],
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] want: u32,
) {
    let behavior = Behavior {
        up,
        ..Behavior::DEFAULTS
    };
    let mut horizontal = Horizontal::new(Some(behavior));
    assert_eq!(horizontal.decide(0, current, wanted, |count| count), want);
}

/// The same downwards.
#[rstest]
#[case::pods_above_percent(const { &[pods(20), percent(1)] }, 100, 2, 80)]
#[case::percent_above_pods(const { &[pods(2), percent(3)] }, 100, 2, 97)]
#[case::twenty_pods(const { &[pods(20)] }, 1_000, 3, 980)]
#[case::more_pods_than_there_are(const { &[pods(100)] }, 10, 0, 0)]
fn with_behavior_shrinking_has_a_rate(
    #[case] down: &'static [Policy],
    #[case] current: u32,
    #[case] wanted: u32,
    #[case] want: u32,
) {
    let behavior = Behavior {
        down,
        ..Behavior::DEFAULTS
    };
    let mut horizontal = with_past(Some(behavior), &[(0, 0)]);
    assert_eq!(
        horizontal.decide(MINUTE, current, wanted, |count| count),
        want
    );
}

#[test]
fn a_rate_counts_from_the_replicas_at_the_start_of_its_period() {
    let behavior = Behavior {
        up: const { &[pods(4)] },
        ..Behavior::DEFAULTS
    };
    let mut horizontal = Horizontal::new(Some(behavior));
    let mut current = 4;
    let mut seen = Vec::new();
    for pass in 0..9 {
        current = horizontal.decide(pass * INTERVAL, current, 100, |count| count);
        seen.push(current);
    }
    assert_eq!(seen, [8, 8, 8, 8, 12, 12, 12, 12, 16]);
}

#[test]
fn with_behavior_a_way_down_takes_the_highest_of_the_window_and_a_way_up_that_of_now() {
    let mut horizontal = with_past(Some(Behavior::DEFAULTS), &[(0, 20)]);
    assert_eq!(horizontal.decide(MINUTE, 10, 11, |count| count), 11);
    // Below the current replicas the peak counts, and it is above them.
    assert_eq!(horizontal.decide(2 * MINUTE, 11, 6, |count| count), 20);
    assert_eq!(horizontal.decide(5 * MINUTE, 20, 6, |count| count), 11);
}
