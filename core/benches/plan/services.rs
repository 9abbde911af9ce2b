//! Services to decide about: a usual one, and one of which everything is as large as it may be.
//!
//! For the bench and for the test that counts allocations. Numbers follow from a rate and a time of
//! day, so that every run decides about the same.

use std::time::Duration;

use pd_core::{
    Memory, PerRole, Reading, RoleState, Signals, Snapshot, Timestamp,
    capacity::{
        DecodeModel, PrefillModel, Profile,
        table::{DecodeTable, PrefillTable},
    },
    histogram::Histogram,
    operating_point::OperatingPoint,
    plan,
    policy::{
        AttainmentTarget, Behavior, Bounds, ChangeLimit, Coefficients, Enforcement, LatencyTarget,
        LeadPolicy, Objective, OnMissingMetrics, OperatingPoints, PPM_PER_PERCENT, Policy,
        RatePolicy, ScalingRules, SelectPolicy,
    },
    schedule::{Schedule, ScheduledBounds},
    signal::{Coverage, Distributions, HistogramReading},
    snapshot::Paused,
};

/// Time between two decisions.
const TICK: Duration = Duration::from_secs(15);

/// When decisions begin.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn rules(window: Duration, tolerance_percent: u32, percent: u32) -> ScalingRules {
    ScalingRules {
        stabilization_window: window,
        tolerance_ppm: tolerance_percent * PPM_PER_PERCENT,
        select: SelectPolicy::Max,
        policies: vec![
            RatePolicy {
                change: ChangeLimit::Percent(percent),
                period: Duration::from_mins(1),
            },
            RatePolicy {
                change: ChangeLimit::Replicas(4),
                period: Duration::from_mins(1),
            },
        ],
    }
}

