//! How long a running pod may stay on a node with `NoExecute` taints, as the taint-eviction controller decides it.
//!
//! Each taint is answered by the **first** toleration in list order that tolerates it. One without an answer: delete
//! now. Else the least `tolerationSeconds` of the answers counts; none of them bounded: stay. The span runs from the
//! evaluation, never from the taint's own time.
//!
//! A pending deletion is kept as it is when a later evaluation is bounded too: neither a value that changed nor
//! edited seconds move it (kubernetes #102993, #108982). It ends when every taint is gone or tolerated forever.
//! Upstream keeps it in memory, so that a restart starts the span anew: `None` as the pending deletion is a restart.
//!
//! [`wishes`] judges a rewritten pod on a node, [`agenda`] keeps who goes when in a whole cluster, [`pace`] how fast.
//!
//! Source: kubernetes `pkg/controller/tainteviction/taint_eviction.go` and `timed_workers.go`.

pub mod agenda;
mod appointment;
pub mod pace;
pub mod wishes;

use std::time::Duration;

use jiff::Timestamp;

use super::{Comparison, Effect, Taint, Toleration, node::first_toleration};
use crate::time::later;

/// Nanoseconds of a second.
const NANOSECONDS: i64 = 1_000_000_000;

/// How long the pod may stay, counted from the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
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

/// What an evaluation leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do; a pending deletion is cancelled.
    Keep,
    /// Wait for this deletion.
    Wait(Pending),
    /// Delete the pod now; a pending deletion is replaced by it.
    Delete,
}

/// How long a pod with `tolerations` may stay on a node with `taints`. Taints with other effects do not count.
pub fn stay(taints: &[Taint], tolerations: &[Toleration], comparison: Comparison) -> Stay {
    let evicting = taints
        .iter()
        .filter(|taint| taint.effect == Effect::NoExecute);
    stay_of(evicting.map(|taint| {
        let index = first_toleration(tolerations, taint, comparison)?;
        Some(tolerations.get(index)?.toleration_seconds)
    }))
}

/// How long a pod may stay whose `NoExecute` taints have these answers: nothing for an untolerated taint, else the
/// `tolerationSeconds` of the first toleration that tolerates it.
pub fn stay_of(answers: impl IntoIterator<Item = Option<Option<i64>>>) -> Stay {
    let mut least: Option<i64> = None;
    for answer in answers {
        let Some(seconds) = answer else {
            return Stay::Over;
        };
        if let Some(seconds) = seconds {
            least = Some(least.map_or(seconds, |least| least.min(seconds)));
        }
    }
    least.map_or(Stay::Forever, span)
}

/// Upstream multiplies in 64 bits, so that more than about 292 years wrap around; a wrapped negative span counts as
/// no bound, and so does the largest number of seconds, which upstream uses for "none found".
fn span(seconds: i64) -> Stay {
    if seconds <= 0 {
        return Stay::Over;
    }
    if seconds == i64::MAX {
        return Stay::Forever;
    }
    match seconds.wrapping_mul(NANOSECONDS) {
        0 => Stay::Over,
        nanoseconds if nanoseconds < 0 => Stay::Forever,
        nanoseconds => Stay::For(Duration::from_nanos(nanoseconds.unsigned_abs())),
    }
}

/// What follows from `stay` at `now`, after an evaluation that may have left a deletion `pending`.
pub fn evaluate(stay: Stay, pending: Option<Pending>, now: Timestamp) -> Outcome {
    match (stay, pending) {
        (Stay::Forever, _) => Outcome::Keep,
        (Stay::Over, _) => Outcome::Delete,
        // Two evaluations at the very same moment are the only case in which upstream replaces the deletion.
        (Stay::For(_), Some(pending)) if pending.since < now => Outcome::Wait(pending),
        (Stay::For(span), _) => Outcome::Wait(Pending {
            since: now,
            due: later(now, span),
        }),
    }
}
