//! Replicas that are broken: their pods exist and will not serve without help, because an image
//! cannot be pulled, a container ends again and again, or cannot be created.
//!
//! A broken replica is no capacity, so another is requested in its place; not before it has been
//! broken for as long as the other takes to come, since it may be well again sooner. New pods may
//! be broken by the same fault. So at most half as many are replaced as serve: a fault of one pod
//! costs one replica, and a fault of all costs a known number and not ever more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{role_state::RoleState, time::Timestamp};

/// A replica that is not seen broken for so long is well again: a crash loop runs between crashes.
const WELL_AFTER: Duration = Duration::from_mins(2);

/// Memory of a role's broken replicas. Less than 100 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokenMemory(Option<Episode>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Episode {
    since: Timestamp,
    seen: Timestamp,
    /// Replicas that were broken when any last was.
    replicas: u32,
}

impl BrokenMemory {
    /// Takes in the state of the role. Gives the replicas that others shall stand in for; `lead` is
    /// how long a replica takes to come.
    pub fn replaced(&mut self, state: &RoleState, lead: Duration, now: Timestamp) -> u32 {
        let pending = state.current - state.serving();
        let broken = match state.stuck {
            Some((count, cause)) if !cause.foretells() && !state.is_rolling_out() => {
                count.min(pending)
            }
            _ => 0,
        };
        let known = self.0.filter(|episode| {
            episode.seen <= now && now.since(episode.seen) <= WELL_AFTER && pending > 0
        });
        self.0 = match (known, broken) {
            (known, 0) => known,
            (None, replicas) => Some(Episode {
                since: now,
                seen: now,
                replicas,
            }),
            (Some(known), replicas) => Some(Episode {
                since: known.since,
                seen: now,
                replicas,
            }),
        };
        let Some(episode) = self.0.filter(|episode| now.since(episode.since) >= lead) else {
            return 0;
        };
        episode
            .replicas
            .min(pending)
            .min(state.serving().div_ceil(2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::role_state::StuckCause;

    const LEAD: Duration = Duration::from_mins(2);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn state(current: u32, ready: u32, broken: u32, cause: StuckCause) -> RoleState {
        RoleState {
            current,
            ready,
            starting: current - ready,
            stuck: (broken > 0).then_some((broken, cause)),
            ..RoleState::default()
        }
    }

    #[rstest]
    #[case::one_of_nine(9, 8, 1, StuckCause::CrashLoop, 1)]
    #[case::one_of_two(2, 1, 1, StuckCause::ImagePull, 1)]
    #[case::a_third(9, 6, 3, StuckCause::ImagePull, 3)]
    #[case::half(8, 4, 4, StuckCause::CrashLoop, 2)]
    #[case::all(8, 0, 8, StuckCause::CrashLoop, 0)]
    #[case::no_node(8, 4, 4, StuckCause::Unschedulable, 0)]
    #[case::no_quota(8, 4, 4, StuckCause::QuotaExceeded, 0)]
    #[case::more_than_pending(8, 7, 4, StuckCause::CrashLoop, 1)]
    fn a_broken_replica_is_replaced_where_others_serve(
        #[case] current: u32,
        #[case] ready: u32,
        #[case] broken: u32,
        #[case] cause: StuckCause,
        #[case] want: u32,
    ) {
        let state = state(current, ready, broken, cause);
        let mut memory = BrokenMemory::default();
        let mut replaced = |second| memory.replaced(&state, LEAD, at(second));
        assert_eq!(replaced(0), 0, "it may be well again soon");
        assert_eq!(replaced(60), 0);
        assert_eq!(replaced(120), want);
        assert_eq!(replaced(120), want);
    }

    #[test]
    fn a_crash_loop_that_runs_for_a_moment_is_still_broken() {
        let crashing = state(9, 8, 1, StuckCause::CrashLoop);
        let running = state(9, 8, 0, StuckCause::CrashLoop);
        let mut memory = BrokenMemory::default();
        for second in (0..600).step_by(15) {
            let state = if second % 60 == 30 {
                &running
            } else {
                &crashing
            };
            let replaced = memory.replaced(state, LEAD, at(second));
            assert_eq!(replaced, u32::from(second >= 120));
        }
        assert_eq!(
            memory.replaced(&state(9, 9, 0, StuckCause::CrashLoop), LEAD, at(600)),
            0
        );
    }

    proptest! {
        #[test]
        fn new_replicas_that_are_all_broken_too_end_at_half_as_many_again(need in 1u32..60, ready in 0u32..60) {
            let mut memory = BrokenMemory::default();
            let (ready, mut current) = (ready.min(need), need);
            for tick in 0..200 {
                let state = state(current, ready.min(current), current - ready, StuckCause::ImagePull);
                current = need + memory.replaced(&state, LEAD, at(tick * 15));
            }
            prop_assert!(current <= need + ready.div_ceil(2));
            let text = serde_json::to_string(&memory).unwrap();
            prop_assert!(text.len() <= 100, "{} bytes", text.len());
        }
    }
}
