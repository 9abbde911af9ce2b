//! The part of a need that lasts: after missing metrics, tolerance, windows, and requests that are
//! stuck.

use std::time::Duration;

use super::{in_force::PolicyInForce, observe::Observation};
use crate::{
    behavior::Behavior,
    guard::{self, StuckMemory, StuckState},
    memory::StabilizationMemory,
    need::Need,
    policy::OnMissingMetrics,
    reason::Reason,
    replicas::ObservedReplicas,
    report::Proposal,
    role::{PerRole, Role},
    step::{Stage, Staged, Step},
    time::Timestamp,
};

/// Replicas that a lasting need calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stabilized {
    /// Replicas wanted.
    pub(super) replicas: PerRole<u32>,
    /// Most replicas that a role may request, while it backs off from a request that was stuck.
    pub(super) ceilings: PerRole<Option<u32>>,
    /// Fewest replicas that evidence allows, whatever is needed.
    pub(super) floors: PerRole<u32>,
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
/// number as a need, so that a full window passes before they are changed.
pub(super) fn watch_replicas(
    policy: &PolicyInForce<'_>,
    seen: &Observation<'_>,
    memory: &mut PerRole<StabilizationMemory>,
    now: Timestamp,
) {
    let current = seen.current();
    for role in Role::ALL {
        let StabilizationMemory {
            windows,
            flaps,
            stuck: _,
            broken: _,
        } = &mut memory[role];
        flaps.observe(current[role], seen.replicas[role].changed_at, now);
        windows.watch(current[role], policy.behavior, seen.gap, now);
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
    let mut floors = PerRole::default();
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
            broken,
        } = &mut memory[role];
        let (behavior, damped) = guard::damp(role, policy.behavior, flaps, now);
        let (current, lead) = (stabilizer.current(), seen.replicas[role].lead.p50);
        let replaced = broken.replaced(&seen.replicas[role].state, lead, now);
        let floor = stabilizer.floor(needs[role].as_ref());
        floors[role] = floor;
        let wanted = stabilizer
            .wanted(needs[role].as_ref(), replaced, &behavior, gaps[role])
            .max(floor);
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
        floors,
    };
    Staged::new(stabilized, steps)
}

/// The share of a load that the replicas which serve let through for certain, where all that served
/// carried it.
fn let_through(replicas: &ObservedReplicas<'_>) -> f64 {
    let (served, serving) = (replicas.served, replicas.state.serving());
    if served == 0 {
        return 1.0;
    }
    (f64::from(serving) / f64::from(served)).min(1.0)
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

    /// Fewest replicas that evidence allows. Without metrics of the role, and of the one that
    /// supplies it, those that there are. Else the need of the load that may be held up: replicas
    /// that served and do not serve, of either role, let through no less of it than their share,
    /// and there may be so much more.
    fn floor(&mut self, need: Option<&Need>) -> u32 {
        let current = self.current();
        let Some(need) = need else {
            return current;
        };
        let evidence = &self.seen.signals.evidence;
        if !evidence[self.role].complete() {
            return current;
        }
        let replicas = &self.seen.replicas;
        let supplier_unknown = self.role == Role::Decode && !evidence.prefill.complete();
        let part = |role: Role| let_through(&replicas[role]);
        let part = part(Role::Prefill).min(part(Role::Decode));
        if part >= 1.0 && !supplier_unknown {
            return 0;
        }
        let possible = if supplier_unknown {
            f64::INFINITY
        } else {
            need.exact.max(need.replicas.into()) / part
        };
        let rounded = Need::of(possible, need.reason, String::new());
        let floor = rounded.replicas.min(current);
        if floor > need.replicas {
            let message = if supplier_unknown {
                format!("the metrics of prefill are not complete, so decode keeps {floor}")
            } else {
                format!(
                    "replicas that served do not serve, {:.0} % of the load may get through; {floor} stay",
                    part * 100.0
                )
            };
            self.note(Reason::LoadHeldUp, message);
        }
        floor
    }

    /// The need after tolerance, and replicas in place of broken ones; while metrics are missing no
    /// less than the replicas and the fallback.
    fn wanted(
        &mut self,
        need: Option<&Need>,
        replaced: u32,
        behavior: &Behavior,
        missing_for: Option<Duration>,
    ) -> u32 {
        let current = self.current();
        let whole = current - replaced.min(current);
        let tolerated = need.map(|need| (need, guard::tolerate(need, whole, behavior)));
        // A need beyond the maximum was reported, and is remembered as the maximum: it may rise.
        let most = self.policy.bounds[self.role].max_replicas;
        let mut wanted = tolerated.map_or(current, |(_, (replicas, _))| {
            replicas.saturating_add(replaced).min(most)
        });
        if replaced > 0 && wanted > current {
            let message = format!("{replaced} of {current} replicas are broken and no capacity");
            self.note(Reason::BrokenReplaced, message);
        }
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
            starting: replicas.state.starting,
            served: replicas.served,
            rolling_out: replicas.state.is_rolling_out(),
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
