//! Strategies for whatever a decision may be given: policies that the API accepts, and workloads
//! and signals of any kind, sane or not.
//!
//! A snapshot starts as a service under some load, so that decisions go through all their stages,
//! and then some of its signals are put out of order: unknown, not a number, negative, huge, in the
//! wrong unit. Policies that the API refuses (a maximum below the minimum, 17 schedules) are not
//! generated.

use std::time::Duration;

use proptest::{prelude::*, sample::select};

use crate::{
    capacity::{
        DecodeModel, PrefillModel, Profile,
        coefficients::{DecodeCoefficients, PrefillCoefficients},
        table::{DecodeTable, PrefillTable},
    },
    histogram::Histogram,
    operating_point::OperatingPoint,
    policy::{
        Bounds, ChangeLimit, Enforcement, OnMissingMetrics, OperatingPoints, PPM_PER_PERCENT,
        Policy, RatePolicy, RatioPolicy, ScalingRules, SelectPolicy,
    },
    ratio::{Ratio, RatioBand},
    role::PerRole,
    role_state::{RoleState, StuckCause},
    schedule::{Schedule, ScheduledBounds},
    signal::{Gap, HistogramReading, Reading, Signals, name::SlotMut},
    snapshot::{Paused, Snapshot},
    testing::{self, Load},
    zero::ScaleToZero,
};

/// Largest `maxReplicas` generated.
const MAX_REPLICAS: u32 = 40;

/// Any snapshot.
pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let parts = (
        policy(),
        (role_state(), role_state()),
        load(),
        disorder(),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
        prop::option::weighted(0.3, profile()),
    );
    parts.prop_map(|(policy, roles, load, disorder, paused, profile)| {
        let healthy = testing::snapshot(roles.0.ready, roles.1.ready, load);
        let mut snapshot = Snapshot {
            policy,
            roles: PerRole {
                prefill: roles.0,
                decode: roles.1,
            },
            paused: Paused {
                scale_up: paused.0,
                scale_down: paused.1,
            },
            profile,
            ..healthy
        };
        disorder.apply(&mut snapshot.signals);
        snapshot
    })
}

/// A load that some of the pools generated can carry and others cannot; sometimes none.
fn load() -> impl Strategy<Value = Load> {
    let rate = prop_oneof![1 => Just(0.0), 9 => 0.0f64..200.0];
    (rate, 0.001f64..3.0, 1.0f64..3_000.0).prop_map(|(rate_rps, prefill_seconds, output_tokens)| {
        Load {
            rate_rps,
            prefill_seconds,
            output_tokens,
        }
    })
}

pub(crate) fn role_state() -> impl Strategy<Value = RoleState> {
    let replicas = prop_oneof![1 => Just(0u32), 8 => 0u32..MAX_REPLICAS];
    let steady = (replicas, 0u32..9).prop_map(|(current, gpus_per_replica)| RoleState {
        current,
        ready: current,
        gpus_per_replica,
        ..RoleState::default()
    });
    let moving = (
        steady.clone(),
        0..MAX_REPLICAS,
        0u32..9,
        0u32..5,
        prop::option::of((0u32..12, cause())),
        any::<bool>(),
    )
        .prop_map(
            |(steady, ready, starting, terminating, stuck, rolling_out)| RoleState {
                ready,
                starting,
                terminating,
                stuck,
                rolling_out,
                ..steady
            },
        );
    prop_oneof![steady, moving]
}

fn cause() -> impl Strategy<Value = StuckCause> {
    select(vec![
        StuckCause::Unschedulable,
        StuckCause::QuotaExceeded,
        StuckCause::ImagePull,
        StuckCause::CrashLoop,
        StuckCause::CreateFailed,
    ])
}

