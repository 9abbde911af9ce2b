//! Builders for tests: a service that is healthy, of which a test changes its subject.

pub(crate) mod any;
pub(crate) mod world;

use std::time::Duration;

use crate::{
    histogram::Histogram,
    policy::{
        AttainmentTarget, Behavior, Bounds, Coefficients, LatencyTarget, LeadPolicy, Objective,
        OnMissingMetrics, PPM_PER_PERCENT, Policy, ScalingRules, SelectPolicy,
    },
    role::PerRole,
    role_state::RoleState,
    signal::{Coverage, Distributions, HistogramReading, Reading, Signals},
    snapshot::{Paused, Snapshot},
};

/// No ratio, no budget, 1 to 32 replicas, TTFT 500 ms and TPOT 50 ms at p95, a window of 300 s
/// down.
pub(crate) fn policy() -> Policy {
    let bounds = Bounds {
        min_replicas: 1,
        max_replicas: 32,
    };
    let limit = |millis| LatencyTarget {
        limit: Duration::from_millis(millis),
        percentile: 95,
    };
    Policy {
        bounds: PerRole {
            prefill: bounds,
            decode: bounds,
        },
        objective: Objective {
            ttft: limit(500),
            tpot: limit(50),
            attainment: AttainmentTarget {
                percent: 99,
                window: Duration::from_hours(1),
            },
        },
        ratio: None,
        budget_gpus: None,
        behavior: Behavior {
            scale_up: rules(0, 0),
            scale_down: rules(300, 10),
            drain_timeout: None,
        },
        on_missing_metrics: OnMissingMetrics::Hold,
        schedules: Vec::new(),
        scale_to_zero: None,
        lead: LeadPolicy {
            assumed: Duration::from_mins(2),
            stuck_after: Duration::from_mins(10),
        },
        operating_points: None,
        coefficients: Coefficients::default(),
    }
}

/// Rules without rate policies.
pub(crate) fn rules(window_seconds: u64, tolerance_percent: u32) -> ScalingRules {
    ScalingRules {
        stabilization_window: Duration::from_secs(window_seconds),
        tolerance_ppm: tolerance_percent * PPM_PER_PERCENT,
        select: SelectPolicy::Max,
        policies: vec![],
    }
}

/// A role whose replicas all serve, with 4 GPUs each.
pub(crate) fn serving(replicas: u32) -> RoleState {
    RoleState {
        current: replicas,
        ready: replicas,
        gpus_per_replica: 4,
        ..RoleState::default()
    }
}

/// `count` observations whose mean is `mean`, all in one bucket around it.
pub(crate) fn around(mean: f64, count: f64) -> HistogramReading {
    let buckets = vec![(mean * 0.9, 0.0), (mean * 1.1, count), (mean * 10.0, count)];
    Histogram::from_cumulative(buckets, count, mean * count)
        .map_or(HistogramReading::default(), HistogramReading::Value)
}

/// A load, from which signals follow as engines would show them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) rate_rps: f64,
    pub(crate) prefill_seconds: f64,
    pub(crate) output_tokens: f64,
}

/// A service of `prefill`:`decode` replicas under `load`, all scraped; a decode step takes 8 ms and
/// 0.2 ms more per request in the batch.
pub(crate) fn snapshot(prefill: u32, decode: u32, load: Load) -> Snapshot {
    let tokens_per_second = load.rate_rps * load.output_tokens;
    let decoders = f64::from(decode.max(1));
    // batch = tokens/s per worker * itl(batch), itl = 0.008 + 0.0002 batch.
    let per_worker = tokens_per_second / decoders;
    let batch = 0.008 * per_worker / (1.0 - 0.000_2 * per_worker).max(0.05);
    let itl = 0.008 + 0.000_2 * batch;
    let requests = load.rate_rps * 60.0;
    let distributions = Distributions {
        prefill_ttft: around(load.prefill_seconds * 1.2, requests),
        decode_ttft: around(0.02, requests),
        prefill_time: around(load.prefill_seconds, requests),
        prefill_step_tokens: around(1_000.0, requests),
        prompt_tokens: around(1_000.0, requests),
        output_tokens: around(load.output_tokens, requests),
        tpot: around(itl, requests),
        inter_token_latency: around(itl, tokens_per_second * 60.0),
        ..Distributions::default()
    };
    let covered = |scraped| Coverage {
        scraped,
        seen: scraped,
        oldest_age: Some(Duration::from_secs(5)),
    };
    Snapshot {
        policy: policy(),
        roles: PerRole {
            prefill: serving(prefill),
            decode: serving(decode),
        },
        signals: Signals {
            coverage: PerRole {
                prefill: covered(prefill),
                decode: covered(decode),
            },
            rate_window: Duration::from_mins(1),
            prefill_completion_rate_rps: Reading::of(load.rate_rps),
            decode_completion_rate_rps: Reading::of(load.rate_rps),
            prefill_queue_growth_rps: Reading::KnownZero,
            prefill_queue_drain_rps: Reading::KnownZero,
            waiting_requests: PerRole {
                prefill: Reading::KnownZero,
                decode: Reading::KnownZero,
            },
            running_requests: PerRole {
                prefill: Reading::of(load.rate_rps * load.prefill_seconds),
                decode: Reading::of(batch * decoders),
            },
            arrival_dispersion: Reading::of(1.0),
            requests_peak: PerRole {
                prefill: Reading::of(load.rate_rps * load.prefill_seconds * 2.0),
                decode: Reading::of(batch * decoders * 1.2),
            },
            decode_deferred_requests: Reading::KnownZero,
            prefix_hit_share: Reading::KnownZero,
            decode_kv_usage: Reading::of(0.2),
            decode_kv_capacity_tokens: Reading::of(400_000.0),
            decode_preemption_rate_rps: Reading::KnownZero,
            output_token_rate_tps: Reading::of(tokens_per_second),
            recent: distributions.clone(),
            wide: distributions,
            prefill_ttft_attainment: around(load.prefill_seconds * 1.2, requests),
            decode_ttft_attainment: around(0.02, requests),
            tpot_attainment: around(itl, requests),
            ..Signals::default()
        },
        paused: Paused::default(),
        profile: None,
    }
}

/// A stream of numbers in 0..1 that is the same on every machine (splitmix64).
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `(value, share)`, shares summing to 1.
    pub(crate) fn of(&mut self, values: &[(f64, f64)]) -> f64 {
        let mut pick = self.next();
        let found = values.iter().find(|(_, share)| {
            pick -= share;
            pick <= 0.0
        });
        found.or(values.last()).unwrap().0
    }
}
