//! The one decision: from what is known now and what is remembered to replicas, and why.
//!
//! The frame is fixed and the stages are functions of their own modules: signals, workload,
//! capacity, need, stabilization, joint solve, guards. Each leaves its steps in the report. Calling
//! twice at the same moment with the returned memory gives the same plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{Evidence, evidence},
    guard,
    memory::Memory,
    need::{self, Need},
    policy::{OnMissingMetrics, Policy},
    report::{Bottleneck, Reason, Report, Stage, Step},
    role::{PerRole, Role},
    snapshot::Snapshot,
    solve::Problem,
    time::Timestamp,
    workload::Workload,
};

/// After so long without a decision the time between is unknown, and a full stabilization window
/// must pass before replicas are lowered. Six default intervals.
const UNWATCHED_MAX: Duration = Duration::from_secs(90);

/// How long after a change of decode replicas the rate window still mixes before and after.
const LEARN_AFTER_CHANGE: Duration = Duration::from_mins(2);

/// Replicas both roles should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Replicas to ask for.
    pub replicas: PerRole<u32>,
}

/// A plan, why, and what to remember.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Replicas to ask for.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// Argument of the next call.
    pub memory: Memory,
}

/// Decides.
pub fn plan(snapshot: &Snapshot, memory: &Memory, now: Timestamp) -> Decision {
    Planner::new(snapshot, memory, now).run()
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    memory: Memory,
    workload: Workload,
    evidence: PerRole<Evidence>,
    needs: PerRole<Option<Need>>,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot, memory: &Memory, now: Timestamp) -> Self {
        Self {
            snapshot,
            now,
            memory: memory.clone().usable(),
            workload: Workload::estimate(&snapshot.signals, &snapshot.policy.objective),
            evidence: PerRole::from_fn(|role| evidence(snapshot, role)),
            needs: PerRole::default(),
            steps: Vec::new(),
        }
    }

    fn run(mut self) -> Decision {
        self.remember_replicas();
        self.judge_signals();
        self.learn();
        self.size();
        let wanted = PerRole::from_fn(|role| self.stabilized(role));
        let solution = Problem {
            policy: &self.snapshot.policy,
            ratio: self.snapshot.policy.ratio,
            need: wanted,
            current: self.snapshot.roles.map(|state| state.current),
            floor: self.floor(),
            gpus_per_replica: self.snapshot.roles.map(|state| state.gpus_per_replica),
            attained: PerRole::default(),
        }
        .solve();
        self.steps.extend(solution.steps);
        let replicas = self.guarded(solution.replicas);
        self.memory.decided_at = Some(self.now);
        let report = self.report(replicas, solution.replicas, wanted);
        Decision {
            plan: Plan { replicas },
            report,
            memory: self.memory,
        }
    }

    /// Fewest replicas the solve may give: what a role has counts when its metrics do not allow to
    /// lower it, unless the user's own bounds or budget already do.
    fn floor(&self) -> PerRole<u32> {
        let current = self.snapshot.roles.map(|state| state.current);
        let gpus = Policy::gpus(
            current,
            self.snapshot.roles.map(|state| state.gpus_per_replica),
        );
        let over_budget = self
            .snapshot
            .policy
            .budget_gpus
            .is_some_and(|budget| gpus > u64::from(budget));
        PerRole::from_fn(|role| {
            let bounds = self.snapshot.policy.bounds.get(role);
            let blind = !self.evidence.get(role).complete() && !over_budget;
            if blind {
                bounds.clamp(*current.get(role))
            } else {
                bounds.min_replicas
            }
        })
    }

    fn current(&self, role: Role) -> u32 {
        self.snapshot.roles.get(role).current
    }

    fn note(&mut self, stage: Stage, role: Option<Role>, reason: Reason, message: String) {
        self.steps.push(Step {
            stage,
            role,
            reason,
            message,
        });
    }

    /// Notes replica changes, and after a gap in the watch takes the current replicas as needed.
    fn remember_replicas(&mut self) {
        let unwatched = self
            .memory
            .decided_at
            .is_none_or(|at| self.now.since(at) > UNWATCHED_MAX);
        let window = self
            .snapshot
            .policy
            .behavior
            .scale_down
            .stabilization_window;
        for role in Role::ALL {
            let current = self.current(role);
            let memory = self.memory.roles.get_mut(role);
            memory.see_replicas(current, self.now);
            if unwatched {
                use crate::memory::Extreme::Largest;
                memory.largest.extreme(current, self.now, window, Largest);
            }
        }
    }

    fn judge_signals(&mut self) {
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

    /// Learns from this snapshot. Of decode only while its workers stay the same for a window: one
    /// that came or went is in the rates for part of it.
    fn learn(&mut self) {
        let decode = &self.memory.roles.decode;
        let settled = self.snapshot.roles.decode.starting == 0
            && decode
                .changes
                .iter()
                .all(|change| self.now.since(change.at) >= LEARN_AFTER_CHANGE);
        let batch = self.decode_batch();
        let elapsed = self
            .memory
            .decided_at
            .map_or(Duration::from_secs(1), |at| self.now.since(at));
        let learnt = &mut self.memory.learnt;
        if let Some(seconds) = self.workload.prefill_seconds_mean {
            learnt.prefill_seconds_per_request = Some(seconds);
        }
        if let Some(tokens) = self.workload.output_tokens_mean {
            learnt.output_tokens_per_request = Some(tokens);
        }
        if let (true, Some(batch), Some(itl)) = (settled, batch, self.workload.itl_seconds_mean) {
            learnt.decode.observe(batch, itl, elapsed);
        }
    }

    /// Requests in a decode step of one worker, mean over the window that the time between tokens is
    /// from: by Little's law, so that both describe the same steps.
    fn decode_batch(&self) -> Option<f64> {
        let rate_tps = self.snapshot.signals.output_token_rate_tps.known()?;
        let workers = self.snapshot.signals.coverage.decode.scraped;
        let itl = self.workload.itl_seconds_mean?;
        (workers > 0).then(|| rate_tps * itl / f64::from(workers))
    }

    fn size(&mut self) {
        self.needs = need::needs(self.snapshot, &self.workload, &self.memory, self.now);
        for role in Role::ALL {
            if let Some(need) = self.needs.get(role).clone() {
                self.note(Stage::Need, Some(role), need.reason, need.message);
            }
        }
    }

    /// The need of `role` after missing metrics, tolerance and stabilization windows.
    fn stabilized(&mut self, role: Role) -> u32 {
        let current = self.current(role);
        let behavior = &self.snapshot.policy.behavior;
        let (mut wanted, close) = match self.needs.get(role) {
            Some(need) => guard::tolerate(need, current, behavior),
            None => (current, None),
        };
        if !self.evidence.get(role).complete() {
            wanted = wanted.max(current).max(self.fallback(role));
        }
        if let (Some(reason), Some(need)) = (close, self.needs.get(role)) {
            let message = format!(
                "{:.2} replicas are needed, close enough to {current}",
                need.exact
            );
            self.note(Stage::Stabilize, Some(role), reason, message);
        }
        let memory = self.memory.roles.get_mut(role);
        let (replicas, step) = guard::stabilize(role, wanted, current, behavior, memory, self.now);
        self.steps.extend(step);
        replicas
    }

    /// Replicas that metrics missing for long call for; 0 when they do not.
    fn fallback(&mut self, role: Role) -> u32 {
        let OnMissingMetrics::Fallback { replicas, after } =
            self.snapshot.policy.on_missing_metrics
        else {
            return 0;
        };
        let missing_since = self.memory.roles.get(role).missing_since;
        let missing = missing_since.map_or(Duration::ZERO, |since| self.now.since(since));
        let floor = *replicas.get(role);
        if missing < after {
            return 0;
        }
        if floor > self.current(role) {
            let message = format!(
                "metrics are missing for {} s; the floor is {floor}",
                missing.as_secs()
            );
            self.note(
                Stage::Stabilize,
                Some(role),
                Reason::FallbackReplicas,
                message,
            );
        }
        floor
    }

    /// Replicas after rate policies, pauses and releases that must come first.
    fn guarded(&mut self, wanted: PerRole<u32>) -> PerRole<u32> {
        let limited = PerRole::from_fn(|role| {
            let changes = &self.memory.roles.get(role).changes;
            let behavior = &self.snapshot.policy.behavior;
            let current = self.snapshot.roles.get(role).current;
            let (replicas, step) = guard::limit_rate(
                role,
                *wanted.get(role),
                current,
                behavior,
                changes,
                self.now,
            );
            self.steps.extend(step);
            let (bounded, step) = guard::hold_bounds(
                role,
                *wanted.get(role),
                replicas,
                self.snapshot,
                changes,
                self.now,
            );
            self.steps.extend(step);
            let (replicas, step) = guard::pause(role, bounded, self.snapshot);
            self.steps.extend(step);
            replicas
        });
        let (granted, steps) = guard::await_releases(limited, self.snapshot);
        self.steps.extend(steps);
        let (kept, step) = guard::keep_hard_band(granted, self.snapshot);
        self.steps.extend(step);
        kept
    }

    fn report(&mut self, to: PerRole<u32>, solved: PerRole<u32>, wanted: PerRole<u32>) -> Report {
        let from = self.snapshot.roles.map(|state| state.current);
        let objective = &self.snapshot.policy.objective;
        let bottleneck: Bottleneck = self.workload.bottleneck(&self.snapshot.signals, objective);
        let need = PerRole::from_fn(|role| self.needs.get(role).as_ref().map(|n| n.replicas));
        let reason = self.deciding_reason(from, to, solved, wanted);
        Report {
            reason,
            steps: std::mem::take(&mut self.steps),
            observed: self.workload.observed,
            need,
            metrics_complete: PerRole::from_fn(|role| self.evidence.get(role).complete()),
            bottleneck,
            from,
            to,
        }
    }

    fn deciding_reason(
        &self,
        from: PerRole<u32>,
        to: PerRole<u32>,
        solved: PerRole<u32>,
        wanted: PerRole<u32>,
    ) -> Reason {
        let changed = Role::ALL
            .into_iter()
            .filter(|&role| from.get(role) != to.get(role));
        let largest = changed.max_by_key(|&role| to.get(role).abs_diff(*from.get(role)));
        if let Some(role) = largest {
            if solved.get(role) != wanted.get(role)
                && let Some(step) = self.steps.iter().find(|step| step.stage == Stage::Solve)
            {
                return step.reason;
            }
            let fallback = self
                .steps
                .iter()
                .find(|step| step.role == Some(role) && step.reason == Reason::FallbackReplicas);
            return match (fallback, self.needs.get(role)) {
                (Some(step), _) => step.reason,
                (None, Some(need)) => need.reason,
                (None, None) => Reason::MetricsMissing,
            };
        }
        self.holding_reason()
    }

    /// Why nothing changes: what held a change back, if anything did.
    fn holding_reason(&self) -> Reason {
        let idle = self
            .needs
            .prefill
            .as_ref()
            .is_some_and(|need| need.reason == Reason::Idle);
        let holds = |step: &&Step| {
            // These explain the pair as it is, they do not hold it back.
            let settled = [
                Reason::RatioBand,
                Reason::AtMinReplicas,
                Reason::WithinTolerance,
            ];
            step.stage != Stage::Need && !settled.contains(&step.reason)
        };
        match self.steps.iter().rev().find(holds) {
            Some(step) => step.reason,
            None if idle => Reason::Idle,
            None => Reason::Steady,
        }
    }
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
