//! How long a running pod may stay on a node with `NoExecute` taints, as the taint-eviction
//! controller decides it.
//!
//! Each taint is answered by the **first** toleration in list order that tolerates it. One without
//! an answer: delete now. Else the least `tolerationSeconds` of the answers counts; none of them
//! bounded: stay. The span runs from the evaluation, never from the taint's own time.
//!
//! A pending deletion is kept as it is when a later evaluation is bounded too: neither a value that
//! changed nor edited seconds move it (kubernetes #102993, #108982). It ends when every taint is
//! gone or tolerated forever. Upstream keeps it in memory, so that a restart starts the span again:
//! `None` as the pending deletion is a restart.
//!
//! [`rules`] judges a rewritten pod on a node, [`queue`] keeps who goes when in a whole cluster,
//! [`rate_limit`] how fast.
//!
//! Source: kubernetes `pkg/controller/tainteviction/taint_eviction.go` and `timed_workers.go`.

mod pod_eviction;
pub mod queue;
pub mod rate_limit;
pub mod request;
pub mod rules;

use std::time::Duration;

use jiff::Timestamp;

use super::{Comparison, Effect, Taint, Toleration, node::first_toleration};
use crate::time::Moment;

/// Nanoseconds of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// How long the pod may stay, counted from the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationPeriod {
    /// No taint bounds it.
    Forever,
    /// This long, more than zero.
    For(Duration),
    /// Not at all.
    Over,
}

/// A deletion to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The evaluation that asked for it.
    pub since: Timestamp,
    /// When the pod is deleted.
    pub due: Timestamp,
}

/// The result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {
    /// Nothing to do; a pending deletion is cancelled.
    Keep,
    /// Wait for this deletion.
    Wait(Pending),
    /// Delete the pod now; a pending deletion is replaced by it.
    Delete,
}

/// How long a pod with `tolerations` may stay on a node with `taints`. Taints with other effects do
/// not count.
pub fn toleration_period(
    taints: &[Taint],
    tolerations: &[Toleration],
    comparison: Comparison,
) -> TolerationPeriod {
    let evicting = taints
        .iter()
        .filter(|taint| taint.effect == Effect::NoExecute);
    period_of(evicting.map(|taint| {
        let index = first_toleration(tolerations, taint, comparison)?;
        Some(tolerations.get(index)?.toleration_seconds)
    }))
}

/// How long a pod may stay whose `NoExecute` taints have these answers: nothing for an untolerated
/// taint, else the `tolerationSeconds` of the first toleration that tolerates it.
pub fn period_of(answers: impl IntoIterator<Item = Option<Option<i64>>>) -> TolerationPeriod {
    let mut least: Option<i64> = None;
    for answer in answers {
        let Some(seconds) = answer else {
            return TolerationPeriod::Over;
        };
        if let Some(seconds) = seconds {
            least = Some(least.map_or(seconds, |least| least.min(seconds)));
        }
    }
    least.map_or(TolerationPeriod::Forever, span)
}

/// Upstream multiplies in 64 bits, so that more than about 292 years wrap around; a wrapped
/// negative span counts as no bound, and so does the largest number of seconds, which upstream uses
/// for "none found".
fn span(seconds: i64) -> TolerationPeriod {
    if seconds <= 0 {
        return TolerationPeriod::Over;
    }
    if seconds == i64::MAX {
        return TolerationPeriod::Forever;
    }
    match seconds.wrapping_mul(NANOSECONDS) {
        0 => TolerationPeriod::Over,
        nanoseconds if nanoseconds < 0 => TolerationPeriod::Forever,
        nanoseconds => TolerationPeriod::For(Duration::from_nanos(nanoseconds.unsigned_abs())),
    }
}

/// The result of `period` at `now`, after an evaluation that may have left a deletion `pending`.
pub fn evaluate(period: TolerationPeriod, pending: Option<Pending>, now: Timestamp) -> Evaluation {
    match (period, pending) {
        (TolerationPeriod::Forever, _) => Evaluation::Keep,
        (TolerationPeriod::Over, _) => Evaluation::Delete,
        // Two evaluations at the very same moment are the only case in which upstream replaces the
        // deletion.
        (TolerationPeriod::For(_), Some(pending)) if pending.since < now => {
            Evaluation::Wait(pending)
        }
        (TolerationPeriod::For(span), _) => Evaluation::Wait(Pending {
            since: now,
            due: now.later(span),
        }),
    }
}
