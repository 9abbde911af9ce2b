//! Volcano Kthena's `AutoscalingPolicy` with a disaggregated target and a ratio constraint.
//!
//! Rule and defaults: volcano-sh/kthena at 3cc057284c34, every 15 s.
//!
//! - `pkg/autoscaler/algorithm/recommendation.go`, `getDesiredInstancesForSingleInstanceMetric`:
//!   the gauge summed over the pods counts as that of *one* instance, so the tolerance of 10 %
//!   compares sum over target with 1. From 1 upwards unready instances count as instances without
//!   load: they share the sum, and a role stays as it is where that ends within the tolerance,
//!   below 1, or at fewer replicas.
//! - `algorithm/revision.go` and `pkg/autoscaler/util/settings.go`: upwards at most the greater of
//!   one instance and 100 % per 15 s; a recommendation of 200 % of the replicas or more is panic
//!   and may be 1000 % for 60 s; downwards the highest recommendation of five minutes.
//! - `algorithm/disaggregated_ratio.go`, `EnforceRoleRatio`: the role that has too few gets more,
//!   and only if its maximum is in the way does the other get fewer.
//! - `autoscaler/disaggregated_scaler.go`, `Scale`: a role without metrics stops both.
//!
//! The metric is `vllm:num_requests_waiting` with the target 10 of the project's examples. The
//! range of the ratio is the scenario's, or half to twice the ratio of the fewest fixed replicas
//! that attain the objective on the very trace, which no user knows so well. Tuning divides the
//! target.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::horizontal::{ceil, floor};
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::{MINUTE, Nanos, SECOND};

/// Time between two decisions.
pub const INTERVAL: Nanos = 15 * SECOND;

const TOLERANCE: f64 = 0.1;
const WAITING_TARGET: f64 = 10.0;
const STABILIZATION: Nanos = 5 * MINUTE;
const PANIC_THRESHOLD: f64 = 2.0;
const PANIC_HOLD: Nanos = MINUTE;
const PANIC_UP: u32 = 10;

/// The range of prefill replicas per decode replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioRange {
    /// Fewest prefill replicas per decode replica, above 0.
    pub lowest: f64,
    /// Most.
    pub highest: f64,
}

/// Replicas whose ratio is in range, as `EnforceRoleRatio` finds them.
fn enforce(replicas: PerRole<u32>, range: RatioRange, most: PerRole<u32>) -> PerRole<u32> {
    let mut replicas = replicas.map(|count| count.max(1));
    let ratio = f64::from(replicas.prefill) / f64::from(replicas.decode);
    if ratio < range.lowest {
        let prefill = ceil(range.lowest * f64::from(replicas.decode));
        replicas.prefill = prefill.min(most.prefill);
        if prefill > most.prefill {
            replicas.decode = floor(f64::from(most.prefill) / range.lowest).max(1);
        }
    } else if ratio > range.highest {
        let decode = ceil(f64::from(replicas.prefill) / range.highest);
        replicas.decode = decode.min(most.decode);
        if decode > most.decode {
            replicas.prefill = floor(f64::from(most.decode) * range.highest).max(1);
        }
    }
    replicas
}

/// Replicas for a sum of `sum_over_target` targets, with so many instances `unready`.
fn recommended(current: u32, unready: u32, sum_over_target: f64) -> u32 {
    let is_near = |ratio: f64| (ratio - 1.0).abs() <= TOLERANCE;
    let wanted = ceil(sum_over_target);
    if unready == 0 || sum_over_target < 1.0 {
        return if is_near(sum_over_target) {
            current
        } else {
            wanted
        };
    }
    let shared = sum_over_target / f64::from(1 + unready);
    if is_near(shared) || shared < 1.0 {
        return current;
    }
    wanted.max(current)
}

/// The recommendation of one role.
#[derive(Clone, Debug, Default)]
struct Recommender {
    recommended: VecDeque<(Nanos, u32)>,
    panic_since: Option<Nanos>,
}

impl Recommender {
    fn recommend(&mut self, now: Nanos, current: u32, wanted: u32) -> u32 {
        self.recommended.push_back((now, wanted));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| *at + STABILIZATION < now)
        {
            self.recommended.pop_front();
        }
        if f64::from(wanted) >= PANIC_THRESHOLD * f64::from(current.max(1)) {
            self.panic_since = Some(now);
        }
        let panics = self
            .panic_since
            .is_some_and(|since| now <= since + PANIC_HOLD);
        if wanted > current {
            let up_to = if panics {
                current.saturating_mul(1 + PANIC_UP)
            } else {
                current.saturating_mul(2).max(current.saturating_add(1))
            };
            return wanted.min(up_to);
        }
        if panics {
            return current;
        }
        let highest = self.recommended.iter().map(|(_, replicas)| *replicas).max();
        highest.unwrap_or(wanted).min(current)
    }
}

