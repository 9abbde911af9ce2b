//! Limits that moved past the replicas: up to a new minimum at once, down to a new maximum or a new
//! budget in steps.
//!
//! A maximum below the current replicas comes from an edit, a schedule that ended, or an object
//! made over a larger workload; a budget below what is held comes from an edit, a share of a common
//! budget that shrank, or replicas that hold more GPUs than before. HPA cuts to a maximum in one
//! step and without its policies, which takes capacity away from live requests. Here one rule holds
//! for both: the cut goes through the scale-down policies, and where there are none, or they are
//! disabled, through [`IMPLICIT_PERCENT`] a minute. The limit is the user's own setting, so it is
//! reached, but not at once: workers that leave have that minute to finish what they run, and
//! those that stay to take over what arrives. Replicas that are not needed go without waiting for
//! it. A minimum is a promise of capacity and waits for nothing.

use std::time::Duration;

use super::rate::least_allowed;
use crate::{
    behavior::{ChangeLimit, RatePolicy, ScalingRules, SelectPolicy},
    bounds::Bounds,
    reason::Reason,
    replicas::ReplicaChange,
    role::Role,
    step::{Stage, Step},
    time::Timestamp,
};

/// Percent of the replicas, at least one, that go in each [`IMPLICIT_PERIOD`] while they are above
/// their maximum and no scale-down policy says how fast.
pub const IMPLICIT_PERCENT: u32 = 10;

/// The period of [`IMPLICIT_PERCENT`].
pub const IMPLICIT_PERIOD: Duration = Duration::from_mins(1);

/// A role that may be outside its bounds.
#[derive(Clone, Copy, Debug)]
pub struct BoundedRole<'a> {
    /// The role.
    pub role: Role,
    /// Its replicas.
    pub current: u32,
    /// The bounds in force.
    pub bounds: Bounds,
    /// Replicas that lasting need calls for.
    pub needed: u32,
    /// The replicas of both roles hold more GPUs than the budget allows.
    pub over_budget: bool,
    /// Rules for fewer replicas.
    pub scale_down: &'a ScalingRules,
    /// Changes of its replicas.
    pub changes: &'a [ReplicaChange],
}

impl BoundedRole<'_> {
    /// Replicas inside the bounds, or one step closer to them.
    ///
    /// `wanted` comes from the solve, and `limited` is what the rate policies allow of it. A solve
    /// that keeps the replicas although they are out of bounds is an infeasible budget, and stays.
    pub fn hold_bounds(&self, wanted: u32, limited: u32, now: Timestamp) -> (u32, Option<Step>) {
        let Self {
            role,
            current,
            bounds,
            needed,
            over_budget,
            scale_down,
            changes,
        } = *self;
        if wanted == current {
            return (current, None);
        }
        let over_maximum = current > bounds.clamp(current);
        // Fewer than lasting need calls for: the budget takes them, or a hard band.
        let short = wanted < current && (over_budget || wanted < needed);
        if !over_maximum && !short {
            return (bounds.clamp(limited), None);
        }
        if !scale_down.policies.is_empty() && scale_down.select != SelectPolicy::Disabled {
            return (limited.min(current).max(bounds.min_replicas), None);
        }
        let mut allowed = least_allowed(current, &implicit(scale_down), changes, now).min(current);
        if scale_down.select == SelectPolicy::Disabled && !over_maximum && !over_budget {
            return (current, None);
        }
        if scale_down.select != SelectPolicy::Disabled && !over_maximum {
            // Need alone lowers as far as that.
            allowed = allowed.min(needed);
        }
        let replicas = bounds.clamp(wanted).max(allowed);
        let step = (replicas > bounds.clamp(wanted)).then(|| {
            let limit = if over_maximum {
                format!("above the maximum of {}", bounds.max_replicas)
            } else {
                "more than the budget and the ratio band leave".to_owned()
            };
            let message = format!(
                "{current} replicas are {limit}; without scale-down policies {IMPLICIT_PERCENT} % go \
                 a minute, {replicas} stay now"
            );
            Step::of_role(Stage::Guard, role, Reason::BoundsStepDown, message)
        });
        (replicas, step)
    }
}

