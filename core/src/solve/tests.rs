//! The joint solve: examples to read, the laws, and every pair tried to compare with.

mod laws;

use rstest::rstest;

use super::*;
use crate::{
    ratio::{Ratio, RatioBand},
    testing,
};

fn pair(prefill: u32, decode: u32) -> PerRole<u32> {
    PerRole { prefill, decode }
}

fn problem(policy: &Policy, need: (u32, u32), gpus: (u32, u32)) -> Problem<'static> {
    Problem {
        bounds: policy.bounds,
        budget_gpus: policy.budget_gpus,
        ratio: policy.ratio,
        need: pair(need.0, need.1),
        current: pair(1, 1),
        floor: PerRole::from_fn(|role| policy.bounds[role].min_replicas),
        gpus_per_replica: pair(gpus.0, gpus.1),
        attained: PerRole::default(),
    }
}

fn band(text: &str, tolerance_percent: u8, enforcement: Enforcement) -> RatioPolicy {
    let target: Ratio = text.parse().unwrap();
    RatioPolicy {
        band: RatioBand::around(target, tolerance_percent),
        enforcement,
    }
}

fn reasons(solution: &Solution) -> Vec<Reason> {
    solution.steps.iter().map(|step| step.reason).collect()
}

fn solved(policy: &Policy, need: (u32, u32)) -> (u32, u32, Vec<Reason>) {
    let solution = problem(policy, need, (4, 4)).solve();
    let PerRole { prefill, decode } = solution.replicas;
    (prefill, decode, reasons(&solution))
}

fn with_budget(gpus: u32) -> Policy {
    Policy {
        budget_gpus: Some(gpus),
        ..testing::policy()
    }
}

fn with_band(text: &str, tolerance_percent: u8, enforcement: Enforcement) -> Policy {
    Policy {
        ratio: Some(band(text, tolerance_percent, enforcement)),
        ..testing::policy()
    }
}

#[test]
fn without_limits_each_role_gets_its_need() {
    assert_eq!(solved(&testing::policy(), (3, 7)), (3, 7, vec![]));
}

#[test]
fn a_band_pads_the_role_that_lags_behind() {
    let policy = with_band("1:2", 20, Enforcement::Soft);
    assert_eq!(solved(&policy, (5, 2)), (5, 9, vec![Reason::RatioBand]));
}

#[test]
fn padding_that_costs_nothing_stays_where_it_is() {
    let policy = with_band("1:1", 50, Enforcement::Soft);
    for decode in 4..=12 {
        let current = pair(6, decode);
        let problem = Problem {
            current,
            ..problem(&policy, (6, 2), (4, 0))
        };
        assert_eq!(problem.solve().replicas, current);
    }
}

#[rstest]
#[case::soft_lets_the_objective_win(Enforcement::Soft, (5, 2), Reason::RatioBreach)]
#[case::hard_lets_the_band_win(Enforcement::Hard, (3, 6), Reason::RatioBand)]
fn f16_at_max_replicas_the_declared_priority_decides(
    #[case] enforcement: Enforcement,
    #[case] want: (u32, u32),
    #[case] reason: Reason,
) {
    let mut policy = with_band("1:2", 0, enforcement);
    policy.bounds.decode.max_replicas = 6;
    assert_eq!(solved(&policy, (5, 2)), (want.0, want.1, vec![reason]));
}

