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
};

/// How much looser than the attainment sizing is while the budget is full, standard deviations. The
/// effect of one replica is coarser than a percentage point, and forecasts bring headroom of
/// their own: sizing for the attainment at every moment ends far above it, at a cost. Decode may be
/// looser still: its requests live through many batches, and TPOT is the mean of them. Chosen on
/// simulated days of three production traces (docs/results).
const LOOSER_FULL: PerRole<f64> = PerRole {
    prefill: 0.8,
    decode: 2.0,
};

/// How far sizing goes beyond the stricter of percentile and attainment once the budget is spent,
/// standard deviations. Of prefill not even so far: it is sized for all work that may come, and
/// most of that is less than the work that does harm.
const BEYOND_SPENT: PerRole<f64> = PerRole {
    prefill: -0.15,
    decode: 0.5,
};

/// How many times faster the risk falls with requests missed beyond the budget than within it. An
/// objective that is missed is worth more than its cost; one that may be missed yet is not.
const OVERSPENT_FASTER: f64 = 2.0;

/// Budgets are not overspent by more than this as far as sizing cares: 1 is the whole budget again.
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

    /// The same with `z` less standard deviations.
    #[must_use]
    pub fn less(self, z: f64) -> Self {
        Self {
            z: self.z - z,
            ..self
        }
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
            z: z(objective, budget_left, role),
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

/// From looser than the attainment with a full budget to beyond the stricter of percentile and
/// attainment with none.
fn z(objective: &Objective, budget_left: Option<f64>, role: Role) -> f64 {
    let of_percent = |percent: u8| {
        // 100 % would be no risk at all; one in two thousand is as far as samples show.
        let share = (f64::from(percent) / 100.0).clamp(0.5, 0.999_5);
        Normal::standard().inverse_cdf(share)
    };
    let (percentile, attainment) = (
        of_percent(objective.of_role(role).percentile),
        of_percent(objective.attainment.percent),
    );
    let loose = percentile.min(attainment - LOOSER_FULL[role]);
    let strict = percentile.max(attainment) + BEYOND_SPENT[role];
    let left = budget_left.unwrap_or(LEFT_UNKNOWN);
    let (spent, overspent) = (1.0 - left.clamp(0.0, 1.0), (-left).max(0.0));
    (loose + (strict - loose) * (spent + OVERSPENT_FASTER * overspent)).clamp(Z_MIN, Z_MAX)
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
        let unsure = risk_targets(&objective(95, 99), attained).decode;
        let unknown = risk_targets(&objective(95, 99), PerRole::default()).decode;
        assert_eq!(unsure.z.to_bits(), unknown.z.to_bits());
    }

    #[test]
    fn a_full_budget_takes_more_risk_than_percentile_and_attainment_state() {
        let risk_target = risk_targets(&objective(95, 99), both(1.0, 1.0));
        assert!(
            (0.90..0.95).contains(&risk_target.prefill.quantile()),
            "{risk_target:?}"
        );
        assert!(risk_target.decode.z < risk_target.prefill.z);
    }

    #[test]
    fn a_spent_budget_takes_risk_away_and_from_decode_more_than_the_attainment_states() {
        let risk_target = risk_targets(&objective(95, 99), both(0.99, 1.0));
        assert_eq!(
            risk_target
                .prefill
                .budget_left
                .map(|left| left.abs() < 1e-9),
            Some(true)
        );
        let full = risk_targets(&objective(95, 99), both(1.0, 1.0)).prefill;
        assert!(risk_target.prefill.z > full.z + 0.5, "{risk_target:?}");
        let decode = risk_targets(&objective(95, 99), both(1.0, 0.99)).decode;
        assert!(decode.quantile() > 0.995, "{decode:?}");
        let overspent = risk_targets(&objective(95, 99), both(0.9, 1.0)).prefill;
        assert!(overspent.z > risk_target.prefill.z);
    }

    #[test]
    fn only_the_role_that_misses_pays() {
        let risk_target = risk_targets(&objective(95, 99), both(0.98, 1.0));
        assert!(risk_target.prefill.budget_left < Some(0.0));
        let spotless = risk_targets(&objective(95, 99), both(1.0, 1.0));
        assert_eq!(risk_target.decode, spotless.decode);
    }

    #[test]
    fn the_part_that_one_role_leaves_of_its_half_the_other_may_spend() {
        let left = |decode| {
            risk_targets(&objective(95, 99), both(0.995, decode))
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
        let spotless = risk_targets(&objective(95, 100), both(1.0, 1.0));
        let broken = risk_targets(&objective(95, 100), both(0.999, 1.0));
        assert!(spotless.prefill.z <= broken.prefill.z && broken.prefill.z <= Z_MAX);
    }

    proptest! {
        #[test]
        fn fewer_attained_never_means_more_risk(
            percentile in 50u8..=99, percent in 1u8..=100,
            share in 0.0f64..=1.0, less in 0.0f64..=1.0, other in 0.0f64..=1.0,
        ) {
            let objective = objective(percentile, percent);
            let z = |share| risk_targets(&objective, both(share, other)).prefill.z;
            prop_assert!(z(share * less) >= z(share));
            prop_assert!(z(share).is_finite());
        }
    }
}
