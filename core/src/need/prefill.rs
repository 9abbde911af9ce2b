//! Prefill replicas: the smallest pool that keeps the TTFT tail inside the objective.
//!
//! Arriving prompts and their compute times go through the tail formula of [`crate::queueing`],
//! with the time of KV transfer, admission and overheads taken off the limit. They do so for all
//! work that may come until replicas requested now serve, each scenario as likely as the forecast
//! states: the share of requests that miss over all of them counts. The queue that has built up by
//! then must drain in a stated time. Replicas that are there go only when the misses without them
//! stay well below the allowed share.

use std::time::Duration;

use super::{Need, Sizing};
use crate::{
    queueing::{Attainment, Limit, Work, attainment},
    reach::NEAR,
    reason::Reason,
    role::Role,
};

/// Seconds within which a prefill queue should be gone once the replicas for it serve, at least: a
/// shorter time buys replicas that idle a minute later. Replicas that take longer to come get as
/// long as they took, since the requests that wait have missed their limit already.
const DRAIN_SECONDS_MIN: f64 = 60.0;

/// Share of the misses allowed that fewer replicas than now must stay under. A replica given back
/// is requested again by the next burst otherwise, and starts and winds down without serving much.
const RELEASE_SHARE: f64 = 0.5;

/// Fewest prompts whose waits are sized by: of fewer, one in twenty is no number.
const PROMPTS_MIN: f64 = 20.0;

/// Before anything is learnt: waiting prompts per ready worker from which one more is requested.
const SATURATED_WAITING_PER_WORKER: f64 = 2.0;

/// Share of prompts that no pool serves in time from which the message states it.
const UNREACHABLE_REPORTED: f64 = 0.005;

/// Prefill replicas that are needed, or nothing when that is not known. Not for an idle service.
pub(super) fn need(sizing: &Sizing<'_>) -> Option<Need> {
    let Some(by_work) = by_work(sizing) else {
        return saturated(sizing);
    };
    let modelled = by_work.replicas;
    Some(by_work.or_larger(by_latency(sizing, modelled)))
}

fn by_work(sizing: &Sizing<'_>) -> Option<Need> {
    let demand = PromptDemand::of(sizing)?;
    let replicas_max = sizing.replicas_max(Role::Prefill);
    let busy_now = demand.rate_rps * demand.mean_seconds;
    let now = [(busy_now, 1.0)];
    let distribution = sizing.forecast.prefill.as_ref();
    let scenarios = distribution.map_or(&now[..], |distribution| &distribution.scenarios);
    let served = demand.served(sizing, scenarios, replicas_max);
    let allowed = sizing.risk_target.prefill.miss_share();
    let most = most_by_few(sizing, &served);
    let raised_to = served.enough(allowed).min(most);
    let current = f64::from(sizing.replicas.prefill.state.current);
    let release = RELEASE_SHARE * sizing.tuning.release_share;
    let kept = served.enough(allowed * release).min(current);
    let enough_now = demand.served(sizing, &now, replicas_max).enough(allowed);
    let enough_now = enough_now.min(most);
    let servers = raised_to.max(kept).max(enough_now);
    let reason = if servers > enough_now {
        Reason::PrefillForecast
    } else {
        Reason::PrefillWork
    };
    let drained =
        served.load + demand.backlog(sizing) * demand.mean_seconds / drain_seconds(sizing);
    // A pool has slack of its own; only the queue that it does not drain in time is added.
    let (reason, exact) = if drained > servers + 0.5 {
        (Reason::PrefillQueue, drained.ceil())
    } else {
        (reason, servers)
    };
    let message = demand.message(sizing, served.load, exact);
    let mut need = Need::of(exact, reason, message);
    // Tolerance is judged by how busy the pool would be, not by the whole number it was rounded to.
    let load = served.load.max(busy_now);
    need.exact = (need.exact - 1.0 + (load / need.exact.max(1.0))).max(load);
    need.attained = served.attained.shares;
    Some(need)
}

/// Replicas that so few prompts may call for: those that are there, or those that their work keeps
/// busy. A handful of prompts shows no tail, so only a queue buys more on it.
fn most_by_few(sizing: &Sizing<'_>, served: &Served) -> f64 {
    let windows = [&sizing.signals.recent, &sizing.signals.wide];
    let known = windows
        .iter()
        .any(|window| window.prompt_tokens.gap().is_none());
    let many = windows
        .iter()
        .any(|window| window.prompt_tokens.with_samples(PROMPTS_MIN).is_ok());
    if many || !known {
        return f64::INFINITY;
    }
    let current = f64::from(sizing.replicas.prefill.state.current);
    served.load.ceil().max(current)
}

fn drain_seconds(sizing: &Sizing<'_>) -> f64 {
    sizing
        .replicas
        .prefill
        .lead
        .p90
        .as_secs_f64()
        .max(DRAIN_SECONDS_MIN)
}

/// The demand of prompts on the pool.
struct PromptDemand {
    rate_rps: f64,
    service: Vec<(f64, f64)>,
    mean_seconds: f64,
    limit_seconds: f64,
    waiting: f64,
}

/// How pools of every size serve a demand that is not known exactly.
struct Served {
    /// Mean of the workers that prompts keep busy.
    load: f64,
    attained: Attainment,
}

impl Served {
    /// The fewest servers with which at most `miss_share` is late; one more than the most allowed,
    /// or as many as are busy, where none suffice.
    fn enough(&self, miss_share: f64) -> f64 {
        let beyond = self.attained.shares.len() as f64;
        let servers = self.attained.servers_for(miss_share);
        servers.map_or_else(|| self.load.max(beyond), f64::from)
    }
}

