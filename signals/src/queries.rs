//! Every PromQL text that is sent, for vLLM under all of its metric names.
//!
//! Four queries a pass, however many signals: each unites its parts with `or`, every part tagged
//! with a label `signal` that says what it is. Gauges are by pod, because what a pod that is gone last
//! said must be dropped; rates and distributions are summed, because what it served was served.
//!
//! Each engine counts once. Before anything is summed, series are reduced to the labels that tell
//! engines and parts of a metric apart, so that a pair of Prometheus servers behind one address, or
//! two jobs that scrape the same port, do not double the load.
//!
//! Names and renames: vllm 0.8.5 to 0.33.0 (`vllm/v1/metrics/loggers.py`). During a rolling upgrade
//! both names are there; `new or old` picks per series, which is per pod.

use std::{fmt::Write as _, time::Duration};

use pd_core::signal::{DISPERSION_SPAN, WIDE_WINDOW};

/// Label that tells the parts of a query apart.
pub const SIGNAL: &str = "signal";

/// Label that every per-pod part puts the pod's name under.
pub const POD: &str = "pod";

/// Labels beside the pod's that tell engines, and the series of one metric, apart.
const PARTS: &str = "instance, engine, model_name, le, finished_reason, reason";

/// Label of the model, which `cache_config_info` does not have.
const MODEL_LABEL: &str = "model_name";

/// Window of gauges: long enough to hold two samples at the usual 15 s, short enough to follow.
const GAUGE_WINDOW_MAX: Duration = Duration::from_secs(30);

/// Whose series a query is about, and over what window.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Label that holds the namespace.
    pub namespace_label: String,
    /// Label that holds the pod.
    pub pod_label: String,
    /// The namespace.
    pub namespace: String,
    /// Anchored RE2 for names of prefill pods.
    pub prefill_pods: String,
    /// Anchored RE2 for names of decode pods.
    pub decode_pods: String,
    /// Further `(label, value)` matchers.
    pub selectors: Vec<(String, String)>,
    /// Window of rates and latency histograms.
    pub window: Duration,
    /// Window of the attainment histograms.
    pub attainment_window: Duration,
}

impl Scope {
    fn matchers(&self, pods: &str) -> String {
        self.matchers_where(pods, |_| true)
    }

    /// Matchers with those of the selectors whose label is `kept`.
    fn matchers_where(&self, pods: &str, kept: impl Fn(&str) -> bool) -> String {
        let mut matchers = format!(
            "{}=\"{}\",{}=~\"{}\"",
            self.namespace_label,
            escaped(&self.namespace),
            self.pod_label,
            escaped(pods)
        );
        for (label, value) in self.selectors.iter().filter(|(label, _)| kept(label)) {
            // Writing to a String cannot fail.
            let _ = write!(matchers, ",{label}=\"{}\"", escaped(value));
        }
        matchers
    }

    /// `expression` with one series for each of the engines' own, whoever scraped it.
    fn once(&self, expression: &str) -> String {
        format!("max by ({}, {PARTS}) ({expression})", self.pod_label)
    }

    /// The rate of a counter, summed; of the first of `names` that a series has.
    fn rate(&self, signal: &str, names: &[&str], matchers: &str) -> String {
        let window = promql(self.window);
        let rates: Vec<String> = names
            .iter()
            .map(|name| format!("rate(vllm:{name}{{{matchers}}}[{window}])"))
            .collect();
        tagged(signal, &format!("sum({})", self.once(&united(&rates))))
    }

    fn both(&self) -> String {
        self.matchers(&format!("{}|{}", self.prefill_pods, self.decode_pods))
    }

    fn gauge_window(&self) -> Duration {
        self.window.min(GAUGE_WINDOW_MAX)
    }

    /// `expression` by pod, its engines joined by `aggregate`, under the common pod label, tagged.
    fn by_pod(&self, signal: &str, aggregate: &str, expression: &str) -> String {
        let once = self.once(expression);
        self.under_pod(
            signal,
            &format!("{aggregate} by ({}) ({once})", self.pod_label),
        )
    }

