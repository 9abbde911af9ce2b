//! Requests drawn from measured rates and length distributions.
//!
//! Arrivals are a Poisson process whose rate is that of each step; lengths are drawn from the
//! step's histograms, evenly within a bucket and scaled so that their mean is the exact one. What a
//! histogram does not tell is lost: bursts within a step, and prompts and answers that are long
//! together.

use std::sync::Arc;

use pd_core::histogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::{Interval, Measured};
use crate::engine::Arrival;
use crate::time::{Nanos, from_seconds};

/// Lengths by their distribution.
#[derive(Clone, Debug, Default)]
pub struct Lengths {
    /// Upper edge and share at or below it, rising.
    steps: Vec<(f64, f64)>,
    /// The factor of a drawn length.
    scale: f64,
}

impl Lengths {
    /// The distribution of a histogram. What lies beyond its last edge is drawn up to twice that.
    pub fn of(histogram: &Histogram) -> Self {
        let count = histogram.count().max(f64::MIN_POSITIVE);
        let mut steps: Vec<(f64, f64)> = histogram
            .cumulative()
            .iter()
            .map(|(edge, at_or_below)| (*edge, at_or_below / count))
            .collect();
        let last = steps.last().copied().unwrap_or((1.0, 0.0));
        if last.1 < 1.0 {
            steps.push((last.0 * 2.0, 1.0));
        }
        let (mut low, mut below, mut mean) = (0.0, 0.0, 0.0);
        for &(edge, share) in &steps {
            mean += (share - below) * f64::midpoint(low, edge);
            (low, below) = (edge, share);
        }
        let scale = match histogram.mean() {
            Some(exact) if mean > 0.0 => exact / mean,
            _ => 1.0,
        };
        Self { steps, scale }
    }

    /// The length that `share`, 0 to 1, of all do not exceed.
    pub fn at(&self, share: f64) -> f64 {
        let place = self.steps.partition_point(|(_, below)| *below < share);
        let before = place
            .checked_sub(1)
            .and_then(|before| self.steps.get(before));
        let (low, below) = before.copied().unwrap_or_default();
        let (edge, to) = self.steps.get(place).copied().unwrap_or((low, 1.0));
        let part = if to > below {
            (share - below) / (to - below)
        } else {
            0.0
        };
        (low + part.clamp(0.0, 1.0) * (edge - low)) * self.scale
    }

    fn draw(&self, dice: &mut ChaCha8Rng) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float-to-integer cast saturates, and tokens are far below 2^32"
        )]
        let tokens = self.at(dice.random()).round() as u32;
        tokens.max(1)
    }
}

/// An iterator over the requests of a measured range, in order of arrival.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    measured: Arc<Measured>,
    now: Nanos,
    step: Option<usize>,
    prompts: Lengths,
    answers: Lengths,
    gaps: ChaCha8Rng,
    inputs: ChaCha8Rng,
    outputs: ChaCha8Rng,
}

impl Rebuilt {
    /// The requests from the begin of the range.
    pub fn new(measured: Arc<Measured>, seed: u64) -> Self {
        let stream = |purpose| {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            dice.set_stream(purpose);
            dice
        };
        let first = |of: fn(&Interval) -> Option<&Histogram>| {
            let first = measured.intervals.iter().find_map(of);
            first.map(Lengths::of).unwrap_or_default()
        };
        Self {
            prompts: first(|interval| interval.prompt_tokens.as_ref()),
            answers: first(|interval| interval.output_tokens.as_ref()),
            measured,
            now: 0,
            step: None,
            gaps: stream(1),
            inputs: stream(2),
            outputs: stream(3),
        }
    }

    /// Goes to a step; lengths stay what they were where it has none.
    fn enter(&mut self, step: usize) {
        if self.step == Some(step) {
            return;
        }
        self.step = Some(step);
        let Some(interval) = self.measured.intervals.get(step) else {
            return;
        };
        if let Some(prompts) = &interval.prompt_tokens {
            self.prompts = Lengths::of(prompts);
        }
        if let Some(answers) = &interval.output_tokens {
            self.answers = Lengths::of(answers);
        }
    }
}

impl Iterator for Rebuilt {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let step_nanos = self.measured.step_nanos();
        let mut rest: f64 = Exp1.sample(&mut self.gaps);
        loop {
            let step = usize::try_from(self.now / step_nanos).ok()?;
            let rate = self.measured.intervals.get(step)?.requests_per_second;
            let end = (step as Nanos + 1) * step_nanos;
            let left = crate::time::seconds(end - self.now);
            if rest > rate * left {
                rest -= rate * left;
                self.now = end;
                continue;
            }
            self.now = (self.now + from_seconds(rest / rate.max(f64::MIN_POSITIVE))).min(end - 1);
            self.enter(step);
            return Some(Arrival {
                at: self.now,
                input_tokens: self.prompts.draw(&mut self.inputs),
                output_tokens: self.answers.draw(&mut self.outputs),
                prompt: None,
            });
        }
    }
}
