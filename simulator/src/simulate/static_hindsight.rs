//! The fewest fixed replicas that attain the objective, found by playing.
//!
//! First prefill, with more decode than can be needed, by the share of requests within the TTFT
//! limit; then decode beside that, by both limits. Each is a bisection, as more replicas never
//! attain less but for a few requests. A play that has missed too much is broken off. If decode's
//! waiting takes what was left of the TTFT limit, prefill grows until there is a decode that
//! suffices.

use pd_core::{PerRole, Role};

use super::{Run, SimulateError};
use crate::autoscaler::Fixed;

/// How often prefill may grow for decode's sake.
const ROUNDS_MAX: u32 = 8;

/// Replicas that attain the objective of `run`.
pub(super) fn search(run: &Run) -> Result<PerRole<u32>, SimulateError> {
    let most = run
        .scenario
        .policy()
        .bounds
        .map(|bounds| bounds.max_replicas);
    let percent = run.scenario.policy().objective.attainment.percent;
    let least = |role: Role| run.scenario.policy().bounds[role].min_replicas;
    let prefill_attains = |prefill| attains(run, PerRole { prefill, ..most }, true);
    let mut prefill = fewest(least(Role::Prefill), most.prefill, prefill_attains)?;
    for _ in 0..ROUNDS_MAX {
        let Some(pool) = prefill else { break };
        let attains_with = |decode| {
            let replicas = PerRole {
                prefill: pool,
                decode,
            };
            attains(run, replicas, false)
        };
        if let Some(decode) = fewest(least(Role::Decode), most.decode, attains_with)? {
            return Ok(PerRole {
                prefill: pool,
                decode,
            });
        }
        prefill = (pool < most.prefill).then_some(pool + 1);
    }
    Err(SimulateError::Unattainable {
        prefill: most.prefill,
        decode: most.decode,
        percent,
    })
}

/// The smallest number from `least` to `most` that suffices.
fn fewest(
    least: u32,
    most: u32,
    suffices: impl Fn(u32) -> Result<bool, SimulateError>,
) -> Result<Option<u32>, SimulateError> {
    if !suffices(most)? {
        return Ok(None);
    }
    let (mut low, mut high) = (least, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if suffices(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Some(high))
}

/// Whether fixed `replicas` attain the objective, or only its TTFT part.
fn attains(run: &Run, replicas: PerRole<u32>, ttft_only: bool) -> Result<bool, SimulateError> {
    let percent = u64::from(run.scenario.policy().objective.attainment.percent);
    let may_miss = run.requests * (100 - percent) / 100;
    let autoscaler = Box::new(Fixed::new(replicas));
    let misses_max = if ttft_only { u64::MAX } else { may_miss };
    let ledger = run.ledger(run.scenario_from(replicas), autoscaler, misses_max)?;
    let attained = if ttft_only {
        ledger.ttft_attained()
    } else {
        ledger.attained()
    };
    Ok(run.requests.saturating_sub(attained) <= may_miss)
}
