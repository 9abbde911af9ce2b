//! The queue by example: upstream's vectors with rewritten pods, what is left to the cluster,
//! options, groups, faults.
//!
//! A story is a list of happenings at seconds. It is played to its end, with every request carried
//! out unless the story says otherwise, and read as what happened when: who was deleted, what was
//! cancelled.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::{
    eviction::{
        Pending,
        queue::EvictionQueue,
        rate_limit::RateLimit,
        request::{
            By, DeadlineChange, EvictionOptions, EvictionRequest, PlacedPod, PodId, RequestOutcome,
        },
        rules::TolerationRules,
    },
    rewrite::rewrite,
};
use jiff::Timestamp;

const AT_950: &[&str] = &["sla=950:NoExecute"];
const AT_960: &[&str] = &["sla=960:NoExecute"];
const AT_800: &[&str] = &["sla=800:NoExecute"];

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 0).unwrap()
}

fn seconds(at: Timestamp) -> i64 {
    at.as_second()
}

fn sla(operator: &str, value: &str, seconds: impl Into<Option<i64>>) -> Toleration {
    toleration("sla", operator, value, "NoExecute", seconds.into())
}

/// A pod on node `n` that was rewritten.
fn pod(name: &str, tolerations: &[Toleration]) -> PlacedPod {
    let (spec, originals) = rewrite(tolerations);
    PlacedPod {
        id: PodId {
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            name: name.to_owned(),
        },
        node: "n".to_owned(),
        rules: (!originals.is_empty()).then(|| TolerationRules::read(&spec, &originals).unwrap()),
        group: None,
        persisted: None,
    }
}

/// An event at a second.
enum Happens {
    Taints(i64, &'static [&'static str]),
    Tolerations(i64, Vec<Toleration>),
    NodeGone(i64),
    Restart(i64),
}
use Happens::{NodeGone, Restart, Taints, Tolerations};

/// An queue in use: everything that comes out, in words.
struct Play {
    queue: EvictionQueue,
    now: Timestamp,
    said: Vec<String>,
}

impl Play {
    fn new(options: EvictionOptions) -> Self {
        Self {
            queue: EvictionQueue::new(options),
            now: at(0),
            said: Vec::new(),
        }
    }

    fn say(&mut self, now: i64, changes: impl IntoIterator<Item = DeadlineChange>) {
        for change in changes {
            self.said.push(match change {
                DeadlineChange::Waits {
                    pending,
                    by: By::Us,
                    ..
                } => {
                    format!("{now}: wait until {}", seconds(pending.due))
                }
                DeadlineChange::Waits { pending, .. } => {
                    format!("{now}: left to the cluster until {}", seconds(pending.due))
                }
                DeadlineChange::Cancelled { .. } => format!("{now}: cancelled"),
            });
        }
    }

    fn node(&mut self, now: i64, node: &[&str]) {
        let changes = self.queue.node("n", &taints(node), "zone", at(now));
        self.say(now, changes);
    }

    fn pod(&mut self, now: i64, pod: PlacedPod) {
        let change = self.queue.pod(pod, at(now));
        self.say(now, change);
    }

    /// All requests until `end`, each finished as `outcome_of` says.
    fn until(&mut self, end: i64, mut outcome_of: impl FnMut(&EvictionRequest) -> RequestOutcome) {
        while let Some(next) = self.queue.next().filter(|next| *next <= at(end)) {
            // A deadline that was put into the past is seen now.
            let next = next.max(self.now);
            self.now = next;
            for request in self.queue.requests(next) {
                let outcome = outcome_of(&request);
                let word = match outcome {
                    RequestOutcome::Leaves => "deleted",
                    RequestOutcome::Refused => "refused",
                    RequestOutcome::Failed => "failed",
                };
                let after = if request.attempt == 0 { "" } else { " again" };
                self.said.push(format!(
                    "{}: {} {word}{after}",
                    seconds(next),
                    request.pod.name
                ));
                let change = self.queue.finish(&request.pod.uid, outcome, next);
                self.say(seconds(next), change);
            }
        }
        self.now = at(end);
    }
}

