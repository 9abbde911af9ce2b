//! The blocks that prompts are made of, by which it is seen that they begin alike.

/// The blocks that a prompt is made of, as far as it is known which prompts begin alike.
///
/// A hash stands for its block and everything before it, as in vLLM and in Mooncake's traces: two
/// prompts whose n-th hashes are equal have their first n blocks in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptBlocks {
    block_tokens: u32,
    hashes: Vec<u64>,
}

impl PromptBlocks {
    /// Blocks of `block_tokens` tokens each, 0 counting as 1, from the first on. The last may reach
    /// beyond the prompt, as a trace counts blocks that are not full.
    pub fn new(block_tokens: u32, hashes: Vec<u64>) -> Self {
        Self {
            block_tokens: block_tokens.max(1),
            hashes,
        }
    }

    /// Tokens of one block, at least 1.
    pub fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// The hashes, in the order of the prompt.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The hashes of the blocks that a prompt of so many tokens fills.
    pub(super) fn full_blocks(&self, input_tokens: u32) -> &[u64] {
        let full = (input_tokens / self.block_tokens) as usize;
        &self.hashes[..full.min(self.hashes.len())]
    }

    /// The same blocks as those of other prompts: prompts that went through the same change begin
    /// alike as before, and unlike all others.
    #[must_use]
    pub fn salted(&self, salt: u64) -> Self {
        Self {
            block_tokens: self.block_tokens,
            hashes: self.hashes.iter().map(|hash| hash ^ salt).collect(),
        }
    }
}
