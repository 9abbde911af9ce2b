//! Lead times from series of (requested, ready), with events that must teach nothing: rollouts,
//! lost pods, cancelled requests, and a watch that begins in the middle.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
}

/// `lead` sees replicas that somebody watches.
fn observe(lead: &mut LeadTimes, current: u32, ready: u32, rolling: bool, now: Timestamp) {
    let watched = Watched {
        current,
        ready,
        rolling,
        blocked: false,
        unwatched: false,
        requested_at: now,
    };
    lead.observe(&watched, now);
}

/// Plays (seconds, requested, ready).
fn played(series: &[(u64, u32, u32)]) -> LeadTimes {
    let mut lead = LeadTimes::default();
    for &(seconds, current, ready) in series {
        observe(&mut lead, current, ready, false, at(seconds));
    }
    lead
}

#[rstest]
#[case::one_step(&[(0, 4, 4), (10, 6, 4), (100, 6, 6)], &[90, 90])]
#[case::partial_arrival(&[(0, 4, 4), (10, 6, 4), (70, 6, 5), (130, 6, 6)], &[60, 120])]
#[case::overlapping_asks_close_first_in_first_out(
    &[(0, 1, 1), (10, 2, 1), (40, 4, 1), (100, 4, 2), (130, 4, 4)], &[90, 90, 90]
)]
#[case::arrival_and_new_ask_at_once(&[(0, 1, 1), (10, 2, 1), (70, 3, 2), (130, 3, 3)], &[60, 60])]
#[case::never_arriving(&[(0, 1, 1), (10, 2, 1), (3_600, 2, 1)], &[])]
#[case::cancelled(&[(0, 1, 1), (10, 3, 1), (60, 1, 1), (90, 1, 1)], &[])]
#[case::the_newest_are_withdrawn_first(
    &[(0, 1, 1), (10, 2, 1), (60, 4, 1), (70, 2, 1), (100, 2, 2)], &[90]
)]
#[case::requested_again_after_a_cancellation(&[(0, 1, 1), (10, 3, 1), (60, 1, 1), (100, 3, 1), (130, 3, 3)], &[30, 30])]
#[case::a_watch_that_begins_in_the_middle(&[(0, 6, 4), (30, 6, 6)], &[])]
#[case::scale_down_is_no_loss(&[(0, 8, 8), (10, 6, 8), (20, 6, 6), (30, 7, 6), (90, 7, 7)], &[60])]
#[case::a_restarted_pod(&[(0, 4, 4), (10, 4, 3), (50, 4, 4)], &[])]
#[case::a_pod_lost_while_asking(&[(0, 4, 4), (10, 5, 4), (20, 5, 3), (60, 5, 4), (90, 5, 5)], &[])]
#[case::rollout_without_surge(&[(0, 4, 4), (10, 4, 3), (50, 4, 4), (60, 4, 3), (90, 4, 4)], &[])]
#[case::rollout_with_surge(&[(0, 8, 8), (10, 8, 10), (30, 8, 9), (50, 8, 10), (70, 8, 8)], &[])]
#[case::requested_while_surge_pods_run(&[(0, 8, 8), (10, 8, 10), (20, 10, 10), (40, 10, 9), (90, 10, 10)], &[])]
#[case::requested_when_surge_first_shows(&[(0, 8, 8), (20, 10, 10), (40, 10, 8), (90, 10, 10)], &[])]
#[case::an_arrival_that_did_not_last(&[(0, 4, 4), (10, 5, 4), (40, 5, 5), (60, 5, 4), (200, 5, 5)], &[])]
#[case::a_loss_long_after_an_arrival(&[(0, 4, 4), (10, 5, 4), (40, 5, 5), (600, 5, 4)], &[30])]
#[case::to_zero_and_back(&[(0, 2, 2), (10, 0, 2), (20, 0, 0), (60, 2, 0), (160, 2, 2)], &[100, 100])]
fn samples_come_from_asks_alone(#[case] series: &[(u64, u32, u32)], #[case] want: &[u32]) {
    assert_eq!(played(series).samples_seconds, want);
}

#[test]
fn a_known_rollout_teaches_nothing() {
    let mut lead = LeadTimes::default();
    observe(&mut lead, 4, 4, false, at(0));
    observe(&mut lead, 5, 4, true, at(10));
    observe(&mut lead, 5, 5, true, at(30));
    assert_eq!(lead.samples(), 0);
}

#[test]
fn the_prior_counts_until_there_are_samples() {
    let fresh = LeadTimes::default();
    assert_eq!(fresh.p50(LEAD_PRIOR), LEAD_PRIOR);
    assert_eq!(fresh.p90(LEAD_PRIOR), LEAD_PRIOR);
    let mut lead = played(&[(0, 0, 0)]);
    // Ten requests of one replica with lead times of 10 to 100 s.
    for step in 1..=10u64 {
        let (count, start) = (u32::try_from(step).unwrap(), step * 1_000);
        observe(&mut lead, count, count - 1, false, at(start));
        observe(&mut lead, count, count, false, at(start + step * 10));
    }
    assert_eq!(lead.p50(LEAD_PRIOR), Duration::from_secs(50));
    assert_eq!(lead.p90(LEAD_PRIOR), Duration::from_secs(90));
}

