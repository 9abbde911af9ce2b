//! The cheapest plan that has enough replicas in every window when a start costs its lead time.
//!
//! A replica is paid while it serves, while it waits, and for the lead before it serves; stopping
//! is free. Replicas are alike, so the plan falls apart into levels: level k is whether at least k
//! replicas are there, and must be wherever k are needed. Within a level each gap between two such
//! windows is waited through or restarted after, whichever is cheaper. That is the optimum of the
//! dynamic programme over all plans, which the tests compare it with, in time linear in the needs.

use crate::time::Nanos;

/// Replicas per window, at least `needed`, at the least cost. The replicas of the first window are
/// there already.
pub fn cheapest(needed: &[u32], window: Nanos, lead: Nanos) -> Vec<u32> {
    let mut plan = needed.to_vec();
    // Windows in which a replica waits rather than leaves cost less than its restart.
    let wait_max = usize::try_from(lead / window.max(1)).unwrap_or(usize::MAX);
    // The last window in which each level was there.
    let mut last: Vec<Option<usize>> = Vec::new();
    for (index, need) in needed.iter().enumerate() {
        let need = usize::try_from(*need).unwrap_or(usize::MAX);
        if last.len() < need {
            last.resize(need, None);
        }
        for (level, seen) in last.iter_mut().take(need).enumerate() {
            // The first replicas are there for nothing, so before the first window each level was.
            let gap_start = seen.map_or(0, |before| before + 1);
            if index - gap_start <= wait_max {
                for waiting in plan.iter_mut().take(index).skip(gap_start) {
                    let replicas = u32::try_from(level + 1).unwrap_or(u32::MAX);
                    *waiting = (*waiting).max(replicas);
                }
            }
            *seen = Some(index);
        }
    }
    plan
}
