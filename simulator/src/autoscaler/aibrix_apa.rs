//! `AIBrix`' `PodAutoscaler` with the APA strategy, one per role.
//!
//! Rule and defaults: vllm-project/aibrix `pkg/controller/podautoscaler`, every 10 s.
//!
//! - `algorithm/apa.go`, `computeTargetReplicas` at e3e10f9e4aeb: the mean over pods and over a
//!   window of 180 s against a target; above 1.1 of it replicas times the ratio, at most doubled,
//!   below 0.9 of it the same downwards, at most halved.
//! - `autoscaler.go`, `applyPendingReplicaGuard` at 015a2e5f3572, later than the former and in its
//!   favour: upwards replicas that are not ready count as idle, downwards as at the target, and a
//!   change never becomes larger or turns round by it.
//! - `podautoscaler_controller.go`, `stabilizeRecommendation` at e3e10f9e4aeb: downwards the
//!   *lowest* recommendation of less than 300 s ago, against what the HPA does, so one low blip is
//!   replayed.
//!
//! Metrics are scraped from the pods as single gauges: `vllm:gpu_cache_usage_perc` at 0.5 as in the
//! project's samples for decode, and for prefill, whose cache is empty, `vllm:num_requests_waiting`
//! at 5. Tuning divides both.

use std::collections::VecDeque;

use pd_core::PerRole;

use super::horizontal::ceil;
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::{MINUTE, Nanos, SECOND};

/// Time between two decisions.
pub const INTERVAL: Nanos = 10 * SECOND;

const WINDOW: Nanos = 3 * MINUTE;
const DOWN_COOLDOWN: Nanos = 5 * MINUTE;
const TOLERANCE: f64 = 0.1;
const UP_MAX: f64 = 2.0;
const DOWN_MAX: f64 = 2.0;
const WAITING_TARGET: f64 = 5.0;
const KV_USAGE_TARGET: f64 = 0.5;

/// Replicas for a mean of `use_over_target` at `current` replicas.
fn apa(current: u32, use_over_target: f64) -> u32 {
    let now = f64::from(current.max(1));
    let wanted = now * use_over_target;
    if use_over_target > 1.0 + TOLERANCE {
        ceil(wanted.min((now * UP_MAX).ceil()))
    } else if use_over_target < 1.0 - TOLERANCE {
        ceil(wanted.max((now / DOWN_MAX).floor()))
    } else {
        current
    }
}

/// Replicas where `wanted` were computed for a mean of `use_over_target` over the `ready` of
/// `current` replicas.
fn guarded(current: u32, ready: u32, use_over_target: f64, wanted: u32) -> u32 {
    let pending = current.saturating_sub(ready);
    if pending == 0 || wanted == current {
        return wanted;
    }
    let of_ready = f64::from(ready) * use_over_target;
    if wanted > current {
        ceil(of_ready).clamp(current, wanted)
    } else {
        ceil(of_ready + f64::from(pending)).clamp(wanted, current)
    }
}

/// One `PodAutoscaler`.
#[derive(Clone, Debug)]
struct Scaler {
    target: f64,
    samples: VecDeque<(Nanos, f64)>,
    recommended: VecDeque<(Nanos, u32)>,
}

impl Scaler {
    fn scale(&mut self, now: Nanos, current: u32, ready: u32, usage: f64) -> u32 {
        self.samples.push_back((now, usage));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| *at + WINDOW <= now)
        {
            self.samples.pop_front();
        }
        let sum: f64 = self.samples.iter().map(|(_, value)| value).sum();
        let mean = sum / self.samples.len().max(1) as f64;
        let use_over_target = mean / self.target;
        let wanted = guarded(
            current,
            ready,
            use_over_target,
            apa(current, use_over_target),
        );
        self.recommended.push_back((now, wanted));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| *at + DOWN_COOLDOWN <= now)
        {
            self.recommended.pop_front();
        }
        if wanted >= current {
            return wanted;
        }
        let lowest = self.recommended.iter().map(|(_, replicas)| *replicas).min();
        lowest.unwrap_or(wanted)
    }
}

/// Two such objects, one per role.
#[derive(Clone, Debug)]
pub struct AibrixApa {
    scalers: PerRole<Scaler>,
}

impl AibrixApa {
    /// With the targets divided by `aggressiveness`.
    pub fn new(aggressiveness: PerRole<f64>) -> Self {
        let targets = PerRole {
            prefill: WAITING_TARGET / aggressiveness.prefill,
            decode: KV_USAGE_TARGET / aggressiveness.decode,
        };
        Self {
            scalers: targets.map(|target| Scaler {
                target,
                samples: VecDeque::new(),
                recommended: VecDeque::new(),
            }),
        }
    }
}

impl Autoscaler for AibrixApa {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        PolicyVerdict::of(PerRole::from_fn(|role| {
            let current = observation.current(role);
            let Some(usage) = observation.usage(role) else {
                return observation.bounded(role, current);
            };
            let replicas = self.scalers[role].scale(now, current, observation.ready(role), usage);
            observation.bounded(role, replicas)
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

    /// The rows of upstream's `apa_test.go` with the default rates: 2 and 2, tolerances of 10 %.
    #[rstest]
    #[case::up(2, 45.0 / 30.0, 3)]
    #[case::up_rounds_up(2, 35.0 / 30.0, 3)]
    #[case::up_at_most_doubled(2, 90.0 / 30.0, 4)]
    #[case::down(6, 20.0 / 30.0, 4)]
    #[case::down_rounds_up(6, 18.0 / 30.0, 4)]
    #[case::down_at_most_halved(6, 10.0 / 30.0, 3)]
    #[case::half_of_an_odd_number_rounds_down(5, 0.1, 2)]
    #[case::within_above(2, 33.0 / 30.0, 2)]
    #[case::within_below(2, 27.0 / 30.0, 2)]
    fn use_over_target_times_replicas(
        #[case] current: u32,
        #[case] use_over_target: f64,
        #[case] want: u32,
    ) {
        assert_eq!(apa(current, use_over_target), want);
    }

    /// Upstream's rows for replicas that are pending, its target 50 and its rates as here.
    #[rstest]
    #[case::upwards_they_count_as_idle(4, 2, 90.0 / 50.0, 4)]
    #[case::downwards_as_at_the_target(4, 2, 10.0 / 50.0, 3)]
    #[case::none_pending(4, 4, 90.0 / 50.0, 8)]
    #[case::a_few_pending_damp_a_way_up(10, 8, 1.5, 12)]
    fn pending_replicas_damp_a_change(
        #[case] current: u32,
        #[case] ready: u32,
        #[case] use_over_target: f64,
        #[case] want: u32,
    ) {
        let wanted = apa(current, use_over_target);
        assert_eq!(guarded(current, ready, use_over_target, wanted), want);
    }

    #[rstest]
    #[case::within_the_cool_down(2 * MINUTE, 3)]
    #[case::just_within(5 * MINUTE - SECOND, 3)]
    #[case::exactly_as_old_as_it(5 * MINUTE, 8)]
    #[case::older(6 * MINUTE, 8)]
    fn a_low_blip_within_the_cool_down_is_replayed(#[case] now: Nanos, #[case] want: u32) {
        let mut scaler = Scaler {
            target: 1.0,
            samples: VecDeque::new(),
            recommended: VecDeque::from([(0, 3)]),
        };
        assert_eq!(scaler.scale(now, 10, 10, 0.8), want);
    }
}
