//! Zero, case by case, and the law that no role is ever there alone.
//!
//! Each case states memory and observation, and the decision that must follow. The random walks let
//! load, gaps, half-done writes and people happen in any order.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{bounds::Bounds, signal::Gap};

const NOW: i64 = 100_000_000;
const POLICY: ScaleToZero = ScaleToZero {
    idle_after: Duration::from_mins(30),
};
const UNKNOWN: Reading = Reading::Unknown(Gap::QueryFailed);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOW + seconds * 1_000)
}

fn role(current: u32, terminating: u32) -> RoleState {
    RoleState {
        current,
        ready: current,
        terminating,
        ..RoleState::default()
    }
}

fn observed(activity: Activity, wake: Reading, prefill: u32, decode: u32) -> ZeroInputs {
    ZeroInputs {
        activity,
        wake,
        roles: PerRole {
            prefill: role(prefill, 0),
            decode: role(decode, 0),
        },
        gap: crate::guard::Gap::None,
    }
}

/// Idle for so long, and seen so until now.
fn idle_for(seconds: i64) -> ZeroMemory {
    ZeroMemory {
        idle_since: Some(at(-seconds)),
        idle_seen_at: Some(at(-15)),
        ..ZeroMemory::default()
    }
}

fn going() -> ZeroMemory {
    ZeroMemory {
        going_since: Some(at(-15)),
        ..idle_for(1_800)
    }
}

fn unknown_for(seconds: i64) -> ZeroMemory {
    ZeroMemory {
        wake_unknown_since: Some(at(-seconds)),
        ..ZeroMemory::default()
    }
}

#[rstest]
#[case::busy(idle_for(1_800), Activity::Busy, Reading::KnownZero, (2, 3), ZeroDecision::Serve)]
#[case::not_idle_for_long_enough(idle_for(1_799), Activity::Idle, Reading::KnownZero, (1, 1), ZeroDecision::Serve)]
#[case::idle_for_long_enough(idle_for(1_800), Activity::Idle, Reading::KnownZero, (2, 3), ZeroDecision::GoToZero)]
#[case::a_gateway_that_says_zero(idle_for(1_800), Activity::Idle, Reading::Value(0.0), (1, 1), ZeroDecision::GoToZero)]
#[case::a_request_at_the_gateway(idle_for(1_800), Activity::Idle, Reading::Value(1.0), (1, 1), ZeroDecision::Serve)]
#[case::no_view_of_the_gateway(idle_for(1_800), Activity::Idle, UNKNOWN, (1, 1), ZeroDecision::Serve)]
#[case::unknown_now(idle_for(1_800), Activity::Unknown, Reading::KnownZero, (1, 1), ZeroDecision::Serve)]
#[case::first_decision(ZeroMemory::default(), Activity::Idle, Reading::KnownZero, (1, 1), ZeroDecision::Serve)]
#[case::asleep(ZeroMemory::default(), Activity::Unknown, Reading::KnownZero, (0, 0), ZeroDecision::StayAtZero)]
#[case::asleep_and_requests_wait(ZeroMemory::default(), Activity::Unknown, Reading::Value(3.0), (0, 0), ZeroDecision::Wake)]
#[case::asleep_and_blind(ZeroMemory::default(), Activity::Unknown, UNKNOWN, (0, 0), ZeroDecision::StayAtZero)]
#[case::blind_for_a_while(unknown_for(299), Activity::Unknown, UNKNOWN, (0, 0), ZeroDecision::StayAtZero)]
#[case::blind_for_too_long(unknown_for(300), Activity::Unknown, UNKNOWN, (0, 0), ZeroDecision::Wake)]
#[case::the_signal_comes_back(unknown_for(900), Activity::Unknown, Reading::KnownZero, (0, 0), ZeroDecision::StayAtZero)]
#[case::not_a_number(unknown_for(300), Activity::Unknown, Reading::Value(f64::NAN), (0, 0), ZeroDecision::Wake)]
#[case::half_done(going(), Activity::Unknown, Reading::KnownZero, (0, 2), ZeroDecision::GoToZero)]
#[case::half_done_and_requests_wait(going(), Activity::Unknown, Reading::Value(1.0), (0, 2), ZeroDecision::CancelDown)]
#[case::half_done_and_busy(going(), Activity::Busy, Reading::KnownZero, (2, 0), ZeroDecision::CancelDown)]
#[case::half_done_and_blind(going(), Activity::Unknown, UNKNOWN, (0, 2), ZeroDecision::CancelDown)]
#[case::somebody_took_decode_away(ZeroMemory::default(), Activity::Unknown, Reading::KnownZero, (2, 0), ZeroDecision::Wake)]
#[case::somebody_took_prefill_away_at_idle(idle_for(9_000), Activity::Idle, Reading::KnownZero, (0, 2), ZeroDecision::Wake)]
fn what_is_seen_decides(
    #[case] memory: ZeroMemory,
    #[case] activity: Activity,
    #[case] wake: Reading,
    #[case] (prefill, decode): (u32, u32),
    #[case] want: ZeroDecision,
) {
    let verdict = decide(
        POLICY,
        &memory,
        &observed(activity, wake, prefill, decode),
        at(0),
    );
    assert_eq!(verdict.decision, want, "{:?}", verdict.step);
}

