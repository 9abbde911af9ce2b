//! A service's past as Prometheus remembers it: load, replicas and latencies, step by step.
//!
//! The texts of the queries are the controller's own, so a service that the controller can read can
//! be looked back at. Every step has what happened in it: rates and distributions over the step,
//! and the workers that were scraped at its end. Missing values stay missing; that there is enough
//! to rebuild a load from is checked once, and what is not there is told by the metric's name.

mod prometheus;
mod read;
mod rebuild;

use std::sync::Arc;
use std::time::Duration;

use pd_core::histogram::Histogram;
use pd_core::{PerRole, Role};
use thiserror::Error;

pub use self::prometheus::QueryError;
pub(crate) use self::read::told;
pub use self::read::{Asked, read};
pub use self::rebuild::{Lengths, Rebuilt};
use crate::engine::Arrival;
use crate::time::{Nanos, from_seconds, seconds};

/// A past that cannot be looked back at.
#[derive(Debug, Error)]
pub enum MeasuredError {
    /// Prometheus gives no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The range holds nothing of the service.
    #[error(
        "prometheus at `{server}` has nothing about {wanted} from {from} to {to}: check the range, the namespace and \
         the names of the workloads, and that their pods are scraped"
    )]
    Empty {
        /// The server.
        server: String,
        /// Which pods were asked for.
        wanted: String,
        /// Begin of the range.
        from: String,
        /// End of the range.
        to: String,
    },
    /// Some metrics are not there.
    #[error(
        "prometheus at `{server}` has no {metrics} of {wanted} from {from} to {to}: without them the load cannot be rebuilt"
    )]
    Missing {
        /// The server.
        server: String,
        /// The metrics' names.
        metrics: String,
        /// Which pods were asked for.
        wanted: String,
        /// Begin of the range.
        from: String,
        /// End of the range.
        to: String,
    },
}

/// The events of one step.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Workers that were scraped at the end of the step.
    pub workers: PerRole<u32>,
    /// Requests per second that finished prefill, which is as many as arrived but for the queue.
    pub requests_per_second: f64,
    /// Tokens of prompts.
    pub prompt_tokens: Option<Histogram>,
    /// Tokens of answers.
    pub output_tokens: Option<Histogram>,
    /// From reaching a prefill worker to its first token, seconds.
    pub prefill_ttft: Option<Histogram>,
    /// From reaching a decode worker to its first token, seconds.
    pub decode_ttft: Option<Histogram>,
    /// Time that prefill worked on a request, seconds.
    pub prefill_time: Option<Histogram>,
    /// Time per output token of a request, seconds.
    pub tpot: Option<Histogram>,
    /// Prompt tokens per second that the prefix caches held, and that were looked up.
    pub prefix_tokens_per_second: Option<(f64, f64)>,
}

/// A range of the past.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Begin of the first step, Unix time in milliseconds.
    pub from_millis: i64,
    /// Length of a step.
    pub step: Duration,
    /// The steps.
    pub intervals: Vec<Interval>,
}

impl Measured {
    /// Length of a step.
    pub fn step_nanos(&self) -> Nanos {
        from_seconds(self.step.as_secs_f64()).max(1)
    }

    /// Length of the range.
    pub fn length(&self) -> Nanos {
        self.step_nanos() * self.intervals.len() as Nanos
    }

    /// Requests that finished prefill.
    pub fn requests(&self) -> f64 {
        let rates = self
            .intervals
            .iter()
            .map(|interval| interval.requests_per_second);
        rates.sum::<f64>() * self.step.as_secs_f64()
    }

    /// GPU-hours of the workers that were scraped.
    pub fn gpu_hours(&self, gpus_per_replica: PerRole<u32>) -> PerRole<f64> {
        let hours = seconds(self.step_nanos()) / 3_600.0;
        PerRole::from_fn(|role| {
            let workers = self
                .intervals
                .iter()
                .map(|interval| f64::from(interval.workers[role]));
            workers.sum::<f64>() * hours * f64::from(gpus_per_replica[role])
        })
    }

    /// The most workers of a role at once.
    pub fn workers_max(&self, role: Role) -> u32 {
        let workers = self.intervals.iter().map(|interval| interval.workers[role]);
        workers.max().unwrap_or(0)
    }

    /// Workers of each role by step; at least one, as a service that answers has.
    pub fn workers(&self) -> PerRole<Vec<u32>> {
        PerRole::from_fn(|role| {
            let workers = self.intervals.iter().map(|interval| interval.workers[role]);
            workers.map(|count| count.max(1)).collect()
        })
    }

    /// How often a role's number of workers changed from one step to the next.
    pub fn changes(&self) -> u64 {
        let changed = |pair: &[Interval]| {
            Role::ALL
                .iter()
                .filter(|role| pair[0].workers[**role] != pair[1].workers[**role])
                .count() as u64
        };
        self.intervals.windows(2).map(changed).sum()
    }

    /// One distribution of the whole range.
    pub fn whole(&self, of: impl Fn(&Interval) -> Option<&Histogram>) -> Option<Histogram> {
        joined(self.intervals.iter().filter_map(of))
    }

    /// Share of prompt tokens that the prefix caches held, 0 to below 1.
    pub fn prefix_hit_ratio(&self) -> f64 {
        let rates = self
            .intervals
            .iter()
            .filter_map(|interval| interval.prefix_tokens_per_second);
        let (hits, asked) = rates.fold((0.0, 0.0), |sum, (hits, asked)| {
            (sum.0 + hits, sum.1 + asked)
        });
        if asked > 0.0 {
            (hits / asked).clamp(0.0, 0.99)
        } else {
            0.0
        }
    }

    /// The requests of the range, drawn again: the same seed gives the same requests.
    pub fn rebuild(self: &Arc<Self>, seed: u64) -> impl Iterator<Item = Arrival> + Send + use<> {
        Rebuilt::new(Arc::clone(self), seed)
    }
}

/// Several distributions as one. Where their edges differ, those of the first count.
pub fn joined<'a>(parts: impl Iterator<Item = &'a Histogram>) -> Option<Histogram> {
    let parts: Vec<&Histogram> = parts.filter(|part| part.count() > 0.0).collect();
    let edges = parts.first()?.cumulative().iter().map(|(edge, _)| *edge);
    let at = |edge: f64| {
        let counts = parts
            .iter()
            .map(|part| part.share_at_or_below(edge).unwrap_or(0.0) * part.count());
        (edge, counts.sum::<f64>())
    };
    let buckets = edges.map(at).collect();
    let count = parts.iter().map(|part| part.count()).sum();
    let sum = parts.iter().map(|part| part.sum()).sum();
    Histogram::from_cumulative(buckets, count, sum)
}

#[cfg(test)]
mod tests;
