//! Keeps count of a run: what users saw, what it cost, and what the policy did.
//!
//! It only listens, and its memory does not grow with the requests. A request that never ends or is
//! refused has missed the objective. GPUs count while a worker starts, serves and drains.

use pd_core::policy::{Objective, Policy};
use pd_core::{PerRole, Role};

use super::Run;
use super::options::PolicyName;
use super::outcome::RunOutcome;
use super::quantiles::Quantiles;
use super::timeline::Timeline;
use super::tuned::Tuned;
use crate::autoscaler::PolicyVerdict;
use crate::clairvoyant::WINDOW;
use crate::engine::{self, Arrival, Ending};
use crate::lifecycle::{Loss, LossCause};
use crate::scenario::Scenario;
use crate::time::{HOUR, MINUTE, Nanos, from_duration, from_seconds, seconds};
use crate::world::{Listener, Replicas, Setup};

/// A change back within this time of a role's last change is a reversal.
const REVERSAL_MAX: Nanos = 30 * MINUTE;

/// Fewest requests of an hour that can be the worst: below, one miss decides.
const HOUR_REQUESTS_MIN: u64 = 100;

/// A role's last change.
#[derive(Clone, Copy, Debug)]
struct ReplicaChange {
    at: Nanos,
    up: bool,
}

/// Requests by their hour of arrival.
#[derive(Clone, Copy, Debug, Default)]
struct Hour {
    requests: u64,
    attained: u64,
}

/// The count of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    policy: Policy,
    ttft_limit: Nanos,
    tpot_limit_seconds: f64,
    gpus_per_replica: PerRole<u32>,
    now: Nanos,
    replicas: PerRole<Replicas>,
    replica_nanos: PerRole<f64>,
    overshoot_nanos: f64,
    out_of_band_nanos: f64,
    requests: u64,
    completed: u64,
    refused: u64,
    restarted: u64,
    lost_by_scale_down: u64,
    attained: u64,
    ttft_attained: u64,
    tpot_attained: u64,
    ttft: Quantiles,
    tpot: Quantiles,
    hours: Vec<Hour>,
    timeline: Timeline,
    missed_by_window: PerRole<Vec<u32>>,
    changes: PerRole<Option<ReplicaChange>>,
    scale_events: u64,
    reversals: u64,
    replicas_max: PerRole<u32>,
    decisions: u64,
    audit_findings: u64,
}

