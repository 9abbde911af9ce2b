//! Both roles together: the cheapest pair that meets both needs inside ratio band, replica bounds
//! and GPU budget, or what comes closest.
//!
//! For every prefill count the best decode count follows directly, so one pass over the prefill
//! counts is exact; the tests compare with trying every pair.

use crate::{
    policy::{Bounds, Enforcement, Policy, RatioPolicy},
    report::{Reason, Stage, Step},
    role::{PerRole, Role},
};

/// What is to be solved.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Bounds, ratio and budget.
    pub policy: &'a Policy,
    /// Replicas each role needs.
    pub need: PerRole<u32>,
    /// Replicas each role has.
    pub current: PerRole<u32>,
    /// Fewest replicas each role may get: at least `minReplicas`, and the replicas it has when its
    /// metrics do not allow to lower them.
    pub floor: PerRole<u32>,
    /// GPUs of one replica.
    pub gpus_per_replica: PerRole<u32>,
}

/// The pair, and what limited it.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// Replicas.
    pub replicas: PerRole<u32>,
    /// What limited or moved them.
    pub steps: Vec<Step>,
}

impl Problem<'_> {
    /// Solves.
    pub fn solve(&self) -> Solution {
        let mut steps = Vec::new();
        let need = PerRole::from_fn(|role| self.bounded(role, &mut steps));
        let replicas = self.pair(need, &mut steps);
        if let Some(ratio) = self.policy.ratio
            && !ratio.band.contains(replicas.prefill, replicas.decode)
        {
            let (least, most) = ratio.band.bounds();
            steps.push(step(
                None,
                Reason::RatioBreach,
                format!(
                    "{}:{} lies outside the band of {least:.2} to {most:.2} prefill per decode",
                    replicas.prefill, replicas.decode
                ),
            ));
        }
        Solution { replicas, steps }
    }

    fn bounds(&self, role: Role) -> Bounds {
        *self.policy.bounds.get(role)
    }

    fn gpus(&self, prefill: u32, decode: u32) -> u64 {
        Policy::gpus(PerRole { prefill, decode }, self.gpus_per_replica)
    }

    fn affordable(&self, prefill: u32, decode: u32) -> bool {
        self.policy
            .budget_gpus
            .is_none_or(|most| self.gpus(prefill, decode) <= u64::from(most))
    }

    fn bounded(&self, role: Role, steps: &mut Vec<Step>) -> u32 {
        let (need, bounds) = (*self.need.get(role), self.bounds(role));
        let replicas = bounds.clamp(need);
        if replicas < need {
            let message = format!("needed: {need}; maxReplicas is {replicas}");
            steps.push(step(Some(role), Reason::AtMaxReplicas, message));
        } else if replicas > need {
            let message = format!("enough: {need}; minReplicas is {replicas}");
            steps.push(step(Some(role), Reason::AtMinReplicas, message));
        }
        replicas
    }

    fn pair(&self, need: PerRole<u32>, steps: &mut Vec<Step>) -> PerRole<u32> {
        if let Some(ratio) = self.policy.ratio {
            if let Some(pair) = self.cheapest_in_band(need, ratio) {
                if pair != need {
                    steps.push(step(None, Reason::RatioBand, padding(need, pair)));
                }
                return pair;
            }
            if ratio.enforcement == Enforcement::Hard {
                if let Some(pair) = self.closest(need, Some(ratio)) {
                    let message = format!(
                        "the band holds at {}:{} although {}:{} is needed",
                        pair.prefill, pair.decode, need.prefill, need.decode
                    );
                    let reason = if self.affordable(need.prefill, need.decode) {
                        Reason::RatioBand
                    } else {
                        Reason::BudgetLimited
                    };
                    steps.push(step(None, reason, message));
                    return pair;
                }
                let message =
                    "no pair inside replica bounds and budget lies in the band".to_owned();
                steps.push(step(None, Reason::RatioUnreachable, message));
            }
        }
        self.within_budget(need, steps)
    }

    /// The cheapest pair in the band that meets `need`. Decode's least in the band never falls as
    /// prefill rises, so the first pair that fits is the cheapest.
    fn cheapest_in_band(&self, need: PerRole<u32>, ratio: RatioPolicy) -> Option<PerRole<u32>> {
        (need.prefill..=self.bounds(Role::Prefill).max_replicas).find_map(|prefill| {
            let decode = ratio.band.decode_least(prefill).max(u64::from(need.decode));
            let decode = u32::try_from(decode).ok()?;
            let fits = decode <= self.bounds(Role::Decode).max_replicas
                && u64::from(decode) <= ratio.band.decode_most(prefill)
                && self.affordable(prefill, decode);
            fits.then_some(PerRole { prefill, decode })
        })
    }

    fn within_budget(&self, need: PerRole<u32>, steps: &mut Vec<Step>) -> PerRole<u32> {
        if self.affordable(need.prefill, need.decode) {
            return need;
        }
        let most = self.policy.budget_gpus.unwrap_or(u32::MAX);
        let wanted = self.gpus(need.prefill, need.decode);
        if let Some(pair) = self.closest(need, None) {
            let message = format!(
                "{}:{} would hold {wanted} GPUs and the budget is {most}; {}:{} loses least",
                need.prefill, need.decode, pair.prefill, pair.decode
            );
            steps.push(step(None, Reason::BudgetLimited, message));
            return pair;
        }
        let message = format!(
            "the fewest replicas allowed, {}:{}, hold {} GPUs and the budget is {most}: raise \
             `budget.gpus` or lower `minReplicas`",
            self.floor.prefill,
            self.floor.decode,
            self.gpus(self.floor.prefill, self.floor.decode)
        );
        steps.push(step(None, Reason::BudgetInfeasible, message));
        self.current
    }

    /// The affordable pair, in the band if one is given, whose worse-served role gets the largest
    /// share of its need; among equals the one whose better-served role gets more, then the
    /// cheapest. Never below the floor.
    fn closest(&self, need: PerRole<u32>, ratio: Option<RatioPolicy>) -> Option<PerRole<u32>> {
        let prefill_max = self.bounds(Role::Prefill).max_replicas;
        let pairs = (self.floor.prefill..=prefill_max).filter_map(|prefill| {
            let (least, most) = self.decode_range(prefill, ratio)?;
            let decode = need.decode.clamp(least, most);
            Some(PerRole { prefill, decode })
        });
        pairs.max_by_key(|pair| {
            // Shares times both needs: comparing whole numbers is exact.
            let served =
                |have: u32, want: u32, other: u32| u64::from(have.min(want)) * u64::from(other);
            let prefill = served(pair.prefill, need.prefill, need.decode);
            let decode = served(pair.decode, need.decode, need.prefill);
            let cost = self.gpus(pair.prefill, pair.decode);
            (
                prefill.min(decode),
                prefill.max(decode),
                std::cmp::Reverse(cost),
            )
        })
    }

    /// Least and most decode replicas beside `prefill`, if any fit.
    fn decode_range(&self, prefill: u32, ratio: Option<RatioPolicy>) -> Option<(u32, u32)> {
        let mut least = u64::from(self.floor.decode);
        let mut most = u64::from(self.bounds(Role::Decode).max_replicas);
        if let Some(ratio) = ratio {
            least = least.max(ratio.band.decode_least(prefill));
            most = most.min(ratio.band.decode_most(prefill));
        }
        if let Some(budget) = self.policy.budget_gpus {
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
