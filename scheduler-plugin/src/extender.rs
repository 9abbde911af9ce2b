//! The extender as a pure function: a call's bytes and a view of the nodes give the answer's bytes.
//!
//! Filter refuses a node only for what the scheduler cannot see: a `NoSchedule` or `NoExecute`
//! taint that the pod's spec tolerates with a rewritten `Exists` and the pod's own number does not,
//! or a taint that the pod requires and the node lacks. Prioritize scores by SLA margin, and names
//! no more nodes than it must. Pods without numeric tolerations pass at once: their names are
//! handed back without being looked at, their scores are an empty list, which adds nothing.
//!
//! Nothing is remembered between calls, so that several schedulers and speculative calls cannot
//! confuse it. Refusals are `FailedAndUnresolvableNodes`, for no preemption changes a taint; only a
//! node that the cache does not know yet is in `FailedNodes`. Reasons do not name nodes or their
//! values, so that the scheduler can count equal ones.

mod pod;
mod score;
#[cfg(test)]
mod tests;
mod wire;

use pd_tolerations::extension::ParsedTaint;

use self::{
    pod::{PodDemand, TolerationRules},
    wire::{Answer, Call, Candidates},
};
pub use score::{Margin, SCORE_MAX};

/// The view of the cluster: the taints of a node by its name, nothing for an unknown node.
pub trait NodeView {
    /// The node's taints.
    fn taints(&self, node: &str) -> Option<&[ParsedTaint]>;
}

/// Why a call gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The body is not what the scheduler sends.
    #[error("body is no extender call: {0}")]
    Body(String),
    /// The call has no pod.
    #[error("`Pod` is missing: send the pod that is being scheduled")]
    NoPod,
    /// Whole nodes instead of their names.
    #[error(
        "`NodeNames` is null: set nodeCacheCapable: true for this extender in the scheduler's configuration"
    )]
    NoNames,
}

/// The kind of a pod, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing of ours: passed through.
    Unmanaged,
    /// It has numeric tolerations.
    Managed,
    /// Its annotation cannot be used: no node fits.
    Broken,
}

/// An answer's body, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// JSON.
    pub body: Vec<u8>,
    /// The kind of the pod.
    pub kind: Kind,
}

/// Answers a filter call.
pub fn filter(body: &[u8], nodes: &impl NodeView) -> Result<Answered, CallError> {
    let call = Call::read(body)?;
    let rules = match pod::demand(call.pod)? {
        PodDemand::Unmanaged => return pass(&call),
        PodDemand::Managed(rules) => rules,
        PodDemand::Broken(reason) => return refuse_all(&call, &reason),
    };
    let names = call.names()?;
    let mut answer = Answer::with_capacity(body.len());
    let mut verdicts = Vec::with_capacity(names.len());
    for name in &names {
        verdicts.push(match nodes.taints(name) {
            None => Some(Refusal::Unknown),
            Some(taints) => rules.refusal(taints).map(Refusal::Taint),
        });
    }
    let judged = || names.iter().zip(&verdicts);
    answer.names(
        judged()
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(name, _)| &**name),
    );
    let unknown = judged().filter(|(_, verdict)| matches!(verdict, Some(Refusal::Unknown)));
    answer.failed(unknown.map(|(name, _)| (&**name, UNKNOWN_NODE)));
    let tainted = judged().filter_map(|(name, verdict)| match verdict {
        Some(Refusal::Taint(reason)) => Some((&**name, rules.reason(*reason))),
        _ => None,
    });
    answer.failed_and_unresolvable(tainted);
    Ok(Answered {
        body: answer.finish(),
        kind: Kind::Managed,
    })
}

/// Answers a prioritize call.
pub fn prioritize(
    body: &[u8],
    nodes: &impl NodeView,
    prefer: Margin,
) -> Result<Answered, CallError> {
    let call = Call::read(body)?;
    let nothing = |kind| {
        Ok(Answered {
            body: b"[]".to_vec(),
            kind,
        })
    };
    match pod::demand(call.pod)? {
        PodDemand::Unmanaged => {
            call.check_names()?;
            nothing(Kind::Unmanaged)
        }
        PodDemand::Broken(_) => nothing(Kind::Broken),
        PodDemand::Managed(rules) => {
            let names = call.names()?;
            let taints = names
                .iter()
                .map(|name| nodes.taints(name).unwrap_or_default());
            let scores = score::scores(&rules, taints, prefer);
            Ok(Answered {
                body: wire::priorities(&names, &scores.named()),
                kind: Kind::Managed,
            })
        }
    }
}

/// An answer that makes the scheduler show `message`: in the pod's event and the scheduler's log.
pub fn filter_error(message: &str) -> Vec<u8> {
    wire::error(message)
}

const UNKNOWN_NODE: &str = "node(s) not yet known to pd-scheduler-plugin";

enum Refusal {
    Unknown,
    Taint(pod::ReasonIndex),
}

fn pass(call: &Call<'_>) -> Result<Answered, CallError> {
    call.check_names()?;
    let Candidates::Names(raw) = call.candidates else {
        return Err(CallError::NoNames);
    };
    Ok(Answered {
        body: wire::passed(raw.get()),
        kind: Kind::Unmanaged,
    })
}

fn refuse_all(call: &Call<'_>, reason: &str) -> Result<Answered, CallError> {
    let names = call.names()?;
    let mut answer = Answer::with_capacity(names.len() * (reason.len() + 64));
    answer.names(std::iter::empty());
    answer.failed(std::iter::empty());
    answer.failed_and_unresolvable(names.iter().map(|name| (&**name, reason)));
    Ok(Answered {
        body: answer.finish(),
        kind: Kind::Broken,
    })
}