fn policy(max_replicas: u32) -> Policy {
    let bounds = Bounds {
        min_replicas: 1,
        max_replicas,
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
            ttft: limit(2_000),
            tpot: limit(50),
            attainment: AttainmentTarget {
                percent: 99,
                window: Duration::from_hours(1),
            },
        },
        ratio: None,
        budget_gpus: None,
        behavior: Behavior {
            scale_up: rules(Duration::ZERO, 0, 100),
            scale_down: rules(Duration::from_mins(5), 10, 10),
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

/// Observations in 20 buckets around `mean`, with a long tail.
fn spread(mean: f64, count: f64) -> HistogramReading {
    let mut total = 0.0;
    let buckets = (0..20).map(|index| {
        let edge = mean * 0.05 * 1.4_f64.powi(index);
        let share = (-(edge / mean - 0.9).powi(2)).exp();
        total += share;
        (edge, total)
    });
    let buckets: Vec<_> = buckets.collect();
    let scaled = buckets
        .into_iter()
        .map(|(edge, n)| (edge, n / total * count));
    Histogram::from_cumulative(scaled.collect(), count, mean * count)
        .map_or(HistogramReading::default(), HistogramReading::Value)
}

fn signals(rate_rps: f64, replicas: PerRole<u32>) -> Signals {
    let (prefill_seconds, output_tokens, itl) = (0.2, 300.0, 0.02);
    let requests = rate_rps * 60.0;
    let distributions = Distributions {
        prefill_ttft: spread(prefill_seconds * 1.2, requests),
        decode_ttft: spread(0.02, requests),
        prefill_time: spread(prefill_seconds, requests),
        prefill_step_tokens: spread(2_000.0, requests),
        prompt_tokens: spread(2_000.0, requests),
        output_tokens: spread(output_tokens, requests),
        tpot: spread(itl, requests),
        inter_token_latency: spread(itl, requests * output_tokens),
        ..Distributions::default()
    };
    let covered = replicas.map(|scraped| Coverage {
        scraped,
        seen: scraped,
        oldest_age: Some(Duration::from_secs(5)),
    });
    let running = PerRole {
        prefill: Reading::of(rate_rps * prefill_seconds),
        decode: Reading::of(rate_rps * output_tokens * itl),
    };
    Signals {
        coverage: covered,
        rate_window: Duration::from_mins(1),
        prefill_completion_rate_rps: Reading::of(rate_rps),
        decode_completion_rate_rps: Reading::of(rate_rps),
        prefill_queue_growth_rps: Reading::KnownZero,
        prefill_queue_drain_rps: Reading::KnownZero,
        waiting_requests: PerRole {
            prefill: Reading::of(1.0),
            decode: Reading::KnownZero,
        },
        running_requests: running,
        arrival_dispersion: Reading::of(1.6),
        requests_peak: running,
        decode_deferred_requests: Reading::KnownZero,
        prefix_hit_share: Reading::of(0.3),
        decode_kv_usage: Reading::of(0.4),
        decode_kv_capacity_tokens: Reading::of(400_000.0),
        decode_preemption_rate_rps: Reading::KnownZero,
        output_token_rate_tps: Reading::of(rate_rps * output_tokens),
        recent: distributions.clone(),
        wide: distributions,
        prefill_ttft_attainment: spread(prefill_seconds * 1.2, requests * 60.0),
        decode_ttft_attainment: spread(0.02, requests * 60.0),
        tpot_attainment: spread(itl, requests * 60.0),
        ..Signals::default()
    }
}

fn service(policy: Policy, rate_rps: f64, replicas: PerRole<u32>) -> Snapshot {
    Snapshot {
        policy,
        roles: replicas.map(|count| RoleState {
            current: count,
            ready: count,
            gpus_per_replica: 4,
            ..RoleState::default()
        }),
        signals: signals(rate_rps, replicas),
        paused: Paused::default(),
        profile: None,
    }
}

/// A service of some ten replicas without a profile, at most 32 of each role.
pub(crate) fn typical(rate_rps: f64) -> Snapshot {
    let replicas = PerRole {
        prefill: 6,
        decode: 4,
    };
    service(policy(32), rate_rps, replicas)
}

/// Everything as large as it may be: profile tables, 16 schedules, 32 operating points, up to 1,000
/// replicas of each role, and a budget that is too short for the need.
pub(crate) fn worst(rate_rps: f64) -> Snapshot {
    let replicas = PerRole {
        prefill: 300,
        decode: 300,
    };
    let mut policy = policy(1_000);
    policy.budget_gpus = Some(2_400);
    policy.schedules = (0..16).filter_map(schedule).collect();
    policy.operating_points = Some(OperatingPoints {
        points: (1..=32).map(operating_point).collect(),
        tolerance_percent: 20,
        enforcement: Enforcement::Soft,
    });
    Snapshot {
        profile: profile(),
        ..service(policy, rate_rps, replicas)
    }
}

fn schedule(index: u32) -> Option<Schedule> {
    let bounds = ScheduledBounds {
        min_replicas: Some(1 + index),
        max_replicas: Some(1_000 - index),
    };
    Some(Schedule {
        cron: format!("{} {} * * 1-5", index * 3, index).parse().ok()?,
        time_zone: "Europe/Berlin".parse().ok()?,
        duration: Duration::from_hours(24 * 7),
        replicas: PerRole {
            prefill: bounds,
            decode: bounds,
        },
    })
}

fn operating_point(index: u32) -> OperatingPoint {
    OperatingPoint {
        name: format!("point-{index}"),
        prefill: 1 + index % 4,
        decode: 1 + index % 5,
        input_tokens: 100.0 * f64::from(index),
        output_tokens: 30.0 * f64::from(index),
        request_rate_rps: None,
    }
}

fn profile() -> Option<Profile> {
    let prefill = (1..=64).map(|n| {
        let tokens = f64::from(n) * 512.0;
        (tokens, 0.02 + tokens * 8e-5)
    });
    let curve = |context: u32| {
        let context = f64::from(context) * 1_024.0;
        let points = (0..32).map(|index| {
            let batch = f64::from(1 + index * 8);
            (batch, 0.01 + batch * 5e-5 + batch * context * 1e-9)
        });
        (context, points.collect())
    };
    Some(Profile {
        prefill: Some(PrefillModel::Table(
            PrefillTable::new(prefill.collect(), 1e-9).ok()?,
        )),
        decode: Some(DecodeModel::Table(
            DecodeTable::new((1..=16).map(curve).collect()).ok()?,
        )),
        kv_capacity_tokens: Some(500_000.0),
        batch_max: Some(256),
    })
}

/// The memory of a day of decisions on `service`, by its rate, and the moment after it.
pub(crate) fn after_a_day(service: impl Fn(f64) -> Snapshot, rate_rps: f64) -> (Memory, Timestamp) {
    let (mut memory, mut now) = (Memory::default(), START);
    for tick in 0..5_760_u32 {
        let daily = (f64::from(tick) / 5_760.0 * std::f64::consts::TAU).sin();
        // A remainder makes noise that is the same in every run.
        let noise = f64::from((tick * 37) % 23) / 230.0;
        let snapshot = service(rate_rps * (1.0 + 0.5 * daily + noise));
        memory = plan(&snapshot, &memory, now).memory;
        now = now.plus(TICK);
    }
    (memory, now)
}
