//! The part of the Kubernetes `HorizontalPodAutoscaler` that all its metrics share.
//!
//! Rule and defaults: kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` at
//! 00067268967e and `pkg/apis/autoscaling/v2/defaults.go`: a decision every 15 s, tolerance 0.1,
//! and one of two code paths.
//!
//! An object without `spec.behavior` takes `normalizeDesiredReplicas`: the highest recommendation
//! of five minutes is the recommendation, upwards as downwards, and at most `max(2n, 4)` replicas
//! follow n. One with `spec.behavior` takes `normalizeDesiredReplicasWithBehaviors`: upwards the
//! recommendation of now, downwards the highest of the window, and rates that count from the
//! replicas at the start of each policy's period (`calculateScaleUpLimitWithScalingRules`). In both
//! the replicas that the controller finds are its first recommendation
//! (`recordInitialRecommendation`), and recommendations are remembered as they were before bounds
//! and rates.
//!
//! The files of the policies that use it turn their metrics into recommendations. As shipped there
//! is no `behavior`; tuned, the object has one with the defaults that the API server fills in, as
//! it adds four pods where the other path stops at twice the pods.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::{Observation, PolicyVerdict};
use crate::time::{MINUTE, Nanos, SECOND};

/// Time between two decisions.
pub const INTERVAL: Nanos = 15 * SECOND;

/// A ratio this close to 1 changes nothing.
pub(super) const TOLERANCE: f64 = 0.1;

/// Window of the highest recommendation, downwards: the controller's flag, and the default of a
/// `behavior`.
const STABILIZATION: Nanos = 5 * MINUTE;

/// Pods that an object without `behavior` may reach in one decision however few there are.
const UNSET_UP_MIN: u32 = 4;

/// The longest period that a policy may have; older changes count for none.
const PERIOD_MAX: Nanos = 30 * MINUTE;

/// `ceil(current * ratio)`, or `current` where the ratio is within the tolerance. `counted` is what
/// the ratio is multiplied with, which is not `current` for all kinds of metrics.
pub fn replicas_for(ratio: f64, counted: u32, current: u32) -> u32 {
    if (ratio - 1.0).abs() <= TOLERANCE {
        return current;
    }
    ceil(ratio * f64::from(counted))
}

/// The smallest whole number of replicas not below `replicas`; not-a-number and negative give 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and nobody has four billion replicas"
)]
pub fn ceil(replicas: f64) -> u32 {
    // A whole number that arithmetic left a hair above itself is that number.
    (replicas - 1e-9).ceil() as u32
}

/// The largest whole number of replicas not above `replicas`; not-a-number and negative give 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and nobody has four billion replicas"
)]
pub fn floor(replicas: f64) -> u32 {
    (replicas + 1e-9).floor() as u32
}

/// How much a policy of a direction lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many pods.
    Pods(u32),
    /// So many percent of the pods.
    Percent(u32),
}

/// One policy of a direction: an amount within a period. Of several, the one that lets most through
/// counts (`selectPolicy: Max`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The amount.
    pub amount: Amount,
    /// The period.
    pub period: Nanos,
}

/// The meaning of `spec.behavior`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behavior {
    /// Policies upwards.
    pub up: &'static [Policy],
    /// Policies downwards.
    pub down: &'static [Policy],
    /// Window of the highest recommendation, downwards. Upwards there is none.
    pub down_window: Nanos,
}

impl Behavior {
    /// The values that the API server writes where a user leaves `behavior`'s fields out.
    pub const DEFAULTS: Self = Self {
        up: &[
            Policy {
                amount: Amount::Pods(4),
                period: 15 * SECOND,
            },
            Policy {
                amount: Amount::Percent(100),
                period: 15 * SECOND,
            },
        ],
        down: &[Policy {
            amount: Amount::Percent(100),
            period: 15 * SECOND,
        }],
        down_window: STABILIZATION,
    };
}

/// One such object per role.
#[derive(Clone, Debug)]
pub(super) struct HorizontalPair(PerRole<Horizontal>);

impl HorizontalPair {
    /// Two objects with this behavior.
    pub(super) fn new(behavior: Option<Behavior>) -> Self {
        Self(PerRole::from_fn(|_| Horizontal::new(behavior)))
    }

