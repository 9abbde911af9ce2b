//! Every PromQL text that is sent, for vLLM under all of its metric names.
//!
//! Three queries a pass, however many signals: each unites its parts with `or`, every part tagged
//! with a label `signal` that says what it is. Gauges are by pod, because what a pod that is gone last
//! said must be dropped; rates and distributions are summed, because what it served was served.
//!
//! Names and renames: vllm 0.8.5 to 0.33.0 (`vllm/v1/metrics/loggers.py`). During a rolling upgrade
//! both names are there; `new or old` picks per series, which is per pod.

use std::{fmt::Write as _, time::Duration};

/// Label that tells the parts of a query apart.
pub const SIGNAL: &str = "signal";

/// Label that every per-pod part puts the pod's name under.
pub const POD: &str = "pod";

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
        let mut matchers = format!(
            "{}=\"{}\",{}=~\"{}\"",
            self.namespace_label,
            escaped(&self.namespace),
            self.pod_label,
            escaped(pods)
        );
        for (label, value) in &self.selectors {
            // Writing to a String cannot fail.
            let _ = write!(matchers, ",{label}=\"{}\"", escaped(value));
        }
        matchers
    }

    fn both(&self) -> String {
        self.matchers(&format!("{}|{}", self.prefill_pods, self.decode_pods))
    }

    fn gauge_window(&self) -> Duration {
        self.window.min(GAUGE_WINDOW_MAX)
    }

    /// `expression` summed by pod, under the common pod label, tagged.
    fn by_pod(&self, signal: &str, aggregate: &str, expression: &str) -> String {
        let by_pod = format!("{aggregate} by ({}) ({expression})", self.pod_label);
        let pod = format!(
            "label_replace({by_pod}, \"{POD}\", \"$1\", \"{}\", \"(.*)\")",
            self.pod_label
        );
        tagged(signal, &pod)
    }

    /// Gauges and counters by pod: who was scraped when, queues, KV use, request and token rates.
    pub fn state_query(&self) -> String {
        let (both, window) = (self.both(), promql(self.window));
        let gauge = promql(self.gauge_window());
        let kv = format!(
            "avg_over_time(vllm:kv_cache_usage_perc{{{both}}}[{gauge}]) or \
             avg_over_time(vllm:gpu_cache_usage_perc{{{both}}}[{gauge}])"
        );
        let running = format!("avg_over_time(vllm:num_requests_running{{{both}}}[{gauge}])");
        let waiting = format!("avg_over_time(vllm:num_requests_waiting{{{both}}}[{gauge}])");
        let age = format!("time() - timestamp(vllm:num_requests_running{{{both}}})");
        let growth = format!(
            "deriv(vllm:num_requests_waiting{{{}}}[{window}])",
            self.matchers(&self.prefill_pods)
        );
        let (prefill, decode) = (
            self.matchers(&self.prefill_pods),
            self.matchers(&self.decode_pods),
        );
        let finished = format!("sum(rate(vllm:request_success_total{{{prefill}}}[{window}]))");
        let tokens = format!("sum(rate(vllm:generation_tokens_total{{{decode}}}[{window}]))");
        united(&[
            self.by_pod("age", "max", &age),
            self.by_pod("running", "sum", &running),
            self.by_pod("waiting", "sum", &waiting),
            self.by_pod("waiting_growth", "sum", &growth),
            self.by_pod("kv_usage", "avg", &kv),
            tagged("finished_rate", &finished),
            tagged("output_token_rate", &tokens),
            self.names(),
        ])
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

    /// Latency and length distributions over the window.
    pub fn histogram_query(&self) -> String {
        let window = promql(self.window);
        let prefill = self.matchers(&self.prefill_pods);
        let decode = self.matchers(&self.decode_pods);
        let part = |signal, names, matchers| histogram(signal, names, matchers, &window);
        united(&[
            part("prefill_ttft", &["time_to_first_token_seconds"], &prefill),
            part("decode_ttft", &["time_to_first_token_seconds"], &decode),
            part("prefill_time", &["request_prefill_time_seconds"], &prefill),
            part("prompt_tokens", &["request_prompt_tokens"], &prefill),
            part("output_tokens", &["request_generation_tokens"], &decode),
            part("tpot", TPOT_NAMES, &decode),
            part("itl", ITL_NAMES, &decode),
        ])
    }

    /// Distributions over the attainment window.
    pub fn attainment_query(&self) -> String {
        let window = promql(self.attainment_window);
        let prefill = self.matchers(&self.prefill_pods);
        let decode = self.matchers(&self.decode_pods);
        united(&[
            histogram(
                "ttft_attainment",
                &["time_to_first_token_seconds"],
                &prefill,
                &window,
            ),
            histogram("tpot_attainment", TPOT_NAMES, &decode, &window),
        ])
    }
}

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

/// Buckets (by `le`), count and sum of a histogram, the first of `names` that a series has, each
/// tagged.
fn histogram(signal: &str, names: &[&str], matchers: &str, window: &str) -> String {
    let increase = |suffix: &str| {
        let parts: Vec<String> = names
            .iter()
            .map(|name| format!("increase(vllm:{name}_{suffix}{{{matchers}}}[{window}])"))
            .collect();
        parts.join(" or ")
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

/// `text` so that RE2 matches it literally.
pub fn literal_pattern(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            (!c.is_ascii_alphanumeric() && c != '-')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
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
            scope().attainment_query(),
        ] {
            assert!(query.contains(r#"model_name="a\"b\\c""#), "{query}");
        }
    }

    #[test]
    fn names_are_matched_literally() {
        assert_eq!(literal_pattern("a.b-c"), "a\\.b-c");
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
}