/// Replicas of both roles as the stages after this one give them: zero for both, or for each at
/// least its minimum and 1.
fn requested(
    decision: ZeroDecision,
    wanted: PerRole<u32>,
    bounds: PerRole<Bounds>,
) -> PerRole<u32> {
    if decision.is_zero() {
        return PerRole::default();
    }
    PerRole::from_fn(|role| bounds[role].clamp(wanted[role]).max(1))
}

/// F25.
#[rstest]
#[case::at_the_gateway(Reading::Value(1.0), Activity::Unknown)]
#[case::at_a_leaving_worker(Reading::KnownZero, Activity::Busy)]
fn a_request_in_the_drain_window_keeps_one_of_each(
    #[case] wake: Reading,
    #[case] activity: Activity,
) {
    let mut observed = observed(activity, wake, 0, 0);
    observed.roles.decode.terminating = 1;
    let verdict = decide(POLICY, &going(), &observed, at(0));
    assert_eq!(verdict.decision, ZeroDecision::CancelDown);
    assert_eq!(verdict.memory, ZeroMemory::default());
    let bounds = |least| Bounds {
        min_replicas: least,
        max_replicas: 8,
    };
    let bounds = PerRole {
        prefill: bounds(1),
        decode: bounds(3),
    };
    let replicas = requested(verdict.decision, PerRole::default(), bounds);
    assert_eq!((replicas.prefill, replicas.decode), (1, 3));
}

/// Looks every 15 s; the last look's decision.
fn watch(activities: impl IntoIterator<Item = (i64, Activity)>) -> ZeroDecision {
    let mut memory = ZeroMemory::default();
    let mut decision = ZeroDecision::Serve;
    for (seconds, activity) in activities {
        let seen = observed(activity, Reading::KnownZero, 1, 1);
        let verdict = decide(POLICY, &memory, &seen, at(seconds));
        (memory, decision) = (verdict.memory, verdict.decision);
    }
    decision
}

#[test]
fn the_time_to_idle_needs_an_unbroken_watch() {
    let idle = |from: i64, to: i64| {
        (from..=to)
            .step_by(15)
            .map(|seconds| (seconds, Activity::Idle))
    };
    assert_eq!(watch(idle(0, 1_785)), ZeroDecision::Serve);
    assert_eq!(watch(idle(0, 1_800)), ZeroDecision::GoToZero);
    let gap = [(900, Activity::Unknown)];
    assert_eq!(
        watch(idle(0, 885).chain(gap).chain(idle(915, 1_800))),
        ZeroDecision::Serve
    );
    assert_eq!(
        watch(idle(0, 885).chain(gap).chain(idle(915, 2_715))),
        ZeroDecision::GoToZero
    );
    assert_eq!(
        watch(idle(0, 600).chain(idle(1_200, 1_800))),
        ZeroDecision::Serve
    );
}

/// Looks at an idle service every `seconds`, which is usual here, until it goes to zero.
fn idle_until_zero(seconds: i64) -> i64 {
    use crate::guard::Gap as Between;
    let mut memory = ZeroMemory::default();
    let usual = Duration::from_secs(seconds.unsigned_abs());
    for look in 0..1_000 {
        let gap = if look == 0 || usual <= UNWATCHED_MAX {
            Between::None
        } else {
            Between::Usual(usual)
        };
        let seen = ZeroInputs {
            gap,
            ..observed(Activity::Idle, Reading::KnownZero, 1, 1)
        };
        let verdict = decide(POLICY, &memory, &seen, at(look * seconds));
        memory = verdict.memory;
        if verdict.decision == ZeroDecision::GoToZero {
            return look * seconds;
        }
    }
    i64::MAX
}

