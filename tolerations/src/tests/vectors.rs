//! Whole-node and timing vectors, read from upstream's code, as tables.
//!
//! The whole-node ones are the scheduler's plugin: filter, count, normalised score. The timing ones
//! play the taint-eviction controller: a script of taint values at seconds, and when the pod goes.

use rstest::rstest;

use super::*;
use crate::{
    eviction::{Evaluation, Pending, TolerationPeriod, evaluate, toleration_period},
    node::{first_untolerated, normalized, untolerated_preferences},
};
use jiff::Timestamp;

const ON: Comparison = Comparison::On;

fn sla(operator: &str, value: &str, effect: &str) -> Toleration {
    toleration("sla", operator, value, effect, None)
}

#[rstest]
#[case::one_nothing_against_nothing(&[], &[], None, 0)]
#[case::two_an_untolerated_taint(&[], &["sla=950:NoSchedule"], Some("sla=950:NoSchedule"), 0)]
#[case::three_the_second_effect_is_judged_by_itself(
    &[sla("Gt", "900", "NoSchedule")],
    &["sla=950:NoSchedule", "sla=800:NoExecute"], Some("sla=800:NoExecute"), 0)]
#[case::four_every_effect_with_its_own_number(
    &[sla("Gt", "900", "")],
    &["sla=950:NoSchedule", "sla=800:NoExecute"], Some("sla=800:NoExecute"), 0)]
#[case::five_a_lower_bound_covers_both(
    &[sla("Gt", "700", "")], &["sla=950:NoSchedule", "sla=800:NoExecute"], None, 0)]
#[case::six_a_toleration_for_each_effect(
    &[sla("Gt", "900", "NoSchedule"), sla("Gt", "700", "NoExecute")],
    &["sla=950:NoSchedule", "sla=800:NoExecute"], None, 0)]
#[case::seven_a_preference_needs_its_own_effect(
    &[sla("Gt", "900", "NoSchedule")], &["sla=950:PreferNoSchedule"], None, 1)]
#[case::eight_preferences_are_counted(
    &[sla("Gt", "900", "PreferNoSchedule")],
    &["sla=950:PreferNoSchedule", "cost=7:PreferNoSchedule"], None, 1)]
#[case::nine_tolerations_are_alternatives(
    &[sla("Gt", "900", ""), sla("Lt", "990", "")], &["sla=995:NoSchedule"], None, 0)]
#[case::ten_a_number_repels_no_node_without_the_taint(&[sla("Gt", "900", "")], &[], None, 0)]
fn whole_nodes_fit_as_upstream_says(
    #[case] tolerations: &[Toleration],
    #[case] node: &[&str],
    #[case] refused_by: Option<&str>,
    #[case] count: u32,
) {
    let node = taints(node);
    let refused = first_untolerated(&node, tolerations, ON).map(Taint::to_string);
    assert_eq!(refused.as_deref(), refused_by);
    assert_eq!(untolerated_preferences(&node, tolerations, ON), count);
}

#[rstest]
#[case::eleven(&[0, 1, 3], &[100, 67, 0])]
#[case::twelve(&[2, 2], &[0, 0])]
#[case::thirteen(&[0, 0], &[100, 100])]
#[case::no_nodes(&[], &[])]
#[case::huge_counts(&[u32::MAX, u32::MAX - 1], &[0, 1])]
fn scores_are_normalised_over_the_nodes(#[case] counts: &[u32], #[case] want: &[u32]) {
    assert_eq!(normalized(counts), want);
}

#[rstest]
#[case::off_without_the_gate(Comparison::Off, Some("sla=950:NoSchedule"))]
#[case::on_with_it(Comparison::On, None)]
fn the_gate_decides_whether_numbers_compare(
    #[case] gate: Comparison,
    #[case] refused_by: Option<&str>,
) {
    let node = taints(&["sla=950:NoSchedule"]);
    let refused = first_untolerated(&node, &[sla("Gt", "900", "")], gate);
    assert_eq!(refused.map(Taint::to_string).as_deref(), refused_by);
}

/// An event on the node: at a second, its taints become these, or the controller restarts.
enum Event {
    Taints(i64, &'static [&'static str]),
    Restart(i64),
}
use Event::{Restart, Taints};

/// Plays the controller and returns the second at which the pod is deleted.
fn deleted_at(tolerations: &[Toleration], script: &[Event]) -> Option<i64> {
    let (mut node, mut pending) = (Vec::new(), None::<Pending>);
    for event in script {
        let at = match event {
            Taints(at, _) | Restart(at) => Timestamp::new(*at, 0).unwrap(),
        };
        if let Some(pending) = pending.filter(|pending| pending.due <= at) {
            return Some(pending.due.as_second());
        }
        match event {
            Taints(_, now) => node = taints(now),
            Restart(_) => pending = None,
        }
        match evaluate(toleration_period(&node, tolerations, ON), pending, at) {
            Evaluation::Keep => pending = None,
            Evaluation::Wait(until) => pending = Some(until),
            Evaluation::Delete => return Some(at.as_second()),
        }
    }
    pending.map(|pending| pending.due.as_second())
}

