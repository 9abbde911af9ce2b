//! NVIDIA Dynamo's planner: its throughput loop, its load loop, and both together.
//!
//! Rule and defaults: ai-dynamo/dynamo `components/src/dynamo/planner` at 2a6da14c8361
//! (`config/defaults.py`, `core/throughput_scaling.py`, `core/load_scaling.py`,
//! `core/state_machine.py`, `_scaling_in_progress`). The throughput loop runs every 180 s and,
//! where both run, sets a lower bound; the load loop runs every 5 s and moves a role by one replica
//! above it. While a role is still rolling out, neither role acts. The planner's own budget of 8
//! GPUs and its minimum of one endpoint are replaced by the scenario's bounds, as for everybody.
//!
//! The load loop alone is played with the shipped `optimization_target: throughput` as its default,
//! and with `sla` when tuned. Both loops together use `sla`.

pub mod load;
pub mod throughput;

use pd_core::{PerRole, Role};

use self::load::{Load, Target};
use self::throughput::Throughput;
use super::{Autoscaler, Observation, PolicyVerdict, Reads};
use crate::engine::Profile;
use crate::time::{Nanos, SECOND};

/// Time between two decisions of the throughput loop.
pub const THROUGHPUT_INTERVAL: Nanos = 180 * SECOND;

/// Time between two decisions of the load loop.
pub const LOAD_INTERVAL: Nanos = 5 * SECOND;

/// The latency targets, seconds: averages, not percentiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sla {
    /// Time to first token.
    pub ttft_seconds: f64,
    /// Time between tokens.
    pub itl_seconds: f64,
}

/// The planner.
#[derive(Clone, Debug)]
pub struct Dynamo {
    throughput: Option<Throughput>,
    load: Option<Load>,
    /// Lower bounds of the last throughput decision.
    least: PerRole<u32>,
    sized_at: Option<Nanos>,
}

impl Dynamo {
    /// The throughput loop alone. Tuning multiplies the predicted load.
    pub fn throughput(profile: &Profile, sla: Sla, aggressiveness: PerRole<f64>) -> Self {
        Self {
            throughput: Some(Throughput::new(profile.clone(), sla, aggressiveness)),
            load: None,
            least: PerRole::from_fn(|_| 1),
            sized_at: None,
        }
    }

    /// The load loop alone. Tuning divides its thresholds.
    pub fn load(profile: &Profile, target: Target, aggressiveness: PerRole<f64>) -> Self {
        Self {
            throughput: None,
            load: Some(Load::new(profile.clone(), target, aggressiveness)),
            least: PerRole::from_fn(|_| 1),
            sized_at: None,
        }
    }

    /// Both loops. Tuning acts on both.
    pub fn both(profile: &Profile, sla: Sla, aggressiveness: PerRole<f64>) -> Self {
        Self {
            throughput: Some(Throughput::new(profile.clone(), sla, aggressiveness)),
            ..Self::load(profile, Target::Sla(sla), aggressiveness)
        }
    }

    fn size(&mut self, observation: &Observation, now: Nanos) {
        let due = self
            .sized_at
            .is_none_or(|at| at + THROUGHPUT_INTERVAL <= now);
        let Some(throughput) = self.throughput.as_mut().filter(|_| due) else {
            return;
        };
        self.sized_at = Some(now);
        if let Some(replicas) = throughput.replicas(observation.gateway) {
            self.least = replicas;
        }
    }
}

/// Whether a role's last change is not complete.
fn is_rolling_out(observation: &Observation, role: Role) -> bool {
    let state = &observation.snapshot.roles[role];
    state.starting > 0 || state.ready != state.current
}

impl Autoscaler for Dynamo {
    fn decide(&mut self, observation: &Observation, now: Nanos) -> PolicyVerdict {
        let current = PerRole::from_fn(|role| observation.current(role));
        let had_data = self.sized_at.is_some();
        self.size(observation, now);
        let busy = Role::ALL
            .into_iter()
            .any(|role| is_rolling_out(observation, role));
        let first = self.throughput.is_some() && !had_data;
        if busy || first {
            return PolicyVerdict::of(current);
        }
        let wanted = match &mut self.load {
            Some(load) => {
                let wanted = load.replicas(observation, now);
                PerRole::from_fn(|role| wanted[role].max(self.least[role]))
            }
            None => self.least,
        };
        PolicyVerdict::of(PerRole::from_fn(|role| {
            observation.bounded(role, wanted[role])
        }))
    }

    fn reads(&self) -> Reads {
        Reads::Workers
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::testing::{alike, observation};
    use super::*;

    const SLA: Sla = Sla {
        ttft_seconds: 0.5,
        itl_seconds: 0.025,
    };
    const AS_IS: PerRole<f64> = PerRole {
        prefill: 1.0,
        decode: 1.0,
    };

    #[test]
    fn one_role_rolling_out_stops_both() {
        let mut seen = observation(PerRole {
            prefill: alike(1, 1.0, 500.0, 0.0),
            decode: alike(1, 256.0, 100.0, 0.9),
        });
        seen.gateway.finished = 10.0;
        seen.gateway.finished_input_tokens = 10_000.0;
        seen.gateway.finished_output_tokens = 1_000.0;
        let mut planner = Dynamo::load(&Profile::default(), Target::Sla(SLA), AS_IS);
        let free = planner.clone().decide(&seen, 0).replicas;
        assert_eq!(
            free,
            PerRole {
                prefill: 2,
                decode: 2
            }
        );
        seen.snapshot.roles.decode.starting = 1;
        let stopped = planner.decide(&seen, 0).replicas;
        assert_eq!(
            stopped,
            PerRole {
                prefill: 1,
                decode: 1
            }
        );
    }

    #[test]
    fn the_throughput_loop_sets_a_lower_bound() {
        let mut planner = Dynamo::both(&Profile::default(), SLA, AS_IS);
        let mut seen = observation(PerRole {
            prefill: alike(2, 0.0, 0.0, 0.0),
            decode: alike(1, 1.0, 0.0, 0.0),
        });
        planner.decide(&seen, 0);
        // 20 prompts a second of 2000 tokens take 0.0937 s each: 1.87 workers.
        let requests = 20.0 * 180.0;
        seen.gateway.requests = requests;
        seen.gateway.finished = requests;
        seen.gateway.finished_input_tokens = requests * 2_000.0;
        seen.gateway.finished_output_tokens = requests * 100.0;
        let replicas = planner.decide(&seen, 180 * SECOND).replicas;
        assert_eq!(
            replicas,
            PerRole {
                prefill: 2,
                decode: 1
            }
        );
    }
}
