//! KEDA's Prometheus scaler as the vLLM production-stack sets it up, one `ScaledObject` per role.
//!
//! Rule: kedacore/keda `pkg/scalers/prometheus_scaler.go` at 8b4f083ca8c8 with `ignoreNullValues`
//! left at its default true: an empty answer is the number 0. KEDA hands the number to an HPA as
//! `AverageValue`, which decides every 15 s and has a `behavior` only if the owner wrote one
//! (`advanced.horizontalPodAutoscalerConfig`). The trigger is the
//! production-stack's: `vllm:num_requests_waiting`, threshold 5, summed over pods (one series; KEDA
//! refuses several).
//!
//! Nothing that decode suffers from shows in its queue before its batch is full, and while no
//! worker answers the load counts as none. Tuning divides the threshold.

use pd_core::PerRole;

use super::horizontal::{Behavior, HorizontalPair};
use super::hpa_average_value::replicas_for_sum;
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// Waiting requests per worker.
const THRESHOLD: f64 = 5.0;

/// Two such objects, one per role.
#[derive(Clone, Debug)]
pub struct KedaDefault {
    thresholds: PerRole<f64>,
    horizontal: HorizontalPair,
}

impl KedaDefault {
    /// With the threshold divided by `aggressiveness`.
    pub fn new(behavior: Option<Behavior>, aggressiveness: PerRole<f64>) -> Self {
        Self {
            thresholds: aggressiveness.map(|by| THRESHOLD / by),
            horizontal: HorizontalPair::new(behavior),
        }
    }
}

impl Autoscaler for KedaDefault {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        self.horizontal.verdict(observation, now, |role| {
            let waiting = observation
                .sum(role, |worker| worker.waiting)
                .unwrap_or(0.0);
            let threshold = self.thresholds[role];
            Some(replicas_for_sum(waiting, threshold, observation, role))
        })
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::testing::{alike, observation};
    use super::*;
    use crate::time::MINUTE;

    const AS_IS: PerRole<f64> = PerRole {
        prefill: 1.0,
        decode: 1.0,
    };

    #[test]
    fn the_queue_over_five_is_the_replicas() {
        for (waiting, want) in [(0.0, 1), (5.0, 2), (5.4, 2), (6.0, 3), (10.0, 4)] {
            let seen = observation(PerRole {
                prefill: alike(2, 1.0, waiting, 0.0),
                decode: alike(2, 200.0, 0.0, 0.9),
            });
            let mut keda = KedaDefault::new(None, AS_IS);
            keda.decide(&seen, 0);
            let replicas = keda.decide(&seen, 6 * MINUTE).replicas;
            // A full but queueless decode pool looks idle.
            assert_eq!(
                replicas,
                PerRole {
                    prefill: want,
                    decode: 1
                },
                "{waiting}"
            );
        }
    }

    #[test]
    fn no_answer_is_no_load() {
        let mut seen = observation(PerRole::default());
        seen.snapshot.roles = seen.snapshot.roles.map(|mut role| {
            role.current = 9;
            role
        });
        let mut keda = KedaDefault::new(None, AS_IS);
        keda.decide(&seen, 0);
        assert_eq!(
            keda.decide(&seen, 6 * MINUTE).replicas,
            PerRole {
                prefill: 1,
                decode: 1
            }
        );
        let busy = observation(PerRole {
            prefill: alike(9, 1.0, 5.0, 0.0),
            decode: alike(9, 1.0, 5.0, 0.0),
        });
        let mut keda = KedaDefault::new(None, AS_IS);
        keda.decide(&busy, 0);
        // Only the stabilization window of the HPA is between an empty answer and the minimum.
        assert_eq!(
            keda.decide(&seen, MINUTE).replicas,
            PerRole {
                prefill: 9,
                decode: 9
            }
        );
    }
}
