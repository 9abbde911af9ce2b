//! Stuck requests through their life: waiting, cancelled, backing off, requested again, served.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    guard::await_releases,
    lead::{LeadTimes, Watched},
    role::PerRole,
    testing,
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
}

fn state(current: u32, ready: u32, stuck: u32, cause: StuckCause) -> StuckState {
    StuckState {
        current,
        ready,
        min_replicas: 1,
        starting: current.saturating_sub(ready),
        served: ready.min(current),
        stuck: Some((stuck, cause)),
        lead_p90: Duration::from_mins(2),
        late_after: LATE_MIN,
        ..StuckState::default()
    }
}

/// Decides every 15 s from `from` to `until`, applying each result; a role without GPUs for more
/// than `serving`. Gives the (second, replicas) of each change.
fn played(memory: &mut StuckMemory, wanted: u32, serving: u32, until: u64) -> Vec<(u64, u32)> {
    let mut current = wanted;
    let mut path = vec![(0, current)];
    for second in (0..=until).step_by(15) {
        let stuck = current.saturating_sub(serving);
        let state = state(current, serving, stuck, StuckCause::Unschedulable);
        let (next, _) = cancel(Role::Decode, wanted, &state, memory, at(second));
        if next != current {
            path.push((second, next));
        }
        current = next;
    }
    path
}

#[test]
fn a_stuck_request_is_cancelled_and_one_of_it_is_requested_again_until_it_comes() {
    let mut memory = StuckMemory::default();
    let path = played(&mut memory, 6, 4, 10_800);
    assert_eq!(path, [(0, 6), (600, 4), (900, 5)]);
    // The one starts, and when that has lasted for two minutes the rest is requested.
    let starts = StuckState {
        stuck: None,
        ..state(5, 4, 0, StuckCause::Unschedulable)
    };
    let mut decide = |second| cancel(Role::Decode, 6, &starts, &mut memory, at(second)).0;
    assert_eq!(decide(10_815), 5);
    assert_eq!(decide(10_920), 5);
    assert_eq!(decide(10_935), 6);
}

#[test]
fn each_cancellation_doubles_the_time_that_the_next_request_gets() {
    let mut memory = StuckMemory::default();
    let stuck = state(6, 4, 2, StuckCause::Unschedulable);
    let starts = StuckState {
        stuck: None,
        ..stuck
    };
    let mut waited = Vec::new();
    let mut second = 0;
    for _ in 0..6 {
        let from = second;
        while cancel(Role::Decode, 6, &stuck, &mut memory, at(second)).0 == 6 {
            second += 15;
        }
        waited.push((second - from) / 60);
        for _ in 0..40 {
            second += 15;
            cancel(Role::Decode, 6, &starts, &mut memory, at(second));
        }
        assert!(!memory.backs_off());
    }
    assert_eq!(waited, [10, 20, 40, 80, 80, 80]);
}

#[test]
fn a_rollout_cancels_nothing() {
    let mut memory = StuckMemory::default();
    let rolling = StuckState {
        rolling_out: true,
        ..state(6, 4, 2, StuckCause::QuotaExceeded)
    };
    for second in (0..7_200).step_by(15) {
        assert_eq!(
            cancel(Role::Decode, 6, &rolling, &mut memory, at(second)).0,
            6
        );
    }
}

#[test]
fn replicas_that_served_are_not_cancelled() {
    let mut memory = StuckMemory::default();
    let lost = StuckState {
        served: 6,
        ..state(8, 0, 8, StuckCause::Unschedulable)
    };
    let decided = (0..7_200)
        .step_by(15)
        .map(|second| cancel(Role::Decode, 8, &lost, &mut memory, at(second)).0);
    assert_eq!(decided.min(), Some(6));
}

#[rstest]
#[case::what_serves_stays(6, 4, 2, 6, 4)]
#[case::what_really_starts_stays(8, 4, 2, 8, 6)]
#[case::the_need_may_be_lower_than_what_serves(6, 4, 2, 3, 3)]
#[case::one_stays_although_none_serves(3, 0, 3, 3, 1)]
#[case::more_stuck_than_pending_is_not_believed(6, 5, 4, 6, 5)]
fn a_cancellation_never_takes_serving_replicas(
    #[case] current: u32,
    #[case] ready: u32,
    #[case] stuck: u32,
    #[case] wanted: u32,
    #[case] want: u32,
) {
    let mut memory = StuckMemory::default();
    let state = state(current, ready, stuck, StuckCause::QuotaExceeded);
    for second in (0..300).step_by(15) {
        cancel(Role::Decode, wanted, &state, &mut memory, at(second));
    }
    let (got, step) = cancel(Role::Decode, wanted, &state, &mut memory, at(300));
    assert_eq!(got, want);
    let cancelled = step.is_some_and(|step| {
        step.reason == Reason::ScaleUpCancelled && step.message.contains("QuotaExceeded")
    });
    assert_eq!(cancelled, wanted > want);
}

