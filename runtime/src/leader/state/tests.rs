//! Tables for the election rules. Each scenario is a list of steps of one candidate named `me`,
//! with times in milliseconds on its monotonic clock and lease times on unrelated wall clocks.

use rstest::rstest;

use super::*;

/// A moment of some wall clock, in seconds since the epoch.
fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn timing() -> Timing {
    Timing::new(ms(15_000), ms(10_000), ms(2_000)).unwrap()
}

fn candidate() -> Election {
    Election::new("me".into(), timing())
}

/// The lease of `holder`, last renewed at `renewed` on the holder's wall clock.
fn lease(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.into()).filter(|holder: &String| !holder.is_empty()),
        acquire_time: Some(MicroTime(wall(1))),
        renew_time: Some(MicroTime(wall(renewed))),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    }
}

/// A candidate that began a term at `at`, and its lease.
fn leader(at: Duration) -> (Election, LeaseSpec) {
    let mut me = candidate();
    me.observe(None, at);
    let lease = me.proposal(wall(100));
    me.accepted(&lease, at, at);
    (me, lease)
}

fn taken(by: Option<&str>) -> Action {
    Action::StepDown(Reason::Taken {
        by: by.map(Into::into),
    })
}

#[rstest]
#[case::no_lease(None, Action::Acquire)]
#[case::released(Some(lease("", 9)), Action::Acquire)]
#[case::held_by_another(Some(lease("you", 9)), Action::Wait { until: ms(20_000) })]
#[case::held_by_ones_former_life(Some(lease("me", 9)), Action::Acquire)]
#[case::renewed_in_the_far_future(Some(lease("you", 9_999_999)), Action::Wait { until: ms(20_000) })]
#[case::renewed_long_ago(Some(lease("you", 0)), Action::Wait { until: ms(20_000) })]
#[case::shorter_promise(
    Some(LeaseSpec { lease_duration_seconds: Some(3), ..lease("you", 9) }),
    Action::Wait { until: ms(8_000) }
)]
#[case::no_promise(
    Some(LeaseSpec { lease_duration_seconds: None, ..lease("you", 9) }),
    Action::Wait { until: ms(20_000) }
)]
#[case::empty_spec(Some(LeaseSpec::default()), Action::Acquire)]
fn the_first_look_decides(#[case] seen: Option<LeaseSpec>, #[case] action: Action) {
    let mut me = candidate();
    me.observe(seen.as_ref(), ms(5_000));
    assert_eq!(me.decide(ms(5_000)), action);
}

#[test]
fn nothing_is_decided_before_the_first_look() {
    assert_eq!(candidate().decide(ms(7)), Action::Wait { until: ms(7) });
}

/// Observations are (monotonic milliseconds, wall-clock second of the renewal by `you`).
#[rstest]
#[case::silent_leader_expires(&[(0, 10), (14_000, 10)], 15_000, Action::Acquire)]
#[case::not_a_moment_earlier(&[(0, 10), (14_000, 10)], 14_999, Action::Wait { until: ms(15_000) })]
#[case::renewal_starts_the_wait_again(&[(0, 10), (14_000, 24)], 28_000, Action::Wait { until: ms(29_000) })]
#[case::wall_clock_of_the_leader_jumps_back(&[(0, 1_000), (14_000, 3)], 28_000, Action::Wait { until: ms(29_000) })]
#[case::wall_clock_of_the_leader_stands_still(&[(0, 10), (2_000, 10), (9_000, 10)], 15_000, Action::Acquire)]
#[case::our_clock_jumps_ahead_of_a_renewal(&[(0, 10), (90_000, 12)], 90_000, Action::Wait { until: ms(105_000) })]
#[case::our_clock_jumps_ahead_in_silence(&[(0, 10), (90_000, 10)], 90_000, Action::Acquire)]
fn a_lease_expires_by_the_age_of_its_last_seen_change(
    #[case] seen: &[(u64, i64)],
    #[case] now: u64,
    #[case] action: Action,
) {
    let mut me = candidate();
    for (at, renewed) in seen {
        me.observe(Some(&lease("you", *renewed)), ms(*at));
    }
    assert_eq!(me.decide(ms(now)), action);
}

