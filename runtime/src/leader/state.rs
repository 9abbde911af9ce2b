//! The rules of Lease leader election, without clocks, randomness or I/O.
//!
//! Owns the decision: what the last seen lease and the time since it last changed allow this
//! process to do. All ages are measured on this process's monotonic clock, from the moment a change
//! was *seen* here; the times written in the lease are compared for equality only. So neither a
//! wrong wall clock nor a jump of one can end or prolong a lease.
//!
//! Safety rests on three facts. A leader counts its term from before it asked for the renewal, and
//! gives up after the renew deadline; a follower counts from after it saw the renewal, and waits
//! the longer lease duration. Every write names the resource version it replaces, so of two
//! candidates one is refused. A term is known by holder *and* acquire time, so that a namesake (the
//! same container restarted, or a pod name used twice) is never taken for oneself.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};

/// The duration a released lease carries: the API wants a positive one, and nobody waits for it.
const RELEASED_SECONDS: i32 = 1;

/// The longest lease duration: a leader that dies without releasing leaves the cluster without one
/// for so long.
const LEASE_DURATION_MAX: Duration = Duration::from_hours(1);

/// The three durations of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why three durations do not make an election.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Followers could take over before the leader has stepped down.
    #[error(
        "lease duration `{}` must be longer than the renew deadline `{}`, or two processes may lead at once",
        humantime::format_duration(*lease_duration), humantime::format_duration(*renew_deadline)
    )]
    LeaseTooShort {
        /// The lease duration asked for.
        lease_duration: Duration,
        /// The renew deadline asked for.
        renew_deadline: Duration,
    },
    /// The leader would step down between two renewals.
    #[error(
        "renew deadline `{}` must be longer than the retry period `{}`, or no leader can renew in time",
        humantime::format_duration(*renew_deadline), humantime::format_duration(*retry_period)
    )]
    DeadlineTooShort {
        /// The renew deadline asked for.
        renew_deadline: Duration,
        /// The retry period asked for.
        retry_period: Duration,
    },
    /// A dead leader would not be replaced for longer than anyone can want.
    #[error(
        "lease duration `{}` is too long: a leader that dies blocks its successor for so long, use at most `1h`",
        humantime::format_duration(*lease_duration)
    )]
    LeaseTooLong {
        /// The lease duration asked for.
        lease_duration: Duration,
    },
    /// Candidates would ask without a pause.
    #[error("retry period `0s` must be positive, such as `2s`")]
    RetryZero,
}

impl Timing {
    /// Checks that 0 < `retry_period` < `renew_deadline` < `lease_duration` <= 1 h.
    pub fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        if retry_period.is_zero() {
            return Err(TimingError::RetryZero);
        }
        if renew_deadline <= retry_period {
            return Err(TimingError::DeadlineTooShort {
                renew_deadline,
                retry_period,
            });
        }
        if lease_duration <= renew_deadline {
            return Err(TimingError::LeaseTooShort {
                lease_duration,
                renew_deadline,
            });
        }
        if lease_duration > LEASE_DURATION_MAX {
            return Err(TimingError::LeaseTooLong { lease_duration });
        }
        Ok(Self {
            lease_duration,
            renew_deadline,
            retry_period,
        })
    }

    /// How long a leader goes on without a successful renewal.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The pause between two attempts.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// The lease duration as the API carries it: whole seconds, rounded up so that nobody waits too
    /// briefly.
    fn lease_seconds(&self) -> i32 {
        let whole =
            self.lease_duration.as_secs() + u64::from(self.lease_duration.subsec_nanos() > 0);
        i32::try_from(whole).unwrap_or(i32::MAX)
    }
}

/// The next step of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the lease to begin a term.
    Acquire,
    /// Write the lease to go on with the present term.
    Renew,
    /// Write nothing, and look again, at the latest when the lease in sight runs out.
    Wait {
        /// Monotonic time at which the lease in sight runs out.
        until: Duration,
    },
    /// Stop leading before doing anything else.
    StepDown(Reason),
}

/// Why a leader steps down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No renewal succeeded within the renew deadline.
    RenewDeadline,
    /// The lease names another term: somebody took it or cleared it.
    Taken {
        /// The holder now, if the lease has one.
        by: Option<String>,
    },
}

/// One candidate's view of the election. All `now` are monotonic times since a moment of the
/// caller's choice.
#[derive(Debug, Clone)]
pub struct Election {
    identity: String,
    timing: Timing,
    observed: Option<Observed>,
    /// The acquire time of the last term this process asked for, answered or not.
    term: Option<MicroTime>,
    leading: Option<Leading>,
}

#[derive(Debug, Clone)]
struct Observed {
    lease: Option<LeaseSpec>,
    changed_at: Duration,
    /// Whether this process has looked only once.
    first: bool,
}

/// A term in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leading {
    /// When the term began.
    pub since: Duration,
    /// When the term ends unless it is renewed before.
    pub until: Duration,
}

