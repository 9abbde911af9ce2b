//! Scale-up requests that are stuck: replicas that were requested and do not come.
//!
//! Until a deadline nothing more is requested. Then the request is cancelled: the role goes down to
//! the replicas that serve or really start, and a back-off that doubles passes before the next
//! request. Meanwhile the other role grows within the budget, instead of both waiting for GPUs that
//! do not exist.
//!
//! A cancellation takes back replicas that never served. It is no scale-down of serving capacity,
//! never goes below the ready replicas, and so needs no metrics, no window and no scale-down
//! policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    reason::Reason,
    role::Role,
    role_state::StuckCause,
    step::{Stage, Step},
    time::Timestamp,
};

/// The first back-off; each further cancellation in a row doubles it.
pub const BACKOFF_MIN: Duration = Duration::from_mins(5);

/// The longest back-off.
pub const BACKOFF_MAX: Duration = Duration::from_hours(1);

/// A request that nobody reports as stuck counts as late when nothing has arrived for so long, and
/// for [`LATE_LEADS`] times the p90 of the lead time.
pub const LATE_MIN: Duration = Duration::from_mins(10);

/// Longest wait for replicas that do not come because something is broken.
const BROKEN_MAX: Duration = Duration::from_mins(5);

/// See [`LATE_MIN`].
pub const LATE_LEADS: u32 = 3;

/// A request that is not seen stuck for so long is moving again: a crash loop runs between crashes.
const LOOSE_AFTER: Duration = Duration::from_mins(2);

/// So long after the end of a back-off without trouble, earlier cancellations are forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// How long to wait before the request is cancelled, where `late_after` is how long the user waits
/// for any request. A node autoscaler needs minutes to bring a node for a pod that is
/// unschedulable, so that has all of it; a request that is late has had its time.
fn deadline(cause: StuckCause, late_after: Duration) -> Duration {
    match cause {
        StuckCause::Unschedulable => late_after,
        StuckCause::QuotaExceeded
        | StuckCause::ImagePull
        | StuckCause::CrashLoop
        | StuckCause::CreateFailed => late_after.min(BROKEN_MAX),
        StuckCause::Late => Duration::ZERO,
    }
}

/// The state of a role's replicas that do not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StuckState {
    /// Replicas requested.
    pub current: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Fewest replicas the user allows: a request is not cancelled below it.
    pub min_replicas: u32,
    /// Replicas that the observer sees stuck, and why.
    pub stuck: Option<(u32, StuckCause)>,
    /// How long nothing has arrived while replicas are pending, from `LeadTimes::waiting`.
    pub waiting: Option<Duration>,
    /// The role's lead time, p90.
    pub lead_p90: Duration,
    /// Least time without any arrival after which a request counts as late.
    pub late_after: Duration,
}

impl StuckState {
    fn serving(&self) -> u32 {
        self.ready.min(self.current)
    }

    /// Stuck replicas and why; reported ones come before late ones.
    fn stuck_now(&self) -> Option<(u32, StuckCause)> {
        let pending = self.current - self.serving();
        let late_after = self
            .late_after
            .max(self.lead_p90.saturating_mul(LATE_LEADS));
        let late = self.waiting.is_some_and(|waiting| waiting >= late_after);
        self.stuck
            .map(|(count, cause)| (count.min(pending), cause))
            .filter(|&(count, _)| count > 0)
            .or_else(|| (late && pending > 0).then_some((pending, StuckCause::Late)))
    }

    /// Replicas that stay when the request is cancelled: those that serve or really start, never
    /// none.
    fn kept(&self) -> u32 {
        let stuck = self.stuck_now().map_or(0, |(count, _)| count);
        (self.current - stuck).max(self.min_replicas).max(1)
    }
}

/// Memory of a role's stuck requests. Less than 200 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StuckMemory {
    /// Since when replicas are stuck, and when they last were.
    episode: Option<(Timestamp, Timestamp)>,
    /// The last cancellation, while it counts.
    cancelled: Option<Cancellation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancellation {
    /// Cancellations in a row.
    count: u8,
    cause: StuckCause,
    /// When more may be requested again.
    retry_at: Timestamp,
    /// Replicas that stayed.
    ceiling: u32,
}

