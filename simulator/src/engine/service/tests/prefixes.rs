//! Real and made conversations under routers that see prefixes and those that do not.
//!
//! In Mooncake's paper, and in SGLang's of its router, sending a prompt where most of it is held
//! computes less of it and shortens the time to first token; so it does here, at the same number of
//! workers.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::engine::{CacheAware, PrefixCaches, PromptBlocks, Routing, Rule};
use crate::trace::Trace;

/// Share of prompt tokens that prefill workers held, and the mean TTFT in seconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    hit_share: f64,
    ttft: f64,
}

fn seen(rule: Rule, workers: usize, arrivals: &[Arrival]) -> Seen {
    let routing = Routing {
        prefill: rule,
        // As the shipped scenario of chats has it.
        cache_aware: CacheAware {
            balance_abs_threshold: 2,
            ..CacheAware::default()
        },
        ..Routing::default()
    };
    let dispatch = Dispatch {
        routing,
        prefix_caches: Some(PrefixCaches::default()),
        ..Dispatch::default()
    };
    let mut service = Service::with_dispatch(Profile::default(), dispatch);
    for (role, count) in [(Role::Prefill, workers), (Role::Decode, 4)] {
        for index in 0..count {
            let name = format!("{role:?}-{index}");
            service.add_worker_ready_at(0, role, &name, 0).unwrap();
        }
    }
    let outcomes = run(&mut service, arrivals.iter().cloned());
    let total = |read: fn(&WorkerMetrics) -> u64| {
        let prefill = service.workers().filter(|w| w.role == Role::Prefill);
        prefill.map(|worker| read(worker.metrics)).sum::<u64>() as f64
    };
    Seen {
        hit_share: total(|m| m.prefix_cache_hits) / total(|m| m.prefix_cache_queries),
        ttft: mean_ttft(&outcomes),
    }
}

/// Rules that see prefixes find at least `more` times the hits of turns, and first tokens come
/// sooner.
fn seeing_beats_turns(workers: usize, arrivals: &[Arrival], more: f64) {
    let turns = seen(Rule::RoundRobin, workers, arrivals);
    for rule in [Rule::CacheAware, Rule::EppScoring] {
        let seeing = seen(rule, workers, arrivals);
        eprintln!("{rule:?}: {seeing:?}; turns: {turns:?}");
        assert!(
            seeing.hit_share > more * turns.hit_share,
            "{rule:?}: {seeing:?} {turns:?}"
        );
        assert!(
            seeing.ttft < 0.8 * turns.ttft,
            "{rule:?}: {seeing:?} {turns:?}"
        );
    }
}

/// Conversations of twelve turns each, whose prompts grow by four blocks a turn and come one every
/// 0.3 s. They are 61, so that turns among six workers send none to the same worker again at once.
fn conversations() -> Vec<Arrival> {
    let turns = (0..12_u64).flat_map(|turn| (0..61_u64).map(move |user| (turn, user)));
    let arrival = |(index, (turn, user)): (u64, (u64, u64))| {
        let blocks = 6 + 4 * turn;
        let hashes = (0..blocks).map(|block| user * 1_000 + block).collect();
        Arrival {
            at: index * 300_000_000,
            input_tokens: u32::try_from(blocks * 512 + 100).unwrap(),
            output_tokens: 20,
            prompt: Some(Arc::new(PromptBlocks::new(512, hashes))),
        }
    };
    (0..).zip(turns).map(arrival).collect()
}

#[test]
fn conversations_find_their_prefixes_where_the_router_looks_for_them() {
    seeing_beats_turns(6, &conversations(), 2.0);
}

#[test]
fn real_conversations_find_their_prefixes_where_the_router_looks_for_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../shared/traces/mooncake_conversation.csv.gz");
    if !path.exists() {
        eprintln!("skipped: there is no {}", path.display());
        return;
    }
    let arrivals: Vec<Arrival> = Trace::open(&path).unwrap().map(Result::unwrap).collect();
    assert!(arrivals.iter().all(|arrival| arrival.prompt.is_some()));
    seeing_beats_turns(4, &arrivals, 1.3);
    // One cache for all forgets before users come back, and nobody finds more than the trace
    // repeats.
    let one = seen(Rule::LeastWork, 1, &arrivals).hit_share;
    assert!(one > 0.0 && one < 0.374, "{one}");
}
