//! The policy in force: the user's, with the bounds that schedules set, and the ratio of the
//! operating point that suits the traffic.
//!
//! Later stages get this and not the user's policy, so that none can take bounds that do not hold
//! now.

use std::time::Duration;

use super::observe::Observation;
use crate::{
    behavior::Behavior,
    bounds::Bounds,
    demand::Demand,
    objective::Objective,
    operating_point::{self, OperatingPoints, PointState},
    policy::{LeadPolicy, OnMissingMetrics, Policy},
    ratio::RatioPolicy,
    replicas::ObservedReplicas,
    role::PerRole,
    schedule,
    snapshot::Paused,
    step::Staged,
    time::Timestamp,
    zero::ScaleToZero,
};

/// The policy as it holds at one moment.
#[derive(Clone, Debug)]
pub(super) struct PolicyInForce<'a> {
    /// Replica bounds, by the schedules that are open or ahead.
    pub(super) bounds: PerRole<Bounds>,
    pub(super) objective: &'a Objective,
    pub(super) ratio: StatedRatio<'a>,
    pub(super) budget_gpus: Option<u32>,
    pub(super) behavior: &'a Behavior,
    pub(super) on_missing_metrics: OnMissingMetrics,
    pub(super) scale_to_zero: Option<ScaleToZero>,
    /// Directions that a person has paused.
    pub(super) paused: Paused,
    /// After so long a scale-up request counts as stuck.
    pub(super) stuck_after: Duration,
}

impl PolicyInForce<'_> {
    /// Whether the replicas requested now hold more GPUs than the budget allows.
    pub(super) fn over_budget(&self, seen: &Observation<'_>) -> bool {
        let gpus = Policy::gpus(seen.current(), seen.gpus_per_replica());
        self.budget_gpus
            .is_some_and(|budget| gpus > u64::from(budget))
    }
}

/// The ratio as the user states it: a band, or operating points to take one from.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatedRatio<'a> {
    pub(super) band: Option<RatioPolicy>,
    pub(super) points: Option<&'a OperatingPoints>,
}

/// The policy at `now`. A scheduled minimum holds from the role's lead time before its window.
pub(super) fn policy_in_force<'a>(
    policy: &'a Policy,
    paused: Paused,
    replicas: &PerRole<ObservedReplicas<'_>>,
    now: Timestamp,
) -> Staged<PolicyInForce<'a>> {
    let Policy {
        bounds,
        objective,
        ratio,
        budget_gpus,
        behavior,
        on_missing_metrics,
        schedules,
        scale_to_zero,
        // The assumed lead time is in the replicas already.
        lead: LeadPolicy {
            assumed: _,
            stuck_after,
        },
        operating_points,
        // Stated coefficients reach a decision as its profile.
        coefficients: _,
    } = policy;
    let lead = replicas.map(|replicas| replicas.lead.p90);
    let (bounds, steps) = schedule::bounds(schedules, *bounds, now, lead);
    let in_force = PolicyInForce {
        bounds,
        objective,
        ratio: StatedRatio {
            band: *ratio,
            points: operating_points.as_ref(),
        },
        budget_gpus: *budget_gpus,
        behavior,
        on_missing_metrics: *on_missing_metrics,
        scale_to_zero: *scale_to_zero,
        paused,
        stuck_after: *stuck_after,
    };
    Staged::new(in_force, steps)
}

/// The ratio policy in force, and the operating point that it is from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RatioInForce {
    /// Nothing when the ratio follows the traffic.
    pub(super) policy: Option<RatioPolicy>,
    /// Name of the point, if the user's policy has any.
    pub(super) operating_point: Option<String>,
}

impl RatioInForce {
    /// The band as stated, whatever the traffic.
    pub(super) const fn stated(ratio: StatedRatio<'_>) -> Self {
        Self {
            policy: ratio.band,
            operating_point: None,
        }
    }
}

/// The ratio of the operating point that suits `demand`, else the band as stated.
pub(super) fn ratio_in_force(
    stated: StatedRatio<'_>,
    demand: &Demand,
    memory: &mut PointState,
    now: Timestamp,
) -> Staged<RatioInForce> {
    let Some(offered) = stated.points else {
        return Staged::new(RatioInForce::stated(stated), None);
    };
    // Traffic that is not known is near no point, and keeps the one in force.
    let traffic = demand.traffic().unwrap_or((f64::NAN, f64::NAN));
    let Some(point) = operating_point::choose(&offered.points, traffic, memory, now) else {
        return Staged::new(RatioInForce::stated(stated), None);
    };
    let ratio = RatioInForce {
        policy: point.ratio_policy(memory, offered.tolerance_percent, offered.enforcement),
        operating_point: Some(point.name.clone()),
    };
    Staged::new(ratio, Some(point.step(traffic, memory)))
}
