//! Knative's pod autoscaler (KPA) on concurrency, one per role.
//!
//! Rule and defaults: knative/serving `pkg/autoscaler/scaling/autoscaler.go` and
//! `config/core/configmaps/autoscaler.yaml`: every 2 s, mean concurrency of a 60 s stable window
//! and of a panic window of 10 % of it, over 70 % of a target of 100 requests per pod. Twice what
//! the ready pods can take in the panic window is panic: the higher of both windows, and never
//! down, until 60 s pass without. Up at most 1000 times, down at most to half of the ready pods,
//! per tick; the controller starts in panic when there are two pods or more. Scale to zero is left
//! out.
//!
//! Concurrency is requests running and waiting at the pods, as the queue proxies report. Tuning
//! divides the target.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::horizontal::ceil;
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::time::{MINUTE, Nanos, SECOND};

/// Time between two decisions.
pub const INTERVAL: Nanos = 2 * SECOND;

const STABLE_WINDOW: Nanos = MINUTE;
const PANIC_WINDOW: Nanos = STABLE_WINDOW / 10;
const PANIC_THRESHOLD: f64 = 2.0;
const UTILIZATION: f64 = 0.7;
const CONCURRENCY_TARGET: f64 = 100.0;
const UP_MAX: f64 = 1000.0;
const DOWN_MAX: f64 = 2.0;

/// The autoscaler of one role.
#[derive(Clone, Debug)]
struct Scaler {
    target: f64,
    /// Total concurrency at each tick of the stable window.
    samples: VecDeque<(Nanos, f64)>,
    panic_since: Option<Nanos>,
    panic_pods_max: u32,
    started: bool,
}

impl Scaler {
    fn new(target: f64) -> Self {
        Self {
            target,
            samples: VecDeque::new(),
            panic_since: None,
            panic_pods_max: 0,
            started: false,
        }
    }

    fn mean(&self, now: Nanos, window: Nanos) -> Option<f64> {
        let recent = self.samples.iter().filter(|(at, _)| *at + window > now);
        let (sum, count) = recent.fold((0.0, 0_u32), |(sum, n), (_, value)| (sum + value, n + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    fn scale(&mut self, now: Nanos, concurrency: f64, ready: u32) -> Option<u32> {
        self.samples.push_back((now, concurrency));
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| *at + STABLE_WINDOW <= now)
        {
            self.samples.pop_front();
        }
        if !self.started {
            self.started = true;
            if ready >= 2 {
                self.panic_since = Some(now);
                self.panic_pods_max = ready;
            }
        }
        let ready = f64::from(ready.max(1));
        let (most, fewest) = (ceil(UP_MAX * ready), floor(ready / DOWN_MAX));
        let wanted = |mean: f64| ceil(mean / self.target).clamp(fewest, most);
        let stable = wanted(self.mean(now, STABLE_WINDOW)?);
        let panicked = self.mean(now, PANIC_WINDOW)?;
        let over = f64::from(ceil(panicked / self.target)) / ready >= PANIC_THRESHOLD;
        let panicked = wanted(panicked);
        if over {
            self.panic_since = Some(now);
        } else if self
            .panic_since
            .is_some_and(|since| since + STABLE_WINDOW < now)
        {
            self.panic_since = None;
            self.panic_pods_max = 0;
        }
        if self.panic_since.is_none() {
            return Some(stable);
        }
        self.panic_pods_max = self.panic_pods_max.max(panicked.max(stable));
        Some(self.panic_pods_max)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "half of a count of pods is a small positive number"
)]
fn floor(pods: f64) -> u32 {
    pods.floor() as u32
}

/// Two such autoscalers, one per role.
#[derive(Clone, Debug)]
pub struct KnativeKpa {
    scalers: PerRole<Scaler>,
}

impl KnativeKpa {
    /// With the target concurrency divided by `aggressiveness`.
    pub fn new(aggressiveness: PerRole<f64>) -> Self {
        let target = |by: f64| Scaler::new(CONCURRENCY_TARGET * UTILIZATION / by);
        Self {
            scalers: aggressiveness.map(target),
        }
    }

    fn scale(&mut self, role: Role, observation: &Observation, now: Nanos) -> u32 {
        let current = observation.current(role);
        // No pod reports: no data, and nothing changes.
        let replicas = observation
            .sum(role, super::WorkerObservation::in_flight)
            .and_then(|sum| self.scalers[role].scale(now, sum, observation.ready(role)));
        observation.bounded(role, replicas.unwrap_or(current))
    }
}

impl Autoscaler for KnativeKpa {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        PolicyVerdict::of(PerRole::from_fn(|role| self.scale(role, observation, now)))
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays concurrencies, one per tick, for one ready pod; gives the last answer.
    fn after(ready: u32, concurrencies: &[(usize, f64)]) -> u32 {
        let mut scaler = Scaler::new(70.0);
        let mut now = 0;
        let mut last = None;
        for (ticks, concurrency) in concurrencies {
            for _ in 0..*ticks {
                now += INTERVAL;
                last = scaler.scale(now, *concurrency, ready);
            }
        }
        last.unwrap()
    }

    #[test]
    fn the_stable_mean_over_seventy_percent_of_the_target() {
        for (concurrency, want) in [(70.0, 1), (71.0, 2), (139.0, 2)] {
            assert_eq!(after(1, &[(30, concurrency)]), want, "{concurrency}");
        }
    }

    #[test]
    fn a_burst_of_twice_the_capacity_is_panic() {
        // Six seconds at 280 are 4 pods at once; the stable mean would say 2.
        assert_eq!(after(1, &[(30, 70.0), (3, 280.0)]), 4);
    }

    #[test]
    fn panic_never_goes_down_and_ends_a_minute_after() {
        assert_eq!(after(1, &[(30, 70.0), (3, 280.0), (29, 10.0)]), 4);
        assert_eq!(after(1, &[(30, 70.0), (3, 280.0), (40, 10.0)]), 1);
    }

    #[test]
    fn at_most_half_the_ready_pods_go_at_once_and_a_start_with_two_pods_is_panic() {
        assert_eq!(after(10, &[(20, 0.0)]), 10);
        assert_eq!(after(10, &[(40, 0.0)]), 5);
    }
}
