//! The prompts that a worker remembers: blocks of tokens, the least recently used
//! forgotten first.
//!
//! As in vLLM, a block counts only if it is full and everything before it is there too, and the
//! last token of a prompt is always computed. The blocks of one request are given back from its
//! end, so that the end of a prompt is forgotten before its beginning, which more prompts share. A
//! request's blocks are noted when it is sent to the worker: prompts are computed in that order, so
//! by its turn everything before it has been. The cache knows nothing of requests in flight; that
//! blocks in use cannot be forgotten is left out, as they are also the most recently used.
//!
//! Source of the rule: vLLM's automatic prefix caching, `vllm/v1/core/kv_cache_manager.py`.

mod sessions;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::profile::Profile;
use super::prompt_blocks::PromptBlocks;

pub(super) use self::sessions::Conversations;
pub use self::sessions::Sessions;

/// Prefix caches as a scenario describes them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixCaches {
    /// KV tokens of one worker that may hold prefixes; without, the profile's KV capacity.
    pub capacity_tokens: Option<u64>,
    /// Prompts for traffic that does not tell what its prompts are made of; without, such prompts
    /// have nothing in common beyond the profile's `prefixHitRatio`.
    pub sessions: Option<Sessions>,
    /// Whether decode workers keep prefixes too: what one holds need not travel to it again.
    pub decode: bool,
}

impl Default for PrefixCaches {
    fn default() -> Self {
        Self {
            capacity_tokens: None,
            sessions: None,
            decode: true,
        }
    }
}

impl PrefixCaches {
    /// Tokens that one worker may hold.
    pub(super) fn capacity(self, profile: &Profile) -> u64 {
        let capacity = self.capacity_tokens.unwrap_or(u64::MAX);
        capacity.min(profile.kv_capacity_tokens)
    }
}

const NONE: u32 = u32::MAX;

/// A block in the list from the least to the most recently used.
#[derive(Clone, Copy, Debug)]
struct Block {
    hash: u64,
    tokens: u32,
    older: u32,
    newer: u32,
}

/// The blocks that one worker holds.
#[derive(Debug)]
pub(super) struct PrefixCache {
    places: HashMap<u64, u32>,
    blocks: Vec<Block>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    tokens: u64,
}

impl Default for PrefixCache {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            blocks: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            tokens: 0,
        }
    }
}

impl PrefixCache {
    /// Tokens at the beginning of a prompt of `input_tokens` that are here, less than the prompt.
    pub(super) fn hit_tokens(&self, prompt: &PromptBlocks, input_tokens: u32) -> u32 {
        // A block that ends with the prompt is no use: its last token is computed anyway.
        let usable = prompt.full_blocks(input_tokens.saturating_sub(1));
        let here = |hash: &&u64| self.places.contains_key(hash);
        let hits = usable.iter().take_while(here).count();
        u32::try_from(hits).map_or(u32::MAX, |hits| hits * prompt.block_tokens())
    }

    /// Notes a prompt that is about to be held, and forgets the oldest blocks beyond the capacity.
    pub(super) fn hold(&mut self, prompt: &PromptBlocks, input_tokens: u32, capacity_tokens: u64) {
        for &hash in prompt.full_blocks(input_tokens).iter().rev() {
            if let Some(&place) = self.places.get(&hash) {
                self.unlink(place);
                self.link(place);
            } else {
                self.insert(hash, prompt.block_tokens());
            }
        }
        while self.tokens > capacity_tokens && self.oldest != NONE {
            self.forget(self.oldest);
        }
    }

    fn insert(&mut self, hash: u64, tokens: u32) {
        let block = Block {
            hash,
            tokens,
            older: NONE,
            newer: NONE,
        };
        let place = if let Some(place) = self.free.pop() {
            self.blocks[place as usize] = block;
            place
        } else {
            self.blocks.push(block);
            // Four billion blocks would need over 100 GB, so memory ends first.
            u32::try_from(self.blocks.len() - 1).unwrap_or(NONE)
        };
        self.places.insert(hash, place);
        self.tokens += u64::from(tokens);
        self.link(place);
    }

    fn forget(&mut self, place: u32) {
        let Block { hash, tokens, .. } = self.blocks[place as usize];
        self.unlink(place);
        self.places.remove(&hash);
        self.tokens -= u64::from(tokens);
        self.free.push(place);
    }

