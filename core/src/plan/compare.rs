//! The needs of one moment under two loads, for the law that more load never needs fewer replicas.
//!
//! Both are taken as the stages of a decision take them, but with the same memory, unchanged: nothing
//! is learnt, and both get the forecast of the first.

use super::Planner;
use crate::{
    memory::Memory,
    role::{PerRole, Role},
    snapshot::Snapshot,
    time::Timestamp,
};

/// What each role needs by `snapshot` and by `loaded`, with `memory` as it is after the decision on
/// `snapshot`. Nothing where either need is not known, or where the two differ in more than load: in
/// what is known, or in where requests lose time.
pub(crate) fn needs_under(
    snapshot: &Snapshot,
    loaded: &Snapshot,
    memory: &Memory,
    now: Timestamp,
) -> PerRole<Option<(u32, u32)>> {
    let mut base = Planner::new(snapshot, memory, now);
    let mut more = Planner::new(loaded, memory, now);
    for planner in [&mut base, &mut more] {
        planner.remember_replicas();
        planner.set_bounds();
    }
    base.foresee();
    more.forecast = base.forecast;
    base.size();
    more.size();
    let same_known = Role::ALL
        .into_iter()
        .all(|role| base.evidence.get(role).missing == more.evidence.get(role).missing);
    let alike = same_known && base.bottleneck == more.bottleneck;
    if !alike {
        return PerRole::default();
    }
    PerRole::from_fn(|role: Role| {
        let need = |planner: &Planner<'_>| planner.needs.get(role).as_ref().map(|n| n.replicas);
        need(&base).zip(need(&more))
    })
}
