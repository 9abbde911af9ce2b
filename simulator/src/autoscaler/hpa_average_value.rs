//! `HorizontalPodAutoscaler` on requests in flight, as a metric of type `AverageValue`, one per
//! role.
//!
//! Rule: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` at
//! 00067268967e, `GetExternalPerPodMetricReplicas`: the sum over the target, rounded up; within
//! 10 % of target times the replicas of the *status*, which counts pods that do not serve yet, it
//! is the replicas of the status and not those of the specification. No metric, no change.
//!
//! Requests running and waiting per pod are what Google's guide to inference autoscaling and
//! llm-d's guide to HPA with gateway metrics scale on. There is no published target for P/D; users
//! begin with a few prompts per prefill worker and half the batch of a decode worker. Tuning
//! divides both.

use pd_core::{PerRole, Role};

use super::horizontal::{Behavior, HorizontalPair, TOLERANCE, ceil};
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// Prompts in flight per prefill worker.
const PREFILL_TARGET: f64 = 4.0;

/// Two such objects, one per role.
#[derive(Clone, Debug)]
pub struct HpaAverageValue {
    targets: PerRole<f64>,
    horizontal: HorizontalPair,
}

impl HpaAverageValue {
    /// For decode workers with batches of up to `max_batch`, the targets divided by
    /// `aggressiveness`.
    pub fn new(max_batch: u32, behavior: Option<Behavior>, aggressiveness: PerRole<f64>) -> Self {
        Self {
            targets: PerRole {
                prefill: PREFILL_TARGET / aggressiveness.prefill,
                decode: f64::from(max_batch) / 2.0 / aggressiveness.decode,
            },
            horizontal: HorizontalPair::new(behavior),
        }
    }
}

/// Replicas of a role for a metric summed over its pods.
pub(super) fn replicas_for_sum(
    sum: f64,
    target: f64,
    observation: &Observation,
    role: Role,
) -> u32 {
    average_value(sum, target, observation.existing(role))
}

/// The same for `status` replicas in the workload's status.
pub(super) fn average_value(sum: f64, target: f64, status: u32) -> u32 {
    let ratio = sum / (target * f64::from(status));
    if (ratio - 1.0).abs() <= TOLERANCE {
        return status;
    }
    ceil(sum / target)
}

impl Autoscaler for HpaAverageValue {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        self.horizontal.verdict(observation, now, |role| {
            let sum = observation.sum(role, super::WorkerObservation::in_flight)?;
            Some(replicas_for_sum(sum, self.targets[role], observation, role))
        })
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::observation::testing::{alike, observation};
    use super::*;

    /// The sum over the target, rounded up, and a tolerance of 10 % of target times existing pods.
    /// The last three are the rows of upstream's `replica_calculator_test.go` for an external
    /// metric per pod.
    #[rstest]
    #[case::exact(8.0, 4.0, 2, 2)]
    #[case::within(8.7, 4.0, 2, 2)]
    #[case::above(9.0, 4.0, 2, 3)]
    #[case::below(4.0, 4.0, 2, 1)]
    #[case::starting_pods_count_as_there(16.0, 4.0, 4, 4)]
    #[case::idle(0.0, 4.0, 3, 0)]
    #[case::nothing_there_and_nothing_to_do(0.0, 4.0, 0, 0)]
    #[case::nothing_there_and_work(9.0, 4.0, 0, 3)]
    #[case::upstream_up(8_600.0, 2_150.0, 3, 4)]
    #[case::upstream_within_tolerance(8_600.0, 2_867.0, 3, 3)]
    #[case::upstream_down(8_600.0, 2_867.0, 5, 3)]
    fn a_sum_over_its_target(
        #[case] sum: f64,
        #[case] target: f64,
        #[case] existing: u32,
        #[case] want: u32,
    ) {
        assert_eq!(average_value(sum, target, existing), want);
    }

    #[test]
    fn within_tolerance_the_replicas_of_the_status_are_kept() {
        // Three asked for of which a quota lets only two exist: two are enough, and two it is.
        assert_eq!(average_value(8.0, 4.0, 2), 2);
    }

    #[test]
    fn both_roles_scale_on_their_own_requests() {
        let seen = observation(PerRole {
            prefill: alike(2, 1.0, 7.0, 0.0),
            decode: alike(2, 100.0, 0.0, 0.1),
        });
        let mut hpa = HpaAverageValue::new(
            256,
            None,
            PerRole {
                prefill: 1.0,
                decode: 2.0,
            },
        );
        assert_eq!(
            hpa.decide(&seen, 0).replicas,
            PerRole {
                prefill: 4,
                decode: 4
            }
        );
    }
}
