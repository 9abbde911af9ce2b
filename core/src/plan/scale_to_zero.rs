//! Whether both roles go to zero or stay there, before any need is computed.
//!
//! A service that is woken needs no more than that: its minimum is in the bounds, and waits for no
//! window and no scale-up policy.

use super::observe::Observation;
use crate::{
    demand::Demand,
    signal::Reading,
    step::Staged,
    time::Timestamp,
    zero::{self, Activity, ScaleToZero, ZeroDecision, ZeroInputs, ZeroMemory},
};

/// The decision about zero; without a policy the service serves.
pub(super) fn decide_about_zero(
    policy: Option<ScaleToZero>,
    seen: &Observation<'_>,
    demand: &Demand,
    memory: &mut ZeroMemory,
    now: Timestamp,
) -> Staged<ZeroDecision> {
    let Some(policy) = policy else {
        return Staged::new(ZeroDecision::Serve, None);
    };
    let inputs = ZeroInputs {
        activity: activity(seen, demand),
        wake: seen.signals.signals.wake_requests,
        roles: seen.replicas.map(|replicas| replicas.state),
        gap: seen.gap,
    };
    let verdict = zero::decide(policy, memory, &inputs, now);
    *memory = verdict.memory;
    Staged::new(verdict.decision, verdict.step)
}

fn activity(seen: &Observation<'_>, demand: &Demand) -> Activity {
    let mut evidence = seen.signals.evidence.iter();
    // Gauges that counters contradict show neither work nor idleness.
    let complete =
        evidence.all(|(_, evidence)| evidence.complete()) && seen.signals.contradiction.is_none();
    let arriving = demand.workload.arrival_rate_rps.map(Reading::of);
    let signals = &seen.signals.signals;
    Activity::judge(
        &[
            arriving.unwrap_or_default(),
            signals.waiting_requests.prefill,
            signals.waiting_requests.decode,
            signals.running_requests.decode,
            signals.running_prompts().unwrap_or(Reading::KnownZero),
        ],
        complete,
    )
}
