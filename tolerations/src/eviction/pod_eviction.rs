//! One pod's place in the queue: stays, waits for a deadline, goes, is gone.
//!
//! Everything is judged by [`PodEviction::judge`] with the node's taints; the clocks it keeps are
//! the pod's own and the one that the cluster's controller keeps for the stored list. A pod that
//! goes can still be kept while nothing was done to it: a rise of the value cancels it as it
//! cancels a deadline. Two things cannot be undone: a request under way, and the group that has
//! lost its first pod.

use std::{mem, time::Duration};

use jiff::Timestamp;

use super::{
    Evaluation, Pending, TolerationPeriod, evaluate,
    request::{By, DeadlineChange, EvictionOptions, EvictionRequest, PlacedPod, RequestOutcome},
    rules::{Because, Judgement},
};
use crate::{Taint, time::Moment};

/// Pause before the second attempt; it doubles up to [`PAUSE_MOST`].
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// Pause after an eviction that a disruption budget did not allow.
const PAUSE_REFUSED: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Stays,
    Waits {
        pending: Pending,
        because: Because,
        by: By,
    },
    /// The cluster deletes it at once; should it not, there is no deadline to remember.
    ClusterEnds,
    Goes(Going),
    /// It was asked to go.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Going {
    because: Because,
    due: Timestamp,
    /// The deadline that ran out; nothing for a pod that had none.
    expired: Option<Pending>,
    /// When it is tried next.
    next: Timestamp,
    attempt: u32,
    in_flight: bool,
    /// Whether the domain's bucket was charged for it.
    is_paid: bool,
}

impl Going {
    const fn new(
        because: Because,
        due: Timestamp,
        expired: Option<Pending>,
        now: Timestamp,
    ) -> Self {
        Self {
            because,
            due,
            expired,
            next: now,
            attempt: 0,
            in_flight: false,
            is_paid: false,
        }
    }

    const fn is_of_a_group(&self) -> bool {
        matches!(self.because, Because::Group { .. })
    }
}

/// One pod and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct PodEviction {
    pod: PlacedPod,
    state: State,
    /// The deletion that the cluster's own controller has pending.
    cluster: Option<Pending>,
}

impl PodEviction {
    pub(super) const fn new(pod: PlacedPod) -> Self {
        Self {
            pod,
            state: State::Stays,
            cluster: None,
        }
    }

    pub(super) const fn pod(&self) -> &PlacedPod {
        &self.pod
    }

    /// Puts a newer version of the pod in, and returns the older one if anything that counts
    /// differs.
    pub(super) fn replace_pod(&mut self, pod: PlacedPod) -> Option<PlacedPod> {
        // The deadline of an earlier process counts once.
        let pod = PlacedPod {
            persisted: self.pod.persisted,
            ..pod
        };
        (self.pod != pod).then(|| mem::replace(&mut self.pod, pod))
    }

    pub(super) const fn is_ours(&self) -> bool {
        matches!(self.state, State::Goes(_) | State::Waits { by: By::Us, .. })
    }

    /// Whether it was asked to go, or is being asked.
    pub(super) const fn is_on_its_way(&self) -> bool {
        match &self.state {
            State::Goes(going) => going.in_flight,
            State::Gone => true,
            _ => false,
        }
    }

    /// Whether a pod that vanished until `end` went because of its taints.
    pub(super) fn was_kept_by(&self, end: Timestamp) -> bool {
        match &self.state {
            State::Waits { pending, .. } => pending.due <= end,
            State::ClusterEnds => true,
            State::Goes(going) => !going.is_of_a_group(),
            State::Stays | State::Gone => false,
        }
    }

    /// When to look at it next, and its deadline.
    pub(super) const fn timer(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.state {
            State::Waits {
                pending,
                by: By::Us,
                ..
            } => Some((pending.due, pending.due)),
            State::Goes(going) if !going.in_flight => Some((going.next, going.due)),
            _ => None,
        }
    }

    /// Judges it by its node's taints as they are now.
    pub(super) fn judge(
        &mut self,
        taints: &[Taint],
        options: EvictionOptions,
        now: Timestamp,
    ) -> Option<DeadlineChange> {
        let persisted = self.pod.persisted.take();
        if self.is_on_its_way()
            || matches!(&self.state, State::Goes(going) if going.is_of_a_group())
        {
            return None;
        }
        let before = self.pending().or(persisted);
        let Some(rules) = &self.pod.rules else {
            self.cluster = None;
            return self.stays(persisted.is_some());
        };
        let judgement = rules.judge(taints);
        let cluster = evaluate(judgement.cluster, self.cluster, now);
        self.cluster = match cluster {
            Evaluation::Wait(pending) => Some(pending),
            Evaluation::Keep | Evaluation::Delete => None,
        };
        let outcome = adjusted(&judgement, before, options, now);
        // A group leaves together, which only we see to.
        let by = if self.pod.group.is_none() && is_no_later(cluster, outcome) {
            By::Cluster
        } else {
            By::Us
        };
        let Some(because) = judgement.because else {
            return self.stays(persisted.is_some());
        };
        match outcome {
            Evaluation::Keep => self.stays(persisted.is_some()),
            Evaluation::Wait(pending) => self.waits(pending, because, by),
            Evaluation::Delete if by == By::Cluster => {
                let pending = Pending {
                    since: now,
                    due: now,
                };
                let before = mem::replace(&mut self.state, State::ClusterEnds);
                let pod = self.pod.id.clone();
                (before != State::ClusterEnds).then_some(DeadlineChange::Waits {
                    pod,
                    pending,
                    because,
                    by,
                })
            }
            Evaluation::Delete => {
                self.goes(because, now);
                None
            }
        }
    }