    /// Makes a block that is not in the list the most recently used.
    fn link(&mut self, place: u32) {
        let newest = std::mem::replace(&mut self.newest, place);
        let block = &mut self.blocks[place as usize];
        block.older = newest;
        block.newer = NONE;
        if newest == NONE {
            self.oldest = place;
        } else {
            self.blocks[newest as usize].newer = place;
        }
    }

    fn unlink(&mut self, place: u32) {
        let Block { older, newer, .. } = self.blocks[place as usize];
        if older == NONE {
            self.oldest = newer;
        } else {
            self.blocks[older as usize].newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.blocks[newer as usize].older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: u32 = 16;

    /// The same rule on a plain list, the least recently used first.
    #[derive(Default)]
    struct Naive(Vec<u64>);

    impl Naive {
        fn hit_tokens(&self, prompt: &PromptBlocks, input_tokens: u32) -> u32 {
            let mut tokens = 0;
            for hash in prompt.hashes() {
                if tokens + BLOCK >= input_tokens || !self.0.contains(hash) {
                    break;
                }
                tokens += BLOCK;
            }
            tokens
        }

        fn hold(&mut self, prompt: &PromptBlocks, input_tokens: u32, capacity_tokens: u64) {
            let full = (input_tokens / BLOCK) as usize;
            for hash in prompt.hashes().iter().take(full).rev() {
                self.0.retain(|other| other != hash);
                self.0.push(*hash);
            }
            let capacity = usize::try_from(capacity_tokens / u64::from(BLOCK)).unwrap();
            let surplus = self.0.len().saturating_sub(capacity);
            self.0.drain(..surplus);
        }
    }

    /// Prompts of a few families, so that they often begin alike.
    fn prompt() -> impl Strategy<Value = (PromptBlocks, u32)> {
        (0..4u64, 0..12u64, 1..260u32).prop_map(|(family, own, input_tokens)| {
            let blocks = u64::from(input_tokens.div_ceil(BLOCK));
            let hash = |block| {
                if block < own {
                    1000 * family + block
                } else {
                    1000 * (family + 10 * own) + block
                }
            };
            let hashes = (0..blocks).map(hash).collect();
            (PromptBlocks::new(BLOCK, hashes), input_tokens)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn hits_are_those_of_a_plain_list(
            prompts in prop::collection::vec(prompt(), 1..60),
            capacity_tokens in 0..1_500u64,
        ) {
            let mut cache = PrefixCache::default();
            let mut naive = Naive::default();
            for (prompt, input_tokens) in &prompts {
                let hit = cache.hit_tokens(prompt, *input_tokens);
                prop_assert_eq!(hit, naive.hit_tokens(prompt, *input_tokens));
                prop_assert!(hit < *input_tokens);
                cache.hold(prompt, *input_tokens, capacity_tokens);
                naive.hold(prompt, *input_tokens, capacity_tokens);
                prop_assert!(cache.tokens <= capacity_tokens);
                prop_assert_eq!(cache.places.len(), naive.0.len());
            }
        }
    }

    #[test]
    fn the_end_of_a_prompt_is_forgotten_before_its_beginning() {
        let prompt = PromptBlocks::new(BLOCK, vec![1, 2, 3, 4]);
        let mut cache = PrefixCache::default();
        cache.hold(&prompt, 64, 32);
        assert_eq!(cache.hit_tokens(&prompt, 64), 32);
    }

    #[test]
    fn a_prompt_that_is_held_whole_still_computes_its_last_block() {
        let prompt = PromptBlocks::new(BLOCK, vec![1, 2]);
        let mut cache = PrefixCache::default();
        cache.hold(&prompt, 32, 1_000);
        assert_eq!(cache.hit_tokens(&prompt, 32), 16);
        assert_eq!(cache.hit_tokens(&prompt, 33), 32);
    }

    #[test]
    fn a_block_that_is_not_full_is_not_kept() {
        let prompt = PromptBlocks::new(BLOCK, vec![1, 2]);
        let mut cache = PrefixCache::default();
        cache.hold(&prompt, 31, 1_000);
        assert_eq!(cache.hit_tokens(&prompt, 100), 16);
    }
}
