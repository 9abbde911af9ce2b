//! The gaps in each role's metrics, and since when there are any. A role without replicas has no
//! metrics.

use std::time::Duration;

use crate::{
    evidence::Evidence,
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// For how long each role's metrics have not been complete; nothing while they are.
pub(super) fn metrics_missing(
    evidence: &PerRole<Evidence>,
    memory: &mut PerRole<Option<Timestamp>>,
    now: Timestamp,
) -> Staged<PerRole<Option<Duration>>> {
    let mut steps = Vec::new();
    for role in Role::ALL {
        let evidence = &evidence[role];
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
    let gaps = memory.map(|since| since.map(|since| now.since(since)));
    Staged::new(gaps, steps)
}