/// The policy with its two roles.
#[derive(Clone, Debug)]
pub struct KthenaPdRatio {
    targets: PerRole<f64>,
    range: RatioRange,
    recommenders: PerRole<Recommender>,
}

impl KthenaPdRatio {
    /// With this range, and the target divided by `aggressiveness`.
    pub fn new(range: RatioRange, aggressiveness: PerRole<f64>) -> Self {
        Self {
            targets: aggressiveness.map(|by| WAITING_TARGET / by),
            range,
            recommenders: PerRole::default(),
        }
    }

    fn recommend(&mut self, role: Role, observation: &Observation, now: Nanos) -> Option<u32> {
        let sum = observation.sum(role, |worker| worker.waiting)?;
        let current = observation.current(role);
        let unready = observation
            .existing(role)
            .saturating_sub(observation.ready(role));
        let wanted = recommended(current, unready, sum / self.targets[role]);
        let replicas = self.recommenders[role].recommend(now, current, wanted);
        Some(observation.bounded(role, replicas))
    }
}

impl Autoscaler for KthenaPdRatio {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let current = PerRole::from_fn(|role| observation.current(role));
        let prefill = self.recommend(Role::Prefill, observation, now);
        let decode = self.recommend(Role::Decode, observation, now);
        // A role without metrics stops both.
        let (Some(prefill), Some(decode)) = (prefill, decode) else {
            return PolicyVerdict::of(current);
        };
        let bounds = observation.snapshot.policy.bounds;
        let most = bounds.map(|bounds| bounds.max_replicas);
        let replicas = enforce(PerRole { prefill, decode }, self.range, most);
        PolicyVerdict::of(PerRole::from_fn(|role| {
            observation.bounded(role, replicas[role])
        }))
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::in_range((4, 2), (4, 2))]
    #[case::too_little_prefill((1, 4), (4, 4))]
    #[case::too_little_decode((9, 2), (9, 3))]
    #[case::prefill_at_its_most((2, 15), (10, 10))]
    #[case::decode_at_its_most((64, 5), (30, 10))]
    #[case::a_single_zero_is_seeded((0, 1), (1, 1))]
    fn the_ratio_is_repaired_upwards(#[case] from: (u32, u32), #[case] to: (u32, u32)) {
        let pair = |(prefill, decode)| PerRole { prefill, decode };
        let range = RatioRange {
            lowest: 1.0,
            highest: 3.0,
        };
        let most = PerRole {
            prefill: 10,
            decode: 10,
        };
        assert_eq!(enforce(pair(from), range, most), pair(to));
    }

    /// The rows of upstream's `recommendation_test.go` that concern one metric of pods, with the
    /// sum of ready instances as the collector gives it.
    #[rstest]
    #[case::the_sum_of_one_target_holds_ten(10, 0, 1.0, 10)]
    #[case::within_the_tolerance_below(9, 0, 0.91, 9)]
    #[case::within_the_tolerance_above(9, 0, 1.09, 9)]
    #[case::a_mean_of_nearly_ten(3, 0, 29.3, 30)]
    #[case::ten_instances_at_a_tenth(10, 0, 1.05 * 10.0, 11)]
    #[case::unready_ones_are_ignored_downwards(58, 50, 0.15, 1)]
    #[case::unready_ones_count_as_idle_upwards(18, 10, 8.0 * 3.9, 32)]
    #[case::too_many_unready_ones_change_the_direction(58, 50, 8.0 * 3.9, 58)]
    #[case::unready_ones_hold_a_role_from_one_upwards(10, 1, 5.0, 10)]
    #[case::and_near_the_tolerance(4, 3, 4.2, 4)]
    fn a_sum_counts_as_one_instance(
        #[case] current: u32,
        #[case] unready: u32,
        #[case] over: f64,
        #[case] want: u32,
    ) {
        assert_eq!(recommended(current, unready, over), want);
    }

    #[rstest]
    #[case::up_is_doubled_without_panic(4, 7, 7)]
    #[case::panic_goes_beyond_doubling(4, 30, 30)]
    #[case::panic_has_its_own_limit(1, 30, 11)]
    fn growth_is_limited(#[case] current: u32, #[case] wanted: u32, #[case] want: u32) {
        assert_eq!(Recommender::default().recommend(0, current, wanted), want);
    }
}
