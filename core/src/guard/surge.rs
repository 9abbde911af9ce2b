//! Rollouts: pods of a surge are neither replicas nor capacity twice.
//!
//! A rolling update runs pods beyond the replicas asked for, and takes them away again at its end.
//! What a pool will have is the replicas asked for, as far as they serve. What was *measured*, such as
//! a mean over workers, still belongs to all pods that were measured, and a total over them is that
//! mean times the scraped pods, surge included. Mixing the two is how a rollout looks like a need.

use crate::snapshot::RoleState;

/// Replicas that serve and stay: the capacity to size with. Surge pods are not in it.
pub const fn serving(state: &RoleState) -> u32 {
    if state.ready < state.current {
        state.ready
    } else {
        state.current
    }
}

/// Pods beyond the replicas asked for that are not on their way out yet. Also above zero in the
/// moment after replicas were lowered.
pub const fn surge(state: &RoleState) -> u32 {
    state
        .ready
        .saturating_add(state.starting)
        .saturating_sub(state.current)
}

/// Whether the numbers show a rollout: new pods start although all that were asked for serve, or
/// more serve than were asked for.
///
/// A rollout without surge looks like lost pods that come back, and is not told apart by numbers.
pub const fn rolling_out(state: &RoleState) -> bool {
    surge(state) > 0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::settled(8, 8, 0, 8, 0)]
    #[case::surge_starts(8, 8, 2, 8, 2)]
    #[case::surge_serves(8, 10, 0, 8, 2)]
    #[case::old_pods_go_first(8, 6, 2, 6, 0)]
    #[case::growing(8, 5, 3, 5, 0)]
    #[case::asked_while_surging(12, 10, 2, 10, 0)]
    #[case::just_lowered(4, 8, 0, 4, 4)]
    #[case::nothing(0, 0, 0, 0, 0)]
    #[case::absurd(1, u32::MAX, u32::MAX, 1, u32::MAX - 1)]
    fn surge_pods_are_not_capacity(
        #[case] current: u32,
        #[case] ready: u32,
        #[case] starting: u32,
        #[case] want_serving: u32,
        #[case] want_surge: u32,
    ) {
        let state = RoleState {
            current,
            ready,
            starting,
            ..RoleState::default()
        };
        assert_eq!((serving(&state), surge(&state)), (want_serving, want_surge));
        assert_eq!(rolling_out(&state), want_surge > 0);
    }
}
