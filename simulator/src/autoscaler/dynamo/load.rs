//! The load loop: one replica more or less, from what every engine has queued now.
//!
//! Rule: ai-dynamo/dynamo `components/src/dynamo/planner/core/load_scaling.py` at 0c6da1ec762c.
//! With the target `sla` a role grows by one when the estimated latency of *all* engines is over
//! the target (`_scale_decision`), and shrinks by one when every engine would suffice with the load
//! of one engine fewer:
//!
//! - prefill (`_prefill_load_decision`): the estimate is the compute of the *queued* tokens and of
//!   one prompt; the part that the queue adds must stay below 80 % of the target less the prompt's
//!   own compute;
//! - decode (`_decode_load_decision`): the estimate is a step over the scheduled and queued answers
//!   and one more; with those of one engine fewer it must stay below 80 % of the target, and their
//!   KV below the whole cache.
//!
//! With the shipped targets it is thresholds (`_prefill_easy_decision`, `_decode_easy_decision`):
//! `throughput` grows at queued prompt tokens of a context length or above decode KV tokens of the
//! whole cache at *any* engine, and shrinks below 0.1 and 0.6 at all.
//!
//! Estimates come from the true profile where the planner fits a model on line
//! (`core/perf_model/rust_adapter.py` at 051ed926fbf6, whose synthetic requests these are), and
//! mean lengths from the gateway over the time that its 64 samples take at one a decision. Queued
//! prompts count as mean prompts, as the engine model does not state the tokens of its queue.

use std::collections::VecDeque;

use pd_core::{PerRole, Role};

use super::super::engine_rates::{MeanTokens, decode_step_seconds, prefill_seconds};
use super::super::{Gateway, Observation, WorkerObservation};
use super::{LOAD_INTERVAL, Sla};
use crate::engine::Profile;
use crate::time::Nanos;

/// Decisions over which lengths are averaged: `max_num_fpm_samples`.
const SAMPLES: u64 = 64;

/// `load_scaling_down_sensitivity`.
const DOWN_SENSITIVITY: f64 = 0.8;

/// Longest context of the model, tokens: Llama's.
const CONTEXT_TOKENS: f64 = 131_072.0;

/// The state of the loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The shipped default: thresholds on queues.
    Throughput,
    /// Estimated latencies.
    Sla(Sla),
}

/// The loop's memory.
#[derive(Clone, Debug)]
pub struct Load {
    profile: Profile,
    target: Target,
    aggressiveness: PerRole<f64>,
    seen: VecDeque<(Nanos, Gateway)>,
}

/// The suggestion of a role's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Up,
    Down,
    Stay,
}

/// Estimated latencies of all engines against a target, and whether one engine fewer would do.
fn by_sla(latencies: &[f64], target: f64, fewer_would_do: bool) -> Move {
    if latencies.is_empty() {
        Move::Stay
    } else if latencies.iter().all(|latency| *latency > target) {
        Move::Up
    } else if fewer_would_do {
        Move::Down
    } else {
        Move::Stay
    }
}

/// Loads of all engines against two thresholds.
fn by_thresholds(loads: &[f64], is_up: impl Fn(f64) -> bool, down_below: f64) -> Move {
    if loads.is_empty() {
        Move::Stay
    } else if loads.iter().any(|load| is_up(*load)) {
        Move::Up
    } else if loads.iter().all(|load| *load < down_below) {
        Move::Down
    } else {
        Move::Stay
    }
}

