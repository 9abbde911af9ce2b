//! The clairvoyant bounds: GPU-hours of plans that know every request beforehand.
//!
//! From the replicas that each window needs at the load that really came follows the cheapest way
//! to have them serve in time when a start costs its lead time. It is the usual relaxation of
//! right-sizing problems (Lin, Wierman, Andrew, Thereska: Dynamic right-sizing for
//! power-proportional data centers, INFOCOM 2011): roles apart, replicas alike, cost linear. The
//! plan `everywhere` holds the objective in each window by itself; the plan `overall` holds it over
//! the run and lets requests miss where that saves most.
//!
//! Assumed: prefill by the tail formula of [`pd_core::queueing`] with the window's own prompts and
//! the scatter of its own gaps, at a share of misses that is what the objective leaves after
//! prompts that no pool could serve in time; queues do not carry over from window to window. Decode
//! by [`load`]: answers run at the TPOT limit, spread evenly over replicas that are filled to the
//! batch that holds it. In `everywhere` both roles may miss as much as the objective allows for
//! both together. Replicas leave at once, without draining; ratio band, budget, the maximum, rate
//! limits and stabilization do not hold; the first replicas are there for nothing. A formula is no
//! proof: playing the plans (`--policy clairvoyant`, `--policy clairvoyant-overall`) shows what
//! they attain, and `--policy simulated-oracle` corrects them by plays ([`refine`]).

pub mod load;
pub mod refine;
pub mod startup;

mod misses;
mod spend;

use pd_core::queueing::Work;
use pd_core::{PerRole, Role};

use self::load::{Load, PrefillWindow};
use self::misses::Misses;
use self::spend::Costs;
use crate::engine::Profile;
use crate::observe::engine_role;
use crate::scenario::Scenario;
use crate::time::{HOUR, Nanos, SECOND, milliseconds, seconds};

/// Length of a window, in which replicas do not change.
pub const WINDOW: Nanos = 60 * SECOND;

/// Steps that a request waits for on a decode worker until its first token: the rest of the present
/// one, half on average, and its own.
const FIRST_TOKEN_STEPS: f64 = 1.5;

/// The smallest share of requests that a plan may miss, where prompts without hope use up the rest.
const MISS_SHARE_MIN: f64 = 1e-4;

/// A plan that knows the load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaPlan {
    /// Replicas that serve or wait in each window.
    pub serving: PerRole<Vec<u32>>,
    /// GPU-hours of the plan, starts included.
    pub gpu_hours: PerRole<f64>,
}

/// The value of knowing the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Replicas that each window needs to hold the objective by itself.
    pub needed: PerRole<Vec<u32>>,
    /// The cheapest plan with never fewer than `needed`.
    pub everywhere: ReplicaPlan,
    /// The cheapest plan that holds the objective over the run.
    pub overall: ReplicaPlan,
    /// GPU-hours of each role's largest need, held all along.
    pub static_peak_gpu_hours: f64,
    /// Requests that miss by replicas, in each window.
    tables: PerRole<Vec<Misses>>,
    /// Requests of each window that no pool serves in time; they are not in `tables`.
    hopeless: Vec<f64>,
    /// Requests that may miss, of those that are in `tables`.
    may_miss: f64,
    costs: Costs,
    length: Nanos,
}

/// The bounds of a scenario under `load`.
pub fn bound(scenario: &Scenario, load: &Load) -> Bound {
    let allowed = 1.0 - f64::from(scenario.policy().objective.attainment.percent) / 100.0;
    let hopeless = hopeless_share(scenario, load);
    let prefill_share = ((allowed - hopeless) / (1.0 - hopeless)).max(MISS_SHARE_MIN);
    let misses = PerRole {
        prefill: prefill_misses(scenario, load),
        decode: load.decode_misses(scenario.policy().bounds.decode.min_replicas),
    };
    let needed = PerRole {
        prefill: replicas_for(&misses.prefill, prefill_share),
        decode: replicas_for(&misses.decode, allowed),
    };
    let costs = Costs {
        window: WINDOW,
        lead: PerRole::from_fn(|role| scenario.profile.startup_time(engine_role(role))),
        gpus: scenario.spec.gpus_per_replica(),
    };
    let may_miss = (allowed - hopeless).max(MISS_SHARE_MIN) * load.requests() as f64;
    let everywhere =
        PerRole::from_fn(|role| startup::cheapest(&needed[role], WINDOW, costs.lead[role]));
    let overall = spend::cheapest(&misses, costs, may_miss);
    let static_peak_gpu_hours = Role::ALL.into_iter().map(|role| {
        let peak = needed[role].iter().max().copied().unwrap_or(0);
        let gpus = f64::from(peak) * f64::from(costs.gpus[role]);
        gpus * load.length() as f64 / HOUR as f64
    });
    Bound {
        static_peak_gpu_hours: static_peak_gpu_hours.sum(),
        everywhere: ReplicaPlan::priced(everywhere, costs, load.length()),
        overall: ReplicaPlan::priced(overall, costs, load.length()),
        needed,
        hopeless: hopeless_by_window(scenario, load),
        tables: misses,
        may_miss,
        costs,
        length: load.length(),
    }
}

