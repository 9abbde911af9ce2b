//! A linter for plans: promises that hold whatever the inputs were.
//!
//! It shares no code with the stages that it checks: it reads the snapshot, the policy in it, the
//! past as plain facts, and the plan, and believes nothing that the decision says of itself. It
//! runs on every plan in tests and simulation, and in production before a plan is applied. A
//! finding is a bug; the plan is then not applied. The promises:
//!
//! 1. The report states the replicas of the snapshot and of the plan.
//! 2. The bounds in force are the policy's, or those of schedules that are open or ahead; the ratio
//!    band is the policy's, or that of one of its operating points.
//! 3. No role goes to zero alone; both only where scale to zero is allowed and nobody waits.
//! 4. No role is moved out of its bounds, nor further out.
//! 5. No direction that a person paused is taken.
//! 6. No role grows beyond the GPU budget, with all that is requested, exists or is leaving.
//! 7. A hard ratio band is not left.
//! 8. A role is lowered only on complete metrics, its own and for decode those of prefill, which
//!    supplies it; or by the user's maximum or budget, as far as these require; or as far as
//!    replicas never served, and never during a rollout.
//!
//! With the past, too:
//!
//! 9. No replica that served is taken back without metrics, and no role is lowered while no replica
//!    of the other serves that did.
//! 10. No change is faster than the scaling policies of its direction; where there are none, the
//!     user's own limits take a tenth of the replicas a minute.
//! 11. No role is lowered below a need of the scale-down window, nor raised above one of the
//!     scale-up window, but for bounds, a ratio band and a full budget. After an unusually long
//!     time without a decision the replicas that there are are such a need.
//! 12. While replicas taken away are leaving, no more go for as long as the user lets them
//!     drain, but for both roles to zero and replicas that never served.
//!
//! Laws about several decisions, which take deciding again, are in `laws`.

mod calendar;
mod facts;
mod known;
mod laws;
mod limits;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::laws::monotone;
pub use self::{
    facts::{Facts, RoleFacts},
    laws::{LOAD_FACTOR, laws, with_load},
};
use crate::{
    behavior::SelectPolicy,
    bounds::Bounds,
    plan::Decision,
    report::Report,
    role::{PerRole, Role},
    role_state::RoleState,
    snapshot::Snapshot,
};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Finding {
    /// A role would have no replica, alone or where zero is not allowed.
    #[error("{role} would have no replica")]
    NoReplicas {
        /// The role.
        role: Role,
    },
    /// Replicas would move further outside their bounds.
    #[error("{role} would have {replicas} replicas, outside {min} to {max}")]
    OutOfBounds {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        replicas: u32,
        /// Fewest allowed.
        min: u32,
        /// Most allowed.
        max: u32,
    },
    /// The report names bounds that neither the policy nor a schedule states now.
    #[error("the policy and its schedules do not state the bounds of {role}")]
    StrangeBounds {
        /// The role.
        role: Role,
    },
    /// The report names a ratio band that neither the policy nor an operating point states.
    #[error("the policy and its operating points do not state the ratio band")]
    StrangeRatio,
    /// Replicas would be lowered without complete metrics.
    #[error("{role} would be lowered although its metrics are not complete")]
    LoweredBlindly {
        /// The role.
        role: Role,
    },
    /// Replicas would be lowered although the metrics of the role that supplies them are not
    /// complete, or none of its replicas serves that did.
    #[error("{role} would be lowered although the other role may hold its load up")]
    LoweredWithoutOther {
        /// The role.
        role: Role,
    },
    /// Replicas would change faster than the scaling policies allow, or the tenth a minute that
    /// holds without.
    #[error("{role} would go to {replicas} replicas, and {limit} is as far as it may go now")]
    TooFast {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        replicas: u32,
        /// The furthest allowed.
        limit: u32,
    },
    /// Replicas would be lowered while those that were taken away are still leaving.
    #[error("{role} would be lowered although replicas of it are still leaving")]
    LoweredWhileDraining {
        /// The role.
        role: Role,
    },
    /// Replicas would leave the needs of a stabilization window.
    #[error("{role} would go to {replicas} replicas, and a window still holds {held}")]
    OutsideWindow {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        replicas: u32,
        /// The need that holds.
        held: u32,
    },
    /// Replicas would change in a paused direction.
    #[error("{role} would change although this direction is paused")]
    ChangedWhilePaused {
        /// The role.
        role: Role,
    },
    /// More GPUs would be held than the budget allows, and a role grows.
    #[error("{gpus} GPUs would be held at once and the budget is {budget}")]
    OverBudget {
        /// GPUs held at the worst moment.
        gpus: u64,
        /// The budget.
        budget: u32,
    },
    /// A hard ratio band would be left.
    #[error("{prefill}:{decode} would leave a hard ratio band")]
    LeavesHardBand {
        /// Prefill replicas.
        prefill: u32,
        /// Decode replicas.
        decode: u32,
    },
    /// The report states other replicas than the plan or the snapshot.
    #[error("the report says {role} goes from {from} to {to}, and that is not so")]
    Misreported {
        /// The role.
        role: Role,
        /// Replicas before, as reported.
        from: u32,
        /// Replicas after, as reported.
        to: u32,
    },
    /// Deciding again at once with the memory that was returned gives another plan.
    #[error("{role} gets {once} replicas, and {twice} when decided again at once")]
    NotIdempotent {
        /// The role.
        role: Role,
        /// Replicas in the plan.
        once: u32,
        /// Replicas in the second plan.
        twice: u32,
    },
    /// More load gives a smaller need.
    #[error("{role} needs {need}, and {need_loaded} under more load")]
    NotMonotone {
        /// The role.
        role: Role,
        /// The need.
        need: u32,
        /// The need under more load.
        need_loaded: u32,
    },
}

