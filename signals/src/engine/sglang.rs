//! SGLang (`sglang/srt/observability/metrics_collector.py`; before 0.5.10 `srt/metrics`), which
//! publishes metrics with `--enable-metrics` alone.
//!
//! A request goes to prefill and decode at once, so the clock of decode's TTFT starts when the
//! user's does, and prefill publishes none since 0.5.2: decode's distribution is that of both legs.
//! While decode has no room, requests wait on prefill for its answer
//! (`num_prefill_bootstrap_queue_reqs`). No prefill replica shortens that, so they are none of
//! prefill's queue.
//!
//! With priorities a gauge has its total under an empty `priority` and its parts beside it;
//! counters and histograms have parts alone. Ranks of tensor parallelism repeat each other, those
//! of data parallelism add up.

use pd_core::{Role, signal::name::SignalName};

use super::{Engine, Metric, Recipe};

/// SGLang.
pub static SGLANG: Engine = Engine {
    name: "SGLang",
    product: "SGLang",
    prefix: "sglang:",
    versions: "0.4.8 to 0.5.23",
    checked: "packages sglang 0.4.1, 0.4.8, 0.5.2, 0.5.10, 0.5.12, 0.5.15, 0.5.20 and 0.5.23",
    presence: RUNNING,
    series_labels: &[
        "dp_rank",
        "model_name",
        "edge",
        "priority",
        "is_streaming",
        "cache_source",
    ],
    model_label: "model_name",
    generation: KV_USAGE,
    name_of_older: "SGLang",
    name_of_several: "SGLang",
    recipe,
};

/// A gauge's total over priorities.
const fn total(names: &'static [&'static str]) -> Metric {
    Metric::named(names).with("priority", "")
}

const RUNNING: Metric = total(&["sglang:num_running_reqs"]);
const WAITING: Metric = total(&["sglang:num_queue_reqs"]);
const FINISHED: Metric = Metric::named(&["sglang:num_requests_total"]);
const KV_USAGE: Metric = total(&["sglang:token_usage"]);
const TTFT: Metric = Metric::named(&["sglang:time_to_first_token_seconds"]);
const PROMPT_TOKENS: Metric = Metric::named(&["sglang:prompt_tokens_total"]);
const GENERATED: Metric = Metric::named(&["sglang:generation_tokens_total"]);

/// Prompt tokens that a cache held, by the cache.
const CACHED: Metric = Metric::named(&["sglang:cached_tokens_total"]);

/// Requests that wait for decode to make room; renamed between 0.5.10 and 0.5.12.
const BOOTSTRAP: Metric = total(&[
    "sglang:num_prefill_bootstrap_queue_reqs",
    "sglang:num_prefill_prealloc_queue_reqs",
]);

/// Requests whose KV cache is on its way to decode; misspelt in 0.4.
const SENDING: Metric = total(&[
    "sglang:num_prefill_inflight_queue_reqs",
    "sglang:num_prefill_infight_queue_reqs",
]);

/// Requests that wait for room on decode.
const PREALLOCATION: Metric = total(&["sglang:num_decode_prealloc_queue_reqs"]);

/// Requests that have room on decode and wait for their KV cache.
const TRANSFER: Metric = total(&["sglang:num_decode_transfer_queue_reqs"]);

/// Time of a request per output token since 0.5.21, and before that the time between tokens.
const TPOT: Metric = Metric::named(&[
    "sglang:request_time_per_output_token_seconds",
    "sglang:inter_token_latency_seconds",
    "sglang:time_per_output_token_seconds",
]);

const fn recipe(signal: SignalName) -> Recipe {
    use Recipe::{
        Absent, CounterDispersion, CounterRate, CounterShare, GaugeGrowth, GaugeMean, GaugePeak,
        GaugeShrinkage, GaugeSum, GaugesSum, Histogram, HistogramAt, Lengths, UserQuery,
        WorkerMean,
    };
    use SignalName as S;

    match signal {
        S::PrefillCompletionRate | S::DecodeCompletionRate => CounterRate(FINISHED),
        S::PrefillUnservedRate => {
            CounterRate(Metric::named(&["sglang:num_aborted_requests_total"]))
        }
        S::PrefillQueueGrowth => GaugeGrowth(WAITING),
        S::PrefillQueueDrain => GaugeShrinkage(WAITING),
        S::ArrivalDispersion => CounterDispersion(FINISHED),
        S::PrefillWaitingRequests => GaugeSum(WAITING),
        S::DecodeWaitingRequests => GaugesSum(&[PREALLOCATION, TRANSFER, WAITING]),
        S::PrefillRunningRequests | S::DecodeRunningRequests => GaugeSum(RUNNING),
        S::PrefillRequestsPeak => GaugePeak(&[RUNNING, WAITING, BOOTSTRAP, SENDING]),
        S::DecodeRequestsPeak => GaugePeak(&[RUNNING, WAITING, PREALLOCATION, TRANSFER]),
        S::DecodeDeferredRequests => GaugeSum(TRANSFER),
        S::PrefixHitShare => CounterShare {
            parts: &[CACHED],
            whole: PROMPT_TOKENS,
        },
        S::DecodeKvUsage => GaugeMean(KV_USAGE),
        S::DecodeKvCapacity => WorkerMean(total(&["sglang:max_total_num_tokens"])),
        S::DecodePreemptionRate => {
            CounterRate(Metric::named(&["sglang:num_retracted_requests_total"]))
        }
        // The newer counts while answers grow, the older when they end.
        S::OutputTokenRate => CounterRate(
            Metric::named(&["sglang:realtime_tokens_total"])
                .with("mode", "decode")
                .or(&GENERATED),
        ),
        S::PrefillTtft | S::PrefillTtftAttainment => HistogramAt(Role::Decode, TTFT),
        S::DecodeTtft
        | S::DecodeTtftAttainment
        | S::PrefillStepTokens
        | S::GatewayArrivalRate
        | S::GatewayTtft
        | S::GatewayTtftAttainment => Absent,
        S::PrefillTime => Histogram(
            Metric::named(&["sglang:per_stage_req_latency_seconds"])
                .with("stage", "prefill_forward"),
        ),
        // With --collect-tokens-histogram before 0.5.12.
        S::PromptTokens => Lengths {
            histogram: Some(Metric::named(&["sglang:prompt_tokens_histogram"])),
            tokens: PROMPT_TOKENS,
            requests: FINISHED,
        },
        S::OutputTokens => Lengths {
            histogram: Some(Metric::named(&["sglang:generation_tokens_histogram"])),
            tokens: GENERATED,
            requests: FINISHED,
        },
        S::Tpot | S::TpotAttainment => Histogram(TPOT),
        S::InterTokenLatency => Histogram(Metric::named(&[
            "sglang:inter_token_latency_seconds",
            "sglang:time_per_output_token_seconds",
        ])),
        S::ArrivalRate | S::WakeRequests | S::TtftOverride | S::TpotOverride => UserQuery,
    }
}
