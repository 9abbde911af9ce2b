//! Replicas a role needs for its objective, before ratio, budget and guards.
//!
//! A need is `None` when nothing can be said; the caller then keeps the replicas. It carries the
//! whole number, the number before rounding, which the tolerance is judged by, and what share of the
//! requests other numbers of replicas would serve, by which a short budget is split.

mod decode;
mod prefill;

use std::time::Duration;

use crate::{
    capacity::Capacity,
    error_budget::RiskTarget,
    forecast::ForecastDistribution,
    memory::{Memory, RoleMemory},
    report::{Bottleneck, Reason},
    role::{PerRole, Role},
    role_state::RoleState,
    snapshot::Snapshot,
    time::Timestamp,
    workload::Workload,
};

/// Replicas a role needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Whole replicas, at least 1.
    pub replicas: u32,
    /// Before rounding up.
    pub exact: f64,
    /// Share of requests, 0 to 1, within the role's limit; index = replicas. Empty when not known.
    pub attained: Vec<f64>,
    /// What drives it.
    pub reason: Reason,
    /// A sentence without its full stop, with the numbers.
    pub message: String,
}

impl Need {
    /// A need of `exact` replicas, rounded up to at least 1 and at most `replicas_max`.
    pub fn of(exact: f64, replicas_max: u32, reason: Reason, message: String) -> Self {
        let bounded = if exact.is_finite() {
            exact.max(0.0)
        } else {
            f64::from(replicas_max)
        };
        // The sliver keeps 3.0000000001, an artefact of division, from costing a replica.
        let whole = (bounded - 1e-9)
            .ceil()
            .clamp(1.0, f64::from(replicas_max.max(1)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped between 1 and a u32"
        )]
        let replicas = whole as u32;
        Self {
            replicas,
            exact: bounded,
            attained: Vec::new(),
            reason,
            message,
        }
    }

    /// The larger of two needs, with the table of either.
    #[must_use]
    pub fn or_larger(self, other: Option<Self>) -> Self {
        match other {
            Some(mut other) if other.exact > self.exact => {
                if other.attained.is_empty() {
                    other.attained = self.attained;
                }
                other
            }
            _ => self,
        }
    }
}

/// What needs are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Sizing<'a> {
    /// What is observed, with believed signals only.
    pub snapshot: &'a Snapshot,
    /// What arrives.
    pub workload: &'a Workload,
    /// What earlier decisions left.
    pub memory: &'a Memory,
    /// What one replica can do.
    pub capacity: Capacity<'a>,
    /// How careful to be.
    pub risk_target: PerRole<RiskTarget>,
    /// Work expected when replicas asked for now will serve: of prefill busy workers, of decode output
    /// tokens per second. Nothing when that is not known.
    pub forecast: PerRole<Option<ForecastDistribution>>,
    /// How long replicas asked for now take to serve.
    pub lead: PerRole<Duration>,
    /// Where requests lose time.
    pub bottleneck: Bottleneck,
    /// Now.
    pub now: Timestamp,
}

/// Replicas each role needs, or nothing where that is not known.
pub fn needs(sizing: &Sizing<'_>) -> PerRole<Option<Need>> {
    let snapshot = sizing.snapshot;
    if sizing.workload.idle(&snapshot.signals) {
        return snapshot.policy.bounds.map(|bounds| {
            let message = "no request arrives, waits or runs".to_owned();
            Some(Need::of(0.0, bounds.max_replicas, Reason::Idle, message))
        });
    }
    PerRole {
        prefill: prefill::need(sizing),
        decode: decode::need(sizing),
    }
}

/// Share of the error budget from which on single misses are what the budget is for. While attainment
/// tells nothing, half of it is taken to be left.
const COVERED: f64 = 0.25;

/// Most replicas, as a multiple of what the model says, that misses which it does not explain may ask for.
const CORRECTED_MAX: u32 = 2;

/// How long after a change the latency windows still show the time before it.
const COOLDOWN: Duration = Duration::from_mins(2);

impl Sizing<'_> {
    fn state(&self, role: Role) -> &RoleState {
        self.snapshot.roles.get(role)
    }

    /// Replicas that serve and stay. One whose readiness comes and goes counts by its share of time, so
    /// that a flapping probe is no loss of capacity every other look.
    fn serving(&self, role: Role) -> u32 {
        let state = self.state(role);
        let damped = self.role_memory(role).readiness.whole().min(state.current);
        state.serving().max(damped)
    }

    fn role_memory(&self, role: Role) -> &RoleMemory {
        self.memory.roles.get(role)
    }

    fn replicas_max(&self, role: Role) -> u32 {
        self.snapshot.policy.bounds.get(role).max_replicas
    }

    /// One step more than the replicas that serve, for latency that misses its limit although the model
    /// says that `modelled` replicas suffice. Only when the error budget does not cover such misses,
    /// nothing is starting and the last change has settled, so that one miss is not answered twice; and
    /// never to more than [`CORRECTED_MAX`] times the model, since then something else is wrong.
    fn correction(&self, role: Role, modelled: Option<u32>) -> Option<u32> {
        let covered = self
            .risk_target
            .get(role)
            .budget_left
            .is_some_and(|left| left >= COVERED);
        if covered {
            return None;
        }
        let state = self.state(role);
        let settled = self.role_memory(role).cooled_down_for(COOLDOWN, self.now);
        let ready = self.serving(role);
        let whole = !state.is_rolling_out()
            && state.starting == 0
            && state.ready >= state.current
            && ready > 0;
        let more = ready.saturating_add((ready / 10).max(1));
        let most = modelled.map_or(u32::MAX, |modelled| {
            modelled.saturating_mul(CORRECTED_MAX).saturating_add(1)
        });
        (settled && whole && more <= most).then_some(more)
    }
}