    /// The verdict where the metric of each role calls for `wanted` replicas. Without a metric a
    /// role keeps its replicas, and nothing is recommended that could hold it later.
    pub(super) fn verdict(
        &mut self,
        observation: &Observation,
        now: Nanos,
        wanted: impl Fn(Role) -> Option<u32>,
    ) -> PolicyVerdict {
        PolicyVerdict::of(PerRole::from_fn(|role| {
            let current = observation.current(role);
            let bounded = |replicas| observation.bounded(role, replicas);
            match wanted(role) {
                Some(wanted) => self.0[role].decide(now, current, wanted, bounded),
                None => bounded(current),
            }
        }))
    }
}

/// Recommendations and changes of one role.
#[derive(Clone, Debug)]
pub struct Horizontal {
    behavior: Option<Behavior>,
    recommended: VecDeque<(Nanos, u32)>,
    added: VecDeque<(Nanos, u32)>,
    removed: VecDeque<(Nanos, u32)>,
}

impl Horizontal {
    /// An object that has seen nothing.
    pub const fn new(behavior: Option<Behavior>) -> Self {
        Self {
            behavior,
            recommended: VecDeque::new(),
            added: VecDeque::new(),
            removed: VecDeque::new(),
        }
    }

    /// Replicas after stabilization, rates and bounds.
    pub fn decide(
        &mut self,
        now: Nanos,
        current: u32,
        recommended: u32,
        bounded: impl Fn(u32) -> u32,
    ) -> u32 {
        if self.recommended.is_empty() {
            self.recommended.push_back((now, current));
        }
        let limited = match self.behavior {
            None => self.without_behavior(now, current, recommended),
            Some(behavior) => self.with_behavior(behavior, now, current, recommended),
        };
        self.recommended.push_back((now, recommended));
        let replicas = bounded(limited);
        forget(&mut self.added, |at| at + PERIOD_MAX <= now);
        forget(&mut self.removed, |at| at + PERIOD_MAX <= now);
        if replicas > current {
            self.added.push_back((now, replicas - current));
        } else if replicas < current {
            self.removed.push_back((now, current - replicas));
        }
        replicas
    }

    /// `normalizeDesiredReplicas`: a recommendation of exactly five minutes ago counts.
    fn without_behavior(&mut self, now: Nanos, current: u32, recommended: u32) -> u32 {
        forget(&mut self.recommended, |at| at + STABILIZATION < now);
        let highest = self.highest(recommended);
        highest.min(current.saturating_mul(2).max(UNSET_UP_MIN))
    }

    /// `normalizeDesiredReplicasWithBehaviors`: one of exactly a window ago does not.
    fn with_behavior(
        &mut self,
        behavior: Behavior,
        now: Nanos,
        current: u32,
        recommended: u32,
    ) -> u32 {
        forget(&mut self.recommended, |at| at + behavior.down_window <= now);
        let stabilized = if recommended < current {
            self.highest(recommended)
        } else {
            recommended
        };
        if stabilized > current {
            let most = behavior.up.iter().map(|policy| {
                let start = current.saturating_sub(changed(&self.added, now, policy.period));
                match policy.amount {
                    Amount::Pods(pods) => start.saturating_add(pods),
                    Amount::Percent(percent) => {
                        ceil(f64::from(start) * (1.0 + f64::from(percent) / 100.0))
                    }
                }
            });
            return stabilized.min(most.max().unwrap_or(current).max(current));
        }
        let fewest = behavior.down.iter().map(|policy| {
            let start = current.saturating_add(changed(&self.removed, now, policy.period));
            match policy.amount {
                Amount::Pods(pods) => start.saturating_sub(pods),
                Amount::Percent(percent) => {
                    floor(f64::from(start) * (1.0 - f64::from(percent) / 100.0))
                }
            }
        });
        stabilized.max(fewest.min().unwrap_or(current).min(current))
    }

    fn highest(&self, recommended: u32) -> u32 {
        let past = self.recommended.iter().map(|(_, replicas)| *replicas);
        past.max().unwrap_or(0).max(recommended)
    }
}

fn forget(entries: &mut VecDeque<(Nanos, u32)>, is_old: impl Fn(Nanos) -> bool) {
    while entries.front().is_some_and(|(at, _)| is_old(*at)) {
        entries.pop_front();
    }
}

/// Replicas changed in one direction within `period`.
fn changed(entries: &VecDeque<(Nanos, u32)>, now: Nanos, period: Nanos) -> u32 {
    let recent = entries.iter().filter(|(at, _)| at + period > now);
    recent.map(|(_, count)| *count).sum()
}

#[cfg(test)]
mod tests;
