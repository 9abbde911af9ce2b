//! Keeps count of a run: what users saw, what it cost, and what was changed.
//!
//! It only listens. Latencies are kept exactly for the span of one chart point and condensed then,
//! so a day of tens of millions of requests needs the memory of three minutes. A point is taken at
//! the first count of workers at its time, before any decision of that moment, so that policies
//! that decide at other intervals have their points at the same times.

use pd_core::policy::Objective;
use pd_core::{PerRole, Role};

use super::record::{Point, Replicas, Summary};
use crate::autoscaler::PolicyVerdict;
use crate::engine::{Arrival, Ending, RequestOutcome};
use crate::time::{HOUR, Nanos, seconds};
use crate::world::Listener;

/// Sums since the last point.
#[derive(Debug, Default)]
struct Span {
    arrivals: u64,
    input_tokens: u64,
    output_tokens: u64,
    ended: u64,
    attained: u64,
    ttft_seconds: Vec<f64>,
    tpot_seconds: Vec<f64>,
}

/// The count of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    objective: Objective,
    gpus_per_replica: PerRole<u32>,
    now: Nanos,
    points: Vec<Point>,
    point_every: Nanos,
    length: Nanos,
    span_from: Nanos,
    span: Span,
    arrivals: u64,
    completed: u64,
    refused: u64,
    restarted: u64,
    attained: u64,
    replicas: PerRole<Replicas>,
    gpu_nanos: f64,
    replicas_max: PerRole<u32>,
    replicas_min: PerRole<u32>,
    scale_events: PerRole<u32>,
    decisions: u64,
    audit_findings: u64,
}

impl Ledger {
    pub(super) fn new(
        objective: Objective,
        gpus_per_replica: PerRole<u32>,
        replicas: PerRole<Replicas>,
        (point_every, length): (Nanos, Nanos),
    ) -> Self {
        Self {
            objective,
            gpus_per_replica,
            now: 0,
            points: Vec::new(),
            point_every,
            length,
            span_from: 0,
            span: Span::default(),
            arrivals: 0,
            completed: 0,
            refused: 0,
            restarted: 0,
            attained: 0,
            replicas,
            gpu_nanos: 0.0,
            replicas_max: replicas.map(|role| role.desired),
            replicas_min: replicas.map(|role| role.desired),
            scale_events: PerRole::default(),
            decisions: 0,
            audit_findings: 0,
        }
    }

    pub(super) fn replicas(&self) -> PerRole<Replicas> {
        self.replicas
    }

    /// GPUs held now.
    pub(super) fn gpus(&self) -> u32 {
        self.gpus_of(self.replicas.map(|replicas| replicas.provisioned()))
    }

    fn gpus_of(&self, replicas: PerRole<u32>) -> u32 {
        let gpus = |role: Role| replicas[role] * self.gpus_per_replica[role];
        Role::ALL.into_iter().map(gpus).sum()
    }

    fn gpu_hours(&self) -> f64 {
        self.gpu_nanos / HOUR as f64
    }

    fn static_gpu_hours(&self) -> f64 {
        f64::from(self.gpus_of(self.replicas_max)) * self.now as f64 / HOUR as f64
    }

    pub(super) fn attained_so_far(&self) -> Option<f64> {
        share(self.attained, self.completed)
    }

    /// Counts changes, and keeps the replicas as they are now.
    fn note(&mut self, replicas: PerRole<Replicas>) {
        for role in Role::ALL {
            let desired = replicas[role].desired;
            if desired != self.replicas[role].desired {
                self.scale_events[role] += 1;
            }
            let (most, least) = (&mut self.replicas_max[role], &mut self.replicas_min[role]);
            *most = desired.max(*most);
            *least = desired.min(*least);
        }
        self.replicas = replicas;
    }

