//! Tokens that the KV cache of a decode worker holds: what its use shows, or else what is stated.
//!
//! Engines state a number of blocks, and profiles a number of tokens. Of models with sliding
//! windows or several kinds of layers neither is the number of tokens that fit: a cache that is
//! stated to hold 10,000 tokens was seen to hold 60,000 and to be 17 % full. The requests in
//! flight, their contexts and the share in use give what really fits, by the same count of tokens
//! that sizing takes. Where far more fits than is stated the measurement counts. Where less does,
//! the share in use says so itself, and replicas are sized by that.

use crate::signal::Signals;

/// Share of a cache in use from which it is a measurement: below, single blocks count, and it shows
/// only that no more than this is in use.
const USE_MIN: f64 = 0.02;

/// How far apart both may be. Requests are on average half done only in a steady state, and
/// prefixes that they share count once in use.
const APART_MAX: f64 = 2.0;

/// Tokens that one decode worker's KV cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvCapacity {
    /// Tokens; nothing when neither is known.
    pub tokens: Option<f64>,
    /// The stated capacity, if its use contradicts it.
    pub contradicted: Option<f64>,
}

/// The capacity that `stated` tokens and the use of the cache in `signals` show, with requests in
/// flight of `context_tokens` each on average.
pub fn kv_capacity(signals: &Signals, stated: Option<f64>, context_tokens: f64) -> KvCapacity {
    let measured = measured(signals, context_tokens);
    match (stated.filter(|tokens| *tokens > 0.0), measured) {
        (Some(stated), Some(measured)) if stated * APART_MAX < measured => KvCapacity {
            tokens: Some(measured),
            contradicted: Some(stated),
        },
        (stated, _) => KvCapacity {
            tokens: stated,
            contradicted: None,
        },
    }
}

fn measured(signals: &Signals, context_tokens: f64) -> Option<f64> {
    let usage = signals.decode_kv_usage.known()?;
    let batch = signals.decode_batch()?;
    // Of less than one request at a time a gauge shows mostly nothing.
    (usage > 0.0 && batch >= 1.0 && context_tokens > 0.0)
        .then(|| batch * context_tokens / usage.max(USE_MIN))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        role::PerRole,
        signal::{Coverage, Reading},
    };

    fn signals(running: f64, usage: f64) -> Signals {
        Signals {
            coverage: PerRole {
                prefill: Coverage::default(),
                decode: Coverage {
                    scraped: 2,
                    seen: 2,
                    oldest_age: None,
                },
            },
            running_requests: PerRole {
                prefill: Reading::default(),
                decode: Reading::of(running),
            },
            decode_kv_usage: Reading::of(usage),
            ..Signals::default()
        }
    }

    #[rstest]
    #[case::agree(60.0, 0.17, Some(200_000.0), Some(200_000.0))]
    #[case::stated_too_small(60.0, 0.17, Some(6_000.0), Some(176_470.0))]
    #[case::stated_too_large(60.0, 0.17, Some(6e6), Some(6e6))]
    #[case::hardly_used_by_what_would_not_fit(60.0, 0.01, Some(6_000.0), Some(1.5e6))]
    #[case::hardly_used_and_large(60.0, 0.01, Some(2e6), Some(2e6))]
    #[case::no_use_is_shown(60.0, 0.0, Some(6_000.0), Some(6_000.0))]
    #[case::hardly_anybody(1.0, 0.17, Some(6_000.0), Some(6_000.0))]
    #[case::not_stated(60.0, 0.17, None, None)]
    fn a_measurement_beats_a_label(
        #[case] running: f64,
        #[case] usage: f64,
        #[case] stated: Option<f64>,
        #[case] expected: Option<f64>,
    ) {
        let found = kv_capacity(&signals(running, usage), stated, 1_000.0);
        let near = found
            .tokens
            .zip(expected)
            .is_none_or(|(a, b)| (a / b - 1.0).abs() < 1e-3);
        assert!(
            near && found.tokens.is_some() == expected.is_some(),
            "{found:?}"
        );
        assert_eq!(found.contradicted.is_some(), found.tokens != stated);
    }
}
