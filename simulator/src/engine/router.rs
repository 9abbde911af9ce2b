//! Routers: which of the ready workers gets the next request.
//!
//! A rule sees what a router outside of the engines can see: requests sent and not ended, requests
//! that wait, KV usage, and how much of the prompt a worker holds. It refuses to look into the
//! future; only [`Rule::LeastWork`], the default and the bound that real routers are measured by,
//! knows how long the work of every worker will take. Rules that draw have random streams of their
//! own, so that the router of one role leaves the draws of the other where they were.

mod cache_aware;
mod epp_scoring;
mod local_prefill;
mod power_of_two;
mod round_robin;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Role;

pub use self::cache_aware::CacheAware;
pub use self::epp_scoring::EppScoring;
pub use self::local_prefill::LocalPrefill;
use self::round_robin::RoundRobin;

/// How a worker is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The prefill worker that would be done first, the decode worker whose step is least loaded.
    /// It does not look at prefixes.
    #[default]
    LeastWork,
    /// One after the other.
    RoundRobin,
    /// The one with fewer requests of two that are drawn.
    PowerOfTwo,
    /// The one that holds most of the prompt, unless load is out of balance; see [`CacheAware`].
    CacheAware,
    /// The one with the highest weighted score; see [`EppScoring`].
    EppScoring,
}

/// How requests find their workers, as a scenario describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Routing {
    /// Rule of the prefill workers.
    pub prefill: Rule,
    /// Rule of the decode workers.
    pub decode: Rule,
    /// Parameters of `cacheAware`.
    pub cache_aware: CacheAware,
    /// Parameters of `eppScoring`.
    pub epp_scoring: EppScoring,
    /// Which prompts are computed on their decode worker; without, none.
    pub local_prefill: Option<LocalPrefill>,
}

impl Routing {
    /// The rule of a role.
    pub fn rule(&self, role: Role) -> Rule {
        match role {
            Role::Prefill => self.prefill,
            Role::Decode => self.decode,
        }
    }
}

/// The questions that routers have for a worker.
pub(super) trait Workload {
    /// Requests that were sent to it and have not left it.
    fn requests(&self) -> u64;
    /// Those of them that wait for room.
    fn waiting(&self) -> u64;
    /// Blocks of KV cache in use.
    fn kv_blocks(&self) -> u64;
}

/// A ready worker as a router sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Candidate {
    pub(super) place: u32,
    /// Requests that were sent to it and have not left it.
    pub(super) requests: u64,
    /// Those of them that wait.
    pub(super) waiting: u64,
    /// Share of its KV cache that is in use, 0 to 1.
    pub(super) kv_usage: f64,
    /// Share of the request's prompt that it holds, 0 to 1.
    pub(super) cached_share: f64,
}

/// The router of one role.
#[derive(Debug, Default)]
pub(super) enum Router {
    #[default]
    LeastWork,
    RoundRobin(RoundRobin),
    PowerOfTwo(ChaCha8Rng),
    CacheAware(CacheAware),
    EppScoring(EppScoring, ChaCha8Rng),
}

impl Router {
    pub(super) fn new(routing: &Routing, role: Role, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Purposes beside those of the traffic, of overlaid copies and of sessions.
        rng.set_stream(match role {
            Role::Prefill => 12,
            Role::Decode => 13,
        });
        match routing.rule(role) {
            Rule::LeastWork => Self::LeastWork,
            Rule::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Rule::PowerOfTwo => Self::PowerOfTwo(rng),
            Rule::CacheAware => Self::CacheAware(routing.cache_aware),
            Rule::EppScoring => Self::EppScoring(routing.epp_scoring, rng),
        }
    }

    /// Whether the rule compares what workers hold of a prompt.
    pub(super) fn reads_prefixes(&self) -> bool {
        matches!(self, Self::CacheAware(_) | Self::EppScoring(..))
    }

    /// The place of the worker to send the request to; nothing if there is none. Least work is not
    /// decided here, as it needs no candidates: see `Pool::ready_by_least`.
    pub(super) fn choose(&mut self, candidates: &[Candidate]) -> Option<u32> {
        let chosen = match self {
            Self::LeastWork => candidates.first(),
            Self::RoundRobin(round_robin) => round_robin.choose(candidates),
            Self::PowerOfTwo(rng) => power_of_two::choose(candidates, rng),
            Self::CacheAware(cache_aware) => cache_aware.choose(candidates),
            Self::EppScoring(scoring, rng) => scoring.choose(candidates, rng),
        };
        chosen.map(|candidate| candidate.place)
    }
}

/// The candidate with fewest requests; of equals the one in the lowest place.
fn fewest_requests(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates
        .iter()
        .min_by_key(|candidate| (candidate.requests, candidate.place))
}

#[cfg(test)]
mod tests;
