//! Pauses: a person's word against changes in one direction.
//!
//! A pause holds the replicas where they are, whatever the need, the bounds or the budget say.

use crate::{
    report::{Reason, Stage, Step},
    role::Role,
    snapshot::Snapshot,
};

/// `wanted` without changes in paused directions.
pub fn pause(role: Role, wanted: u32, snapshot: &Snapshot) -> (u32, Option<Step>) {
    let current = snapshot.roles.get(role).current;
    let stopped = (wanted > current && snapshot.paused.scale_up)
        || (wanted < current && snapshot.paused.scale_down);
    if !stopped {
        return (wanted, None);
    }
    let message = format!("wanted: {wanted}; this direction is paused");
    let step = Step {
        stage: Stage::Guard,
        role: Some(role),
        reason: Reason::Paused,
        message,
    };
    (current, Some(step))
}
