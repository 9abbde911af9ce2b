//! vLLM under all of its metric names (`vllm/v1/metrics/loggers.py`).
//!
//! To add a signal, add its row here; to follow a renaming, put the new name before the old one.

use pd_core::signal::name::SignalName;

use super::{Engine, Metric, Recipe};

/// vLLM.
pub static VLLM: Engine = Engine {
    name: "VLLM",
    product: "vLLM",
    prefix: "vllm:",
    versions: "0.8.5 to 0.33.0",
    checked: "packages vllm 0.8.5, 0.9.1, 0.24.0 and 0.33.0; recorded text of 0.32.0",
    presence: RUNNING,
    series_labels: &[
        "engine",
        "dp_rank",
        "model_name",
        "edge",
        "finished_reason",
        "reason",
    ],
    model_label: "model_name",
    generation: KV_USAGE,
    name_of_older: "VLLM (names before 0.9.2)",
    name_of_several: "VLLM (names of two generations)",
    recipe,
};

const RUNNING: Metric = Metric::named(&["vllm:num_requests_running"]);
const WAITING: Metric = Metric::named(&["vllm:num_requests_waiting"]);
const FINISHED: Metric = Metric::named(&["vllm:request_success_total"]);
const KV_USAGE: Metric = Metric::named(&["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]);
/// Prompt tokens that the engine's own cache held.
const OWN_HITS: Metric = Metric::named(&[
    "vllm:prefix_cache_hits_total",
    "vllm:gpu_prefix_cache_hits_total",
]);

/// Prompt tokens beyond those that a cache outside of the engine held, such as LMCache. Engines
/// count them since 0.13; before that only LMCache does.
const EXTERNAL_HITS: Metric =
    Metric::named(&["vllm:external_prefix_cache_hits_total"]).or(&LMCACHE_HITS);

/// Tokens that LMCache gave to the engine (checked against the package lmcache 0.5.6). Each rank of
/// tensor parallelism counts all of them.
const LMCACHE_HITS: Metric = Metric::named(&["lmcache:num_hit_tokens_total"]).foreign();

const TTFT: Metric = Metric::named(&["vllm:time_to_first_token_seconds"]);

/// TPOT of a request; engines before 0.9 only have the time between tokens.
const TPOT: Metric = Metric::named(&[
    "vllm:request_time_per_output_token_seconds",
    "vllm:time_per_output_token_seconds",
]);

const fn recipe(signal: SignalName) -> Recipe {
    use Recipe::{
        Absent, CounterDispersion, CounterRate, CounterShare, GaugeGrowth, GaugeMean, GaugePeak,
        GaugeShrinkage, GaugeSum, Histogram, LabelProduct, UserQuery,
    };
    use SignalName as S;

    match signal {
        S::PrefillCompletionRate | S::DecodeCompletionRate => CounterRate(FINISHED),
        S::PrefillUnservedRate => CounterRate(Metric::named(&["vllm:admission_rejections_total"])),
        S::GatewayArrivalRate | S::GatewayTtft | S::GatewayTtftAttainment => Absent,
        S::PrefillQueueGrowth => GaugeGrowth(WAITING),
        S::PrefillQueueDrain => GaugeShrinkage(WAITING),
        S::ArrivalDispersion => CounterDispersion(FINISHED),
        S::PrefillWaitingRequests | S::DecodeWaitingRequests => GaugeSum(WAITING),
        S::PrefillRunningRequests | S::DecodeRunningRequests => GaugeSum(RUNNING),
        S::PrefillRequestsPeak | S::DecodeRequestsPeak => GaugePeak(&[RUNNING, WAITING]),
        S::DecodeDeferredRequests => GaugeSum(
            Metric::named(&["vllm:num_requests_waiting_by_reason"]).with("reason", "deferred"),
        ),
        S::PrefixHitShare => CounterShare {
            parts: &[OWN_HITS, EXTERNAL_HITS],
            whole: Metric::named(&[
                "vllm:prefix_cache_queries_total",
                "vllm:gpu_prefix_cache_queries_total",
            ]),
        },
        S::DecodeKvUsage => GaugeMean(KV_USAGE),
        S::DecodeKvCapacity => LabelProduct {
            metric: Metric::named(&["vllm:cache_config_info"]),
            labels: ["block_size", "num_gpu_blocks"],
        },
        S::DecodePreemptionRate => CounterRate(Metric::named(&["vllm:num_preemptions_total"])),
        S::OutputTokenRate => CounterRate(Metric::named(&["vllm:generation_tokens_total"])),
        S::PrefillTtft | S::DecodeTtft | S::PrefillTtftAttainment | S::DecodeTtftAttainment => {
            Histogram(TTFT)
        }
        S::PrefillTime => Histogram(Metric::named(&["vllm:request_prefill_time_seconds"])),
        // A histogram, despite its name.
        S::PrefillStepTokens => Histogram(Metric::named(&["vllm:iteration_tokens_total"])),
        S::PromptTokens => Histogram(Metric::named(&["vllm:request_prompt_tokens"])),
        S::OutputTokens => Histogram(Metric::named(&["vllm:request_generation_tokens"])),
        S::Tpot | S::TpotAttainment => Histogram(TPOT),
        // Renamed between 0.9 and 0.13.
        S::InterTokenLatency => Histogram(Metric::named(&[
            "vllm:inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
        ])),
        S::ArrivalRate | S::WakeRequests | S::TtftOverride | S::TpotOverride => UserQuery,
    }
}
