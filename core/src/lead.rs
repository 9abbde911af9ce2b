//! Lead times: how long a role's replicas take from being requested to serving, learnt from the
//! replicas requested and the replicas ready alone.
//!
//! A request that is cancelled before it is served shows that the lead time is longer than it was
//! waited for: a *censored* sample. Quantiles are those of the Kaplan-Meier estimate, which takes
//! both kinds; where it does not reach a quantile, the longest time known is its lower bound.
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

/// Cancelled requests kept, newest last.
pub const ABORTED_MAX: usize = 8;

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
    /// How long requests were waited for that were cancelled then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aborted_seconds: Vec<u32>,
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

impl ScaleUpRequest {
    fn waited_seconds(&self, now: Timestamp) -> u32 {
        let seconds = now.since(self.at).as_secs().min(SAMPLE_SECONDS_MAX);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

impl RequestKind {
    /// The kind of a request whose arrival says nothing.
    const fn untimed(self) -> Self {
        match self {
            Self::Timed | Self::Untimed => Self::Untimed,
            Self::Lost => Self::Lost,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    current: u32,
    /// Replicas that serve among those requested: surge pods of a rollout are not.
    serving: u32,
}

/// A role's replicas at one moment, as far as lead times are about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Replicas requested.
    pub current: u32,
    /// Replicas ready.
    pub ready: u32,
    /// The target is known to be rolling out; more ready replicas than are requested show it too.
    pub rolling: bool,
    /// Pending replicas wait for somebody to put something right, such as a quota or an image.
    pub blocked: bool,
    /// Nobody watched since the time before: a controller was down, or the clock was set ahead.
    pub unwatched: bool,
    /// When the last change of the replicas requested was made, at the latest now.
    pub requested_at: Timestamp,
}

impl LeadTimes {
    /// Takes in the replicas. Calling again with the same values changes nothing.
    pub fn observe(&mut self, watched: &Watched, now: Timestamp) {
        let Watched {
            current,
            ready,
            rolling,
            blocked,
            unwatched,
            requested_at,
        } = *watched;
        self.forget_the_future(now);
        if unwatched || blocked {
            self.wait_again(now);
        }
        let serving = ready.min(current);
        let seen = self.seen.replace(Seen { current, serving });
        let pending = current - serving;
        let Some(before) = seen else {
            self.request(pending, RequestKind::Untimed, now);
            return;
        };
        let kept = before.serving.min(current);
        if rolling || blocked || ready > current || serving < kept {
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
        let kind = if rolling || blocked || unwatched || ready > before.current {
            RequestKind::Untimed
        } else {
            RequestKind::Timed
        };
        let at = if unwatched { now } else { requested_at };
        self.request(rise, kind, at.min(now));
        self.reconcile(pending, now);
    }

    /// Half of the replicas arrived within this time; `prior` while there are no samples.
    pub fn p50(&self, prior: Duration) -> Duration {
        self.quantile(0.5, prior)
    }

    /// Nine of ten replicas arrived within this time; `prior` while there are no samples.
    pub fn p90(&self, prior: Duration) -> Duration {
        self.quantile(0.9, prior)
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

    /// The least time by which `share` of the replicas have arrived, by Kaplan and Meier.
    fn quantile(&self, share: f64, prior: Duration) -> Duration {
        let arrived = self.samples_seconds.iter().map(|seconds| (*seconds, false));
        let aborted = self.aborted_seconds.iter().map(|seconds| (*seconds, true));
        let mut all: Vec<(u32, bool)> = arrived.chain(aborted).collect();
        all.sort_unstable();
        let (mut outstanding, mut waiting, mut longest) = (1.0, all.len() as f64, 0);
        for (seconds, aborted) in all {
            longest = seconds;
            if !aborted {
                outstanding *= 1.0 - 1.0 / waiting;
                // The sliver keeps an exact rank from being missed by rounding.
                if outstanding <= 1.0 - share + 1e-9 {
                    break;
                }
            }
            waiting -= 1.0;
        }
        let longest = Duration::from_secs(longest.into());
        if self.samples_seconds.is_empty() {
            longest.max(prior)
        } else {
            longest
        }
    }

    /// Stamps that lie ahead are no memory.
    fn forget_the_future(&mut self, now: Timestamp) {
        for request in &mut self.requests {
            if request.at > now {
                (request.at, request.kind) = (now, request.kind.untimed());
            }
        }
        self.arrived_at = self.arrived_at.filter(|at| *at <= now);
    }

    /// How long the open requests were waited for is not known, or says nothing about the next.
    fn wait_again(&mut self, now: Timestamp) {
        for request in &mut self.requests {
            (request.at, request.kind) = (now, request.kind.untimed());
        }
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
                let seconds = request.waited_seconds(now);
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
        for request in &mut self.requests {
            request.kind = request.kind.untimed();
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
            if last.kind == RequestKind::Timed {
                self.aborted_seconds.push(last.waited_seconds(now));
            }
            if last.replicas == 0 {
                self.requests.pop();
            }
        }
        let excess = self.aborted_seconds.len().saturating_sub(ABORTED_MAX);
        self.aborted_seconds.drain(..excess);
        self.request(
            pending.saturating_sub(self.pending()),
            RequestKind::Untimed,
            now,
        );
    }
}

#[cfg(test)]
mod tests;