fn implicit(rules: &ScalingRules) -> ScalingRules {
    ScalingRules {
        select: SelectPolicy::Max,
        policies: vec![RatePolicy {
            change: ChangeLimit::Percent(IMPLICIT_PERCENT),
            period: IMPLICIT_PERIOD,
        }],
        ..rules.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{replicas::ReplicaChanges, testing};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(0).plus(Duration::from_secs(seconds))
    }

    /// Prefill of `current` replicas in `min_replicas` to `max_replicas`.
    fn bounded(current: u32, min_replicas: u32, max_replicas: u32) -> BoundedRole<'static> {
        const NO_POLICIES: &ScalingRules = &ScalingRules {
            stabilization_window: Duration::from_mins(5),
            tolerance_ppm: 100_000,
            select: SelectPolicy::Max,
            policies: Vec::new(),
        };
        BoundedRole {
            role: Role::Prefill,
            current,
            bounds: Bounds {
                min_replicas,
                max_replicas,
            },
            needed: current,
            over_budget: false,
            scale_down: NO_POLICIES,
            changes: &[],
        }
    }

    #[rstest]
    #[case::inside(5, 1, 8, 6, 6)]
    #[case::raised_to_a_new_minimum_at_once(2, 12, 32, 12, 12)]
    #[case::a_tenth(30, 1, 10, 10, 27)]
    #[case::at_least_one(6, 1, 5, 5, 5)]
    #[case::at_least_one_of_few(4, 1, 2, 2, 3)]
    #[case::an_infeasible_budget_holds(9, 1, 5, 9, 9)]
    #[case::to_one(2, 1, 1, 1, 1)]
    fn replicas_come_back_into_their_bounds(
        #[case] current: u32,
        #[case] min: u32,
        #[case] max: u32,
        #[case] wanted: u32,
        #[case] want: u32,
    ) {
        // The rate of growth is limited to one; a minimum does not wait for it.
        let limited = wanted.min(current + 1);
        let (got, step) = bounded(current, min, max).hold_bounds(wanted, limited, at(0));
        assert_eq!(got, want);
        assert_eq!(
            step.is_some(),
            got > wanted,
            "a cut that is not finished is in the report"
        );
    }

    #[test]
    fn policies_of_the_user_come_before_the_implicit_one() {
        let mut rules = testing::rules(300, 10);
        rules.policies = vec![RatePolicy {
            change: ChangeLimit::Replicas(8),
            period: Duration::from_mins(5),
        }];
        let hold = |rules: &ScalingRules, limited| {
            let role = BoundedRole {
                scale_down: rules,
                ..bounded(30, 1, 10)
            };
            role.hold_bounds(10, limited, at(0)).0
        };
        assert_eq!(hold(&rules, 22), 22);
        rules.select = SelectPolicy::Disabled;
        assert_eq!(
            hold(&rules, 30),
            27,
            "disabled stops decisions, and the maximum is none"
        );
    }

    proptest! {
        #[test]
        fn a_lowered_maximum_is_reached_a_tenth_a_minute(current in 1u32..400, max in 1u32..400) {
            let mut changes = ReplicaChanges::default();
            let mut replicas = current;
            let mut a_minute_ago = std::collections::VecDeque::new();
            for tick in 0..240u64 {
                let now = at(tick * 15);
                changes.observe(replicas, now);
                a_minute_ago.push_back(replicas);
                let start = if a_minute_ago.len() > 4 {
                    a_minute_ago.pop_front().unwrap()
                } else {
                    current
                };
                let wanted = replicas.min(max);
                let role = BoundedRole {
                    changes: changes.as_slice(),
                    ..bounded(replicas, 1, max)
                };
                let (next, _) = role.hold_bounds(wanted, wanted, now);
                prop_assert!(next <= replicas && (next >= max || next == replicas));
                prop_assert!(next >= start * 9 / 10 || replicas <= max, "{start} to {next} in a minute");
                replicas = next;
            }
            prop_assert!(replicas <= max.max(current / 100), "{replicas}");
        }
    }
}
