//! Whether a role's metrics are known well enough to lower it, read off the snapshot again.

use crate::{
    role::Role,
    signal::{Gap, Reading, Signals, name::SignalName},
    snapshot::Snapshot,
};

/// Whether every ready worker of `role` is scraped, every number that a decision about it takes is
/// known, and no number about it is out of its range.
pub(super) fn known(snapshot: &Snapshot, role: Role) -> bool {
    let Snapshot { roles, signals, .. } = snapshot;
    let ready = roles[role].ready;
    ready > 0
        && !signals.answer_partial
        && signals.coverage[role].scraped >= ready
        && needed(signals, role).into_iter().all(is_number)
        && signals
            .numbers()
            .all(|(name, reading)| about(name) != role || plausible(name, reading))
}

fn needed(signals: &Signals, role: Role) -> Vec<Reading> {
    let waiting = signals.waiting_requests[role];
    match role {
        Role::Prefill => {
            let stated = signals.arrival_rate_rps_override;
            let arrivals = if stated == Reading::Unknown(Gap::NotAsked) {
                signals.prefill_completion_rate_rps
            } else {
                stated
            };
            vec![arrivals, waiting]
        }
        Role::Decode => vec![
            signals.output_token_rate_tps,
            signals.running_requests.decode,
            waiting,
            signals.decode_kv_usage,
        ],
    }
}

fn is_number(reading: Reading) -> bool {
    match reading {
        Reading::KnownZero => true,
        Reading::Value(value) => value.is_finite() && value >= 0.0,
        Reading::Unknown(_) => false,
    }
}

/// The role that a number is about; one about both says what arrives.
fn about(name: SignalName) -> Role {
    match name {
        SignalName::TpotOverride => Role::Decode,
        name => name.role().unwrap_or(Role::Prefill),
    }
}

fn plausible(name: SignalName, reading: Reading) -> bool {
    let (least, most) = name.plausible();
    match reading {
        // Below zero is no reading at all, and a gap only where it is needed.
        Reading::Value(value) if value.is_finite() && value >= 0.0 => {
            (least..=most).contains(&value)
        }
        _ => true,
    }
}
