//! llm-d's Workload Variant Autoscaler with its saturation analyser (V2), acting through an HPA.
//!
//! Rule and defaults: llm-d-workload-variant-autoscaler
//! `internal/engines/analyzers/saturation_v2/analyzer.go` and
//! `internal/config/saturation_scaling.go`: every 15 s, a replica takes min(k1, k2) tokens; k1 is
//! 0.80 of its KV cache, k2 the compute bound `N (I + O/2)` with `N = min(B O/(I + O), S)` from the
//! batched tokens B and places S of the engine. Demand is the tokens in use plus
//! the queue times I (prefill) or I + O (decode). Required is demand/0.85 less the supply, pending
//! replicas included; spare is the supply less demand/0.70. Any role that needs more keeps the
//! other from going down (`cost_aware_optimizer.go`).
//!
//! The result is a gauge that an HPA takes as `AverageValue` 1, so tolerance, stabilization and
//! rate limits act once more. k2 as observed by the engine is left out: its derivation is used.
//! Tuning divides both utilisation thresholds.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::horizontal::{HorizontalPair, TOLERANCE, ceil};
use super::{Autoscaler, Gateway, Observation, PolicyVerdict, Reads};
use crate::engine::Profile;
use crate::time::{MINUTE, Nanos};

const KV_SHARE: f64 = 0.80;
const UP_THRESHOLD: f64 = 0.85;
const DOWN_THRESHOLD: f64 = 0.70;

/// Window of mean lengths.
const LENGTH_WINDOW: Nanos = 5 * MINUTE;

/// Window of the highest queue.
const QUEUE_WINDOW: Nanos = MINUTE;

/// vLLM's usual `max_num_batched_tokens` for serving.
const BATCHED_TOKENS: f64 = 8192.0;

/// Tokens that one replica takes.
fn capacity_tokens(kv_tokens: f64, places: f64, input: f64, output: f64) -> f64 {
    let requests = (BATCHED_TOKENS * output / (input + output).max(1.0)).min(places);
    let compute = requests * (input + output / 2.0);
    (kv_tokens * KV_SHARE).min(compute).max(1.0)
}

/// Replicas for a demand, given those that are there or pending.
fn replicas_for(demand: f64, capacity: f64, there: u32, knob: f64) -> u32 {
    let supply = capacity * f64::from(there);
    let required = demand * knob / UP_THRESHOLD - supply;
    let spare = supply - demand * knob / DOWN_THRESHOLD;
    if required > 0.0 {
        there.saturating_add(ceil(required / capacity))
    } else if spare > 0.0 {
        there.saturating_sub(floor(spare / capacity))
    } else {
        there
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and only positive spares come here"
)]
fn floor(replicas: f64) -> u32 {
    replicas.floor() as u32
}

/// The autoscaler with its HPAs.
#[derive(Clone, Debug)]
pub struct WvaSaturation {
    profile: Profile,
    aggressiveness: PerRole<f64>,
    seen: VecDeque<(Nanos, Gateway)>,
    queues: PerRole<VecDeque<(Nanos, f64)>>,
    horizontal: HorizontalPair,
}

impl WvaSaturation {
    /// For engines of this profile, with the thresholds divided by `aggressiveness`.
    pub fn new(profile: Profile, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profile,
            aggressiveness,
            seen: VecDeque::new(),
            queues: PerRole::default(),
            horizontal: HorizontalPair::default(),
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

    /// The highest queue of the last minute.
    fn queue(&mut self, role: Role, now: Nanos, waiting: f64) -> f64 {
        let queue = &mut self.queues[role];
        queue.push_back((now, waiting));
        while queue
            .front()
            .is_some_and(|(at, _)| *at + QUEUE_WINDOW <= now)
        {
            queue.pop_front();
        }
        queue
            .iter()
            .map(|(_, waiting)| *waiting)
            .fold(0.0, f64::max)
    }

    fn desired(
        &mut self,
        role: Role,
        observation: &Observation,
        now: Nanos,
        lengths: (f64, f64),
    ) -> Option<u32> {
        let (input, output) = lengths;
        let kv_tokens = self.profile.kv_capacity_tokens as f64;
        let waiting = observation.sum(role, |worker| worker.waiting)?;
        let waiting = self.queue(role, now, waiting);
        let used = observation.sum(role, |worker| worker.kv_usage)? * kv_tokens;
        let places = f64::from(self.profile.max_batch);
        let (capacity, per_request) = match role {
            // A prefill worker writes one token per request.
            Role::Prefill => (capacity_tokens(kv_tokens, places, input, 1.0), input),
            Role::Decode => (
                capacity_tokens(kv_tokens, places, input, output),
                input + output,
            ),
        };
        let state = &observation.snapshot.roles[role];
        let there = state.ready + state.starting;
        let knob = self.aggressiveness[role];
        Some(replicas_for(
            used + waiting * per_request,
            capacity,
            there,
            knob,
        ))
    }
}

impl Autoscaler for WvaSaturation {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let current = PerRole::from_fn(|role| observation.current(role));
        let Some(lengths) = self.lengths(now, observation.gateway) else {
            return PolicyVerdict::of(current);
        };
        // Without metrics the last gauge stays.
        let wanted = PerRole::from_fn(|role| {
            let desired = self.desired(role, observation, now, lengths);
            desired.unwrap_or(current[role])
        });
        let there = PerRole::from_fn(|role| observation.existing(role));
        let any_up = Role::ALL.into_iter().any(|role| wanted[role] > there[role]);
        self.horizontal.verdict(observation, now, |role| {
            let (there, wanted) = (there[role], wanted[role]);
            let wanted = if any_up { wanted.max(there) } else { wanted };
            let ratio = f64::from(wanted) / f64::from(there.max(1));
            let is_near = (ratio - 1.0).abs() <= TOLERANCE;
            Some(if is_near { current[role] } else { wanted })
        })
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

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

    /// Required = demand/0.85 - supply; spare = supply - demand/0.70; a replica takes 100.
    #[rstest]
    #[case::above_85_percent(180.0, 2, 3)]
    #[case::far_above(800.0, 2, 10)]
    #[case::between(150.0, 2, 2)]
    #[case::below_70_percent(60.0, 2, 1)]
    #[case::idle(0.0, 3, 0)]
    fn demand_over_thresholds(#[case] demand: f64, #[case] there: u32, #[case] want: u32) {
        assert_eq!(replicas_for(demand, 100.0, there, 1.0), want);
    }
}
