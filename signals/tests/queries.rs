//! The PromQL texts word by word, as a file that people can read and paste into Prometheus.
//!
//! Whoever changes a query sees here how it changes for one service. The file is written with
//! `PD_UPDATE=1 cargo test -p pd-signals --test queries`.

use std::{env, fs, path::Path, time::Duration};

use pd_signals::{engine::VLLM, queries::Scope};

const GOLDEN: &str = "tests/fixtures/queries.promql";

fn scope() -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "kubernetes_pod".into(),
        namespace: "inference".into(),
        prefill_pods: "llama-p-[a-z0-9]+-[a-z0-9]{5}".into(),
        decode_pods: "llama-d-[0-9]+".into(),
        selectors: vec![
            ("model_name".into(), "llama \"70b\"".into()),
            ("team".into(), "chat".into()),
        ],
        window: Duration::from_mins(2),
        attainment_window: Duration::from_hours(1),
    }
}

#[test]
fn the_queries_are_those_on_record() {
    let scope = scope();
    let queries = [
        ("state", scope.state_query()),
        ("histograms", scope.histogram_query()),
        ("wide", scope.wide_query()),
        ("attainment", scope.attainment_query()),
        ("load", scope.load_query()),
    ];
    let text: Vec<String> = queries
        .into_iter()
        .map(|(name, query)| {
            // Every part begins alike, so each gets a line of its own; the text stays PromQL.
            let lines = query.replace(" or label_replace(", "\nor label_replace(");
            format!("# {name}\n{lines}\n")
        })
        .collect();
    let text = text.join("\n");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if env::var_os("PD_UPDATE").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    let recorded = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        recorded == text,
        "the queries differ from {GOLDEN}: if that is meant, run with PD_UPDATE=1\n{text}"
    );
}
