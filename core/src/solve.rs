//! Both roles together: the cheapest pair that meets both needs inside ratio band, replica bounds
//! and GPU budget, or the closest pair.
//!
//! For every prefill count the best decode count follows directly, so one loop over the prefill
//! counts is exact; the tests compare with trying every pair. When the needs do not fit, `split`
//! chooses the closest pair. Where no pair is within the budget, the replicas stay and the steps
//! state it: neither role is ever solved to zero.

mod split;

use self::split::{Advantage, Choice, Split};
pub use self::split::{Attained, PRODUCT_MARGIN_TENTHS, SHARE_MARGIN_PERCENT};
use crate::{
    bounds::Bounds,
    policy::Policy,
    ratio::{BreachCause, Enforcement, RatioPolicy},
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Step},
};

/// Most replicas that are ever tried for a role: the most that the API accepts as `maxReplicas`.
const REPLICAS_TRIED_MAX: u32 = 10_000;

/// The problem to solve.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Replica bounds in force.
    pub bounds: PerRole<Bounds>,
    /// Most GPUs that both roles may hold together.
    pub budget_gpus: Option<u32>,
    /// The ratio band in force: the policy's own, or that of an operating point.
    pub ratio: Option<RatioPolicy>,
    /// Replicas each role needs.
    pub need: PerRole<u32>,
    /// Replicas each role has.
    pub current: PerRole<u32>,
    /// Fewest replicas each role may get: at least `minReplicas`, and the replicas it has when its
    /// metrics do not allow to lower them.
    pub floor: PerRole<u32>,
    /// GPUs of one replica.
    pub gpus_per_replica: PerRole<u32>,
    /// Share of requests that each role's replicas serve within its limit, where that is known.
    pub attained: PerRole<Attained<'a>>,
}

/// The pair, and the limits that shaped it.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// Replicas.
    pub replicas: PerRole<u32>,
    /// Why they lie outside the ratio band, if they do.
    pub breach: Option<BreachCause>,
    /// Limits and moves.
    pub steps: Vec<Step>,
}