impl PromptDemand {
    fn of(sizing: &Sizing<'_>) -> Option<Self> {
        let (workload, capacity) = (&sizing.demand.workload, sizing.capacity);
        let mut service = workload.service_times(capacity);
        if service.is_empty() {
            service.push((workload.prefill_seconds_mean?, 1.0));
        }
        let mean_seconds = service.iter().map(|(seconds, share)| seconds * share).sum();
        let limit = sizing.objective.ttft.limit.as_secs_f64() - capacity.ttft_residual_seconds;
        let reach = sizing.reach.prefill;
        Some(Self {
            rate_rps: workload.arrival_rate_rps?,
            service,
            mean_seconds,
            limit_seconds: reach.map_or(limit, |reach| reach.held_seconds),
            waiting: sizing
                .signals
                .waiting_requests
                .prefill
                .known()
                .unwrap_or(0.0),
        })
    }

    /// How prompts are served that keep so many workers busy, with these probabilities.
    fn served(&self, sizing: &Sizing<'_>, scenarios: &[(f64, f64)], replicas_max: u32) -> Served {
        let mut work = Work {
            arrival_rate_rps: self.rate_rps,
            arrival_scv: sizing.arrival_scv(),
            service: self.service.clone(),
        };
        let wait_factor = sizing.capacity.routing_factor;
        let limit = Limit {
            seconds: self.limit_seconds,
            wait_min_seconds: Some(sizing.objective.ttft.limit.as_secs_f64() * NEAR),
            overload_seconds: drain_seconds(sizing),
        };
        let mut mean = Served {
            load: 0.0,
            attained: Attainment {
                shares: vec![0.0; replicas_max as usize + 1],
            },
        };
        for &(load, probability) in scenarios {
            if self.mean_seconds > 0.0 {
                work.arrival_rate_rps = load / self.mean_seconds;
            }
            let attained = attainment(&work, limit, wait_factor, replicas_max);
            for (share, of_load) in mean.attained.shares.iter_mut().zip(attained.shares) {
                *share += probability * of_load;
            }
            mean.load += probability * load;
        }
        mean
    }

    /// Prompts that will wait when the requested replicas serve: those that do, and those that
    /// arrive until then beyond the work of the present workers. The sum hardly changes while
    /// replicas are on their way, so that one backlog is requested once.
    fn backlog(&self, sizing: &Sizing<'_>) -> f64 {
        let workers = f64::from(sizing.replicas.prefill.serving());
        if self.mean_seconds <= 0.0 {
            return self.waiting;
        }
        let beyond = (self.rate_rps - workers / self.mean_seconds).max(0.0);
        self.waiting + beyond * remaining(sizing).as_secs_f64()
    }

    fn message(&self, sizing: &Sizing<'_>, ahead: f64, exact: f64) -> String {
        let arriving = format!(
            "{:.2} requests/s of {:.0} ms each keep {:.2} workers busy, {ahead:.2} on average by the time \
             new ones serve, {:.0} wait",
            self.rate_rps,
            self.mean_seconds * 1e3,
            self.rate_rps * self.mean_seconds,
            self.waiting,
        );
        let ttft = sizing.objective.ttft;
        if self.limit_seconds <= 0.0 {
            let limit = ttft.limit.as_secs_f64() * 1e3;
            return format!(
                "{arriving}; KV transfer and decode admission alone take longer than the TTFT limit of \
                 {limit:.0} ms, which more prefill replicas do not fix"
            );
        }
        let late = sizing.reach.prefill.map(|reach| reach.unreachable_share);
        let unreachable = match late.filter(|share| *share > UNREACHABLE_REPORTED) {
            Some(share) => format!(
                "; {:.1} % of prompts compute longer than that on any number",
                share * 100.0
            ),
            None => String::new(),
        };
        format!(
            "{arriving}; {exact:.0} prefill replicas keep {:.1} % of requests under {:.0} ms{unreachable}",
            sizing.risk_target.prefill.quantile() * 100.0,
            self.limit_seconds * 1e3,
        )
    }
}

/// Time until the oldest pending replicas should serve, or those that would be requested now.
fn remaining(sizing: &Sizing<'_>) -> Duration {
    let replicas = &sizing.replicas.prefill;
    let waited = replicas.waiting_for.unwrap_or_default();
    replicas.lead.p90.saturating_sub(waited)
}

fn by_latency(sizing: &Sizing<'_>, modelled: u32) -> Option<Need> {
    let objective = sizing.objective;
    let ttft = sizing.demand.workload.observed.ttft_seconds?;
    // Prompts that are late for another reason than waiting are not served sooner by more replicas.
    if sizing.demand.bottleneck.pays() != Some(Role::Prefill) {
        return None;
    }
    let replicas = sizing.correction(Role::Prefill, Some(modelled))?;
    let message = format!(
        "measured TTFT is {:.0} ms at p{}, over the limit of {:.0} ms",
        ttft * 1e3,
        objective.ttft.percentile,
        objective.ttft.limit.as_secs_f64() * 1e3
    );
    Some(Need::of(
        f64::from(replicas),
        Reason::PrefillLatency,
        message,
    ))
}

fn saturated(sizing: &Sizing<'_>) -> Option<Need> {
    let state = &sizing.replicas.prefill.state;
    let waiting = sizing.signals.waiting_requests.prefill.known()?;
    let workers = sizing.replicas.prefill.serving();
    if workers == 0
        || state.starting > 0
        || waiting < SATURATED_WAITING_PER_WORKER * f64::from(workers)
    {
        return None;
    }
    let replicas = f64::from(workers.saturating_add(1));
    let message = format!(
        "{waiting:.0} prompts wait for {workers} workers, and nothing is learnt yet about their speed"
    );
    Some(Need::of(replicas, Reason::Saturated, message))
}
