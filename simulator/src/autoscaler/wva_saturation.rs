//! llm-d's Workload Variant Autoscaler with its saturation analyser (V2), acting through an HPA.
//!
//! Rule and defaults: llm-d/llm-d-workload-variant-autoscaler at 2976e4eeee13, every 15 s.
//!
//! - `internal/engines/analyzers/saturation_v2/analyzer.go`: a replica takes min(k1, k2) tokens; k1
//!   is 0.80 of its KV cache, k2 the compute bound `N (I + O/2)` with `N = min(B O/(I + O), S)`
//!   from the batched tokens B and places S of the engine. Demand is the tokens in use plus the
//!   queue times I (prefill) or I + O (decode), each worker's share of KV and queue being its
//!   highest of a minute (`internal/collector/registration/saturation.go`,
//!   `max_over_time(...[1m])`).
//! - `internal/engines/saturation/engine_v2.go`, `applyUniversalThreshold`: required is demand/0.85
//!   less the *anticipated* supply, pending replicas included; spare is the supply of those that
//!   are *ready* less demand/0.70.
//! - `internal/engines/pipeline/cost_aware_optimizer.go`: any role that needs more keeps the other
//!   from going down; a role's last replica stays.
//!
//! The result is a gauge that an HPA takes as `AverageValue` 1. The project's samples for prefill
//! and decode (`config/samples/simulator/label/*/hpa.yaml`) give that HPA a `behavior`: ten pods
//! per 15 s upwards, one pod a minute downwards after 300 s. k2 as observed by the engine is left
//! out: its derivation is used, from the true engine's limits. Tuning divides both utilisation
//! thresholds.

use std::collections::{BTreeMap, VecDeque};

use pd_core::{PerRole, Role};

use super::horizontal::{Amount, Behavior, HorizontalPair, Policy, ceil, floor};
use super::hpa_average_value::average_value;
use super::{Autoscaler, Gateway, Observation, PolicyVerdict, Reads};
use crate::engine::Profile;
use crate::time::{MINUTE, Nanos, SECOND};

const KV_SHARE: f64 = 0.80;
const UP_THRESHOLD: f64 = 0.85;
const DOWN_THRESHOLD: f64 = 0.70;

/// Window of mean lengths.
const LENGTH_WINDOW: Nanos = 5 * MINUTE;

/// Window of each worker's highest queue and share of KV.
const PEAK_WINDOW: Nanos = MINUTE;

/// The `behavior` of the project's samples for prefill and decode.
const BEHAVIOR: Behavior = Behavior {
    up: &[Policy {
        amount: Amount::Pods(10),
        period: 15 * SECOND,
    }],
    down: &[Policy {
        amount: Amount::Pods(1),
        period: MINUTE,
    }],
    down_window: 5 * MINUTE,
};

/// vLLM's usual `max_num_batched_tokens` for serving.
const BATCHED_TOKENS: f64 = 8192.0;

/// Tokens that one replica takes.
fn capacity_tokens(kv_tokens: f64, places: f64, input: f64, output: f64) -> f64 {
    let requests = (BATCHED_TOKENS * output / (input + output).max(1.0)).min(places);
    let compute = requests * (input + output / 2.0);
    (kv_tokens * KV_SHARE).min(compute).max(1.0)
}

/// A role as the optimizer sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    /// Tokens, raised by the tuning.
    demand: f64,
    /// Tokens that one replica takes.
    capacity: f64,
    /// Replicas that serve.
    ready: u32,
    /// Replicas that serve or will.
    existing: u32,
}

impl Load {
    /// Replicas more than exist; 0 if none.
    fn required(self) -> u32 {
        let anticipated = self.capacity * f64::from(self.existing);
        ceil((self.demand / UP_THRESHOLD - anticipated) / self.capacity)
    }

    /// Replicas that may go; 0 if none.
    fn spare(self) -> u32 {
        let supply = self.capacity * f64::from(self.ready);
        floor((supply - self.demand / DOWN_THRESHOLD) / self.capacity)
    }
}

