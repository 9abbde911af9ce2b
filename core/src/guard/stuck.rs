//! Asks that are stuck: replicas that were asked for and do not come.
//!
//! Until a deadline nothing more is asked for. Then the ask is withdrawn: the role goes down to what
//! serves or really starts, and a back-off that doubles passes before it asks again. Meanwhile the
//! other role grows within the budget, instead of both waiting for GPUs that do not exist.
//!
//! A withdrawal takes back what never served. It is no scale-down of serving capacity, never goes
//! below the ready replicas, and so needs no metrics, no window and no scale-down policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    report::{Reason, Stage, Step},
    role::Role,
    time::Timestamp,
};

/// The first back-off; each further withdrawal in a row doubles it.
pub const BACKOFF_LEAST: Duration = Duration::from_mins(5);

/// The longest back-off.
pub const BACKOFF_MOST: Duration = Duration::from_hours(1);

/// An ask that nobody reports as stuck counts as late when nothing has arrived for so long, and for
/// [`LATE_LEADS`] times the p90 of the lead time.
pub const LATE_LEAST: Duration = Duration::from_mins(10);

/// Longest wait for what does not come because something is broken.
const BROKEN_MOST: Duration = Duration::from_mins(5);

/// See [`LATE_LEAST`].
pub const LATE_LEADS: u32 = 3;

/// An ask that is not seen stuck for so long has come loose: a crash loop runs between its crashes.
const LOOSE_AFTER: Duration = Duration::from_mins(2);

/// So long after the end of a back-off without trouble, earlier withdrawals are forgotten.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// Why replicas do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StuckCause {
    /// The scheduler finds no node: the pod's `PodScheduled` condition says `Unschedulable`.
    Unschedulable,
    /// A `ResourceQuota` refuses the pods.
    QuotaExceeded,
    /// An image cannot be pulled.
    ImagePull,
    /// Containers start and end again and again.
    CrashLoop,
    /// The pods cannot be created for another reason, such as an admission webhook.
    CreateFailed,
    /// Nobody says why, but they are far beyond the role's lead time.
    Late,
}

impl StuckCause {
    /// The name as shown in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::ImagePull => "ImagePull",
            Self::CrashLoop => "CrashLoop",
            Self::CreateFailed => "CreateFailed",
            Self::Late => "Late",
        }
    }

    /// How long to wait before the ask is withdrawn, where `late_after` is how long the user waits for
    /// any ask. A node autoscaler needs minutes to bring a node for what is unschedulable, so that has
    /// all of it; what is late has had its time.
    pub fn deadline(self, late_after: Duration) -> Duration {
        match self {
            Self::Unschedulable => late_after,
            Self::QuotaExceeded | Self::ImagePull | Self::CrashLoop | Self::CreateFailed => {
                late_after.min(BROKEN_MOST)
            }
            Self::Late => Duration::ZERO,
        }
    }
}

/// What is known about a role's replicas that do not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StuckState {
    /// Replicas asked for.
    pub current: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Fewest replicas the user allows: an ask is not withdrawn below it.
    pub min_replicas: u32,
    /// Replicas that the observer sees stuck, and why.
    pub stuck: Option<(u32, StuckCause)>,
    /// How long nothing has arrived while replicas are pending, from `LeadTimes::waiting`.
    pub waiting: Option<Duration>,
    /// The role's lead time, p90.
    pub lead_p90: Duration,
    /// Least time without any arrival after which an ask counts as late.
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

    /// Replicas that stay when the ask is withdrawn: what serves or really starts, and never none.
    fn kept(&self) -> u32 {
        let stuck = self.stuck_now().map_or(0, |(count, _)| count);
        (self.current - stuck).max(self.min_replicas).max(1)
    }
}

/// What is remembered of a role's stuck asks. Less than 200 bytes of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StuckMemory {
    /// Since when replicas are stuck, and when they last were.
    episode: Option<(Timestamp, Timestamp)>,
    /// The last withdrawal, while it counts.
    withdrawn: Option<Withdrawn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Withdrawn {
    /// Withdrawals in a row.
    count: u8,
    cause: StuckCause,
    /// When more may be asked for again.
    retry_at: Timestamp,
    /// Replicas that stayed.
    ceiling: u32,
}

