//! The limits that span both roles: budget and ratio band, as the plan and the snapshot state them.

use super::{Case, Finding};
use crate::{
    operating_point::OperatingPoints,
    ratio::{Enforcement, Ratio, RatioBand, RatioPolicy},
    role::{PerRole, Role},
};

impl Case<'_> {
    /// Whether the budget is exceeded now, and takes the plan's replicas of `role` away: with one
    /// more, and the fewest of the other role, it would be exceeded still. Inside a ratio band one
    /// more of a role may take more of the other, and the way to a hard band goes through any pair.
    pub(super) fn budget_requires(&self, role: Role) -> bool {
        let Some(budget) = self.snapshot.policy.budget_gpus else {
            return false;
        };
        let budget = u64::from(budget);
        let current = self.currents();
        let at_least = PerRole::from_fn(|role: Role| {
            self.replicas[role].max(self.report.bounds[role].min_replicas)
        });
        let mut with_one_more = at_least;
        with_one_more[role] = with_one_more[role].saturating_add(1);
        let ratio = self.report.ratio.policy;
        let outside = ratio.is_some_and(|ratio| {
            ratio.enforcement == Enforcement::Hard
                && !ratio.band.contains(current.prefill, current.decode)
        });
        let in_band = ratio.map_or(with_one_more, |ratio| {
            raised_into(ratio.band, with_one_more)
        });
        let tight = self.gpus(with_one_more) > budget || self.gpus(in_band) > budget;
        self.gpus(current) > budget && (tight || outside)
    }

    /// Whether a role is above its maximum, and a hard band takes `role` along: one more of it
    /// would be outside, with as many of the other role as its maximum allows.
    pub(super) fn band_requires(&self, role: Role) -> bool {
        let in_force = self.report.ratio.policy;
        let hard = in_force.filter(|ratio| ratio.enforcement == Enforcement::Hard);
        let mut pair = self.report.bounds.map(|bounds| bounds.max_replicas);
        pair[role] = self.replicas[role].saturating_add(1);
        let mut roles = Role::ALL.into_iter();
        let over =
            roles.any(|role| self.state(role).current > self.report.bounds[role].max_replicas);
        over && hard.is_some_and(|ratio| !ratio.band.contains(pair.prefill, pair.decode))
    }

    pub(super) fn gpus(&self, replicas: PerRole<u32>) -> u64 {
        let of_role = |role| {
            let per_replica: u32 = self.state(role).gpus_per_replica;
            u64::from(replicas[role]) * u64::from(per_replica)
        };
        let all = Role::ALL.into_iter().map(of_role);
        all.fold(0, u64::saturating_add)
    }

    /// Whether the budget does not hold one replica more of each role, and of a role that needs
    /// more, or must have more, as many as that: then one role gives way to the other.
    pub(super) fn budget_is_full(&self) -> bool {
        let all = PerRole::from_fn(|role: Role| {
            let needed = self.report.need[role].unwrap_or(0);
            let needed = self.report.bounds[role].clamp(needed);
            self.state(role).current.saturating_add(1).max(needed)
        });
        let budget = self.snapshot.policy.budget_gpus;
        budget.is_some_and(|budget| self.gpus(all) > u64::from(budget))
    }

    pub(super) fn over_budget(&self) -> Option<Finding> {
        let budget = self.snapshot.policy.budget_gpus?;
        let before = self.gpus_at_worst(self.currents());
        let gpus = self.gpus_at_worst(self.replicas);
        (gpus > before && gpus > u64::from(budget)).then_some(Finding::OverBudget { gpus, budget })
    }

    /// GPUs held at the worst moment while `replicas` are requested: pods that exist stay until
    /// they are gone, and pods on their way out make no room for new ones.
    pub(super) fn gpus_at_worst(&self, replicas: PerRole<u32>) -> u64 {
        let of_role = |role| {
            let state = self.state(role);
            let existing = u64::from(state.ready) + u64::from(state.starting);
            let requested = u64::from(replicas[role].max(state.current));
            let held = existing.max(requested) + u64::from(state.terminating);
            held.saturating_mul(state.gpus_per_replica.into())
        };
        let all = Role::ALL.into_iter().map(of_role);
        all.fold(0, u64::saturating_add)
    }

    pub(super) fn strange_ratio(&self) -> Option<Finding> {
        let policy = &self.snapshot.policy;
        let stated = self.report.ratio.policy;
        let strange = match &policy.operating_points {
            None => stated != policy.ratio,
            // While traffic is between two points, none is in force.
            Some(points) => stated.is_some_and(|stated| !of_a_point(points, stated)),
        };
        strange.then_some(Finding::StrangeRatio)
    }

    pub(super) fn leaves_hard_band(&self) -> Option<Finding> {
        let in_force = self.report.ratio.policy;
        let ratio = in_force.filter(|ratio| ratio.enforcement == Enforcement::Hard)?;
        let current = self.currents();
        let PerRole { prefill, decode } = self.replicas;
        let leaves = ratio.band.contains(current.prefill, current.decode)
            && !ratio.band.contains(prefill, decode);
        // Leaving is inevitable when the bounds or the budget moved away from the band.
        let inside = Role::ALL.into_iter().all(|role| {
            let bounds = self.report.bounds[role];
            (bounds.min_replicas..=bounds.max_replicas).contains(&current[role])
        });
        let budget = self.snapshot.policy.budget_gpus.map(u64::from);
        let affordable = budget.is_none_or(|budget| self.gpus(current) <= budget);
        let promised = leaves && inside && affordable && !self.to_zero();
        promised.then_some(Finding::LeavesHardBand { prefill, decode })
    }
}

/// Prefill counts that are tried: a band of whole replicas leaves gaps of at most its own numbers.
const PREFILLS_TRIED: u32 = 1_000;

/// The least pair of at least `replicas` that `band` holds, or `replicas` where there is none near.
fn raised_into(band: RatioBand, replicas: PerRole<u32>) -> PerRole<u32> {
    let (bounds, decode) = (band.bounds(), replicas.decode);
    // The band's least P:D for these decode replicas, a whole replica too few for rounding.
    let first = f64::from(decode) * bounds.0 - 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates at zero, and replicas are far below 2^32"
    )]
    let first = replicas.prefill.max(first as u32);
    let decode_for = |prefill: u32| {
        let least = band.decode_least(prefill).max(u64::from(decode));
        let held = least <= band.decode_most(prefill);
        u32::try_from(least).ok().filter(|_| held)
    };
    let mut tried = first..=first.saturating_add(PREFILLS_TRIED);
    let found = tried.find_map(|prefill| Some((prefill, decode_for(prefill)?)));
    let (prefill, decode) = found.unwrap_or((replicas.prefill, decode));
    PerRole { prefill, decode }
}

/// Whether `stated` is the band around one of the points.
fn of_a_point(offered: &OperatingPoints, stated: RatioPolicy) -> bool {
    let band = |prefill, decode| {
        let target = Ratio::new(prefill, decode)?;
        Some(RatioBand::around(target, offered.tolerance_percent))
    };
    stated.enforcement == offered.enforcement
        && offered
            .points
            .iter()
            .any(|point| band(point.prefill, point.decode) == Some(stated.band))
}
