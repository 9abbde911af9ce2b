//! The gaps in each role's metrics, and since when there are any. A role without replicas has no
//! metrics.

use std::time::Duration;

use crate::{
    evidence::JudgedSignals,
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// For how long each role's metrics have not been complete; nothing while they are.
pub(super) fn metrics_missing(
    signals: &JudgedSignals,
    memory: &mut PerRole<Option<Timestamp>>,
    now: Timestamp,
) -> Staged<PerRole<Option<Duration>>> {
    let mut steps = Vec::new();
    for role in Role::ALL {
        let evidence = &signals.evidence[role];
        if evidence.complete() {
            memory[role] = None;
            continue;
        }
        memory[role].get_or_insert(now);
        let partial = evidence.missing.is_empty() && evidence.ready > 0;
        let reason = if partial {
            Reason::MetricsPartial
        } else {
            Reason::MetricsMissing
        };
        let message = format!("{}; replicas are not lowered", evidence.message());
        steps.push(Step::of_role(Stage::Signals, role, reason, message));
    }
    if let Some(message) = &signals.contradiction {
        let message = message.clone();
        steps.push(Step::of_both(
            Stage::Signals,
            Reason::SignalsContradict,
            message,
        ));
    }
    let gaps = memory.map(|since| since.map(|since| now.since(since)));
    Staged::new(gaps, steps)
}