/// Any policy that the API accepts.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let limits = (
        (bounds(), bounds()),
        prop::option::weighted(0.4, 0u32..400),
        prop::option::weighted(0.4, ratio()),
        prop::option::weighted(0.2, operating_points()),
    );
    let times = (
        prop::collection::vec(schedule(), 0..3),
        prop::option::weighted(0.3, (1u64..900).prop_map(Duration::from_secs)),
        (rules(), rules()),
        on_missing_metrics(),
        prop::option::weighted(0.3, (0u64..1_800).prop_map(Duration::from_secs)),
    );
    let objective = (50u64..20_000, 5u64..200, 50u8..=99, 1u8..=100);
    (limits, times, objective).prop_map(|(limits, times, objective)| {
        let mut policy = testing::policy();
        (policy.bounds.prefill, policy.bounds.decode) = limits.0;
        policy.budget_gpus = limits.1;
        // The API takes a ratio band or operating points, not both.
        policy.ratio = limits.2.filter(|_| limits.3.is_none());
        policy.operating_points = limits.3;
        policy.schedules = times.0;
        policy.scale_to_zero = times.1.map(|idle_after| ScaleToZero { idle_after });
        (policy.behavior.scale_up, policy.behavior.scale_down) = times.2;
        policy.on_missing_metrics = times.3;
        policy.behavior.drain_timeout = times.4;
        let (ttft, tpot, percentile, attainment) = objective;
        policy.objective.ttft.limit = Duration::from_millis(ttft);
        policy.objective.tpot.limit = Duration::from_millis(tpot);
        policy.objective.ttft.percentile = percentile;
        policy.objective.attainment.percent = attainment;
        policy
    })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1u32..6, 0..MAX_REPLICAS).prop_map(|(min_replicas, more)| Bounds {
        min_replicas,
        max_replicas: min_replicas + more,
    })
}

fn enforcement() -> impl Strategy<Value = Enforcement> {
    select(vec![Enforcement::Soft, Enforcement::Hard])
}

fn ratio() -> impl Strategy<Value = RatioPolicy> {
    let band = (1u32..5, 1u32..5, 0u8..60, enforcement());
    band.prop_filter_map("no ratio", |(p, d, tolerance_percent, enforcement)| {
        Some(RatioPolicy {
            band: RatioBand::around(Ratio::new(p, d)?, tolerance_percent),
            enforcement,
        })
    })
}

fn operating_points() -> impl Strategy<Value = OperatingPoints> {
    let point = (1u32..5, 1u32..5, 10.0f64..1e5, 1.0f64..1e4);
    let points = prop::collection::vec(point, 1..5).prop_map(|points| {
        let named = points.into_iter().enumerate();
        named
            .map(
                |(index, (prefill, decode, input_tokens, output_tokens))| OperatingPoint {
                    name: format!("point-{index}"),
                    prefill,
                    decode,
                    input_tokens,
                    output_tokens,
                    request_rate_rps: None,
                },
            )
            .collect::<Vec<_>>()
    });
    (points, 0u8..60, enforcement()).prop_map(|(points, tolerance_percent, enforcement)| {
        OperatingPoints {
            points,
            tolerance_percent,
            enforcement,
        }
    })
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let crons = vec!["*/10 * * * *", "0 8-18 * * 1-5", "30 2 * * *", "15 * * * *"];
    let zones = vec!["UTC", "Europe/Berlin", "Asia/Kolkata"];
    let bound = || prop::option::of(1u32..30);
    let bounds = || (bound(), bound());
    let parts = (
        select(crons),
        select(zones),
        60u64..90_000,
        bounds(),
        bounds(),
    );
    parts.prop_filter_map("no schedule", |(cron, zone, seconds, prefill, decode)| {
        let of = |(min_replicas, max_replicas)| ScheduledBounds {
            min_replicas,
            max_replicas,
        };
        Some(Schedule {
            cron: cron.parse().ok()?,
            time_zone: zone.parse().ok()?,
            duration: Duration::from_secs(seconds),
            replicas: PerRole {
                prefill: of(prefill),
                decode: of(decode),
            },
        })
    })
}