impl Load {
    pub(super) fn new(profile: Profile, target: Target, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profile,
            target,
            aggressiveness,
            seen: VecDeque::new(),
        }
    }

    pub(super) fn replicas(&mut self, observation: &Observation, now: Nanos) -> PerRole<u32> {
        let Some(tokens) = self.means(observation.gateway, now) else {
            return PerRole::from_fn(|role| observation.current(role));
        };
        PerRole::from_fn(|role| {
            let current = observation.current(role);
            match self.suggested(role, observation, tokens) {
                Move::Up => current.saturating_add(1),
                Move::Down => current.saturating_sub(1).max(1),
                Move::Stay => current,
            }
        })
    }

    /// Mean tokens of the requests answered within the samples, or of the last that were.
    fn means(&mut self, gateway: Gateway, now: Nanos) -> Option<MeanTokens> {
        self.seen.push_back((now, gateway));
        let is_old = |at: Nanos| at + SAMPLES * LOAD_INTERVAL < now;
        // The oldest stays while nothing was answered after the one behind it.
        while let [(at, _), (_, next), ..] = self.seen.make_contiguous()
            && is_old(*at)
            && gateway.since(next).finished > 0.0
        {
            self.seen.pop_front();
        }
        let (_, before) = self.seen.front().copied()?;
        let recent = match gateway.since(&before) {
            recent if recent.finished > 0.0 => recent,
            _ => gateway,
        };
        Some(MeanTokens {
            input: recent.mean_input_tokens()?,
            output: recent.mean_output_tokens()?,
        })
    }

    fn suggested(&self, role: Role, observation: &Observation, tokens: MeanTokens) -> Move {
        let engines: Vec<&WorkerObservation> = observation.ready_workers(role).collect();
        let by = self.aggressiveness[role];
        match (self.target, role) {
            (Target::Throughput, Role::Prefill) => {
                let queued =
                    |engine: &&WorkerObservation| engine.waiting * tokens.input / CONTEXT_TOKENS;
                let loads: Vec<f64> = engines.iter().map(queued).collect();
                by_thresholds(&loads, |load| load >= 1.0 / by, 0.1 / by)
            }
            (Target::Throughput, Role::Decode) => {
                let capacity = self.profile.kv_capacity_tokens as f64;
                let held = |engine: &&WorkerObservation| self.kv_tokens(engine, tokens) / capacity;
                let loads: Vec<f64> = engines.iter().map(held).collect();
                by_thresholds(&loads, |load| load > 1.0 / by, 0.6 / by)
            }
            (Target::Sla(sla), Role::Prefill) => {
                self.prefill_by_sla(&engines, tokens, sla.ttft_seconds / by)
            }
            (Target::Sla(sla), Role::Decode) => {
                self.decode_by_sla(&engines, tokens, sla.itl_seconds / by)
            }
        }
    }

    fn prefill_by_sla(
        &self,
        engines: &[&WorkerObservation],
        tokens: MeanTokens,
        target_seconds: f64,
    ) -> Move {
        let own_seconds = prefill_seconds(&self.profile, tokens.input);
        let queue_seconds: Vec<f64> = engines
            .iter()
            .map(|engine| engine.waiting * own_seconds)
            .collect();
        let budget_seconds = DOWN_SENSITIVITY * (target_seconds - own_seconds);
        let fewer_would_do = consolidated(engines.len()).is_some_and(|grown| {
            let would_do = |queue: &f64| queue * grown < budget_seconds;
            budget_seconds > 0.0 && queue_seconds.iter().all(would_do)
        });
        let latencies: Vec<f64> = queue_seconds
            .iter()
            .map(|queue| queue + own_seconds)
            .collect();
        by_sla(&latencies, target_seconds, fewer_would_do)
    }

    fn decode_by_sla(
        &self,
        engines: &[&WorkerObservation],
        tokens: MeanTokens,
        target_seconds: f64,
    ) -> Move {
        let capacity = self.profile.kv_capacity_tokens as f64;
        let step = |engine: &&WorkerObservation, factor: f64| {
            let requests = engine.in_flight() * factor + 1.0;
            let kv_tokens = self.kv_tokens(engine, tokens) * factor + tokens.context();
            decode_step_seconds(&self.profile, requests, kv_tokens)
        };
        let fewer_would_do = consolidated(engines.len()).is_some_and(|grown| {
            engines.iter().all(|engine| {
                self.kv_tokens(engine, tokens) * grown < capacity
                    && step(engine, grown) < DOWN_SENSITIVITY * target_seconds
            })
        });
        let latencies: Vec<f64> = engines.iter().map(|engine| step(engine, 1.0)).collect();
        by_sla(&latencies, target_seconds, fewer_would_do)
    }

    /// Tokens of the answers that a decode engine writes, and of those that wait for it.
    fn kv_tokens(&self, engine: &WorkerObservation, tokens: MeanTokens) -> f64 {
        engine.kv_usage * self.profile.kv_capacity_tokens as f64 + engine.waiting * tokens.context()
    }
}

