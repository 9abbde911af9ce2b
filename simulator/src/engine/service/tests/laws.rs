//! Conservation laws: work, tokens and KV cache, whatever comes when and to how many workers.
//!
//! Work has a closed form where a worker takes one request at a time; tokens and blocks add up
//! always, through every preemption.

use proptest::prelude::*;

use super::*;
use crate::time::rounded;

/// Time since the request before, tokens of the prompt, tokens of the answer.
type Sent = (Nanos, u32, u32);

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    prop::collection::vec((0..SECOND / 2, 1..3_000_u32, 1..400_u32), 1..120)
}

/// A service that has served them all, and what became of them.
fn served(
    profile: Profile,
    prefill: usize,
    decode: usize,
    sent: &[Sent],
) -> (Service, Vec<RequestOutcome>) {
    let mut service = service(profile, prefill, decode);
    let mut at = 0;
    let arrivals = sent.iter().map(|&(gap, input_tokens, output_tokens)| {
        at += gap;
        Arrival {
            at,
            input_tokens,
            output_tokens,
            prompt: None,
        }
    });
    let outcomes = run(&mut service, arrivals);
    (service, outcomes)
}

/// Sums what all workers of a role have counted.
fn total(service: &Service, role: Role, read: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    let workers = service.workers().filter(|worker| worker.role == role);
    workers.map(|worker| read(worker.metrics)).sum()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn workers_are_busy_for_as_long_as_their_requests_take(
        sent in sent(),
        prefill in 1..4_usize,
        decode in 1..4_usize,
        prefix_hit_ratio in 0.0..0.9,
    ) {
        let profile = Profile {
            prefix_hit_ratio,
            prefill_step_requests: 1,
            prefill_step_tokens: u32::MAX,
            max_batch: 1,
            ..Profile::default()
        };
        let (service, outcomes) = served(profile.clone(), prefill, decode, &sent);
        prop_assert_eq!(outcomes.len(), sent.len());
        let computing = outcomes
            .iter()
            .map(|o| profile.prefill_time(o.input_tokens, profile.cached_tokens(o.input_tokens)));
        let computed: Nanos = service.prefill.members().map(|worker| worker.core.busy).sum();
        prop_assert_eq!(computed, computing.sum::<Nanos>());
        let answering = outcomes.iter().map(|outcome| {
            let context = u64::from(outcome.input_tokens);
            let steps = 0..u64::from(outcome.output_tokens);
            steps.map(|step| profile.decode_step_nanos(1, context + step)).sum::<f64>()
        });
        let answered: Nanos = service.decode.members().map(|worker| worker.core.busy).sum();
        // Each end of a request is told to the nanosecond, and so is the beginning of the next.
        let off = (answered as f64 - answering.sum::<f64>()).abs();
        prop_assert!(off <= 2.0 * sent.len() as f64, "{} ns", off);
    }

    #[test]
    fn tokens_in_are_tokens_out_and_no_block_is_left(
        sent in sent(),
        prefill in 1..4_usize,
        decode in 1..4_usize,
        kv_capacity_tokens in 4_000..40_000_u64,
    ) {
        let profile = Profile { kv_capacity_tokens, ..Profile::default() };
        let (service, outcomes) = served(profile, prefill, decode, &sent);
        let prompts: u64 = sent.iter().map(|sent| u64::from(sent.1)).sum();
        let answers: u64 = sent.iter().map(|sent| u64::from(sent.2)).sum();
        let requests = sent.len() as u64;
        prop_assert_eq!(outcomes.len(), sent.len());
        for role in [Role::Prefill, Role::Decode] {
            let sums = |read: fn(&WorkerMetrics) -> u64| total(&service, role, read);
            prop_assert_eq!(sums(WorkerMetrics::prompt_tokens), prompts);
            prop_assert_eq!(sums(|m| rounded(m.request_prompt_tokens.sum())), prompts);
            prop_assert_eq!(sums(|m| m.prefix_cache_queries), prompts);
            prop_assert_eq!(sums(|m| m.finished_stop + m.finished_length), requests);
            prop_assert_eq!(sums(|m| m.e2e_request_latency.count()), requests);
            // One token per request leaves a prefill worker, all of them a decode worker.
            let tokens = if role == Role::Prefill { requests } else { answers };
            prop_assert_eq!(sums(|m| m.generation_tokens), tokens);
            prop_assert_eq!(sums(|m| rounded(m.request_generation_tokens.sum())), tokens);
        }
        // Every token is the first of its request or comes after a gap.
        let gaps = total(&service, Role::Decode, |m| m.inter_token_latency.count());
        prop_assert_eq!(gaps, answers - requests);
        let now = service.now();
        prop_assert!(service.decode.members().all(|worker| worker.core.kv_blocks_at(now) == 0));
        prop_assert!(service.prefill.members().all(|worker| worker.core.kv_blocks_used() == 0));
    }
}
