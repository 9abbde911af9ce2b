//! Kubernetes itself as the oracle: generated taints and tolerations put to two real control planes
//! side by side.
//!
//! One has the gate `TaintTolerationComparisonOperators` on and nothing of ours; the other has it
//! off, and our webhook extender and controllers. What they answer must be the same, but for the
//! differences that [`difference`] lists and the documentation explains. A case is one generated
//! input put to both whose outcome is compared once.
//!
//! `PD_ORACLE_SEED` takes another seed than the fixed one, `PD_ORACLE_CASES` another number of
//! cases, `PD_ORACLE_UPDATES` another number of updates among them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

mod admission;
mod difference;
mod eviction;
mod generate;
mod moments;
mod placement;
mod planes;
mod preference;
mod update;

use std::{env, time::Instant};

use difference::{Difference, Tally};
use planes::Planes;

const SEED: u64 = 5471;
const CASES: usize = 2400;

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    match env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} `{text}` is no number")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_with_us_and_with_the_gate_agree() {
    let (seed, cases) = (
        number("PD_ORACLE_SEED", SEED),
        number("PD_ORACLE_CASES", CASES),
    );
    eprintln!("seed {seed} (PD_ORACLE_SEED), {cases} cases (PD_ORACLE_CASES)");
    let started = Instant::now();
    let mut planes = Box::pin(Planes::start()).await;
    let mut tally = Tally::default();
    let lap = |what: &str| eprintln!("{what} after {} s", started.elapsed().as_secs());
    lap("planes started");
    admission::compare(&planes, seed, cases / 2, &mut tally).await;
    lap("admission compared");
    let updates = number("PD_ORACLE_UPDATES", cases / 4);
    update::compare(&planes, seed, updates, &mut tally).await;
    lap("updates compared");
    let placement = placement::compare(&planes, seed, cases / 4, &mut tally).await;
    lap("feasibility compared");
    preference::compare(&planes, seed, cases / 10, &mut tally).await;
    lap("score order compared");
    eviction::compare(&planes, seed, cases / 6, &mut tally).await;
    lap("evictions compared");
    placement.compare_affinity(&mut planes, &mut tally).await;
    lap("affinity compared");
    tally.end(seed);
}

#[test]
fn every_difference_is_documented() {
    let page = include_str!("../../../docs/numeric-tolerations.md");
    for difference in Difference::ALL {
        let row = format!("| {} |", difference.row());
        assert!(
            page.contains(&row),
            "docs/numeric-tolerations.md has no row `{row}`"
        );
    }
}
