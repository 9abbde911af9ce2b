//! The endpoint picker of llm-d: weighted scores of every worker, and the highest wins.
//!
//! Three scorers give 0 to 1 each. The prefix scorer gives the share of the prompt that the worker
//! holds; the queue scorer places the count of waiting requests between the longest queue (0) and
//! the shortest (1), and gives 1 to all if they are equal; the KV scorer gives the share of the KV
//! cache that is free. The picker takes the highest sum and draws among equals.
//!
//! Source: llm-d/llm-d-router, `pkg/epp/framework/plugins/scheduling/scorer/{prefix,queuedepth,
//! kvcacheutilization}` and `picker/maxscore`; weights 3, 2 and 2 of its default profile. There the
//! figures are as old as the last scrape, here they are those of the moment.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Candidate;

/// Weights of the scorers, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EppScoring {
    /// Weight of the share of the prompt that the worker holds.
    pub prefix_weight: f64,
    /// Weight of a short queue.
    pub queue_weight: f64,
    /// Weight of a free KV cache.
    pub kv_cache_weight: f64,
}

impl Default for EppScoring {
    fn default() -> Self {
        Self {
            prefix_weight: 3.0,
            queue_weight: 2.0,
            kv_cache_weight: 2.0,
        }
    }
}

impl EppScoring {
    pub(super) fn choose<'a>(
        &self,
        candidates: &'a [Candidate],
        rng: &mut ChaCha8Rng,
    ) -> Option<&'a Candidate> {
        let queues = candidates.iter().map(|candidate| candidate.waiting);
        let shortest = queues.clone().min()?;
        let longest = queues.max()?;
        let mut highest = f64::NEG_INFINITY;
        let mut chosen = None;
        let mut equals = 0;
        for candidate in candidates {
            let score = self.score(candidate, shortest, longest);
            if score > highest {
                highest = score;
                equals = 0;
            }
            if score >= highest {
                equals += 1;
                // The n-th of equals takes the place of those before with a chance of 1 in n, which
                // gives all of them the same.
                if equals == 1 || rng.random_range(0..equals) == 0 {
                    chosen = Some(candidate);
                }
            }
        }
        chosen
    }

    fn score(&self, candidate: &Candidate, shortest: u64, longest: u64) -> f64 {
        let queue = if longest == shortest {
            1.0
        } else {
            (longest - candidate.waiting) as f64 / (longest - shortest) as f64
        };
        self.prefix_weight * candidate.cached_share
            + self.queue_weight * queue
            + self.kv_cache_weight * (1.0 - candidate.kv_usage)
    }
}
