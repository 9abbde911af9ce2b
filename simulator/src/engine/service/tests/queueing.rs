//! Prefill pools against queueing theory: with one prompt per step a worker is a server of the
//! theory, and the router's choice of the worker that is free first is a common queue.
//!
//! Arrivals are stretched so that the load is exactly the one that is meant, which takes most of
//! the chance out of both: the standard error of a mean wait is below 3 % where it is largest, one
//! worker at 0.8, and the seed is fixed. Tails are compared by the load at which 95 % are in time,
//! to within two points of utilisation; at that load a point of utilisation is worth 0.1 to 5
//! points of attainment, and the standard error of an attainment of 95 % among 60,000 is 0.09
//! points, three times that with waits that hang together.

use std::path::Path;

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rstest::rstest;

use super::*;
use crate::time::from_seconds;
use crate::trace::Trace;

/// Pools of the tables.
const POOLS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Arrivals that a tail is read from, and where lengths vary so much (their coefficient of
/// variation is 3) that the longest prompts of fewer would not be those of the traffic.
const COUNT: usize = 60_000;
const HEAVY_COUNT: usize = 400_000;

/// The play of chance in a share of 95 %: the standard error of three times 0.09 points.
const CHANCE: f64 = 0.003;

/// Time to first token is time in the prefill pool: nothing else takes any.
fn servers() -> Profile {
    Profile {
        prefill_step_requests: 1,
        prefill_step_tokens: u32::MAX,
        kv_capacity_tokens: 1 << 40,
        max_batch: u32::MAX,
        kv_bytes_per_token: 0.0,
        kv_transfer_base_milliseconds: 0.0,
        decode_base_milliseconds: 1e-3,
        decode_milliseconds_per_request: 0.0,
        decode_milliseconds_per_megatoken: 0.0,
        ..Profile::default()
    }
}

/// The same whose prompts take a microsecond a token, and nothing else.
fn linear_servers() -> Profile {
    Profile {
        prefill_base_milliseconds: 0.0,
        prefill_milliseconds_per_kilotoken: 1.0,
        prefill_milliseconds_per_megatoken_squared: 0.0,
        ..servers()
    }
}

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// A pool that has served Poisson arrivals.
struct Pool {
    profile: Profile,
    outcomes: Vec<RequestOutcome>,
}

impl Pool {
    /// `count` arrivals over just the time in which their work keeps the pool busy at `load`.
    fn played(
        profile: &Profile,
        workers: usize,
        load: f64,
        count: usize,
        lengths: impl Fn(&mut ChaCha8Rng) -> u32,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let drawn: Vec<(f64, u32)> = (0..count)
            .map(|_| (exponential(&mut rng), lengths(&mut rng)))
            .collect();
        let gaps: f64 = drawn.iter().map(|(gap, _)| gap).sum();
        let time = |tokens: u32| seconds(profile.prefill_time(tokens, 0));
        let work: f64 = drawn.iter().map(|(_, tokens)| time(*tokens)).sum();
        let unit = work / (load * workers as f64 * gaps);
        let mut at = 0.0;
        let mut service = service(profile.clone(), workers, 1);
        let arrivals = drawn.into_iter().map(|(gap, input_tokens)| {
            at += gap * unit;
            Arrival {
                at: from_seconds(at),
                input_tokens,
                output_tokens: 1,
                prompt: None,
            }
        });
        Self {
            profile: profile.clone(),
            outcomes: run(&mut service, arrivals),
        }
    }

    fn service_seconds(&self) -> impl Iterator<Item = f64> + '_ {
        let time =
            |outcome: &RequestOutcome| seconds(self.profile.prefill_time(outcome.input_tokens, 0));
        self.outcomes.iter().map(time)
    }

    /// Mean and mean square of the service times that were drawn.
    fn moments(&self) -> (f64, f64) {
        let squares = self.service_seconds().map(|time| time * time);
        (mean(self.service_seconds()), mean(squares))
    }

    fn mean_wait(&self) -> f64 {
        mean_ttft(&self.outcomes) - self.moments().0
    }

    /// Share of the prompts that were ready within a limit.
    fn in_time(&self, limit_seconds: f64) -> f64 {
        let late = |outcome: &&RequestOutcome| outcome.ttft_seconds() > limit_seconds;
        let late = self.outcomes.iter().filter(late).count();
        1.0 - late as f64 / self.outcomes.len() as f64
    }
}

/// Probability that all of `servers` are busy at `load` each, as a sum over states.
fn erlang_c(servers: usize, load: f64) -> f64 {
    let offered = load * servers as f64;
    let mut term = 1.0;
    let mut below = 0.0;
    for state in 1..=servers {
        below += term;
        term *= offered / state as f64;
    }
    let waiting = term / (1.0 - load);
    waiting / (below + waiting)
}

fn near(seen: f64, expected: f64, tolerance: f64) {
    let off = seen / expected - 1.0;
    assert!(
        off.abs() < tolerance,
        "{seen} s is {off:+.3} off {expected} s"
    );
}

#[rstest]
fn exponential_prompts_wait_as_in_mmc(
    #[values(1, 2, 4, 8)] workers: usize,
    #[values(0.5, 0.8)] load: f64,
) {
    let exponential = |rng: &mut ChaCha8Rng| tokens(exponential(rng) * 1e5);
    let pool = Pool::played(&linear_servers(), workers, load, 150_000, exponential);
    let mean = pool.moments().0;
    let expected = erlang_c(workers, load) * mean / (workers as f64 * (1.0 - load));
    near(pool.mean_wait(), expected, 0.06);
}

