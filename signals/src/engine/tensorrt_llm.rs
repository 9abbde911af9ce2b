//! NVIDIA TensorRT-LLM (`tensorrt_llm/metrics/collector.py`): `trtllm-serve` publishes metrics at
//! `/prometheus/metrics` with `return_perf_metrics: true`; its `/metrics` is another API.
//!
//! It has no histogram of lengths and no time between tokens. Lengths are known by their means, and
//! a request's time per output token stands for the time between them.

use pd_core::signal::name::SignalName;

use super::{Engine, Metric, Recipe};

/// TensorRT-LLM.
pub static TENSORRT_LLM: Engine = Engine {
    name: "TensorRTLLM",
    product: "TensorRT-LLM",
    prefix: "trtllm_",
    versions: "1.x",
    checked: "public source (the package is a stub that loads from elsewhere)",
    presence: RUNNING,
    series_labels: &["model_name", "edge", "finished_reason"],
    model_label: "model_name",
    generation: KV_USAGE,
    name_of_older: "TensorRTLLM",
    name_of_several: "TensorRTLLM",
    recipe,
};

const RUNNING: Metric = Metric::named(&["trtllm_num_requests_running"]);
const WAITING: Metric = Metric::named(&["trtllm_num_requests_waiting"]);
const FINISHED: Metric = Metric::named(&["trtllm_request_success_total"]);
const KV_USAGE: Metric = Metric::named(&["trtllm_kv_cache_utilization"]);
const TTFT: Metric = Metric::named(&["trtllm_time_to_first_token_seconds"]);
const TPOT: Metric = Metric::named(&["trtllm_time_per_output_token_seconds"]);
const PROMPT_TOKENS: Metric = Metric::named(&["trtllm_prompt_tokens_total"]);
const GENERATED: Metric = Metric::named(&["trtllm_generation_tokens_total"]);

/// Prompt tokens that the cache held.
const CACHED: Metric = Metric::named(&["trtllm_prompt_cached_tokens_total"]);

const fn recipe(signal: SignalName) -> Recipe {
    use Recipe::{
        Absent, CounterDispersion, CounterRate, CounterShare, GaugeGrowth, GaugeMean, GaugePeak,
        GaugeProduct, GaugeShrinkage, GaugeSum, Histogram, Lengths, UserQuery,
    };
    use SignalName as S;

    match signal {
        S::PrefillCompletionRate | S::DecodeCompletionRate => CounterRate(FINISHED),
        S::PrefillUnservedRate => CounterRate(Metric::named(&["trtllm_request_error_total"])),
        S::PrefillQueueGrowth => GaugeGrowth(WAITING),
        S::PrefillQueueDrain => GaugeShrinkage(WAITING),
        S::ArrivalDispersion => CounterDispersion(FINISHED),
        S::PrefillWaitingRequests | S::DecodeWaitingRequests => GaugeSum(WAITING),
        S::PrefillRunningRequests | S::DecodeRunningRequests => GaugeSum(RUNNING),
        S::PrefillRequestsPeak | S::DecodeRequestsPeak => GaugePeak(&[RUNNING, WAITING]),
        S::PrefixHitShare => CounterShare {
            parts: &[CACHED],
            whole: PROMPT_TOKENS,
        },
        S::DecodeKvUsage => GaugeMean(KV_USAGE),
        S::DecodeKvCapacity => GaugeProduct([
            Metric::named(&["trtllm_kv_cache_max_blocks"]),
            Metric::named(&["trtllm_kv_cache_tokens_per_block"]),
        ]),
        S::OutputTokenRate => CounterRate(GENERATED),
        S::PrefillTtft | S::DecodeTtft | S::PrefillTtftAttainment | S::DecodeTtftAttainment => {
            Histogram(TTFT)
        }
        S::PrefillTime => Histogram(Metric::named(&["trtllm_request_prefill_time_seconds"])),
        S::PromptTokens => Lengths {
            histogram: None,
            tokens: PROMPT_TOKENS,
            requests: FINISHED,
        },
        S::OutputTokens => Lengths {
            histogram: None,
            tokens: GENERATED,
            requests: FINISHED,
        },
        S::Tpot | S::InterTokenLatency | S::TpotAttainment => Histogram(TPOT),
        S::DecodeDeferredRequests
        | S::DecodePreemptionRate
        | S::PrefillStepTokens
        | S::GatewayArrivalRate
        | S::GatewayTtft
        | S::GatewayTtftAttainment => Absent,
        S::ArrivalRate | S::WakeRequests | S::TtftOverride | S::TpotOverride => UserQuery,
    }
}
