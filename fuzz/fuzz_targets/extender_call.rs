//! Calls to pd-scheduler-plugin: whatever the bytes, an answer is what kube-scheduler reads, no
//! node is lost or made up, and scores are in range.
//!
//! The first byte chooses between a body as it is and, so that the fuzzer need not find the
//! envelope by itself, annotation and tolerations of a pod, a line each, which is asked about nodes
//! that are there.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use pd_tolerations::{Effect, Taint, extension::ParsedTaint};
use pd_scheduler_plugin::extender::{Margin, NodeView, SCORE_MAX, filter, prioritize};
use serde_json::{Value, json};

const NODES: [&str; 5] = ["high", "low", "odd", "plain", "unknown"];

struct Cluster(BTreeMap<&'static str, Vec<ParsedTaint>>);

impl NodeView for Cluster {
    fn taints(&self, node: &str) -> Option<&[ParsedTaint]> {
        self.0.get(node).map(Vec::as_slice)
    }
}

fn cluster() -> Cluster {
    let taint = |key: &str, value: &str, effect| ParsedTaint::from(Taint::new(key, value, effect));
    Cluster(BTreeMap::from([
        (
            "high",
            vec![
                taint("sla", "990", Effect::NoExecute),
                taint("cost", "7", Effect::PreferNoSchedule),
            ],
        ),
        ("low", vec![taint("sla", "800", Effect::NoSchedule)]),
        (
            "odd",
            vec![
                taint("sla", "0950", Effect::NoExecute),
                taint("sla", "9", Effect::NoSchedule),
            ],
        ),
        ("plain", Vec::new()),
    ]))
}

fn names_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect(),
        Value::Object(reasons) => reasons.keys().cloned().collect(),
        Value::Null => Vec::new(),
        other => panic!("no names: {other}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let cluster = cluster();
    let prefer = if choice & 1 == 0 {
        Margin::Most
    } else {
        Margin::Least
    };
    if choice & 2 == 0 {
        let _ = filter(data, &cluster);
        let _ = prioritize(data, &cluster, prefer);
        return;
    }
    let text = String::from_utf8_lossy(data);
    let (annotation, list) = text.split_once('\n').unwrap_or((&text, ""));
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let body = json!({ "Pod": {
        "metadata": { "name": "p", "annotations": { "pdautoscaler.io/numeric-tolerations": annotation } },
        "spec": { "tolerations": list } }, "Nodes": null, "NodeNames": NODES });
    let body = serde_json::to_vec(&body).expect("a value is JSON");
    if let Ok(answered) = filter(&body, &cluster) {
        let answer: Value = serde_json::from_slice(&answered.body).expect("an answer is JSON");
        let parts = ["NodeNames", "FailedNodes", "FailedAndUnresolvableNodes"];
        let all: Vec<String> = parts
            .iter()
            .flat_map(|part| names_of(&answer[*part]))
            .collect();
        let once: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(all.len(), NODES.len(), "{answer}");
        assert_eq!(once, BTreeSet::from(NODES), "{answer}");
    }
    if let Ok(answered) = prioritize(&body, &cluster, prefer) {
        let answer: Value = serde_json::from_slice(&answered.body).expect("an answer is JSON");
        for host in answer.as_array().expect("a list") {
            let score = host["Score"].as_i64().expect("a score");
            assert!(score.abs() <= i64::from(SCORE_MAX), "{answer}");
        }
    }
});
