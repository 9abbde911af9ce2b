//! The coefficients that say how fast one prefill worker and one decode worker are.
//!
//! A prefill step that computes n tokens of each of some prompts, after p of them that are cached
//! or computed before, takes `c0 + c1*sum(n) + c2*sum(n^2 + 2np)`; one decode step of a batch of B
//! requests takes `a + b*B + g*(sum of their context)`. The default is Llama-70B FP8 on four H200
//! with vLLM, as fitted to `AIConfigurator`'s tables, and vLLM's own limits of a step. The profile
//! refuses values that would stop time or make it run backwards.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Role;
use super::blocks::blocks_for;
use super::clock::{Parts, nanos, parts};
use crate::time::{Nanos, from_milliseconds, from_seconds, rounded};

/// How fast the workers of a service are, and how much they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Profile {
    /// Constant part of a prefill step, in milliseconds; 0 or more.
    pub prefill_base_milliseconds: f64,
    /// Prefill time per thousand computed prompt tokens, in milliseconds; 0 or more.
    pub prefill_milliseconds_per_kilotoken: f64,
    /// Prefill time per million squared computed prompt tokens, in milliseconds; 0 or more.
    pub prefill_milliseconds_per_megatoken_squared: f64,
    /// Most prompt tokens that one step computes, vLLM's `max_num_batched_tokens`; at least 1. The
    /// rest of a longer prompt waits for the next steps. On a decode worker it bounds what is
    /// computed again after a preemption.
    pub prefill_step_tokens: u32,
    /// Most prompts that one prefill step works on, vLLM's `max_num_seqs`; at least 1.
    pub prefill_step_requests: u32,
    /// Constant part of a decode step, in milliseconds; above 0.
    pub decode_base_milliseconds: f64,
    /// Decode step time per request in the batch, in milliseconds; 0 or more.
    pub decode_milliseconds_per_request: f64,
    /// Decode step time per million tokens of context in the batch, in milliseconds; 0 or more.
    pub decode_milliseconds_per_megatoken: f64,
    /// Time that steps take longer by the size their batch is padded to; empty where none is.
    pub decode_stairs: Vec<DecodeStair>,
    /// KV tokens that one worker holds; at least 1024. What does not fill a block is not used.
    pub kv_capacity_tokens: u64,
    /// Tokens of one block of KV cache, the least that is given to a request; 1 to 1024. It stays
    /// as it was when the profile of a running service changes.
    pub kv_block_tokens: u32,
    /// Share of the KV cache that a decode worker keeps free when it admits a request, so that the
    /// requests it has can grow; 0 to below 1.
    pub kv_kept_free_share: f64,
    /// Most requests in one decode batch; at least 1.
    pub max_batch: u32,
    /// Share of every prompt that a prefill worker finds in its prefix cache; 0 to below 1.
    pub prefix_hit_ratio: f64,
    /// Bytes of KV cache per prompt token, which travel from prefill to decode; 0 or more.
    pub kv_bytes_per_token: f64,
    /// Bandwidth of one KV transfer, in gigabytes per second; above 0.
    pub kv_transfer_gigabytes_per_second: f64,
    /// Constant part of a KV transfer, in milliseconds; 0 or more.
    pub kv_transfer_base_milliseconds: f64,
    /// Time from adding a prefill worker to its being ready, in seconds; 0 or more.
    pub prefill_startup_seconds: f64,
    /// Time from adding a decode worker to its being ready, in seconds; 0 or more.
    pub decode_startup_seconds: f64,
}

/// Engines run recorded graphs of a few batch sizes and pad a batch to the next larger one, and
/// kernels change with the size. So the time of a step is a staircase over the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecodeStair {
    /// Largest batch on this stair, above that of the stair before. Batches beyond the last stair
    /// run in several passes of it.
    pub batch: u32,
    /// Time that a step on it takes longer, in milliseconds; 0 or more.
    pub milliseconds: f64,
}

/// Tokens of the largest block, far beyond those in use.
const KV_BLOCK_TOKENS_MAX: u32 = 1024;

/// A coefficient that no worker can have.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("profile field `{field}` is `{value}`: {remedy}")]
pub struct ProfileError {
    field: &'static str,
    value: f64,
    remedy: &'static str,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            prefill_base_milliseconds: 8.0,
            prefill_milliseconds_per_kilotoken: 41.9,
            prefill_milliseconds_per_megatoken_squared: 0.478,
            prefill_step_tokens: 8192,
            prefill_step_requests: 256,
            decode_base_milliseconds: 8.64,
            decode_milliseconds_per_request: 0.047,
            decode_milliseconds_per_megatoken: 13.4,
            decode_stairs: Vec::new(),
            kv_capacity_tokens: 2_760_000,
            kv_block_tokens: 16,
            kv_kept_free_share: 0.01,
            max_batch: 256,
            prefix_hit_ratio: 0.0,
            // 80 layers of 8 KV heads of 128 values, keys and values, one byte each.
            kv_bytes_per_token: 163_840.0,
            kv_transfer_gigabytes_per_second: 25.0,
            kv_transfer_base_milliseconds: 5.0,
            prefill_startup_seconds: 120.0,
            decode_startup_seconds: 120.0,
        }
    }
}

