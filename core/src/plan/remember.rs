//! What happened since the last decision: changes of replicas, arrivals, and what is not known.

use super::{Planner, UNWATCHED_MAX};
use crate::{
    memory::Extreme,
    report::{Reason, Stage},
    role::Role,
    schedule,
    zero::{self, Activity},
};

impl Planner<'_> {
    /// Notes changes and arrivals of replicas, and after a gap in the watch takes the current replicas
    /// as needed.
    pub(super) fn remember_replicas(&mut self) {
        let unwatched = self
            .memory
            .decided_at
            .is_none_or(|at| self.now.since(at) > UNWATCHED_MAX);
        let policy = &self.snapshot.policy;
        let window = policy.behavior.scale_down.stabilization_window;
        let now = self.now;
        for role in Role::ALL {
            let state = *self.snapshot.roles.get(role);
            let memory = self.memory.roles.get_mut(role);
            memory.see_replicas(state.current, now);
            memory.flaps.observe(state.current, now);
            memory.readiness.observe(state.ready, now);
            let rolling = state.is_rolling_out();
            memory
                .lead
                .observe(state.current, state.ready, rolling, now);
            if unwatched {
                memory
                    .largest
                    .extreme(state.current, now, window, Extreme::Largest);
            }
            *self.lead.get_mut(role) = memory.lead.p90(policy.lead.assumed);
        }
    }

    /// The replica bounds that schedules put in force.
    pub(super) fn set_bounds(&mut self) {
        let policy = &mut self.snapshot.policy;
        let (bounds, steps) =
            schedule::bounds(&policy.schedules, policy.bounds, self.now, self.lead);
        policy.bounds = bounds;
        self.steps.extend(steps);
    }

    /// Whether both roles go to zero or stay there. A service that is woken needs no more than that:
    /// its minimum is in the bounds, and waits for no window and no scale-up policy.
    pub(super) fn decide_about_zero(&mut self) -> bool {
        let Some(policy) = self.snapshot.policy.scale_to_zero else {
            return false;
        };
        let observed = zero::Observed {
            activity: self.activity(),
            wake: self.snapshot.signals.wake_requests,
            roles: self.snapshot.roles,
        };
        let verdict = zero::decide(policy, &self.memory.zero, &observed, self.now);
        self.memory.zero = verdict.memory;
        self.steps.extend(verdict.step);
        verdict.decision.is_zero()
    }

    fn activity(&self) -> Activity {
        let signals = &self.snapshot.signals;
        let complete = self
            .evidence
            .iter()
            .all(|(_, evidence)| evidence.complete());
        let arriving = self
            .workload
            .arrival_rate_rps
            .map(crate::signal::Reading::of);
        Activity::judge(
            &[
                arriving.unwrap_or_default(),
                signals.waiting_requests.prefill,
                signals.waiting_requests.decode,
                signals.running_requests.decode,
            ],
            complete,
        )
    }

    /// Says what is not known of each role, and since when. A role without replicas has no metrics.
    pub(super) fn judge_signals(&mut self) {
        for role in Role::ALL {
            let evidence = self.evidence.get(role);
            let memory = self.memory.roles.get_mut(role);
            if evidence.complete() {
                memory.missing_since = None;
                continue;
            }
            memory.missing_since.get_or_insert(self.now);
            let partial = evidence.missing.is_empty() && evidence.ready > 0;
            let reason = if partial {
                Reason::MetricsPartial
            } else {
                Reason::MetricsMissing
            };
            let message = format!("{}; replicas are not lowered", evidence.message());
            self.note(Stage::Signals, Some(role), reason, message);
        }
    }
}
