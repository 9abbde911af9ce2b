//! The world as a policy may see it: workers, the gateway, and for the product the signals made of
//! them.
//!
//! The peers read metrics of single pods or of the gateway, each in its own way, so they get these
//! as they are at the moment of the decision. Prometheus would add up to a scrape interval of age;
//! where a peer reads through it, leaving that out is in the peer's favour. Counters are cumulative
//! from the start of the service, and whoever needs a rate remembers the last value. Workers that
//! are still starting answer no scrape and are not here; how many there are stands in the snapshot.

use pd_core::{PerRole, Role, Snapshot};

use crate::engine::{Arrival, RequestOutcome, Service, WorkerState};
use crate::observe::core_role;
use crate::time::seconds;

/// One worker that answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerObservation {
    /// Its name, never used twice.
    pub name: String,
    /// Whether it takes requests; otherwise it drains.
    pub ready: bool,
    /// Requests being worked on.
    pub running: f64,
    /// Requests waiting, for room or for their KV cache.
    pub waiting: f64,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: f64,
    /// Output tokens produced so far.
    pub generated_tokens: f64,
}

impl WorkerObservation {
    /// Requests at the worker: its concurrency.
    pub fn in_flight(&self) -> f64 {
        self.running + self.waiting
    }
}

/// The counters of the gateway in front of the service, since the service began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gateway {
    /// Requests that came.
    pub requests: f64,
    /// Their prompt tokens.
    pub input_tokens: f64,
    /// Requests that got their whole answer.
    pub finished: f64,
    /// Prompt tokens of those.
    pub finished_input_tokens: f64,
    /// Tokens of those answers.
    pub finished_output_tokens: f64,
    /// Answers of two tokens or more.
    pub timed: f64,
    /// Sum of their mean times per output token, seconds.
    pub tpot_seconds_sum: f64,
}

impl Gateway {
    /// Counts a request that came.
    pub fn arrived(&mut self, arrival: &Arrival) {
        self.requests += 1.0;
        self.input_tokens += f64::from(arrival.input_tokens);
    }

    /// Counts an answer.
    pub fn ended(&mut self, outcome: &RequestOutcome) {
        self.finished += 1.0;
        self.finished_input_tokens += f64::from(outcome.input_tokens);
        self.finished_output_tokens += f64::from(outcome.output_tokens);
        if let Some(tpot_seconds) = outcome.tpot_seconds() {
            self.timed += 1.0;
            self.tpot_seconds_sum += tpot_seconds;
        }
    }

    /// The counts since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            input_tokens: self.input_tokens - before.input_tokens,
            finished: self.finished - before.finished,
            finished_input_tokens: self.finished_input_tokens - before.finished_input_tokens,
            finished_output_tokens: self.finished_output_tokens - before.finished_output_tokens,
            timed: self.timed - before.timed,
            tpot_seconds_sum: self.tpot_seconds_sum - before.tpot_seconds_sum,
        }
    }

    /// Mean prompt of the answered requests, tokens.
    pub fn mean_input_tokens(&self) -> Option<f64> {
        (self.finished > 0.0).then(|| self.finished_input_tokens / self.finished)
    }

    /// Mean answer, tokens.
    pub fn mean_output_tokens(&self) -> Option<f64> {
        (self.finished > 0.0).then(|| self.finished_output_tokens / self.finished)
    }

    /// Mean time per output token, seconds.
    pub fn mean_tpot_seconds(&self) -> Option<f64> {
        (self.timed > 0.0).then(|| self.tpot_seconds_sum / self.timed)
    }
}

/// How much of the service a policy reads; less is faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing but the replicas.
    Nothing,
    /// Workers and gateway as they are at the decision.
    Workers,
    /// The signals of the snapshot, as Prometheus would make them.
    Signals,
}

/// Everything a policy may look at when it decides.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The argument of the product. Its signals are empty unless the policy reads
    /// [`Reads::Signals`].
    pub snapshot: Snapshot,
    /// Workers that answer; none unless the policy reads [`Reads::Workers`].
    pub workers: PerRole<Vec<WorkerObservation>>,
    /// The gateway's counters.
    pub gateway: Gateway,
}