#[rstest]
#[case(15, 1_800)]
#[case(90, 1_800)]
#[case(120, 2_400)]
#[case(600, 12_000)]
fn where_decisions_are_far_apart_idleness_counts_as_far_as_it_is_watched(
    #[case] seconds: i64,
    #[case] zero_after: i64,
) {
    assert_eq!(idle_until_zero(seconds), zero_after);
}

#[test]
fn a_service_that_somebody_woke_serves_for_the_whole_time_again() {
    let asleep = observed(Activity::Unknown, Reading::KnownZero, 0, 0);
    let memory = decide(POLICY, &going(), &asleep, at(0)).memory;
    let woken = observed(Activity::Idle, Reading::KnownZero, 1, 1);
    let verdict = decide(POLICY, &memory, &woken, at(15));
    assert_eq!(verdict.decision, ZeroDecision::Serve);
}

#[rstest]
#[case::all_zero(&[Reading::KnownZero, Reading::Value(0.0)], true, Activity::Idle)]
#[case::one_unknown(&[Reading::KnownZero, UNKNOWN], true, Activity::Unknown)]
#[case::not_all_scraped(&[Reading::KnownZero], false, Activity::Unknown)]
#[case::one_above_zero(&[UNKNOWN, Reading::Value(0.5)], false, Activity::Busy)]
#[case::nothing_measured(&[], true, Activity::Unknown)]
#[case::not_a_number(&[Reading::Value(f64::NAN)], true, Activity::Unknown)]
fn activity_takes_knowledge(
    #[case] readings: &[Reading],
    #[case] complete: bool,
    #[case] want: Activity,
) {
    assert_eq!(Activity::judge(readings, complete), want);
}

#[test]
fn memory_of_zero_stays_small() {
    let stamp = Some(Timestamp::from_millis(i64::MIN));
    let memory = ZeroMemory {
        idle_since: stamp,
        idle_seen_at: stamp,
        going_since: stamp,
        wake_unknown_since: stamp,
    };
    let json = serde_json::to_string(&memory).unwrap();
    assert!(json.len() <= 160, "{} bytes", json.len());
    assert_eq!(serde_json::from_str::<ZeroMemory>(&json).unwrap(), memory);
    assert_eq!(
        serde_json::from_str::<ZeroMemory>("{}").unwrap(),
        ZeroMemory::default()
    );
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        Just(Reading::KnownZero),
        Just(UNKNOWN),
        Just(Reading::Value(f64::NAN)),
        (0.0..3.0f64).prop_map(Reading::Value),
    ]
}

fn any_activity() -> impl Strategy<Value = Activity> {
    prop_oneof![
        3 => Just(Activity::Idle),
        1 => Just(Activity::Busy),
        1 => Just(Activity::Unknown),
    ]
}

proptest! {
    /// Writes may reach one role only, people may set any number, and time may jump: zero is for
    /// both or none, and only after a full watch of known idleness.
    #[test]
    fn no_role_ever_goes_to_zero_alone(
        walk in prop::collection::vec(
            (any_activity(), any_reading(), 0i64..2_000, 0u32..4, 0u32..4, 0u8..8), 1..60),
        wanted in (0u32..50, 0u32..50),
        least in 0u32..5,
    ) {
        let bounds = Bounds { min_replicas: least, max_replicas: 8 };
        let bounds = PerRole { prefill: bounds, decode: bounds };
        let wanted = PerRole { prefill: wanted.0, decode: wanted.1 };
        let (mut memory, mut seconds) = (ZeroMemory::default(), 0);
        let mut current = PerRole { prefill: 1, decode: 1 };
        for (activity, wake, step, prefill, decode, event) in walk {
            seconds += step - 5;
            let mut seen = observed(activity, wake, current.prefill, current.decode);
            seen.roles.prefill.terminating = prefill;
            let verdict = decide(POLICY, &memory, &seen, at(seconds));
            let replicas = requested(verdict.decision, wanted, bounds);
            prop_assert_eq!(replicas.prefill == 0, replicas.decode == 0);
            let asleep = current == PerRole::default();
            if replicas.prefill == 0 && !asleep {
                prop_assert_eq!(wake.known(), Some(0.0));
                prop_assert_ne!(activity, Activity::Busy);
            }
            let again = decide(POLICY, &verdict.memory, &seen, at(seconds));
            prop_assert_eq!(requested(again.decision, wanted, bounds), replicas);
            memory = verdict.memory;
            current = match event {
                0 => PerRole { prefill, decode },
                1 => PerRole { prefill: replicas.prefill, ..current },
                2 => PerRole { decode: replicas.decode, ..current },
                _ => replicas,
            };
        }
    }
}