#[rstest]
fn equal_prompts_wait_as_in_md1(#[values(0.3, 0.6, 0.8)] load: f64) {
    let profile = servers();
    let mean = seconds(profile.prefill_time(2_000, 0));
    let pool = Pool::played(&profile, 1, load, 100_000, |_| 2_000);
    near(pool.mean_wait(), load * mean / (2.0 * (1.0 - load)), 0.04);
}

/// Nine in ten prompts are short and one is long, or lengths are log-normal with a coefficient of
/// variation of 1.5.
#[rstest]
fn prompts_of_any_lengths_wait_as_pollaczek_and_khinchine_say(
    #[values(false, true)] log_normal: bool,
    #[values(0.5, 0.8)] load: f64,
) {
    let two_points = |rng: &mut ChaCha8Rng| {
        if rng.random_bool(0.1) {
            550_000
        } else {
            50_000
        }
    };
    let spread = (1.0_f64 + 1.5 * 1.5).ln();
    let log_normals = |rng: &mut ChaCha8Rng| {
        let around = std::f64::consts::TAU * rng.random::<f64>();
        let normal = (2.0 * exponential(rng)).sqrt() * around.cos();
        tokens(1e5 * (normal * spread.sqrt() - spread / 2.0).exp())
    };
    let lengths = |rng: &mut ChaCha8Rng| {
        if log_normal {
            log_normals(rng)
        } else {
            two_points(rng)
        }
    };
    let pool = Pool::played(&linear_servers(), 1, load, 200_000, lengths);
    let (mean, square) = pool.moments();
    let expected = load * square / (2.0 * mean * (1.0 - load));
    near(pool.mean_wait(), expected, 0.06);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths are positive and far below four billion"
)]
fn tokens(length: f64) -> u32 {
    length.round().max(1.0) as u32
}

/// The share in time falls through 95 % within two points of utilisation of each pool's `known`
/// load.
fn falls_through_at(
    known: [f64; 6],
    profile: &Profile,
    limit_seconds: f64,
    count: usize,
    lengths: impl Fn(&mut ChaCha8Rng) -> u32,
) {
    for (workers, known) in POOLS.into_iter().zip(known) {
        let in_time = |load: f64| {
            let pool = Pool::played(profile, workers, load, count, &lengths);
            pool.in_time(limit_seconds)
        };
        let (below, above) = (in_time(known - 0.02), in_time((known + 0.02).min(1.0)));
        eprintln!("{workers} workers at {known}: {below:.4} {above:.4}");
        assert!(
            below > 0.95 - CHANCE && above < 0.95 + CHANCE,
            "{workers} workers at {known}: {below} {above}"
        );
    }
}

/// Share of exponential prompts that are ready within `limit` mean lengths: an exact formula.
fn mmc_in_time(servers: usize, load: f64, limit: f64) -> f64 {
    let waits = erlang_c(servers, load);
    let drain = servers as f64 * (1.0 - load);
    let served_late = (-limit).exp();
    let both_late = if (drain - 1.0).abs() < 1e-9 {
        (1.0 + limit) * served_late
    } else {
        (drain * served_late - (-drain * limit).exp()) / (drain - 1.0)
    };
    1.0 - (1.0 - waits) * served_late - waits * both_late
}

#[test]
fn pools_of_exponential_prompts_hold_their_tail_up_to_the_exact_load() {
    let limit = 4.5;
    let known = POOLS.map(|servers| {
        let loads = (1..1_000).rev().map(|permille| f64::from(permille) * 1e-3);
        let mut enough = loads.filter(|load| mmc_in_time(servers, *load, limit) >= 0.95);
        enough.next().unwrap()
    });
    let lengths = |rng: &mut ChaCha8Rng| tokens(exponential(rng) * 1e5);
    falls_through_at(known, &linear_servers(), limit * 0.1, COUNT, lengths);
}

fn lengths_of(trace: &str) -> Option<Vec<u32>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../shared/traces").join(trace);
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    }
    let rows = Trace::open(&path).unwrap();
    Some(rows.map(|row| row.unwrap().input_tokens.max(1)).collect())
}

/// The largest load per worker at which 95 % of prompts are in time, as simulated by an independent
/// program for pools with a common queue and the lengths of real traffic.
#[rstest]
#[case::azure_conversations("azure2023_conv.csv.gz", 0.30, [0.49, 0.73, 0.85, 0.92, 0.96, 0.98], COUNT)]
#[case::azure_code("azure2023_code.csv.gz", 0.51, [0.48, 0.70, 0.84, 0.92, 0.96, 0.98], COUNT)]
#[case::mooncake("mooncake_conversation.csv.gz", 7.2, [0.38, 0.67, 0.83, 0.92, 0.96, 0.98], COUNT)]
#[case::mooncake_tight("mooncake_conversation.csv.gz", 3.6, [0.12, 0.41, 0.64, 0.80, 0.90, 0.95], COUNT)]
#[case::reasoning("servegen_deepseek-r1_day0_x0.6.csv.gz", 0.48, [0.04, 0.22, 0.48, 0.67, 0.81, 0.90], HEAVY_COUNT)]
fn pools_hold_their_tail_up_to_the_known_load(
    #[case] trace: &str,
    #[case] limit_seconds: f64,
    #[case] known: [f64; 6],
    #[case] count: usize,
) {
    let Some(lengths) = lengths_of(trace) else {
        return;
    };
    let draw = |rng: &mut ChaCha8Rng| lengths[rng.random_range(0..lengths.len())];
    falls_through_at(known, &servers(), limit_seconds, count, draw);
}
