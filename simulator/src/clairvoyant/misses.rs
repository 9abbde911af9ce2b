//! How many requests of a window miss the objective with so many replicas.
//!
//! One table per window and role, from the fewest replicas that are not overrun to those with which
//! hardly any request misses. Both bounds are read from it: the one that holds the objective in
//! every window, and the one that holds it over the run.

use std::cmp::Ordering;

use pd_core::queueing::{Limit, Work, attainment};

/// Below this share of misses more replicas are not told apart.
const MISS_SHARE_LEAST: f64 = 1e-6;

/// Servers tried beyond twice the load, which even one slow prompt a minute does not need.
const SERVERS_BEYOND_LOAD: u32 = 64;

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

    /// Of prompts by the tail formula with a router that knows the work at each worker.
    pub(super) fn of_queue(work: &Work, limit_seconds: f64, requests: f64, least: u32) -> Self {
        let load = ceil(work.offered_load());
        let servers_max = load.saturating_mul(2).saturating_add(SERVERS_BEYOND_LOAD);
        let limit = Limit {
            seconds: limit_seconds,
            wait_min_seconds: None,
            overload_seconds: 60.0,
        };
        let shares = attainment(work, limit, 1.0, servers_max.max(least));
        // A pool that is just busy all the time is overrun.
        let first = least.max(floor(work.offered_load()).saturating_add(1));
        let mut missed = Vec::new();
        for servers in first..=servers_max.max(first) {
            let miss_share = 1.0 - shares.share(servers);
            missed.push(miss_share * requests);
            if miss_share <= MISS_SHARE_LEAST {
                break;
            }
        }
        Self {
            least: first,
            missed,
            requests,
        }
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

    /// The result of a play: with `replicas`, `missed` requests missed. More replicas miss no more,
    /// and fewer no less. Where even the most that the table tells apart missed some, one more
    /// might not.
    pub(super) fn learn(&mut self, replicas: u32, missed: f64) {
        let Some(place) = replicas.checked_sub(self.least) else {
            return;
        };
        let place = place as usize;
        if place + 1 >= self.missed.len() {
            let untold = if missed > 0.0 { place + 2 } else { place + 1 };
            self.missed.resize(untold.max(self.missed.len()), 0.0);
        }
        for (at, known) in self.missed.iter_mut().enumerate() {
            *known = match at.cmp(&place) {
                Ordering::Less => known.max(missed),
                Ordering::Equal => missed,
                Ordering::Greater => known.min(missed),
            };
        }
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and loads are not negative"
)]
fn floor(load: f64) -> u32 {
    load.floor() as u32
}