fn rules() -> impl Strategy<Value = ScalingRules> {
    let change = prop_oneof![
        (1u32..9).prop_map(ChangeLimit::Replicas),
        (1u32..200).prop_map(ChangeLimit::Percent)
    ];
    let policy = (change, 15u64..1_800).prop_map(|(change, seconds)| RatePolicy {
        change,
        period: Duration::from_secs(seconds),
    });
    let selected = vec![SelectPolicy::Max, SelectPolicy::Min, SelectPolicy::Disabled];
    (
        0u64..900,
        0u32..50,
        select(selected),
        prop::collection::vec(policy, 0..3),
    )
        .prop_map(
            |(window, tolerance_percent, select, policies)| ScalingRules {
                stabilization_window: Duration::from_secs(window),
                tolerance_ppm: tolerance_percent * PPM_PER_PERCENT,
                select,
                policies,
            },
        )
}

fn on_missing_metrics() -> impl Strategy<Value = OnMissingMetrics> {
    let fallback = (1u32..20, 1u32..20, 15u64..600);
    prop_oneof![
        Just(OnMissingMetrics::Hold),
        fallback.prop_map(|(prefill, decode, seconds)| OnMissingMetrics::Fallback {
            replicas: PerRole { prefill, decode },
            after: Duration::from_secs(seconds),
        }),
    ]
}

/// Any profile that is valid, of both roles or of one.
pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    (whole_profile(), 0u8..6).prop_map(|(mut profile, part)| {
        match part {
            0 => profile.prefill = None,
            1 => profile.decode = None,
            _ => {}
        }
        profile
    })
}

fn whole_profile() -> impl Strategy<Value = Profile> {
    let times = (0.0f64..0.05, 1e-6f64..1e-3, 0.0f64..1e-8);
    let steps = (1e-3f64..0.03, 0.0f64..1e-3, 0.0f64..1e-7);
    let parts = (times, steps, any::<bool>(), 1e3f64..1e7, 1u32..2_000);
    parts.prop_filter_map("no profile", |(times, steps, tables, tokens, batch)| {
        let prefill = PrefillCoefficients {
            base_seconds: times.0,
            seconds_per_token: times.1,
            seconds_per_token_squared: times.2,
        };
        let decode = DecodeCoefficients {
            base_seconds: steps.0,
            seconds_per_request: steps.1,
            seconds_per_context_token: steps.2,
        };
        let coefficients = Profile {
            prefill: Some(PrefillModel::Coefficients(prefill)),
            decode: Some(DecodeModel::Coefficients(decode)),
            kv_capacity_tokens: Some(tokens),
            batch_max: Some(batch),
        };
        if !tables {
            return Some(coefficients);
        }
        let sizes = [128.0, 1_024.0, 8_192.0, 65_536.0];
        let prefill = sizes.map(|tokens| (tokens, prefill.seconds(tokens, 0.0)));
        let curve = |context: f64| {
            let batches = [1.0, 8.0, 64.0, 512.0];
            let points = batches.map(|batch| (batch, decode.itl_seconds(batch, context)));
            (context, points.to_vec())
        };
        Some(Profile {
            prefill: Some(PrefillModel::Table(
                PrefillTable::new(prefill.to_vec(), times.2).ok()?,
            )),
            decode: Some(DecodeModel::Table(
                DecodeTable::new(vec![curve(512.0), curve(4_096.0)]).ok()?,
            )),
            ..coefficients
        })
    })
}

/// Faults of the signals.
#[derive(Clone, Debug)]
struct Disorder {
    /// Workers scraped and seen, of both roles, where they are not all.
    coverage: Option<[u32; 4]>,
    /// Numbers by their place, and their replacements.
    numbers: Vec<(usize, Reading)>,
    /// Distributions by their place, and their replacements in the short window, the long one or
    /// both.
    distributions: Vec<(usize, u8, HistogramReading)>,
    /// A factor on every latency, as when milliseconds pass for seconds.
    unit: Option<f64>,
    /// Nothing is known.
    dark: bool,
}

