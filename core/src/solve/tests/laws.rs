//! Laws of the joint solve on any problem, and an oracle that tries every pair.
//!
//! The oracle scores a pair from its definition, in floating point and without the order in which
//! the search goes, so that it shares nothing with it but the inputs.

use proptest::prelude::*;

use super::*;

/// A problem with the values that it borrows.
#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    need: (u32, u32),
    current: (u32, u32),
    floor: (u32, u32),
    gpus: (u32, u32),
    curves: Option<(Vec<f64>, Vec<f64>)>,
}

impl Case {
    fn problem(&self) -> Problem<'_> {
        let attained = self
            .curves
            .as_ref()
            .map_or(PerRole::default(), |curves| PerRole {
                prefill: Attained::table(&curves.0),
                decode: Attained::table(&curves.1),
            });
        Problem {
            current: pair(self.current.0, self.current.1),
            floor: pair(self.floor.0, self.floor.1),
            attained,
            ..problem(&self.policy, self.need, self.gpus)
        }
    }

    fn hard(&self) -> bool {
        self.policy
            .ratio
            .is_some_and(|r| r.enforcement == Enforcement::Hard)
    }

    fn in_band(&self, p: u32, d: u32) -> bool {
        self.policy.ratio.is_none_or(|r| r.band.contains(p, d))
    }

    /// Every pair inside bounds, floor and budget.
    fn pairs(&self) -> Vec<(u32, u32)> {
        let bounds = self.policy.bounds;
        let prefills = self.floor.0..=bounds.prefill.max_replicas;
        let pairs =
            prefills.flat_map(|p| (self.floor.1..=bounds.decode.max_replicas).map(move |d| (p, d)));
        let budget = self.policy.budget_gpus.unwrap_or(u32::MAX);
        pairs
            .filter(|(p, d)| p * self.gpus.0 + d * self.gpus.1 <= budget)
            .collect()
    }

    /// Needs inside bounds and floor.
    fn bounded(&self) -> (u32, u32) {
        let bounds = self.policy.bounds;
        let inside = |need: u32, floor: u32, max: u32| need.clamp(floor, max);
        (
            inside(self.need.0, self.floor.0, bounds.prefill.max_replicas),
            inside(self.need.1, self.floor.1, bounds.decode.max_replicas),
        )
    }

    /// Requests served in time, 0 to 1, or the share of the worse-served need, as the essay says.
    fn served(&self, (p, d): (u32, u32)) -> (f64, f64) {
        let need = self.bounded();
        let (p, d) = (p.min(need.0), d.min(need.1));
        let share = (f64::from(p) / f64::from(need.0)).min(f64::from(d) / f64::from(need.1));
        let Some((prefill, decode)) = &self.curves else {
            return (0.0, share);
        };
        let at = |curve: &[f64], c: u32| {
            curve
                .iter()
                .take(c as usize + 1)
                .copied()
                .fold(0.0, f64::max)
        };
        (at(prefill, p) * at(decode, d), share)
    }
}

prop_compose! {
    fn any_case()(
        need in (1u32..12, 1u32..12), gpus in (1u32..9, 1u32..9), budget in prop::option::of(2u32..120),
        ratio in prop::option::of((1u32..4, 1u32..4, 0u8..60, prop::bool::ANY)), max in (4u32..14, 4u32..14),
        current in (1u32..14, 1u32..14), floor in (1u32..4, 1u32..4),
        curves in prop::option::of((prop::collection::vec(0.0f64..1.0, 1..14), prop::collection::vec(0.0f64..1.0, 1..14))),
    ) -> Case {
        let mut policy = Policy { budget_gpus: budget, ..testing::policy() };
        policy.bounds.prefill.max_replicas = max.0;
        policy.bounds.decode.max_replicas = max.1;
        policy.ratio = ratio.map(|(p, d, tolerance_percent, hard)| RatioPolicy {
            band: RatioBand::around(Ratio::new(p, d).unwrap(), tolerance_percent),
            enforcement: if hard { Enforcement::Hard } else { Enforcement::Soft },
        });
        Case { policy, need, current, floor, gpus, curves }
    }
}

/// The cost of the band must not depend on which of its pairs happens to be near: here the pair of
/// the band near 7:1 is worse than the best one outside, and the one near that is as good as it.
#[test]
fn a_band_is_kept_or_left_by_its_best_pair() {
    let mut policy = with_band("1:1", 43, Enforcement::Soft);
    policy.budget_gpus = Some(62);
    policy.bounds.prefill.max_replicas = 7;
    policy.bounds.decode.max_replicas = 11;
    let solve = |current: PerRole<u32>| {
        let problem = problem(&policy, (7, 9), (7, 3));
        Problem { current, ..problem }.solve().replicas
    };
    let first = solve(pair(7, 1));
    assert_eq!(solve(first), first);
}

