//! Selective disaggregation: prompts of which little is left to compute stay on the decode worker.
//!
//! The decode worker is chosen first. If it holds so much of the prompt that less than
//! `belowTokens` are left, it computes them itself, in steps that it shares with its batch and that
//! take longer for it; nothing travels. With `belowShare` the rest must also be a smaller share of
//! the prompt.
//!
//! Sources: llm-d's `prefix-based-pd-decider` (llm-d/llm-d-router, `nonCachedTokens`), which has
//! the first condition; Dynamo's conditional disaggregation (ai-dynamo/dynamo,
//! `lib/kv-router/src/conditional_disagg.rs`), which has both, with 2048 tokens and 0.7.

use serde::{Deserialize, Serialize};

/// When a prompt is computed where it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalPrefill {
    /// Tokens that are not held must be fewer; 0 computes none.
    pub below_tokens: u32,
    /// And a smaller share of the prompt, 0 to 1; without, any.
    #[serde(default)]
    pub below_share: Option<f64>,
}

impl LocalPrefill {
    /// Whether a prompt stays on a decode worker that holds `held_tokens` of it.
    pub(in crate::engine) fn stays(self, input_tokens: u32, held_tokens: u32) -> bool {
        let left = input_tokens.saturating_sub(held_tokens);
        let share = f64::from(left) / f64::from(input_tokens.max(1));
        left < self.below_tokens && self.below_share.is_none_or(|below| share < below)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::short(None, 100, 0, true)]
    #[case::at_the_limit(None, 512, 0, false)]
    #[case::long_but_held(None, 4_000, 3_600, true)]
    #[case::long(None, 4_000, 3_000, false)]
    #[case::short_but_not_held(Some(0.7), 100, 0, false)]
    #[case::short_and_held(Some(0.7), 100, 40, true)]
    #[case::long_and_held(Some(0.7), 4_000, 3_600, true)]
    #[case::too_much_left(Some(0.7), 4_000, 3_000, false)]
    fn little_that_is_left_stays(
        #[case] below_share: Option<f64>,
        #[case] input_tokens: u32,
        #[case] held_tokens: u32,
        #[case] stays: bool,
    ) {
        let rule = LocalPrefill {
            below_tokens: 512,
            below_share,
        };
        assert_eq!(rule.stays(input_tokens, held_tokens), stays);
    }
}
