//! How many prompts a prefill worker computes at once.
//!
//! Engines put prompts that wait into one step, and publish for each the time of that step: a
//! prompt that shares its step with another seems to compute twice as long. Taken for its work, it
//! would call for more replicas the busier the pool is. Engines also publish the tokens of each
//! step, so steps can be counted against prompts. The mean over prompts counts and not the one over
//! steps, as larger steps hold more of them: for shares that fall off as they do in queues, twice
//! the mean less one. Where steps are not known each prompt is taken to be alone, which never gives
//! too few.

use crate::{
    histogram::Histogram,
    signal::{Distributions, Signals},
};

/// Fewest steps and prompts for a mean: below, one large step is a tenth of them.
const SAMPLES_MIN: f64 = 20.0;

/// Prompts in the step of a prompt, itself included, mean over prompts; 1 or more.
pub(super) fn prompts_in_step(signals: &Signals) -> f64 {
    let windows = [&signals.recent, &signals.wide];
    windows.into_iter().find_map(of_window).unwrap_or(1.0)
}

fn of_window(window: &Distributions) -> Option<f64> {
    let steps = window.prefill_step_tokens.with_samples(SAMPLES_MIN).ok()?;
    let prompts = window.prompt_tokens.with_samples(SAMPLES_MIN).ok()?;
    let per_step = (prompts.count() / steps.count()).max(1.0);
    // Full steps are all alike: no step holds more prompts than its tokens do.
    let fit = (largest(steps) / prompts.mean()?.max(1.0)).max(per_step);
    Some((2.0 * per_step - 1.0).min(fit)).filter(|shared| shared.is_finite())
}

/// Tokens of the largest step, or a little more.
fn largest(steps: &Histogram) -> f64 {
    let mut below = 0.0;
    let mut largest = f64::INFINITY;
    for &(edge, at_or_below) in steps.buckets() {
        if at_or_below > below {
            largest = edge;
        }
        below = at_or_below;
    }
    if below < steps.count() {
        return f64::INFINITY;
    }
    largest
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{signal::HistogramReading, testing::around};

    fn steps(counted: &[(f64, f64)]) -> HistogramReading {
        let count = counted.last().map_or(0.0, |last| last.1);
        let histogram = Histogram::from_cumulative(counted.to_vec(), count, count * 1000.0);
        HistogramReading::Value(histogram.unwrap())
    }

    #[rstest]
    #[case::alone(&[(1024.0, 600.0)], 600.0, 1.0)]
    #[case::chunked(&[(1024.0, 700.0)], 600.0, 1.0)]
    #[case::a_fifth_in_pairs(&[(1024.0, 480.0), (2048.0, 600.0)], 720.0, 1.4)]
    #[case::full_steps_are_all_alike(&[(4096.0, 0.0), (8192.0, 600.0)], 4_800.0, 8.192)]
    #[case::too_few_to_tell(&[(8192.0, 10.0)], 600.0, 1.0)]
    fn prompts_are_counted_against_steps(
        #[case] counted: &[(f64, f64)],
        #[case] prompts: f64,
        #[case] expected: f64,
    ) {
        let mut signals = Signals::default();
        signals.recent.prefill_step_tokens = steps(counted);
        signals.recent.prompt_tokens = around(1_000.0, prompts);
        let shared = prompts_in_step(&signals);
        assert!((shared - expected).abs() < 1e-9, "{shared}");
    }

    #[test]
    fn unknown_steps_hold_one_prompt_each() {
        let mut signals = Signals::default();
        signals.recent.prompt_tokens = around(1_000.0, 600.0);
        assert!((prompts_in_step(&signals) - 1.0).abs() < 1e-12);
    }
}
