//! The coefficients that say how fast one prefill worker and one decode worker are.
//!
//! Prefill of one prompt with n computed and p cached tokens takes `c0 + c1*n + c2*(n^2 + 2np)`;
//! one decode step of a batch of B requests takes `a + b*B + g*(sum of their context)`. The default
//! is Llama-70B FP8 on four H200 with vLLM, as fitted to `AIConfigurator`'s tables. The profile
//! refuses values that would stop time or make it run backwards.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Role;
use crate::time::{Nanos, from_milliseconds, from_seconds};

/// How fast the workers of a service are, and how much they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Profile {
    /// Constant part of a prefill, in milliseconds; 0 or more.
    pub prefill_base_milliseconds: f64,
    /// Prefill time per thousand computed prompt tokens, in milliseconds; 0 or more.
    pub prefill_milliseconds_per_kilotoken: f64,
    /// Prefill time per million squared computed prompt tokens, in milliseconds; 0 or more.
    pub prefill_milliseconds_per_megatoken_squared: f64,
    /// Constant part of a decode step, in milliseconds; above 0.
    pub decode_base_milliseconds: f64,
    /// Decode step time per request in the batch, in milliseconds; 0 or more.
    pub decode_milliseconds_per_request: f64,
    /// Decode step time per million tokens of context in the batch, in milliseconds; 0 or more.
    pub decode_milliseconds_per_megatoken: f64,
    /// KV tokens that one worker holds; at least 1024.
    pub kv_capacity_tokens: u64,
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
            decode_base_milliseconds: 8.64,
            decode_milliseconds_per_request: 0.047,
            decode_milliseconds_per_megatoken: 13.4,
            kv_capacity_tokens: 2_760_000,
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
        ];
        let refuse = |field, value, remedy| {
            Err(ProfileError {
                field,
                value,
                remedy,
            })
        };
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
        if self.prefix_hit_ratio >= 1.0 {
            return refuse(
                "prefixHitRatio",
                self.prefix_hit_ratio,
                "give a share below 1",
            );
        }
        if self.max_batch == 0 {
            return refuse("maxBatch", 0.0, "give 1 or more");
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

    /// Time in which one prefill worker computes a prompt, of which `cached_tokens` need no
    /// computing.
    pub fn prefill_time(&self, input_tokens: u32, cached_tokens: u32) -> Nanos {
        let cached = f64::from(cached_tokens);
        let computed = f64::from(input_tokens) - cached;
        from_milliseconds(
            self.prefill_base_milliseconds
                + self.prefill_milliseconds_per_kilotoken * computed * 1e-3
                + self.prefill_milliseconds_per_megatoken_squared
                    * (computed * computed + 2.0 * computed * cached)
                    * 1e-6,
        )
    }

    /// Time of one decode step, in nanoseconds, of a batch of `requests` with `context_tokens` in
    /// all.
    pub fn decode_step_nanos(&self, requests: usize, context_tokens: u64) -> f64 {
        (self.decode_base_milliseconds + self.decode_load_milliseconds(requests, context_tokens))
            * 1e6
    }

    /// What a batch adds to the constant part of a decode step, in milliseconds.
    pub(super) fn decode_load_milliseconds(&self, requests: usize, context_tokens: u64) -> f64 {
        self.decode_milliseconds_per_request * requests as f64
            + self.decode_milliseconds_per_megatoken * context_tokens as f64 * 1e-6
    }

    /// What each further step of the same batch takes longer than the one before, in nanoseconds.
    pub(super) fn decode_step_growth_nanos(&self, requests: usize) -> f64 {
        self.decode_milliseconds_per_megatoken * requests as f64
    }

    /// Bytes of the KV cache of `tokens`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and a KV cache is far below 2^64 bytes"
    )]
    pub fn kv_bytes(&self, tokens: u32) -> u64 {
        (f64::from(tokens) * self.kv_bytes_per_token).round() as u64
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;

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
