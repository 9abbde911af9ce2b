//! The joint solve: examples to read, and every pair tried to compare with.

use proptest::prelude::*;

use super::*;
use crate::{
    ratio::{Ratio, RatioBand},
    testing,
};

fn problem(policy: &Policy, need: (u32, u32), gpus: (u32, u32)) -> Problem<'_> {
    Problem {
        policy,
        need: PerRole {
            prefill: need.0,
            decode: need.1,
        },
        current: PerRole {
            prefill: 1,
            decode: 1,
        },
        floor: PerRole::from_fn(|role| policy.bounds.get(role).min_replicas),
        gpus_per_replica: PerRole {
            prefill: gpus.0,
            decode: gpus.1,
        },
    }
}

fn band(text: &str, tolerance_percent: u8, enforcement: Enforcement) -> RatioPolicy {
    let target: Ratio = text.parse().unwrap();
    RatioPolicy {
        band: RatioBand::around(target, tolerance_percent),
        enforcement,
    }
}

fn solved(policy: &Policy, need: (u32, u32)) -> (u32, u32, Vec<Reason>) {
    let solution = problem(policy, need, (4, 4)).solve();
    let reasons = solution.steps.iter().map(|step| step.reason).collect();
    (solution.replicas.prefill, solution.replicas.decode, reasons)
}

#[test]
fn without_limits_each_role_gets_its_need() {
    assert_eq!(solved(&testing::policy(), (3, 7)), (3, 7, vec![]));
}

#[test]
fn a_band_pads_the_role_that_lags_behind() {
    let policy = Policy {
        ratio: Some(band("1:2", 20, Enforcement::Soft)),
        ..testing::policy()
    };
    assert_eq!(solved(&policy, (5, 2)), (5, 9, vec![Reason::RatioBand]));
}

#[test]
fn soft_lets_the_objective_win_and_reports_the_breach() {
    let mut policy = Policy {
        ratio: Some(band("1:2", 0, Enforcement::Soft)),
        ..testing::policy()
    };
    policy.bounds.decode.max_replicas = 6;
    assert_eq!(solved(&policy, (5, 2)), (5, 2, vec![Reason::RatioBreach]));
}

#[test]
fn hard_lets_the_band_win_and_reports_what_is_not_met() {
    let mut policy = Policy {
        ratio: Some(band("1:2", 0, Enforcement::Hard)),
        ..testing::policy()
    };
    policy.bounds.decode.max_replicas = 6;
    assert_eq!(solved(&policy, (5, 2)), (3, 6, vec![Reason::RatioBand]));
}

#[test]
fn a_short_budget_is_split_so_that_the_worse_served_role_gets_most() {
    let policy = Policy {
        budget_gpus: Some(24),
        ..testing::policy()
    };
    // 8:4 wants 48 GPUs; half of both fits exactly.
    assert_eq!(solved(&policy, (8, 4)), (4, 2, vec![Reason::BudgetLimited]));
}

#[test]
fn a_budget_below_the_least_replicas_holds_and_says_so() {
    let mut policy = Policy {
        budget_gpus: Some(4),
        ..testing::policy()
    };
    policy.bounds.prefill.min_replicas = 2;
    assert_eq!(
        solved(&policy, (3, 3)),
        (1, 1, vec![Reason::BudgetInfeasible])
    );
}

/// What [`Problem::pair`] must find, by trying every pair.
fn by_brute_force(problem: &Problem<'_>, need: PerRole<u32>) -> Option<(u64, u64)> {
    let policy = problem.policy;
    let mut best: Option<(u64, u64, u64)> = None;
    for prefill in problem.floor.prefill..=policy.bounds.prefill.max_replicas {
        for decode in problem.floor.decode..=policy.bounds.decode.max_replicas {
            let hard = policy
                .ratio
                .is_some_and(|r| r.enforcement == Enforcement::Hard);
            let in_band = policy
                .ratio
                .is_none_or(|r| r.band.contains(prefill, decode));
            if (hard && !in_band) || !problem.affordable(prefill, decode) {
                continue;
            }
            let p = u64::from(prefill.min(need.prefill)) * u64::from(need.decode);
            let d = u64::from(decode.min(need.decode)) * u64::from(need.prefill);
            let key = (p.min(d), p.max(d), u64::MAX - problem.gpus(prefill, decode));
            best = best.max(Some(key));
        }
    }
    best.map(|(worse, better, _)| (worse, better))
}

proptest! {
    #[test]
    fn needs_are_served_as_well_as_any_pair_could(
        need in (1u32..12, 1u32..12), gpus in (1u32..9, 1u32..9), budget in prop::option::of(2u32..120),
        ratio in prop::option::of((1u32..4, 1u32..4, 0u8..60, prop::bool::ANY)), max in (4u32..14, 4u32..14),
    ) {
        let mut policy = Policy { budget_gpus: budget, ..testing::policy() };
        policy.bounds.prefill.max_replicas = max.0;
        policy.bounds.decode.max_replicas = max.1;
        policy.ratio = ratio.map(|(p, d, tolerance_percent, hard)| RatioPolicy {
            band: RatioBand::around(Ratio::new(p, d).unwrap(), tolerance_percent),
            enforcement: if hard { Enforcement::Hard } else { Enforcement::Soft },
        });
        let problem = problem(&policy, need, gpus);
        let bounded = PerRole { prefill: need.0.min(max.0), decode: need.1.min(max.1) };
        let solution = problem.solve();
        let (p, d) = (solution.replicas.prefill, solution.replicas.decode);
        let reasons: Vec<_> = solution.steps.iter().map(|s| s.reason).collect();
        if reasons.contains(&Reason::BudgetInfeasible) {
            prop_assert!(!problem.affordable(1, 1));
            return Ok(());
        }
        prop_assert!(problem.affordable(p, d) && p <= max.0 && d <= max.1 && p >= 1 && d >= 1);
        if reasons.contains(&Reason::RatioUnreachable) {
            return Ok(());
        }
        let served_p = u64::from(p.min(bounded.prefill)) * u64::from(bounded.decode);
        let served_d = u64::from(d.min(bounded.decode)) * u64::from(bounded.prefill);
        let want = by_brute_force(&problem, bounded).unwrap();
        prop_assert_eq!((served_p.min(served_d), served_p.max(served_d)), want);
    }
}
