//! An observation of a decode latency: of a request, or of a step that gives one token or several.
//!
//! Engines that draft several tokens and check them in one step, and those that send tokens in
//! chunks, observe the time of a step. Engines without a time per output token of requests have the
//! time between tokens in its place, and some without a time between tokens have the time per
//! output token of requests: both signals are then the same distribution, and its count says which
//! it is.

use super::SHARE_SAMPLES_MIN;
use crate::{
    histogram::Histogram,
    signal::{HistogramReading, Signals},
};

/// Tokens per observation from which there is more than one: below, windows of both counts differ.
const TOKENS_MIN: f64 = 1.1;

/// Most tokens that a step gives one request: far more than any draft.
const TOKENS_MAX: f64 = 64.0;

/// Observations per finished request from which they are not of requests: there is one of each, and
/// windows of both counts differ.
const OF_STEPS_MIN: f64 = 2.0;

/// Output tokens per observation of the time between them; 1 where that is not known, or where an
/// observation is the mean of a request.
pub(super) fn tokens(signals: &Signals) -> f64 {
    let times = &signals.recent.inter_token_latency;
    let (Ok(times), Some(tokens_tps)) = (
        times.with_samples(SHARE_SAMPLES_MIN),
        signals.output_token_rate_tps.known(),
    ) else {
        return 1.0;
    };
    if is_tpot(signals) && !of_steps(times, signals) {
        return 1.0;
    }
    // The first token of a request has none before it.
    let firsts_rps = signals.decode_completion_rate_rps.known().unwrap_or(0.0);
    let per_observation = (tokens_tps - firsts_rps) * observed_seconds(signals) / times.count();
    if (TOKENS_MIN..=TOKENS_MAX).contains(&per_observation) {
        per_observation
    } else {
        1.0
    }
}

/// The same of the time per output token: more than 1 only where it is the time between tokens.
pub(super) fn tokens_of_tpot(signals: &Signals) -> f64 {
    let times = signals.recent.tpot.with_samples(SHARE_SAMPLES_MIN);
    match times {
        Ok(times) if is_tpot(signals) && of_steps(times, signals) => tokens(signals),
        _ => 1.0,
    }
}

/// Whether the time between tokens and that per output token are one distribution.
fn is_tpot(signals: &Signals) -> bool {
    let between = &signals.recent.inter_token_latency;
    matches!(between, HistogramReading::Value(_)) && *between == signals.recent.tpot
}

/// Whether there are more observations than requests that ended.
fn of_steps(times: &Histogram, signals: &Signals) -> bool {
    let ended_rps = signals.decode_completion_rate_rps.known().unwrap_or(0.0);
    times.count() > ended_rps * observed_seconds(signals) * OF_STEPS_MIN
}

/// Seconds of which a distribution has as many observations as the role's rates would give: it is
/// of the workers that are scraped, and both rates were carried to all.
fn observed_seconds(signals: &Signals) -> f64 {
    signals.rate_window.as_secs_f64() / signals.coverage.decode.scale()
}