    fn under_pod(&self, signal: &str, by_pod: &str) -> String {
        let pod = format!(
            "label_replace({by_pod}, \"{POD}\", \"$1\", \"{}\", \"(.*)\")",
            self.pod_label
        );
        tagged(signal, &pod)
    }

    /// Gauges and counters: who was scraped when, queues, KV caches, request and token rates.
    pub fn state_query(&self) -> String {
        let (prefill, decode) = (
            self.matchers(&self.prefill_pods),
            self.matchers(&self.decode_pods),
        );
        let finished = ["request_success_total"];
        let mut parts = self.gauges();
        parts.extend([
            self.rate("finished_rate", &finished, &prefill),
            self.rate("decode_finished_rate", &finished, &decode),
            self.rate("output_token_rate", &["generation_tokens_total"], &decode),
            self.rate("preemption_rate", &["num_preemptions_total"], &decode),
            self.rate("prefix_hit_rate", PREFIX_HITS, &prefill),
            self.rate("prefix_query_rate", PREFIX_QUERIES, &prefill),
            self.peak("prefill_peak", &prefill),
            self.peak("decode_peak", &decode),
            self.kv_config(),
            self.names(),
        ]);
        parts.extend(self.dispersion(&prefill));
        united(&parts)
    }

    /// What a past load is made anew from: workers that were scraped, requests that finished, and
    /// prefix hits. Beside [`Scope::histogram_query`] it is all that a look back reads.
    pub fn load_query(&self) -> String {
        let (prefill, decode) = (
            self.matchers(&self.prefill_pods),
            self.matchers(&self.decode_pods),
        );
        let finished = ["request_success_total"];
        united(&[
            self.workers("prefill_workers", &prefill),
            self.workers("decode_workers", &decode),
            self.rate("finished_rate", &finished, &prefill),
            self.rate("decode_finished_rate", &finished, &decode),
            self.rate("prefix_hit_rate", PREFIX_HITS, &prefill),
            self.rate("prefix_query_rate", PREFIX_QUERIES, &prefill),
        ])
    }

    /// Pods that were scraped within the window: without one, those that have gone would count for
    /// another five minutes where the server did not see them go.
    fn workers(&self, signal: &str, matchers: &str) -> String {
        let (pod, window) = (&self.pod_label, promql(self.window));
        let seen = format!("last_over_time(vllm:num_requests_running{{{matchers}}}[{window}])");
        tagged(signal, &format!("count(count by ({pod}) ({seen}))"))
    }

    fn gauges(&self) -> Vec<String> {
        let (both, window) = (self.both(), promql(self.window));
        let gauge = promql(self.gauge_window());
        let (prefill, decode) = (
            self.matchers(&self.prefill_pods),
            self.matchers(&self.decode_pods),
        );
        let mean = |name: &str, matchers: &str| {
            format!("avg_over_time(vllm:{name}{{{matchers}}}[{gauge}])")
        };
        let kv = united(&[
            mean("kv_cache_usage_perc", &both),
            mean("gpu_cache_usage_perc", &both),
        ]);
        let deferred = format!("{decode},reason=\"deferred\"");
        // Of several servers the one that scraped last tells the age.
        let age = format!(
            "min by ({}, {PARTS}) (time() - timestamp(vllm:num_requests_running{{{both}}}))",
            self.pod_label
        );
        let seen = format!(
            "count_over_time(vllm:num_requests_running{{{both}}}[{}])",
            promql(WIDE_WINDOW)
        );
        let growth = format!("deriv(vllm:num_requests_waiting{{{prefill}}}[{window}])");
        vec![
            self.by_pod("age", "max", &age),
            self.by_pod("seen", "max", &seen),
            self.by_pod("running", "sum", &mean("num_requests_running", &both)),
            self.by_pod("waiting", "sum", &mean("num_requests_waiting", &both)),
            self.by_pod(
                "deferred",
                "sum",
                &mean("num_requests_waiting_by_reason", &deferred),
            ),
            self.by_pod("waiting_growth", "sum", &growth),
            self.by_pod("kv_usage", "avg", &kv),
        ]
    }