#[rstest]
#[case::in_time(|own: LeaseSpec| Some(own), 9_999, Action::Renew)]
#[case::past_the_deadline(|own: LeaseSpec| Some(own), 10_000, Action::StepDown(Reason::RenewDeadline))]
#[case::frozen_for_an_hour(|own: LeaseSpec| Some(own), 3_600_000, Action::StepDown(Reason::RenewDeadline))]
#[case::stolen(|_: LeaseSpec| Some(lease("you", 101)), 1_000, taken(Some("you")))]
#[case::cleared_by_hand(|_: LeaseSpec| Some(lease("", 101)), 1_000, taken(None))]
#[case::taken_by_a_namesake(|_: LeaseSpec| Some(lease("me", 101)), 1_000, taken(Some("me")))]
#[case::deleted(|_: LeaseSpec| None, 1_000, Action::Acquire)]
#[case::deleted_and_past_the_deadline(|_: LeaseSpec| None, 10_000, Action::StepDown(Reason::RenewDeadline))]
#[case::annotated_or_shortened_by_another(
    |own: LeaseSpec| Some(LeaseSpec { lease_duration_seconds: Some(1), ..own }), 1_000, Action::Renew
)]
fn a_leader_renews_or_steps_down(
    #[case] change: fn(LeaseSpec) -> Option<LeaseSpec>,
    #[case] now: u64,
    #[case] action: Action,
) {
    let (mut me, own) = leader(ms(0));
    me.observe(change(own).as_ref(), ms(1_000));
    assert_eq!(me.decide(ms(now)), action);
}

#[test]
fn a_term_counts_from_before_the_renewal_was_sent() {
    let (mut me, _) = leader(ms(0));
    let renewal = me.proposal(wall(108));
    me.accepted(&renewal, ms(8_000), ms(9_500));
    assert_eq!(
        me.leading(),
        Some(Leading {
            since: ms(0),
            until: ms(18_000)
        })
    );
}

#[test]
fn a_follower_never_takes_over_before_the_leader_has_stepped_down() {
    let (me, own) = leader(ms(0));
    let mut you = Election::new("you".into(), timing());
    // The two clocks agree here; only the follower's first sight of the renewal is as early as it
    // can be.
    you.observe(Some(&own), ms(0));
    for now in (0..20_000).step_by(100).map(ms) {
        let steps_down = matches!(me.decide(now), Action::StepDown(_));
        assert!(
            you.decide(now) != Action::Acquire || steps_down,
            "two leaders at {now:?}"
        );
    }
}

#[rstest]
#[case::new_lease(None, 0)]
#[case::from_another(Some(lease("you", 9)), 5)]
#[case::after_a_release(Some(lease("", 9)), 5)]
#[case::from_ones_former_life(Some(lease("me", 9)), 4)]
#[case::broken_count(Some(LeaseSpec { lease_transitions: Some(-3), ..lease("you", 9) }), 1)]
#[case::largest_count(Some(LeaseSpec { lease_transitions: Some(i32::MAX), ..lease("you", 9) }), i32::MAX)]
fn a_new_term_counts_the_change_of_holder(
    #[case] seen: Option<LeaseSpec>,
    #[case] transitions: i32,
) {
    let mut me = candidate();
    me.observe(seen.as_ref(), ms(0));
    let proposal = me.proposal(wall(50));
    assert_eq!(proposal.holder_identity.as_deref(), Some("me"));
    assert_eq!(proposal.lease_duration_seconds, Some(15));
    assert_eq!(proposal.acquire_time, Some(MicroTime(wall(50))));
    assert_eq!(proposal.renew_time, Some(MicroTime(wall(50))));
    assert_eq!(proposal.lease_transitions, Some(transitions));
}

#[test]
fn a_renewal_changes_the_renew_time_only() {
    let (mut me, own) = leader(ms(0));
    let renewal = me.proposal(wall(102));
    assert_eq!(
        renewal,
        LeaseSpec {
            renew_time: Some(MicroTime(wall(102))),
            ..own
        }
    );
}

