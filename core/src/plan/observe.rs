//! The facts of a moment: replicas with their history, and judged signals.
//!
//! They are made first, and no stage changes them.

use std::time::Duration;

use crate::{
    evidence::JudgedSignals,
    guard::Gap,
    lead::Watched,
    memory::{Moment, ReplicaMemory},
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
    /// Whether that time was watched.
    pub(super) gap: Gap,
}

impl Observation<'_> {
    /// Replicas requested now.
    pub(super) fn current(&self) -> PerRole<u32> {
        self.replicas.map(|replicas| replicas.state.current)
    }

    /// GPUs that one replica of each role holds.
    pub(super) fn gpus_per_replica(&self) -> PerRole<u32> {
        self.replicas
            .map(|replicas| replicas.state.gpus_per_replica)
    }
}

/// The facts in `snapshot`, of one `moment`. Replicas of a role that is
/// `blocked` wait for somebody, and show no lead time.
pub(super) fn observe<'a>(
    snapshot: &Snapshot,
    moment: Moment,
    blocked: PerRole<bool>,
    memory: &'a mut PerRole<ReplicaMemory>,
    standing: &mut Option<Timestamp>,
) -> Observation<'a> {
    let Snapshot {
        policy,
        roles,
        signals,
        paused: _,
        profile: _,
    } = snapshot;
    Observation {
        replicas: observe_replicas(roles, policy.lead.assumed, moment, blocked, memory),
        signals: JudgedSignals::judge(signals, roles)
            .without_standing_gauges(standing_since(signals, standing, moment.now)),
        since_last: moment.since_last,
        gap: moment.gap,
    }
}

/// Takes `roles` into the memory of replicas, and condenses both.
fn observe_replicas<'a>(
    roles: &PerRole<RoleState>,
    lead_assumed: Duration,
    moment: Moment,
    blocked: PerRole<bool>,
    memory: &'a mut PerRole<ReplicaMemory>,
) -> PerRole<ObservedReplicas<'a>> {
    let now = moment.now;
    let mut changed_at = PerRole::from_fn(|_| now);
    for role in Role::ALL {
        let state = &roles[role];
        let ReplicaMemory {
            changes,
            readiness,
            served,
            lead,
        } = &mut memory[role];
        changed_at[role] = changes.changed_at(state.current, now);
        changes.observe(state.current, now);
        readiness.observe(state.ready, now);
        served.observe(state.current, state.serving());
        let watched = Watched {
            current: state.current,
            ready: state.ready,
            rolling: state.is_rolling_out(),
            blocked: blocked[role],
            unwatched: moment.gap == Gap::Sudden,
            requested_at: changed_at[role],
        };
        lead.observe(&watched, now);
    }
    let memory = &*memory;
    PerRole::from_fn(|role: Role| {
        let ReplicaMemory {
            changes,
            readiness,
            served,
            lead,
        } = &memory[role];
        ObservedReplicas {
            state: roles[role],
            smoothed_ready: readiness.whole(),
            served: served.replicas(),
            changed_at: changed_at[role],
            unchanged_for: readiness.held_for(now).min(changes.unchanged_for(now)),
            changes: changes.as_slice(),
            lead: lead.summary(lead_assumed),
            waiting_for: lead.waiting(now),
        }
    })
}
