//! What is expected to come while replicas start, and how many the objective takes for it.

use std::time::Duration;

use super::Planner;
use crate::{
    capacity::Source,
    error_budget::risk_targets,
    need::{Sizing, needs},
    report::{Reason, Stage},
    role::{PerRole, Role},
    signal::Reading,
};

/// Standard deviations that the forecast is less careful than sizing: the sizing of a pool has headroom
/// for bursts of its own, and a forecast that is exceeded is exceeded by a little and for a while. Decode
/// bears that for as long as an answer lasts, so its forecast is the median until the budget is spent.
const FORECAST_Z_LESS: PerRole<f64> = PerRole {
    prefill: 0.3,
    decode: 1.6,
};

impl Planner<'_> {
    /// How careful to be, once it is known which misses no pool could have mended: prompts that compute
    /// longer than their limit. Paying for those with more replicas would be in vain.
    pub(super) fn weigh_misses(&mut self) {
        let objective = &self.snapshot.policy.objective;
        let capacity = self.capacity();
        let limit = self.workload.prefill_limit_seconds(objective) - capacity.ttft_residual_seconds;
        let service = self.workload.service_times(&capacity);
        let late = service.iter().filter(|(seconds, _)| *seconds > limit);
        let in_vain: f64 = late.map(|(_, share)| share).sum();
        let mut attained = self.workload.attained;
        if let Some(share) = &mut attained.prefill {
            share.value = (share.value + in_vain).min(1.0);
            share.high = (share.high + in_vain).min(1.0);
        }
        self.risk_target = risk_targets(objective, attained);
    }

    /// Takes in each role's work now, and forecasts it for when replicas asked for now would serve.
    pub(super) fn foresee(&mut self) {
        // A rate tells of half its window ago, so the forecast has to reach over that too.
        let lag = self.snapshot.signals.rate_window / 2;
        for role in Role::ALL {
            if self.evidence.get(role).complete()
                && let Some(work) = self.work(role)
            {
                let memory = self.memory.roles.get_mut(role);
                memory.forecast.observe(work, self.now);
            }
            let horizon = self.lead.get(role).saturating_add(lag);
            let less = *FORECAST_Z_LESS.get(role);
            let quantile = self.risk_target.get(role).less(less).quantile();
            let distribution = self.memory.roles.get(role).forecast.distribution(
                horizon.min(Duration::from_mins(30)),
                quantile,
                self.now,
            );
            if let Some(distribution) = &distribution {
                let message = distribution.forecast.message();
                self.note(Stage::Forecast, Some(role), Reason::Forecast, message);
            }
            self.forecast[role] = distribution;
        }
    }

    /// The role's work: of prefill the busy workers that prompts keep, of decode the tokens per second.
    fn work(&self, role: Role) -> Option<f64> {
        match role {
            Role::Prefill => {
                let seconds = self.workload.prefill_seconds_mean;
                let rate = self.workload.arrival_rate_rps?;
                if rate <= 0.0 {
                    return Some(0.0);
                }
                Some(rate * seconds?)
            }
            Role::Decode => self.snapshot.signals.output_token_rate_tps.known(),
        }
    }

    pub(super) fn size(&mut self) {
        self.describe();
        let sizing = Sizing {
            snapshot: &self.snapshot,
            workload: &self.workload,
            memory: &self.memory,
            capacity: self.capacity(),
            risk_target: self.risk_target,
            forecast: self.forecast,
            lead: self.lead,
            bottleneck: self.bottleneck,
            now: self.now,
        };
        self.needs = needs(&sizing);
        for role in Role::ALL {
            if let Some(need) = self.needs.get(role) {
                let (reason, message) = (need.reason, need.message.clone());
                self.note(Stage::Need, Some(role), reason, message);
            }
        }
        let exact = PerRole::from_fn(|role| self.needs.get(role).as_ref().map(|need| need.exact));
        self.memory.ratio.follow(exact, self.now);
        let replicas =
            PerRole::from_fn(|role| self.needs.get(role).as_ref().map(|need| need.replicas));
        self.propose(Stage::Need, replicas);
    }

    /// Notes what arrives and what a replica is taken to do about it.
    fn describe(&mut self) {
        if let Some(message) = self.arriving() {
            self.note(Stage::Workload, None, Reason::Workload, message);
        }
        for remark in self.workload.remarks() {
            self.note(Stage::Workload, None, Reason::Workload, remark);
        }
        let capacity = self.capacity();
        if capacity.source() != Source::Unknown {
            let message = capacity.message();
            self.note(Stage::Capacity, None, Reason::Capacity, message);
        }
    }

    fn arriving(&self) -> Option<String> {
        let workload = &self.workload;
        let rate = workload.arrival_rate_rps?;
        let prompt = workload.prompt_tokens?.first;
        let output = workload.output_tokens_mean?;
        let cached = workload.prefix_hit_share.filter(|share| *share > 0.0);
        let cached = cached.map_or_else(String::new, |share| {
            format!(", {:.0} % of them cached", share * 100.0)
        });
        let dispersion = self.snapshot.signals.arrival_dispersion;
        let bursts = match dispersion {
            Reading::Value(dispersion) if dispersion > 1.05 => {
                format!(", bursty by {dispersion:.1}")
            }
            _ => String::new(),
        };
        Some(format!(
            "{rate:.2} requests/s of {prompt:.0} prompt tokens{cached} and {output:.0} output tokens{bursts}"
        ))
    }
}
