//! Both roles to zero together when no request comes, and back when one does.
//!
//! A service with prefill and no decode serves nobody, and so does one with decode and no prefill:
//! here they go together or not at all. Going down takes knowledge: the service must have been
//! known to be idle, without a break, for the whole time the user set, and the wake signal must say
//! that nothing waits. A gap in either starts the time again; idleness is never inferred from a
//! gap. Where decisions are always far apart, each time between two of them counts as far as it was
//! watched.
//!
//! At zero there is nothing to scrape, so missing engine metrics are normal and change nothing. The
//! wake signal alone decides. When it is not known for [`WAKE_UNKNOWN_MAX`], the service is woken:
//! replicas that nobody uses cost money, and users that nobody serves cost more. A short outage of
//! Prometheus, though, must not start every sleeping service of a cluster.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    guard::Gap,
    reason::Reason,
    role::{PerRole, Role},
    role_state::RoleState,
    signal::Reading,
    step::{Stage, Step},
    time::{Timestamp, UNWATCHED_MAX},
};

/// How long the wake signal may be unknown at zero before the service is woken.
pub const WAKE_UNKNOWN_MAX: Duration = Duration::from_mins(5);

/// When a service may go to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleToZero {
    /// How long it must have been known to be idle, above zero.
    pub idle_after: Duration,
}

/// Memory of the last decision about zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZeroMemory {
    /// Since when the service is known to be idle without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// When it was last seen idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seen_at: Option<Timestamp>,
    /// Since when going to zero is decided and not yet seen done for both roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub going_since: Option<Timestamp>,
    /// Since when the wake signal is not known while both roles are at zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_unknown_since: Option<Timestamp>,
}

/// Whether anybody uses the service, as far as its workers' metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Requests arrive, wait or run.
    Busy,
    /// Nothing arrives, waits or runs, and every ready worker says so.
    Idle,
    /// Some of it is not known.
    Unknown,
}

impl Activity {
    /// From the requests that arrive, wait and run. One number above zero is enough for `Busy`,
    /// even from some of the workers only; `Idle` takes zeros from all, which `complete` states.
    pub fn judge(readings: &[Reading], complete: bool) -> Self {
        let known = |reading: &Reading| reading.known();
        if readings.iter().filter_map(known).any(|n| n > 0.0) {
            Self::Busy
        } else if complete && !readings.is_empty() && readings.iter().all(|r| known(r).is_some()) {
            Self::Idle
        } else {
            Self::Unknown
        }
    }
}

/// Observations that a decision about zero rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZeroInputs {
    /// Whether anybody uses the service.
    pub activity: Activity,
    /// Requests that wait at the gateway.
    pub wake: Reading,
    /// The workloads as they are.
    pub roles: PerRole<RoleState>,
    /// The time since the decision before. What was not watched of it is not counted as idle.
    pub gap: Gap,
}

/// The action about zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZeroDecision {
    /// Serve: the need decides, and both roles keep at least their minimum.
    Serve,
    /// Both roles go to zero.
    GoToZero,
    /// Both roles stay at zero.
    StayAtZero,
    /// Both roles come back, to at least their minimum.
    Wake,
    /// Both roles come back before their last replicas have left.
    CancelDown,
}

impl ZeroDecision {
    /// Whether both roles are to have no replicas.
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::GoToZero | Self::StayAtZero)
    }
}

/// A decision about zero, with its step and its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroVerdict {
    /// The action.
    pub decision: ZeroDecision,
    /// Why, unless the service just serves.
    pub step: Option<Step>,
    /// Argument of the next call.
    pub memory: ZeroMemory,
}

/// Decides whether the service goes to zero, stays there, or comes back.
///
/// Deciding again at the same moment with the returned memory gives the same decision.
pub fn decide(
    policy: ScaleToZero,
    memory: &ZeroMemory,
    observed: &ZeroInputs,
    now: Timestamp,
) -> ZeroVerdict {
    let mut memory = *memory;
    memory.see_activity(observed.activity, observed.gap, now);
    let at_zero = Role::ALL.map(|role| observed.roles[role].current == 0);
    let (decision, why) = match at_zero {
        [true, true] => at_rest(&mut memory, observed, now),
        [false, false] => awake(policy, &memory, observed, now),
        _ => half_way(&memory, observed),
    };
    if at_zero != [true, true] {
        memory.wake_unknown_since = None;
    }
    match decision {
        ZeroDecision::GoToZero => {
            memory.going_since.get_or_insert(now);
        }
        // The time to idle starts again when the service serves again. Since when the wake signal
        // is unknown is kept: the write that wakes may have to be tried again.
        ZeroDecision::Wake | ZeroDecision::CancelDown => {
            memory = ZeroMemory {
                wake_unknown_since: memory.wake_unknown_since,
                ..ZeroMemory::default()
            }
        }
        ZeroDecision::Serve | ZeroDecision::StayAtZero => memory.going_since = None,
    }
    let step = why.map(|(reason, message)| Step::of_both(Stage::Bounds, reason, message));
    ZeroVerdict {
        decision,
        step,
        memory,
    }
}

