//! The traces of one request in a decode worker's metrics: at its first token and at its end.
//!
//! vLLM observes all phases of a request when it ends, and its time to first token when that comes.

use crate::engine::metrics::WorkerMetrics;
use crate::engine::request::Request;
use crate::time::{Nanos, seconds};

/// Notes the first token of a request, which is also when its prompt counts as fetched.
pub(super) fn first_token(metrics: &mut WorkerMetrics, at: Nanos, request: &mut Request) {
    request.first_token_at = at;
    metrics
        .time_to_first_token
        .observe(seconds(at - request.reached_worker_at));
    let held = u64::from(request.held_tokens);
    let rest = u64::from(request.input_tokens) - held;
    if request.computed_here {
        metrics.prompt_tokens_local_compute += rest;
    } else {
        metrics.prompt_tokens_external_kv_transfer += rest;
    }
    metrics.prompt_tokens_local_cache_hit += held;
    metrics.prefix_cache_queries += u64::from(request.input_tokens);
    metrics.prefix_cache_hits += held;
}

/// Notes the end of a request.
pub(super) fn record(metrics: &mut WorkerMetrics, now: Nanos, request: &Request) {
    let decoded = seconds(now - request.first_token_at);
    let per_token = decoded / f64::from((request.output_tokens - 1).max(1));
    metrics
        .e2e_request_latency
        .observe(seconds(now - request.reached_worker_at));
    metrics.request_queue_time.observe(seconds(
        request
            .scheduled_at
            .saturating_sub(request.reached_worker_at),
    ));
    metrics
        .request_prefill_time
        .observe(seconds(request.first_token_at - request.scheduled_at));
    metrics.request_decode_time.observe(decoded);
    metrics
        .request_inference_time
        .observe(seconds(now - request.scheduled_at));
    metrics.request_time_per_output_token.observe(per_token);
    metrics
        .request_prompt_tokens
        .observe(f64::from(request.input_tokens));
    metrics
        .request_generation_tokens
        .observe(f64::from(request.output_tokens));
    metrics.finished_stop += 1;
}