fn leaves(_: &EvictionRequest) -> RequestOutcome {
    RequestOutcome::Leaves
}

/// Plays a story of one pod `p` that is there from the start.
fn story(
    options: EvictionOptions,
    tolerations: &[Toleration],
    happenings: &[Happens],
) -> Vec<String> {
    let mut play = Play::new(options);
    let mut present = pod("p", tolerations);
    let mut node: &[&str] = &[];
    play.pod(0, present.clone());
    for happening in happenings {
        let (Taints(now, _) | Tolerations(now, _) | NodeGone(now) | Restart(now)) = happening;
        play.until(*now, leaves);
        match happening {
            Taints(now, taints) => {
                node = taints;
                play.node(*now, node);
            }
            Tolerations(now, tolerations) => {
                present = pod("p", tolerations);
                play.pod(*now, present.clone());
            }
            NodeGone(_) => play.queue.node_gone("n"),
            Restart(now) => {
                play.queue = EvictionQueue::new(options);
                play.pod(*now, present.clone());
                play.node(*now, node);
            }
        }
    }
    play.until(100_000, leaves);
    play.said
}

/// The vectors a to k of the taint-eviction controller, but where the number alone decides and the
/// cluster sees none of it.
#[rstest]
#[case::a_the_span_is_the_clusters_own(&[sla("Gt", "900", 60)], vec![Taints(0, AT_950)],
    &["0: left to the cluster until 60"])]
#[case::b_a_drop_below_the_bound_deletes_at_once(
    &[sla("Gt", "900", 60)], vec![Taints(0, AT_950), Taints(10, AT_800)],
    &["0: left to the cluster until 60", "10: p deleted"])]
#[case::without_seconds_only_the_number_counts(
    &[sla("Gt", "900", None)], vec![Taints(0, AT_950), Taints(10, AT_800)], &["10: p deleted"])]
#[case::c_the_first_match_answers(
    &[sla("Gt", "900", 60), sla("Exists", "", 300)], vec![Taints(0, AT_950)],
    &["0: left to the cluster until 60"])]
#[case::c_and_the_next_one_when_the_number_does_not(
    &[sla("Gt", "900", None), sla("Exists", "", 300)], vec![Taints(0, AT_950), Taints(5, AT_800)],
    &["5: wait until 305", "305: p deleted"])]
#[case::d_in_list_order(&[sla("Exists", "", 300), sla("Gt", "900", 60)], vec![Taints(0, AT_950)],
    &["0: left to the cluster until 300"])]
#[case::e_bounded_when_low(
    &[sla("Gt", "900", None), sla("Lt", "900", 30)], vec![Taints(0, AT_950), Taints(5, AT_800)],
    &["5: wait until 35", "35: p deleted"])]
#[case::e_cancelled_when_high_again(
    &[sla("Gt", "900", None), sla("Lt", "900", 30)],
    vec![Taints(0, AT_950), Taints(5, AT_800), Taints(15, AT_950)],
    &["5: wait until 35", "15: cancelled"])]
#[case::e_and_again_when_low_once_more(
    &[sla("Gt", "900", None), sla("Lt", "900", 30)],
    vec![Taints(5, AT_800), Taints(15, AT_950), Taints(20, AT_800)],
    &["5: wait until 35", "15: cancelled", "20: wait until 50", "50: p deleted"])]
#[case::f_another_tolerated_value_moves_nothing(
    &[sla("Gt", "950", None), sla("Gt", "900", 60)],
    vec![Taints(0, AT_950), Taints(30, &["sla=940:NoExecute"])],
    &["0: wait until 60", "60: p deleted"])]
#[case::g_zero_is_now_and_the_clusters(&[sla("Gt", "900", 0)], vec![Taints(0, AT_950)],
    &["0: left to the cluster until 0"])]
#[case::h_below_zero_is_now(
    &[sla("Gt", "950", None), sla("Gt", "900", -1)], vec![Taints(0, AT_950)], &["0: p deleted"])]
