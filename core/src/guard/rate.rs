//! Rate policies: how far replicas may move within a period.
//!
//! Each policy allows a change from the replicas at the start of its period, which are the current
//! ones with the changes since taken back. `selectPolicy` picks among policies; none means no
//! limit. Two things differ from HPA. Changes by anyone count, not only our own: a person's
//! `kubectl scale` uses up the period like a decision. And the percentages are exact integers:
//! HPA's floating point makes 111 of 100 replicas and 10 %, here they are 110.

use crate::{
    behavior::{Behavior, ChangeLimit, RatePolicy, ScalingRules, SelectPolicy},
    reason::Reason,
    replicas::ReplicaChange,
    role::Role,
    step::{Stage, Step},
    time::Timestamp,
};

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
    let message = format!(
        "{wanted} replicas are wanted; from {current} the scaling policies allow {allowed} now"
    );
    let step = Step::of_role(Stage::Guard, role, reason, message);
    (allowed, Some(step))
}

/// Replicas at the start of a period: those added since are taken off, those gone are put back.
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

/// Replicas that each policy allows, by `limit` from the replicas at the start of its period.
fn allowed_by_each<'a>(
    current: u32,
    rules: &'a ScalingRules,
    changes: &'a [ReplicaChange],
    now: Timestamp,
    limit: impl Fn(i64, ChangeLimit) -> i64 + 'a,
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
        ChangeLimit::Replicas(count) => start + i64::from(count),
        // Rounded up, as HPA does: 10 % of 4 replicas still allows one.
        ChangeLimit::Percent(percent) => start
            .saturating_mul(100 + i64::from(percent))
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

/// Fewest replicas that `rules` allow now; none without policies.
pub(super) fn least_allowed(
    current: u32,
    rules: &ScalingRules,
    changes: &[ReplicaChange],
    now: Timestamp,
) -> u32 {
    let allowed = allowed_by_each(current, rules, changes, now, |start, change| match change {
        ChangeLimit::Replicas(count) => start - i64::from(count),
        ChangeLimit::Percent(percent) => start * (100 - i64::from(percent.min(100))) / 100,
    });
    match rules.select {
        SelectPolicy::Max => allowed.min().unwrap_or(0),
        SelectPolicy::Min => allowed.max().unwrap_or(0),
        SelectPolicy::Disabled => current,
    }
}
