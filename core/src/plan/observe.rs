//! The facts of a moment: replicas with their history, and judged signals.
//!
//! They are made first, and no stage changes them.

use std::time::Duration;

use crate::{
    evidence::JudgedSignals,
    memory::ReplicaMemory,
    replicas::ObservedReplicas,
    role::{PerRole, Role},
    role_state::RoleState,
    signal::standstill::standing_since,
    snapshot::Snapshot,
    time::Timestamp,
};

/// The facts that a decision rests on.
#[derive(Clone, Debug)]
pub(super) struct Observation<'a> {
    /// The replicas as they are, with their recent history.
    pub(super) replicas: PerRole<ObservedReplicas<'a>>,
    /// The signals that may be believed, and the gaps.
    pub(super) signals: JudgedSignals,
    /// Time since the decision before, if there was one.
    pub(super) since_last: Option<Duration>,
}

impl Observation<'_> {
    /// Replicas requested now.
    pub(super) fn current(&self) -> PerRole<u32> {
        self.replicas.map(|replicas| replicas.state.current)
    }
}

/// The facts in `snapshot`, taken `since_last` after the decision before.
pub(super) fn observe<'a>(
    snapshot: &Snapshot,
    since_last: Option<Duration>,
    memory: &'a mut PerRole<ReplicaMemory>,
    standing: &mut Option<Timestamp>,
    now: Timestamp,
) -> Observation<'a> {
    let Snapshot {
        policy,
        roles,
        signals,
        paused: _,
        profile: _,
    } = snapshot;
    Observation {
        replicas: observe_replicas(roles, policy.lead.assumed, memory, now),
        signals: JudgedSignals::judge(signals, roles)
            .without_standing_gauges(standing_since(signals, standing, now)),
        since_last,
    }
}

/// Takes `roles` into the memory of replicas, and condenses both.
fn observe_replicas<'a>(
    roles: &PerRole<RoleState>,
    lead_assumed: Duration,
    memory: &'a mut PerRole<ReplicaMemory>,
    now: Timestamp,
) -> PerRole<ObservedReplicas<'a>> {
    for role in Role::ALL {
        let state = &roles[role];
        let ReplicaMemory {
            changes,
            readiness,
            lead,
        } = &mut memory[role];
        changes.observe(state.current, now);
        readiness.observe(state.ready, now);
        lead.observe(state.current, state.ready, state.is_rolling_out(), now);
    }
    let memory = &*memory;
    PerRole::from_fn(|role: Role| {
        let ReplicaMemory {
            changes,
            readiness,
            lead,
        } = &memory[role];
        ObservedReplicas {
            state: roles[role],
            smoothed_ready: readiness.whole(),
            unchanged_for: readiness.held_for(now).min(changes.unchanged_for(now)),
            changes: changes.as_slice(),
            lead: lead.summary(lead_assumed),
            waiting_for: lead.waiting(now),
        }
    })
}
