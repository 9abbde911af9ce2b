//! Slowing and stopping changes: tolerance, stabilization windows, rate policies, pauses and the
//! order of releases and growth under a full budget.
//!
//! Windows, policies and their selection mean what they mean in `HorizontalPodAutoscaler`
//! `spec.behavior` (autoscaling/v2; kubernetes/kubernetes, `pkg/controller/podautoscaler`).

use std::cmp::Ordering;

use crate::{
    memory::{Extreme, ReplicaChange, RoleMemory},
    need::Need,
    policy::{Behavior, Change, Enforcement, RatePolicy, ScalingRules, SelectPolicy},
    report::{Reason, Stage, Step},
    role::{PerRole, Role},
    snapshot::Snapshot,
    time::Timestamp,
};

/// The need with the tolerance taken off: one too close to `current` becomes `current`.
///
/// On the way down half of the tolerance stays as slack in what remains, because a pool lowered to
/// exactly its need is raised again by the next request more.
pub fn tolerate(need: &Need, current: u32, behavior: &Behavior) -> (u32, Option<Reason>) {
    let replicas = f64::from(current);
    let share = |rules: &ScalingRules| f64::from(rules.tolerance_percent) / 100.0;
    let (up, down) = (share(&behavior.scale_up), share(&behavior.scale_down));
    if need.replicas > current {
        let close = need.exact <= replicas * (1.0 + up);
        return if close {
            (current, Some(Reason::WithinTolerance))
        } else {
            (need.replicas, None)
        };
    }
    let tight = need.exact > f64::from(need.replicas) * (1.0 - down / 2.0);
    let remaining = current.min(need.replicas.saturating_add(u32::from(tight)));
    let close =
        need.replicas < current && (need.exact > replicas * (1.0 - down) || remaining == current);
    if close {
        (current, Some(Reason::WithinTolerance))
    } else {
        (remaining, None)
    }
}

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

/// `wanted` within what the rate policies allow from `current`.
pub fn limit_rate(
    role: Role,
    wanted: u32,
    current: u32,
    behavior: &Behavior,
    changes: &[ReplicaChange],
    now: Timestamp,
) -> (u32, Option<Step>) {
    let (allowed, reason) = if wanted > current {
        let allowed = most_allowed(current, &behavior.scale_up, changes, now);
        (wanted.min(allowed.max(current)), Reason::RateLimitedUp)
    } else {
        let allowed = least_allowed(current, &behavior.scale_down, changes, now);
        (wanted.max(allowed.min(current)), Reason::RateLimitedDown)
    };
    if allowed == wanted {
        return (wanted, None);
    }
    let message =
        format!("from {current} the scaling policies allow {allowed} now, {wanted} is wanted");
    (
        allowed,
        Some(Step {
            stage: Stage::Guard,
            role: Some(role),
            reason,
            message,
        }),
    )
}

/// Replicas at the start of a period: what was added since is taken off, what went is put back.
fn at_period_start(
    current: u32,
    policy: &RatePolicy,
    changes: &[ReplicaChange],
    now: Timestamp,
) -> i64 {
    let recent = changes
        .iter()
        .filter(|change| now.since(change.at) < policy.period);
    recent.fold(i64::from(current), |replicas, change| {
        replicas - (i64::from(change.to) - i64::from(change.from))
    })
}

/// What each policy allows, given by `limit` from the replicas at the start of its period.
fn allowed_by_each<'a>(
    current: u32,
    rules: &'a ScalingRules,
    changes: &'a [ReplicaChange],
    now: Timestamp,
    limit: impl Fn(i64, Change) -> i64 + 'a,
) -> impl Iterator<Item = u32> + 'a {
    rules.policies.iter().map(move |policy| {
        let start = at_period_start(current, policy, changes, now).max(0);
        let allowed = limit(start, policy.change).max(0);
        u32::try_from(allowed).unwrap_or(u32::MAX)
    })
}

fn most_allowed(
    current: u32,
    rules: &ScalingRules,
    changes: &[ReplicaChange],
    now: Timestamp,
) -> u32 {
    let allowed = allowed_by_each(current, rules, changes, now, |start, change| match change {
        Change::Replicas(count) => start + i64::from(count),
        // Rounded up, as HPA does: 10 % of 4 replicas still allows one.
        Change::Percent(percent) => (start * (100 + i64::from(percent)))
            .unsigned_abs()
            .div_ceil(100)
            .cast_signed(),
    });
    match rules.select {
        SelectPolicy::Max => allowed.max().unwrap_or(u32::MAX),
        SelectPolicy::Min => allowed.min().unwrap_or(u32::MAX),
        SelectPolicy::Disabled => current,
    }
}

