//! The needs of one moment under two loads, for the law that more load never needs fewer replicas.
//!
//! Both are computed as the stages of a decision compute them, but with the same memory, unchanged:
//! nothing is learnt, and both get the forecast, the growth and the risk of the first.

use super::{
    forecast::{comes_back, forecast_work, in_flight},
    in_force::policy_in_force,
    learn::LearntCapacity,
    observe::{Observation, observe},
    size::{Expected, size},
};
use crate::{
    demand::Demand,
    error_budget::risk_targets,
    memory::{CapacityMemory, Memory},
    need::Need,
    reach::reach,
    role::{PerRole, Role},
    snapshot::Snapshot,
    time::Timestamp,
    tuning::Tuning,
};

/// Replicas that each role needs by `snapshot` and by `loaded`, with `memory` as it is after the
/// decision on `snapshot`. Nothing where either need is not known, or where the two differ in more
/// than load: in the gaps of their signals, or in where requests lose time.
pub(crate) fn needs_under(
    snapshot: &Snapshot,
    loaded: &Snapshot,
    memory: &Memory,
    now: Timestamp,
) -> PerRole<Option<(u32, u32)>> {
    let mut memory = memory.clone().usable();
    let clock = now;
    let moment = memory.moment(
        clock,
        snapshot.policy.behavior.scale_down.stabilization_window,
    );
    let now = moment.now;
    let blocked = PerRole::default();
    let mut replicas = memory.replicas.clone();
    let [mut standing, mut standing_more] = [memory.standing_since; 2];
    let (mine, others) = (&mut memory.replicas, &mut replicas);
    let base = Case::new(
        snapshot,
        observe(snapshot, moment, blocked, mine, &mut standing),
    );
    let more = Case::new(
        loaded,
        observe(loaded, moment, blocked, others, &mut standing_more),
    );
    let same_gaps = Role::ALL.into_iter().all(|role| {
        base.seen.signals.evidence[role].missing == more.seen.signals.evidence[role].missing
    });
    if !same_gaps || base.demand.bottleneck != more.demand.bottleneck {
        return PerRole::default();
    }
    let objective = &snapshot.policy.objective;
    let risk_target = risk_targets(
        objective,
        base.demand.workload.budget_attained(),
        comes_back(&base.seen, &memory.forecast),
        &Tuning::NONE,
    );
    let (seen, demand) = (&base.seen, &base.demand);
    let known = LearntCapacity::remembered(&memory.capacity, snapshot.profile.as_ref(), now);
    let forecast = forecast_work(
        seen,
        demand,
        &known.replica,
        risk_target,
        &memory.forecast,
        now,
    )
    .value;
    let expected = Expected {
        forecast: &forecast,
        in_flight: in_flight(seen, demand, &mut memory.decode_in_flight),
        risk_target,
    };
    let needs = base.needs(&memory.capacity, &expected, clock, now);
    let needs_more = more.needs(&memory.capacity, &expected, clock, now);
    PerRole::from_fn(|role: Role| {
        let need = |needs: &PerRole<Option<Need>>| needs[role].as_ref().map(|need| need.replicas);
        need(&needs).zip(need(&needs_more))
    })
}

/// One of the two loads.
struct Case<'a> {
    snapshot: &'a Snapshot,
    seen: Observation<'a>,
    demand: Demand,
}

impl<'a> Case<'a> {
    fn new(snapshot: &'a Snapshot, seen: Observation<'a>) -> Self {
        Self {
            demand: Demand::estimate(&seen.signals.signals, &snapshot.policy.objective),
            snapshot,
            seen,
        }
    }

    fn needs(
        &self,
        memory: &CapacityMemory,
        expected: &Expected<'_>,
        clock: Timestamp,
        now: Timestamp,
    ) -> PerRole<Option<Need>> {
        let Snapshot {
            policy,
            roles: _,
            signals: _,
            paused,
            profile,
        } = self.snapshot;
        let (seen, demand) = (&self.seen, &self.demand);
        let policy = policy_in_force(policy, *paused, &seen.replicas, clock).value;
        let capacity = LearntCapacity::remembered(memory, profile.as_ref(), now);
        let signals = &seen.signals.signals;
        let reach = reach(
            policy.objective,
            signals,
            &demand.workload,
            &capacity.replica,
        );
        let tuning = &Tuning::NONE;
        size(&policy, seen, demand, &capacity, &reach, expected, tuning).value
    }
}
