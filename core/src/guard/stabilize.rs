//! Stabilization windows: replicas rise only to what all of a window asked for, and fall only to
//! what none of it exceeded.
//!
//! As in HPA the newest need is part of both windows. So the least is never above it and the largest
//! never below, and the two cannot ask for opposite changes: the order in which they are looked at
//! makes no difference. A sample exactly as old as the window no longer counts, in HPA too.

use std::cmp::Ordering;

use crate::{
    memory::{Extreme, RoleMemory},
    policy::{Behavior, ScalingRules},
    report::{Reason, Stage, Step},
    role::Role,
    time::Timestamp,
};

/// What the stabilization windows make of `wanted`.
pub fn stabilize(
    role: Role,
    wanted: u32,
    current: u32,
    behavior: &Behavior,
    memory: &mut RoleMemory,
    now: Timestamp,
) -> (u32, Option<Step>) {
    let (up, down) = (&behavior.scale_up, &behavior.scale_down);
    let least = memory
        .least
        .extreme(wanted, now, up.stabilization_window, Extreme::Least);
    let largest = memory
        .largest
        .extreme(wanted, now, down.stabilization_window, Extreme::Largest);
    // Up to what all of the window asked for, down to what any of it did; HPA's order decides when
    // the two cross.
    let replicas = if current < least {
        least
    } else {
        current.min(largest)
    };
    let held = |reason, rules: &ScalingRules, word: &str| {
        let message = format!(
            "wanted now: {wanted}; the window of {} s {word} {replicas}",
            rules.stabilization_window.as_secs()
        );
        Some(Step {
            stage: Stage::Stabilize,
            role: Some(role),
            reason,
            message,
        })
    };
    let step = match wanted.cmp(&replicas) {
        Ordering::Greater => held(Reason::StabilizingUp, up, "allows"),
        Ordering::Less => held(Reason::StabilizingDown, down, "still asks for"),
        Ordering::Equal => None,
    };
    (replicas, step)
}