#[test]
fn the_minimum_of_the_user_is_not_cancelled() {
    let mut memory = StuckMemory::default();
    let state = StuckState {
        min_replicas: 6,
        ..state(6, 4, 2, StuckCause::QuotaExceeded)
    };
    for second in [0, 300, 3_000] {
        let (got, step) = cancel(Role::Decode, 8, &state, &mut memory, at(second));
        assert_eq!(got, 6, "neither less than the minimum nor more of the same");
        assert_eq!(step.map(|step| step.reason), Some(Reason::ScaleUpBackedOff));
    }
}

#[test]
fn while_a_request_is_stuck_no_more_is_requested() {
    let mut memory = StuckMemory::default();
    let stuck = state(6, 4, 2, StuckCause::Unschedulable);
    let (got, step) = cancel(Role::Decode, 10, &stuck, &mut memory, at(0));
    assert_eq!(
        (got, step.map(|step| step.reason)),
        (6, Some(Reason::ScaleUpBackedOff))
    );
    let (got, step) = cancel(Role::Decode, 3, &stuck, &mut memory, at(15));
    assert_eq!((got, step), (3, None), "fewer may always be wanted");
}

#[rstest]
#[case::at_the_least(120, 599, false)]
#[case::past_the_least(120, 600, true)]
#[case::three_leads(300, 899, false)]
#[case::past_three_leads(300, 900, true)]
fn a_request_far_beyond_the_lead_time_counts_as_stuck(
    #[case] lead_seconds: u64,
    #[case] waiting_seconds: u64,
    #[case] cancelled: bool,
) {
    let state = StuckState {
        stuck: None,
        starting: 0,
        waiting: Some(Duration::from_secs(waiting_seconds)),
        lead_p90: Duration::from_secs(lead_seconds),
        late_after: LATE_MIN,
        ..state(6, 4, 0, StuckCause::Late)
    };
    let (got, _) = cancel(Role::Prefill, 6, &state, &mut StuckMemory::default(), at(0));
    assert_eq!(got, if cancelled { 4 } else { 6 });
}

#[test]
fn a_request_that_nobody_explains_is_cancelled_by_its_lead_time_alone() {
    let (mut lead, mut memory) = (LeadTimes::default(), StuckMemory::default());
    let mut current = 4;
    let mut path = Vec::new();
    for second in (0..1_800).step_by(15) {
        // Two more are needed from the start; five pods are all that ever serve.
        let ready = if second < 120 { 4 } else { current.min(5) };
        let watched = Watched {
            current,
            ready,
            rolling: false,
            blocked: false,
            unwatched: false,
            requested_at: at(second),
        };
        lead.observe(&watched, at(second));
        let state = StuckState {
            current,
            ready,
            min_replicas: 1,
            served: ready,
            waiting: lead.waiting(at(second)),
            lead_p90: lead.p90(crate::lead::LEAD_PRIOR),
            late_after: LATE_MIN,
            ..StuckState::default()
        };
        let (next, _) = cancel(Role::Decode, 6, &state, &mut memory, at(second));
        if next != current {
            path.push((second, next));
        }
        current = next;
    }
    // The fifth arrives at 120 s; 10 min later the sixth is given up, and requested again 5 min on.
    assert_eq!(path, vec![(0, 6), (720, 5), (1_020, 6)]);
    assert_eq!(lead.samples(), 1);
}

#[rstest]
#[case::crash_loop(StuckCause::CrashLoop)]
#[case::image_pull(StuckCause::ImagePull)]
#[case::create_failed(StuckCause::CreateFailed)]
fn a_broken_replica_stops_and_cancels_nothing(#[case] cause: StuckCause) {
    let mut memory = StuckMemory::default();
    let broken = state(9, 8, 1, cause);
    for second in (0..7_200).step_by(15) {
        let got = cancel(Role::Decode, 12, &broken, &mut memory, at(second));
        assert_eq!(got, (12, None));
    }
}

#[rstest]
#[case::a_start_of_half_an_hour(1_800, 6)]
#[case::a_hang_of_an_hour(3_600, 4)]
fn a_replica_that_starts_without_trouble_is_waited_for(#[case] second: u64, #[case] want: u32) {
    let starts = StuckState {
        stuck: None,
        waiting: Some(Duration::from_secs(second)),
        ..state(6, 4, 0, StuckCause::Late)
    };
    let (got, _) = cancel(
        Role::Decode,
        6,
        &starts,
        &mut StuckMemory::default(),
        at(second),
    );
    assert_eq!(got, want);
}