fn refuse(field: &'static str, value: f64, remedy: &'static str) -> Result<(), ProfileError> {
    Err(ProfileError {
        field,
        value,
        remedy,
    })
}

impl Profile {
    /// Refuses a profile that no worker can have.
    pub fn validate(&self) -> Result<(), ProfileError> {
        let not_negative = [
            ("prefillBaseMilliseconds", self.prefill_base_milliseconds),
            (
                "prefillMillisecondsPerKilotoken",
                self.prefill_milliseconds_per_kilotoken,
            ),
            (
                "prefillMillisecondsPerMegatokenSquared",
                self.prefill_milliseconds_per_megatoken_squared,
            ),
            (
                "decodeMillisecondsPerRequest",
                self.decode_milliseconds_per_request,
            ),
            (
                "decodeMillisecondsPerMegatoken",
                self.decode_milliseconds_per_megatoken,
            ),
            ("kvBytesPerToken", self.kv_bytes_per_token),
            (
                "kvTransferBaseMilliseconds",
                self.kv_transfer_base_milliseconds,
            ),
            ("prefillStartupSeconds", self.prefill_startup_seconds),
            ("decodeStartupSeconds", self.decode_startup_seconds),
            ("prefixHitRatio", self.prefix_hit_ratio),
            ("kvKeptFreeShare", self.kv_kept_free_share),
        ];
        for (field, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(field, value, "give a finite number of 0 or more");
            }
        }
        for (field, value) in [
            ("decodeBaseMilliseconds", self.decode_base_milliseconds),
            (
                "kvTransferGigabytesPerSecond",
                self.kv_transfer_gigabytes_per_second,
            ),
        ] {
            if !(value.is_finite() && value >= 1e-3) {
                return refuse(field, value, "give a finite number of 0.001 or more");
            }
        }
        for (field, value) in [
            ("prefixHitRatio", self.prefix_hit_ratio),
            ("kvKeptFreeShare", self.kv_kept_free_share),
        ] {
            if value >= 1.0 {
                return refuse(field, value, "give a share below 1");
            }
        }
        self.validate_stairs()?;
        self.validate_counts()
    }

    fn validate_stairs(&self) -> Result<(), ProfileError> {
        let mut below = 0;
        for stair in &self.decode_stairs {
            if stair.batch <= below {
                let batch = f64::from(stair.batch);
                return refuse("decodeStairs.batch", batch, "give batches that rise from 1");
            }
            below = stair.batch;
            if !(stair.milliseconds.is_finite() && stair.milliseconds >= 0.0) {
                let remedy = "give a finite number of 0 or more";
                return refuse("decodeStairs.milliseconds", stair.milliseconds, remedy);
            }
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<(), ProfileError> {
        for (field, value) in [
            ("maxBatch", self.max_batch),
            ("prefillStepTokens", self.prefill_step_tokens),
            ("prefillStepRequests", self.prefill_step_requests),
            ("kvBlockTokens", self.kv_block_tokens),
        ] {
            if value == 0 {
                return refuse(field, 0.0, "give 1 or more");
            }
        }
        if self.kv_block_tokens > KV_BLOCK_TOKENS_MAX {
            let tokens = f64::from(self.kv_block_tokens);
            return refuse("kvBlockTokens", tokens, "give 1024 or less");
        }
        if self.kv_capacity_tokens < 1024 {
            let capacity = self.kv_capacity_tokens as f64;
            return refuse("kvCapacityTokens", capacity, "give 1024 or more");
        }
        Ok(())
    }

    /// Tokens of a prompt that the prefix cache holds; at least one token is always computed.
    pub fn cached_tokens(&self, input_tokens: u32) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the ratio is between 0 and 1, so the product fits the tokens' own type"
        )]
        let cached = (f64::from(input_tokens) * self.prefix_hit_ratio) as u32;
        cached.min(input_tokens.saturating_sub(1))
    }

    /// Time in which an idle prefill worker computes a prompt, of which `cached_tokens` need no
    /// computing: that of all its steps.
    pub fn prefill_time(&self, input_tokens: u32, cached_tokens: u32) -> Nanos {
        let mut time: Nanos = 0;
        let mut done = cached_tokens;
        loop {
            let left = input_tokens.saturating_sub(done);
            let computed = left.min(self.prefill_step_tokens.max(1));
            let step = self.prefill_step_time(u64::from(computed), attention(computed, done));
            time = time.saturating_add(step);
            if computed == left {
                return time;
            }
            done += computed;
        }
    }

    /// Time of one prefill step that computes `tokens` in all, whose [`attention`] sums up to
    /// `attended`.
    #[inline]
    pub(super) fn prefill_step_time(&self, tokens: u64, attended: u64) -> Nanos {
        from_milliseconds(
            self.prefill_base_milliseconds + self.computing_milliseconds(tokens, attended),
        )
    }

    /// The time that computing tokens adds to a step, in milliseconds.
    #[inline]
    fn computing_milliseconds(&self, tokens: u64, attended: u64) -> f64 {
        self.prefill_milliseconds_per_kilotoken * tokens as f64 * 1e-3
            + self.prefill_milliseconds_per_megatoken_squared * attended as f64 * 1e-6
    }

    /// The time that computing `tokens` after `done` others adds to prefill steps, with the part of
    /// the constant that a full step's tokens have: how a router counts work that waits.
    #[inline]
    pub(super) fn prefill_share_time(&self, tokens: u32, done: u32) -> Nanos {
        let share = f64::from(tokens) / f64::from(self.prefill_step_tokens.max(1));
        from_milliseconds(
            self.prefill_base_milliseconds * share
                + self.computing_milliseconds(u64::from(tokens), attention(tokens, done)),
        )
    }

    /// Length of a decode step of a batch of `requests` with `context_tokens` in all.
    #[inline]
    pub(super) fn decode_step(&self, requests: usize, context_tokens: u64) -> Parts {
        let by_requests =
            parts(self.decode_milliseconds_per_request * 1e6).saturating_mul(requests as u64);
        let by_context =
            parts(self.decode_milliseconds_per_megatoken).saturating_mul(context_tokens);
        parts((self.decode_base_milliseconds + self.stair_milliseconds(requests)) * 1e6)
            .saturating_add(by_requests)
            .saturating_add(by_context)
    }

    /// Time that a step of a batch of `requests` takes longer because it is padded.
    #[inline]
    fn stair_milliseconds(&self, requests: usize) -> f64 {
        let Some(last) = self.decode_stairs.last() else {
            return 0.0;
        };
        let holds = |stair: &&DecodeStair| stair.batch as usize >= requests;
        self.decode_stairs.iter().find(holds).map_or_else(
            || last.milliseconds * requests.div_ceil(last.batch.max(1) as usize) as f64,
            |stair| stair.milliseconds,
        )
    }

    /// The time by which each further step of the same batch is longer than the one before.
    #[inline]
    pub(super) fn decode_step_growth(&self, requests: usize) -> Parts {
        parts(self.decode_milliseconds_per_megatoken).saturating_mul(requests as u64)
    }

    /// The time that computing `tokens` of prompts adds to a decode step.
    pub(super) fn recompute(&self, tokens: u64, attended: u64) -> Parts {
        parts(self.computing_milliseconds(tokens, attended) * 1e6)
    }

    /// Time of one decode step, in nanoseconds, of a batch of `requests` with `context_tokens` in
    /// all.
    pub fn decode_step_nanos(&self, requests: usize, context_tokens: u64) -> f64 {
        nanos(self.decode_step(requests, context_tokens))
    }

    /// The time that a batch adds to the constant part of a decode step, in milliseconds.
    pub(super) fn decode_load_milliseconds(&self, requests: usize, context_tokens: u64) -> f64 {
        self.decode_milliseconds_per_request * requests as f64
            + self.decode_milliseconds_per_megatoken * context_tokens as f64 * 1e-6
    }

    /// Blocks of KV cache that hold `tokens`.
    #[inline]
    pub(super) fn kv_blocks(&self, tokens: u64) -> u64 {
        blocks_for(tokens, self.kv_block_tokens)
    }

    /// Blocks of KV cache that one worker has.
    #[inline]
    pub(super) fn kv_capacity_blocks(&self) -> u64 {
        self.kv_capacity_tokens / u64::from(self.kv_block_tokens.max(1))
    }

    /// Blocks that are kept free when a request is admitted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a block count fits its type, and a float-to-integer cast saturates"
    )]
    pub(super) fn kv_kept_free_blocks(&self) -> u64 {
        let share = self.kv_capacity_blocks() as f64 * self.kv_kept_free_share;
        let whole = share as u64;
        whole.saturating_add(u64::from(share > whole as f64))
    }

    /// Bytes of the KV cache of `tokens`.
    pub fn kv_bytes(&self, tokens: u32) -> u64 {
        rounded(f64::from(tokens) * self.kv_bytes_per_token)
    }

    /// Time in which the KV cache of `tokens` travels from a prefill to a decode worker.
    pub fn kv_transfer_time(&self, tokens: u32) -> Nanos {
        let gigabytes = f64::from(tokens) * self.kv_bytes_per_token * 1e-9;
        from_milliseconds(
            self.kv_transfer_base_milliseconds
                + gigabytes / self.kv_transfer_gigabytes_per_second * 1e3,
        )
    }

    /// Time from adding a worker of a role to its being ready.
    pub fn startup_time(&self, role: Role) -> Nanos {
        from_seconds(match role {
            Role::Prefill => self.prefill_startup_seconds,
            Role::Decode => self.decode_startup_seconds,
        })
    }
}

