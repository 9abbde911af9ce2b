//! The hard ratio band on the way: guards that cut a change short must not leave the band.
//!
//! The solve gives a pair inside the band; rates and releases may move one role of it less than the
//! other. Of the pairs on the way this picks the furthest one that the band holds. Bounds and
//! budget come before the band: a role outside of them goes on its way to them, even through pairs
//! outside the band.

use crate::{
    bounds::Bounds,
    ratio::{Enforcement, RatioPolicy},
    reason::Reason,
    role::{PerRole, Role},
    step::{Stage, Step},
};

/// The limits that come before a band.
#[derive(Clone, Copy, Debug)]
pub struct BeforeBand {
    /// Replica bounds in force.
    pub bounds: PerRole<Bounds>,
    /// The replicas of both roles hold more GPUs than the budget allows.
    pub over_budget: bool,
}

/// Most prefill counts that are tried: no object may have more replicas.
const PAIRS_TRIED_MAX: u32 = 10_000;

/// The change cut short where a hard ratio band would be left on the way: of the pairs between the
/// current replicas and `wanted` that lie in the band, the one that goes furthest.
pub fn keep_hard_band(
    wanted: PerRole<u32>,
    current: PerRole<u32>,
    ratio: Option<RatioPolicy>,
    limits: BeforeBand,
) -> (PerRole<u32>, Option<Step>) {
    let hard = ratio.filter(|ratio| ratio.enforcement == Enforcement::Hard);
    let Some(band) = hard.map(|ratio| ratio.band) else {
        return (wanted, None);
    };
    let leaves = band.contains(current.prefill, current.decode)
        && !band.contains(wanted.prefill, wanted.decode);
    if !leaves {
        return (wanted, None);
    }
    let between = |role: Role| {
        let (a, b): (u32, u32) = (current[role], wanted[role]);
        (a.min(b), a.max(b))
    };
    let (prefill_least, prefill_most) = between(Role::Prefill);
    let (decode_least, decode_most) = between(Role::Decode);
    // From the wanted side on, since the nearest pair to it is looked for.
    let up = current.prefill <= wanted.prefill;
    let steps = 0..=(prefill_most - prefill_least).min(PAIRS_TRIED_MAX);
    let pairs = steps.filter_map(|step| {
        let prefill = if up {
            prefill_most - step
        } else {
            prefill_least + step
        };
        let least = band.decode_least(prefill).max(u64::from(decode_least));
        let most = band.decode_most(prefill).min(u64::from(decode_most));
        let decode = (least <= most).then(|| u64::from(wanted.decode).clamp(least, most))?;
        Some(PerRole {
            prefill,
            decode: u32::try_from(decode).ok()?,
        })
    });
    let kept = pairs
        .min_by_key(|pair| {
            u64::from(pair.prefill.abs_diff(wanted.prefill))
                + u64::from(pair.decode.abs_diff(wanted.decode))
        })
        .unwrap_or(current);
    let stuck_outside = Role::ALL.into_iter().any(|role| {
        let (now, wanted, kept) = (current[role], wanted[role], kept[role]);
        let outside = limits.bounds[role].clamp(now) != now;
        let moves_to_budget = limits.over_budget && wanted < now;
        (outside || moves_to_budget) && wanted != now && kept == now
    });
    if stuck_outside {
        return (wanted, None);
    }
    let message = format!(
        "{}:{} would leave the hard ratio band; {}:{} is as far as the change may go now",
        wanted.prefill, wanted.decode, kept.prefill, kept.decode
    );
    let step = Step::of_both(Stage::Guard, Reason::RatioBand, message);
    (kept, Some(step))
}
