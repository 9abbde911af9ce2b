//! Queueing formulas for a pool of equal servers.
//!
//! Erlang C gives the chance to wait in M/M/c; the factor of Allen and Cunneen (Probability,
//! Statistics and Queueing Theory, 1990) carries it to general arrivals and service times; an
//! exponential tail with that mean gives the chance to wait longer than some time. It describes a
//! router that knows the work at each server; random routing waits longer.

/// How prompts arrive, and their cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Requests per second.
    pub arrival_rate_rps: f64,
    /// Squared coefficient of variation of the times between arrivals; 1 for Poisson.
    pub arrival_scv: f64,
    /// `(service seconds, share of requests)`; shares sum to 1.
    pub service: Vec<(f64, f64)>,
}

impl Work {
    /// Mean service time, seconds.
    pub fn mean_service_seconds(&self) -> f64 {
        self.service
            .iter()
            .map(|(seconds, share)| seconds * share)
            .sum()
    }

    /// Busy servers on average: arrival rate times mean service time.
    pub fn offered_load(&self) -> f64 {
        self.arrival_rate_rps * self.mean_service_seconds()
    }

    /// Squared coefficient of variation of the service time.
    pub fn service_scv(&self) -> f64 {
        let mean = self.mean_service_seconds();
        if mean <= 0.0 {
            return 0.0;
        }
        let second: f64 = self
            .service
            .iter()
            .map(|(seconds, share)| seconds * seconds * share)
            .sum();
        (second / (mean * mean) - 1.0).max(0.0)
    }
}

/// How well pools of every size serve some work.
#[derive(Clone, Debug, PartialEq)]
pub struct Attainment {
    /// Share (0 to 1, not falling) of the reachable requests within the limit; index = servers.
    pub shares: Vec<f64>,
    /// Share of all requests, 0 to 1, whose service alone exceeds the limit: no pool serves them in
    /// time, so they are left out of [`Self::shares`].
    pub unreachable_share: f64,
}

impl Attainment {
    /// The smallest pool in which at most `miss_share` of the reachable requests exceed the limit;
    /// nothing if none does.
    pub fn servers_for(&self, miss_share: f64) -> Option<u32> {
        let servers = self
            .shares
            .iter()
            .skip(1)
            .position(|share| 1.0 - share <= miss_share)?;
        u32::try_from(servers + 1).ok()
    }

    /// Share of the reachable requests within the limit with so many servers, 0 to 1.
    pub fn share(&self, servers: u32) -> f64 {
        let last = self.shares.len().saturating_sub(1);
        let index = usize::try_from(servers).map_or(last, |servers| servers.min(last));
        self.shares.get(index).copied().unwrap_or(0.0)
    }
}

/// A pool that is given more than it can do serves at best the part that it can, and late.
const OVERLOADED_SHARE: f64 = 0.5;

/// From this share on larger pools are not computed: they serve everything.
const ALL_SERVED: f64 = 1.0 - 1e-7;

/// The share of requests that wait and compute no longer than `limit_seconds`, for every pool of
/// up to `servers_max` servers.
///
/// `wait_factor` (1 or more) multiplies the mean wait: 1 is a router that knows the work at every
/// server, more is one that does not.
pub fn attainment(
    work: &Work,
    limit_seconds: f64,
    wait_factor: f64,
    servers_max: u32,
) -> Attainment {
    let load = work.offered_load();
    let unreachable_share: f64 = work
        .service
        .iter()
        .filter(|(seconds, _)| *seconds > limit_seconds)
        .map(|(_, share)| share)
        .sum();
    let tail = Tail::new(work, limit_seconds, wait_factor, 1.0 - unreachable_share);
    let mut shares = Vec::with_capacity(servers_max as usize + 1);
    shares.push(if load > 0.0 { 0.0 } else { 1.0 });
    let (mut erlang_b, mut best) = (1.0_f64, 0.0_f64);
    for servers in 1..=servers_max {
        if best >= ALL_SERVED {
            break;
        }
        let c = f64::from(servers);
        // Erlang's B by its recursion: the factorials of its closed form overflow at 171 servers.
        erlang_b = load * erlang_b / (c + load * erlang_b);
        let keeps_up = OVERLOADED_SHARE * (c / load).min(1.0);
        let share = if load < c {
            (1.0 - tail.miss_share(c, load, erlang_b)).max(keeps_up)
        } else {
            keeps_up
        };
        best = best.max(share);
        shares.push(best);
    }
    // The loop ended where larger pools serve no more.
    shares.resize(servers_max as usize + 1, best);
    Attainment {
        shares,
        unreachable_share,
    }
}

/// The mean wait of all requests in a pool of `servers`, seconds; nothing when it cannot keep up or
/// there is nothing to serve.
pub fn mean_wait_seconds(work: &Work, servers: u32) -> Option<f64> {
    let (load, c) = (work.offered_load(), f64::from(servers));
    if !(load > 0.0 && load < c) {
        return None;
    }
    let mut erlang_b = 1.0_f64;
    for servers in 1..=servers {
        erlang_b = load * erlang_b / (f64::from(servers) + load * erlang_b);
    }
    let tail = Tail::new(work, f64::INFINITY, 1.0, 1.0);
    Some(wait_chance(c, load, erlang_b) * tail.waiting_seconds(c, load))
}

/// Erlang's C from his B: the chance that an arrival finds all servers busy.
fn wait_chance(c: f64, load: f64, erlang_b: f64) -> f64 {
    erlang_b / (1.0 - load / c * (1.0 - erlang_b))
}

/// The terms of the tail formula that the pool's size does not change.
struct Tail {
    /// `(seconds left to wait, share of the reachable requests)`.
    slack: Vec<(f64, f64)>,
    /// Mean wait times servers times idle share, per chance to wait, seconds.
    wait_seconds: f64,
}

impl Tail {
    fn new(work: &Work, limit_seconds: f64, wait_factor: f64, reachable_share: f64) -> Self {
        let reachable = work.service.iter().filter(|(s, _)| *s <= limit_seconds);
        // Allen and Cunneen: G/G/c waits as M/M/c does, times the mean of both variations.
        let variability = f64::midpoint(work.arrival_scv, work.service_scv());
        Self {
            slack: reachable
                .map(|(seconds, share)| (limit_seconds - seconds, share / reachable_share))
                .collect(),
            wait_seconds: work.mean_service_seconds() * variability * wait_factor.max(1.0),
        }
    }

    /// Share of the reachable requests that miss the limit with `c` servers, `c` above the load.
    fn miss_share(&self, c: f64, load: f64, erlang_b: f64) -> f64 {
        let waiting_seconds = self.waiting_seconds(c, load);
        if waiting_seconds <= 0.0 {
            return 0.0;
        }
        let late = self.slack.iter().map(|&(slack, share)| {
            let exponent = -slack / waiting_seconds;
            share * exponent.exp()
        });
        (wait_chance(c, load, erlang_b) * late.sum::<f64>()).min(1.0)
    }

    /// The mean wait of those who wait at all.
    fn waiting_seconds(&self, c: f64, load: f64) -> f64 {
        self.wait_seconds / (c - load)
    }
}

#[cfg(test)]
mod tests;