#[test]
fn once_served_the_rest_is_requested_at_once() {
    let mut memory = StuckMemory::default();
    played(&mut memory, 6, 4, 1_600);
    assert_eq!(memory.ceiling(at(1_600)), Some(5));
    let served = StuckState {
        stuck: None,
        ..state(5, 5, 0, StuckCause::Unschedulable)
    };
    assert_eq!(
        cancel(Role::Decode, 6, &served, &mut memory, at(2_400)).0,
        6
    );
}

#[test]
fn replicas_that_a_person_adds_and_that_start_are_not_taken_back() {
    let mut memory = StuckMemory::default();
    played(&mut memory, 6, 4, 600);
    let starting = StuckState {
        stuck: None,
        ..state(7, 4, 0, StuckCause::Unschedulable)
    };
    let (got, _) = cancel(Role::Decode, 9, &starting, &mut memory, at(630));
    assert_eq!(got, 7);
}

#[test]
fn the_other_role_grows_into_the_budget_of_a_cancelled_request() {
    let load = testing::Load {
        rate_rps: 1.0,
        prefill_seconds: 0.1,
        output_tokens: 10.0,
    };
    // 10 pods of 4 GPUs are the budget; two of six decode pods never find a node.
    let mut snapshot = testing::snapshot(4, 6, load);
    snapshot.policy.budget_gpus = Some(40);
    snapshot.roles.decode.ready = 4;
    snapshot.roles.decode.starting = 2;
    let mut memory = StuckMemory::default();
    let stuck = state(6, 4, 2, StuckCause::Unschedulable);
    let mut decide = |snapshot: &crate::Snapshot, state, second| {
        let (decode, _) = cancel(Role::Decode, 6, state, &mut memory, at(second));
        let wanted = PerRole { prefill: 6, decode };
        await_releases(wanted, &snapshot.roles, snapshot.policy.budget_gpus).0
    };
    let pair = |prefill, decode| PerRole { prefill, decode };
    for second in (0..600).step_by(15) {
        assert_eq!(decide(&snapshot, &stuck, second), pair(4, 6));
    }
    assert_eq!(
        decide(&snapshot, &stuck, 600),
        pair(4, 4),
        "first the request is cancelled"
    );
    snapshot.roles.decode = testing::serving(4);
    let loose = state(4, 4, 0, StuckCause::Unschedulable);
    assert_eq!(decide(&snapshot, &loose, 615), pair(6, 4));
}

prop_compose! {
    fn any_state()(
        current in 0u32..40, ready in 0u32..40, min_replicas in 1u32..8, stuck in prop::option::of(0u32..50),
        cause in 0usize..5, waiting in prop::option::of(0u64..10_000), lead in 0u64..2_000,
        (starting, served, rolling_out) in (0u32..40, 0u32..40, any::<bool>()),
    ) -> StuckState {
        use StuckCause::{CrashLoop, CreateFailed, ImagePull, QuotaExceeded, Unschedulable};
        let causes = [Unschedulable, QuotaExceeded, ImagePull, CrashLoop, CreateFailed];
        StuckState {
            current,
            ready,
            starting,
            served,
            rolling_out,
            min_replicas,
            stuck: stuck.map(|count| (count, causes[cause])),
            waiting: waiting.map(Duration::from_secs),
            lead_p90: Duration::from_secs(lead),
            late_after: LATE_MIN,
        }
    }
}

proptest! {
    #[test]
    fn replicas_that_served_are_never_cancelled(
        series in prop::collection::vec((any_state(), 0u32..40, 0u64..2_000), 1..60),
    ) {
        let mut memory = StuckMemory::default();
        let mut now = 0;
        for (state, wanted, step) in series {
            now += step;
            let (got, _) = cancel(Role::Decode, wanted, &state, &mut memory, at(now));
            prop_assert!(got <= wanted);
            let floor = state.ready.max(state.served).min(state.current).max(state.min_replicas);
            prop_assert!(got >= floor.min(wanted));
            let once = memory;
            let (again, _) = cancel(Role::Decode, wanted, &state, &mut memory, at(now));
            prop_assert_eq!(again, got);
            prop_assert_eq!(memory.ceiling(at(now)), once.ceiling(at(now)));
            let text = serde_json::to_string(&memory).unwrap();
            prop_assert!(text.len() <= 250, "{} bytes", text.len());
            prop_assert_eq!(serde_json::from_str::<StuckMemory>(&text).unwrap(), memory);
        }
    }

    #[test]
    fn nothing_stuck_changes_nothing(current in 0u32..1_000, wanted in 0u32..1_000, now in 0u64..100_000) {
        let state = StuckState { current, ready: current, min_replicas: 1, ..StuckState::default() };
        let got = cancel(Role::Prefill, wanted, &state, &mut StuckMemory::default(), at(now));
        prop_assert_eq!(got, (wanted, None));
    }
}