/// Token pairs, up to a factor, that attend to each other when `computed` tokens of a prompt are
/// computed after `done` others: `n^2 + 2np`. Over the steps of one prompt it adds up to what one
/// step would have.
#[inline]
pub(super) fn attention(computed: u32, done: u32) -> u64 {
    let (computed, done) = (u64::from(computed), u64::from(done));
    computed.saturating_mul(computed.saturating_add(done.saturating_mul(2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MILLISECOND, seconds};

    #[test]
    fn default_profile_matches_its_source() {
        let profile = Profile::default();
        assert_eq!(profile.validate(), Ok(()));
        let prefill_seconds = seconds(profile.prefill_time(2000, 0));
        assert!((prefill_seconds - 0.093_712).abs() < 1e-6);
        let step_milliseconds = profile.decode_step_nanos(128, 128 * 8000) * 1e-6;
        assert!((step_milliseconds - 28.377).abs() < 0.01);
    }

    #[test]
    fn a_padded_batch_takes_the_time_of_its_stair() {
        let stair = |batch, milliseconds| DecodeStair {
            batch,
            milliseconds,
        };
        let profile = Profile {
            decode_base_milliseconds: 13.0,
            decode_milliseconds_per_request: 0.0,
            decode_stairs: vec![stair(64, 2.0), stair(128, 4.0)],
            ..Profile::default()
        };
        assert_eq!(profile.validate(), Ok(()));
        let taken = |batch: usize| profile.decode_step_nanos(batch, 0) * 1e-6;
        for (batch, milliseconds) in [
            (1, 15.0),
            (64, 15.0),
            (65, 17.0),
            (128, 17.0),
            (129, 21.0),
            (257, 25.0),
        ] {
            let took = taken(batch);
            assert!((took - milliseconds).abs() < 1e-6, "{batch}: {took}");
        }
        let falling = Profile {
            decode_stairs: vec![stair(64, 2.0), stair(64, 4.0)],
            ..Profile::default()
        };
        assert!(falling.validate().is_err());
    }

    #[test]
    fn cached_tokens_are_attended_to_but_not_computed() {
        let profile = Profile {
            prefix_hit_ratio: 0.5,
            ..Profile::default()
        };
        assert_eq!(profile.cached_tokens(1000), 500);
        assert_eq!(profile.cached_tokens(1), 0);
        let half = profile.prefill_time(500, 0);
        let cached = profile.prefill_time(1000, 500);
        let whole = profile.prefill_time(1000, 0);
        assert!(half < cached && cached < whole);
    }

    #[test]
    fn a_long_prompt_pays_the_constant_once_per_step_and_its_attention_once() {
        let profile = Profile::default();
        let long = Profile {
            prefill_step_tokens: 100_000,
            ..profile.clone()
        };
        let in_steps = profile.prefill_time(20_000, 1_000);
        let at_once = long.prefill_time(20_000, 1_000);
        assert!((in_steps - at_once).abs_diff(16 * MILLISECOND) <= 2);
    }

    #[test]
    fn impossible_coefficients_are_refused_by_name() {
        let profile = Profile {
            decode_base_milliseconds: 0.0,
            ..Profile::default()
        };
        let message = profile.validate().unwrap_err().to_string();
        assert_eq!(
            message,
            "profile field `decodeBaseMilliseconds` is `0`: give a finite number of 0.001 or more"
        );
        let full = Profile {
            prefix_hit_ratio: 1.0,
            ..Profile::default()
        };
        assert!(full.validate().is_err());
        let nan = Profile {
            kv_bytes_per_token: f64::NAN,
            ..Profile::default()
        };
        assert!(nan.validate().is_err());
    }
}
