//! A shared budget: examples to read, the laws, and every split tried on small cases.
//!
//! The oracle does not know about turns: it looks for the split whose levels, GPUs by priority, are
//! as even as possible, which is what the water-filling idea means in whole GPUs.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn claim(name: &str, priority: u32, floor_gpus: u32, wanted_gpus: u32) -> Claim<'_> {
    Claim {
        name,
        priority,
        floor_gpus,
        wanted_gpus,
        unit_gpus: 1,
    }
}

#[rstest]
#[case::f18_shares_follow_the_priorities(16, &[(1, 2, 99), (3, 2, 99)], &[4, 12], true)]
#[case::what_is_wanted_is_not_passed(16, &[(1, 2, 99), (3, 2, 6)], &[10, 6], true)]
#[case::floors_come_first(16, &[(1, 10, 99), (3, 2, 99)], &[10, 6], true)]
#[case::enough_for_all(64, &[(1, 2, 20), (3, 2, 30)], &[20, 30], true)]
#[case::floors_do_not_fit(5, &[(1, 4, 9), (3, 4, 9)], &[1, 4], false)]
#[case::no_budget(0, &[(1, 4, 9), (3, 4, 9)], &[0, 0], false)]
#[case::nobody_claims(8, &[], &[], true)]
#[case::who_wants_nothing_needs_no_floor(3, &[(1, 4, 0), (3, 3, 9)], &[0, 3], true)]
#[case::equals_are_ranked_by_name(3, &[(1, 0, 9), (1, 0, 9)], &[2, 1], true)]
fn budgets_are_split(
    #[case] budget: u32,
    #[case] claims: &[(u32, u32, u32)],
    #[case] want: &[u32],
    #[case] feasible: bool,
) {
    let claims: Vec<_> = claims
        .iter()
        .zip(NAMES)
        .map(|(&(priority, floor, wanted), name)| claim(name, priority, floor, wanted))
        .collect();
    let got = split(budget, &claims);
    assert_eq!(
        (got.granted_gpus.as_slice(), got.feasible),
        (want, feasible)
    );
}

#[test]
fn units_are_granted_whole() {
    let eights = Claim {
        unit_gpus: 8,
        ..claim("a", 1, 8, 64)
    };
    let fours = Claim {
        unit_gpus: 4,
        ..claim("b", 1, 8, 64)
    };
    assert_eq!(split(45, &[eights, fours]).granted_gpus, [24, 20]);
}

#[test]
fn a_service_that_gets_less_learns_why() {
    let claims = [claim("a", 1, 4, 20), claim("b", 3, 4, 8)];
    let got = split(20, &claims);
    let step = got.step(0, 20, &claims).unwrap();
    assert_eq!(step.reason, Reason::BudgetShared);
    assert_eq!(
        step.message,
        "granted: 12 of 20 GPUs wanted; 2 services share a budget of 20, this one with priority 1"
    );
    assert_eq!(got.step(1, 20, &claims), None);
    assert_eq!(got.step(2, 20, &claims), None);
    let short = split(5, &claims).step(0, 5, &claims).unwrap();
    assert!(
        short.message.contains("less than its fewest"),
        "{}",
        short.message
    );
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let all = Claim {
        unit_gpus: 0,
        ..claim("a", u32::MAX, u32::MAX, u32::MAX)
    };
    let other = claim("b", 0, 0, u32::MAX);
    let got = split(u32::MAX, &[all, other]);
    assert_eq!((got.granted_gpus, got.feasible), (vec![u32::MAX, 0], true));
    let got = split(u32::MAX, &[claim("a", u32::MAX, 0, u32::MAX), other]);
    let sum: u64 = got.granted_gpus.iter().map(|&g| u64::from(g)).sum();
    assert_eq!(sum, u64::from(u32::MAX));
    assert!(!split(u32::MAX, &[all, all]).feasible);
}

prop_compose! {
    fn any_claims(unit_max: u32)(
        claims in prop::collection::vec((0u32..6, 0u32..12, 0u32..40, 1..=unit_max), 0..6),
    ) -> Vec<Claim<'static>> {
        let named = claims.into_iter().zip(NAMES);
        named.map(|((priority, floor, wanted, unit_gpus), name)| {
            Claim { unit_gpus, ..claim(name, priority, floor, wanted) }
        }).collect()
    }
}

