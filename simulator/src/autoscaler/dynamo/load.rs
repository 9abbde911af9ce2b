//! The load loop: one replica more or less, from what every engine has queued now.
//!
//! With the target `sla` a role grows by one when the estimated latency of *all* engines is over
//! the target, and shrinks by one when every engine would stay below 80 % of it with the load of
//! one engine fewer (for decode the KV cache must hold it too). With the shipped targets it is
//! thresholds: `throughput` grows at queued prompt tokens of a context length or decode KV tokens
//! of the whole cache at *any* engine, and shrinks below 0.1 and 0.6 at all; `latency` has 0.1 and
//! 0, 0.4 and 0.1.
//!
//! Estimates come from the true profile where the planner fits a regression on line. Queued prompts
//! count as mean prompts, as the engine model does not tell the tokens of its queue.

use pd_core::{PerRole, Role};

use super::super::engine_rates::{MeanTokens, decode_step_seconds, prefill_seconds};
use super::super::{Gateway, Observation, WorkerObservation};
use super::Sla;
use crate::engine::Profile;

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
}

/// The suggestion of a role's engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Up,
    Down,
    Stay,
}

/// Estimated latencies of all engines against a target; `consolidated` are those at N - 1.
fn by_sla(latencies: &[f64], consolidated: &[f64], target: f64) -> Move {
    if latencies.is_empty() {
        Move::Stay
    } else if latencies.iter().all(|latency| *latency > target) {
        Move::Up
    } else if consolidated
        .iter()
        .all(|latency| *latency < DOWN_SENSITIVITY * target)
    {
        Move::Down
    } else {
        Move::Stay
    }
}

/// Loads of all engines against two thresholds.
fn by_thresholds(loads: &[f64], up_from: f64, down_below: f64) -> Move {
    if loads.is_empty() {
        Move::Stay
    } else if loads.iter().any(|load| *load >= up_from) {
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
        }
    }

    pub(super) fn replicas(&mut self, observation: &Observation) -> PerRole<u32> {
        let Some(tokens) = means(observation.gateway) else {
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

    fn suggested(&self, role: Role, observation: &Observation, tokens: MeanTokens) -> Move {
        let engines: Vec<&WorkerObservation> = observation.ready_workers(role).collect();
        let by = &self.aggressiveness[role];
        match self.target {
            Target::Throughput => {
                let share = |engine: &&WorkerObservation| self.load_share(role, engine, tokens);
                let loads: Vec<f64> = engines.iter().map(share).collect();
                let (up, down) = match role {
                    Role::Prefill => (1.0, 0.1),
                    Role::Decode => (1.0, 0.6),
                };
                by_thresholds(&loads, up / by, down / by)
            }
            Target::Sla(sla) => {
                let target = match role {
                    Role::Prefill => sla.ttft_seconds,
                    Role::Decode => sla.itl_seconds,
                };
                let count = engines.len() as f64;
                let grown = if count > 1.0 {
                    count / (count - 1.0)
                } else {
                    f64::INFINITY
                };
                let at = |factor: f64| -> Vec<f64> {
                    let of =
                        |engine: &&WorkerObservation| self.latency(role, engine, tokens, factor);
                    engines.iter().map(of).collect()
                };
                by_sla(&at(1.0), &at(grown), target / by)
            }
        }
    }

    /// Queued or held tokens over what the thresholds are shares of.
    fn load_share(&self, role: Role, engine: &WorkerObservation, tokens: MeanTokens) -> f64 {
        let capacity = self.profile.kv_capacity_tokens as f64;
        match role {
            Role::Prefill => engine.waiting * tokens.input / CONTEXT_TOKENS,
            Role::Decode => engine.kv_usage + engine.waiting * tokens.context() / capacity,
        }
    }

    /// Estimated latency of an engine under `factor` times its load, seconds.
    fn latency(
        &self,
        role: Role,
        engine: &WorkerObservation,
        tokens: MeanTokens,
        factor: f64,
    ) -> f64 {
        match role {
            Role::Prefill => {
                let prompts = engine.in_flight() * factor + 1.0;
                prompts * prefill_seconds(&self.profile, tokens.input)
            }
            Role::Decode => {
                let context = engine.kv_usage * self.profile.kv_capacity_tokens as f64 * factor;
                if context > self.profile.kv_capacity_tokens as f64 {
                    return f64::INFINITY;
                }
                decode_step_seconds(&self.profile, engine.in_flight() * factor, context)
            }
        }
    }
}

/// Mean tokens of all requests answered so far.
fn means(gateway: Gateway) -> Option<MeanTokens> {
    Some(MeanTokens {
        input: gateway.mean_input_tokens()?,
        output: gateway.mean_output_tokens()?,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all_over(&[0.6, 0.7], &[1.2, 1.4], Move::Up)]
    #[case::one_under_is_enough_to_stay(&[9.0, 0.49], &[18.0, 0.98], Move::Stay)]
    #[case::all_far_under_with_one_fewer(&[0.1, 0.1], &[0.2, 0.2], Move::Down)]
    #[case::the_last_engine_stays(&[0.0], &[f64::INFINITY], Move::Stay)]
    #[case::nobody(&[], &[], Move::Stay)]
    fn up_if_all_down_if_all_at_one_fewer(
        #[case] latencies: &[f64],
        #[case] consolidated: &[f64],
        #[case] want: Move,
    ) {
        assert_eq!(by_sla(latencies, consolidated, 0.5), want);
    }

    #[rstest]
    #[case::any_up(&[0.0, 1.0], Move::Up)]
    #[case::all_down(&[0.05, 0.0], Move::Down)]
    #[case::between(&[0.05, 0.5], Move::Stay)]
    fn thresholds_up_if_any_down_if_all(#[case] loads: &[f64], #[case] want: Move) {
        assert_eq!(by_thresholds(loads, 1.0, 0.1), want);
    }
}
