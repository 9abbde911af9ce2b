//! The counters of one worker since it started: the numbers behind vLLM's `/metrics`.
//!
//! Every field is named after the family it becomes. Counters and histograms are cumulative over
//! the worker's life and never go down; gauges describe the moment of the last look. The two roles
//! fill the same struct differently, exactly as engines do: a prefill worker sees every request as
//! one of a single output token, a decode worker sees TTFT as waiting for the KV cache plus one
//! step. Neither alone is the user's TTFT; that is in the outcomes.

use super::histogram::{
    Histogram, ITL_BUCKETS, PHASE_BUCKETS, STEP_BUCKETS, TOKEN_BUCKETS, TTFT_BUCKETS,
};

/// Cumulative metrics of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerMetrics {
    /// Requests being worked on now.
    pub requests_running: u64,
    /// Requests waiting for room in the batch or in the KV cache.
    pub requests_waiting_capacity: u64,
    /// Requests that have room and wait for something else: on a decode worker, for their KV cache
    /// to arrive.
    pub requests_waiting_deferred: u64,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_cache_usage: f64,
    /// From reaching this worker to its first token, in seconds.
    pub time_to_first_token: Histogram,
    /// Between two tokens of one request, in seconds.
    pub inter_token_latency: Histogram,
    /// Mean time per output token after the first, one observation per request, in seconds.
    pub request_time_per_output_token: Histogram,
    /// From reaching this worker to the last token, in seconds.
    pub e2e_request_latency: Histogram,
    /// From reaching this worker to being worked on, in seconds.
    pub request_queue_time: Histogram,
    /// From being worked on to the first token, in seconds.
    pub request_prefill_time: Histogram,
    /// From the first to the last token, in seconds.
    pub request_decode_time: Histogram,
    /// From being worked on to the last token, in seconds.
    pub request_inference_time: Histogram,
    /// Tokens of an engine step in which any request got a token: prompts that became complete, and
    /// one for every request that got one.
    pub iteration_tokens: Histogram,
    /// Prompt tokens of finished requests.
    pub request_prompt_tokens: Histogram,
    /// Output tokens of finished requests.
    pub request_generation_tokens: Histogram,
    /// Prompt tokens computed here.
    pub prompt_tokens_local_compute: u64,
    /// Prompt tokens found in this worker's prefix cache.
    pub prompt_tokens_local_cache_hit: u64,
    /// Prompt tokens whose KV cache came from another worker.
    pub prompt_tokens_external_kv_transfer: u64,
    /// Output tokens produced so far, those of unfinished requests included.
    pub generation_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Prompt tokens found in the prefix cache.
    pub prefix_cache_hits: u64,
    /// Requests put back into the queue because the KV cache was full.
    pub preemptions: u64,
    /// Requests that ended by themselves.
    pub finished_stop: u64,
    /// Requests that ended at their allowed number of tokens; on prefill workers, all.
    pub finished_length: u64,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            requests_running: 0,
            requests_waiting_capacity: 0,
            requests_waiting_deferred: 0,
            kv_cache_usage: 0.0,
            time_to_first_token: Histogram::new(TTFT_BUCKETS),
            inter_token_latency: Histogram::new(ITL_BUCKETS),
            request_time_per_output_token: Histogram::new(ITL_BUCKETS),
            e2e_request_latency: Histogram::new(PHASE_BUCKETS),
            request_queue_time: Histogram::new(PHASE_BUCKETS),
            request_prefill_time: Histogram::new(PHASE_BUCKETS),
            request_decode_time: Histogram::new(PHASE_BUCKETS),
            request_inference_time: Histogram::new(PHASE_BUCKETS),
            iteration_tokens: Histogram::new(STEP_BUCKETS),
            request_prompt_tokens: Histogram::new(TOKEN_BUCKETS),
            request_generation_tokens: Histogram::new(TOKEN_BUCKETS),
            prompt_tokens_local_compute: 0,
            prompt_tokens_local_cache_hit: 0,
            prompt_tokens_external_kv_transfer: 0,
            generation_tokens: 0,
            prefix_cache_queries: 0,
            prefix_cache_hits: 0,
            preemptions: 0,
            finished_stop: 0,
            finished_length: 0,
        }
    }
}

impl WorkerMetrics {
    /// All prompt tokens, wherever their KV cache came from.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens_local_compute
            + self.prompt_tokens_local_cache_hit
            + self.prompt_tokens_external_kv_transfer
    }

    /// All waiting requests, whatever they wait for.
    pub fn requests_waiting(&self) -> u64 {
        self.requests_waiting_capacity + self.requests_waiting_deferred
    }
}
