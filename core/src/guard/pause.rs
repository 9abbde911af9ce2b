//! Pauses: a person's word against changes in one direction.
//!
//! A pause holds the replicas where they are, whatever the need, the bounds or the budget say.

use crate::{
    reason::Reason,
    role::Role,
    snapshot::Paused,
    step::{Stage, Step},
};

/// `wanted` without changes in paused directions.
pub fn pause(role: Role, wanted: u32, current: u32, paused: Paused) -> (u32, Option<Step>) {
    let stopped = (wanted > current && paused.scale_up) || (wanted < current && paused.scale_down);
    if !stopped {
        return (wanted, None);
    }
    let message = format!("{wanted} replicas are wanted, and this direction is paused");
    let step = Step::of_role(Stage::Guard, role, Reason::Paused, message);
    (current, Some(step))
}
