//! A short random world from a seed: a service, its limits, its load, and what goes wrong in it.
//!
//! Faults strike in the first half and have ended, and the load is steady, in the last part, so
//! that recovery can be seen there. Limits are drawn tight, but leave room for the load.

use pd_core::policy::{Bounds, Enforcement, RatioPolicy};
use pd_core::ratio::RatioBand;
use pd_core::{PerRole, Ratio, Role};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::engine::Profile;
use crate::fault::{Effect, Fault};
use crate::lifecycle::{Lifecycle, Parts, Spread};
use crate::scenario::Scenario;
use crate::time::{MINUTE, Nanos, SECOND};
use crate::traffic::{Curve, Load};
use crate::world::Setup;

/// Length of a run.
pub(super) const LENGTH: Nanos = 60 * MINUTE;

/// All faults have ended by then.
pub(super) const FAULTS_END: Nanos = 25 * MINUTE;

/// GPUs of a replica.
const GPUS: u32 = 4;

#[derive(Debug)]
pub(super) struct Case {
    pub(super) setup: Setup,
    pub(super) curve: Curve,
}

/// The case of a seed.
pub(super) fn case(seed: u64) -> Case {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let profile = profile(&mut rng);
    let steady = load(&mut rng);
    let needed = needed(&profile, &steady);
    let mut policy = Scenario::default().policy().clone();
    policy.bounds = needed.map(|needed| {
        let min_replicas = rng.random_range(1..=needed);
        Bounds {
            min_replicas,
            max_replicas: needed * 2 + rng.random_range(1..=8),
        }
    });
    policy.ratio = rng.random_bool(0.4).then(|| ratio(&mut rng, needed));
    let roomy = (needed.prefill + needed.decode) * 2 + 2;
    policy.budget_gpus = rng
        .random_bool(0.4)
        .then(|| (roomy + rng.random_range(0..6)) * GPUS);
    let lifecycle = lifecycle(&mut rng, roomy);
    let count = rng.random_range(0..=4);
    let faults = (0..count).map(|_| fault(&mut rng)).collect();
    let setup = Setup {
        gpus_per_replica: PerRole::from_fn(|_| GPUS),
        replicas_at_start: PerRole::from_fn(|role| {
            let bounds = &policy.bounds[role];
            (needed[role]).clamp(bounds.min_replicas, bounds.max_replicas)
        }),
        lifecycle,
        faults,
        seed,
        ..Setup::new(policy, profile, LENGTH)
    };
    Case {
        curve: curve(&mut rng, steady),
        setup,
    }
}

fn profile(rng: &mut ChaCha8Rng) -> Profile {
    let lead = f64::from(rng.random_range(10..180));
    Profile {
        prefill_startup_seconds: lead,
        decode_startup_seconds: lead,
        ..Profile::default()
    }
}

/// The load that the run ends with.
fn load(rng: &mut ChaCha8Rng) -> Load {
    Load {
        requests_per_second: rng.random_range(1.0..12.0),
        input_tokens_mean: rng.random_range(200.0..1_200.0),
        output_tokens_mean: rng.random_range(20.0..250.0),
        input_tokens_cv: rng.random_range(0.0..1.0),
        output_tokens_cv: rng.random_range(0.0..1.0),
    }
}

/// Replicas that serve a load at half of what they can do.
fn needed(profile: &Profile, load: &Load) -> PerRole<u32> {
    let prompt = (profile.prefill_base_milliseconds
        + profile.prefill_milliseconds_per_kilotoken * load.input_tokens_mean * 1e-3)
        * 1e-3;
    let prefill = load.requests_per_second * prompt / 0.5;
    let answering = load.requests_per_second * load.output_tokens_mean * 0.015;
    let at_least = |replicas: f64| {
        (1..u32::MAX)
            .find(|count| f64::from(*count) > replicas)
            .unwrap()
    };
    PerRole {
        prefill: at_least(prefill) + 1,
        decode: at_least(answering / 100.0) + 1,
    }
}

