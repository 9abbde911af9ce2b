//! Lead times: how long a role's replicas take from being requested to serving, learnt from the
//! replicas requested and the replicas ready alone.
//!
//! A rise of the first opens a scale-up request, rises of the second close the open requests first
//! in, first out. Arrivals that were not requested must not teach anything: a pod that is lost and
//! replaced, a rollout with its surge, or replicas already pending when the watch began make the
//! open requests *untimed*: they still arrive, but leave no sample. A pod that is lost right after
//! it arrived takes its sample with it.
//!
//! Until there are samples the prior counts. Everything is bounded and quantised, some 700 bytes of
//! JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The prior that callers use when nothing else is configured: an image that is there and a model
/// of some tens of GB from local disk.
pub const LEAD_PRIOR: Duration = Duration::from_mins(2);

/// Samples kept, newest last.
pub const SAMPLES_MAX: usize = 32;

/// Open requests kept; more are merged with their neighbours.
pub const REQUESTS_MAX: usize = 8;

/// Samples that one arrival of many replicas leaves at most, so that it does not push out all
/// others.
const SAMPLES_PER_ARRIVAL: u32 = 4;

/// A replica lost so soon after an arrival was never really there.
const ARRIVED_FOR_GOOD: Duration = Duration::from_mins(1);

/// Longest lead time kept, seconds.
const SAMPLE_SECONDS_MAX: u64 = 86_400;

/// Lead times of a role as measured, and the requests that are still open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadTimes {
    samples_seconds: Vec<u32>,
    requests: Vec<ScaleUpRequest>,
    seen: Option<Seen>,
    arrived_at: Option<Timestamp>,
    /// Samples that the arrival at `arrived_at` left.
    arrived_samples: u8,
}

/// How long replicas take to serve, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeadSummary {
    /// Half of them take no longer.
    pub p50: Duration,
    /// Nine of ten take no longer.
    pub p90: Duration,
    /// Measured replicas that this rests on; 0 means that it is assumed.
    pub samples: usize,
}

/// Replicas requested together that do not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleUpRequest {
    at: Timestamp,
    replicas: u32,
    kind: RequestKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum RequestKind {
    /// The arrival will be a sample of the lead time.
    Timed,
    /// It will not: something else was going on, or nobody saw when it was requested.
    Untimed,
    /// Not requested: a replica that served and stopped. It is the first to come back, so that a
    /// pod whose readiness flaps does not count as the arrival of a requested one.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    current: u32,
    /// Replicas that serve among those requested: surge pods of a rollout are not.
    serving: u32,
}

impl LeadTimes {
    /// Takes in the replicas requested and the replicas ready.
    ///
    /// `rolling` states that the target is known to be rolling out; more ready replicas than are
    /// requested show it too. Calling again with the same values changes nothing.
    pub fn observe(&mut self, current: u32, ready: u32, rolling: bool, now: Timestamp) {
        let serving = ready.min(current);
        let seen = self.seen.replace(Seen { current, serving });
        let pending = current - serving;
        let Some(before) = seen else {
            self.request(pending, RequestKind::Untimed, now);
            return;
        };
        let kept = before.serving.min(current);
        if rolling || ready > current || serving < kept {
            self.stop_timing();
        }
        if serving < kept {
            self.forget_hasty_arrival(now);
            self.request(kept - serving, RequestKind::Lost, now);
        } else {
            // Ready replicas beyond those requested until now were surge, and close nothing.
            self.arrive(serving - kept, now);
        }
        let rise = current.saturating_sub(before.current);
        let kind = if rolling || ready > before.current {
            RequestKind::Untimed
        } else {
            RequestKind::Timed
        };
        self.request(rise, kind, now);
        self.reconcile(pending, now);
    }

    /// Half of the replicas arrived within this time; `prior` while there are no samples.
    pub fn p50(&self, prior: Duration) -> Duration {
        self.quantile(50).unwrap_or(prior)
    }

    /// Nine of ten replicas arrived within this time; `prior` while there are no samples.
    pub fn p90(&self, prior: Duration) -> Duration {
        self.quantile(90).unwrap_or(prior)
    }

