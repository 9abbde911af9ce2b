//! Stabilization: replicas rise only to the least need of a window, and fall only to the largest.
//!
//! As in HPA the newest need is part of both windows. So the least is never above it and the
//! largest never below, and the two cannot want opposite changes: the order in which they are
//! looked at makes no difference. A sample exactly as old as the window no longer counts, in HPA
//! too.

use std::cmp::Ordering;

use super::window::{Extreme, StabilizationWindows};
use crate::{
    behavior::{Behavior, ScalingRules},
    reason::Reason,
    role::Role,
    step::{Stage, Step},
    time::Timestamp,
};

/// `wanted` within what the stabilization windows allow.
pub fn stabilize(
    role: Role,
    wanted: u32,
    current: u32,
    behavior: &Behavior,
    windows: &mut StabilizationWindows,
    now: Timestamp,
) -> (u32, Option<Step>) {
    let (up, down) = (&behavior.scale_up, &behavior.scale_down);
    let least = windows
        .least
        .extreme(wanted, now, up.stabilization_window, Extreme::Least);
    let largest = windows
        .largest
        .extreme(wanted, now, down.stabilization_window, Extreme::Largest);
    // Up to the least need of one window, down to the largest of the other; HPA's order decides
    // when the two cross.
    let replicas = if current < least {
        least
    } else {
        current.min(largest)
    };
    let held = |reason, rules: &ScalingRules, word: &str| {
        let message = format!(
            "{wanted} replicas are wanted now; the window of {} s {word} {replicas}",
            rules.stabilization_window.as_secs()
        );
        Some(Step::of_role(Stage::Stabilize, role, reason, message))
    };
    let step = match wanted.cmp(&replicas) {
        Ordering::Greater => held(Reason::StabilizingUp, up, "allows"),
        Ordering::Less => held(Reason::StabilizingDown, down, "still needs"),
        Ordering::Equal => None,
    };
    (replicas, step)
}