    fn pending(&self) -> Option<Pending> {
        match &self.state {
            State::Waits { pending, .. } => Some(*pending),
            State::Goes(going) => going.expired,
            State::Stays | State::ClusterEnds | State::Gone => None,
        }
    }

    fn stays(&mut self, had_persisted: bool) -> Option<DeadlineChange> {
        let by = match mem::replace(&mut self.state, State::Stays) {
            State::Waits { by, .. } => by,
            State::Goes(_) => By::Us,
            State::ClusterEnds => By::Cluster,
            State::Stays | State::Gone if had_persisted => By::Us,
            State::Stays | State::Gone => return None,
        };
        let pod = self.pod.id.clone();
        Some(DeadlineChange::Cancelled { pod, by })
    }

    fn waits(&mut self, pending: Pending, because: Because, by: By) -> Option<DeadlineChange> {
        if let State::Goes(going) = &mut self.state
            && going.expired == Some(pending)
        {
            going.because = because;
            return None;
        }
        let change = DeadlineChange::Waits {
            pod: self.pod.id.clone(),
            pending: match by {
                By::Us => pending,
                By::Cluster => self.cluster.unwrap_or(pending),
            },
            because: because.clone(),
            by,
        };
        let is_known = matches!(&self.state, State::Waits { pending: known, by: who, .. } if (*known, *who) == (pending, by));
        self.state = State::Waits {
            pending,
            because,
            by,
        };
        (!is_known).then_some(change)
    }

    fn goes(&mut self, because: Because, now: Timestamp) {
        if let State::Goes(going) = &mut self.state {
            going.because = because;
            going.expired = None;
        } else {
            self.state = State::Goes(Going::new(because, now, None, now));
        }
    }

    /// Gives the request if it is time and `charge` allows it; else it is tried when `charge` says.
    pub(super) fn request(
        &mut self,
        now: Timestamp,
        charge: impl FnOnce() -> Result<(), Timestamp>,
    ) -> Option<EvictionRequest> {
        if let State::Waits {
            pending,
            because,
            by: By::Us,
        } = &self.state
            && pending.due <= now
        {
            let going = Going::new(because.clone(), pending.due, Some(*pending), now);
            self.state = State::Goes(going);
        }
        let State::Goes(going) = &mut self.state else {
            return None;
        };
        if going.in_flight || going.next > now {
            return None;
        }
        if !going.is_paid
            && let Err(then) = charge()
        {
            going.next = then;
            return None;
        }
        going.is_paid = true;
        going.in_flight = true;
        Some(EvictionRequest {
            pod: self.pod.id.clone(),
            node: self.pod.node.clone(),
            because: going.because.clone(),
            due: going.due,
            attempt: going.attempt,
        })
    }

    /// Notes what became of a request, and returns whether its group follows.
    pub(super) fn finish(&mut self, outcome: RequestOutcome, now: Timestamp) -> bool {
        let State::Goes(going) = &mut self.state else {
            return false;
        };
        let doubled = 1_u32.checked_shl(going.attempt).unwrap_or(u32::MAX);
        let pause = match outcome {
            RequestOutcome::Leaves => {
                let leads = !going.is_of_a_group();
                self.state = State::Gone;
                return leads;
            }
            RequestOutcome::Refused => PAUSE_REFUSED,
            RequestOutcome::Failed => PAUSE.saturating_mul(doubled).min(PAUSE_MOST),
        };
        going.in_flight = false;
        going.attempt = going.attempt.saturating_add(1);
        going.next = now.later(pause);
        false
    }

    /// Goes because `first` of its group has gone.
    pub(super) fn follow(&mut self, first: &str, now: Timestamp) {
        let because = Because::Group {
            first: first.to_owned(),
        };
        match &mut self.state {
            State::Gone => {}
            State::Goes(going) => going.because = because,
            _ => self.state = State::Goes(Going::new(because, now, None, now)),
        }
        if let State::Goes(going) = &mut self.state {
            going.is_paid = true;
            going.next = going.next.min(now);
        }
    }
}

/// Upstream's evaluation, but for the deadlines that options move.
fn adjusted(
    judgement: &Judgement,
    pending: Option<Pending>,
    options: EvictionOptions,
    now: Timestamp,
) -> Evaluation {
    if let (TolerationPeriod::For(span), Some(pending)) = (judgement.period, pending) {
        let due = pending.since.later(span);
        if options.shorten && due < pending.due || options.lengthen && due > pending.due {
            let since = pending.since;
            return Evaluation::Wait(Pending { since, due });
        }
    }
    evaluate(judgement.period, pending, now)
}

/// Whether the cluster ends the pod's time as early as we would.
fn is_no_later(cluster: Evaluation, ours: Evaluation) -> bool {
    match (cluster, ours) {
        (_, Evaluation::Keep) | (Evaluation::Delete, _) => true,
        (Evaluation::Wait(cluster), Evaluation::Wait(ours)) => cluster.due <= ours.due,
        (Evaluation::Keep | Evaluation::Wait(_), _) => false,
    }
}
