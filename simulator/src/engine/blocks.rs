//! KV cache in whole blocks, and how many a batch takes after any number of steps.
//!
//! A request takes as many blocks as its context fills or begins. In a batch every context grows by
//! one token per step, so a request begins a block once in as many steps as a block has tokens, and
//! always at the same phase of the token clock. Counting requests by phase therefore tells the
//! blocks after n steps, and the steps that still fit, without looking at any request.

/// Blocks that hold `tokens`; a block has at least one token.
pub(super) fn blocks_for(tokens: u64, block_tokens: u32) -> u64 {
    tokens.div_ceil(u64::from(block_tokens.max(1)))
}

/// Blocks of the requests that decode together.
#[derive(Clone, Debug, Default)]
pub(super) struct BatchBlocks {
    /// Requests by the phase of the clock at which they begin a block; as long as a block has
    /// tokens.
    by_phase: Vec<u32>,
    requests: u64,
    /// Blocks at the last step taken.
    used: u64,
}

impl BatchBlocks {
    /// Blocks at the last step taken.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Adds a request of `context_tokens` at the step `taken`. Blocks keep their size for as long
    /// as there is any.
    pub(super) fn join(&mut self, context_tokens: u64, taken: u64, block_tokens: u32) {
        if self.requests == 0 {
            self.by_phase.clear();
            self.by_phase.resize(block_tokens.max(1) as usize, 0);
        }
        self.requests += 1;
        self.used += blocks_for(context_tokens, self.block_tokens());
        let phase = self.phase(context_tokens, taken);
        if let Some(count) = self.by_phase.get_mut(phase) {
            *count += 1;
        }
    }

    /// Removes a request of `context_tokens` at the step `taken`.
    pub(super) fn leave(&mut self, context_tokens: u64, taken: u64) {
        self.requests -= 1;
        self.used -= blocks_for(context_tokens, self.block_tokens());
        let phase = self.phase(context_tokens, taken);
        if let Some(count) = self.by_phase.get_mut(phase) {
            *count -= 1;
        }
    }

    /// Takes `steps` steps from the step `taken` on.
    pub(super) fn take(&mut self, taken: u64, steps: u64) {
        self.used = self.after(taken, steps);
    }

    /// Blocks after `steps` more steps from the step `taken` on.
    pub(super) fn after(&self, taken: u64, steps: u64) -> u64 {
        if self.requests == 0 {
            return 0;
        }
        let size = self.by_phase.len() as u64;
        let begun: u64 = self.phases_from(taken).take(place(steps % size)).sum();
        self.used + steps / size * self.requests + begun
    }

    /// Whether `room` more blocks are enough for `steps` steps, wherever the phases are: cheap, and
    /// wrong only in saying no.
    pub(super) fn surely_fit(&self, steps: u64, room: u64) -> bool {
        let size = self.by_phase.len().max(1) as u64;
        (steps / size + 1).saturating_mul(self.requests) <= room
    }

    /// The most steps from the step `taken` on that take no more than `room` more blocks.
    pub(super) fn steps_within(&self, taken: u64, room: u64) -> u64 {
        if self.requests == 0 {
            return u64::MAX;
        }
        let size = self.by_phase.len() as u64;
        let mut left = room % self.requests;
        let mut steps = (room / self.requests).saturating_mul(size);
        for begun in self.phases_from(taken) {
            if begun > left {
                break;
            }
            left -= begun;
            steps = steps.saturating_add(1);
        }
        steps
    }

    fn block_tokens(&self) -> u32 {
        u32::try_from(self.by_phase.len()).unwrap_or(u32::MAX)
    }

    /// The phase at which a request that has `context_tokens` at the step `taken` begins a block:
    /// its first token beyond a whole number of blocks.
    fn phase(&self, context_tokens: u64, taken: u64) -> usize {
        let size = self.by_phase.len().max(1) as u64;
        place((taken % size + 1 + size - context_tokens % size) % size)
    }

    /// Requests that begin a block at each of the steps of one block after `taken`.
    fn phases_from(&self, taken: u64) -> impl Iterator<Item = u64> + '_ {
        let size = self.by_phase.len().max(1) as u64;
        let next = place((taken + 1) % size).min(self.by_phase.len());
        let (before, from) = self.by_phase.split_at(next);
        from.iter().chain(before).map(|count| u64::from(*count))
    }
}

fn place(phase: u64) -> usize {
    usize::try_from(phase).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        #[test]
        fn blocks_by_phase_are_those_of_each_request(
            contexts in prop::collection::vec(1..5000u64, 1..40),
            block_tokens in 1..40u32,
            began in 0..100u64,
            steps in 0..200u64,
            room in 0..500u64,
        ) {
            let mut blocks = BatchBlocks::default();
            for context in &contexts {
                blocks.join(*context, began, block_tokens);
            }
            let each = |steps: u64| -> u64 {
                contexts.iter().map(|context| blocks_for(context + steps, block_tokens)).sum()
            };
            prop_assert_eq!(blocks.used(), each(0));
            prop_assert_eq!(blocks.after(began, steps), each(steps));
            let within = blocks.steps_within(began, room);
            prop_assert!(each(within) <= each(0) + room);
            prop_assert!(each(within + 1) > each(0) + room);
            if blocks.surely_fit(steps, room) {
                prop_assert!(steps <= within);
            }
            blocks.take(began, steps);
            prop_assert_eq!(blocks.used(), each(steps));
            for context in &contexts {
                blocks.leave(context + steps, began + steps);
            }
            prop_assert_eq!(blocks.used(), 0);
            prop_assert!(blocks.by_phase.iter().all(|count| *count == 0));
        }
    }
}