#[test]
fn one_large_arrival_does_not_push_out_all_others() {
    let mut lead = played(&[(0, 1, 1), (10, 2, 1), (50, 2, 2)]);
    observe(&mut lead, 1_000, 2, false, at(100));
    observe(&mut lead, 1_000, 1_000, false, at(700));
    assert_eq!(lead.samples_seconds, vec![40, 600, 600, 600, 600]);
}

#[test]
fn the_oldest_pending_replica_is_waited_for_until_another_arrives() {
    // 4 more are requested in two steps.
    let mut lead = played(&[(0, 4, 4), (10, 5, 4), (110, 5, 5)]);
    observe(&mut lead, 7, 5, false, at(200));
    observe(&mut lead, 9, 5, false, at(260));
    assert_eq!(lead.pending(), 4);
    assert_eq!(lead.waiting(at(320)), Some(Duration::from_mins(2)));
    observe(&mut lead, 9, 6, false, at(330));
    assert_eq!(lead.waiting(at(340)), Some(Duration::from_secs(10)));
}

#[test]
fn a_pod_whose_readiness_flaps_does_not_count_as_an_arrival() {
    let mut lead = played(&[(0, 4, 4), (10, 5, 4)]);
    for second in (20..620).step_by(20) {
        let ready = if (second / 20) % 2 == 0 { 4 } else { 3 };
        observe(&mut lead, 5, ready, false, at(second));
    }
    assert_eq!(lead.waiting(at(620)), Some(Duration::from_secs(610)));
    assert_eq!(lead.samples(), 0);
}

#[test]
fn nothing_pending_is_nothing_waited_for() {
    assert_eq!(played(&[(0, 4, 4)]).waiting(at(100)), None);
}

proptest! {
    #[test]
    fn lead_times_stay_small_and_agree_with_the_replicas(
        series in prop::collection::vec((0u64..100_000, 0u32..1_000, 0u32..1_000, prop::bool::ANY), 1..200),
    ) {
        let mut lead = LeadTimes::default();
        let mut now = 0;
        for (step, current, ready, rolling) in series {
            now += step;
            observe(&mut lead, current, ready, rolling, at(now));
            prop_assert_eq!(lead.pending(), current.saturating_sub(ready));
            prop_assert!(lead.p50(LEAD_PRIOR) <= lead.p90(LEAD_PRIOR));
            let mut again = lead.clone();
            observe(&mut again, current, ready, rolling, at(now));
            prop_assert_eq!(&again.samples_seconds, &lead.samples_seconds);
            prop_assert_eq!(again.pending(), lead.pending());
        }
        let text = serde_json::to_string(&lead).unwrap();
        prop_assert!(text.len() <= 1_000, "{} bytes", text.len());
        prop_assert_eq!(serde_json::from_str::<LeadTimes>(&text).unwrap(), lead);
    }

    #[test]
    fn huge_numbers_do_not_overflow(a in 0u32..u32::MAX, b in 0u32..u32::MAX, c in 0u32..u32::MAX) {
        let mut lead = LeadTimes::default();
        observe(&mut lead, a, b, false, Timestamp::from_millis(i64::MIN));
        observe(&mut lead, u32::MAX, c, false, Timestamp::from_millis(i64::MAX));
        observe(&mut lead, b, a, false, Timestamp::from_millis(0));
        lead.waiting(Timestamp::from_millis(i64::MAX));
    }

    #[test]
    fn a_steady_lead_time_is_learnt_exactly(requests in prop::collection::vec((1u32..6, 0u64..300), 1..30), lead_seconds in 1u64..600) {
        // Each request is served after exactly the lead time, however requests overlap.
        let mut lead = LeadTimes::default();
        observe(&mut lead, 0, 0, false, at(0));
        let (mut events, mut start) = (Vec::new(), 0);
        for (count, gap) in requests {
            start += gap + 1;
            events.push((start, count, 0));
            events.push((start + lead_seconds, 0, count));
        }
        events.sort_unstable();
        let (mut current, mut ready) = (0, 0);
        for (second, requested, arrived) in events {
            (current, ready) = (current + requested, ready + arrived);
            observe(&mut lead, current, ready, false, at(second));
        }
        let off = lead.p90(Duration::ZERO).as_secs().abs_diff(lead_seconds);
        // More than eight requests at once are merged and look older than they are.
        prop_assert!(off == 0 || lead.p90(Duration::ZERO).as_secs() > lead_seconds, "off by {off} s");
        prop_assert!(lead_seconds > 8 || off == 0);
    }
}
