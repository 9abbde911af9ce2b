//! Laws about several decisions, which take deciding again.
//!
//! *Idempotent*: at the same moment, with the memory that a decision returned, the same plan comes
//! out. A restart between deciding and writing, or two decisions in one second, change nothing.
//!
//! *Monotone in load*: more load never needs fewer replicas. Load is the requests that arrive and
//! wait: every rate, every queue and the KV cache in use, all multiplied by one factor. Not load,
//! and so kept: the length and the latency of requests, how long ago things happened, and the
//! requests that run, which show the batch that a worker proved able to carry. A decision also
//! learns and forecasts from its signals, and the lesson of more load may well be that replicas are
//! faster. So the law is about the need alone: of both loads it is taken with one memory, the
//! returned one, without learning, and with one forecast. Needs are compared where both loads are
//! known and lose time at the same place, because who pays for a missed objective is not a matter
//! of load.

use super::Finding;
use crate::{
    memory::Memory,
    plan::{Decision, needs_under, plan},
    role::Role,
    signal::{HistogramReading, Reading, Signals},
    snapshot::Snapshot,
    time::Timestamp,
};

/// How much more load the law of monotony is tried with.
pub const LOAD_FACTOR: f64 = 1.5;

/// Holds `decision`, which [`plan()`] made of `snapshot` at `now`, against the laws: one more
/// decision and two sizings. For tests and simulation; in production [`audit`](super::audit())
/// alone runs.
pub fn laws(snapshot: &Snapshot, now: Timestamp, decision: &Decision) -> Vec<Finding> {
    let mut findings = idempotent(snapshot, now, decision);
    findings.extend(monotone(snapshot, &decision.memory, now, LOAD_FACTOR));
    findings
}

fn idempotent(snapshot: &Snapshot, now: Timestamp, decision: &Decision) -> Vec<Finding> {
    let again = plan(snapshot, &decision.memory, now);
    let differs = |role: Role| {
        let once = decision.plan.replicas[role];
        let twice = again.plan.replicas[role];
        (once != twice).then_some(Finding::NotIdempotent { role, once, twice })
    };
    Role::ALL.into_iter().filter_map(differs).collect()
}

/// Holds the needs of `snapshot` against those under `factor` times its load.
pub(crate) fn monotone(
    snapshot: &Snapshot,
    memory: &Memory,
    now: Timestamp,
    factor: f64,
) -> Vec<Finding> {
    let loaded = Snapshot {
        signals: with_load(&snapshot.signals, factor),
        ..snapshot.clone()
    };
    let needs = needs_under(snapshot, &loaded, memory, now);
    let falls = |role: Role| {
        let (need, need_loaded) = needs[role]?;
        (need_loaded < need).then_some(Finding::NotMonotone {
            role,
            need,
            need_loaded,
        })
    };
    Role::ALL.into_iter().filter_map(falls).collect()
}

/// `signals` of a service that gets `factor` times the load, 1 or more, with requests as long and
/// as slow as they are.
#[must_use]
pub fn with_load(signals: &Signals, factor: f64) -> Signals {
    let mut loaded = signals.clone();
    let more = |reading: Reading| match reading {
        Reading::Value(value) => Reading::Value(value * factor),
        other => other,
    };
    for reading in [
        &mut loaded.prefill_completion_rate_rps,
        &mut loaded.decode_completion_rate_rps,
        &mut loaded.prefill_unserved_rate_rps,
        &mut loaded.gateway_arrival_rate_rps,
        &mut loaded.arrival_rate_rps_override,
        &mut loaded.prefill_queue_growth_rps,
        &mut loaded.prefill_queue_drain_rps,
        &mut loaded.output_token_rate_tps,
        &mut loaded.decode_preemption_rate_rps,
        &mut loaded.waiting_requests.prefill,
        &mut loaded.waiting_requests.decode,
        &mut loaded.decode_deferred_requests,
        &mut loaded.wake_requests,
    ] {
        *reading = more(*reading);
    }
    // As many times as tokens.
    for times in [
        &mut loaded.recent.inter_token_latency,
        &mut loaded.wide.inter_token_latency,
    ] {
        if let HistogramReading::Value(histogram) = times {
            *histogram = histogram.clone().times(factor);
        }
    }
    if let Reading::Value(usage) = loaded.decode_kv_usage {
        // A cache that is fuller than full is no plausible reading; one that was so stays so.
        loaded.decode_kv_usage = Reading::Value((usage * factor).min(usage.max(1.0)));
    }
    loaded
}