impl ReplicaPlan {
    fn priced(serving: PerRole<Vec<u32>>, costs: Costs, length: Nanos) -> Self {
        let gpu_hours = PerRole::from_fn(|role| {
            let gpus = f64::from(costs.gpus[role]);
            gpus * paid(&serving[role], length, costs.lead[role]) / HOUR as f64
        });
        Self { serving, gpu_hours }
    }

    /// Replicas of the first window.
    pub fn at_start(&self) -> PerRole<u32> {
        PerRole::from_fn(|role| self.serving[role].first().copied().unwrap_or(1))
    }

    /// GPU-hours of both roles.
    pub fn all_gpu_hours(&self) -> f64 {
        self.gpu_hours.prefill + self.gpu_hours.decode
    }
}

impl Bound {
    /// Replicas of each role's largest need.
    pub fn peak(&self) -> PerRole<u32> {
        PerRole::from_fn(|role| self.needed[role].iter().max().copied().unwrap_or(1))
    }

    /// Replicas to begin with: the most that each role needs in the first `span`.
    pub fn at_start(&self, span: Nanos) -> PerRole<u32> {
        let windows = usize::try_from(span.div_ceil(WINDOW)).unwrap_or(usize::MAX);
        PerRole::from_fn(|role| {
            let first = self.needed[role].iter().take(windows.max(1));
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

fn replicas_for(misses: &[Misses], share: f64) -> Vec<u32> {
    misses
        .iter()
        .map(|window| window.replicas_for(share))
        .collect()
}

/// Seconds that a window's prompts may wait and compute: the TTFT limit less what comes after.
fn prefill_limit_seconds(scenario: &Scenario, window: &PrefillWindow) -> f64 {
    let objective = &scenario.policy().objective;
    let first_token = FIRST_TOKEN_STEPS * milliseconds(objective.tpot.limit);
    (milliseconds(objective.ttft.limit) - first_token) * 1e-3
        - transfer_seconds(&scenario.profile, window)
}

/// Share of all prompts that no pool can serve in time; they use up part of what may miss.
fn hopeless_share(scenario: &Scenario, load: &Load) -> f64 {
    let hopeless: f64 = hopeless_by_window(scenario, load).into_iter().sum();
    hopeless / load.requests().max(1) as f64
}

fn hopeless_by_window(scenario: &Scenario, load: &Load) -> Vec<f64> {
    let hopeless = |window: &PrefillWindow| {
        let limit_seconds = prefill_limit_seconds(scenario, window);
        window.share_slower_than(limit_seconds) * window.requests as f64
    };
    load.prefill().iter().map(hopeless).collect()
}

fn prefill_misses(scenario: &Scenario, load: &Load) -> Vec<Misses> {
    let least = scenario.policy().bounds.prefill.min_replicas;
    let table = |window: &PrefillWindow| {
        if window.requests == 0 {
            return Misses::none(least);
        }
        let limit_seconds = prefill_limit_seconds(scenario, window);
        let requests = window.requests as f64 * (1.0 - window.share_slower_than(limit_seconds));
        let work = Work {
            arrival_rate_rps: window.requests as f64 / seconds(WINDOW),
            arrival_scv: window.arrival_scv(),
            service: window.service_shares(),
        };
        Misses::of_queue(&work, limit_seconds, requests, least)
    };
    load.prefill().iter().map(table).collect()
}

/// Time in which the KV cache of the window's mean prompt travels.
fn transfer_seconds(profile: &Profile, window: &PrefillWindow) -> f64 {
    seconds(profile.kv_transfer_time(window.mean_input_tokens()))
}

#[cfg(test)]
mod tests;