impl Election {
    /// A candidate that has seen nothing yet.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            observed: None,
            term: None,
            leading: None,
        }
    }

    /// The name this candidate writes into the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The durations of the election.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The term in progress, if this candidate leads.
    pub fn leading(&self) -> Option<Leading> {
        self.leading
    }

    /// Whoever the last seen lease names, this candidate included.
    pub fn holder(&self) -> Option<&str> {
        self.observed.as_ref()?.lease.as_ref().and_then(holder)
    }

    /// Takes note of the lease as read at `now`; `None` when there is none.
    pub fn observe(&mut self, lease: Option<&LeaseSpec>, now: Duration) {
        let (changed_at, first) = match &self.observed {
            Some(seen) if seen.lease.as_ref() == lease => (seen.changed_at, false),
            Some(_) => (now, false),
            None => (now, true),
        };
        self.observed = Some(Observed {
            lease: lease.cloned(),
            changed_at,
            first,
        });
    }

    /// The step to take at `now`.
    pub fn decide(&self, now: Duration) -> Action {
        let Some(observed) = &self.observed else {
            return Action::Wait { until: now };
        };
        match self.leading {
            Some(leading) if now >= leading.until => Action::StepDown(Reason::RenewDeadline),
            Some(_) => match &observed.lease {
                None => Action::Acquire,
                Some(lease) if self.is_own_term(lease) => Action::Renew,
                Some(lease) => Action::StepDown(Reason::Taken {
                    by: holder(lease).map(str::to_owned),
                }),
            },
            None => self.decide_as_follower(observed, now),
        }
    }

    fn decide_as_follower(&self, observed: &Observed, now: Duration) -> Action {
        let Some(lease) = &observed.lease else {
            return Action::Acquire;
        };
        let Some(holder) = holder(lease) else {
            return Action::Acquire;
        };
        // At the first look, one's own name belongs to a former life of this container, which has
        // ended.
        let former_life = observed.first && holder == self.identity;
        let until = observed.changed_at + self.promised_duration(lease);
        if former_life || self.is_own_term(lease) || now >= until {
            Action::Acquire
        } else {
            Action::Wait { until }
        }
    }

    /// The lease to write for [`Action::Acquire`] and [`Action::Renew`], at wall-clock time `wall`.
    pub fn proposal(&mut self, wall: Timestamp) -> LeaseSpec {
        let now = micro(wall);
        let previous = self
            .observed
            .as_ref()
            .and_then(|observed| observed.lease.clone());
        let mut lease = previous.clone().unwrap_or_default();
        if !previous
            .as_ref()
            .is_some_and(|previous| self.is_own_term(previous))
        {
            lease.acquire_time = Some(now.clone());
            lease.lease_transitions = Some(match &previous {
                None => 0,
                Some(previous) => {
                    let changes_holder = holder(previous) != Some(&self.identity);
                    let count = previous.lease_transitions.unwrap_or(0).max(0);
                    count.saturating_add(i32::from(changes_holder))
                }
            });
            // Kept even when the answer is lost: a term that began unheard is found again by it.
            self.term = Some(now.clone());
        }
        lease.holder_identity = Some(self.identity.clone());
        lease.lease_duration_seconds = Some(self.timing.lease_seconds());
        lease.renew_time = Some(now);
        lease
    }

    /// Takes note that the API server accepted `lease`, which was sent at `sent_at` and answered at
    /// `now`.
    pub fn accepted(&mut self, lease: &LeaseSpec, sent_at: Duration, now: Duration) {
        self.observe(Some(lease), now);
        let since = self.leading.map_or(now, |leading| leading.since);
        self.leading = Some(Leading {
            since,
            until: sent_at + self.timing.renew_deadline,
        });
    }

    /// Ends the term in this candidate's view. The lease itself is left to run out.
    pub fn step_down(&mut self) {
        self.leading = None;
    }

    /// Whether this candidate ever asked for a term, and so may have something to release.
    pub fn has_stood(&self) -> bool {
        self.term.is_some()
    }

    /// Ends the term in this candidate's view, and gives the lease to write so that another
    /// candidate can take over at once; `None` when the last seen lease is not this candidate's to
    /// release.
    pub fn release(&mut self, wall: Timestamp) -> Option<LeaseSpec> {
        self.leading = None;
        let lease = self.observed.as_ref()?.lease.clone()?;
        self.is_own_term(&lease).then(|| LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(RELEASED_SECONDS),
            acquire_time: Some(micro(wall)),
            renew_time: Some(micro(wall)),
            ..lease
        })
    }

    fn is_own_term(&self, lease: &LeaseSpec) -> bool {
        holder(lease) == Some(&self.identity)
            && self.term.is_some()
            && lease.acquire_time == self.term
    }

    /// The duration the holder promised to renew within; it may run with other settings than this
    /// candidate.
    fn promised_duration(&self, lease: &LeaseSpec) -> Duration {
        let seconds = lease
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(self.timing.lease_duration, Duration::from_secs)
    }
}

fn holder(lease: &LeaseSpec) -> Option<&str> {
    lease
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

/// The time as the API keeps it, in microseconds, so that what is read back equals what was
/// written.
fn micro(wall: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall))
}

#[cfg(test)]
mod tests;
