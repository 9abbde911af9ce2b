//! Scale-up requests that are stuck: replicas that were requested and do not come.
//!
//! Two causes foretell that new pods fail as well: no node for them, and no quota. Replicas for
//! which no pod exists and none starts count as such too. Until a deadline nothing more is
//! requested. Then the request is cancelled: the role goes down to the replicas that served or
//! really start, and the other role grows within the budget, instead of both waiting for GPUs that
//! do not exist. After a pause one replica is requested again, as a *probe*, and stays requested
//! until it comes: so the back-off ends when its cause does, and not at a time of its own.
//!
//! A pod that starts without trouble is waited for, however long it takes, and one that is broken
//! says nothing about the next: it is no capacity, and is in `broken`.
//!
//! A cancellation takes back replicas that never served. It is no scale-down of serving capacity,
//! and so needs no metrics, no window and no scale-down policy. During a rollout there is none:
//! replicas that do not come then may be old ones that left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    reason::Reason,
    role::Role,
    role_state::StuckCause,
    step::{Stage, Step},
    time::Timestamp,
};

/// The pause between a cancellation and its probe.
pub const BACKOFF: Duration = Duration::from_mins(5);

/// A request that nobody reports as stuck counts as late when nothing starts and nothing has
/// arrived for so long, and for [`LATE_LEADS`] times the p90 of the lead time.
pub const LATE_MIN: Duration = Duration::from_mins(10);

/// As [`LATE_MIN`] where replicas start: they are cancelled only when they hang. No model takes so
/// long to load; with a lead time that is longer, [`LATE_LEADS`] times that.
pub const HANGS_AFTER: Duration = Duration::from_hours(1);

/// See [`LATE_MIN`].
pub const LATE_LEADS: u32 = 3;

/// Longest wait for a quota: nobody brings one as a node is brought.
const QUOTA_MAX: Duration = Duration::from_mins(5);

/// A request that is not seen stuck for so long is moving again: causes come and go while a
/// scheduler or a controller tries again.
const LOOSE_AFTER: Duration = Duration::from_mins(2);

/// So long after a cancellation without another, earlier ones are forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(2);

/// Most doublings of a deadline.
const DOUBLINGS_MAX: u8 = 3;

/// The state of a role's replicas that do not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StuckState {
    /// Replicas requested.
    pub current: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that exist and do not serve.
    pub starting: u32,
    /// Replicas that have served, as far as they are still requested: they are never cancelled.
    pub served: u32,
    /// The pods are being replaced.
    pub rolling_out: bool,
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

    /// The time that the user, or thrice the lead time, gives any request; twice as long for each
    /// of the `cancelled` ones of late, which show that it was too short.
    fn patience(&self, least: Duration, cancelled: u8) -> Duration {
        let patience = least.max(self.lead_p90.saturating_mul(LATE_LEADS));
        patience.saturating_mul(1 << cancelled.min(DOUBLINGS_MAX))
    }

    /// How long to wait before the request is cancelled. A node autoscaler needs minutes to bring a
    /// node for a pod that is unschedulable; a request that is late has had its time.
    fn deadline(&self, cause: StuckCause, cancelled: u8) -> Duration {
        match cause {
            StuckCause::Unschedulable => self.patience(self.late_after, cancelled),
            StuckCause::QuotaExceeded => self.late_after.min(QUOTA_MAX),
            _ => Duration::ZERO,
        }
    }

    /// Replicas that do not come, and why, if the next would not come either; reported ones come
    /// before late ones.
    fn stuck_now(&self, cancelled: u8) -> Option<(u32, StuckCause)> {
        if self.rolling_out {
            return None;
        }
        let pending = self.current - self.serving();
        let reported = self.stuck.filter(|(count, _)| *count > 0);
        if let Some((count, cause)) = reported {
            let counts = cause.foretells() && pending > 0;
            return counts.then_some((count.min(pending), cause));
        }
        let least = if self.starting > 0 {
            self.late_after.max(HANGS_AFTER)
        } else {
            self.late_after
        };
        let late = self
            .waiting
            .is_some_and(|waiting| waiting >= self.patience(least, cancelled));
        (late && pending > 0).then_some((pending, StuckCause::Late))
    }

    /// Replicas that stay when `stuck` ones are cancelled: those that served or really start, never
    /// none.
    fn kept(&self, stuck: u32) -> u32 {
        let served = self.served.max(self.serving()).min(self.current);
        (self.current - stuck.min(self.current))
            .max(served)
            .max(self.min_replicas)
            .max(1)
    }
}

/// Memory of a role's stuck requests. Less than 250 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StuckMemory {
    /// The time for which replicas are stuck.
    episode: Option<Episode>,
    /// The last cancellation, until what it waits for is seen to come.
    cancelled: Option<Cancellation>,
    /// Cancellations in a row, and when the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted: Option<(u8, Timestamp)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Episode {
    since: Timestamp,
    /// When replicas were last seen stuck.
    seen: Timestamp,
    /// Replicas that were requested then. More are another request, with a time of its own.
    requested: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancellation {
    cause: StuckCause,
    /// When one more may be requested again.
    retry_at: Timestamp,
    /// Replicas that stayed.
    ceiling: u32,
    /// Since when more than those are requested and nothing is wrong with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loose_since: Option<Timestamp>,
}

impl StuckMemory {
    /// Most replicas the role may request until the cause of a cancellation is gone: the solve
    /// takes it for its maximum, so that the other role gets the rest of the budget.
    pub fn ceiling(&self, now: Timestamp) -> Option<u32> {
        let Cancellation {
            retry_at, ceiling, ..
        } = self.cancelled?;
        let probe = u32::from(now >= retry_at);
        Some(ceiling.saturating_add(probe))
    }