/// Checks the plan of `decision`, made on `snapshot`, against the promises that the snapshot alone
/// shows; nothing found means that none is broken.
pub fn audit(snapshot: &Snapshot, decision: &Decision) -> Vec<Finding> {
    Case::new(snapshot, None, decision).findings()
}

/// Checks the plan of `decision`, made on `snapshot` after the past that `facts` state, against all
/// promises; nothing found means it may be applied.
pub fn audit_after(facts: &Facts, snapshot: &Snapshot, decision: &Decision) -> Vec<Finding> {
    Case::new(snapshot, Some(facts), decision).findings()
}

/// The decision to audit.
struct Case<'a> {
    snapshot: &'a Snapshot,
    facts: Option<&'a Facts>,
    report: &'a Report,
    replicas: PerRole<u32>,
    /// Whether the metrics of each role are complete.
    known: PerRole<bool>,
}

impl<'a> Case<'a> {
    fn new(snapshot: &'a Snapshot, facts: Option<&'a Facts>, decision: &'a Decision) -> Self {
        Self {
            snapshot,
            facts,
            report: &decision.report,
            replicas: decision.plan.replicas,
            known: PerRole::from_fn(|role| known::known(snapshot, role)),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let roles = Role::ALL.into_iter();
        let mut findings: Vec<Finding> = roles.flat_map(|role| self.of_role(role)).collect();
        findings.extend(self.strange_ratio());
        findings.extend(self.over_budget());
        findings.extend(self.leaves_hard_band());
        findings
    }

    fn of_role(&self, role: Role) -> Vec<Finding> {
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let mut findings = Vec::new();
        let (from, to) = (self.report.from[role], self.report.to[role]);
        if (from, to) != (current, replicas) {
            findings.push(Finding::Misreported { role, from, to });
        }
        let bounds = self.report.bounds[role];
        let clock = self.facts.map(|facts| facts.clock);
        if !calendar::in_force(&self.snapshot.policy, role, bounds, clock) {
            findings.push(Finding::StrangeBounds { role });
        }
        if self.no_replicas(role) {
            findings.push(Finding::NoReplicas { role });
        }
        findings.extend(self.out_of_bounds(role, bounds));
        if replicas < current {
            findings.extend(self.lowered(role, bounds));
        }
        let paused = self.snapshot.paused;
        if (replicas > current && paused.scale_up) || (replicas < current && paused.scale_down) {
            findings.push(Finding::ChangedWhilePaused { role });
        }
        if !self.to_zero() {
            findings.extend(self.too_fast(role, bounds));
            findings.extend(self.outside_window(role, bounds));
            findings.extend(self.while_draining(role));
        }
        findings
    }

    fn state(&self, role: Role) -> &RoleState {
        &self.snapshot.roles[role]
    }

    fn currents(&self) -> PerRole<u32> {
        self.snapshot.roles.map(|state| state.current)
    }

    /// Whether both roles go to zero or stay there together, as only scale to zero allows.
    fn to_zero(&self) -> bool {
        self.replicas == PerRole::default() && self.snapshot.policy.scale_to_zero.is_some()
    }

    /// Both roles at zero take a policy that allows it. One alone was so before, and the other does
    /// not grow meanwhile.
    fn no_replicas(&self, role: Role) -> bool {
        if self.replicas[role] > 0 || self.to_zero() {
            return false;
        }
        let other_grows = Role::ALL
            .into_iter()
            .any(|other| self.replicas[other] > self.state(other).current);
        self.state(role).current > 0 || other_grows
    }

    fn out_of_bounds(&self, role: Role, bounds: Bounds) -> Option<Finding> {
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let (min, max) = (bounds.min_replicas, bounds.max_replicas);
        let raised_over = replicas > max && replicas > current;
        let lowered_under = replicas < min && replicas < current && !self.to_zero();
        (raised_over || lowered_under).then_some(Finding::OutOfBounds {
            role,
            replicas,
            min,
            max,
        })
    }

    /// `role` is lowered: on complete metrics, by the user's own limits, or as far as replicas
    /// never served.
    fn lowered(&self, role: Role, bounds: Bounds) -> Option<Finding> {
        if self.to_zero() {
            return self
                .rest_is_not_safe()
                .then_some(Finding::LoweredBlindly { role });
        }
        let replicas = self.replicas[role];
        let by_limits = replicas >= bounds.max_replicas
            || self.budget_requires(role)
            || self.band_requires(role);
        if by_limits || replicas >= self.never_served_floor(role) {
            return None;
        }
        if !self.known[role] {
            return Some(Finding::LoweredBlindly { role });
        }
        let other = role.other();
        let (served, ready) = (self.served(other), self.state(other).ready);
        let down = served.is_some_and(|served| served > 0) && ready == 0;
        let unknown = role == Role::Decode && !self.known[other];
        (down || unknown).then_some(Finding::LoweredWithoutOther { role })
    }

    /// Whether going to zero, or staying there, is not safe. Of a service that serves all must be
    /// known. When one role is at zero already, nothing is served, and the gateway's signal is all
    /// there is.
    fn rest_is_not_safe(&self) -> bool {
        let mut roles = Role::ALL.into_iter();
        let serves = roles.all(|role| self.state(role).current > 0);
        let unknown = Role::ALL.into_iter().any(|role| !self.known[role]);
        let requests_wait = self.snapshot.signals.wake_requests.known() != Some(0.0);
        requests_wait || (serves && unknown)
    }

    /// Replicas of `role` that have served, where the past is known.
    fn served(&self, role: Role) -> Option<u32> {
        Some(self.facts?.roles[role].served)
    }

    /// Fewest replicas of `role` without metrics: those that served, where that is not known those
    /// that serve; and of the others those that do not fail to come. In a rollout all.
    fn never_served_floor(&self, role: Role) -> u32 {
        let state = self.state(role);
        let exists = state.ready.saturating_add(state.starting);
        if state.rolling_out || exists > state.current {
            return state.current;
        }
        let past = self.facts.map(|facts| &facts.roles[role]);
        let backs_off = past.is_some_and(|past| past.backs_off);
        let late = past.is_none_or(|past| {
            let patience = self.snapshot.policy.lead.stuck_after;
            past.waiting.is_some_and(|waiting| waiting >= patience)
        });
        let failing = match state.stuck {
            _ if backs_off => u32::MAX,
            Some((count, cause)) if cause.foretells() => count,
            None if late => u32::MAX,
            Some(_) | None => 0,
        };
        let served = state.ready.max(past.map_or(0, |past| past.served));
        served.max(state.current.saturating_sub(failing))
    }

    /// The change beyond the scaling policies. A minimum waits for none, and a role at zero comes
    /// back at once. Replicas that never served are taken back at any rate.
    fn too_fast(&self, role: Role, bounds: Bounds) -> Option<Finding> {
        let past = &self.facts?.roles[role];
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let behavior = &self.snapshot.policy.behavior;
        let limit = if replicas > current {
            let most = past.most(current, &behavior.scale_up);
            most.max(bounds.min_replicas)
        } else {
            self.fewest(role, bounds)
        };
        let beyond = if replicas > current {
            replicas > limit
        } else {
            replicas < limit.min(current)
        };
        beyond.then_some(Finding::TooFast {
            role,
            replicas,
            limit,
        })
    }

    /// Fewest replicas that the rate of scale-down allows now.
    fn fewest(&self, role: Role, bounds: Bounds) -> u32 {
        let current = self.state(role).current;
        let Some(facts) = self.facts else {
            return 0;
        };
        let past = &facts.roles[role];
        let policy = &self.snapshot.policy;
        let rules = &policy.behavior.scale_down;
        let over_maximum = current > bounds.max_replicas;
        let over_budget = policy
            .budget_gpus
            .is_some_and(|budget| self.gpus(self.currents()) > u64::from(budget));
        let disabled = rules.select == SelectPolicy::Disabled;
        let limited = over_maximum || over_budget;
        let fewest = match (limited, disabled || rules.policies.is_empty()) {
            (true, true) if over_maximum || disabled || !self.known[role] => {
                past.tenth_less(current)
            }
            _ => past.fewest(current, rules),
        };
        fewest.min(self.never_served_floor(role))
    }

    /// Fewer replicas before those that went are gone.
    fn while_draining(&self, role: Role) -> Option<Finding> {
        let past = &self.facts?.roles[role];
        let timeout = self.snapshot.policy.behavior.drain_timeout?;
        let state = self.state(role);
        let drains = state.terminating > 0 && past.was_lowered_within(timeout);
        let fewest = state.current.min(self.never_served_floor(role));
        (drains && self.replicas[role] < fewest).then_some(Finding::LoweredWhileDraining { role })
    }

    /// The needs of the windows that the plan leaves.
    fn outside_window(&self, role: Role, bounds: Bounds) -> Option<Finding> {
        let past = &self.facts?.roles[role];
        let policy = &self.snapshot.policy;
        let (replicas, current) = (self.replicas[role], self.state(role).current);
        let found = |held| Finding::OutsideWindow {
            role,
            replicas,
            held,
        };
        let banded = policy.ratio.is_some() || policy.operating_points.is_some();
        if replicas < current {
            let window = policy.behavior.scale_down.stabilization_window;
            let held = past.largest_within(window)?.min(bounds.max_replicas);
            let limited = banded || self.budget_is_full();
            let broken = replicas < held.min(current) && replicas < self.never_served_floor(role);
            return (broken && !limited).then(|| found(held));
        }
        let window = policy.behavior.scale_up.stabilization_window;
        let held = past.least_within(window)?.max(current);
        let least = bounds.min_replicas.max(1);
        (replicas > held.max(least) && !banded).then(|| found(held))
    }
}

#[cfg(test)]
mod tests;