#[test]
fn a_breach_names_what_keeps_the_pair_out_of_the_band() {
    let mut policy = with_band("1:2", 0, Enforcement::Soft);
    policy.bounds.decode.max_replicas = 6;
    let bounds = problem(&policy, (5, 2), (4, 4)).solve();
    assert_eq!(bounds.breach, Some(BreachCause::Bounds));

    let policy = Policy {
        budget_gpus: Some(40),
        ..with_band("1:2", 0, Enforcement::Soft)
    };
    let budget = problem(&policy, (5, 2), (4, 4)).solve();
    assert_eq!(budget.breach, Some(BreachCause::Budget));
    assert_eq!(
        budget.steps[0].message,
        "5:2 lies outside the band of 0.50 to 0.50 prefill per decode: 5:10 in the band would hold \
         60 GPUs and the budget is 40"
    );

    // 8:2 does not fit; 6:2 serves both needs better than 2:4 in the band would.
    let policy = Policy {
        budget_gpus: Some(32),
        ..with_band("1:2", 0, Enforcement::Soft)
    };
    let need = problem(&policy, (8, 2), (4, 4)).solve();
    assert_eq!(
        (need.replicas, need.breach),
        (pair(6, 2), Some(BreachCause::Need))
    );
    assert_eq!(reasons(&need), [Reason::BudgetLimited, Reason::RatioBreach]);
}

#[test]
fn under_a_short_budget_a_soft_band_is_kept_when_that_loses_nothing() {
    let policy = Policy {
        budget_gpus: Some(24),
        ..with_band("1:1", 0, Enforcement::Soft)
    };
    let solution = problem(&policy, (6, 6), (4, 4)).solve();
    assert_eq!((solution.replicas, solution.breach), (pair(3, 3), None));
}

#[test]
fn a_short_budget_is_split_so_that_the_worse_served_role_gets_most() {
    // 8:4 wants 48 GPUs; half of both fits exactly.
    assert_eq!(
        solved(&with_budget(24), (8, 4)),
        (4, 2, vec![Reason::BudgetLimited])
    );
}

/// Attainment that is nothing up to `from` replicas and rises evenly to 1 at `to`.
fn rising(from: u32, to: u32) -> Vec<f64> {
    let share = |c: u32| f64::from(c.saturating_sub(from)) / f64::from(to - from);
    (0..=to).map(share).collect()
}

#[test]
fn a_short_budget_goes_where_a_gpu_gains_the_most_requests() {
    // Prefill serves nobody in time below 5 of 8; decode degrades gently.
    let (prefill, decode) = (rising(4, 8), vec![0.0, 0.6, 0.8, 0.9, 1.0]);
    let policy = with_budget(40);
    let problem = Problem {
        attained: PerRole {
            prefill: Attained::table(&prefill),
            decode: Attained::table(&decode),
        },
        ..problem(&policy, (8, 4), (4, 4))
    };
    let solution = problem.solve();
    assert_eq!(solution.replicas, pair(8, 2));
    assert_eq!(
        solution.steps[0].message,
        "8:4 would hold 48 GPUs and the budget is 40; 8:2 loses least: about 80.0 % of requests meet \
         both limits"
    );
}

#[test]
fn f7_at_a_full_budget_the_idle_role_gives_to_the_one_under_pressure() {
    let policy = with_budget(48);
    let (prefill, decode) = (rising(2, 10), rising(0, 2));
    let problem = Problem {
        current: pair(4, 8),
        attained: PerRole {
            prefill: Attained::table(&prefill),
            decode: Attained::table(&decode),
        },
        ..problem(&policy, (12, 2), (4, 4))
    };
    assert_eq!(problem.solve().replicas, pair(10, 2));
}

#[test]
fn where_nobody_is_served_in_time_the_split_still_uses_the_budget() {
    let nothing = vec![0.0; 33];
    let policy = with_budget(40);
    for current in [pair(1, 1), pair(2, 2), pair(2, 8)] {
        let problem = Problem {
            current,
            attained: PerRole::from_fn(|_| Attained::table(&nothing)),
            ..problem(&policy, (30, 30), (4, 4))
        };
        assert_eq!(problem.solve().replicas, pair(5, 5), "{current:?}");
    }
}

