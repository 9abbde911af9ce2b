//! The largest batch that a decode replica was seen to keep the TPOT limit with.
//!
//! A model of decode is a line, and engines are staircases: what it says beyond the batches that
//! were seen is a guess. So the largest batch that kept the limit is remembered, fading over an
//! hour as the traffic changes, and sizing goes beyond it by one step at a time. It is also the
//! batch that replicas may always run: without it the model would follow batches that new replicas
//! make smaller, and ask for more of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calibrate::{keep, weight_of};

/// Seconds after which a batch that was not seen again counts for half.
const HALF_LIFE_SECONDS: f64 = 3_600.0;

/// The part of a batch that missed the limit which is taken to keep it: the step that is tried
/// again is then no larger than the batch that missed.
const BELOW_A_MISS: f64 = 0.9;

/// How a batch kept the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The limit was kept.
    Kept,
    /// Some requests missed it, too few to be sure.
    Unsure,
    /// It was missed.
    Missed,
}

/// The batch, and the context it was seen with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proven {
    batch: f64,
    context_tokens: f64,
}

impl Proven {
    /// Takes in that replicas with `batch` requests each, of `context_tokens` on average, kept or
    /// missed the limit.
    pub fn observe(&mut self, batch: f64, context_tokens: f64, fit: Fit, elapsed: Duration) {
        if !(batch.is_finite() && batch >= 1.0 && context_tokens.is_finite()) {
            return;
        }
        let faded = self.batch * keep(weight_of(elapsed), HALF_LIFE_SECONDS);
        let known = self.batch(context_tokens).unwrap_or(0.0);
        match fit {
            Fit::Kept if batch >= known => {
                (self.batch, self.context_tokens) = (batch, context_tokens);
            }
            Fit::Missed if batch <= known => {
                (self.batch, self.context_tokens) = (batch * BELOW_A_MISS, context_tokens);
            }
            _ => self.batch = faded,
        }
    }

    /// The batch with contexts of `context_tokens`; nothing while none is known. Longer contexts
    /// make it smaller, as if a step did nothing but read them.
    pub fn batch(&self, context_tokens: f64) -> Option<f64> {
        let longer = if self.context_tokens > 0.0 {
            (context_tokens / self.context_tokens).max(1.0)
        } else {
            1.0
        };
        let batch = self.batch / longer;
        (batch >= 1.0).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_secs(15);

    fn seen(batches: &[(f64, Fit)]) -> Proven {
        let mut proven = Proven::default();
        for &(batch, fit) in batches {
            proven.observe(batch, 1_000.0, fit, TICK);
        }
        proven
    }

    #[test]
    fn the_largest_batch_that_kept_the_limit_is_known_while_smaller_ones_run() {
        let proven = seen(&[(60.0, Fit::Kept), (20.0, Fit::Kept), (20.0, Fit::Kept)]);
        let batch = proven.batch(1_000.0).unwrap();
        assert!((59.0..=60.0).contains(&batch), "{batch}");
    }

    #[test]
    fn a_batch_that_missed_is_proven_no_more() {
        let proven = seen(&[(60.0, Fit::Kept), (50.0, Fit::Missed)]);
        assert!(proven.batch(1_000.0) < Some(50.0));
    }

    #[test]
    fn a_batch_that_some_missed_proves_nothing() {
        assert_eq!(seen(&[(60.0, Fit::Unsure)]).batch(1_000.0), None);
    }

    #[test]
    fn a_batch_that_is_not_seen_again_counts_for_half_after_an_hour() {
        let mut proven = seen(&[(60.0, Fit::Kept)]);
        for _ in 0..240 {
            proven.observe(1.0, 1_000.0, Fit::Kept, TICK);
        }
        let batch = proven.batch(1_000.0).unwrap();
        assert!((batch - 30.0).abs() < 1.0, "{batch}");
    }

    #[test]
    fn longer_contexts_make_it_smaller_and_shorter_ones_no_larger() {
        let proven = seen(&[(60.0, Fit::Kept)]);
        assert_eq!(proven.batch(2_000.0), Some(30.0));
        assert_eq!(proven.batch(500.0), Some(60.0));
    }

    proptest! {
        #[test]
        fn it_is_never_more_than_was_seen_to_work(
            seen in prop::collection::vec((0.0f64..500.0, 0u8..3, 0u64..3_600), 1..40),
        ) {
            let (mut proven, mut most) = (Proven::default(), 0.0_f64);
            for (batch, fit, seconds) in seen {
                let fit = [Fit::Kept, Fit::Unsure, Fit::Missed][usize::from(fit)];
                proven.observe(batch, 1_000.0, fit, Duration::from_secs(seconds));
                if fit == Fit::Kept {
                    most = most.max(batch);
                }
                let now = proven.batch(1_000.0).unwrap_or(0.0);
                prop_assert!(now <= most);
                prop_assert!(fit != Fit::Missed || batch < 1.0 || now < batch);
            }
        }
    }
}
