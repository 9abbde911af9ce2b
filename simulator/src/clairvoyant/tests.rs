//! The bound against brute force, by hand, and its direction.

use proptest::prelude::*;

use super::*;
use crate::engine::Arrival;

/// Least cost of any plan, in windows, trying every number of replicas in every window.
fn brute_force(needed: &[u32], lead_windows: u32) -> u32 {
    let most = needed.iter().max().copied().unwrap_or(0);
    let mut cost: Vec<Option<u32>> = (0..=most)
        .map(|n| (n >= *needed.first().unwrap_or(&0)).then_some(n))
        .collect();
    for need in needed.iter().skip(1) {
        cost = (0..=most)
            .map(|n| {
                let from = |(before, cost): (usize, &Option<u32>)| {
                    let before = u32::try_from(before).unwrap();
                    cost.map(|cost| cost + n + lead_windows * n.saturating_sub(before))
                };
                let least = cost.iter().enumerate().filter_map(from).min();
                least.filter(|_| n >= *need)
            })
            .collect();
    }
    cost.into_iter().flatten().min().unwrap_or(0)
}

proptest! {
    #[test]
    fn the_plan_is_the_cheapest_of_all(
        needed in prop::collection::vec(0u32..6, 1..14), lead_windows in 0u32..5,
    ) {
        let lead = Nanos::from(lead_windows) * WINDOW;
        let plan = startup::cheapest(&needed, WINDOW, lead);
        prop_assert!(plan.iter().zip(&needed).all(|(have, need)| have >= need));
        let cost = paid(&plan, needed.len() as Nanos * WINDOW, lead) / WINDOW as f64;
        let least = f64::from(brute_force(&needed, lead_windows));
        prop_assert!((cost - least).abs() < 1e-9, "{cost} {least}");
    }
}

/// Least cost of any plan when misses have a price, trying every number in every window.
fn brute_force_priced(misses: &[Misses], lead: f64, price: f64) -> f64 {
    let most = misses.iter().map(Misses::most).max().unwrap_or(0);
    let mut cost: Option<Vec<f64>> = None;
    for table in misses {
        let of_window = |replicas: u32| {
            table.with(replicas).map_or(f64::INFINITY, |missed| {
                f64::from(replicas) * WINDOW as f64 + price * missed
            })
        };
        let reached = |replicas: u32| match &cost {
            None => 0.0,
            Some(before) => (0..=most)
                .zip(before)
                .map(|(from, cost)| cost + lead * f64::from(replicas.saturating_sub(from)))
                .fold(f64::INFINITY, f64::min),
        };
        cost = Some((0..=most).map(|n| reached(n) + of_window(n)).collect());
    }
    cost.unwrap_or_default()
        .into_iter()
        .fold(f64::INFINITY, f64::min)
}

fn tables() -> impl Strategy<Value = Vec<Misses>> {
    let table =
        (0u32..4, prop::collection::vec(0.0f64..50.0, 1..4)).prop_map(|(least, mut missed)| {
            missed.sort_by(|a, b| b.total_cmp(a));
            Misses {
                least,
                missed,
                requests: 50.0,
            }
        });
    prop::collection::vec(table, 1..9)
}