/// A band that the needed replicas are well within.
fn ratio(rng: &mut ChaCha8Rng, needed: PerRole<u32>) -> RatioPolicy {
    let lowest = Ratio::new(needed.prefill, needed.decode * 4);
    let highest = Ratio::new(needed.prefill * 4, needed.decode);
    RatioPolicy {
        band: RatioBand {
            lowest: lowest.unwrap(),
            highest: highest.unwrap(),
            tolerance_percent: rng.random_range(0..30),
        },
        enforcement: if rng.random_bool(0.5) {
            Enforcement::Hard
        } else {
            Enforcement::Soft
        },
    }
}

fn lifecycle(rng: &mut ChaCha8Rng, roomy: u32) -> Lifecycle {
    let seconds = |rng: &mut ChaCha8Rng, most: u64| rng.random_range(0..=most) * SECOND;
    let mut part = |most: f64| Spread {
        mean_seconds: rng.random_range(0.1..most),
        cv: rng.random_range(0.0..1.0),
    };
    let parts = Parts {
        schedule: part(5.0),
        image_pull: part(60.0),
        weight_load: part(60.0),
        warm_up: part(40.0),
    };
    Lifecycle {
        start: PerRole::from_fn(|_| rng.random_bool(0.7).then_some(parts)),
        readiness_period: seconds(rng, 20),
        endpoint_delay: seconds(rng, 10),
        grace: None,
        gpus: rng
            .random_bool(0.3)
            .then(|| (roomy + rng.random_range(0..4)) * GPUS),
        ..Lifecycle::default()
    }
}

fn fault(rng: &mut ChaCha8Rng) -> Fault {
    let effect = match rng.random_range(0..9) {
        0 => Effect::Crash,
        1 => Effect::StartFailure(rng.random_range(0.2..=1.0)),
        2 => Effect::ImagePullFailure,
        3 => Effect::NodeFailure,
        4 => Effect::SpotReclaim {
            notice: rng.random_range(0..=120) * SECOND,
        },
        5 => Effect::GpuScarcity(rng.random_range(0..40)),
        6 => Effect::Slowdown(rng.random_range(0.6..1.8)),
        7 => Effect::ScrapeLoss(rng.random_range(0.05..=1.0)),
        _ => Effect::PrometheusOutage,
    };
    let at = rng.random_range(0..20) * MINUTE + rng.random_range(0..60) * SECOND;
    Fault {
        effect,
        at,
        every: None,
        lasts: Some((rng.random_range(10..600) * SECOND).min(FAULTS_END - at)),
        role: match rng.random_range(0..4) {
            0 => Some(Role::Prefill),
            1 => Some(Role::Decode),
            _ => None,
        },
        share: rng.random_range(0.0..=1.0),
    }
}

/// Some way to the steady load, which holds from the end of the faults on.
fn curve(rng: &mut ChaCha8Rng, steady: Load) -> Curve {
    let times = |factor: f64| Load {
        requests_per_second: steady.requests_per_second * factor,
        ..steady
    };
    let before = match rng.random_range(0..5) {
        0 => vec![(0, steady)],
        1 => vec![(0, times(rng.random_range(0.1..1.0)))],
        2 => {
            let at = rng.random_range(2..20) * MINUTE;
            let burst = times(rng.random_range(1.2..2.0));
            vec![
                (0, steady),
                (at, steady),
                (at + SECOND, burst),
                (at + 3 * MINUTE, burst),
                (at + 3 * MINUTE + SECOND, steady),
            ]
        }
        3 => {
            let at = rng.random_range(2..10) * MINUTE;
            vec![
                (0, steady),
                (at, steady),
                (at + SECOND, times(0.0)),
                (at + 10 * MINUTE, times(0.0)),
                (at + 10 * MINUTE + SECOND, steady),
            ]
        }
        _ => {
            let other = Load {
                input_tokens_mean: steady.input_tokens_mean * rng.random_range(0.3..1.2),
                output_tokens_mean: steady.output_tokens_mean * rng.random_range(0.3..1.5),
                ..steady
            };
            vec![(0, other)]
        }
    };
    let mut points = before;
    points.push((FAULTS_END, steady));
    Curve::new(points).unwrap()
}