    /// Both quantiles and their samples.
    pub fn summary(&self, prior: Duration) -> LeadSummary {
        LeadSummary {
            p50: self.p50(prior),
            p90: self.p90(prior),
            samples: self.samples(),
        }
    }

    /// Samples that the quantiles are taken from.
    pub fn samples(&self) -> usize {
        self.samples_seconds.len()
    }

    /// Replicas requested that do not serve yet.
    pub fn pending(&self) -> u32 {
        self.requests
            .iter()
            .fold(0, |sum, request| sum.saturating_add(request.replicas))
    }

    /// How long the oldest pending replica is waited for without any other arriving; nothing while
    /// none is pending. Replicas that were lost and came back are no arrival.
    pub fn waiting(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.requests.first()?.at;
        let since = self.arrived_at.map_or(oldest, |at| at.max(oldest));
        Some(now.since(since))
    }

    fn quantile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.samples_seconds.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        let seconds = sorted.get(rank.checked_sub(1)?)?;
        Some(Duration::from_secs((*seconds).into()))
    }

    fn request(&mut self, replicas: u32, kind: RequestKind, now: Timestamp) {
        if replicas == 0 {
            return;
        }
        let full = self.requests.len() >= REQUESTS_MAX;
        match self.requests.last_mut() {
            // Merged into an earlier one: the guess errs towards a longer lead, which requests
            // earlier.
            Some(last) if full || (last.at == now && last.kind == kind) => {
                last.replicas = last.replicas.saturating_add(replicas);
                if last.kind != kind {
                    last.kind = RequestKind::Untimed;
                }
            }
            _ => self.requests.push(ScaleUpRequest {
                at: now,
                replicas,
                kind,
            }),
        }
    }

    /// Closes requests: lost replicas first, then first in, first out.
    fn arrive(&mut self, mut replicas: u32, now: Timestamp) {
        for request in self
            .requests
            .iter_mut()
            .filter(|request| request.kind == RequestKind::Lost)
        {
            let here = request.replicas.min(replicas);
            replicas -= here;
            request.replicas -= here;
        }
        self.requests.retain(|request| request.replicas > 0);
        if replicas == 0 {
            return;
        }
        let mut left = SAMPLES_PER_ARRIVAL;
        self.arrived_at = Some(now);
        self.arrived_samples = 0;
        for request in &mut self.requests {
            let here = request.replicas.min(replicas);
            replicas -= here;
            request.replicas -= here;
            if request.kind == RequestKind::Timed {
                let seconds = now.since(request.at).as_secs().min(SAMPLE_SECONDS_MAX);
                let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
                let count = here.min(left);
                left -= count;
                for _ in 0..count {
                    self.samples_seconds.push(seconds);
                    self.arrived_samples += 1;
                }
            }
        }
        self.requests.retain(|request| request.replicas > 0);
        let excess = self.samples_seconds.len().saturating_sub(SAMPLES_MAX);
        self.samples_seconds.drain(..excess);
    }

    fn stop_timing(&mut self) {
        let timed = |request: &&mut ScaleUpRequest| request.kind == RequestKind::Timed;
        for request in self.requests.iter_mut().filter(timed) {
            request.kind = RequestKind::Untimed;
        }
    }

    fn forget_hasty_arrival(&mut self, now: Timestamp) {
        let hasty = self
            .arrived_at
            .is_some_and(|at| now.since(at) <= ARRIVED_FOR_GOOD);
        if hasty {
            let rest = self
                .samples_seconds
                .len()
                .saturating_sub(self.arrived_samples.into());
            self.samples_seconds.truncate(rest);
        }
        self.arrived_samples = 0;
    }

    /// Makes the open requests add up to `pending`: cancelled replicas go newest first, as the
    /// youngest pods go first; replicas that appeared without being seen are untimed.
    fn reconcile(&mut self, pending: u32, now: Timestamp) {
        let mut excess = self.pending().saturating_sub(pending);
        while excess > 0
            && let Some(last) = self.requests.last_mut()
        {
            let gone = last.replicas.min(excess);
            excess -= gone;
            last.replicas -= gone;
            if last.replicas == 0 {
                self.requests.pop();
            }
        }
        self.request(
            pending.saturating_sub(self.pending()),
            RequestKind::Untimed,
            now,
        );
    }
}

#[cfg(test)]
mod tests;