proptest! {
    #[test]
    fn the_priced_programme_is_the_cheapest_of_all(
        misses in tables(), lead_windows in 0u32..4, price_windows in 0.0f64..1.0,
    ) {
        let (lead, price) = (Nanos::from(lead_windows) * WINDOW, price_windows * WINDOW as f64);
        let plan = spend::programme(&misses, WINDOW, lead, price);
        let missed: f64 = misses.iter().zip(&plan).filter_map(|(table, n)| table.with(*n)).sum();
        let got = paid(&plan, misses.len() as Nanos * WINDOW, lead) + price * missed;
        let want = brute_force_priced(&misses, lead as f64, price);
        prop_assert!((got - want).abs() <= want * 1e-9 + 1.0, "{got} {want} {plan:?}");
    }

    #[test]
    fn misses_over_the_run_stay_within_what_is_allowed(
        prefill in tables(), decode in tables(), may_miss in 0.0f64..200.0,
    ) {
        let misses = PerRole { prefill, decode };
        let costs = Costs {
            window: WINDOW,
            lead: PerRole::from_fn(|_| 2 * WINDOW),
            gpus: PerRole { prefill: 4, decode: 2 },
        };
        let plan = spend::cheapest(&misses, costs, may_miss);
        let of = |role| {
            let (tables, plan): (&Vec<Misses>, &Vec<u32>) = (&misses[role], &plan[role]);
            tables.iter().zip(plan).map(|(table, n)| table.with(*n).unwrap()).sum::<f64>()
        };
        let fewest: f64 = Role::ALL
            .into_iter()
            .flat_map(|role| &misses[role])
            .filter_map(|table| table.with(table.most()))
            .sum();
        let missed = of(Role::Prefill) + of(Role::Decode);
        prop_assert!(missed <= may_miss.max(fewest) + 1e-6, "{missed}");
    }
}

#[test]
fn a_short_gap_is_waited_through_and_a_long_one_is_not() {
    let needed = [2, 1, 1, 2, 1, 1, 1, 2];
    let plan = startup::cheapest(&needed, WINDOW, 2 * WINDOW);
    assert_eq!(plan, [2, 2, 2, 2, 1, 1, 1, 2]);
}

/// A load of equal requests, `rate` per second for ten minutes.
fn steady(scenario: &Scenario, rate: u64, input_tokens: u32, output_tokens: u32) -> Load {
    let mut load = Load::new(scenario);
    for number in 0..rate * 600 {
        load.add(&Arrival {
            at: number * SECOND / rate,
            input_tokens,
            output_tokens,
            prompt: None,
        });
    }
    load.end(600 * SECOND);
    load
}

#[test]
fn a_steady_load_needs_what_a_pencil_says() {
    let scenario = Scenario::default();
    // A prompt of 1,000 tokens computes for 50.4 ms: 40 of them a second keep two workers busy, and
    // evenly spaced ones of one length never queue. 40 x 100 tokens at 25 ms are 100 requests in
    // flight with a context of 1,050 tokens, and (25 - 8.64) / (0.047 + 13.4 x 0.00105) = 267 fit
    // the latency, 256 the batch.
    let bound = bound(&scenario, &steady(&scenario, 40, 1_000, 100));
    assert_eq!(bound.needed.prefill[5], 3);
    assert_eq!(bound.needed.decode[5], 1);
    let four_fold = super::bound(&scenario, &steady(&scenario, 40, 1_000, 400));
    assert_eq!(four_fold.needed.decode[5], 2);
    assert!(
        (bound.everywhere.gpu_hours.prefill - 3.0 * 4.0 / 6.0).abs() < 1e-9,
        "{bound:?}"
    );
    assert!(
        (bound.static_peak_gpu_hours - 4.0 * 4.0 / 6.0).abs() < 1e-9,
        "{bound:?}"
    );
}

#[test]
fn a_longer_lead_never_costs_less() {
    let mut scenario = Scenario::default();
    let load = {
        let mut load = Load::new(&scenario);
        for number in 0..20_000_u64 {
            let at = number * number * SECOND / 200_000;
            load.add(&Arrival {
                at,
                input_tokens: 2_000,
                output_tokens: 200,
                prompt: None,
            });
        }
        load.end(2_000 * SECOND);
        load
    };
    let mut before = 0.0;
    for lead_seconds in [0, 60, 120, 300, 600] {
        scenario.set_lead(std::time::Duration::from_secs(lead_seconds));
        let all = bound(&scenario, &load).everywhere.all_gpu_hours();
        assert!(all >= before, "{all} < {before}");
        before = all;
    }
}