impl Observation {
    /// Replicas asked for.
    pub fn current(&self, role: Role) -> u32 {
        self.snapshot.roles[role].current
    }

    /// Replicas that serve.
    pub fn ready(&self, role: Role) -> u32 {
        self.snapshot.roles[role].ready
    }

    /// Replicas that the workload's status counts: those that serve, and those that will.
    pub fn existing(&self, role: Role) -> u32 {
        let state = &self.snapshot.roles[role];
        state.ready + state.starting
    }

    /// Workers of a role that take requests.
    pub fn ready_workers(&self, role: Role) -> impl Iterator<Item = &WorkerObservation> {
        self.workers[role].iter().filter(|worker| worker.ready)
    }

    /// A gauge summed over the ready workers, or nothing when none answers.
    pub fn sum(&self, role: Role, gauge: impl Fn(&WorkerObservation) -> f64) -> Option<f64> {
        let all = self.ready_workers(role).map(gauge);
        all.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// A gauge averaged over the ready workers, or nothing when none answers.
    pub fn mean(&self, role: Role, gauge: impl Fn(&WorkerObservation) -> f64) -> Option<f64> {
        let sum = self.sum(role, gauge)?;
        Some(sum / self.ready_workers(role).count().max(1) as f64)
    }

    /// The gauges that users scale a role on, mean over its workers: prompts that wait, share of
    /// the KV cache in use.
    pub fn usage(&self, role: Role) -> Option<f64> {
        match role {
            Role::Prefill => self.mean(role, |worker| worker.waiting),
            Role::Decode => self.mean(role, |worker| worker.kv_usage),
        }
    }

    /// Replicas within the bounds of the role.
    pub fn bounded(&self, role: Role, replicas: u32) -> u32 {
        let bounds = &self.snapshot.policy.bounds[role];
        replicas.clamp(
            bounds.min_replicas,
            bounds.max_replicas.max(bounds.min_replicas),
        )
    }
}

/// The workers of a service that answer, as of its last [`Service::observe`].
pub fn workers_of(service: &Service) -> PerRole<Vec<WorkerObservation>> {
    let mut workers = PerRole::<Vec<WorkerObservation>>::default();
    for worker in service.workers() {
        if worker.state == WorkerState::Starting {
            continue;
        }
        let metrics = worker.metrics;
        workers[core_role(worker.role)].push(WorkerObservation {
            name: worker.name.to_owned(),
            ready: worker.state == WorkerState::Ready,
            running: metrics.requests_running as f64,
            waiting: metrics.requests_waiting() as f64,
            kv_usage: metrics.kv_cache_usage,
            generated_tokens: metrics.generation_tokens as f64,
        });
    }
    workers
}

/// Per second, of something counted over `span`.
pub fn per_second(count: f64, span: crate::time::Nanos) -> f64 {
    count / seconds(span).max(1e-9)
}

#[cfg(test)]
pub(crate) mod testing {
    //! A observation to change in tests: one ready worker per given element.

    use pd_core::snapshot::Paused;
    use pd_core::{RoleState, Signals};

    use super::*;
    use crate::scenario::Scenario;

    /// A service of the default scenario with these workers, all of them ready and asked for.
    pub(crate) fn observation(workers: PerRole<Vec<WorkerObservation>>) -> Observation {
        let state = |count: usize| RoleState {
            current: u32::try_from(count).unwrap(),
            ready: u32::try_from(count).unwrap(),
            gpus_per_replica: 4,
            ..RoleState::default()
        };
        Observation {
            snapshot: Snapshot {
                policy: Scenario::default().policy().clone(),
                roles: PerRole {
                    prefill: state(workers.prefill.len()),
                    decode: state(workers.decode.len()),
                },
                signals: Signals::default(),
                paused: Paused::default(),
                profile: None,
            },
            workers,
            gateway: Gateway::default(),
        }
    }

    /// So many ready workers, all with the same load.
    pub(crate) fn alike(
        count: usize,
        running: f64,
        waiting: f64,
        kv_usage: f64,
    ) -> Vec<WorkerObservation> {
        (0..count)
            .map(|number| WorkerObservation {
                name: format!("w-{number}"),
                ready: true,
                running,
                waiting,
                kv_usage,
                generated_tokens: 0.0,
            })
            .collect()
    }
}
