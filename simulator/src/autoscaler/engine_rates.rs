//! The capacity of one replica, from the true profile of the engine.
//!
//! Peers that size from a performance model get the one that the simulated engines follow, which is
//! more than a real model knows. The formulas are the published ones of the peers: means of prompt
//! and answer go in, no queue and no scatter. How a peer uses the rates is in its own file.

use crate::engine::Profile;
use crate::time::seconds;

/// Mean tokens of the requests that a role is sized for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanTokens {
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
}

impl MeanTokens {
    /// Mean context of an answer while it is written.
    pub fn context(self) -> f64 {
        self.input + self.output / 2.0
    }
}

/// Time in which a prefill worker computes a prompt of the mean length, seconds.
pub fn prefill_seconds(profile: &Profile, input_tokens: f64) -> f64 {
    let tokens = whole(input_tokens).max(1);
    seconds(profile.prefill_time(tokens, profile.cached_tokens(tokens)))
}

/// The largest batch of answers of `context_tokens` each whose step stays within `step_seconds`, at
/// least 1: also limited by the places of the batch and by the KV cache.
pub fn decode_batch(profile: &Profile, step_seconds: f64, context_tokens: f64) -> f64 {
    let context = context_tokens.max(1.0);
    let per_request = profile.decode_milliseconds_per_request
        + profile.decode_milliseconds_per_megatoken * context * 1e-6;
    let by_step = (step_seconds * 1e3 - profile.decode_base_milliseconds) / per_request.max(1e-9);
    let by_kv = profile.kv_capacity_tokens as f64 / context;
    by_step
        .min(by_kv)
        .min(f64::from(profile.max_batch))
        .max(1.0)
}

/// Requests per second that a decode worker ends at that batch.
pub fn decode_rps(profile: &Profile, step_seconds: f64, tokens: MeanTokens) -> f64 {
    let batch = decode_batch(profile, step_seconds, tokens.context())
        .floor()
        .max(1.0);
    let step = decode_step_seconds(profile, batch, batch * tokens.context());
    batch / (step.max(1e-9) * tokens.output.max(1.0))
}

/// Time of one decode step, seconds.
pub fn decode_step_seconds(profile: &Profile, requests: f64, context_tokens: f64) -> f64 {
    (profile.decode_base_milliseconds
        + profile.decode_milliseconds_per_request * requests
        + profile.decode_milliseconds_per_megatoken * context_tokens * 1e-6)
        * 1e-3
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and token counts are not negative"
)]
fn whole(tokens: f64) -> u32 {
    tokens.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_holds_the_step_the_places_and_the_cache() {
        let profile = Profile::default();
        // (25 - 8.64) / (0.047 + 13.4 * 0.0017), from the fitted coefficients.
        let batch = decode_batch(&profile, 0.025, 1_700.0);
        assert!((batch - 234.4).abs() < 0.1, "{batch}");
        let step = decode_step_seconds(&profile, batch, batch * 1_700.0);
        assert!((step - 0.025).abs() < 1e-9);
        assert!((decode_batch(&profile, 1.0, 100.0) - 256.0).abs() < 1e-9);
        assert!((decode_batch(&profile, 10.0, 100_000.0) - 27.6).abs() < 1e-9);
        assert!((decode_batch(&profile, 0.001, 100.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_prompt_takes_what_the_profile_says() {
        let seconds = prefill_seconds(&Profile::default(), 2_000.0);
        assert!((seconds - 0.093_712).abs() < 1e-6);
    }
}
