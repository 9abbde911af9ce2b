//! The Prometheus text that a vLLM server would answer on `/metrics`, written from one worker's
//! counts.
//!
//! Owns names, types, labels and the order of families, for two generations of vLLM: the current
//! one, and 0.8.5, whose names for KV usage and for the time between tokens were different.
//! Families that the model has no answer for are left out rather than made up. It reads a
//! [`WorkerMetrics`] and changes nothing.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use crate::engine::{Histogram, Profile, WorkerMetrics};

/// Which vLLM's names to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// The names since 0.24.
    #[default]
    #[serde(rename = "current")]
    Current,
    /// The names of 0.8.5.
    #[serde(rename = "0.8.5")]
    V0_8_5,
}

/// Tokens per KV block, as vLLM's default has it.
const BLOCK_TOKENS: u64 = 16;

/// Writes the metrics of one worker as Prometheus text (format 0.0.4).
pub fn render(
    metrics: &WorkerMetrics,
    profile: &Profile,
    model_name: &str,
    dialect: Dialect,
) -> String {
    let mut text = Text {
        out: String::with_capacity(16_384),
        model: escaped(model_name),
    };
    // Writing to a `String` cannot fail.
    let _ = text.worker(metrics, profile, dialect);
    text.out
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

struct Text {
    out: String,
    model: String,
}

impl Text {
    fn worker(&mut self, m: &WorkerMetrics, profile: &Profile, dialect: Dialect) -> fmt::Result {
        self.gauges(m, dialect)?;
        self.counters(m, dialect)?;
        self.histograms(m, dialect)?;
        self.head(
            "cache_config_info",
            "gauge",
            "Information of the LLMEngine CacheConfig",
        )?;
        let blocks = profile.kv_capacity_tokens / BLOCK_TOKENS;
        writeln!(
            self.out,
            "vllm:cache_config_info{{block_size=\"{BLOCK_TOKENS}\",engine=\"0\",num_gpu_blocks=\"{blocks}\"}} 1.0"
        )
    }

    fn gauges(&mut self, m: &WorkerMetrics, dialect: Dialect) -> fmt::Result {
        let running = [("", m.requests_running as f64)];
        self.family(
            "num_requests_running",
            "gauge",
            "Number of requests in model execution batches.",
            &running,
        )?;
        let waiting = [("", m.requests_waiting() as f64)];
        self.family(
            "num_requests_waiting",
            "gauge",
            "Number of requests waiting to be processed.",
            &waiting,
        )?;
        let usage = [("", m.kv_cache_usage)];
        let usage_help = "KV-cache usage. 1 means 100 percent usage.";
        match dialect {
            Dialect::Current => {
                let by_reason = [
                    (",reason=\"capacity\"", m.requests_waiting_capacity as f64),
                    (",reason=\"deferred\"", m.requests_waiting_deferred as f64),
                ];
                self.family(
                    "num_requests_waiting_by_reason",
                    "gauge",
                    "Number of waiting requests by reason.",
                    &by_reason,
                )?;
                self.family("kv_cache_usage_perc", "gauge", usage_help, &usage)
            }
            Dialect::V0_8_5 => self.family("gpu_cache_usage_perc", "gauge", usage_help, &usage),
        }
    }

    fn counters(&mut self, m: &WorkerMetrics, dialect: Dialect) -> fmt::Result {
        let (queries, hits) = match dialect {
            Dialect::Current => ("prefix_cache_queries_total", "prefix_cache_hits_total"),
            Dialect::V0_8_5 => (
                "gpu_prefix_cache_queries_total",
                "gpu_prefix_cache_hits_total",
            ),
        };
        let plain = [
            (
                queries,
                "Prefix cache queries, in queried tokens.",
                m.prefix_cache_queries,
            ),
            (
                hits,
                "Prefix cache hits, in cached tokens.",
                m.prefix_cache_hits,
            ),
            (
                "num_preemptions_total",
                "Cumulative number of preemptions.",
                m.preemptions,
            ),
            (
                "prompt_tokens_total",
                "Number of prefill tokens processed.",
                m.prompt_tokens(),
            ),
            (
                "generation_tokens_total",
                "Number of generation tokens processed.",
                m.generation_tokens,
            ),
        ];
        for (name, help, value) in plain {
            self.family(name, "counter", help, &[("", value as f64)])?;
        }
        if dialect == Dialect::Current {
            self.prompt_tokens_by_source(m)?;
        }
        let by_ending = [
            (",finished_reason=\"stop\"", m.finished_stop as f64),
            (",finished_reason=\"length\"", m.finished_length as f64),
            (",finished_reason=\"abort\"", 0.0),
        ];
        self.family(
            "request_success_total",
            "counter",
            "Count of successfully processed requests.",
            &by_ending,
        )
    }

    fn prompt_tokens_by_source(&mut self, m: &WorkerMetrics) -> fmt::Result {
        let by_source = [
            (
                ",source=\"local_compute\"",
                m.prompt_tokens_local_compute as f64,
            ),
            (
                ",source=\"local_cache_hit\"",
                m.prompt_tokens_local_cache_hit as f64,
            ),
            (
                ",source=\"external_kv_transfer\"",
                m.prompt_tokens_external_kv_transfer as f64,
            ),
        ];
        self.family(
            "prompt_tokens_by_source_total",
            "counter",
            "Number of prompt tokens by source.",
            &by_source,
        )
    }

    fn histograms(&mut self, m: &WorkerMetrics, dialect: Dialect) -> fmt::Result {
        let itl_name = match dialect {
            Dialect::Current => "inter_token_latency_seconds",
            Dialect::V0_8_5 => "time_per_output_token_seconds",
        };
        let all = [
            ("iteration_tokens_total", &m.iteration_tokens),
            ("request_prompt_tokens", &m.request_prompt_tokens),
            ("request_generation_tokens", &m.request_generation_tokens),
            ("time_to_first_token_seconds", &m.time_to_first_token),
            (itl_name, &m.inter_token_latency),
            ("e2e_request_latency_seconds", &m.e2e_request_latency),
            ("request_queue_time_seconds", &m.request_queue_time),
            ("request_inference_time_seconds", &m.request_inference_time),
            ("request_prefill_time_seconds", &m.request_prefill_time),
            ("request_decode_time_seconds", &m.request_decode_time),
        ];
        for (name, histogram) in all {
            self.histogram(name, histogram)?;
        }
        if dialect == Dialect::Current {
            self.histogram(
                "request_time_per_output_token_seconds",
                &m.request_time_per_output_token,
            )?;
        }
        Ok(())
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        // The text format of Python's client, which vLLM uses, names a counter without its suffix
        // nowhere but in OpenMetrics.
        writeln!(
            self.out,
            "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}"
        )
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        series: &[(&str, f64)],
    ) -> fmt::Result {
        self.head(name, kind, help)?;
        for (labels, value) in series {
            let Self { out, model } = self;
            writeln!(
                out,
                "vllm:{name}{{engine=\"0\"{labels},model_name=\"{model}\"}} {value:?}"
            )?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) -> fmt::Result {
        self.head(
            name,
            "histogram",
            &format!("Histogram of {}.", name.replace('_', " ")),
        )?;
        let Self { out, model } = self;
        for (edge, count) in histogram.cumulative() {
            let edge = if edge.is_finite() {
                format!("{edge:?}")
            } else {
                "+Inf".to_owned()
            };
            let labels = format!("engine=\"0\",le=\"{edge}\",model_name=\"{model}\"");
            writeln!(out, "vllm:{name}_bucket{{{labels}}} {:?}", count as f64)?;
        }
        let (count, sum) = (histogram.count() as f64, histogram.sum());
        writeln!(
            out,
            "vllm:{name}_count{{engine=\"0\",model_name=\"{model}\"}} {count:?}"
        )?;
        writeln!(
            out,
            "vllm:{name}_sum{{engine=\"0\",model_name=\"{model}\"}} {sum:?}"
        )
    }
}

#[cfg(test)]
mod tests;
