//! Queueing formulas for a pool of equal servers.
//!
//! Erlang C gives the chance to wait in M/M/c; the factor of Allen and Cunneen (Probability,
//! Statistics and Queueing Theory, 1990) carries it to general arrivals and service times; an
//! exponential tail with that mean gives the chance to wait longer than some time. It describes a
//! router that knows the work at each server; random routing waits longer.

/// How prompts arrive and what they cost.
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

/// The smallest number of servers, up to `servers_max`, for which the share of requests that wait
/// and compute longer than `limit_seconds` is at most `miss_share`.
///
/// Requests whose service alone exceeds the limit miss it whatever the pool; they are left out of
/// the share, and [`Sizing::unreachable_share`] tells how many they are. When even `servers_max`
/// servers do not suffice, `servers_max` is returned with [`Sizing::met`] false.
pub fn servers_for(work: &Work, limit_seconds: f64, miss_share: f64, servers_max: u32) -> Sizing {
    let load = work.offered_load();
    let unreachable_share: f64 = work
        .service
        .iter()
        .filter(|(s, _)| *s > limit_seconds)
        .map(|(_, share)| share)
        .sum();
    let mut erlang_b = 1.0_f64;
    for servers in 1..=servers_max {
        let c = f64::from(servers);
        erlang_b = load * erlang_b / (c + load * erlang_b);
        if load >= c {
            continue;
        }
        let miss = miss_share_with(work, c, erlang_b, limit_seconds, unreachable_share);
        if miss <= miss_share {
            return Sizing {
                servers,
                unreachable_share,
                met: true,
            };
        }
    }
    Sizing {
        servers: servers_max,
        unreachable_share,
        met: load <= 0.0,
    }
}

/// The answer of [`servers_for`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// Servers.
    pub servers: u32,
    /// Share of requests whose service alone exceeds the limit, 0 to 1.
    pub unreachable_share: f64,
    /// The limit holds with so many servers.
    pub met: bool,
}

/// Share of the reachable requests that miss the limit with `c` servers, `c` above the load.
fn miss_share_with(
    work: &Work,
    c: f64,
    erlang_b: f64,
    limit_seconds: f64,
    unreachable: f64,
) -> f64 {
    let utilisation = work.offered_load() / c;
    let wait_chance = erlang_b / (1.0 - utilisation * (1.0 - erlang_b));
    let variability = f64::midpoint(work.arrival_scv, work.service_scv());
    let mean_wait =
        wait_chance * work.mean_service_seconds() / (c * (1.0 - utilisation)) * variability;
    let reachable = 1.0 - unreachable;
    if mean_wait <= 0.0 || reachable <= 0.0 {
        return 0.0;
    }
    let missed: f64 = work
        .service
        .iter()
        .filter(|(seconds, _)| *seconds <= limit_seconds)
        .map(|(seconds, share)| {
            let slack = limit_seconds - seconds;
            share * wait_chance * (-slack * wait_chance / mean_wait).exp()
        })
        .sum();
    missed / reachable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn exponential_like(rate: f64) -> Work {
        // Service of exactly 1 s has no variance; the M/M/c table below wants SCV 1, which two
        // points of equal share at 0 and 2 seconds have.
        Work {
            arrival_rate_rps: rate,
            arrival_scv: 1.0,
            service: vec![(0.0, 0.5), (2.0, 0.5)],
        }
    }

    // Erlang C by hand: C(1, 0.5) = 0.5; C(2, 1) = 1/3; C(3, 2) = 4/9.
    #[rstest]
    #[case(1, 0.5, 0.5)]
    #[case(2, 1.0, 1.0 / 3.0)]
    #[case(3, 2.0, 4.0 / 9.0)]
    fn erlang_c_matches_its_closed_form(#[case] c: u32, #[case] load: f64, #[case] want: f64) {
        let mut erlang_b = 1.0;
        for n in 1..=c {
            erlang_b = load * erlang_b / (f64::from(n) + load * erlang_b);
        }
        let got = erlang_b / (1.0 - load / f64::from(c) * (1.0 - erlang_b));
        assert!((got - want).abs() < 1e-12, "{got} != {want}");
    }

    #[test]
    fn larger_pools_may_run_hotter() {
        let utilisation = |rate: f64| {
            let sizing = servers_for(&exponential_like(rate), 4.0, 0.05, 1_000);
            rate / f64::from(sizing.servers)
        };
        assert!(utilisation(1.0) < utilisation(10.0));
        assert!(utilisation(10.0) < utilisation(100.0));
    }

    #[test]
    fn prompts_longer_than_the_limit_are_told_apart() {
        let work = Work {
            arrival_rate_rps: 1.0,
            arrival_scv: 1.0,
            service: vec![(0.1, 0.9), (9.0, 0.1)],
        };
        let sizing = servers_for(&work, 0.5, 0.05, 100);
        assert!(
            sizing.met && (sizing.unreachable_share - 0.1).abs() < 1e-12,
            "{sizing:?}"
        );
    }

    #[test]
    fn no_work_needs_one_server_and_too_much_is_not_met() {
        assert_eq!(servers_for(&exponential_like(0.0), 1.0, 0.05, 8).servers, 1);
        let flooded = servers_for(&exponential_like(100.0), 1.0, 0.05, 8);
        assert_eq!((flooded.servers, flooded.met), (8, false));
    }

    proptest! {
        #[test]
        fn more_load_never_needs_fewer_servers(
            rate in 0.0f64..50.0, more in 0.0f64..20.0, service in 0.01f64..2.0, limit in 0.1f64..5.0,
        ) {
            let work = |rate| Work { arrival_rate_rps: rate, arrival_scv: 1.0, service: vec![(service, 1.0)] };
            let less = servers_for(&work(rate), limit, 0.05, 500).servers;
            let greater = servers_for(&work(rate + more), limit, 0.05, 500).servers;
            prop_assert!(less <= greater);
        }
    }
}