fn bounded(operator: &str, value: &str, seconds: impl Into<Option<i64>>) -> Toleration {
    toleration("sla", operator, value, "NoExecute", seconds.into())
}

const AT_950: &[&str] = &["sla=950:NoExecute"];
const AT_800: &[&str] = &["sla=800:NoExecute"];

#[rstest]
#[case::a_the_span_runs_out(&[bounded("Gt", "900", 60)], &[Taints(0, AT_950)], Some(60))]
#[case::b_a_drop_below_the_bound_deletes_at_once(
    &[bounded("Gt", "900", 60)], &[Taints(0, AT_950), Taints(10, AT_800)], Some(10))]
#[case::c_the_first_match_answers(
    &[bounded("Gt", "900", 60), bounded("Exists", "", 300)], &[Taints(0, AT_950)], Some(60))]
#[case::d_in_list_order(
    &[bounded("Exists", "", 300), bounded("Gt", "900", 60)], &[Taints(0, AT_950)], Some(300))]
#[case::e_forever_while_high(
    &[bounded("Gt", "900", None), bounded("Lt", "900", 30)], &[Taints(0, AT_950)], None)]
#[case::e_bounded_when_low(
    &[bounded("Gt", "900", None), bounded("Lt", "900", 30)],
    &[Taints(0, AT_950), Taints(5, AT_800)], Some(35))]
#[case::e_cancelled_when_high_again(
    &[bounded("Gt", "900", None), bounded("Lt", "900", 30)],
    &[Taints(0, AT_950), Taints(5, AT_800), Taints(15, AT_950)], None)]
#[case::f_another_tolerated_value_moves_nothing(
    &[bounded("Gt", "900", 60)],
    &[Taints(0, AT_950), Taints(30, &["sla=960:NoExecute"])], Some(60))]
#[case::g_zero_is_now(&[bounded("Gt", "900", 0)], &[Taints(0, AT_950)], Some(0))]
#[case::h_below_zero_is_now(&[bounded("Gt", "900", -1)], &[Taints(0, AT_950)], Some(0))]
#[case::i_the_least_of_two_keys(
    &[bounded("Gt", "900", 30), toleration("cost", "Exists", "", "NoExecute", None)],
    &[Taints(0, &["sla=950:NoExecute", "cost=7:NoExecute"])], Some(30))]
#[case::j_one_untolerated_key_is_enough(
    &[bounded("Gt", "900", 30)],
    &[Taints(0, &["sla=950:NoExecute", "cost=7:NoExecute"])], Some(0))]
#[case::k_a_restart_starts_the_clock_again(
    &[bounded("Gt", "900", 60)], &[Taints(0, AT_950), Restart(30)], Some(90))]
#[case::taints_gone_cancel(
    &[bounded("Gt", "900", 60)], &[Taints(0, AT_950), Taints(59, &[])], None)]
#[case::taints_back_start_again(
    &[bounded("Gt", "900", 60)], &[Taints(0, AT_950), Taints(10, &[]), Taints(20, AT_950)], Some(80))]
#[case::other_effects_evict_nobody(&[], &[Taints(0, &["sla=950:NoSchedule"])], None)]
fn pods_go_when_upstream_deletes_them(
    #[case] tolerations: &[Toleration],
    #[case] script: &[Event],
    #[case] want: Option<i64>,
) {
    assert_eq!(deleted_at(tolerations, script), want);
}

#[rstest]
#[case::the_longest_span(
    9_223_372_036,
    TolerationPeriod::For(std::time::Duration::from_secs(9_223_372_036))
)]
#[case::one_second_more_wraps_to_no_bound(9_223_372_037, TolerationPeriod::Forever)]
#[case::and_later_to_a_short_span(
    18_446_744_074,
    TolerationPeriod::For(std::time::Duration::from_nanos(290_448_384))
)]
#[case::and_even_to_none(1 << 55, TolerationPeriod::Over)]
#[case::the_largest_is_no_bound(i64::MAX, TolerationPeriod::Forever)]
#[case::the_least_is_now(i64::MIN, TolerationPeriod::Over)]
fn absurd_spans_wrap_as_upstream(#[case] seconds: i64, #[case] want: TolerationPeriod) {
    let node = taints(AT_950);
    assert_eq!(
        toleration_period(&node, &[bounded("Gt", "900", seconds)], ON),
        want
    );
}
