//! How many requests of a window miss the objective with so many replicas.
//!
//! One table per window and role, from the fewest replicas that are not overrun to those with which
//! hardly any request misses. Both bounds are read from it: the one that holds the objective in every
//! window, and the one that holds it over the run.

use pd_core::queueing::{Work, servers_for};

/// Each level of misses is so much smaller than the one before.
const LEVEL_STEP: f64 = 0.8;

/// The smallest share of misses that is told from none.
const LEVEL_LEAST: f64 = 1e-5;

/// Replicas tried at most.
const REPLICAS_MAX: u32 = 10_000;

/// Requests of one window that miss, by replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Misses {
    /// Replicas of the first entry; fewer would be overrun.
    pub(super) least: u32,
    /// Requests that miss with `least` replicas, one more, and so on; with more than the last, as
    /// many as with the last. Not rising.
    pub(super) missed: Vec<f64>,
    /// Requests that could miss or not.
    pub(super) requests: f64,
}

impl Misses {
    /// A window without requests.
    pub(super) fn none(least: u32) -> Self {
        Self {
            least,
            missed: vec![0.0],
            requests: 0.0,
        }
    }

    /// Of prompts by the tail formula. `share` is met exactly, other levels to a fifth.
    pub(super) fn of_queue(
        work: &Work,
        limit_seconds: f64,
        share: f64,
        requests: f64,
        least: u32,
    ) -> Self {
        let geometric = std::iter::successors(Some(1.0), |level| Some(level * LEVEL_STEP));
        let mut levels: Vec<f64> = geometric.take_while(|level| *level > LEVEL_LEAST).collect();
        levels.push(share);
        levels.sort_by(|a, b| b.total_cmp(a));
        let mut table = Self {
            least,
            missed: Vec::new(),
            requests,
        };
        for level in levels {
            let servers = servers_for(work, limit_seconds, level, REPLICAS_MAX).servers;
            table.note(servers, level * requests);
        }
        table
    }

    /// Of answers: `loads` has the replicas that a second takes and its requests in flight.
    pub(super) fn of_batches(loads: &[(f64, f64)], requests: f64, least: u32) -> Self {
        let in_flight: f64 = loads.iter().map(|load| load.1).sum();
        if in_flight <= 0.0 {
            return Self::none(least);
        }
        let mean = loads.iter().map(|load| load.0).sum::<f64>() / loads.len() as f64;
        let first = least.max(ceil(mean));
        let most = first.max(loads.iter().map(|load| ceil(load.0)).max().unwrap_or(0));
        let missed_with = |replicas: u32| {
            let over = loads.iter().filter(|load| load.0 > f64::from(replicas));
            over.map(|load| load.1).sum::<f64>() / in_flight * requests
        };
        Self {
            least: first,
            missed: (first..=most).map(missed_with).collect(),
            requests,
        }
    }

    /// Notes that at most `missed` requests miss with `replicas`; levels come in falling order.
    fn note(&mut self, replicas: u32, missed: f64) {
        if self.missed.is_empty() {
            self.least = self.least.max(replicas);
        }
        let place = replicas.saturating_sub(self.least) as usize;
        if self.missed.len() <= place {
            let before = self.missed.last().copied().unwrap_or(missed);
            self.missed.resize(place + 1, before);
        }
        if let Some(entry) = self.missed.get_mut(place) {
            *entry = missed;
        }
    }

    /// Requests that miss with `replicas`, or nothing if these are overrun.
    pub(super) fn with(&self, replicas: u32) -> Option<f64> {
        let place = replicas.checked_sub(self.least)? as usize;
        self.missed.get(place).or(self.missed.last()).copied()
    }

    /// The fewest replicas with which at most `share` of the requests miss, or the most that helps.
    pub(super) fn replicas_for(&self, share: f64) -> u32 {
        let may_miss = share * self.requests * (1.0 + 1e-9);
        let enough = self.missed.iter().position(|missed| *missed <= may_miss);
        let place = enough.unwrap_or(self.missed.len().saturating_sub(1));
        self.least
            .saturating_add(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// The most replicas that the table tells apart.
    pub(super) fn most(&self) -> u32 {
        let more = u32::try_from(self.missed.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.least.saturating_add(more)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and loads are not negative"
)]
fn ceil(load: f64) -> u32 {
    load.ceil() as u32
}
