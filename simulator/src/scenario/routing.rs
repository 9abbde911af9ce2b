//! Routers, prefix caches and links in the words of a scenario, refused by field.
//!
//! The engine defines the settings, for it runs them; this file refuses those that make no sense.

use super::{Scenario, ScenarioError, ensure};
use crate::engine::{CacheAware, EppScoring, Links, PrefixCaches};

/// Most KV tokens that a prefix cache may be told to hold.
const CAPACITY_TOKENS_MAX: u64 = 1_000_000_000_000;

impl Scenario {
    pub(super) fn validate_routing(&self) -> Result<(), ScenarioError> {
        validate_cache_aware(self.routing.cache_aware)?;
        validate_epp_scoring(self.routing.epp_scoring)?;
        let local_prefill = self.routing.local_prefill;
        if let Some(share) = local_prefill.and_then(|rule| rule.below_share) {
            let field = "routing.localPrefill.belowShare";
            ensure((0.0..=1.0).contains(&share), field, share, "give 0 to 1")?;
        }
        if let Some(caches) = self.prefix_cache {
            validate_prefix_caches(caches)?;
        }
        self.links.map_or(Ok(()), validate_links)
    }
}

fn validate_cache_aware(rule: CacheAware) -> Result<(), ScenarioError> {
    let threshold = rule.cache_threshold;
    let field = "routing.cacheAware.cacheThreshold";
    ensure(
        (0.0..=1.0).contains(&threshold),
        field,
        threshold,
        "give 0 to 1",
    )?;
    let relative = rule.balance_rel_threshold;
    let field = "routing.cacheAware.balanceRelThreshold";
    ensure(
        (1.0..=1e6).contains(&relative),
        field,
        relative,
        "give 1 to 1000000",
    )
}

fn validate_epp_scoring(scoring: EppScoring) -> Result<(), ScenarioError> {
    let weights = [
        ("prefixWeight", scoring.prefix_weight),
        ("queueWeight", scoring.queue_weight),
        ("kvCacheWeight", scoring.kv_cache_weight),
    ];
    for (name, weight) in weights {
        let field = format!("routing.eppScoring.{name}");
        ensure(
            (0.0..=1e6).contains(&weight),
            &field,
            weight,
            "give 0 to 1000000",
        )?;
    }
    Ok(())
}

fn validate_prefix_caches(caches: PrefixCaches) -> Result<(), ScenarioError> {
    if let Some(capacity) = caches.capacity_tokens {
        let usable = capacity <= CAPACITY_TOKENS_MAX;
        let remedy = "give 0 to 1000000000000 tokens";
        ensure(usable, "prefixCache.capacityTokens", capacity, remedy)?;
    }
    let Some(sessions) = caches.sessions else {
        return Ok(());
    };
    let share = sessions.returning_share;
    let field = "prefixCache.sessions.returningShare";
    ensure((0.0..=1.0).contains(&share), field, share, "give 0 to 1")?;
    let counts = [
        ("open", sessions.open, 10_000_000),
        ("systemPrompts", sessions.system_prompts, 10_000_000),
        ("blockTokens", sessions.block_tokens, 65_536),
    ];
    for (name, count, most) in counts {
        let field = format!("prefixCache.sessions.{name}");
        let remedy = "give 1 or more; at most 65536 tokens of a block, and 10000000 of the others";
        ensure((1..=most).contains(&count), &field, count, remedy)?;
    }
    Ok(())
}

fn validate_links(links: Links) -> Result<(), ScenarioError> {
    let between = links.between_domains;
    let speeds = [
        (
            "links",
            links.bandwidth_gigabytes_per_second,
            links.latency_seconds,
        ),
        (
            "links.betweenDomains",
            between.bandwidth_gigabytes_per_second,
            between.latency_seconds,
        ),
    ];
    for (of, bandwidth, latency) in speeds {
        let field = format!("{of}.bandwidthGigabytesPerSecond");
        let usable = (0.001..=100_000.0).contains(&bandwidth);
        ensure(
            usable,
            &field,
            bandwidth,
            "give 0.001 to 100000 gigabytes per second",
        )?;
        let field = format!("{of}.latencySeconds");
        ensure(
            (0.0..=60.0).contains(&latency),
            &field,
            latency,
            "give 0 to 60 seconds",
        )?;
    }
    let domains = links.domains;
    ensure(
        (1..=64).contains(&domains),
        "links.domains",
        domains,
        "give 1 to 64",
    )
}
