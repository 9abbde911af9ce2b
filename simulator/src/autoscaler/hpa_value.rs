//! `HorizontalPodAutoscaler` on an External metric of type Value, one per role.
//!
//! Rule: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go` at
//! 00067268967e, `GetExternalMetricReplicas`: usage over target, times the pods that are *ready*,
//! rounded up; within 10 % of the target nothing changes.
//! A slow starter therefore takes a pool down while it is overloaded, as the upstream test with one
//! ready pod of three does. No metric, no change.
//!
//! Users of P/D serving scale prefill on the mean queue of `vllm:num_requests_waiting` with the
//! threshold 5 of the vLLM production-stack, and decode on the mean `vllm:kv_cache_usage_perc` with
//! the 0.80 that llm-d calls saturated. Tuning divides both targets.

use pd_core::PerRole;

use super::horizontal::{Behavior, HorizontalPair, replicas_for};
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::Nanos;

/// Waiting requests per prefill worker.
const WAITING_TARGET: f64 = 5.0;

/// Share of the KV cache in use at a decode worker.
const KV_USAGE_TARGET: f64 = 0.80;

/// Two such objects, one per role.
#[derive(Clone, Debug)]
pub struct HpaValue {
    targets: PerRole<f64>,
    horizontal: HorizontalPair,
}

impl HpaValue {
    /// With the usual targets divided by `aggressiveness`.
    pub fn new(behavior: Option<Behavior>, aggressiveness: PerRole<f64>) -> Self {
        Self {
            targets: PerRole {
                prefill: WAITING_TARGET / aggressiveness.prefill,
                decode: KV_USAGE_TARGET / aggressiveness.decode,
            },
            horizontal: HorizontalPair::new(behavior),
        }
    }
}

impl Autoscaler for HpaValue {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        self.horizontal.verdict(observation, now, |role| {
            let ratio = observation.usage(role)? / self.targets[role];
            let (ready, current) = (observation.ready(role), observation.current(role));
            Some(replicas_for(ratio, ready, current))
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

    /// The verdict six minutes after the first, when no older recommendation holds it.
    fn lasting(hpa: &mut HpaValue, seen: &Observation) -> PerRole<u32> {
        hpa.decide(seen, 0);
        hpa.decide(seen, 6 * MINUTE).replicas
    }

    fn decide(waiting: f64, kv_usage: f64) -> PerRole<u32> {
        let seen = observation(PerRole {
            prefill: alike(3, 1.0, waiting, 0.0),
            decode: alike(4, 100.0, 0.0, kv_usage),
        });
        let mut hpa = HpaValue::new(None, AS_IS);
        lasting(&mut hpa, &seen)
    }

    #[test]
    fn queue_and_kv_over_target_times_ready_pods() {
        for (waiting, kv_usage, prefill, decode) in [
            (5.0, 0.80, 3, 4),
            (5.45, 0.87, 3, 4),
            (10.0, 0.96, 6, 5),
            (2.0, 0.40, 2, 2),
            (0.0, 0.01, 1, 1),
        ] {
            assert_eq!(decide(waiting, kv_usage), PerRole { prefill, decode });
        }
    }

    #[test]
    fn a_slow_starter_takes_an_overloaded_pool_down() {
        // The upstream row: 3 pods, 1 of them ready, 8600 against 4400 give 2.
        let mut seen = observation(PerRole {
            prefill: alike(1, 1.0, 5.0 * 8600.0 / 4400.0, 0.0),
            decode: alike(1, 1.0, 0.0, 0.8),
        });
        seen.snapshot.roles.prefill.current = 3;
        let mut hpa = HpaValue::new(None, AS_IS);
        assert_eq!(lasting(&mut hpa, &seen).prefill, 2);
    }

    #[test]
    fn without_a_metric_nothing_changes() {
        let mut seen = observation(PerRole::default());
        seen.snapshot.roles.prefill.current = 3;
        seen.snapshot.roles.decode.current = 7;
        let mut hpa = HpaValue::new(None, AS_IS);
        assert_eq!(
            hpa.decide(&seen, 0).replicas,
            PerRole {
                prefill: 3,
                decode: 7
            }
        );
    }
}
