//! The cheapest plan that holds the objective over the run and not in every window.
//!
//! Requests may miss where it saves most. A price per missed request turns that into one dynamic
//! programme per role over replicas by window, with a start paying its lead time (Lagrangian
//! relaxation); the price is bisected until the misses of both roles together are those that the
//! objective allows. What is between this plan and the true optimum is less than one step of one
//! window's replicas matters in a day.

use pd_core::{PerRole, Role};

use super::misses::Misses;
use crate::time::Nanos;

/// Halvings of the price, which ranges over [`PRICES`].
const BISECTIONS: u32 = 48;

/// Least and most GPU-nanoseconds that a missed request may be worth.
const PRICES: (f64, f64) = (1.0, 1e18);

/// The cost of replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Costs {
    /// Length of a window.
    pub(super) window: Nanos,
    /// Time a replica is paid for before it serves.
    pub(super) lead: PerRole<Nanos>,
    /// GPUs of a replica.
    pub(super) gpus: PerRole<u32>,
}

/// Replicas by window at the least cost with at most `may_miss` requests missing in all. When that
/// cannot be had, those with which the fewest miss.
pub(super) fn cheapest(
    tables: &PerRole<Vec<Misses>>,
    costs: Costs,
    may_miss: f64,
) -> PerRole<Vec<u32>> {
    let at_price = |price: f64| {
        let plan = PerRole::from_fn(|role| {
            let gpus = f64::from(costs.gpus[role]).max(1.0);
            programme(&tables[role], costs.window, costs.lead[role], price / gpus)
        });
        let missed: f64 = Role::ALL
            .into_iter()
            .flat_map(|role| tables[role].iter().zip(&plan[role]))
            .map(|(window, replicas)| window.with(*replicas).unwrap_or(window.requests))
            .sum();
        (plan, missed)
    };
    let (mut low, mut high) = (PRICES.0.ln(), PRICES.1.ln());
    let (mut best, _) = at_price(PRICES.1);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        let (plan, missed) = at_price(middle.exp());
        if missed <= may_miss {
            best = plan;
            high = middle;
        } else {
            low = middle;
        }
    }
    best
}

/// Least cost so far by the replicas of a window, and from how many of the window before.
struct Column {
    cost: Vec<f64>,
    from: Vec<u32>,
}

/// Replicas by window that minimise replica time, starts and priced misses together.
pub(super) fn programme(tables: &[Misses], window: Nanos, lead: Nanos, price: f64) -> Vec<u32> {
    let most = tables.iter().map(Misses::most).max().unwrap_or(0);
    let states = most as usize + 1;
    let mut columns: Vec<Column> = Vec::with_capacity(tables.len());
    for table in tables {
        let mut column = match columns.last() {
            // The first replicas are there already.
            None => Column {
                cost: vec![0.0; states],
                from: (0..=most).collect(),
            },
            Some(before) => arrivals(&before.cost, lead as f64),
        };
        for (replicas, cost) in (0..=most).zip(&mut column.cost) {
            *cost += match table.with(replicas) {
                Some(missed) => f64::from(replicas) * window as f64 + price * missed,
                None => f64::INFINITY,
            };
        }
        columns.push(column);
    }
    walk_back(&columns)
}

/// The cheapest way to have each number of replicas, given the costs of the window before.
fn arrivals(before: &[f64], start: f64) -> Column {
    let states = before.len();
    let mut column = Column {
        cost: before.to_vec(),
        from: (0..u32::try_from(states).unwrap_or(u32::MAX)).collect(),
    };
    // Fewer than before: leaving is free.
    for place in (0..states.saturating_sub(1)).rev() {
        if column.cost[place + 1] < column.cost[place] {
            column.cost[place] = column.cost[place + 1];
            column.from[place] = column.from[place + 1];
        }
    }
    // More than before: each one is paid for its start. Whoever came by leaving would not start.
    for place in 1..states {
        let started = column.cost[place - 1] + start;
        if started < column.cost[place] {
            column.cost[place] = started;
            column.from[place] = column.from[place - 1];
        }
    }
    column
}

fn walk_back(columns: &[Column]) -> Vec<u32> {
    let mut plan = Vec::with_capacity(columns.len());
    let mut replicas = columns.last().and_then(|last| {
        let cheapest = last
            .cost
            .iter()
            .enumerate()
            .min_by(|a, b| a.1.total_cmp(b.1));
        cheapest.map(|(place, _)| place)
    });
    for column in columns.iter().rev() {
        let Some(place) = replicas else { break };
        plan.push(u32::try_from(place).unwrap_or(u32::MAX));
        replicas = column.from.get(place).map(|from| *from as usize);
    }
    plan.reverse();
    plan
}
