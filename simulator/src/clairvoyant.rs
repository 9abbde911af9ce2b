//! The clairvoyant bound: GPU-hours of a plan that knows every request beforehand.
//!
//! Per window the fewest replicas that hold the objective at the load that really came, then the
//! cheapest way to have them serve in time when a start costs its lead time. It follows the usual
//! relaxation of right-sizing problems (Lin, Wierman, Andrew, Thereska: Dynamic right-sizing for
//! power-proportional data centers, INFOCOM 2011): roles apart, replicas alike, cost linear.
//!
//! Assumed: prefill by the tail formula of [`pd_core::queueing`] with the window's own prompts and
//! the scatter of its own gaps, at a share of misses that is what the objective leaves after prompts
//! that no pool could serve in time; queues do not carry over from window to window. Decode by
//! [`load`]: answers run at the TPOT limit, spread evenly over replicas that are filled to the batch
//! that holds it. Both roles may miss as much as the objective allows for both together. Replicas
//! leave at once, without draining; ratio band, budget, the maximum, rate limits and windows do not
//! hold; the first replicas are there for nothing. Each of these makes it cheaper than
//! what can be had, except that no window is given up to save its cost. So it is a bound at about
//! the attainment asked for, not a proof; playing it (`--policy clairvoyant`) shows what it attains.

pub mod load;
pub mod startup;

use pd_core::queueing::{Work, servers_for};
use pd_core::{PerRole, Role};

use self::load::{Load, PrefillWindow};
use crate::engine::Profile;
use crate::observe::engine_role;
use crate::scenario::Scenario;
use crate::time::{HOUR, Nanos, SECOND, seconds};

/// Length of a window, in which replicas do not change.
pub const WINDOW: Nanos = 60 * SECOND;

/// Steps that a request waits for on a decode worker until its first token: the rest of the present
/// one, half on average, and its own.
const FIRST_TOKEN_STEPS: f64 = 1.5;

/// Replicas tried at most.
const REPLICAS_MAX: u32 = 10_000;

/// A plan that knows the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Replicas that each window needs.
    pub needed: PerRole<Vec<u32>>,
    /// Replicas that serve or wait in each window of the cheapest plan; never below `needed`.
    pub serving: PerRole<Vec<u32>>,
    /// GPU-hours of that plan, starts included.
    pub gpu_hours: PerRole<f64>,
    /// GPU-hours of each role's largest need, held all along.
    pub static_peak_gpu_hours: f64,
}

/// The bound of a scenario under `load`.
pub fn bound(scenario: &Scenario, load: &Load) -> Bound {
    let needed = PerRole {
        prefill: prefill_needs(scenario, load),
        decode: load.decode_needs(scenario),
    };
    let mut serving = PerRole::<Vec<u32>>::default();
    let mut gpu_hours = PerRole::default();
    let mut static_peak_gpu_hours = 0.0;
    for role in Role::ALL {
        let lead = scenario.profile.startup_time(engine_role(role));
        let plan = startup::cheapest(needed.get(role), WINDOW, lead);
        let gpus = f64::from(*scenario.gpus_per_replica.get(role));
        *gpu_hours.get_mut(role) = gpus * paid(&plan, load.length(), lead) / HOUR as f64;
        let peak = needed.get(role).iter().max().copied().unwrap_or(0);
        static_peak_gpu_hours += gpus * f64::from(peak) * load.length() as f64 / HOUR as f64;
        *serving.get_mut(role) = plan;
    }
    Bound {
        needed,
        serving,
        gpu_hours,
        static_peak_gpu_hours,
    }
}

impl Bound {
    /// Replicas to begin with: the most that each role needs in the first `span`.
    pub fn at_start(&self, span: Nanos) -> PerRole<u32> {
        let windows = usize::try_from(span.div_ceil(WINDOW)).unwrap_or(usize::MAX);
        PerRole::from_fn(|role| {
            let first = self.needed.get(role).iter().take(windows.max(1));
            first.max().copied().unwrap_or(1)
        })
    }
}

/// Replica-nanoseconds of a plan; its last window may be cut short by the end of the run.
fn paid(plan: &[u32], length: Nanos, lead: Nanos) -> f64 {
    let served = plan.iter().enumerate().map(|(index, replicas)| {
        let start = index as Nanos * WINDOW;
        f64::from(*replicas) * WINDOW.min(length.saturating_sub(start)) as f64
    });
    let started = plan.windows(2).map(|pair| match pair {
        [before, after] => f64::from(after.saturating_sub(*before)),
        _ => 0.0,
    });
    served.sum::<f64>() + started.sum::<f64>() * lead as f64
}

fn prefill_needs(scenario: &Scenario, load: &Load) -> Vec<u32> {
    let objective = scenario.objective;
    let ttft_seconds = objective.ttft.limit_milliseconds * 1e-3;
    let tpot_seconds = objective.tpot.limit_milliseconds * 1e-3;
    let limit_of = |window: &PrefillWindow| {
        ttft_seconds
            - transfer_seconds(&scenario.profile, window)
            - FIRST_TOKEN_STEPS * tpot_seconds
    };
    // What no pool can serve in time uses up part of what may miss.
    let hopeless: f64 = load
        .prefill()
        .iter()
        .map(|window| window.share_slower_than(limit_of(window)) * window.requests as f64)
        .sum();
    let requests = load.requests().max(1) as f64;
    let hopeless = hopeless / requests;
    let allowed = 1.0 - f64::from(objective.attainment.percent) / 100.0;
    let miss_share = ((allowed - hopeless) / (1.0 - hopeless)).max(1e-4);
    let least = scenario.replicas.prefill.min;
    let need = |window: &PrefillWindow| {
        let work = Work {
            arrival_rate_rps: window.requests as f64 / seconds(WINDOW),
            arrival_scv: window.arrival_scv(),
            service: window.service_shares(),
        };
        if window.requests == 0 {
            return least;
        }
        servers_for(&work, limit_of(window), miss_share, REPLICAS_MAX)
            .servers
            .max(least)
    };
    load.prefill().iter().map(need).collect()
}

/// Time in which the KV cache of the window's mean prompt travels.
fn transfer_seconds(profile: &Profile, window: &PrefillWindow) -> f64 {
    seconds(profile.kv_transfer_time(window.mean_input_tokens()))
}

#[cfg(test)]
mod tests;