#[case::i_the_least_of_two_keys(
    &[sla("Gt", "960", None), sla("Lt", "990", 30), toleration("cost", "Exists", "", "NoExecute", None)],
    vec![Taints(0, &["sla=950:NoExecute", "cost=7:NoExecute"])], &["0: wait until 30", "30: p deleted"])]
#[case::j_what_the_cluster_does_not_tolerate_is_its_own(
    &[sla("Gt", "900", 30)], vec![Taints(0, &["sla=950:NoExecute", "cost=7:NoExecute"])],
    &["0: left to the cluster until 0"])]
#[case::k_a_restart_starts_the_clock_again(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)], vec![Taints(0, AT_950), Restart(30)],
    &["0: wait until 60", "30: wait until 90", "90: p deleted"])]
#[case::taints_gone_cancel(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)], vec![Taints(0, AT_950), Taints(59, &[])],
    &["0: wait until 60", "59: cancelled"])]
#[case::taints_back_start_again(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)],
    vec![Taints(0, AT_950), Taints(10, &[]), Taints(20, AT_950)],
    &["0: wait until 60", "10: cancelled", "20: wait until 80", "80: p deleted"])]
#[case::a_node_that_is_gone_leaves_the_deadline(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)], vec![Taints(0, AT_950), NodeGone(10)],
    &["0: wait until 60", "60: p deleted"])]
#[case::the_same_taints_again_change_nothing(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)], vec![Taints(0, AT_950), Taints(10, AT_950)],
    &["0: wait until 60", "60: p deleted"])]
#[case::a_toleration_that_came_saves_the_pod(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)],
    vec![Taints(0, AT_950), Tolerations(10, vec![sla("Gt", "800", None)])],
    &["0: wait until 60", "10: cancelled"])]
#[case::edited_seconds_move_nothing(
    &[sla("Gt", "960", None), sla("Gt", "900", 60)],
    vec![Taints(0, AT_950), Tolerations(10, vec![sla("Gt", "960", None), sla("Gt", "900", 20)])],
    &["0: wait until 60", "60: p deleted"])]
#[case::other_effects_evict_nobody(
    &[toleration("sla", "Gt", "960", "", None)], vec![Taints(0, &["sla=950:NoSchedule"])], &[])]
#[case::the_clusters_shorter_time_wins(
    &[sla("Lt", "900", 30), sla("Gt", "940", 60)], vec![Taints(0, AT_950)],
    &["0: left to the cluster until 30"])]
#[case::what_the_cluster_took_up_it_keeps_when_the_value_rises(
    &[sla("Gt", "900", 60)], vec![Taints(0, AT_950), Taints(30, AT_960)],
    &["0: left to the cluster until 60"])]
fn pods_go_when_their_numbers_say(
    #[case] tolerations: &[Toleration],
    #[case] happenings: Vec<Happens>,
    #[case] want: &[&str],
) {
    assert_eq!(
        story(EvictionOptions::default(), tolerations, &happenings),
        want
    );
}

#[rstest]
#[case::compatible(false, false, 60, 60)]
#[case::shorten(true, false, 20, 60)]
#[case::lengthen(false, true, 60, 90)]
#[case::both(true, true, 20, 90)]
fn deadlines_move_only_if_asked_to(
    #[case] shorten: bool,
    #[case] lengthen: bool,
    #[case] to_20: i64,
    #[case] to_90: i64,
) {
    let options = EvictionOptions {
        shorten,
        lengthen,
        rate: None,
    };
    // The value decides which toleration answers, and so how long the pod has.
    let tolerations = [
        sla("Gt", "960", None),
        sla("Gt", "940", 60),
        sla("Gt", "930", 20),
        sla("Gt", "920", 90),
        sla("Gt", "910", 1),
    ];
    let play = |taints| {
        story(
            options,
            &tolerations,
            &[Taints(0, AT_950), Taints(10, taints)],
        )
    };
    assert_eq!(
        play(&["sla=935:NoExecute"]).pop().unwrap(),
        format!("{to_20}: p deleted")
    );
    assert_eq!(
        play(&["sla=925:NoExecute"]).pop().unwrap(),
        format!("{to_90}: p deleted")
    );
    // A deadline that the change puts into the past is now.
    let past = if shorten { 10 } else { 60 };
    assert_eq!(
        play(&["sla=915:NoExecute"]).pop().unwrap(),
        format!("{past}: p deleted")
    );
}

