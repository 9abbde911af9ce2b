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

/// How long requests may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Seconds of wait and service together.
    pub seconds: f64,
    /// Seconds that every request may wait, however long its service is. Without them a request
    /// whose service takes all of the limit could never be served well, and one that takes more
    /// would stop to count: longer work would need fewer servers. Nothing leaves requests out whose
    /// service alone exceeds the limit, for those who count only what servers can change.
    pub wait_min_seconds: Option<f64>,
    /// Seconds for which a pool that does not keep up goes without more servers, above 0.
    pub overload_seconds: f64,
}

impl Limit {
    /// Seconds that a request may wait, whose service takes `service_seconds`.
    fn wait_seconds(&self, service_seconds: f64) -> f64 {
        let left = self.seconds - service_seconds;
        match self.wait_min_seconds {
            Some(least) => left.max(least),
            None if left >= 0.0 => left,
            None => f64::INFINITY,
        }
    }
}

/// How well pools of every size serve some work.
#[derive(Clone, Debug, PartialEq)]
pub struct Attainment {
    /// Share (0 to 1, not falling) of the requests that wait no longer than they may; index =
    /// servers.
    pub shares: Vec<f64>,
}

impl Attainment {
    /// The smallest pool in which at most `miss_share` of the requests wait too long; nothing if
    /// none does.
    pub fn servers_for(&self, miss_share: f64) -> Option<u32> {
        let servers = self
            .shares
            .iter()
            .skip(1)
            .position(|share| 1.0 - share <= miss_share)?;
        u32::try_from(servers + 1).ok()
    }

    /// Share of the requests that wait no longer than they may with so many servers, 0 to 1.
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

/// The share of requests that wait no longer than `limit` allows, for every pool of up to
/// `servers_max` servers. More requests, or longer ones, never raise it.
///
/// `wait_factor` (1 or more) multiplies the mean wait: 1 is a router that knows the work at every
/// server, more is one that does not.
pub fn attainment(work: &Work, limit: Limit, wait_factor: f64, servers_max: u32) -> Attainment {
    let load = work.offered_load();
    let tail = Tail::new(work, limit, wait_factor);
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
        let keeps_up = OVERLOADED_SHARE
            .min(tail.slack_mean / ((load / c - 1.0).max(0.0) * limit.overload_seconds).max(1e-9))
            * (c / load).min(1.0);
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
    Attainment { shares }
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
    let limit = Limit {
        seconds: f64::INFINITY,
        wait_min_seconds: None,
        overload_seconds: f64::INFINITY,
    };
    let tail = Tail::new(work, limit, 1.0);
    Some(wait_chance(c, load, erlang_b) * tail.waiting_seconds(c, load))
}

/// Erlang's C from his B: the chance that an arrival finds all servers busy.
fn wait_chance(c: f64, load: f64, erlang_b: f64) -> f64 {
    erlang_b / (1.0 - load / c * (1.0 - erlang_b))
}

/// The terms of the tail formula that the pool's size does not change.
struct Tail {
    /// `(seconds left to wait, share of the requests)`.
    slack: Vec<(f64, f64)>,
    /// Mean wait times servers times idle share, per chance to wait, seconds.
    wait_seconds: f64,
    /// Seconds left to wait, mean.
    slack_mean: f64,
}

impl Tail {
    fn new(work: &Work, limit: Limit, wait_factor: f64) -> Self {
        // Allen and Cunneen: G/G/c waits as M/M/c does, times the mean of both variations.
        let variability = f64::midpoint(work.arrival_scv, work.service_scv());
        let slack: Vec<(f64, f64)> = work
            .service
            .iter()
            .map(|&(seconds, share)| (limit.wait_seconds(seconds), share))
            .collect();
        Self {
            slack_mean: slack.iter().map(|(slack, share)| slack * share).sum(),
            slack,
            wait_seconds: work.mean_service_seconds() * variability * wait_factor.max(1.0),
        }
    }

    /// Share of the requests that wait too long with `c` servers, `c` above the load.
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
