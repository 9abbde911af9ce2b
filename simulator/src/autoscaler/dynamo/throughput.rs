//! The throughput loop: predicted load over what one engine can do.
//!
//! Replicas are `ceil(demand / engine_rps)` per role, where the engine's rate is the best at which
//! the performance model keeps TTFT or ITL at the *mean* prompt and answer; there is no term for a
//! queue. The model is the true one, less the prefix cache that it knows of.
//!
//! Load is requests, prompt and answer of the last 180 s at the frontend, each predicted one
//! interval ahead. The planner's default predictor is an automatic ARIMA. Here it is ARIMA(1,1,0)
//! by least squares over the same window of at most 50 intervals: the next change is a fraction of
//! the last. Nothing is known of start-up times.

use std::collections::VecDeque;

use pd_core::PerRole;

use super::super::Gateway;
use super::super::engine_rates::{MeanTokens, decode_rps, prefill_seconds};
use super::super::horizontal::ceil;
use super::{Sla, THROUGHPUT_INTERVAL};
use crate::engine::Profile;
use crate::time::seconds;

/// Intervals that the predictor remembers.
const HISTORY_MAX: usize = 50;

/// Intervals below which the last value is the prediction.
const HISTORY_MIN: usize = 5;

/// ARIMA(1,1,0) of one series.
#[derive(Clone, Debug, Default)]
struct Predictor {
    history: VecDeque<f64>,
}

impl Predictor {
    /// Takes one value and gives the next.
    fn next(&mut self, value: f64) -> f64 {
        self.history.push_back(value);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        if self.history.len() < HISTORY_MIN {
            return value;
        }
        let values: Vec<f64> = self.history.iter().copied().collect();
        let changes: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (mut common, mut spread) = (0.0, 0.0);
        for pair in changes.windows(2) {
            common += pair[0] * pair[1];
            spread += pair[0] * pair[0];
        }
        let share = if spread > 0.0 { common / spread } else { 0.0 };
        let last = changes.last().copied().unwrap_or(0.0);
        (value + share.clamp(-1.0, 1.0) * last).max(0.0)
    }
}

/// The loop's memory.
#[derive(Clone, Debug)]
pub struct Throughput {
    profile: Profile,
    sla: Sla,
    aggressiveness: PerRole<f64>,
    before: Option<Gateway>,
    requests: Predictor,
    input: Predictor,
    output: Predictor,
}

impl Throughput {
    pub(super) fn new(profile: Profile, sla: Sla, aggressiveness: PerRole<f64>) -> Self {
        Self {
            profile,
            sla,
            aggressiveness,
            before: None,
            requests: Predictor::default(),
            input: Predictor::default(),
            output: Predictor::default(),
        }
    }

    /// Replicas for the next interval, once an interval has passed; without an answered request
    /// none are known.
    pub(super) fn replicas(&mut self, gateway: Gateway) -> Option<PerRole<u32>> {
        let before = self.before.replace(gateway)?;
        let recent = gateway.since(&before);
        if recent.requests <= 0.0 {
            // Confirmed idle.
            return Some(PerRole::from_fn(|_| 1));
        }
        let tokens = MeanTokens {
            input: self.input.next(recent.mean_input_tokens()?),
            output: self.output.next(recent.mean_output_tokens()?),
        };
        let rps = self.requests.next(recent.requests) / seconds(THROUGHPUT_INTERVAL);
        Some(self.sized(rps, tokens))
    }

    fn sized(&self, rps: f64, tokens: MeanTokens) -> PerRole<u32> {
        let prefill_rps = 1.0 / prefill_seconds(&self.profile, tokens.input).max(1e-9);
        let decode_rps = decode_rps(&self.profile, self.sla.itl_seconds, tokens);
        PerRole {
            prefill: ceil(rps * self.aggressiveness.prefill / prefill_rps).max(1),
            decode: ceil(rps * self.aggressiveness.decode / decode_rps.max(1e-9)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_over_engine_rate_rounded_up() {
        let loop_ = Throughput::new(
            Profile::default(),
            Sla {
                ttft_seconds: 0.5,
                itl_seconds: 0.025,
            },
            PerRole {
                prefill: 1.0,
                decode: 1.0,
            },
        );
        // Prefill: 0.093712 s per prompt. Decode: 219 answers of 2050 tokens of context in steps of
        // 24.95 ms, 100 steps each: 87.8/s.
        let tokens = MeanTokens {
            input: 2_000.0,
            output: 100.0,
        };
        for (rps, prefill, decode) in [(10.6, 1, 1), (10.7, 2, 1), (100.0, 10, 2)] {
            assert_eq!(
                loop_.sized(rps, tokens),
                PerRole { prefill, decode },
                "{rps}"
            );
        }
    }

    #[test]
    fn few_values_predict_the_last_and_a_steady_climb_goes_on() {
        let mut predictor = Predictor::default();
        for value in [10.0, 20.0, 30.0, 40.0] {
            assert!((predictor.next(value) - value).abs() < 1e-9);
        }
        assert!((predictor.next(50.0) - 60.0).abs() < 1e-9);
    }
}