impl StuckMemory {
    /// Most replicas the role may request while a back-off runs: the solve takes it for its
    /// maximum, so that the other role gets the rest of the budget.
    pub fn ceiling(&self, now: Timestamp) -> Option<u32> {
        self.backing_off(now).map(|cancelled| cancelled.ceiling)
    }

    fn backing_off(&self, now: Timestamp) -> Option<Cancellation> {
        self.cancelled.filter(|cancelled| now < cancelled.retry_at)
    }

    /// Keeps the episode, and forgets a cancellation that has been served since or is long past.
    fn note(&mut self, state: &StuckState, stuck: bool, now: Timestamp) {
        self.episode = match (self.episode, stuck) {
            (Some((since, _)), true) => Some((since, now)),
            (None, true) => Some((now, now)),
            (Some((_, seen)), false) if now.since(seen) > LOOSE_AFTER => None,
            (episode, false) => episode,
        };
        let over = self.cancelled.is_some_and(|cancelled| {
            let served = state.serving() > cancelled.ceiling;
            let past = now.since(cancelled.retry_at) > FORGET_AFTER && self.episode.is_none();
            served || past
        });
        if over {
            self.cancelled = None;
        }
    }

    fn cancel(&mut self, cause: StuckCause, ceiling: u32, now: Timestamp) -> Duration {
        let before = self.cancelled.map_or(0, |cancelled| cancelled.count);
        let factor = 1u32.checked_shl(before.into()).unwrap_or(u32::MAX);
        let backoff = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        self.cancelled = Some(Cancellation {
            count: before.saturating_add(1),
            cause,
            retry_at: now.plus(backoff),
            ceiling,
        });
        self.episode = None;
        backoff
    }
}

/// Replicas of `wanted` that may be requested while replicas are stuck.
///
/// Fewer than `wanted` only takes back or does not repeat replicas that do not come: the result is
/// never below both `wanted` and the serving replicas. Calling twice at the same moment gives the
/// same.
pub fn cancel(
    role: Role,
    wanted: u32,
    state: &StuckState,
    memory: &mut StuckMemory,
    now: Timestamp,
) -> (u32, Option<Step>) {
    let stuck = state.stuck_now();
    memory.note(state, stuck.is_some(), now);
    let step = |reason, message| Some(Step::of_role(Stage::Guard, role, reason, message));
    if let Some(cancelled) = memory.backing_off(now) {
        let most = cancelled.ceiling.max(state.kept());
        if wanted <= most {
            return (wanted, None);
        }
        let message = format!(
            "{wanted} replicas are wanted; more than {most} did not come ({}) and are requested again in {} s",
            cancelled.cause.as_str(),
            cancelled.retry_at.since(now).as_secs()
        );
        return (most, step(Reason::ScaleUpBackedOff, message));
    }
    let (Some((count, cause)), Some((since, _))) = (stuck, memory.episode) else {
        return (wanted, None);
    };
    let (stuck_for, deadline) = (now.since(since), deadline(cause, state.late_after));
    let (current, kept) = (state.current, state.kept());
    if stuck_for >= deadline && kept < current && wanted > kept {
        let backoff = memory.cancel(cause, kept, now);
        let message = format!(
            "{count} of {current} replicas do not come ({}); the request is cancelled down to {kept} and not \
             repeated for {} s",
            cause.as_str(),
            backoff.as_secs()
        );
        return (kept, step(Reason::ScaleUpCancelled, message));
    }
    let most = wanted.min(current.max(kept));
    let message = format!(
        "{count} of {current} replicas have not come for {} s ({}); no more are requested, and after \
         {} s the request is cancelled",
        stuck_for.as_secs(),
        cause.as_str(),
        deadline.as_secs()
    );
    let held = wanted >= current;
    (
        most,
        step(Reason::ScaleUpBackedOff, message).filter(|_| held),
    )
}

#[cfg(test)]
mod tests;
