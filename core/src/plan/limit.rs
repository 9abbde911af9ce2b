//! From needs to replicas: what is lasting enough, what fits together, and what may be done now.

use std::time::Duration;

use super::Planner;
use crate::{
    guard::{self, StuckState},
    operating_point,
    policy::{OnMissingMetrics, Policy},
    report::{Reason, Stage},
    role::{PerRole, Role},
    solve::{Attained, Problem},
};

impl Planner<'_> {
    /// Replicas to ask for, awake.
    pub(super) fn limit(&mut self) -> PerRole<u32> {
        let wanted = PerRole::from_fn(|role| self.stabilized(role));
        self.propose(Stage::Stabilize, wanted.map(Some));
        self.choose_ratio();
        let solved = self.solve(wanted);
        self.propose(Stage::Solve, solved.map(Some));
        let guarded = self.guarded(solved);
        self.propose(Stage::Guard, guarded.map(Some));
        guarded
    }

    /// Both roles at zero, unless a person has paused that.
    pub(super) fn sleep(&mut self) -> PerRole<u32> {
        if self.snapshot.paused.scale_down {
            return self.currents();
        }
        PerRole::default()
    }

    /// The need of `role` after missing metrics, tolerance, windows and asks that are stuck.
    fn stabilized(&mut self, role: Role) -> u32 {
        let current = self.current(role);
        let flaps = &self.memory.roles.get(role).flaps;
        let (behavior, damped) = guard::damp(role, &self.snapshot.policy.behavior, flaps, self.now);
        let (mut wanted, close) = match self.needs.get(role) {
            Some(need) => guard::tolerate(need, current, &behavior),
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
        let (replicas, step) = guard::stabilize(role, wanted, current, &behavior, memory, self.now);
        let held = step.is_some() && replicas > wanted;
        self.steps.extend(damped.filter(|_| held));
        self.steps.extend(step);
        self.cancelled(role, replicas)
    }

    /// `wanted` without what was asked for and does not come.
    fn cancelled(&mut self, role: Role, wanted: u32) -> u32 {
        let state = self.snapshot.roles.get(role);
        let policy = &self.snapshot.policy;
        let memory = self.memory.roles.get_mut(role);
        let stuck = StuckState {
            current: state.current,
            ready: state.ready,
            min_replicas: policy.bounds.get(role).min_replicas,
            stuck: state.stuck,
            waiting: memory.lead.waiting(self.now),
            lead_p90: *self.lead.get(role),
            late_after: policy.lead.stuck_after,
        };
        let (replicas, step) = guard::cancel(role, wanted, &stuck, &mut memory.stuck, self.now);
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

    /// The band of the operating point in force, if the policy has any.
    fn choose_ratio(&mut self) {
        let Some(offered) = self.snapshot.policy.operating_points.take() else {
            return;
        };
        let traffic = self
            .workload
            .prompt_tokens
            .zip(self.workload.output_tokens_mean)
            .map_or((f64::NAN, f64::NAN), |(prompt, output)| {
                (prompt.first, output)
            });
        let state = &mut self.memory.operating_point;
        let chosen = operating_point::choose(&offered.points, traffic, state, self.now);
        if let Some(point) = chosen {
            self.steps.push(point.step(traffic, state));
            self.snapshot.policy.ratio =
                point.ratio_policy(state, offered.tolerance_percent, offered.enforcement);
            self.operating_point = Some(point.name.clone());
        }
        self.snapshot.policy.operating_points = Some(offered);
    }

    fn solve(&mut self, wanted: PerRole<u32>) -> PerRole<u32> {
        let mut policy = self.snapshot.policy.clone();
        for role in Role::ALL {
            let ceiling = self.memory.roles.get(role).stuck.ceiling(self.now);
            let bounds = policy.bounds.get_mut(role);
            let most = ceiling.unwrap_or(u32::MAX).max(bounds.min_replicas);
            bounds.max_replicas = bounds.max_replicas.min(most);
        }
        let solution = Problem {
            policy: &policy,
            ratio: policy.ratio,
            need: wanted,
            current: self.currents(),
            floor: self.floor(&policy),
            gpus_per_replica: self.snapshot.roles.map(|state| state.gpus_per_replica),
            attained: PerRole::from_fn(|role| {
                let need = self.needs.get(role).as_ref();
                need.map_or(Attained::UNKNOWN, |need| Attained::table(&need.attained))
            }),
        }
        .solve();
        let band = policy.ratio.map(|ratio| ratio.band);
        self.breach = self
            .memory
            .ratio
            .judge(band, solution.replicas, solution.breach, self.now);
        self.steps.extend(solution.steps);
        solution.replicas
    }

    /// Fewest replicas the solve may give: what a role has counts when its metrics do not allow to
    /// lower it, unless the user's own bounds or budget already do, or replicas that never served are
    /// taken back.
    fn floor(&self, policy: &Policy) -> PerRole<u32> {
        let current = self.currents();
        let gpus_per_replica = self.snapshot.roles.map(|state| state.gpus_per_replica);
        let gpus = Policy::gpus(current, gpus_per_replica);
        let over_budget = policy
            .budget_gpus
            .is_some_and(|budget| gpus > u64::from(budget));
        PerRole::from_fn(|role| {
            let bounds = policy.bounds.get(role);
            let blind = !self.evidence.get(role).complete() && !over_budget;
            if blind {
                bounds.clamp(*current.get(role))
            } else {
                bounds.min_replicas
            }
        })
    }

    /// Replicas after rate policies, bounds, pauses and releases that must come first.
    fn guarded(&mut self, wanted: PerRole<u32>) -> PerRole<u32> {
        let limited = PerRole::from_fn(|role| self.paced(role, *wanted.get(role)));
        let (granted, steps) = guard::await_releases(limited, &self.snapshot);
        self.steps.extend(steps);
        let (kept, step) = guard::keep_hard_band(granted, &self.snapshot);
        self.steps.extend(step);
        kept
    }

    fn paced(&mut self, role: Role, wanted: u32) -> u32 {
        let memory = self.memory.roles.get(role);
        let (changes, current) = (&memory.changes, self.current(role));
        let ceiling = memory.stuck.ceiling(self.now);
        let (limited, step) = guard::limit_rate(
            role,
            wanted,
            current,
            &self.snapshot.policy.behavior,
            changes,
            self.now,
        );
        let (bounded, bounds_step) =
            guard::hold_bounds(role, wanted, limited, &self.snapshot, changes, self.now);
        self.steps.extend(step);
        self.steps.extend(bounds_step);
        // What does not come is taken back whatever the pace, but for what the owner's minimum asks for.
        let min_replicas = self.snapshot.policy.bounds.get(role).min_replicas;
        let asked = ceiling.map_or(bounded, |ceiling| bounded.min(ceiling.max(min_replicas)));
        let (replicas, step) = guard::pause(role, asked, &self.snapshot);
        self.steps.extend(step);
        replicas
    }
}
