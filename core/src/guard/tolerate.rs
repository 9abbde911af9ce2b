//! Tolerance: a need too close to the replicas there are changes nothing.
//!
//! HPA compares the ratio of metric and target with a tolerance; here the need before rounding is
//! compared with the replicas, which is the same ratio. Two things differ on purpose. On the way
//! down half of the tolerance stays as slack in what remains. And the need is judged, not a single
//! metric, so there is one comparison where HPA has one per metric.

use crate::{
    behavior::{Behavior, ScalingRules},
    need::Need,
    reason::Reason,
};

/// The need with the tolerance taken off: one too close to `current` becomes `current`.
///
/// On the way down half of the tolerance stays as slack in what remains, because a pool lowered to
/// exactly its need is raised again by the next request more.
pub fn tolerate(need: &Need, current: u32, behavior: &Behavior) -> (u32, Option<Reason>) {
    let replicas = f64::from(current);
    let share = |rules: &ScalingRules| f64::from(rules.tolerance_ppm) / 1e6;
    let (up, down) = (share(&behavior.scale_up), share(&behavior.scale_down));
    if need.replicas > current {
        let close = need.exact <= replicas * (1.0 + up);
        return if close {
            (current, Some(Reason::WithinTolerance))
        } else {
            (need.replicas, None)
        };
    }
    let tight = need.exact > f64::from(need.replicas) * (1.0 - down / 2.0);
    let remaining = current.min(need.replicas.saturating_add(u32::from(tight)));
    let close =
        need.replicas < current && (need.exact > replicas * (1.0 - down) || remaining == current);
    if close {
        (current, Some(Reason::WithinTolerance))
    } else {
        (remaining, None)
    }
}