fn least_allowed(
    current: u32,
    rules: &ScalingRules,
    changes: &[ReplicaChange],
    now: Timestamp,
) -> u32 {
    let allowed = allowed_by_each(current, rules, changes, now, |start, change| match change {
        Change::Replicas(count) => start - i64::from(count),
        Change::Percent(percent) => start * (100 - i64::from(percent.min(100))) / 100,
    });
    match rules.select {
        SelectPolicy::Max => allowed.min().unwrap_or(0),
        SelectPolicy::Min => allowed.max().unwrap_or(0),
        SelectPolicy::Disabled => current,
    }
}

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

/// Growth that fits into the budget beside everything that still holds GPUs: what one role
/// releases counts only when its pods are gone, so at a full budget shrinking comes first.
pub fn await_releases(wanted: PerRole<u32>, snapshot: &Snapshot) -> (PerRole<u32>, Vec<Step>) {
    let Some(budget) = snapshot.policy.budget_gpus else {
        return (wanted, Vec::new());
    };
    let mut granted =
        PerRole::from_fn(|role| (*wanted.get(role)).min(snapshot.roles.get(role).current));
    let mut steps = Vec::new();
    for role in Role::ALL {
        let state = snapshot.roles.get(role);
        let want = *wanted.get(role);
        if want <= state.current {
            continue;
        }
        let others: u64 = Role::ALL
            .into_iter()
            .filter(|other| *other != role)
            .map(|other| held_gpus(snapshot, other, *granted.get(other)))
            .sum();
        let room = u64::from(budget).saturating_sub(others);
        let fitting = room
            .checked_div(u64::from(state.gpus_per_replica))
            .unwrap_or(u64::MAX)
            .saturating_sub(u64::from(state.terminating));
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        let replicas = want.min(fitting.max(state.current));
        *granted.get_mut(role) = replicas;
        if replicas < want {
            let message = format!(
                "wanted: {want}; {replicas} fit beside the {others} GPUs that the other \
                 role still holds of a budget of {budget}"
            );
            let reason = Reason::BudgetWaitsForRelease;
            steps.push(Step {
                stage: Stage::Guard,
                role: Some(role),
                reason,
                message,
            });
        }
    }
    (granted, steps)
}

/// The change cut short where a hard ratio band would be left on the way: of the pairs between the
/// current replicas and `wanted` that lie in the band, the one that goes furthest.
pub fn keep_hard_band(wanted: PerRole<u32>, snapshot: &Snapshot) -> (PerRole<u32>, Option<Step>) {
    let current = snapshot.roles.map(|state| state.current);
    let ratio = snapshot
        .policy
        .ratio
        .filter(|ratio| ratio.enforcement == Enforcement::Hard);
    let Some(band) = ratio.map(|ratio| ratio.band) else {
        return (wanted, None);
    };
    let leaves = band.contains(current.prefill, current.decode)
        && !band.contains(wanted.prefill, wanted.decode);
    if !leaves {
        return (wanted, None);
    }
    let between = |role| {
        let (a, b): (u32, u32) = (*current.get(role), *wanted.get(role));
        (a.min(b), a.max(b))
    };
    let (prefill_least, prefill_most) = between(Role::Prefill);
    let (decode_least, decode_most) = between(Role::Decode);
    let pairs = (prefill_least..=prefill_most).filter_map(|prefill| {
        let least = band.decode_least(prefill).max(u64::from(decode_least));
        let most = band.decode_most(prefill).min(u64::from(decode_most));
        let decode = (least <= most).then(|| u64::from(wanted.decode).clamp(least, most))?;
        Some(PerRole {
            prefill,
            decode: u32::try_from(decode).ok()?,
        })
    });
    let kept = pairs
        .min_by_key(|pair| {
            u64::from(pair.prefill.abs_diff(wanted.prefill))
                + u64::from(pair.decode.abs_diff(wanted.decode))
        })
        .unwrap_or(current);
    let message = format!(
        "{}:{} would leave the hard ratio band; {}:{} is as far as the change may go now",
        wanted.prefill, wanted.decode, kept.prefill, kept.decode
    );
    let step = Step {
        stage: Stage::Guard,
        role: None,
        reason: Reason::RatioBand,
        message,
    };
    (kept, Some(step))
}

/// GPUs that `role` holds or will hold when asked for `replicas`, pods on their way out included.
pub fn held_gpus(snapshot: &Snapshot, role: Role, replicas: u32) -> u64 {
    let state = snapshot.roles.get(role);
    let held = state
        .holding()
        .max(replicas.saturating_add(state.terminating));
    u64::from(held) * u64::from(state.gpus_per_replica)
}

#[cfg(test)]
mod tests;
