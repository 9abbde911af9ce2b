//! Draws requests from a curve: Poisson arrivals or a Gamma renewal process, log-normal lengths.
//!
//! A Poisson process with a changing rate is one of rate 1 on a bent time axis. So each gap is one
//! unit exponential, spent along the curve segment by segment; within a segment the rate is linear
//! and the time follows from a quadratic. That is exact, and draws exactly one number per arrival
//! whatever the curve. Gaps of another spread are Gamma instead of exponential, bent alike.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal};

use super::curve::Curve;
use crate::engine::Arrival;
use crate::time::{Nanos, from_seconds, seconds};

/// An iterator over the requests of a curve, in order of arrival. It ends at its end time, or when
/// the rate is 0 for good.
#[derive(Clone, Debug)]
pub struct Arrivals {
    curve: Curve,
    now: Nanos,
    end: Nanos,
    /// Gaps in units of the mean gap; without, exponential ones.
    gap: Option<Gamma<f64>>,
    gaps: ChaCha8Rng,
    inputs: ChaCha8Rng,
    outputs: ChaCha8Rng,
}

impl Arrivals {
    /// Requests from `start` until before `end`. The same seed gives the same requests.
    pub fn new(curve: Curve, seed: u64, start: Nanos, end: Nanos) -> Self {
        let stream = |purpose| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(purpose);
            rng
        };
        Self {
            curve,
            now: start,
            end,
            gap: None,
            gaps: stream(1),
            inputs: stream(2),
            outputs: stream(3),
        }
    }

    /// The same with gaps of this coefficient of variation, above 0; 1 is a Poisson process.
    pub fn with_gaps(curve: Curve, seed: u64, start: Nanos, end: Nanos, cv: f64) -> Self {
        let poisson = cv.total_cmp(&1.0).is_eq();
        // Mean 1, and the variance that is asked for.
        let gap = Gamma::new(1.0 / (cv * cv), cv * cv).ok();
        Self {
            gap: gap.filter(|_| !poisson),
            ..Self::new(curve, seed, start, end)
        }
    }

    /// Changes the curve from `now` on. A Poisson process has no memory, so the gap to the next
    /// arrival is drawn again.
    pub fn change_curve(&mut self, now: Nanos, curve: Curve) {
        self.now = now;
        self.curve = curve;
    }

    /// Spends one gap along the curve.
    fn next_time(&mut self) -> Option<Nanos> {
        let mut rest: f64 = match self.gap {
            Some(gamma) => gamma.sample(&mut self.gaps),
            None => Exp1.sample(&mut self.gaps),
        };
        loop {
            if self.now >= self.end {
                return None;
            }
            let segment = self.curve.segment(self.now);
            let rate = segment.load_at(self.now).requests_per_second;
            let Some((until, next)) = segment.to else {
                if rate <= 0.0 {
                    return None;
                }
                return Some(self.now.saturating_add(from_seconds(rest / rate)));
            };
            let length = seconds(until - self.now);
            let mass = (rate + next.requests_per_second) * 0.5 * length;
            if rest > mass {
                rest -= mass;
                self.now = until;
                continue;
            }
            // Solve rate*t + slope*t^2/2 = rest in the form that stays exact as the slope goes to
            // 0.
            let slope = (next.requests_per_second - rate) / length;
            let root = (rate * rate + 2.0 * slope * rest).max(0.0).sqrt();
            let gap = (2.0 * rest / (rate + root)).min(length);
            return Some(self.now.saturating_add(from_seconds(gap)));
        }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let at = self.next_time()?;
        if at >= self.end {
            self.now = self.end;
            return None;
        }
        self.now = at;
        let load = self.curve.at(at);
        Some(Arrival {
            at,
            input_tokens: length(
                load.input_tokens_mean,
                load.input_tokens_cv,
                &mut self.inputs,
            ),
            output_tokens: length(
                load.output_tokens_mean,
                load.output_tokens_cv,
                &mut self.outputs,
            ),
            prompt: None,
        })
    }
}

/// A log-normal number of tokens with a given mean and coefficient of variation, at least 1.
fn length(mean: f64, cv: f64, rng: &mut ChaCha8Rng) -> u32 {
    let variance = (1.0 + cv * cv).ln();
    let normal: f64 = StandardNormal.sample(rng);
    let tokens = mean * (variance.sqrt() * normal - variance * 0.5).exp();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and tokens are far below 2^32"
    )]
    let rounded = tokens.round() as u32;
    rounded.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{HOUR, SECOND};
    use crate::traffic::Load;

    fn load(requests_per_second: f64) -> Load {
        Load {
            requests_per_second,
            input_tokens_mean: 600.0,
            output_tokens_mean: 150.0,
            input_tokens_cv: 1.2,
            output_tokens_cv: 0.5,
        }
    }

    #[test]
    fn same_seed_same_requests() {
        let curve = Curve::constant(load(10.0)).unwrap();
        let draw = |seed| Arrivals::new(curve.clone(), seed, 0, HOUR).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn answer_lengths_do_not_move_arrivals() {
        let short = Curve::constant(load(10.0)).unwrap();
        let longer = Curve::constant(Load {
            output_tokens_mean: 500.0,
            ..load(10.0)
        })
        .unwrap();
        let times = |curve| {
            Arrivals::new(curve, 7, 0, HOUR)
                .map(|a| (a.at, a.input_tokens))
                .collect::<Vec<_>>()
        };
        assert_eq!(times(short), times(longer));
    }

    #[test]
    fn counts_and_lengths_follow_the_curve() {
        let curve = Curve::new(vec![(0, load(0.0)), (HOUR, load(40.0))]).unwrap();
        let requests: Vec<_> = Arrivals::new(curve, 3, 0, HOUR).collect();
        let count = requests.len() as f64;
        assert!((count - 72_000.0).abs() < 4.0 * 72_000f64.sqrt(), "{count}");
        let first_half = requests.iter().filter(|a| a.at < HOUR / 2).count() as f64;
        assert!(
            (first_half - 18_000.0).abs() < 4.0 * 18_000f64.sqrt(),
            "{first_half}"
        );
        let mean_input = requests
            .iter()
            .map(|a| f64::from(a.input_tokens))
            .sum::<f64>()
            / count;
        assert!((mean_input / 600.0 - 1.0).abs() < 0.03, "{mean_input}");
        assert!(requests.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn no_rate_means_no_requests() {
        let curve = Curve::new(vec![(0, load(5.0)), (SECOND, load(0.0))]).unwrap();
        let count = Arrivals::new(curve, 1, 0, u64::MAX).count();
        assert!(count < 20, "{count}");
    }
}