impl StuckMemory {
    /// Most replicas the role may ask for while a back-off runs: what the solve should take for its
    /// maximum, so that the other role gets the rest of the budget.
    pub fn ceiling(&self, now: Timestamp) -> Option<u32> {
        self.backing_off(now).map(|withdrawn| withdrawn.ceiling)
    }

    fn backing_off(&self, now: Timestamp) -> Option<Withdrawn> {
        self.withdrawn.filter(|withdrawn| now < withdrawn.retry_at)
    }

    /// Keeps the episode, and forgets a withdrawal whose ask has been served since or is long past.
    fn note(&mut self, state: &StuckState, stuck: bool, now: Timestamp) {
        self.episode = match (self.episode, stuck) {
            (Some((since, _)), true) => Some((since, now)),
            (None, true) => Some((now, now)),
            (Some((_, seen)), false) if now.since(seen) > LOOSE_AFTER => None,
            (episode, false) => episode,
        };
        let over = self.withdrawn.is_some_and(|withdrawn| {
            let served = state.serving() > withdrawn.ceiling;
            let past = now.since(withdrawn.retry_at) > FORGET_AFTER && self.episode.is_none();
            served || past
        });
        if over {
            self.withdrawn = None;
        }
    }

    fn withdraw(&mut self, cause: StuckCause, ceiling: u32, now: Timestamp) -> Duration {
        let before = self.withdrawn.map_or(0, |withdrawn| withdrawn.count);
        let factor = 1u32.checked_shl(before.into()).unwrap_or(u32::MAX);
        let backoff = BACKOFF_LEAST.saturating_mul(factor).min(BACKOFF_MOST);
        self.withdrawn = Some(Withdrawn {
            count: before.saturating_add(1),
            cause,
            retry_at: now.plus(backoff),
            ceiling,
        });
        self.episode = None;
        backoff
    }
}

/// What may be asked for of `wanted` while replicas are stuck.
///
/// Fewer than `wanted` only takes back or does not repeat what does not come: the result is never
/// below both `wanted` and the serving replicas. Calling twice at the same moment gives the same.
pub fn withdraw(
    role: Role,
    wanted: u32,
    state: &StuckState,
    memory: &mut StuckMemory,
    now: Timestamp,
) -> (u32, Option<Step>) {
    let stuck = state.stuck_now();
    memory.note(state, stuck.is_some(), now);
    let said = |reason, message| {
        Some(Step {
            stage: Stage::Guard,
            role: Some(role),
            reason,
            message,
        })
    };
    if let Some(withdrawn) = memory.backing_off(now) {
        let most = withdrawn.ceiling.max(state.kept());
        if wanted <= most {
            return (wanted, None);
        }
        let message = format!(
            "{wanted} are wanted; more than {most} did not come ({}) and are asked for again in {} s",
            withdrawn.cause.as_str(),
            withdrawn.retry_at.since(now).as_secs()
        );
        return (most, said(Reason::StuckWaiting, message));
    }
    let (Some((count, cause)), Some((since, _))) = (stuck, memory.episode) else {
        return (wanted, None);
    };
    let (stuck_for, deadline) = (now.since(since), cause.deadline(state.late_after));
    let (current, kept) = (state.current, state.kept());
    if stuck_for >= deadline && kept < current && wanted > kept {
        let backoff = memory.withdraw(cause, kept, now);
        let message = format!(
            "{count} of {current} replicas do not come ({}); the ask is withdrawn to {kept} and not \
             repeated for {} s",
            cause.as_str(),
            backoff.as_secs()
        );
        return (kept, said(Reason::StuckWithdrawn, message));
    }
    let most = wanted.min(current.max(kept));
    let message = format!(
        "{count} of {current} replicas have not come for {} s ({}); no more are asked for, and after \
         {} s the ask is withdrawn",
        stuck_for.as_secs(),
        cause.as_str(),
        deadline.as_secs()
    );
    let held = wanted >= current;
    (most, said(Reason::StuckWaiting, message).filter(|_| held))
}

#[cfg(test)]
mod tests;