#[rstest]
#[case::kept_over_a_restart(AT_950, &["30: wait until 60", "60: p deleted"])]
#[case::overdue_goes_at_once_if_still_bounded(&["sla=945:NoExecute"], &["30: wait until 60", "60: p deleted"])]
#[case::cancelled_if_tolerated_by_now(&["sla=970:NoExecute"], &["30: cancelled"])]
#[case::cancelled_if_the_taint_is_gone(&[], &["30: cancelled"])]
#[case::at_once_if_not_tolerated_any_more(AT_800, &["30: p deleted"])]
fn a_persisted_deadline_goes_on(#[case] node: &[&str], #[case] want: &[&str]) {
    let mut play = Play::new(EvictionOptions::default());
    let mut present = pod("p", &[sla("Gt", "960", None), sla("Gt", "900", 60)]);
    present.persisted = Some(Pending {
        since: at(0),
        due: at(60),
    });
    // Whichever is seen first.
    play.pod(30, present.clone());
    play.pod(30, present);
    play.node(30, node);
    play.until(1_000, leaves);
    assert_eq!(play.said, want);
}

#[test]
fn what_cannot_be_done_is_tried_again_later_and_later_and_cancelled_by_a_rise() {
    let mut play = Play::new(EvictionOptions::default());
    play.pod(0, pod("p", &[sla("Gt", "900", None)]));
    play.node(0, AT_800);
    let mut attempts = Vec::new();
    play.until(100, |request| {
        attempts.push(request.attempt);
        assert_eq!(request.due, at(0));
        RequestOutcome::Failed
    });
    // 0.1 s, doubled to 30 s.
    assert_eq!(attempts, (0..11).collect::<Vec<_>>());
    play.node(101, AT_950);
    assert_eq!(play.said.pop().unwrap(), "101: cancelled");
    assert_eq!((play.queue.next(), play.queue.pending()), (None, 0));
}

#[test]
fn an_order_is_given_once_and_never_after_it_was_carried_out() {
    let mut play = Play::new(EvictionOptions::default());
    play.pod(0, pod("p", &[sla("Gt", "900", None)]));
    play.node(0, AT_800);
    assert_eq!(play.queue.requests(at(0)).len(), 1);
    for (second, node) in [(1, AT_950), (2, AT_800), (3, &["sla=700:NoExecute"])] {
        play.node(second, node);
        assert!(play.queue.requests(at(second)).is_empty());
    }
    play.queue.finish("uid-p", RequestOutcome::Leaves, at(4));
    play.node(5, AT_950);
    play.node(6, AT_800);
    assert!(play.queue.requests(at(1_000)).is_empty() && play.queue.next().is_none());
    play.queue.pod_gone("uid-p", at(7));
    let mut again = pod("p", &[sla("Gt", "900", None)]);
    again.id.uid = "uid-2".to_owned();
    play.pod(7, again);
    play.until(8, leaves);
    assert_eq!(play.said, ["7: p deleted"]);
}

#[test]
fn a_rise_during_an_attempt_that_fails_cancels() {
    let mut play = Play::new(EvictionOptions::default());
    play.pod(0, pod("p", &[sla("Gt", "900", None)]));
    play.node(0, AT_800);
    assert_eq!(play.queue.requests(at(0)).len(), 1);
    play.node(1, AT_950);
    let change = play.queue.finish("uid-p", RequestOutcome::Refused, at(2));
    assert!(matches!(change, Some(DeadlineChange::Cancelled { .. })));
    assert!(play.queue.next().is_none());
}

/// A group of three, of which only the first has numbers.
fn group(play: &mut Play) {
    for name in ["a", "b", "c"] {
        let tolerations: &[_] = &[sla("Gt", "900", None)];
        let mut member = pod(name, if name == "a" { tolerations } else { &[] });
        member.group = Some("g".to_owned());
        play.pod(0, member);
    }
    let mut stranger = pod("d", &[]);
    stranger.group = Some("g".to_owned());
    stranger.id.namespace = "other".to_owned();
    play.pod(0, stranger);
}