impl Ledger {
    pub(super) fn new(scenario: &Scenario, setup: &Setup) -> Self {
        let objective: &Objective = &setup.policy.objective;
        Self {
            ttft_limit: from_duration(scenario.policy().objective.ttft.limit),
            tpot_limit_seconds: objective.tpot.limit.as_secs_f64(),
            policy: setup.policy.clone(),
            gpus_per_replica: setup.gpus_per_replica,
            now: 0,
            replicas: setup.replicas_at_start.map(|count| Replicas {
                desired: count,
                ready: count,
                ..Replicas::default()
            }),
            replica_nanos: PerRole::default(),
            overshoot_nanos: 0.0,
            out_of_band_nanos: 0.0,
            requests: 0,
            completed: 0,
            refused: 0,
            restarted: 0,
            lost_by_scale_down: 0,
            attained: 0,
            ttft_attained: 0,
            tpot_attained: 0,
            ttft: Quantiles::default(),
            tpot: Quantiles::default(),
            hours: Vec::new(),
            timeline: Timeline::new(setup.length),
            missed_by_window: PerRole::default(),
            changes: PerRole::default(),
            scale_events: 0,
            reversals: 0,
            replicas_max: setup.replicas_at_start,
            decisions: 0,
            audit_findings: 0,
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests that have ended and missed a limit.
    pub(super) fn missed(&self) -> u64 {
        self.completed + self.refused - self.attained
    }

    /// Requests that ended within the TTFT limit.
    pub(super) fn ttft_attained(&self) -> u64 {
        self.ttft_attained
    }

    /// Requests that met both limits.
    pub(super) fn attained(&self) -> u64 {
        self.attained
    }

    /// Completed requests by [`WINDOW`] of arrival that missed the TTFT limit (`prefill`), and
    /// those that missed the TPOT limit only (`decode`).
    pub(super) fn missed_by_window(&self) -> &PerRole<Vec<u32>> {
        &self.missed_by_window
    }

    fn note_miss(&mut self, role: Role, at: Nanos) {
        let index = usize::try_from(at / WINDOW).unwrap_or(usize::MAX);
        let windows = &mut self.missed_by_window[role];
        if windows.len() <= index {
            windows.resize(index + 1, 0);
        }
        if let Some(missed) = windows.get_mut(index) {
            *missed += 1;
        }
    }

    fn hour(&mut self, at: Nanos) -> Option<&mut Hour> {
        let index = usize::try_from(at / HOUR).unwrap_or(usize::MAX);
        if self.hours.len() <= index {
            self.hours.resize(index + 1, Hour::default());
        }
        self.hours.get_mut(index)
    }

    /// GPUs held now by a role.
    fn gpus(&self, role: Role) -> u32 {
        self.replicas[role].provisioned() * self.gpus_per_replica[role]
    }

    fn note_change(&mut self, role: Role, now: Nanos, before: u32, after: u32) {
        let up = after > before;
        self.scale_events += 1;
        let last = &mut self.changes[role];
        if last.is_some_and(|last| last.up != up && now - last.at <= REVERSAL_MAX) {
            self.reversals += 1;
        }
        *last = Some(ReplicaChange { at: now, up });
    }

    fn worst_hour(&self) -> Option<f64> {
        let counted = self
            .hours
            .iter()
            .filter(|hour| hour.requests >= HOUR_REQUESTS_MIN);
        counted
            .filter_map(|hour| percent(hour.attained, hour.requests))
            .min_by(f64::total_cmp)
    }

    fn gpu_hours_by_role(&self) -> PerRole<f64> {
        PerRole::from_fn(|role| {
            let gpus = f64::from(self.gpus_per_replica[role]);
            self.replica_nanos[role] * gpus / HOUR as f64
        })
    }

    /// GPU-hours of both roles so far.
    pub(super) fn gpu_hours(&self) -> f64 {
        let by_role = self.gpu_hours_by_role();
        by_role.prefill + by_role.decode
    }

    /// The run in pieces.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The result of the run.
    pub(super) fn outcome(
        &self,
        run: &Run,
        policy: PolicyName,
        tuned: Option<Tuned>,
    ) -> RunOutcome {
        let gpu_hours = self.gpu_hours_by_role();
        let (everywhere, overall) = (&run.bound.everywhere, &run.bound.overall);
        let over = |bound: f64| (bound > 0.0).then(|| self.gpu_hours() / bound);
        let lead_seconds = run.scenario.lead_seconds();
        let objective = &run.scenario.policy().objective;
        let aggressiveness = tuned.and_then(Tuned::aggressiveness);
        RunOutcome {
            policy,
            seed: run.seed,
            lead_seconds: lead_seconds.prefill.max(lead_seconds.decode),
            prefill_lead_seconds: lead_seconds.prefill,
            decode_lead_seconds: lead_seconds.decode,
            ttft_limit_seconds: objective.ttft.limit.as_secs_f64(),
            tpot_limit_seconds: objective.tpot.limit.as_secs_f64(),
            attainment_goal_percent: objective.attainment.percent,
            simulated_seconds: seconds(self.now),
            requests: self.requests,
            completed: self.completed,
            refused: self.refused,
            unfinished: self.requests.saturating_sub(self.completed + self.refused),
            attainment_percent: percent(self.attained, self.requests),
            ttft_attainment_percent: percent(self.ttft_attained, self.requests),
            tpot_attainment_percent: percent(self.tpot_attained, self.requests),
            worst_hour_attainment_percent: self.worst_hour(),
            ttft_p50_seconds: self.ttft.seconds(50),
            ttft_p95_seconds: self.ttft.seconds(95),
            ttft_p99_seconds: self.ttft.seconds(99),
            tpot_p50_seconds: self.tpot.seconds(50),
            tpot_p95_seconds: self.tpot.seconds(95),
            tpot_p99_seconds: self.tpot.seconds(99),
            gpu_hours: self.gpu_hours(),
            prefill_gpu_hours: gpu_hours.prefill,
            decode_gpu_hours: gpu_hours.decode,
            clairvoyant_gpu_hours: everywhere.all_gpu_hours(),
            clairvoyant_prefill_gpu_hours: everywhere.gpu_hours.prefill,
            clairvoyant_decode_gpu_hours: everywhere.gpu_hours.decode,
            gpu_hours_over_clairvoyant: over(everywhere.all_gpu_hours()),
            clairvoyant_overall_gpu_hours: overall.all_gpu_hours(),
            clairvoyant_overall_prefill_gpu_hours: overall.gpu_hours.prefill,
            clairvoyant_overall_decode_gpu_hours: overall.gpu_hours.decode,
            gpu_hours_over_clairvoyant_overall: over(overall.all_gpu_hours()),
            static_peak_gpu_hours: run.bound.static_peak_gpu_hours,
            prefill_replicas_max: self.replicas_max.prefill,
            decode_replicas_max: self.replicas_max.decode,
            decisions: self.decisions,
            scale_events: self.scale_events,
            reversals: self.reversals,
            dropped_by_scale_down: self.lost_by_scale_down,
            restarted: self.restarted,
            budget_overshoot_gpu_seconds: self.overshoot_nanos * 1e-9,
            ratio_out_of_band_seconds: self.out_of_band_nanos * 1e-9,
            audit_findings: self.audit_findings,
            tuned_prefill_aggressiveness: aggressiveness.map(|found| found.prefill),
            tuned_decode_aggressiveness: aggressiveness.map(|found| found.decode),
            tuned_attainment_percent: tuned.and_then(Tuned::attainment_percent),
            speed: None,
        }
    }
}

impl Listener for Ledger {
    fn arrived(&mut self, arrival: &Arrival) {
        self.requests += 1;
        self.timeline.arrived(arrival.at);
        if let Some(hour) = self.hour(arrival.at) {
            hour.requests += 1;
        }
    }

    fn ended(&mut self, outcome: &engine::RequestOutcome) {
        self.restarted += u64::from(outcome.restarts > 0);
        if outcome.ending == Ending::Refused {
            self.refused += 1;
            return;
        }
        self.completed += 1;
        let ttft = outcome.first_token_at - outcome.arrived_at;
        self.ttft.add(ttft);
        let ttft_attained = ttft <= self.ttft_limit;
        // An answer of one token has no time between tokens to miss.
        let tpot = outcome.tpot_seconds();
        if let Some(tpot) = tpot {
            self.tpot.add(from_seconds(tpot));
        }
        let tpot_attained = tpot.is_none_or(|tpot| tpot <= self.tpot_limit_seconds);
        self.ttft_attained += u64::from(ttft_attained);
        self.tpot_attained += u64::from(tpot_attained);
        if !ttft_attained {
            self.note_miss(Role::Prefill, outcome.arrived_at);
        } else if !tpot_attained {
            self.note_miss(Role::Decode, outcome.arrived_at);
        }
        if ttft_attained && tpot_attained {
            self.attained += 1;
            self.timeline.attained(outcome.arrived_at);
            if let Some(hour) = self.hour(outcome.arrived_at) {
                hour.attained += 1;
            }
        }
    }

    fn hold(&mut self, now: Nanos, replicas: PerRole<Replicas>) {
        self.timeline.held(self.now, now, self.replicas);
        let held = now.saturating_sub(self.now) as f64;
        for role in Role::ALL {
            let provisioned = self.replicas[role].provisioned();
            self.replica_nanos[role] += f64::from(provisioned) * held;
        }
        let gpus = self.gpus(Role::Prefill) + self.gpus(Role::Decode);
        if let Some(budget) = self.policy.budget_gpus {
            self.overshoot_nanos += f64::from(gpus.saturating_sub(budget)) * held;
        }
        if let Some(ratio) = self.policy.ratio {
            let asked = self.replicas.map(|role| role.desired);
            if !ratio.band.contains(asked.prefill, asked.decode) {
                self.out_of_band_nanos += held;
            }
        }
        for role in Role::ALL {
            let (before, after) = (self.replicas[role].desired, replicas[role].desired);
            if before != after {
                self.note_change(role, now, before, after);
            }
            let most = &mut self.replicas_max[role];
            *most = after.max(*most);
        }
        self.now = now;
        self.replicas = replicas;
    }

    fn decided(&mut self, verdict: &PolicyVerdict) {
        self.decisions += 1;
        self.audit_findings += verdict.findings.len() as u64;
    }

    fn lost(&mut self, loss: Loss) {
        if loss.cause == LossCause::ScaleDown {
            self.lost_by_scale_down += loss.requests;
        }
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}