    /// Most requests that ran and waited, of each engine, summed.
    fn peak(&self, signal: &str, matchers: &str) -> String {
        let window = promql(self.window);
        let most = |name: &str| {
            let most = format!("max_over_time(vllm:{name}{{{matchers}}}[{window}])");
            format!("sum({})", self.once(&most))
        };
        let (running, waiting) = (most("num_requests_running"), most("num_requests_waiting"));
        tagged(signal, &format!("({running} + {waiting})"))
    }

    /// Engines of each decode pod by the size of their KV cache, which is in labels.
    fn kv_config(&self) -> String {
        let matchers = self.matchers_where(&self.decode_pods, |label| label != MODEL_LABEL);
        let sizes = "block_size, num_gpu_blocks";
        let pod = &self.pod_label;
        self.under_pod(
            "kv_config",
            &format!(
                "count by ({pod}, {sizes}) (max by ({pod}, {PARTS}, {sizes}) \
                 (vllm:cache_config_info{{{matchers}}}))"
            ),
        )
    }

    /// Mean of the requests that finish in a span, and of the squared differences of neighbouring
    /// spans, over the wide window. A slow trend drops out of the differences. Counts are carried
    /// from the samples' own times to the span, or the beat of scrapes would count as burstiness;
    /// without a new sample in a span there is no count.
    fn dispersion(&self, matchers: &str) -> [String; 2] {
        let span = DISPERSION_SPAN.as_secs();
        let back = |spans: u64| match spans {
            0 => String::new(),
            spans => format!(" offset {}s", spans * span),
        };
        let counted = |spans: u64| {
            let counter =
                |spans| format!("vllm:request_success_total{{{matchers}}}{}", back(spans));
            let (last, first) = (counter(spans), counter(spans + 1));
            format!(
                "sum(avg by ({}, {PARTS}) (clamp_min({last} - {first}, 0) / ((timestamp({last}) - \
                 timestamp({first})) > 0))) * {span}",
                self.pod_label
            )
        };
        let over = format!("{}:{span}s", promql(WIDE_WINDOW));
        let (now, before) = (counted(0), counted(1));
        [
            tagged("count_mean", &format!("avg_over_time(({now})[{over}])")),
            tagged(
                "count_change_squared",
                &format!("avg_over_time(((({now}) - ({before})) ^ 2)[{over}])"),
            ),
        ]
    }

    /// Which names of renamed metrics exist, tagged, under a label `name`.
    fn names(&self) -> String {
        let renamed = "vllm:(kv_cache_usage_perc|gpu_cache_usage_perc)";
        let found = format!(
            "count by (__name__) ({{__name__=~\"{renamed}\",{}}})",
            self.both()
        );
        tagged(
            "names",
            &format!("label_replace({found}, \"name\", \"$1\", \"__name__\", \"(.*)\")"),
        )
    }

    /// Latency and length distributions over the window of rates.
    pub fn histogram_query(&self) -> String {
        self.distributions(self.window)
    }

    /// The same over the wide window.
    pub fn wide_query(&self) -> String {
        self.distributions(self.window.max(WIDE_WINDOW))
    }

    fn distributions(&self, window: Duration) -> String {
        let prefill = self.matchers(&self.prefill_pods);
        let decode = self.matchers(&self.decode_pods);
        let part = |signal, names, matchers| self.histogram(signal, names, matchers, window);
        united(&[
            part("prefill_ttft", &["time_to_first_token_seconds"], &prefill),
            part("decode_ttft", &["time_to_first_token_seconds"], &decode),
            part("prefill_time", &["request_prefill_time_seconds"], &prefill),
            // A histogram, despite its name.
            part("prefill_step_tokens", &["iteration_tokens_total"], &prefill),
            part("prompt_tokens", &["request_prompt_tokens"], &prefill),
            part("output_tokens", &["request_generation_tokens"], &decode),
            part("tpot", TPOT_NAMES, &decode),
            part("itl", ITL_NAMES, &decode),
        ])
    }

