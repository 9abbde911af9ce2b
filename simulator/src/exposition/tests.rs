//! The text parses, its histograms are cumulative, and its names are the engine's.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::{Arrival, Role, Service};
use crate::time::SECOND;

fn texts(dialect: Dialect) -> [String; 2] {
    let mut service = Service::new(Profile::default());
    service
        .add_worker_ready_at(0, Role::Prefill, "p", 0)
        .unwrap();
    service
        .add_worker_ready_at(0, Role::Decode, "d", 0)
        .unwrap();
    for index in 0..20 {
        let at = index * SECOND / 50;
        service.offer(Arrival {
            at,
            input_tokens: 1000,
            output_tokens: 100,
            prompt: None,
        });
    }
    service.observe(2 * SECOND);
    let workers: Vec<_> = service.workers().collect();
    [0, 1].map(|index| {
        render(
            workers[index].metrics,
            service.profile(),
            "llama \"70b\"",
            dialect,
        )
    })
}

/// Families by name with their type, and samples by name and labels.
type Parsed = (BTreeMap<String, String>, BTreeMap<String, f64>);

fn parse(text: &str) -> Parsed {
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} twice"
            );
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.ends_with('}'), "{series}");
            let old = samples.insert(series.to_owned(), value.parse().unwrap());
            assert!(old.is_none(), "{series} twice");
        }
    }
    (types, samples)
}

#[test]
fn current_names_and_types_are_those_of_vllm() {
    let [_, decode] = texts(Dialect::Current);
    let (types, _) = parse(&decode);
    let gauges = [
        "cache_config_info",
        "kv_cache_usage_perc",
        "num_requests_running",
        "num_requests_waiting",
        "num_requests_waiting_by_reason",
    ];
    let counters = [
        "generation_tokens_total",
        "num_preemptions_total",
        "prefix_cache_hits_total",
        "prefix_cache_queries_total",
        "prompt_tokens_by_source_total",
        "prompt_tokens_total",
        "request_success_total",
    ];
    let histograms = [
        "e2e_request_latency_seconds",
        "inter_token_latency_seconds",
        "iteration_tokens_total",
        "request_decode_time_seconds",
        "request_generation_tokens",
        "request_inference_time_seconds",
        "request_prefill_time_seconds",
        "request_prompt_tokens",
        "request_queue_time_seconds",
        "request_time_per_output_token_seconds",
        "time_to_first_token_seconds",
    ];
    let named = |names: &[&str], kind: &str| -> Vec<(String, String)> {
        names
            .iter()
            .map(|name| (format!("vllm:{name}"), kind.to_owned()))
            .collect()
    };
    let expected: BTreeMap<_, _> = [
        named(&gauges, "gauge"),
        named(&counters, "counter"),
        named(&histograms, "histogram"),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(types, expected);
}

#[test]
fn old_names_replace_the_current_ones() {
    let [_, decode] = texts(Dialect::V0_8_5);
    let (old, _) = parse(&decode);
    let (new, _) = parse(&texts(Dialect::Current)[1]);
    let old: BTreeSet<_> = old.keys().map(String::as_str).collect();
    let new: BTreeSet<_> = new.keys().map(String::as_str).collect();
    let gone: Vec<_> = new.difference(&old).copied().collect();
    assert_eq!(
        gone,
        [
            "vllm:inter_token_latency_seconds",
            "vllm:kv_cache_usage_perc",
            "vllm:num_requests_waiting_by_reason",
            "vllm:prefix_cache_hits_total",
            "vllm:prefix_cache_queries_total",
            "vllm:prompt_tokens_by_source_total",
            "vllm:request_time_per_output_token_seconds",
        ]
    );
    let added: Vec<_> = old.difference(&new).copied().collect();
    assert_eq!(
        added,
        [
            "vllm:gpu_cache_usage_perc",
            "vllm:gpu_prefix_cache_hits_total",
            "vllm:gpu_prefix_cache_queries_total",
            "vllm:time_per_output_token_seconds",
        ]
    );
}

#[test]
fn buckets_are_cumulative_and_end_at_the_count() {
    for text in texts(Dialect::Current) {
        let (types, samples) = parse(&text);
        for name in types
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            let buckets: Vec<f64> = text
                .lines()
                .filter(|line| line.starts_with(&format!("{name}_bucket{{")))
                .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
                .collect();
            assert!(buckets.windows(2).all(|pair| pair[0] <= pair[1]), "{name}");
            let of = |suffix: &str| {
                let prefix = format!("{name}_{suffix}{{");
                samples
                    .iter()
                    .find(|(series, _)| series.starts_with(&prefix))
                    .unwrap()
                    .1
            };
            assert_eq!(buckets.last(), Some(of("count")), "{name}");
            assert!(of("sum").is_finite());
        }
    }
}

#[test]
fn samples_look_like_the_engines() {
    let [prefill, decode] = texts(Dialect::Current);
    let labels = r#"{engine="0",model_name="llama \"70b\""}"#;
    assert!(prefill.contains(&format!("vllm:generation_tokens_total{labels} 20.0\n")));
    assert!(prefill.contains(
        r#"vllm:prompt_tokens_by_source_total{engine="0",source="local_compute",model_name="llama \"70b\""} 20000.0"#
    ));
    assert!(decode.contains(
        r#"vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="llama \"70b\""} 0.0"#
    ));
    assert!(decode.contains(r#"le="2560.0",model_name"#));
    assert!(decode.contains(
        r#"vllm:prompt_tokens_by_source_total{engine="0",source="external_kv_transfer",model_name="llama \"70b\""} 20000.0"#
    ));
    assert!(decode.contains(r#"num_gpu_blocks="172500""#));
}