/// The least unevenness that any split has: sum of gpus squared by priority, all fractions over 60.
fn least_unevenness(budget: u32, claims: &[Claim<'_>]) -> u64 {
    let Some((first, rest)) = claims.split_first() else {
        return 0;
    };
    let bounds = |claims: &[Claim<'_>]| {
        let low: u32 = claims.iter().map(floor).sum();
        let high: u32 = claims.iter().map(|c| c.wanted_gpus).sum();
        (low, high)
    };
    let (low, high) = bounds(rest);
    (floor(first)..=first.wanted_gpus.min(budget))
        .filter(|mine| (low..=high).contains(&(budget - mine)))
        .map(|mine| unevenness(first, mine) + least_unevenness(budget - mine, rest))
        .min()
        .unwrap()
}

fn unevenness(claim: &Claim<'_>, gpus: u32) -> u64 {
    u64::from(gpus) * u64::from(gpus) * 60 / u64::from(claim.priority.max(1))
}

proptest! {
    #[test]
    fn nobody_gets_more_than_he_wants_nor_all_more_than_there_is(
        budget in 0u32..200, claims in any_claims(9),
    ) {
        let got = split(budget, &claims);
        prop_assert!(got.granted_gpus.iter().sum::<u32>() <= budget);
        for (claim, &granted) in claims.iter().zip(&got.granted_gpus) {
            prop_assert!(granted <= claim.wanted_gpus);
            prop_assert!(!got.feasible || granted >= floor(claim));
        }
        let floors: u32 = claims.iter().map(floor).sum();
        prop_assert_eq!(got.feasible, floors <= budget);
    }

    #[test]
    fn less_than_a_unit_stays_free_while_somebody_wants_more(budget in 0u32..200, claims in any_claims(9)) {
        let got = split(budget, &claims);
        let free = budget - got.granted_gpus.iter().sum::<u32>();
        let short = claims.iter().zip(&got.granted_gpus).filter(|(c, g)| **g < c.wanted_gpus);
        prop_assert!(short.map(|(c, _)| c.unit_gpus).max().is_none_or(|unit| free < unit));
    }

    #[test]
    fn more_budget_takes_from_nobody(budget in 0u32..200, more in 0u32..20, claims in any_claims(9)) {
        let (less, more) = (split(budget, &claims), split(budget + more, &claims));
        for (before, after) in less.granted_gpus.iter().zip(&more.granted_gpus) {
            prop_assert!(before <= after, "{less:?} {more:?}");
        }
    }

    #[test]
    fn the_order_of_the_claims_does_not_matter(
        budget in 0u32..200, (claims, shuffled) in any_claims(9)
            .prop_flat_map(|claims| (Just(claims.clone()), Just(claims).prop_shuffle())),
    ) {
        let by_name = |claims: &[Claim<'static>]| {
            let got = split(budget, claims);
            let mut granted: Vec<_> = claims.iter().map(|c| c.name).zip(got.granted_gpus).collect();
            granted.sort_unstable();
            granted
        };
        prop_assert_eq!(by_name(&claims), by_name(&shuffled));
    }

    #[test]
    fn single_gpus_are_split_as_evenly_as_any_split_could(budget in 0u32..40, claims in any_claims(1)) {
        let claims = &claims[..claims.len().min(4)];
        let got = split(budget, claims);
        if !got.feasible {
            return Ok(());
        }
        let wanted: u32 = claims.iter().map(|c| c.wanted_gpus).sum();
        let uneven: u64 = claims.iter().zip(&got.granted_gpus).map(|(c, &g)| unevenness(c, g)).sum();
        prop_assert_eq!(uneven, least_unevenness(budget.min(wanted), claims), "{:?}", got);
    }

    #[test]
    fn no_claim_panics(
        budget in any::<u32>(),
        claims in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()), 0..6),
    ) {
        let claims: Vec<_> = claims.into_iter().zip(NAMES).map(|((priority, floor_gpus, wanted_gpus, unit_gpus), name)| {
            Claim { name, priority, floor_gpus, wanted_gpus, unit_gpus }
        }).collect();
        let got = split(budget, &claims);
        let sum: u64 = got.granted_gpus.iter().map(|&g| u64::from(g)).sum();
        prop_assert!(sum <= u64::from(budget));
    }
}