impl Problem<'_> {
    /// Solves. Total: any input gives a pair inside the bounds and the budget, or the current one
    /// with [`Reason::BudgetInfeasible`].
    pub fn solve(&self) -> Solution {
        let mut steps = Vec::new();
        let need = PerRole::from_fn(|role| self.bounded(role, &mut steps));
        let replicas = self.pair(need, &mut steps);
        let breach = self.ratio.and_then(|ratio| {
            let outside = !ratio.band.contains(replicas.prefill, replicas.decode);
            outside.then(|| self.breach(need, replicas, ratio, &mut steps))
        });
        Solution {
            replicas,
            breach,
            steps,
        }
    }

    /// Whether some pair lies inside bounds, floors, budget, and a hard band.
    pub fn is_feasible(&self) -> bool {
        let hard = self
            .ratio
            .filter(|ratio| ratio.enforcement == Enforcement::Hard);
        let mut prefills = self.least(Role::Prefill)..=self.most(Role::Prefill);
        prefills.any(|prefill| self.decode_range(prefill, hard).is_some())
    }

    /// Fewest replicas of `role`, never zero.
    fn least(&self, role: Role) -> u32 {
        self.bounds[role].clamp(self.floor[role]).max(1)
    }

    /// Most replicas of `role`, never under the fewest.
    fn most(&self, role: Role) -> u32 {
        let most = self.bounds[role].max_replicas.min(REPLICAS_TRIED_MAX);
        most.max(self.least(role))
    }

    fn gpus(&self, prefill: u32, decode: u32) -> u64 {
        Policy::gpus(PerRole { prefill, decode }, self.gpus_per_replica)
    }

    fn affordable(&self, pair: PerRole<u32>, budget: Option<u32>) -> bool {
        budget.is_none_or(|most| self.gpus(pair.prefill, pair.decode) <= u64::from(most))
    }

    fn bounded(&self, role: Role, steps: &mut Vec<Step>) -> u32 {
        let need = self.need[role];
        let replicas = need.clamp(self.least(role), self.most(role));
        if replicas < need {
            let message = format!("{need} replicas are needed, and maxReplicas is {replicas}");
            steps.push(step(Some(role), Reason::AtMaximum, message));
        } else if replicas > need && replicas == self.bounds[role].min_replicas {
            let message = format!("{need} replicas are enough, and minReplicas is {replicas}");
            steps.push(step(Some(role), Reason::AtMinReplicas, message));
        }
        replicas
    }

    fn pair(&self, need: PerRole<u32>, steps: &mut Vec<Step>) -> PerRole<u32> {
        if let Some(ratio) = self.ratio {
            if let Some(pair) = self.cheapest_in_band(need, ratio, self.budget_gpus) {
                if pair != need {
                    steps.push(step(None, Reason::RatioBand, padding(need, pair)));
                }
                return pair;
            }
            if ratio.enforcement == Enforcement::Hard {
                if let Some(choice) = Split::new(self, need).choose(Some(ratio)) {
                    steps.push(self.band_holds(need, choice.pair));
                    return choice.pair;
                }
                let message =
                    "no pair inside replica bounds and budget lies in the band".to_owned();
                steps.push(step(None, Reason::RatioUnreachable, message));
            }
        }
        self.within_budget(need, steps)
    }

    fn band_holds(&self, need: PerRole<u32>, pair: PerRole<u32>) -> Step {
        let message = format!(
            "the band holds at {}:{} although {}:{} is needed",
            pair.prefill, pair.decode, need.prefill, need.decode
        );
        let reason = if self.affordable(need, self.budget_gpus) {
            Reason::RatioBand
        } else {
            Reason::BudgetLimited
        };
        step(None, reason, message)
    }

    /// The cheapest pair in the band that meets `need`; of several that cost the same, the one
    /// closest to the current pair, so that padding never moves on its own.
    ///
    /// Decode's least in the band never falls as prefill rises, so nor do the GPUs, and the search
    /// ends at the first pair that costs more than the best one.
    fn cheapest_in_band(
        &self,
        need: PerRole<u32>,
        ratio: RatioPolicy,
        budget: Option<u32>,
    ) -> Option<PerRole<u32>> {
        let mut best: Option<((u64, u64), PerRole<u32>)> = None;
        for prefill in need.prefill..=self.most(Role::Prefill) {
            let least = ratio.band.decode_least(prefill).max(need.decode.into());
            let most = ratio
                .band
                .decode_most(prefill)
                .min(self.most(Role::Decode).into());
            let Ok(cheapest) = u32::try_from(least) else {
                break;
            };
            let gpus = self.gpus(prefill, cheapest);
            let over = least > self.most(Role::Decode).into()
                || budget.is_some_and(|most| gpus > u64::from(most))
                || best.is_some_and(|((best, _), _)| gpus > best);
            if over {
                break;
            }
            if least > most {
                continue;
            }
            // Decode replicas without GPUs cost nothing, so the current number may stay.
            let free = self.gpus_per_replica.decode == 0;
            let decode = if free {
                u64::from(self.current.decode).clamp(least, most)
            } else {
                least
            };
            let decode = u32::try_from(decode).unwrap_or(cheapest);
            let pair = PerRole { prefill, decode };
            let key = (gpus, self.distance(pair));
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, pair));
            }
        }
        best.map(|(_, pair)| pair)
    }

    /// Replicas that differ from the current ones.
    fn distance(&self, pair: PerRole<u32>) -> u64 {
        u64::from(pair.prefill.abs_diff(self.current.prefill))
            + u64::from(pair.decode.abs_diff(self.current.decode))
    }

    fn within_budget(&self, need: PerRole<u32>, steps: &mut Vec<Step>) -> PerRole<u32> {
        if self.affordable(need, self.budget_gpus) {
            return need;
        }
        let most = self.budget_gpus.unwrap_or(u32::MAX);
        if let Some(choice) = self.shared_out(need) {
            let message = format!(
                "{}:{} would hold {} GPUs and the budget is {most}; {}",
                need.prefill,
                need.decode,
                self.gpus(need.prefill, need.decode),
                choice.text()
            );
            steps.push(step(None, Reason::BudgetLimited, message));
            return choice.pair;
        }
        let (prefill, decode) = (self.least(Role::Prefill), self.least(Role::Decode));
        let message = format!(
            "the fewest replicas allowed, {prefill}:{decode}, hold {} GPUs and the budget is \
             {most}: raise `budget.gpus` or lower `minReplicas`",
            self.gpus(prefill, decode)
        );
        steps.push(step(None, Reason::BudgetInfeasible, message));
        self.current
    }

    /// The split of a short budget. A soft band is kept while its best pair costs no more than the
    /// margin, and returned to only when that costs nothing, so that it is not left and entered in
    /// turns. The cost of the band is judged by the best pairs, which do not depend on the current
    /// one.
    fn shared_out(&self, need: PerRole<u32>) -> Option<Choice> {
        let split = Split::new(self, need);
        let free = split.choose(None)?;
        let Some(ratio) = self.ratio else {
            return Some(free);
        };
        let Some(banded) = split.choose_near(Some(ratio), Some(&free.best)) else {
            return Some(free);
        };
        let in_band = ratio
            .band
            .contains(self.current.prefill, self.current.decode);
        let keeps = match split.advantage(&free.best, &banded.best) {
            Advantage::None => true,
            Advantage::Small => in_band,
            Advantage::Large => false,
        };
        Some(if keeps { banded } else { free })
    }

    /// Reports that `replicas` lie outside the band, and why.
    fn breach(
        &self,
        need: PerRole<u32>,
        replicas: PerRole<u32>,
        ratio: RatioPolicy,
        steps: &mut Vec<Step>,
    ) -> BreachCause {
        let budget = self.budget_gpus;
        let least = PerRole::from_fn(|role| self.least(role));
        let wanted = if self.affordable(need, budget) {
            need
        } else {
            least
        };
        let (cause, why) =
            if wanted == least && self.cheapest_in_band(least, ratio, budget).is_some() {
                let why = "inside it fewer requests would be served in time".to_owned();
                (BreachCause::Need, why)
            } else if let Some(pair) = self.cheapest_in_band(wanted, ratio, None) {
                let gpus = self.gpus(pair.prefill, pair.decode);
                let why = format!(
                    "{}:{} in the band would hold {gpus} GPUs and the budget is {}",
                    pair.prefill,
                    pair.decode,
                    budget.unwrap_or(u32::MAX)
                );
                (BreachCause::Budget, why)
            } else {
                let why = "maxReplicas leave no pair in it that meets both needs".to_owned();
                (BreachCause::Bounds, why)
            };
        let (low, high) = ratio.band.bounds();
        let message = format!(
            "{}:{} lies outside the band of {low:.2} to {high:.2} prefill per decode: {why}",
            replicas.prefill, replicas.decode
        );
        steps.push(step(None, Reason::RatioBreach, message));
        cause
    }

    /// Least and most decode replicas beside `prefill`, if any fit.
    fn decode_range(&self, prefill: u32, ratio: Option<RatioPolicy>) -> Option<(u32, u32)> {
        let mut least = u64::from(self.least(Role::Decode));
        let mut most = u64::from(self.most(Role::Decode));
        if let Some(ratio) = ratio {
            least = least.max(ratio.band.decode_least(prefill));
            most = most.min(ratio.band.decode_most(prefill));
        }
        if let Some(budget) = self.budget_gpus {
            let left = u64::from(budget).checked_sub(self.gpus(prefill, 0))?;
            most = most.min(
                left.checked_div(u64::from(self.gpus_per_replica.decode))
                    .unwrap_or(u64::MAX),
            );
        }
        (least <= most).then_some((u32::try_from(least).ok()?, u32::try_from(most).ok()?))
    }
}

fn padding(need: PerRole<u32>, pair: PerRole<u32>) -> String {
    format!(
        "{}:{} is needed and {}:{} is the cheapest pair in the ratio band",
        need.prefill, need.decode, pair.prefill, pair.decode
    )
}

fn step(role: Option<Role>, reason: Reason, message: String) -> Step {
    Step {
        stage: Stage::Solve,
        role,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests;
