//! Replicas a role needs for its objective, before ratio, budget and guards.
//!
//! A need is `None` when nothing can be said; the caller then keeps the replicas. It carries the
//! whole number, the number before rounding, which the tolerance is judged by, and the share of the
//! requests that other numbers of replicas would serve, by which a short budget is split.

mod busy;
mod decode;
mod prefill;

use std::time::Duration;

pub use self::decode::{BUSY_BATCH, SLOW_SAMPLES_MIN};
use crate::{
    bounds::Bounds,
    capacity::{Capacity, KvCapacity, Proven},
    demand::Demand,
    error_budget::RiskTarget,
    forecast::ForecastDistribution,
    in_flight::InFlight,
    objective::Objective,
    reach::Reach,
    reason::Reason,
    replicas::ObservedReplicas,
    role::{PerRole, Role},
    signal::Signals,
    tuning::Tuning,
};

/// Replicas that a need is taken for at most: ten times what the API accepts as `maxReplicas`, so
/// that any need beyond a maximum shows, and fits into an integer.
const REPLICAS_MAX: f64 = 100_000.0;

/// Replicas a role needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Whole replicas, at least 1: whatever the most allowed are, so that a maximum that binds
    /// shows.
    pub replicas: u32,
    /// Before rounding up.
    pub exact: f64,
    /// Share of requests, 0 to 1, within the role's limit; index = replicas. Empty when not known.
    pub attained: Vec<f64>,
    /// The driver.
    pub reason: Reason,
    /// A sentence without its full stop, with the numbers.
    pub message: String,
}

impl Need {
    /// A need of `exact` replicas, rounded up to at least 1.
    pub fn of(exact: f64, reason: Reason, message: String) -> Self {
        let bounded = if exact.is_nan() {
            0.0
        } else {
            exact.clamp(0.0, REPLICAS_MAX)
        };
        // The sliver keeps 3.0000000001, an artefact of division, from costing a replica.
        let whole = (bounded - 1e-9).ceil().max(1.0);
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

/// Values that needs are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Sizing<'a> {
    /// Limits, and the share of requests that must meet them.
    pub objective: &'a Objective,
    /// Replica bounds in force.
    pub bounds: PerRole<Bounds>,
    /// The replicas as they are.
    pub replicas: &'a PerRole<ObservedReplicas<'a>>,
    /// The judged signals.
    pub signals: &'a Signals,
    /// The work that arrives.
    pub demand: &'a Demand,
    /// Performance of one replica.
    pub capacity: &'a Capacity<'a>,
    /// Tokens that a decode worker's KV cache holds.
    pub kv_capacity: KvCapacity,
    /// How far the limits can be met at all.
    pub reach: &'a PerRole<Option<Reach>>,
    /// Output tokens per second that a decode replica failed at lately.
    pub decode_ceiling_tps: Option<f64>,
    /// The batch that decode replicas were seen to keep the TPOT limit with.
    pub decode_proven: Proven,
    /// Multiples of the constants.
    pub tuning: &'a Tuning,
    /// The risk of a miss to take.
    pub risk_target: PerRole<RiskTarget>,
    /// Work expected when replicas requested now will serve: of prefill busy workers, of decode
    /// output tokens per second. Nothing when that is not known.
    pub forecast: &'a PerRole<Option<ForecastDistribution>>,
    /// Requests in flight on decode and how they grow. Nothing when that is not known.
    pub in_flight: Option<InFlight>,
}

/// Replicas each role needs, or nothing where that is not known.
pub fn needs(sizing: &Sizing<'_>) -> PerRole<Option<Need>> {
    if sizing.demand.idle {
        return sizing.bounds.map(|_| {
            let message = "no request arrives, waits or runs".to_owned();
            Some(Need::of(0.0, Reason::Idle, message))
        });
    }
    PerRole {
        prefill: prefill::need(sizing).map(|need| busy::keep(sizing, Role::Prefill, need)),
        decode: decode::need(sizing).map(|need| busy::keep(sizing, Role::Decode, need)),
    }
}

/// Share of the error budget that covers single misses. While attainment is not known, half of the
/// budget is taken to be left.
const COVERED: f64 = 0.25;

/// Largest correction, as a multiple of the modelled need: more misses than that have another
/// cause.
const CORRECTED_MAX: u32 = 2;

/// How long after a change the latency windows still show the time before it.
const COOLDOWN: Duration = Duration::from_mins(2);

impl Sizing<'_> {
    /// Squared coefficient of variation of the times between arrivals, 1 or more.
    fn arrival_scv(&self) -> f64 {
        1.0 + (self.demand.workload.arrival_scv - 1.0) * self.tuning.bursts_felt
    }

    fn replicas_max(&self, role: Role) -> u32 {
        self.bounds[role].max_replicas
    }

    /// One step more than the replicas that serve, for latency that misses its limit although the
    /// model holds `modelled` replicas for enough. Only when the error budget does not cover such
    /// misses, nothing is starting and the last change has cooled down, so that one miss is not
    /// corrected twice; and never to more than [`CORRECTED_MAX`] times the model.
    fn correction(&self, role: Role, modelled: Option<u32>) -> Option<u32> {
        let left = self.risk_target[role].budget_left;
        if left.is_some_and(|left| left >= COVERED) {
            return None;
        }
        let replicas = &self.replicas[role];
        let (state, serving) = (&replicas.state, replicas.serving());
        let whole = !state.is_rolling_out()
            && state.starting == 0
            && state.ready >= state.current
            && serving > 0;
        // A tenth, so that a large pool is corrected as fast as a small one.
        let more = serving.saturating_add((serving / 10).max(1));
        // One beyond the multiple, because twice one replica is hardly room for a correction.
        let most = modelled.map_or(u32::MAX, |modelled| {
            modelled.saturating_mul(CORRECTED_MAX).saturating_add(1)
        });
        (replicas.cooled_down(COOLDOWN) && whole && more <= most).then_some(more)
    }
}
