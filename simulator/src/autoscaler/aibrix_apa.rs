//! `AIBrix`' `PodAutoscaler` with the APA strategy, one per role.
//!
//! Rule and defaults: vllm-project/aibrix `pkg/controller/podautoscaler/algorithm/apa.go` and
//! `podautoscaler_controller.go`: every 10 s, the mean over pods and over a window of 180 s against
//! a target; above 1.1 of it replicas times the ratio, at most doubled, below 0.9 of it the same
//! downwards, at most halved. Downwards the *lowest* recommendation of the 300 s cool-down is taken
//! (`stabilizeRecommendation`), against what the HPA does, so one low blip is replayed.
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

/// One `PodAutoscaler`.
#[derive(Clone, Debug)]
struct Scaler {
    target: f64,
    samples: VecDeque<(Nanos, f64)>,
    recommended: VecDeque<(Nanos, u32)>,
}

impl Scaler {
    fn scale(&mut self, now: Nanos, current: u32, usage: f64) -> u32 {
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
        let wanted = apa(current, mean / self.target);
        self.recommended.push_back((now, wanted));
        while self
            .recommended
            .front()
            .is_some_and(|(at, _)| *at + DOWN_COOLDOWN < now)
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
            let replicas = self.scalers[role].scale(now, current, usage);
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

    #[rstest]
    #[case::within(10, 1.1, 10)]
    #[case::up(10, 1.25, 13)]
    #[case::up_at_most_doubled(10, 5.0, 20)]
    #[case::down(10, 0.75, 8)]
    #[case::down_at_most_halved(10, 0.1, 5)]
    #[case::half_of_an_odd_number_rounds_down(5, 0.1, 2)]
    fn use_over_target_times_replicas(
        #[case] current: u32,
        #[case] use_over_target: f64,
        #[case] want: u32,
    ) {
        assert_eq!(apa(current, use_over_target), want);
    }

    #[test]
    fn a_low_blip_within_the_cool_down_is_replayed() {
        let mut scaler = Scaler {
            target: 1.0,
            samples: VecDeque::new(),
            recommended: VecDeque::from([(0, 3)]),
        };
        assert_eq!(scaler.scale(2 * MINUTE, 10, 0.8), 3);
        assert_eq!(scaler.scale(6 * MINUTE, 10, 0.8), 8);
    }
}
