//! The replica bounds that may be in force, worked out again from the policy: at a moment, or at
//! any.
//!
//! When a window opens is the calendar's matter, and taken from there.

use std::time::Duration;

use crate::{
    bounds::Bounds,
    policy::Policy,
    role::Role,
    schedule::{LEAD_MAX, Schedule, ScheduledBounds},
    time::Timestamp,
};

/// Whether `stated` may be the bounds of `role` in force: at `clock`, or where that is not known at
/// some time.
pub(super) fn in_force(
    policy: &Policy,
    role: Role,
    stated: Bounds,
    clock: Option<Timestamp>,
) -> bool {
    let base = policy.bounds[role];
    if policy.schedules.is_empty() {
        return stated == base;
    }
    match clock {
        Some(clock) => at(policy, role, stated, clock),
        None => ever(policy, role, stated),
    }
}

fn at(policy: &Policy, role: Role, stated: Bounds, clock: Timestamp) -> bool {
    let base = policy.bounds[role];
    let (open, closed): (Vec<&Schedule>, Vec<&Schedule>) = policy
        .schedules
        .iter()
        .partition(|schedule| schedule.active_at(clock).is_some());
    let open: Vec<ScheduledBounds> = open
        .iter()
        .map(|schedule| schedule.replicas[role])
        .collect();
    let least = open.iter().filter_map(|bounds| bounds.min_replicas).max();
    let most = open.iter().filter_map(|bounds| bounds.max_replicas).min();
    let least = least.unwrap_or(base.min_replicas).max(1);
    let most = most.unwrap_or(base.max_replicas);
    // A minimum may hold from a lead time before its window; the lead time is not asked for here.
    let begins =
        |schedule: &Schedule, within: Duration| schedule.next_start(clock, within).is_some();
    let ahead = stated.min_replicas > least
        && closed.iter().any(|schedule| {
            schedule.replicas[role].min_replicas == Some(stated.min_replicas)
                && begins(schedule, LEAD_MAX)
        });
    (stated.min_replicas == least || ahead) && stated.max_replicas == most.max(stated.min_replicas)
}

fn ever(policy: &Policy, role: Role, stated: Bounds) -> bool {
    let base = policy.bounds[role];
    let of = |schedule: &Schedule| schedule.replicas[role];
    let mut minima = policy.schedules.iter().filter_map(|s| of(s).min_replicas);
    let mut maxima = policy.schedules.iter().filter_map(|s| of(s).max_replicas);
    let (least, most) = (stated.min_replicas, stated.max_replicas);
    let minimum =
        least == base.min_replicas.max(1) || minima.any(|minimum| minimum.max(1) == least);
    let maximum = most == base.max_replicas || maxima.any(|maximum| maximum == most);
    // A maximum below the minimum gives way to it.
    minimum && (maximum || most == least)
}
