//! The part of the Kubernetes `HorizontalPodAutoscaler` that all its metrics share.
//!
//! Rule and defaults: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go`,
//! `horizontal.go` and `apis/autoscaling/v2/defaults.go`: a decision every 15 s, tolerance 0.1, no
//! stabilization upwards and the highest recommendation of five minutes downwards, upwards at most
//! the greater of four pods and 100 % per 15 s, downwards 100 % per 15 s.
//!
//! The files of the policies that use it turn their metrics into replicas. Rate limits
//! count from the replicas at the last decision, which is one period ago.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::{Observation, PolicyVerdict};
use crate::time::{MINUTE, Nanos, SECOND};

/// Time between two decisions.
pub const INTERVAL: Nanos = 15 * SECOND;

/// A ratio this close to 1 changes nothing.
pub(super) const TOLERANCE: f64 = 0.1;

/// Window of the highest recommendation, downwards.
const STABILIZATION: Nanos = 5 * MINUTE;

/// Pods that may be added per period however few there are.
const PODS_UP_MIN: u32 = 4;

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

/// One such object per role.
#[derive(Clone, Debug, Default)]
pub(super) struct HorizontalPair(PerRole<Horizontal>);

impl HorizontalPair {
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
            match wanted(role) {
                Some(wanted) => {
                    let recommended = observation.bounded(role, wanted);
                    self.0[role].stabilized(now, current, recommended)
                }
                None => observation.bounded(role, current),
            }
        }))
    }
}

/// Recommendations of one role, and what they become.
#[derive(Clone, Debug, Default)]
pub struct Horizontal {
    recommended: VecDeque<(Nanos, u32)>,
}

impl Horizontal {
    /// Replicas after stabilization and rate limits.
    pub fn stabilized(&mut self, now: Nanos, current: u32, recommended: u32) -> u32 {
        self.recommended.push_back((now, recommended));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| at + STABILIZATION < now)
        {
            self.recommended.pop_front();
        }
        let highest = self.recommended.iter().map(|(_, replicas)| *replicas).max();
        let stabilized = if recommended < current {
            // Not above `current`: an old peak stops a way down and starts no way up.
            highest.unwrap_or(recommended).min(current)
        } else {
            recommended
        };
        let up_to = current
            .saturating_mul(2)
            .max(current.saturating_add(PODS_UP_MIN));
        stabilized.min(up_to)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// From the published rule: desired = ceil(current * metric / target), unless within 10 %.
    #[rstest]
    #[case::documented_doubling(2.0, 1, 2)]
    #[case::documented_halving(0.5, 4, 2)]
    #[case::inside_the_tolerance_above(1.099, 10, 10)]
    #[case::inside_the_tolerance_below(0.901, 10, 10)]
    #[case::just_outside(1.11, 10, 12)]
    #[case::rounds_up(0.61, 3, 2)]
    #[case::nothing_at_all(0.0, 3, 0)]
    fn desired_replicas_follow_the_ratio(
        #[case] ratio: f64,
        #[case] current: u32,
        #[case] want: u32,
    ) {
        assert_eq!(replicas_for(ratio, current, current), want);
    }

    #[rstest]
    #[case::four_pods(1, 100, 5)]
    #[case::a_hundred_percent(10, 100, 20)]
    #[case::less_than_either(10, 12, 12)]
    fn growth_per_period_is_limited(#[case] current: u32, #[case] asked: u32, #[case] want: u32) {
        assert_eq!(Horizontal::default().stabilized(0, current, asked), want);
    }

    #[test]
    fn the_highest_recommendation_of_five_minutes_stands() {
        let mut horizontal = Horizontal::default();
        assert_eq!(horizontal.stabilized(0, 10, 10), 10);
        assert_eq!(horizontal.stabilized(MINUTE, 10, 6), 10);
        assert_eq!(horizontal.stabilized(2 * MINUTE, 10, 2), 10);
        assert_eq!(horizontal.stabilized(5 * MINUTE + SECOND, 10, 2), 6);
        assert_eq!(horizontal.stabilized(6 * MINUTE + SECOND, 6, 2), 2);
    }
}
