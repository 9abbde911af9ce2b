//! Risk targets: the risk of a miss that sizing takes, steered by the error budget.
//!
//! The objective allows a share of requests to miss within its window: the error budget. While it
//! is full, sizing takes the risk that the percentile allows at any moment; as it is spent, the
//! risk falls to the one that the attainment allows and below, so that attainment lands on the
//! objective instead of above it at a cost. This is the burn rate of the Site Reliability Workbook
//! (Google, 2018, chapter 5) read the other way round: not to wake people, but to decide how much
//! headroom the next replicas buy.
//!
//! Each role may spend half of the budget, and the part that the other leaves of its half. So the
//! role that causes the misses pays for them. Risks are one-sided standard normal quantiles: 1.64
//! is 5 %.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{
    histogram::Share,
    objective::Objective,
    role::{PerRole, Role},
    tuning::Tuning,
};

/// Misses that sizing plans while nothing has been missed, as a multiple of those that the stated
/// shares allow. More than one, because the misses that come are fewer than those planned: a whole
/// replica is coarser than a percentage point, and most of what is planned for does not come.
const PLANNED_FULL: f64 = 2.0;

/// How many times more misses that may be of an objective's attainment where all changes of the
/// load are noise. Work beyond a pool then goes away by itself before replicas for it would serve,
/// and the misses end with it; where a load goes on growing, they last until replicas have come.
const PLANNED_NOISE: f64 = 2.0;

/// The same once the budget is spent. As far below one as the first is above, so that a budget that
/// is spent by half plans for what is allowed.
const PLANNED_SPENT: f64 = 0.5;

/// Budgets are not overspent by more than this as far as sizing knows: 1 is the whole budget again.
const OVERSPENT_MAX: f64 = 1.0;

/// Largest risk, standard deviations. With half of the requests allowed to miss, a pool would be
/// enough that does not even keep up.
const Z_MIN: f64 = 0.3;

/// Smallest risk, standard deviations: one miss in two thousand. Samples of an hour show no more,
/// and a pool for fewer costs without end.
const Z_MAX: f64 = 3.29;

/// The part of the budget that is taken to be left while nothing is known of attainment.
const LEFT_UNKNOWN: f64 = 0.5;

/// The risk that sizing of a role takes, and the part of the error budget that is left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RiskTarget {
    /// Share of the budget that is left: 1 is all of it, 0 none, below 0 it is overspent; nothing
    /// when attainment is not known.
    pub budget_left: Option<f64>,
    /// Standard normal quantile that sizing keeps to.
    pub z: f64,
}

impl RiskTarget {
    /// The share of requests, 0 to 1, that may miss as sizing sees it.
    pub fn miss_share(&self) -> f64 {
        1.0 - self.quantile()
    }

    /// The quantile, 0 to 1, that sizing keeps to.
    pub fn quantile(&self) -> f64 {
        Normal::standard().cdf(self.z)
    }
}

/// The risk target of each role, from the shares of requests that met its limit within the
/// attainment window.
pub fn risk_targets(
    objective: &Objective,
    attained: PerRole<Option<Share>>,
    comes_back: PerRole<f64>,
    tuning: &Tuning,
) -> PerRole<RiskTarget> {
    let allowed = 1.0 - f64::from(objective.attainment.percent) / 100.0;
    let missed = |share: f64| (1.0 - share).clamp(0.0, 1.0);
    PerRole::from_fn(|role| {
        let others = attained[role.other()].map_or(allowed, |share| missed(share.high));
        let part = allowed - others.min(allowed / 2.0);
        let budget_left = attained[role].map(|share| {
            let [sure, likely] = [share.high, share.value].map(|share| left(part, missed(share)));
            // A limit inside a wide bucket leaves open how many miss it. Misses that are not
            // certain take no more risk away than unknown ones.
            likely.max(LEFT_UNKNOWN).min(sure)
        });
        RiskTarget {
            budget_left,
            z: z(objective, role, budget_left, comes_back[role], tuning),
        }
    })
}

fn left(part: f64, missed: f64) -> f64 {
    if part > 0.0 {
        (1.0 - missed / part).max(-OVERSPENT_MAX)
    } else if missed > 0.0 {
        -OVERSPENT_MAX
    } else {
        0.0
    }
}

