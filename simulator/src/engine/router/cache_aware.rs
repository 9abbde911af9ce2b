//! The cache-aware rule of SMG, the SGLang model gateway.
//!
//! Load is out of balance if the most loaded worker has both `balanceAbsThreshold` requests more
//! than the least loaded and `balanceRelThreshold` times as many; then the least loaded gets the
//! request. Otherwise the worker that holds most of the prompt gets it, if that is more than
//! `cacheThreshold` of it, and else the least loaded.
//!
//! Source: `model_gateway/src/policies/cache_aware.rs` of lightseekorg/smg, with its defaults. Its
//! approximate tree remembers what was sent where; here the router sees the workers' own caches, as
//! SMG does where engines send KV events. Of workers that hold equally much the less loaded is
//! taken, as there.

use serde::{Deserialize, Serialize};

use super::{Candidate, fewest_requests};

/// When a prefix counts more than balance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CacheAware {
    /// Share of the prompt that a worker must hold more than, 0 to 1.
    pub cache_threshold: f64,
    /// Requests that the loads may differ by.
    pub balance_abs_threshold: u64,
    /// Times the least load that the highest may be, 1 or more.
    pub balance_rel_threshold: f64,
}

impl Default for CacheAware {
    fn default() -> Self {
        Self {
            cache_threshold: 0.3,
            balance_abs_threshold: 64,
            balance_rel_threshold: 1.5,
        }
    }
}

impl CacheAware {
    pub(super) fn choose<'a>(&self, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
        let least = fewest_requests(candidates)?;
        let most = candidates
            .iter()
            .map(|candidate| candidate.requests)
            .max()?;
        let unbalanced = most - least.requests > self.balance_abs_threshold
            && most as f64 > least.requests as f64 * self.balance_rel_threshold;
        if unbalanced {
            return Some(least);
        }
        let holds_most = candidates.iter().min_by(|one, other| {
            let by_prefix = other.cached_share.total_cmp(&one.cached_share);
            let by_load = one.requests.cmp(&other.requests);
            by_prefix.then(by_load).then(one.place.cmp(&other.place))
        })?;
        Some(if holds_most.cached_share > self.cache_threshold {
            holds_most
        } else {
            least
        })
    }
}