#[test]
fn a_group_follows_the_first_that_left_and_nobody_before() {
    let mut play = Play::new(EvictionOptions::default());
    group(&mut play);
    play.node(10, AT_800);
    let mut refusals = 1;
    play.until(100, |request| {
        if request.pod.name == "a" && refusals > 0 {
            refusals -= 1;
            return RequestOutcome::Refused;
        }
        if request.pod.name == "b" && request.attempt == 0 {
            return RequestOutcome::Failed;
        }
        RequestOutcome::Leaves
    });
    let want = [
        "10: a refused",
        "15: a deleted again",
        "15: b failed",
        "15: c deleted",
        "15: b deleted again",
    ];
    assert_eq!(play.said, want);
}

#[test]
fn a_group_that_lost_one_goes_whatever_the_value_does() {
    let mut play = Play::new(EvictionOptions::default());
    group(&mut play);
    play.node(10, AT_800);
    play.until(10, |request| match request.pod.name.as_str() {
        "a" => RequestOutcome::Leaves,
        _ => RequestOutcome::Refused,
    });
    play.node(11, AT_950);
    play.until(100, leaves);
    let want = [
        "10: a deleted",
        "10: b refused",
        "10: c refused",
        "15: b deleted again",
        "15: c deleted again",
    ];
    assert_eq!(play.said, want);
}

#[test]
fn a_group_follows_one_that_somebody_else_ended_at_its_deadline() {
    for (gone_at, follows) in [(59, true), (40, false)] {
        let mut play = Play::new(EvictionOptions::default());
        let mut first = pod("a", &[sla("Gt", "900", 60)]);
        first.group = Some("g".to_owned());
        let mut second = pod("b", &[]);
        second.group = Some("g".to_owned());
        play.pod(0, first);
        play.pod(0, second);
        play.node(0, AT_950);
        play.queue.pod_gone("uid-a", at(gone_at));
        play.until(1_000, leaves);
        let said = play.said.iter().any(|said| said == "59: b deleted");
        assert_eq!(said, follows, "{:?}", play.said);
    }
}

#[test]
fn a_domain_loses_pods_at_its_pace_the_longest_overdue_first() {
    let pace = RateLimit {
        interval: Duration::from_secs(10),
        burst: 2,
    };
    let mut play = Play::new(EvictionOptions {
        rate: Some(pace),
        ..EvictionOptions::default()
    });
    for name in ["a", "b", "c", "d"] {
        play.pod(
            0,
            pod(name, &[sla("Gt", "960", None), sla("Gt", "900", 60)]),
        );
    }
    play.pod(0, pod("e", &[sla("Gt", "900", None)]));
    play.node(0, AT_950);
    play.said.clear();
    // At 60 s four are due together, at 61 s the fifth; a rise spares who is still there.
    play.until(60, leaves);
    play.node(61, AT_800);
    play.until(79, leaves);
    play.node(80, &["sla=970:NoExecute"]);
    play.until(1_000, leaves);
    let want = [
        "60: a deleted",
        "60: b deleted",
        "70: c deleted",
        "80: cancelled",
        "80: cancelled",
    ];
    assert_eq!(play.said, want);
}

#[test]
fn a_pod_that_is_not_rewritten_is_left_alone() {
    let mut play = Play::new(EvictionOptions::default());
    play.pod(
        0,
        pod("plain", &[toleration("sla", "Equal", "950", "", None)]),
    );
    play.pod(0, pod("none", &[]));
    play.node(0, AT_800);
    assert!(play.said.is_empty() && play.queue.next().is_none());
    play.pod(1, pod("p", &[sla("Gt", "960", None), sla("Gt", "700", 60)]));
    play.pod(2, pod("p", &[]));
    play.until(1_000, leaves);
    assert_eq!(play.said, ["1: wait until 61", "2: cancelled"]);
}