/// Standard deviations of the share that sizing plans to miss.
fn z(
    objective: &Objective,
    role: Role,
    budget_left: Option<f64>,
    comes_back: f64,
    tuning: &Tuning,
) -> f64 {
    let missing = |percent: u8| (1.0 - f64::from(percent) / 100.0).clamp(5e-4, 0.5);
    let (percentile, attainment) = (
        missing(objective.of_role(role).percentile),
        missing(objective.attainment.percent),
    );
    let noise = 1.0 + (PLANNED_NOISE - 1.0) * comes_back;
    let full = percentile.max(attainment * noise) * PLANNED_FULL * tuning.planned_full;
    let spent = percentile.min(attainment) * PLANNED_SPENT * tuning.planned_spent;
    let left = budget_left.unwrap_or(LEFT_UNKNOWN);
    // Evenly in the logarithm: half of the misses is as far everywhere.
    let share = spent * (full / spent).powf(left);
    Normal::standard()
        .inverse_cdf(1.0 - share.clamp(5e-4, 0.38))
        .clamp(Z_MIN, Z_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn objective(percentile: u8, percent: u8) -> Objective {
        let mut objective = testing::policy().objective;
        objective.ttft.percentile = percentile;
        objective.tpot.percentile = percentile;
        objective.attainment.percent = percent;
        objective
    }

    fn targets(objective: &Objective, attained: PerRole<Option<Share>>) -> PerRole<RiskTarget> {
        risk_targets(objective, attained, PerRole::default(), &Tuning::NONE)
    }

    fn both(prefill: f64, decode: f64) -> PerRole<Option<Share>> {
        let exactly = |value| {
            Some(Share {
                value,
                low: value,
                high: value,
            })
        };
        PerRole {
            prefill: exactly(prefill),
            decode: exactly(decode),
        }
    }

    #[test]
    fn misses_that_are_not_certain_take_no_more_risk_away_than_unknown_ones() {
        let mut attained = both(1.0, 1.0);
        attained.decode = Some(Share {
            value: 0.6,
            low: 0.0,
            high: 1.0,
        });
        let unsure = targets(&objective(95, 99), attained).decode;
        let unknown = targets(&objective(95, 99), PerRole::default()).decode;
        assert_eq!(unsure.z.to_bits(), unknown.z.to_bits());
    }

    #[test]
    fn a_full_budget_plans_for_more_misses_than_either_share_allows() {
        let risk_target = targets(&objective(95, 99), both(1.0, 1.0));
        assert!(risk_target.prefill.miss_share() > 0.05, "{risk_target:?}");
        assert_eq!(risk_target.decode, risk_target.prefill);
    }

    #[test]
    fn a_full_budget_plans_for_more_misses_where_changes_come_back_by_themselves() {
        let planned = |comes_back: f64, share: f64| {
            let noise = PerRole {
                prefill: comes_back,
                decode: 0.0,
            };
            let attained = both(share, 1.0);
            risk_targets(&objective(99, 99), attained, noise, &Tuning::NONE).prefill
        };
        assert!((planned(0.0, 1.0).miss_share() - 0.02).abs() < 1e-6);
        assert!((planned(1.0, 1.0).miss_share() - 0.04).abs() < 1e-6);
        // A budget that is spent has nothing to give.
        let spent = (planned(0.0, 0.99).z - planned(1.0, 0.99).z).abs();
        assert!(spent < 1e-6, "{spent}");
    }

    #[test]
    fn a_spent_budget_plans_for_fewer_misses_than_the_attainment_allows() {
        let risk_target = targets(&objective(95, 99), both(0.99, 1.0));
        assert_eq!(
            risk_target
                .prefill
                .budget_left
                .map(|left| left.abs() < 1e-9),
            Some(true)
        );
        let full = targets(&objective(95, 99), both(1.0, 1.0)).prefill;
        assert!(risk_target.prefill.z > full.z + 0.5, "{risk_target:?}");
        let decode = targets(&objective(95, 99), both(1.0, 0.99)).decode;
        assert!(decode.quantile() > 0.995, "{decode:?}");
        let overspent = targets(&objective(95, 99), both(0.9, 1.0)).prefill;
        assert!(overspent.z > risk_target.prefill.z);
    }

    #[test]
    fn only_the_role_that_misses_pays() {
        let risk_target = targets(&objective(95, 99), both(0.98, 1.0));
        assert!(risk_target.prefill.budget_left < Some(0.0));
        let spotless = targets(&objective(95, 99), both(1.0, 1.0));
        assert_eq!(risk_target.decode, spotless.decode);
    }

    #[test]
    fn the_part_that_one_role_leaves_of_its_half_the_other_may_spend() {
        let left = |decode| {
            targets(&objective(95, 99), both(0.995, decode))
                .prefill
                .budget_left
        };
        let (alone, shared) = (left(1.0).unwrap(), left(0.995).unwrap());
        assert!(
            (alone - 0.5).abs() < 1e-9 && shared.abs() < 1e-9,
            "{alone} {shared}"
        );
    }

    #[test]
    fn an_attainment_of_all_requests_is_bounded_in_its_risk() {
        let spotless = targets(&objective(95, 100), both(1.0, 1.0));
        let broken = targets(&objective(95, 100), both(0.999, 1.0));
        assert!(spotless.prefill.z <= broken.prefill.z && broken.prefill.z <= Z_MAX);
    }

    proptest! {
        #[test]
        fn fewer_attained_never_means_more_risk(
            percentile in 50u8..=99, percent in 1u8..=100,
            share in 0.0f64..=1.0, less in 0.0f64..=1.0, other in 0.0f64..=1.0,
        ) {
            let objective = objective(percentile, percent);
            let z = |share| targets(&objective, both(share, other)).prefill.z;
            prop_assert!(z(share * less) >= z(share));
            prop_assert!(z(share).is_finite());
        }
    }
}
