//! The one decision: from the facts of a moment and the memory of the last to replicas, and why.
//!
//! [`plan()`] reads from top to bottom. Each stage is a function in a file of its own below this
//! one. It takes the values that it needs and its own part of the memory, and returns one value
//! with the steps that explain it. No value is changed after it was made, so a stage cannot see
//! what a later one decided. Calling twice at the same moment with the returned memory gives the
//! same plan.

mod compare;
mod explain;
mod forecast;
mod hold;
mod in_force;
mod joint;
mod learn;
mod missing;
mod observe;
mod ratio;
mod risk;
mod scale_to_zero;
mod size;
mod stabilize;

use serde::{Deserialize, Serialize};

pub(crate) use self::compare::needs_under;
use self::{
    explain::{Conclusion, report},
    forecast::{comes_back, forecast_work, in_flight, remember_work},
    hold::hold,
    in_force::{PolicyInForce, policy_in_force, ratio_in_force},
    joint::solve,
    learn::{LearntCapacity, learn},
    missing::metrics_missing,
    observe::{Observation, observe},
    ratio::judge_ratio,
    risk::risk_targets,
    scale_to_zero::decide_about_zero,
    size::{Expected, size},
    stabilize::{stabilize, watch_replicas},
};
use crate::{
    demand::Demand,
    memory::Memory,
    reach::{Reach, reach},
    report::Report,
    role::{PerRole, Role},
    snapshot::Snapshot,
    step::Steps,
    time::Timestamp,
    tuning::Tuning,
};

/// Replicas both roles should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Replicas to request.
    pub replicas: PerRole<u32>,
}

/// A plan, why, and the memory for the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas to request.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// Argument of the next call.
    pub memory: Memory,
}

impl Decision {
    fn new(report: Report, mut memory: Memory, now: Timestamp) -> Self {
        let replicas = report.to;
        for role in Role::ALL {
            memory.replicas[role].changes.request(replicas[role], now);
        }
        Self {
            plan: Plan { replicas },
            report,
            memory,
        }
    }
}

/// Decides.
pub fn plan(snapshot: &Snapshot, memory: &Memory, now: Timestamp) -> Decision {
    plan_tuned(snapshot, memory, now, &Tuning::NONE)
}

/// Decides with other constants, to show what they do.
pub fn plan_tuned(
    snapshot: &Snapshot,
    memory: &Memory,
    now: Timestamp,
    tuning: &Tuning,
) -> Decision {
    let mut memory = memory.clone().usable();
    // Schedules go by the clock; all that is remembered has a time of its own.
    let clock = now;
    let window = snapshot.policy.behavior.scale_down.stabilization_window;
    let moment = memory.moment(clock, window);
    let now = moment.now;
    let profile = snapshot.profile.as_ref();
    let mut steps = Steps::default();

    let blocked =
        PerRole::from_fn(|role| memory.stabilization[role].blocked(&snapshot.roles[role]));
    let standing = &mut memory.standing_since;
    let seen = observe(snapshot, moment, blocked, &mut memory.replicas, standing);
    let policy = policy_in_force(&snapshot.policy, snapshot.paused, &seen.replicas, clock)
        .record(&mut steps);
    let demand = Demand::estimate(&seen.signals.signals, policy.objective);
    watch_replicas(&policy, &seen, &mut memory.stabilization, now);

    let zero = decide_about_zero(policy.scale_to_zero, &seen, &demand, &mut memory.zero, now)
        .record(&mut steps);
    if zero.is_zero() {
        let capacity = LearntCapacity::remembered(&memory.capacity, profile, now);
        let traffic = memory.ratio.target();
        let conclusion = Conclusion::asleep(&policy, &seen, &demand, &capacity, traffic);
        let report = report(&policy, &seen, &demand, conclusion, steps);
        return Decision::new(report, memory, now);
    }

    let in_flight = in_flight(&seen, &demand, &mut memory.decode_in_flight);
    let gaps = metrics_missing(&seen.signals, &mut memory.missing_since, now).record(&mut steps);
    let capacity = learn(&policy, &seen, &demand, profile, &mut memory.capacity, now);
    let reach = reach_of(&policy, &seen, &demand, &capacity);
    let past = &mut memory.forecast;
    remember_work(&seen, &demand, &capacity.replica, past, now);
    let noise = comes_back(&seen, past);
    let unreachable = &mut memory.capacity.unreachable;
    let risk_target = risk_targets(&policy, &seen, &demand, &reach, unreachable, noise, tuning);
    let forecast =
        forecast_work(&seen, &demand, &capacity.replica, risk_target, past, now).record(&mut steps);
    let expected = Expected {
        forecast: &forecast,
        in_flight,
        risk_target,
    };
    let needs = size(
        &policy, &seen, &demand, &capacity, &reach, &expected, tuning,
    )
    .record(&mut steps);
    let wanted =
        stabilize(&policy, &seen, &needs, gaps, &mut memory.stabilization, now).record(&mut steps);
    let ratio =
        ratio_in_force(policy.ratio, &demand, &mut memory.operating_point, now).record(&mut steps);
    let solution = solve(&policy, &seen, &needs, &wanted, ratio).record(&mut steps);
    let to = hold(&policy, &seen, &solution, &wanted, now).record(&mut steps);

    let conclusion = Conclusion {
        capacity: capacity.replica,
        risk_target,
        forecast,
        ratio: judge_ratio(&needs, &solution, &mut memory.ratio, now),
        limits: vec![wanted.proposal(), solution.proposal(), hold::proposal(to)],
        needs,
        to,
    };
    let report = report(&policy, &seen, &demand, conclusion, steps);
    Decision::new(report, memory, now)
}

/// The requests that no number of replicas serves in time.
fn reach_of(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    demand: &Demand,
    capacity: &LearntCapacity<'_>,
) -> PerRole<Option<Reach>> {
    let signals = &seen.signals.signals;
    let (workload, replica) = (&demand.workload, &capacity.replica);
    reach(policy.objective, signals, workload, replica)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
