//! The quantiles of requests in flight against requests played one by one.
//!
//! The oracle lets requests come at random and stay for their tokens, and keeps the time that so
//! many are there. It shares nothing with the formulas but the moments of the lengths.

use rstest::rstest;

use super::Scattered;
use crate::{histogram::Moments, testing::Draws, workload::Residence};

const ITL_SECONDS: f64 = 0.025;

/// Room that one in twenty may be beyond.
fn room(mean: f64, scatter: f64) -> f64 {
    Scattered(vec![(mean, scatter, 1.0)]).room(0.05)
}

/// The bar: the load that fits is right to within so much of the pool's size.
const WITHIN: f64 = 0.02;

fn moments(lengths: &[(f64, f64)]) -> Moments {
    let of = |power: i32| lengths.iter().map(|(n, share)| n.powi(power) * share).sum();
    Moments {
        first: of(1),
        second: of(2),
        third: of(3),
    }
}

/// Requests in flight and their KV tokens, looked at `looks` times a second apart.
fn played(
    rate_rps: f64,
    prompt: &[(f64, f64)],
    output: &[(f64, f64)],
    looks: u32,
) -> (Vec<f64>, Vec<f64>) {
    let mut draws = Draws(11);
    // `(arrival, end, prompt tokens)` of requests that are still there.
    let mut in_flight: Vec<(f64, f64, f64)> = Vec::new();
    let (mut next_arrival, mut requests, mut tokens) = (0.0, Vec::new(), Vec::new());
    let longest = output
        .iter()
        .map(|(n, _)| n * ITL_SECONDS)
        .fold(0.0, f64::max);
    for look in 0..looks {
        let now = f64::from(look);
        while next_arrival <= now {
            let stays = draws.of(output) * ITL_SECONDS;
            in_flight.push((next_arrival, next_arrival + stays, draws.of(prompt)));
            next_arrival += -(1.0 - draws.next()).ln() / rate_rps;
        }
        in_flight.retain(|(_, end, _)| *end > now);
        if now > 2.0 * longest {
            requests.push(in_flight.len() as f64);
            let held =
                |(arrival, _, prompt): &(f64, f64, f64)| prompt + (now - arrival) / ITL_SECONDS;
            tokens.push(in_flight.iter().map(held).sum());
        }
    }
    (requests, tokens)
}

fn share_beyond(seen: &[f64], limit: f64) -> f64 {
    seen.iter().filter(|n| **n > limit).count() as f64 / seen.len() as f64
}

const CHAT: &[(f64, f64)] = &[(20.0, 0.3), (100.0, 0.4), (300.0, 0.2), (600.0, 0.1)];
const REASONING: &[(f64, f64)] = &[
    (200.0, 0.4),
    (1_000.0, 0.35),
    (3_000.0, 0.2),
    (9_000.0, 0.05),
];
const PROMPTS: &[(f64, f64)] = &[(200.0, 0.5), (1_500.0, 0.35), (6_000.0, 0.15)];

#[rstest]
fn what_is_in_flight_stays_within_its_quantile(
    #[values((CHAT, 20.0), (CHAT, 80.0), (REASONING, 5.0), (REASONING, 20.0))] case: (
        &[(f64, f64)],
        f64,
    ),
) {
    let (output, rate_rps) = case;
    let (requests, tokens) = played(rate_rps, PROMPTS, output, 30_000);
    let residence = Residence::of(moments(PROMPTS), moments(output));
    let mean = rate_rps * residence.steps * ITL_SECONDS;
    let (kv_mean, kv_variance) = residence.kv_tokens(rate_rps, ITL_SECONDS);
    for (name, seen, limit) in [
        ("slots", &requests, room(mean, mean.sqrt())),
        ("KV tokens", &tokens, room(kv_mean, kv_variance.sqrt())),
    ] {
        let roomier = share_beyond(seen, limit * (1.0 + WITHIN));
        let tighter = share_beyond(seen, limit * (1.0 - WITHIN));
        assert!(
            roomier <= 0.05,
            "{name}: {roomier} beyond the limit and a little more"
        );
        assert!(
            tighter >= 0.05,
            "{name}: {tighter} beyond a little less than the limit"
        );
    }
}