/// Replicas of both roles; a role without metrics keeps those that exist.
fn optimized(loads: PerRole<Option<Load>>, existing: PerRole<u32>) -> PerRole<u32> {
    let required = loads.map(|load| load.map_or(0, Load::required));
    let any_up = required.prefill > 0 || required.decode > 0;
    PerRole::from_fn(|role| {
        let spare = match loads[role] {
            Some(load) if !any_up => load.spare(),
            _ => 0,
        };
        let fewer = existing[role].saturating_sub(spare);
        fewer
            .saturating_add(required[role])
            .max(existing[role].min(1))
    })
}

/// Gauges of a worker at one moment, or of several workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gauges {
    at: Nanos,
    waiting: f64,
    /// Share of the KV cache in use.
    kv_usage: f64,
}

/// The autoscaler with its HPAs.
#[derive(Clone, Debug)]
pub struct WvaSaturation {
    profile: Profile,
    aggressiveness: PerRole<f64>,
    seen: VecDeque<(Nanos, Gateway)>,
    peaks: PerRole<BTreeMap<String, VecDeque<Gauges>>>,
    horizontal: HorizontalPair,
}

impl WvaSaturation {
    /// For engines of this profile, with the thresholds divided by `aggressiveness`.
    pub fn new(profile: Profile, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profile,
            aggressiveness,
            seen: VecDeque::new(),
            peaks: PerRole::default(),
            horizontal: HorizontalPair::new(Some(BEHAVIOR)),
        }
    }

    /// Mean prompt and answer of the window.
    fn lengths(&mut self, now: Nanos, gateway: Gateway) -> Option<(f64, f64)> {
        let before = self
            .seen
            .front()
            .map_or(Gateway::default(), |(_, old)| *old);
        self.seen.push_back((now, gateway));
        while self
            .seen
            .front()
            .is_some_and(|(at, _)| *at + LENGTH_WINDOW < now)
        {
            self.seen.pop_front();
        }
        let recent = gateway.since(&before);
        Some((recent.mean_input_tokens()?, recent.mean_output_tokens()?))
    }

    /// The sums over the ready workers of each one's highest queue and share of KV of a minute.
    fn peaks(&mut self, role: Role, observation: &Observation, now: Nanos) -> Option<Gauges> {
        let before = std::mem::take(&mut self.peaks[role]);
        let mut sum: Option<Gauges> = None;
        for worker in observation.ready_workers(role) {
            let mut past = before.get(&worker.name).cloned().unwrap_or_default();
            past.push_back(Gauges {
                at: now,
                waiting: worker.waiting,
                kv_usage: worker.kv_usage,
            });
            while past.front().is_some_and(|old| old.at + PEAK_WINDOW <= now) {
                past.pop_front();
            }
            let highest =
                |gauge: fn(&Gauges) -> f64| past.iter().map(gauge).fold(0.0_f64, f64::max);
            let so_far = sum.unwrap_or_default();
            sum = Some(Gauges {
                at: now,
                waiting: so_far.waiting + highest(|gauges| gauges.waiting),
                kv_usage: so_far.kv_usage + highest(|gauges| gauges.kv_usage),
            });
            self.peaks[role].insert(worker.name.clone(), past);
        }
        sum
    }

    fn load(
        &mut self,
        role: Role,
        observation: &Observation,
        now: Nanos,
        (input, output): (f64, f64),
    ) -> Option<Load> {
        let kv_tokens = self.profile.kv_capacity_tokens as f64;
        let peaks = self.peaks(role, observation, now)?;
        let places = f64::from(self.profile.max_batch);
        let (capacity, per_request) = match role {
            // A prefill worker writes one token per request.
            Role::Prefill => (capacity_tokens(kv_tokens, places, input, 1.0), input),
            Role::Decode => (
                capacity_tokens(kv_tokens, places, input, output),
                input + output,
            ),
        };
        let demand = peaks.kv_usage * kv_tokens + peaks.waiting * per_request;
        Some(Load {
            demand: demand * self.aggressiveness[role],
            capacity,
            ready: observation.ready(role),
            existing: observation.existing(role),
        })
    }
}

