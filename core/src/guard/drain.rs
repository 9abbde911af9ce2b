//! Replicas that leave: no more are taken away until they are gone.
//!
//! A replica that leaves may have minutes of answers to end, and those who send requests take a
//! moment to notice. Taking the next ones meanwhile can take more than the evidence knew. The wait
//! is bounded, because a pod on a node that is lost leaves for ever, and it is only for replicas
//! that a change took away: those that a rollout replaces leave as well.

use std::time::Duration;

use crate::{
    reason::Reason,
    replicas::ReplicaChange,
    role::Role,
    role_state::RoleState,
    step::{Stage, Step},
    time::Timestamp,
};

/// `wanted`, or the replicas that there are while those taken away less than `timeout` ago are
/// still leaving.
pub fn await_drain(
    role: Role,
    wanted: u32,
    state: &RoleState,
    changes: &[ReplicaChange],
    timeout: Option<Duration>,
    now: Timestamp,
) -> (u32, Option<Step>) {
    let (current, leaving) = (state.current, state.terminating);
    let lowered = changes.iter().filter(|change| change.to < change.from);
    let past = lowered.map(|change| now.since(change.at)).min();
    let waits = timeout.zip(past).filter(|(most, past)| past < most);
    let Some((most, past)) = waits.filter(|_| wanted < current && leaving > 0) else {
        return (wanted, None);
    };
    let message = format!(
        "{wanted} replicas are wanted, and {leaving} are still leaving after {} s; {current} stay \
         until they are gone, at most {} s",
        past.as_secs(),
        most.as_secs()
    );
    let step = Step::of_role(Stage::Guard, role, Reason::WaitsForDrain, message);
    (current, Some(step))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn change(seconds: i64, from: u32, to: u32) -> ReplicaChange {
        let at = at(seconds);
        ReplicaChange { at, from, to }
    }

    /// 4 replicas at 600 s, with changes before.
    #[rstest]
    #[case::they_leave(Some(300), 2, 1, &[change(500, 6, 4)], 4)]
    #[case::they_are_gone(Some(300), 2, 0, &[change(500, 6, 4)], 2)]
    #[case::for_too_long(Some(100), 2, 1, &[change(500, 6, 4)], 2)]
    #[case::just_in_time(Some(101), 2, 1, &[change(500, 6, 4)], 4)]
    #[case::nobody_waits(None, 2, 1, &[change(500, 6, 4)], 2)]
    #[case::no_time_to_wait(Some(0), 2, 1, &[change(600, 6, 4)], 2)]
    #[case::more_are_wanted(Some(300), 7, 1, &[change(500, 6, 4)], 7)]
    #[case::as_many(Some(300), 4, 1, &[change(500, 6, 4)], 4)]
    #[case::a_rollout(Some(300), 2, 1, &[], 2)]
    #[case::since_they_grew(Some(300), 2, 1, &[change(500, 2, 4)], 2)]
    #[case::grew_after(Some(300), 2, 1, &[change(400, 6, 3), change(500, 3, 4)], 4)]
    #[case::the_last_counts(Some(150), 2, 1, &[change(300, 8, 6), change(500, 6, 4)], 4)]
    fn no_more_go_while_those_before_are_leaving(
        #[case] timeout: Option<u64>,
        #[case] wanted: u32,
        #[case] terminating: u32,
        #[case] changes: &[ReplicaChange],
        #[case] want: u32,
    ) {
        let state = RoleState {
            current: 4,
            ready: 4,
            terminating,
            ..RoleState::default()
        };
        let timeout = timeout.map(Duration::from_secs);
        let (replicas, step) = await_drain(Role::Decode, wanted, &state, changes, timeout, at(600));
        assert_eq!((replicas, step.is_some()), (want, want != wanted));
    }
}
