//! Replicas that are busy, whatever the counters show.
//!
//! Engines count requests when they end. A prompt that computes for minutes, and requests whose
//! clients give up, fail or try again, are in no count of what is done, and completions then say
//! nothing of what arrives. What runs and waits is there to be seen: a role is not lowered below
//! the workers that compute now, and not at all while its queue stands. That raises nothing.

use super::{Need, Sizing};
use crate::{bottleneck::Bottleneck, reach::NEAR, reason::Reason, role::Role};

/// `need`, or the replicas of the role that are busy if those are more.
pub(super) fn keep(sizing: &Sizing<'_>, role: Role, need: Need) -> Need {
    let current = sizing.replicas[role].state.current;
    if need.replicas >= current {
        return need;
    }
    let kept = match role {
        Role::Prefill => Some(prefill(sizing, current)),
        Role::Decode => decode(sizing, current),
    };
    match kept {
        Some((replicas, message)) if replicas > need.replicas => Need {
            replicas,
            exact: f64::from(replicas),
            attained: need.attained,
            reason: Reason::StillBusy,
            message,
        },
        _ => need,
    }
}

fn prefill(sizing: &Sizing<'_>, current: u32) -> (u32, String) {
    let (signals, workload) = (sizing.signals, &sizing.demand.workload);
    let waiting = signals.waiting_requests.prefill.known().unwrap_or(0.0);
    let running = signals.running_requests.prefill.known().unwrap_or(0.0);
    let serving = f64::from(sizing.replicas.prefill.serving().max(1));
    // Prompts that share a step keep one worker busy.
    let busy = running / workload.prompts_in_step.max(1.0);
    let message = format!("{running:.0} prompts are computed and {waiting:.0} wait");
    if stands(sizing, waiting, serving) {
        return (current, message);
    }
    // A sliver less, because a gauge is a mean of few samples.
    let workers = Need::of(busy - NEAR * serving, Reason::StillBusy, String::new()).replicas;
    (workers.min(current), message)
}

/// Whether prompts wait for longer than they may.
fn stands(sizing: &Sizing<'_>, waiting: f64, serving: f64) -> bool {
    let Some(seconds) = sizing.demand.workload.prefill_seconds_mean else {
        return waiting >= serving;
    };
    let limit = sizing.objective.ttft.limit.as_secs_f64();
    let may_wait = (limit - seconds).max(limit * NEAR);
    waiting >= 1.0 && waiting * seconds / serving > may_wait
}

fn decode(sizing: &Sizing<'_>, current: u32) -> Option<(u32, String)> {
    let signals = sizing.signals;
    let waiting = signals.waiting_requests.decode.known()?;
    let deferred = signals.decode_deferred_requests.known().unwrap_or(0.0);
    let stands = waiting - deferred >= 1.0 && sizing.demand.bottleneck != Bottleneck::KvTransfer;
    stands.then(|| (current, format!("{waiting:.0} requests wait for decode")))
}
