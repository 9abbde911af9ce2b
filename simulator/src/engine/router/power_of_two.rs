//! Two different workers at random, and of these the one with fewer requests (Mitzenmacher, 2001).
//!
//! As in SMG (`model_gateway/src/policies/power_of_two.rs`) where it has no token counts from the
//! engines: the load is the requests that the router has sent and that have not ended, and of
//! equals the one that was drawn first is taken.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Candidate;

pub(super) fn choose<'a>(
    candidates: &'a [Candidate],
    rng: &mut ChaCha8Rng,
) -> Option<&'a Candidate> {
    let count = candidates.len() as u64;
    if count < 2 {
        return candidates.first();
    }
    let first = rng.random_range(0..count);
    let second = (first + 1 + rng.random_range(0..count - 1)) % count;
    let at = |index| candidates.get(usize::try_from(index).ok()?);
    let (first, second) = (at(first)?, at(second)?);
    Some(if first.requests <= second.requests {
        first
    } else {
        second
    })
}