/// Times the load that each engine has with one engine fewer; the last one has nobody to take it.
fn consolidated(engines: usize) -> Option<f64> {
    let count = engines as f64;
    (engines > 1).then(|| count / (count - 1.0))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::super::observation::testing::{alike, observation};
    use super::*;

    /// A loop whose engines take 100 ms for a prompt of 2000 tokens, and for a step 5 ms and 1 ms
    /// more per 10,000 tokens of KV.
    fn under_sla() -> Load {
        let profile = Profile {
            prefill_base_milliseconds: 0.0,
            prefill_milliseconds_per_kilotoken: 50.0,
            prefill_milliseconds_per_megatoken_squared: 0.0,
            decode_base_milliseconds: 5.0,
            decode_milliseconds_per_request: 0.0,
            decode_milliseconds_per_megatoken: 100.0,
            kv_capacity_tokens: 1_000_000,
            ..Profile::default()
        };
        let sla = Sla {
            ttft_seconds: 0.5,
            itl_seconds: 0.025,
        };
        let as_is = PerRole {
            prefill: 1.0,
            decode: 1.0,
        };
        Load::new(profile, Target::Sla(sla), as_is)
    }

    const TOKENS: MeanTokens = MeanTokens {
        input: 2_000.0,
        output: 0.0,
    };

    /// Queued prompts at each engine, besides running ones that do not count; 100 ms each.
    #[rstest]
    #[case::all_over_the_target(&[4.5, 5.0], Move::Up)]
    #[case::exactly_at_it(&[4.0, 4.0], Move::Stay)]
    #[case::one_under_is_enough_to_stay(&[9.0, 3.9], Move::Stay)]
    // One of two takes twice 1.5 prompts: 300 ms of 80 % of (500 - 100) ms.
    #[case::one_engine_fewer_would_do(&[1.5, 1.5], Move::Down)]
    // 320 ms are not below 320 ms.
    #[case::one_engine_fewer_would_just_not_do(&[1.6, 1.6], Move::Stay)]
    // The busiest of three takes half as much again: 2.1 prompts are 315 ms.
    #[case::of_three(&[2.1, 0.0, 0.0], Move::Down)]
    #[case::one_of_three_too_busy(&[2.2, 0.0, 0.0], Move::Stay)]
    #[case::the_last_engine_stays(&[0.0], Move::Stay)]
    #[case::nobody(&[], Move::Stay)]
    fn prefill_compares_what_its_queue_adds(#[case] queued: &[f64], #[case] want: Move) {
        let mut seen = observation(PerRole {
            prefill: alike(queued.len(), 1.0, 0.0, 0.0),
            decode: Vec::new(),
        });
        for (worker, queued) in seen.workers.prefill.iter_mut().zip(queued) {
            worker.waiting = *queued;
        }
        assert_eq!(under_sla().suggested(Role::Prefill, &seen, TOKENS), want);
    }

    #[test]
    fn a_prompt_that_alone_takes_the_target_lowers_nothing() {
        let seen = observation(PerRole {
            prefill: alike(4, 0.0, 0.0, 0.0),
            decode: Vec::new(),
        });
        let long = MeanTokens {
            input: 10_000.0,
            ..TOKENS
        };
        assert_eq!(
            under_sla().suggested(Role::Prefill, &seen, long),
            Move::Stay
        );
    }

    /// Share of the KV cache at each of two engines: 100 ms per million tokens over 5.2 ms.
    #[rstest]
    #[case::all_over_the_target([0.20, 0.25], Move::Up)]
    #[case::one_under([0.19, 0.25], Move::Stay)]
    // Twice 70,000 tokens: 5.2 + 14 ms, below 20.
    #[case::one_engine_fewer_would_do([0.07, 0.07], Move::Down)]
    #[case::one_engine_fewer_would_not_do([0.08, 0.07], Move::Stay)]
    fn decode_compares_a_step_over_all_its_tokens(#[case] kv: [f64; 2], #[case] want: Move) {
        let mut seen = observation(PerRole {
            prefill: Vec::new(),
            decode: alike(2, 10.0, 0.0, 0.0),
        });
        for (worker, kv_usage) in seen.workers.decode.iter_mut().zip(kv) {
            worker.kv_usage = kv_usage;
        }
        assert_eq!(under_sla().suggested(Role::Decode, &seen, TOKENS), want);
    }

    #[test]
    fn a_cache_that_one_engine_fewer_would_fill_lowers_nothing() {
        let mut planner = under_sla();
        planner.profile.decode_milliseconds_per_megatoken = 0.0;
        for (kv_usage, want) in [(0.49, Move::Down), (0.5, Move::Stay)] {
            let seen = observation(PerRole {
                prefill: Vec::new(),
                decode: alike(2, 10.0, 0.0, kv_usage),
            });
            assert_eq!(planner.suggested(Role::Decode, &seen, TOKENS), want);
        }
    }

    #[rstest]
    #[case::any_up(&[0.0, 1.0], Move::Up)]
    #[case::all_down(&[0.05, 0.0], Move::Down)]
    #[case::between(&[0.05, 0.5], Move::Stay)]
    fn thresholds_up_if_any_down_if_all(#[case] loads: &[f64], #[case] want: Move) {
        assert_eq!(by_thresholds(loads, |load| load >= 1.0, 0.1), want);
    }

    #[test]
    fn lengths_are_those_of_the_last_samples() {
        let mut planner = under_sla();
        let gateway = |finished: f64, input: f64| Gateway {
            finished,
            finished_input_tokens: input,
            finished_output_tokens: finished,
            ..Gateway::default()
        };
        let mut mean = |tick: u64, gateway: Gateway| {
            let tokens = planner.means(gateway, tick * LOAD_INTERVAL);
            tokens.map(|tokens| tokens.input)
        };
        assert_eq!(mean(0, gateway(0.0, 0.0)), None);
        assert_eq!(mean(1, gateway(10.0, 1_000.0)), Some(100.0));
        assert_eq!(mean(64, gateway(20.0, 4_000.0)), Some(200.0));
        assert_eq!(mean(66, gateway(30.0, 8_000.0)), Some(400.0));
        // Nothing was answered since: the last that were count on.
        assert_eq!(mean(400, gateway(30.0, 8_000.0)), Some(400.0));
    }
}