    /// Distributions over the attainment window.
    pub fn attainment_query(&self) -> String {
        let prefill = self.matchers(&self.prefill_pods);
        let decode = self.matchers(&self.decode_pods);
        let part = |signal, names, matchers| {
            self.histogram(signal, names, matchers, self.attainment_window)
        };
        let ttft = &["time_to_first_token_seconds"];
        united(&[
            part("ttft_attainment", ttft, &prefill),
            part("tpot_attainment", TPOT_NAMES, &decode),
        ])
    }

    /// Buckets (by `le`), count and sum of a histogram, the first of `names` that a series has, each
    /// tagged.
    fn histogram(&self, signal: &str, names: &[&str], matchers: &str, window: Duration) -> String {
        let window = promql(window);
        let increase = |suffix: &str| {
            let parts: Vec<String> = names
                .iter()
                .map(|name| format!("increase(vllm:{name}_{suffix}{{{matchers}}}[{window}])"))
                .collect();
            self.once(&united(&parts))
        };
        united(&[
            tagged(signal, &format!("sum by (le) ({})", increase("bucket"))),
            tagged(
                &format!("{signal}_count"),
                &format!("sum({})", increase("count")),
            ),
            tagged(
                &format!("{signal}_sum"),
                &format!("sum({})", increase("sum")),
            ),
        ])
    }
}

/// Prompt tokens found in the prefix cache.
const PREFIX_HITS: &[&str] = &["prefix_cache_hits_total", "gpu_prefix_cache_hits_total"];

/// Prompt tokens looked up there.
const PREFIX_QUERIES: &[&str] = &[
    "prefix_cache_queries_total",
    "gpu_prefix_cache_queries_total",
];

/// TPOT of a request; engines before 0.9 only have the time between tokens.
const TPOT_NAMES: &[&str] = &[
    "request_time_per_output_token_seconds",
    "time_per_output_token_seconds",
];

/// Time between tokens; renamed between 0.9 and 0.13.
const ITL_NAMES: &[&str] = &[
    "inter_token_latency_seconds",
    "time_per_output_token_seconds",
];

fn tagged(signal: &str, expression: &str) -> String {
    format!("label_replace({expression}, \"{SIGNAL}\", \"{signal}\", \"\", \"\")")
}

fn united(parts: &[String]) -> String {
    parts.join(" or ")
}

/// A PromQL duration. Milliseconds are exact and always accepted.
fn promql(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}

/// A value inside a double-quoted PromQL string.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            namespace_label: "namespace".into(),
            pod_label: "pod".into(),
            namespace: "inference".into(),
            prefill_pods: "llama-p-[a-z0-9]+".into(),
            decode_pods: "llama-d-[0-9]+".into(),
            selectors: vec![("model_name".into(), "a\"b\\c".into())],
            window: Duration::from_mins(2),
            attainment_window: Duration::from_hours(1),
        }
    }

    #[test]
    fn values_of_users_cannot_leave_their_quotes() {
        for query in [
            scope().state_query(),
            scope().histogram_query(),
            scope().wide_query(),
            scope().attainment_query(),
            scope().load_query(),
        ] {
            assert!(query.contains(r#"model_name="a\"b\\c""#), "{query}");
        }
    }

    #[test]
    fn every_renamed_metric_is_asked_for_under_both_names() {
        let state = scope().state_query();
        assert!(
            state.contains("vllm:kv_cache_usage_perc{")
                && state.contains("vllm:gpu_cache_usage_perc{")
        );
        let histograms = scope().histogram_query();
        for name in [
            "inter_token_latency_seconds",
            "time_per_output_token_seconds",
        ] {
            assert!(histograms.contains(name), "{name}");
        }
    }

    #[test]
    fn the_size_of_kv_caches_is_asked_for_without_the_model_name_they_lack() {
        let state = scope().state_query();
        let (_, config) = state.split_once("vllm:cache_config_info{").unwrap();
        let (matchers, _) = config.split_once('}').unwrap();
        assert!(matchers.contains("pod=~") && !matchers.contains("model_name"));
    }
}