#[test]
fn times_are_written_as_the_api_keeps_them() {
    let mut me = candidate();
    me.observe(None, ms(0));
    let proposal = me.proposal(Timestamp::from_nanosecond(1_000_001_999).unwrap());
    let kept: LeaseSpec = serde_json::from_value(serde_json::to_value(&proposal).unwrap()).unwrap();
    assert_eq!(kept, proposal);
}

#[test]
fn a_term_whose_acceptance_was_never_heard_is_found_again() {
    let mut me = candidate();
    me.observe(Some(&lease("", 9)), ms(0));
    let unanswered = me.proposal(wall(50));
    me.observe(Some(&unanswered), ms(4_000));
    assert_eq!(me.decide(ms(4_000)), Action::Acquire);
    assert_eq!(
        me.proposal(wall(54)).lease_transitions,
        unanswered.lease_transitions
    );
}

#[test]
fn after_stepping_down_ones_untouched_lease_is_resumed() {
    let (mut me, own) = leader(ms(0));
    me.step_down();
    assert_eq!(me.leading(), None);
    me.observe(Some(&own), ms(11_000));
    assert_eq!(me.decide(ms(11_000)), Action::Acquire);
}

#[test]
fn a_namesake_that_took_the_lease_is_left_alone_until_it_expires() {
    let (mut me, _) = leader(ms(0));
    me.observe(Some(&lease("me", 101)), ms(1_000));
    assert_eq!(me.decide(ms(1_000)), taken(Some("me")));
    me.step_down();
    assert_eq!(me.decide(ms(2_000)), Action::Wait { until: ms(16_000) });
}

#[test]
fn a_release_clears_the_holder_and_lets_another_in_at_once() {
    let (mut me, own) = leader(ms(0));
    let released = me.release(wall(103)).unwrap();
    assert_eq!(released.holder_identity, None);
    assert_eq!(released.lease_transitions, own.lease_transitions);
    assert!(
        released
            .lease_duration_seconds
            .is_some_and(|seconds| seconds > 0)
    );
    assert_eq!(me.leading(), None);

    let mut you = Election::new("you".into(), timing());
    you.observe(Some(&own), ms(0));
    you.observe(Some(&released), ms(3_000));
    assert_eq!(you.decide(ms(3_000)), Action::Acquire);
    assert_eq!(you.proposal(wall(104)).lease_transitions, Some(1));
}

#[rstest]
#[case::of_another(Some(lease("you", 101)))]
#[case::of_a_namesake(Some(lease("me", 101)))]
#[case::deleted(None)]
fn a_lease_that_is_not_ones_own_is_never_released(#[case] seen: Option<LeaseSpec>) {
    let (mut me, _) = leader(ms(0));
    me.observe(seen.as_ref(), ms(1_000));
    assert_eq!(me.release(wall(103)), None);
    assert_eq!(me.leading(), None);
}

#[rstest]
#[case::defaults(15_000, 10_000, 2_000, None)]
#[case::lease_equals_deadline(10_000, 10_000, 2_000, Some("lease duration `10s` must be longer"))]
#[case::deadline_equals_retry(15_000, 2_000, 2_000, Some("renew deadline `2s` must be longer"))]
#[case::no_pause(15_000, 10_000, 0, Some("retry period `0s` must be positive"))]
#[case::endless(3_600_001, 10_000, 2_000, Some("is too long"))]
fn durations_that_do_not_fit_are_refused(
    #[case] lease: u64,
    #[case] deadline: u64,
    #[case] retry: u64,
    #[case] refusal: Option<&str>,
) {
    let message = Timing::new(ms(lease), ms(deadline), ms(retry))
        .err()
        .map(|error| error.to_string());
    match refusal {
        None => assert_eq!(message, None),
        Some(part) => assert!(
            message.as_ref().is_some_and(|text| text.contains(part)),
            "{message:?}"
        ),
    }
}

#[rstest]
#[case(1_000, 1)]
#[case(1_001, 2)]
#[case(15_000, 15)]
fn a_written_duration_is_rounded_up_to_whole_seconds(#[case] duration: u64, #[case] seconds: i32) {
    assert_eq!(
        Timing::new(ms(duration), ms(500), ms(100))
            .unwrap()
            .lease_seconds(),
        seconds
    );
}
