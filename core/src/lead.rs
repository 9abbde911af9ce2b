//! Lead times: how long a role's replicas take from being asked for to serving, learnt from the
//! replicas asked for and the replicas ready alone.
//!
//! A rise of the first opens an ask, rises of the second close the open asks first in, first out.
//! What was not asked for must not teach anything: a pod that is lost and replaced, a rollout with its
//! surge, or replicas already pending when the watch began make the open asks *untimed*: they still
//! arrive, but leave no sample. A pod that is lost right after it arrived takes its sample with it.
//!
//! Until there are samples a prior speaks. Everything is bounded and quantised, some 700 bytes of JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The prior that callers use when nothing else is configured: an image that is there and a model of
/// some tens of GB from local disk.
pub const LEAD_PRIOR: Duration = Duration::from_mins(2);

/// Samples kept, newest last.
pub const SAMPLES_MAX: usize = 32;

/// Open asks kept; more are merged with their neighbours.
pub const ASKS_MAX: usize = 8;

/// Samples that one arrival of many replicas leaves at most, so that it does not push out all others.
const SAMPLES_PER_ARRIVAL: u32 = 4;

/// A replica lost so soon after an arrival was never really there.
const ARRIVED_FOR_GOOD: Duration = Duration::from_mins(1);

/// Longest lead time kept, seconds.
const SAMPLE_SECONDS_MAX: u64 = 86_400;

/// What a role's lead times were, and what it still waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeadTimes {
    samples_seconds: Vec<u32>,
    asks: Vec<Ask>,
    seen: Option<Seen>,
    arrived_at: Option<Timestamp>,
    /// Samples that the arrival at `arrived_at` left.
    arrived_samples: u8,
}

/// Replicas asked for together that do not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    at: Timestamp,
    replicas: u32,
    kind: AskKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AskKind {
    /// The arrival will say something about the lead time.
    Timed,
    /// It will not: something else was going on, or nobody saw when it was asked for.
    Untimed,
    /// Not asked for: a replica that served and stopped. It is the first to come back, so that a pod
    /// whose readiness flaps does not pass for the arrival of what is really waited for.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    current: u32,
    /// Replicas that serve among those asked for: surge pods of a rollout are not.
    serving: u32,
}

impl LeadTimes {
    /// Takes in the replicas asked for and the replicas ready.
    ///
    /// `rolling` says that the target is known to be rolling out; more ready replicas than are asked
    /// for tell it too. Calling again with the same values changes nothing.
    pub fn observe(&mut self, current: u32, ready: u32, rolling: bool, now: Timestamp) {
        let serving = ready.min(current);
        let seen = self.seen.replace(Seen { current, serving });
        let pending = current - serving;
        let Some(before) = seen else {
            self.ask(pending, AskKind::Untimed, now);
            return;
        };
        let kept = before.serving.min(current);
        if rolling || ready > current || serving < kept {
            self.stop_timing();
        }
        if serving < kept {
            self.forget_hasty_arrival(now);
            self.ask(kept - serving, AskKind::Lost, now);
        } else {
            // What rises beyond the replicas asked for until now was surge, and closes nothing.
            self.arrive(serving - kept, now);
        }
        let rise = current.saturating_sub(before.current);
        let kind = if rolling || ready > before.current {
            AskKind::Untimed
        } else {
            AskKind::Timed
        };
        self.ask(rise, kind, now);
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

    /// Samples that the quantiles are taken from.
    pub fn samples(&self) -> usize {
        self.samples_seconds.len()
    }

    /// Replicas that should serve at `now` + `horizon`: those that do, and of the pending ones those
    /// whose time will have come. One that is later than p50 is expected at p90, and one later than
    /// that is not counted on until it serves.
    pub fn expected_ready(&self, now: Timestamp, horizon: Duration, prior: Duration) -> u32 {
        let (usual, late) = (self.p50(prior), self.p90(prior));
        let then = now.plus(horizon);
        let arriving = self.asks.iter().filter(|ask| {
            let age = now.since(ask.at);
            let lead = if age <= usual { usual } else { late };
            age <= late.max(usual) && ask.at.plus(lead) <= then
        });
        let serving = self.seen.map_or(0, |seen| seen.serving);
        arriving.fold(serving, |sum, ask| sum.saturating_add(ask.replicas))
    }

    /// Replicas asked for that do not serve yet.
    pub fn pending(&self) -> u32 {
        self.asks
            .iter()
            .fold(0, |sum, ask| sum.saturating_add(ask.replicas))
    }

    /// How long the oldest pending replica is waited for without any other arriving; nothing while
    /// none is pending. Replicas that were lost and came back are no arrival.
    pub fn waiting(&self, now: Timestamp) -> Option<Duration> {
        let oldest = self.asks.first()?.at;
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

    fn ask(&mut self, replicas: u32, kind: AskKind, now: Timestamp) {
        if replicas == 0 {
            return;
        }
        let full = self.asks.len() >= ASKS_MAX;
        match self.asks.last_mut() {
            // Merged into an earlier one: the guess errs towards a longer lead, which asks earlier.
            Some(last) if full || (last.at == now && last.kind == kind) => {
                last.replicas = last.replicas.saturating_add(replicas);
                if last.kind != kind {
                    last.kind = AskKind::Untimed;
                }
            }
            _ => self.asks.push(Ask {
                at: now,
                replicas,
                kind,
            }),
        }
    }

    /// Closes asks: what was lost first, then first in, first out.
    fn arrive(&mut self, mut replicas: u32, now: Timestamp) {
        for ask in self.asks.iter_mut().filter(|ask| ask.kind == AskKind::Lost) {
            let here = ask.replicas.min(replicas);
            replicas -= here;
            ask.replicas -= here;
        }
        self.asks.retain(|ask| ask.replicas > 0);
        if replicas == 0 {
            return;
        }
        let mut left = SAMPLES_PER_ARRIVAL;
        self.arrived_at = Some(now);
        self.arrived_samples = 0;
        for ask in &mut self.asks {
            let here = ask.replicas.min(replicas);
            replicas -= here;
            ask.replicas -= here;
            if ask.kind == AskKind::Timed {
                let seconds = now.since(ask.at).as_secs().min(SAMPLE_SECONDS_MAX);
                let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
                let count = here.min(left);
                left -= count;
                for _ in 0..count {
                    self.samples_seconds.push(seconds);
                    self.arrived_samples += 1;
                }
            }
        }
        self.asks.retain(|ask| ask.replicas > 0);
        let excess = self.samples_seconds.len().saturating_sub(SAMPLES_MAX);
        self.samples_seconds.drain(..excess);
    }

    fn stop_timing(&mut self) {
        let timed = |ask: &&mut Ask| ask.kind == AskKind::Timed;
        for ask in self.asks.iter_mut().filter(timed) {
            ask.kind = AskKind::Untimed;
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

    /// Makes the open asks add up to `pending`: what was withdrawn goes newest first, as the youngest
    /// pods go first; what appeared without being seen is untimed.
    fn reconcile(&mut self, pending: u32, now: Timestamp) {
        let mut excess = self.pending().saturating_sub(pending);
        while excess > 0
            && let Some(last) = self.asks.last_mut()
        {
            let gone = last.replicas.min(excess);
            excess -= gone;
            last.replicas -= gone;
            if last.replicas == 0 {
                self.asks.pop();
            }
        }
        self.ask(
            pending.saturating_sub(self.pending()),
            AskKind::Untimed,
            now,
        );
    }
}

#[cfg(test)]
mod tests;