impl ZeroMemory {
    fn see_activity(&mut self, activity: Activity, gap: Gap, now: Timestamp) {
        let unseen = self.idle_seen_at.map(|seen| now.since(seen));
        let usual = match gap {
            Gap::Usual(time) => time,
            Gap::None | Gap::Sudden => UNWATCHED_MAX,
        };
        let watched = unseen.is_some_and(|unseen| unseen <= usual);
        match activity {
            Activity::Idle if watched => {
                let since = self.idle_since.unwrap_or(now);
                // With a window of none, all that was not watched.
                let counted = since.plus(gap.unwatched(Duration::ZERO));
                self.idle_since = Some(counted.min(now));
            }
            Activity::Idle => self.idle_since = Some(now),
            Activity::Busy | Activity::Unknown => self.idle_since = None,
        }
        self.idle_seen_at = self.idle_since.map(|_| now);
    }
}

type Why = Option<(Reason, String)>;

/// Requests known to wait at the gateway.
fn waiting(observed: &ZeroInputs) -> Option<f64> {
    observed.wake.known().filter(|count| *count > 0.0)
}

/// Both roles serve.
fn awake(
    policy: ScaleToZero,
    memory: &ZeroMemory,
    observed: &ZeroInputs,
    now: Timestamp,
) -> (ZeroDecision, Why) {
    let Some(since) = memory.idle_since else {
        return (ZeroDecision::Serve, None);
    };
    let (idle, needed) = (now.since(since), policy.idle_after);
    if idle < needed || waiting(observed).is_some() {
        return (ZeroDecision::Serve, None);
    }
    let seconds = idle.as_secs();
    if let Some(gap) = observed.wake.gap() {
        let message = format!(
            "idle for {seconds} s, and replicas stay because the wake signal is not known: {}",
            gap.as_text()
        );
        return (ZeroDecision::Serve, Some((Reason::ZeroNotSafe, message)));
    }
    let message = format!(
        "idle for {seconds} s of the {} s that scale to zero requires, and nothing waits",
        needed.as_secs()
    );
    (
        ZeroDecision::GoToZero,
        Some((Reason::ScaledToZero, message)),
    )
}

/// Neither role has a replica requested. Workers on their way out may still show a request.
fn at_rest(memory: &mut ZeroMemory, observed: &ZeroInputs, now: Timestamp) -> (ZeroDecision, Why) {
    let leaving = Role::ALL.map(|role| observed.roles[role].terminating);
    let leaving = leaving.into_iter().fold(0, u32::saturating_add);
    let left = observed.roles.iter().any(|(_, state)| state.ready > 0);
    let reason = match (waiting(observed), observed.activity) {
        (Some(count), _) => format!("{count:.0} requests wait"),
        (None, Activity::Busy) => "requests are still served".to_owned(),
        (None, _) => return asleep(memory, observed, now),
    };
    if leaving > 0 || left {
        let message = format!("{reason} while the last replicas are leaving");
        (
            ZeroDecision::CancelDown,
            Some((Reason::ScaleDownCancelled, message)),
        )
    } else {
        let message = format!("{reason}, and the service is at zero");
        (ZeroDecision::Wake, Some((Reason::Waking, message)))
    }
}

/// At zero, and no request is known to wait.
fn asleep(memory: &mut ZeroMemory, observed: &ZeroInputs, now: Timestamp) -> (ZeroDecision, Why) {
    let Some(gap) = observed.wake.gap() else {
        memory.wake_unknown_since = None;
        return (ZeroDecision::StayAtZero, None);
    };
    let since = *memory.wake_unknown_since.get_or_insert(now);
    let unknown = now.since(since);
    let (gap, seconds) = (gap.as_text(), unknown.as_secs());
    if unknown < WAKE_UNKNOWN_MAX {
        let message = format!(
            "the wake signal is not known for {seconds} s ({gap}); the service is woken after {} s",
            WAKE_UNKNOWN_MAX.as_secs()
        );
        return (
            ZeroDecision::StayAtZero,
            Some((Reason::WakeSignalMissing, message)),
        );
    }
    let message =
        format!("the wake signal is not known for {seconds} s ({gap}), and requests may wait");
    (
        ZeroDecision::Wake,
        Some((Reason::WakeSignalMissing, message)),
    )
}

/// One role is at zero and the other is not: our own change half done, or somebody else's.
fn half_way(memory: &ZeroMemory, observed: &ZeroInputs) -> (ZeroDecision, Why) {
    let going = memory.going_since.is_some();
    let quiet = observed.activity != Activity::Busy && observed.wake.known() == Some(0.0);
    if going && quiet {
        let message = "one role is at zero already, and the other follows".to_owned();
        return (
            ZeroDecision::GoToZero,
            Some((Reason::ScaledToZero, message)),
        );
    }
    if going {
        let message = "requests come while the service goes to zero".to_owned();
        return (
            ZeroDecision::CancelDown,
            Some((Reason::ScaleDownCancelled, message)),
        );
    }
    let message = "one role alone at zero serves nobody; it comes back".to_owned();
    (ZeroDecision::Wake, Some((Reason::RoleAloneAtZero, message)))
}

#[cfg(test)]
mod tests;