#[test]
fn a_split_that_is_hardly_better_moves_nothing() {
    // 4:6 attains 0.36 and 5:5 attains 0.3625, a quarter of a point more.
    let prefill = [0.0, 0.1, 0.2, 0.3, 0.45, 0.5, 0.55, 1.0];
    let decode = [0.0, 0.1, 0.2, 0.3, 0.4, 0.725, 0.8, 1.0];
    let policy = with_budget(40);
    let from = |current| {
        let problem = Problem {
            current,
            attained: PerRole {
                prefill: Attained::table(&prefill),
                decode: Attained::table(&decode),
            },
            ..problem(&policy, (7, 7), (4, 4))
        };
        problem.solve()
    };
    let kept = from(pair(4, 6));
    assert_eq!(kept.replicas, pair(4, 6));
    assert!(
        kept.steps[0].message.ends_with(
            "36.0 % of requests meet both limits, kept because the best split is hardly better"
        ),
        "{}",
        kept.steps[0].message
    );
    assert_eq!(from(pair(5, 5)).replicas, pair(5, 5));
    // 3:7 attains 0.30: far enough to move, and then to the best.
    assert_eq!(from(pair(3, 7)).replicas, pair(5, 5));
}

#[test]
fn f8_a_budget_below_the_least_replicas_holds_and_says_so() {
    let mut policy = with_budget(4);
    policy.bounds.prefill.min_replicas = 2;
    for current in [pair(1, 1), pair(6, 9)] {
        let problem = Problem {
            current,
            ..problem(&policy, (3, 3), (4, 4))
        };
        let solution = problem.solve();
        assert_eq!(solution.replicas, current);
        assert_eq!(reasons(&solution), [Reason::BudgetInfeasible]);
    }
}

#[rstest]
#[case::half_of_what_is_held(24, (3, 3))]
#[case::the_floor_and_no_less(16, (2, 2))]
fn f8_a_budget_below_what_is_held_lowers_to_it(#[case] budget: u32, #[case] want: (u32, u32)) {
    let policy = with_budget(budget);
    let problem = Problem {
        current: pair(6, 6),
        floor: pair(2, 2),
        ..problem(&policy, (6, 6), (4, 4))
    };
    let solution = problem.solve();
    assert_eq!(solution.replicas, pair(want.0, want.1));
    assert_eq!(reasons(&solution), [Reason::BudgetLimited]);
}

#[test]
fn f19_without_a_band_a_fall_of_prefill_leaves_decode_alone() {
    let policy = testing::policy();
    let problem = Problem {
        current: pair(10, 4),
        ..problem(&policy, (2, 4), (4, 4))
    };
    let solution = problem.solve();
    assert_eq!((solution.replicas, solution.breach), (pair(2, 4), None));
}

#[rstest]
#[case::falls_and_rises(&[0.0, 0.9, 0.2, 1.0], &[0, 900_000, 900_000, 1_000_000])]
#[case::no_numbers(&[f64::NAN, 0.5, f64::NAN], &[0, 500_000, 500_000])]
#[case::no_shares(&[-3.0, f64::INFINITY], &[0, 1_000_000])]
fn curves_are_made_to_rise(#[case] table: &[f64], #[case] want: &[u32]) {
    let problem_of = testing::policy();
    let problem = Problem {
        attained: PerRole::from_fn(|_| Attained::table(table)),
        ..problem(&problem_of, (9, 9), (4, 4))
    };
    assert_eq!(
        Split::new(&problem, pair(9, 9)).curve(Role::Prefill),
        Some(want)
    );
}

#[test]
fn a_thousand_replicas_each_are_split_exactly() {
    let table = rising(0, 1_000);
    let mut policy = with_budget(6_000);
    for role in Role::ALL {
        policy.bounds[role].max_replicas = 1_000;
    }
    let problem = Problem {
        attained: PerRole::from_fn(|_| Attained::table(&table)),
        ..problem(&policy, (1_000, 1_000), (4, 4))
    };
    assert_eq!(problem.solve().replicas, pair(750, 750));
}