/// As a part per million is where the search stops telling pairs apart.
const SLIVER: f64 = 3e-6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_pair_lies_in_every_limit_and_serves_as_well_as_any_could(case in any_case()) {
        let solution = case.problem().solve();
        let (p, d) = (solution.replicas.prefill, solution.replicas.decode);
        let reasons = reasons(&solution);
        let allowed = case.pairs();
        if reasons.contains(&Reason::BudgetInfeasible) {
            prop_assert!(allowed.is_empty());
            prop_assert_eq!((p, d), case.current);
            return Ok(());
        }
        prop_assert!(allowed.contains(&(p, d)));
        let banded: Vec<_> = allowed.iter().copied().filter(|&(p, d)| case.in_band(p, d)).collect();
        prop_assert!(!case.hard() || banded.is_empty() || case.in_band(p, d));
        prop_assert_eq!(reasons.contains(&Reason::RatioUnreachable), case.hard() && banded.is_empty());
        prop_assert_eq!(reasons.contains(&Reason::RatioBreach), !case.in_band(p, d));
        prop_assert_eq!(solution.breach.is_some(), !case.in_band(p, d));
        let open = if case.hard() && !banded.is_empty() { &banded } else { &allowed };
        let need = case.bounded();
        let met: Vec<_> = open.iter().filter(|(p, d)| *p >= need.0 && *d >= need.1).collect();
        if !met.is_empty() {
            prop_assert!(p >= need.0 && d >= need.1);
            // In the band if that is possible, and as cheap as it gets.
            let banded = met.iter().any(|(p, d)| case.in_band(*p, *d));
            prop_assert_eq!(case.in_band(p, d), banded);
            let cost = |(p, d): (u32, u32)| p * case.gpus.0 + d * case.gpus.1;
            let cheapest = met.iter().filter(|(p, d)| !banded || case.in_band(*p, *d)).map(|&&x| cost(x)).min();
            prop_assert_eq!(Some(cost((p, d))), cheapest);
            return Ok(());
        }
        let best = open.iter().map(|&x| case.served(x).0).fold(0.0, f64::max);
        let best_share = open.iter().map(|&x| case.served(x).1).fold(0.0, f64::max);
        let (got, share) = case.served((p, d));
        if best > 0.005 + SLIVER {
            prop_assert!(got >= best - 0.005 - SLIVER, "{got} of {best}");
        } else if best < 0.005 - SLIVER {
            prop_assert!(share >= best_share - 0.05 - SLIVER || got > 0.0, "{share} of {best_share}");
        }
    }

    #[test]
    fn solving_from_the_solution_changes_nothing(case in any_case()) {
        let first = case.problem().solve().replicas;
        let again = Case { current: (first.prefill, first.decode), ..case };
        prop_assert_eq!(again.problem().solve().replicas, first);
    }

    #[test]
    fn more_need_never_gives_fewer_where_nothing_limits(case in any_case(), more in 0u32..5) {
        let mut case = case;
        case.policy.budget_gpus = None;
        case.policy.ratio = None;
        let less = case.problem().solve().replicas;
        case.need.0 += more;
        let greater = case.problem().solve().replicas;
        prop_assert!(greater.prefill >= less.prefill && greater.decode == less.decode);
    }

    #[test]
    fn a_split_moves_only_for_a_margin(case in any_case(), noise in 0.0f64..0.002) {
        // Curves that move by less than the margin move nothing.
        let mut case = case;
        case.policy.ratio = None;
        let Some((prefill, decode)) = case.curves.clone() else { return Ok(()) };
        let first = case.problem().solve().replicas;
        case.current = (first.prefill, first.decode);
        let open = case.pairs();
        let best = open.iter().map(|&x| case.served(x).0).fold(0.0, f64::max);
        prop_assume!(best > 0.02);
        let first_served = case.served(case.current).0;
        prop_assume!(best - first_served < 1e-6);
        let lower = |curve: &[f64]| curve.iter().map(|share| (share - noise).max(0.0)).collect();
        case.curves = Some((lower(&prefill), lower(&decode)));
        prop_assert_eq!(case.problem().solve().replicas, first);
    }
}

fn any_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 0u32..1_100, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_problem_panics_or_gives_two_zeros(
        need in (any_u32(), any_u32()), current in (any_u32(), any_u32()), floor in (any_u32(), any_u32()),
        gpus in (any_u32(), any_u32()), bounds in (any_u32(), any_u32(), any_u32(), any_u32()),
        budget in prop::option::of(any_u32()), ratio in prop::option::of((1u32..=1_000, 1u32..=1_000, any::<u8>(), prop::bool::ANY)),
        curves in prop::option::of((prop::collection::vec(any::<f64>(), 0..40), prop::collection::vec(any::<f64>(), 0..40))),
    ) {
        let mut policy = Policy { budget_gpus: budget, ..testing::policy() };
        policy.bounds.prefill = Bounds { min_replicas: bounds.0, max_replicas: bounds.1 };
        policy.bounds.decode = Bounds { min_replicas: bounds.2, max_replicas: bounds.3 };
        policy.ratio = ratio.map(|(p, d, tolerance_percent, hard)| RatioPolicy {
            band: RatioBand::around(Ratio::new(p, d).unwrap(), tolerance_percent),
            enforcement: if hard { Enforcement::Hard } else { Enforcement::Soft },
        });
        let case = Case { policy, need, current, floor, gpus, curves };
        let solution = case.problem().solve();
        let PerRole { prefill, decode } = solution.replicas;
        if reasons(&solution).contains(&Reason::BudgetInfeasible) {
            prop_assert_eq!((prefill, decode), case.current);
        } else {
            prop_assert!(prefill > 0 && decode > 0);
            prop_assert!(Policy::gpus(solution.replicas, pair(gpus.0, gpus.1)) <= budget.map_or(u64::MAX, u64::from));
        }
        prop_assert_eq!(&case.problem().solve(), &solution);
    }
}