    /// The points since the last call.
    pub(super) fn take_points(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.points)
    }

    /// Ends the span of a point.
    fn point(&mut self) -> Point {
        let mut span = std::mem::take(&mut self.span);
        let length_seconds = seconds(self.now - self.span_from);
        self.span_from = self.now;
        let mean = |tokens: u64| share(tokens, span.arrivals);
        let (ttft, tpot) = (self.objective.ttft, self.objective.tpot);
        let milliseconds = |seconds: f64| seconds * 1e3;
        let point = Point {
            at_seconds: seconds(self.now),
            requests: self.arrivals,
            rps: span.arrivals as f64 / length_seconds.max(f64::MIN_POSITIVE),
            isl: mean(span.input_tokens),
            osl: mean(span.output_tokens),
            ttft_ms: percentile(&mut span.ttft_seconds, ttft.percentile).map(milliseconds),
            tpot_ms: percentile(&mut span.tpot_seconds, tpot.percentile).map(milliseconds),
            attained: share(span.attained, span.ended),
            attained_so_far: self.attained_so_far(),
            replicas: self.replicas,
            gpus: self.gpus(),
            gpu_hours: self.gpu_hours(),
            replicas_max: self.replicas_max,
            static_gpu_hours: self.static_gpu_hours(),
        };
        // The vectors are as long as the next span will need; they are kept.
        span.ttft_seconds.clear();
        span.tpot_seconds.clear();
        self.span = Span {
            ttft_seconds: span.ttft_seconds,
            tpot_seconds: span.tpot_seconds,
            ..Span::default()
        };
        point
    }

    /// The summary of a run whose last requests have been given time to end.
    pub(super) fn summary(&self, complete: bool) -> Summary {
        let ended = self.completed + self.refused;
        Summary {
            complete,
            played_seconds: seconds(self.now),
            requests: self.arrivals,
            completed: self.completed,
            refused: self.refused,
            dropped: self.arrivals.saturating_sub(ended) + self.restarted,
            attained: self.attained_so_far(),
            gpu_hours: self.gpu_hours(),
            static_gpu_hours: self.static_gpu_hours(),
            replicas_max: self.replicas_max,
            replicas_min: self.replicas_min,
            scale_events: self.scale_events,
            decisions: self.decisions,
            audit_findings: self.audit_findings,
        }
    }
}

impl Listener for Ledger {
    fn arrived(&mut self, arrival: &Arrival) {
        self.arrivals += 1;
        self.span.arrivals += 1;
        self.span.input_tokens += u64::from(arrival.input_tokens);
        self.span.output_tokens += u64::from(arrival.output_tokens);
    }

    fn ended(&mut self, outcome: &RequestOutcome) {
        if outcome.restarts > 0 {
            self.restarted += 1;
        }
        if outcome.ending == Ending::Refused {
            self.refused += 1;
            return;
        }
        self.completed += 1;
        self.span.ended += 1;
        let ttft = outcome.ttft_seconds();
        let mut attained = ttft <= self.objective.ttft.limit.as_secs_f64();
        self.span.ttft_seconds.push(ttft);
        if let Some(tpot) = outcome.tpot_seconds() {
            attained &= tpot <= self.objective.tpot.limit.as_secs_f64();
            self.span.tpot_seconds.push(tpot);
        }
        self.span.attained += u64::from(attained);
        self.attained += u64::from(attained);
    }

    /// Charges the GPUs held since the last call.
    fn hold(&mut self, now: Nanos, replicas: PerRole<Replicas>) {
        self.gpu_nanos += f64::from(self.gpus()) * now.saturating_sub(self.now) as f64;
        self.now = now;
        self.note(replicas);
        let due = now.is_multiple_of(self.point_every) || now == self.length;
        if due && now > self.span_from {
            let point = self.point();
            self.points.push(point);
        }
    }

    fn decided(&mut self, verdict: &PolicyVerdict) {
        self.decisions += 1;
        self.audit_findings += verdict.findings.len() as u64;
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The smallest value that `percent` of the values do not exceed.
fn percentile(values: &mut [f64], percent: u8) -> Option<f64> {
    let rank = (values.len() * usize::from(percent)).div_ceil(100).max(1);
    let index = (rank - 1).min(values.len().checked_sub(1)?);
    let (_, value, _) = values.select_nth_unstable_by(index, f64::total_cmp);
    Some(*value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 95), Some(95.0));
        assert_eq!(
            percentile(&mut values[..1], 95).map(f64::to_bits),
            Some(values[0].to_bits())
        );
        assert_eq!(percentile(&mut [], 95), None);
    }
}