fn disorder() -> impl Strategy<Value = Disorder> {
    let distribution = (0usize..9, 0u8..3, histogram());
    (
        prop::option::weighted(0.3, prop::array::uniform4(0..MAX_REPLICAS)),
        prop::collection::vec((0usize..20, reading()), 0..5),
        prop::collection::vec(distribution, 0..4),
        prop_oneof![9 => Just(None), 1 => Just(Some(1_000.0)), 1 => Just(Some(1e-3))],
        prop::bool::weighted(0.1),
    )
        .prop_map(|(coverage, numbers, distributions, unit, dark)| Disorder {
            coverage,
            numbers,
            distributions,
            unit,
            dark,
        })
}

impl Disorder {
    fn apply(self, signals: &mut Signals) {
        if self.dark {
            *signals = Signals::default();
        }
        if let Some([a, b, c, d]) = self.coverage {
            let coverage = &mut signals.coverage;
            (coverage.prefill.scraped, coverage.prefill.seen) = (a.min(b), b);
            (coverage.decode.scraped, coverage.decode.seen) = (c.min(d), d);
        }
        for (index, replacement) in self.numbers {
            let name = signals.numbers().nth(index).map(|(name, _)| name);
            if let Some(SlotMut::Number(reading)) = name.map(|name| signals.slot_mut(name)) {
                *reading = replacement;
            }
        }
        let Self { unit, .. } = self;
        for window in [&mut signals.recent, &mut signals.wide] {
            for latency in [&mut window.prefill_ttft, &mut window.inter_token_latency] {
                if let HistogramReading::Value(histogram) = latency
                    && let Some(unit) = unit
                    && let Some(mean) = histogram.mean()
                {
                    *latency = testing::around(mean * unit, histogram.count());
                }
            }
        }
        for (index, which, replacement) in self.distributions {
            let windows = &mut signals.recent;
            let wide = &mut signals.wide;
            for window in match which {
                0 => vec![windows],
                1 => vec![wide],
                _ => vec![windows, wide],
            } {
                let place = match index {
                    0 => &mut window.prefill_ttft,
                    1 => &mut window.decode_ttft,
                    2 => &mut window.prefill_time,
                    3 => &mut window.prompt_tokens,
                    4 => &mut window.output_tokens,
                    5 => &mut window.tpot,
                    _ => &mut window.inter_token_latency,
                };
                *place = replacement.clone();
            }
            match index {
                7 => signals.prefill_ttft_attainment = replacement,
                8 => signals.tpot_attainment = replacement,
                _ => {}
            }
        }
    }
}

/// Any reading, made as observers make them or put together by hand.
pub(crate) fn reading() -> impl Strategy<Value = Reading> {
    let gaps = vec![
        Gap::QueryFailed,
        Gap::Empty,
        Gap::Stale,
        Gap::NotANumber,
        Gap::NotAsked,
    ];
    prop_oneof![
        2 => Just(Reading::KnownZero),
        3 => select(gaps).prop_map(Reading::Unknown),
        6 => (0.0f64..1e3).prop_map(Reading::Value),
        3 => (0.0f64..1.2).prop_map(Reading::Value),
        1 => select(vec![f64::NAN, f64::INFINITY, -1.0, 1e308, 1e-308, 5e6]).prop_map(Reading::Value),
    ]
}

/// Any histogram reading: narrow or as wide as engines publish, empty, and with absurd numbers.
pub(crate) fn histogram() -> impl Strategy<Value = HistogramReading> {
    let scale = prop_oneof![1e-4f64..1e2, 1.0f64..1e5, Just(1e300)];
    let buckets = prop::collection::vec(0.0f64..500.0, 1..20);
    let known = (scale, buckets, 0.0f64..2.0).prop_map(|(scale, counts, sum)| {
        let mut total = 0.0;
        let mut edge = scale;
        let mut cumulative = Vec::new();
        for count in counts {
            total += count;
            cumulative.push((edge, total));
            edge *= 1.7;
        }
        Histogram::from_cumulative(cumulative, total, sum * scale * total)
            .map_or(HistogramReading::default(), HistogramReading::Value)
    });
    prop_oneof![
        4 => known,
        1 => Just(HistogramReading::Unknown(Gap::Empty)),
        1 => Just(testing::around(0.0, 0.0)),
    ]
}
