//! The true state of the emulated services: the truth that a test compares the controller
//! with.
//!
//! Owns the shape of `GET /state`. Percentiles are those of the users, from arrival at the service,
//! over the requests that ended within the last minute; no histogram edge blurs them.

use std::collections::BTreeMap;

use pd_sim::{
    engine::{Ending, RequestOutcome, Role, WorkerState},
    time::{MINUTE, Nanos, seconds},
    traffic::Load,
};
use serde::{Deserialize, Serialize};

use super::world::{Namespace, World};

/// Requests that ended this recently make the percentiles.
const RECENT: Nanos = MINUTE;

/// All emulated services.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Seconds since the emulator began.
    pub now_seconds: f64,
    /// Whether the pods that existed at the start are all known.
    pub synced: bool,
    /// The services by namespace.
    pub namespaces: BTreeMap<String, NamespaceState>,
}

/// One emulated service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceState {
    /// The stated load.
    pub load: Load,
    /// Prefill as a whole.
    pub prefill: RoleState,
    /// Decode as a whole.
    pub decode: RoleState,
    /// Requests that arrived so far.
    pub arrived: u64,
    /// Requests that ended so far.
    pub ended: u64,
    /// Requests on their way.
    pub in_flight: usize,
    /// Requests that ended within the last minute.
    pub recently_ended: usize,
    /// Users' time to first token within the last minute, in seconds; absent if nothing ended.
    pub ttft_seconds: Option<Percentiles>,
    /// Users' time per output token within the last minute, in seconds; absent if nothing ended.
    pub tpot_seconds: Option<Percentiles>,
    /// Every worker that has not left.
    pub workers: Vec<WorkerReport>,
}

/// One role of a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleState {
    /// Workers that take requests.
    pub ready: usize,
    /// Workers that do not take requests yet.
    pub starting: usize,
    /// Workers that take no more requests.
    pub draining: usize,
    /// Requests being worked on.
    pub running: u64,
    /// Requests waiting at a worker.
    pub waiting: u64,
    /// Requests waiting at the router because no worker is ready.
    pub waiting_at_router: usize,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerReport {
    /// The pod's name, and after `#` the number of the worker.
    pub name: String,
    /// `prefill` or `decode`.
    pub role: Role,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// Requests being worked on.
    pub running: u64,
    /// Requests waiting.
    pub waiting: u64,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_cache_usage: f64,
}

/// Mean and percentiles of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// Half are at or below.
    pub p50: f64,
    /// 95 % are at or below.
    pub p95: f64,
    /// 99 % are at or below.
    pub p99: f64,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // The nearest rank: the smallest value that enough of the values do not exceed.
        let at = |percent: usize| values[((values.len() * percent).div_ceil(100) - 1).min(last)];
        Some(Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: at(50),
            p95: at(95),
            p99: at(99),
        })
    }
}

impl World {
    /// The state that users and workers see at `now`.
    pub(super) fn state(&mut self, now: Nanos) -> State {
        self.advance(now);
        let namespaces = self.namespaces.iter_mut();
        State {
            now_seconds: seconds(now),
            synced: self.synced,
            namespaces: namespaces
                .map(|(name, n)| (name.clone(), n.state(now)))
                .collect(),
        }
    }
}

impl Namespace {
    fn state(&mut self, now: Nanos) -> NamespaceState {
        self.service.observe(now);
        let since = now.saturating_sub(RECENT);
        let recent: Vec<&RequestOutcome> = self
            .recent
            .iter()
            .rev()
            .take_while(|outcome| outcome.finished_at >= since)
            .filter(|outcome| outcome.ending == Ending::Completed)
            .collect();
        let mut prefill = self.role(Role::Prefill);
        let mut decode = self.role(Role::Decode);
        let mut workers = Vec::new();
        for view in self.service.workers() {
            let role = match view.role {
                Role::Prefill => &mut prefill,
                Role::Decode => &mut decode,
            };
            role.running += view.metrics.requests_running;
            role.waiting += view.metrics.requests_waiting();
            workers.push(WorkerReport {
                name: view.name.to_owned(),
                role: view.role,
                state: match view.state {
                    WorkerState::Starting => "starting".into(),
                    WorkerState::Ready => "ready".into(),
                    WorkerState::Draining => "draining".into(),
                },
                running: view.metrics.requests_running,
                waiting: view.metrics.requests_waiting(),
                kv_cache_usage: view.metrics.kv_cache_usage,
            });
        }
        NamespaceState {
            load: self.stated.load,
            prefill,
            decode,
            arrived: self.arrived,
            ended: self.ended,
            in_flight: self.service.in_flight(),
            recently_ended: recent.len(),
            ttft_seconds: Percentiles::of(recent.iter().map(|o| o.ttft_seconds()).collect()),
            tpot_seconds: Percentiles::of(recent.iter().filter_map(|o| o.tpot_seconds()).collect()),
            workers,
        }
    }

    fn role(&self, role: Role) -> RoleState {
        RoleState {
            ready: self.service.worker_count(role, WorkerState::Ready),
            starting: self.service.worker_count(role, WorkerState::Starting),
            draining: self.service.worker_count(role, WorkerState::Draining),
            waiting_at_router: self.service.waiting_at_router(role),
            ..RoleState::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = Percentiles::of((1..=100).map(f64::from).collect()).unwrap();
        assert_eq!(
            of,
            Percentiles {
                mean: 50.5,
                p50: 50.0,
                p95: 95.0,
                p99: 99.0
            }
        );
        assert_eq!(Percentiles::of(vec![3.0]).map(|of| of.p99), Some(3.0));
        assert_eq!(Percentiles::of(vec![]), None);
    }
}