    /// Cancellations of late before the present request.
    fn count(&self) -> u8 {
        let count = self.counted.map_or(0, |(count, _)| count);
        count.saturating_sub(u8::from(self.backs_off()))
    }

    /// Events of long ago, and stamps that lie ahead, are no memory; but for the end of a pause
    /// that is no longer than one.
    fn forget(&mut self, now: Timestamp) {
        self.episode = self.episode.filter(|episode| episode.seen <= now);
        self.counted = self
            .counted
            .filter(|(_, at)| *at <= now && now.since(*at) <= FORGET_AFTER);
        if let Some(cancelled) = &mut self.cancelled {
            cancelled.retry_at = cancelled.retry_at.min(now.plus(BACKOFF));
            cancelled.loose_since = cancelled.loose_since.filter(|since| *since <= now);
        }
    }

    /// Keeps the episode, and forgets a cancellation whose cause is gone.
    fn note(&mut self, state: &StuckState, stuck: bool, now: Timestamp) {
        // After a gap nobody knows whether it was stuck all the time.
        let known = self
            .episode
            .filter(|episode| now.since(episode.seen) <= LOOSE_AFTER);
        self.episode = match known {
            known if !stuck => known,
            Some(known) if state.current <= known.requested => Some(Episode {
                since: known.since,
                seen: now,
                requested: state.current,
            }),
            _ => Some(Episode {
                since: now,
                seen: now,
                requested: state.current,
            }),
        };
        let Some(cancelled) = &mut self.cancelled else {
            return;
        };
        let requested = state.current > cancelled.ceiling;
        cancelled.loose_since = (requested && !stuck && !state.rolling_out)
            .then(|| cancelled.loose_since.unwrap_or(now));
        let moves = cancelled
            .loose_since
            .is_some_and(|since| now.since(since) >= LOOSE_AFTER);
        if moves || state.serving() > cancelled.ceiling {
            self.cancelled = None;
        }
    }

    fn cancel(&mut self, cause: StuckCause, ceiling: u32, now: Timestamp) {
        self.counted = Some((self.count().saturating_add(1).min(DOUBLINGS_MAX), now));
        self.cancelled = Some(Cancellation {
            cause,
            retry_at: now.plus(BACKOFF),
            ceiling,
            loose_since: None,
        });
        self.episode = None;
    }

    /// Whether a cancelled request waits for its cause to go.
    pub const fn backs_off(&self) -> bool {
        self.cancelled.is_some()
    }
}

/// Replicas of `wanted` that may be requested while replicas are stuck.
///
/// Fewer than `wanted` only takes back or does not repeat replicas that do not come: the result is
/// never below both `wanted` and the replicas that served. Calling twice at the same moment gives
/// the same.
pub fn cancel(
    role: Role,
    wanted: u32,
    state: &StuckState,
    memory: &mut StuckMemory,
    now: Timestamp,
) -> (u32, Option<Step>) {
    memory.forget(now);
    let mut stuck = state.stuck_now(memory.count());
    let backed_off_before = memory.backs_off();
    memory.note(state, stuck.is_some(), now);
    if backed_off_before && !memory.backs_off() {
        // The next request has a longer time.
        stuck = state.stuck_now(memory.count());
    }
    let step = |reason, message| Some(Step::of_role(Stage::Guard, role, reason, message));
    if let (Some(cancelled), Some(ceiling)) = (memory.cancelled, memory.ceiling(now)) {
        let starts = state.kept(stuck.map_or(0, |(count, _)| count));
        let most = ceiling.max(starts);
        if wanted <= most {
            return (wanted, None);
        }
        let message = backed_off(wanted, most, &cancelled, now);
        return (most, step(Reason::ScaleUpBackedOff, message));
    }
    let (Some((count, cause)), Some(episode)) = (stuck, memory.episode) else {
        return (wanted, None);
    };
    let (stuck_for, deadline) = (
        now.since(episode.since),
        state.deadline(cause, memory.count()),
    );
    let (current, kept) = (state.current, state.kept(count));
    if stuck_for >= deadline && kept < current && wanted > kept {
        memory.cancel(cause, kept, now);
        let message = format!(
            "{count} of {current} replicas do not come ({}); the request is cancelled down to {kept}, \
             and one replica is requested again in {} s",
            cause.as_str(),
            BACKOFF.as_secs()
        );
        return (kept, step(Reason::ScaleUpCancelled, message));
    }
    let most = wanted.min(current.max(kept));
    let then = if kept < current {
        format!(
            ", and after {} s the request is cancelled",
            deadline.as_secs()
        )
    } else {
        String::new()
    };
    let message = format!(
        "{count} of {current} replicas have not come for {} s ({}); no more are requested{then}",
        stuck_for.as_secs(),
        cause.as_str()
    );
    let held = wanted >= current;
    (
        most,
        step(Reason::ScaleUpBackedOff, message).filter(|_| held),
    )
}

fn backed_off(wanted: u32, most: u32, cancelled: &Cancellation, now: Timestamp) -> String {
    let cause = cancelled.cause.as_str();
    if now < cancelled.retry_at {
        let seconds = cancelled.retry_at.since(now).as_secs();
        return format!(
            "{wanted} replicas are wanted; more than {most} did not come ({cause}), and one more is \
             requested again in {seconds} s"
        );
    }
    format!(
        "{wanted} replicas are wanted; more than {} did not come ({cause}), and the rest is requested \
         again in a moment after one more comes",
        cancelled.ceiling
    )
}

#[cfg(test)]
mod tests;
