//! One worker after the other, whatever they are doing.
//!
//! The turn is counted over requests, not over workers, so that workers that come and go shift it:
//! as in SMG (`model_gateway/src/policies/round_robin.rs`), whose counter is taken modulo the
//! healthy workers.

use super::Candidate;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(in crate::engine) struct RoundRobin {
    turn: u64,
}

impl RoundRobin {
    pub(super) fn choose<'a>(&mut self, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        let index = self.turn.checked_rem(candidates.len() as u64)?;
        self.turn += 1;
        candidates.get(usize::try_from(index).ok()?)
    }
}