impl Autoscaler for WvaSaturation {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let current = PerRole::from_fn(|role| observation.current(role));
        let Some(lengths) = self.lengths(now, observation.gateway) else {
            return PolicyVerdict::of(current);
        };
        let loads = PerRole::from_fn(|role| self.load(role, observation, now, lengths));
        let existing = PerRole::from_fn(|role| observation.existing(role));
        let gauge = optimized(loads, existing);
        self.horizontal.verdict(observation, now, |role| {
            Some(average_value(f64::from(gauge[role]), 1.0, existing[role]))
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

    #[test]
    fn a_replica_takes_the_lesser_of_cache_and_compute() {
        // N = min(8192 * 200/(1000 + 200), 256) = 256 places, each 1100 tokens.
        let compute = capacity_tokens(2_760_000.0, 256.0, 1_000.0, 200.0);
        assert!((compute - 281_600.0).abs() < 1e-6);
        // A small cache decides: 0.80 of it.
        let cache = capacity_tokens(100_000.0, 256.0, 1_000.0, 200.0);
        assert!((cache - 80_000.0).abs() < 1e-6);
    }

    fn load(demand: f64, ready: u32, existing: u32) -> Load {
        Load {
            demand,
            capacity: 100.0,
            ready,
            existing,
        }
    }

    /// Required = demand/0.85 - supply; spare = supply - demand/0.70; a replica takes 100.
    #[rstest]
    #[case::above_85_percent(180.0, 2, 2, 3)]
    #[case::far_above(800.0, 2, 2, 10)]
    #[case::between(150.0, 2, 2, 2)]
    #[case::below_70_percent(60.0, 2, 2, 1)]
    #[case::the_last_one_stays(0.0, 3, 3, 1)]
    #[case::pending_replicas_count_upwards(180.0, 2, 4, 4)]
    #[case::pending_replicas_are_none_to_spare(60.0, 2, 4, 3)]
    #[case::pending_replicas_do_not_serve(130.0, 2, 8, 8)]
    fn demand_over_thresholds(
        #[case] demand: f64,
        #[case] ready: u32,
        #[case] existing: u32,
        #[case] want: u32,
    ) {
        let both = PerRole::from_fn(|_| Some(load(demand, ready, existing)));
        let replicas = optimized(both, PerRole::from_fn(|_| existing));
        assert_eq!(replicas.decode, want);
    }

    #[test]
    fn a_role_that_needs_more_keeps_the_other() {
        let loads = PerRole {
            prefill: Some(load(0.0, 6, 6)),
            decode: Some(load(190.0, 2, 2)),
        };
        let existing = PerRole {
            prefill: 6,
            decode: 2,
        };
        let want = PerRole {
            prefill: 6,
            decode: 3,
        };
        assert_eq!(optimized(loads, existing), want);
    }

    #[test]
    fn a_workers_gauges_are_its_highest_of_a_minute() {
        let mut wva = WvaSaturation::new(
            Profile::default(),
            PerRole {
                prefill: 1.0,
                decode: 1.0,
            },
        );
        let mut gauges = |at: Nanos, kv_usage: f64, waiting: f64| {
            let seen = observation(PerRole {
                prefill: Vec::new(),
                decode: alike(2, 1.0, waiting, kv_usage),
            });
            let sum = wva.peaks(Role::Decode, &seen, at).unwrap();
            (sum.kv_usage, sum.waiting)
        };
        assert_eq!(gauges(0, 0.5, 4.0), (1.0, 8.0));
        assert_eq!(gauges(30 * SECOND, 0.25, 0.0), (1.0, 8.0));
        assert_eq!(gauges(MINUTE, 0.125, 0.0), (0.5, 0.0));
    }
}
