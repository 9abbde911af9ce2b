//! The part of a need that lasts: after missing metrics, tolerance, windows, and requests that are
//! stuck.

use std::time::Duration;

use super::{in_force::PolicyInForce, observe::Observation};
use crate::{
    behavior::Behavior,
    guard::{self, Extreme, StuckMemory, StuckState},
    memory::StabilizationMemory,
    need::Need,
    policy::OnMissingMetrics,
    reason::Reason,
    report::Proposal,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::{Timestamp, UNWATCHED_MAX},
};

/// Replicas that a lasting need calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stabilized {
    /// Replicas wanted.
    pub(super) replicas: PerRole<u32>,
    /// Most replicas that a role may request, while it backs off from a request that was stuck.
    pub(super) ceilings: PerRole<Option<u32>>,
}

impl Stabilized {
    /// For the report.
    pub(super) fn proposal(&self) -> Proposal {
        Proposal {
            stage: Stage::Stabilize,
            replicas: self.replicas.map(Some),
        }
    }
}

/// Takes in the current replicas: the flaps that they show, and after a gap in the decisions their
/// number as a need, so that a full window passes before they are lowered.
pub(super) fn watch_replicas(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    memory: &mut PerRole<StabilizationMemory>,
    now: Timestamp,
) {
    let unwatched = seen
        .since_last
        .is_none_or(|since_last| since_last > UNWATCHED_MAX);
    let current = seen.current();
    let window = policy.behavior.scale_down.stabilization_window;
    for role in Role::ALL {
        let StabilizationMemory {
            windows,
            flaps,
            stuck: _,
        } = &mut memory[role];
        flaps.observe(current[role], now);
        if unwatched {
            let largest = &mut windows.largest;
            largest.extreme(current[role], now, window, Extreme::Largest);
        }
    }
}

/// The part of `needs` that lasts. A role whose need is not known keeps its replicas.
pub(super) fn stabilize(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    needs: &PerRole<Option<Need>>,
    gaps: PerRole<Option<Duration>>,
    memory: &mut PerRole<StabilizationMemory>,
    now: Timestamp,
) -> Staged<Stabilized> {
    let mut steps = Vec::new();
    let stabilized = PerRole::from_fn(|role: Role| {
        let mut stabilizer = Stabilizer {
            role,
            policy,
            seen,
            now,
            steps: &mut steps,
        };
        let StabilizationMemory {
            windows,
            flaps,
            stuck,
        } = &mut memory[role];
        let (behavior, damped) = guard::damp(role, policy.behavior, flaps, now);
        let wanted = stabilizer.wanted(needs[role].as_ref(), &behavior, gaps[role]);
        let current = stabilizer.current();
        let (lasting, step) = guard::stabilize(role, wanted, current, &behavior, windows, now);
        // Flaps matter to a reader only while they hold the role.
        let held = step.is_some() && lasting > wanted;
        stabilizer.steps.extend(damped.filter(|_| held));
        stabilizer.steps.extend(step);
        stabilizer.without_stuck(lasting, stuck)
    });
    let stabilized = Stabilized {
        replicas: stabilized,
        ceilings: PerRole::from_fn(|role: Role| memory[role].stuck.ceiling(now)),
    };
    Staged::new(stabilized, steps)
}

/// One role on its way through the rules.
struct Stabilizer<'a> {
    role: Role,
    policy: &'a PolicyInForce<'a>,
    seen: &'a Observation<'a>,
    now: Timestamp,
    steps: &'a mut Vec<Step>,
}

impl Stabilizer<'_> {
    fn current(&self) -> u32 {
        self.seen.replicas[self.role].state.current
    }

    fn note(&mut self, reason: Reason, message: String) {
        let step = Step::of_role(Stage::Stabilize, self.role, reason, message);
        self.steps.push(step);
    }

    /// The need after tolerance; while metrics are missing no less than the replicas and the
    /// fallback.
    fn wanted(
        &mut self,
        need: Option<&Need>,
        behavior: &Behavior,
        missing_for: Option<Duration>,
    ) -> u32 {
        let current = self.current();
        let tolerated = need.map(|need| (need, guard::tolerate(need, current, behavior)));
        // A need beyond the maximum was reported, and is remembered as the maximum: it may rise.
        let most = self.policy.bounds[self.role].max_replicas;
        let mut wanted = tolerated.map_or(current, |(_, (replicas, _))| replicas.min(most));
        if !self.seen.signals.evidence[self.role].complete() {
            let fallback = self.fallback(missing_for.unwrap_or_default());
            wanted = wanted.max(current).max(fallback);
        }
        if let Some((need, (_, Some(reason)))) = tolerated {
            let exact = need.exact;
            let message = format!("{exact:.2} replicas are needed, close enough to {current}");
            self.note(reason, message);
        }
        wanted
    }

    /// Replicas that the user wants while metrics are missing for long; 0 when they are not.
    fn fallback(&mut self, missing_for: Duration) -> u32 {
        let OnMissingMetrics::Fallback { replicas, after } = self.policy.on_missing_metrics else {
            return 0;
        };
        if missing_for < after {
            return 0;
        }
        let floor = replicas[self.role];
        if floor > self.current() {
            let seconds = missing_for.as_secs();
            let message = format!("metrics are missing for {seconds} s; the floor is {floor}");
            self.note(Reason::FallbackReplicas, message);
        }
        floor
    }

    /// `wanted` without replicas that were requested and do not come.
    fn without_stuck(&mut self, wanted: u32, memory: &mut StuckMemory) -> u32 {
        let replicas = &self.seen.replicas[self.role];
        let state = StuckState {
            current: replicas.state.current,
            ready: replicas.state.ready,
            min_replicas: self.policy.bounds[self.role].min_replicas,
            stuck: replicas.state.stuck,
            waiting: replicas.waiting_for,
            lead_p90: replicas.lead.p90,
            late_after: self.policy.stuck_after,
        };
        let (kept, step) = guard::cancel(self.role, wanted, &state, memory, self.now);
        self.steps.extend(step);
        kept
    }
}
