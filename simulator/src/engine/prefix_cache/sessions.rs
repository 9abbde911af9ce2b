//! Prompts for traffic that does not tell what its prompts are made of: conversations that go on.
//!
//! A request either goes on with an earlier conversation, and then begins with all that this
//! conversation has said, or opens one, which begins with one of a few system prompts. Lengths stay
//! those of the traffic: a request that goes on with a conversation longer than its own prompt is a
//! beginning of it. Every request draws the same count of numbers, so that a change of one
//! parameter leaves the other choices where they were.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::engine::prompt_blocks::PromptBlocks;

/// Purpose of the random stream, beside those of the traffic.
const STREAM: u64 = 11;

/// How users come back, and what their prompts have in common.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sessions {
    /// Share of requests that go on with an earlier conversation, 0 to 1.
    pub returning_share: f64,
    /// Conversations that may go on; a new one beyond takes the place of any. 1 to 10,000,000.
    pub open: u32,
    /// Different system prompts, of which a conversation begins with any; at least 1.
    pub system_prompts: u32,
    /// Tokens of a system prompt; 0 means that new conversations have nothing in common.
    pub system_prompt_tokens: u32,
    /// Tokens of one block; 16 in vLLM. 1 to 65,536.
    pub block_tokens: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            returning_share: 0.5,
            open: 1_000,
            system_prompts: 4,
            system_prompt_tokens: 256,
            block_tokens: 16,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Conversation {
    id: u64,
    system_prompt: u64,
}

/// The conversations of a run.
#[derive(Debug)]
pub(in crate::engine) struct Conversations {
    sessions: Sessions,
    rng: ChaCha8Rng,
    open: Vec<Conversation>,
    opened: u64,
}

impl Conversations {
    pub(in crate::engine) fn new(sessions: Sessions, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        Self {
            sessions,
            rng,
            open: Vec::new(),
            opened: 0,
        }
    }

    /// The blocks of the next request's prompt.
    pub(in crate::engine) fn prompt(&mut self, input_tokens: u32) -> Arc<PromptBlocks> {
        let returns: f64 = self.rng.random();
        let pick: u64 = self.rng.random();
        let system_prompt =
            self.rng.random::<u64>() % u64::from(self.sessions.system_prompts.max(1));
        let place = usize::try_from(pick % u64::from(self.sessions.open.max(1))).unwrap_or(0);
        let conversation = if returns < self.sessions.returning_share && !self.open.is_empty() {
            self.open[place % self.open.len()]
        } else {
            self.begin(system_prompt, place)
        };
        let block_tokens = self.sessions.block_tokens.max(1);
        let shared = self.sessions.system_prompt_tokens / block_tokens;
        let hash = |block: u32| {
            let begins = if block < shared {
                // Apart from the conversations, which are counted from 0.
                mixed(u64::MAX - conversation.system_prompt)
            } else {
                mixed(conversation.id)
            };
            mixed(begins ^ u64::from(block))
        };
        let hashes = (0..input_tokens / block_tokens).map(hash).collect();
        Arc::new(PromptBlocks::new(block_tokens, hashes))
    }

    fn begin(&mut self, system_prompt: u64, place: usize) -> Conversation {
        let conversation = Conversation {
            id: self.opened,
            system_prompt,
        };
        self.opened += 1;
        if self.open.len() < self.sessions.open.max(1) as usize {
            self.open.push(conversation);
        } else {
            self.open[place] = conversation;
        }
        conversation
    }
}

/// A 64-bit number that differs from those of other inputs in about half its bits: the finaliser of
/// `SplitMix64` (Steele, Lea and Flood, 2014).
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn seen_blocks_share(sessions: Sessions) -> f64 {
        let mut conversations = Conversations::new(sessions, 5);
        let mut seen = HashSet::new();
        let (mut blocks, mut hits) = (0.0, 0.0);
        for _ in 0..5_000 {
            for hash in conversations.prompt(1_600).hashes() {
                blocks += 1.0;
                hits += f64::from(u8::from(!seen.insert(*hash)));
            }
        }
        hits / blocks
    }

    #[test]
    fn prompts_repeat_as_often_as_users_return() {
        let alone = Sessions {
            returning_share: 0.0,
            system_prompt_tokens: 0,
            ..Sessions::default()
        };
        assert!(seen_blocks_share(alone) < 1e-9);
        let system = Sessions {
            system_prompt_tokens: 400,
            ..alone
        };
        assert!((seen_blocks_share(system) - 0.25).abs() < 0.01);
        let returning = Sessions {
            returning_share: 0.6,
            ..alone
        };
        assert!((seen_blocks_share(returning) - 0.6).abs() < 0.02);
    }

    #[test]
    fn a_conversation_that_goes_on_begins_with_what_it_has_said() {
        let one = Sessions {
            returning_share: 1.0,
            open: 1,
            ..Sessions::default()
        };
        let mut conversations = Conversations::new(one, 1);
        let first = conversations.prompt(800);
        let second = conversations.prompt(1_600);
        assert_eq!(first.hashes(), &second.hashes()[..50]);
        assert_eq!(second.hashes().len(), 100);
    }

    #[test]
    fn the_same_seed_gives_the_same_prompts() {
        let draw = |seed| {
            let mut conversations = Conversations::new(Sessions::default(), seed);
            (0..100)
                .map(|_| conversations.prompt(500))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
