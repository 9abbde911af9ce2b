//! Every engine's metrics as a real Prometheus has them, and the signals that are read from them.
//!
//! Each text in `fixtures/engines` is what the pods of one engine and version publish after ten
//! minutes of even load, and the signals that must be read from it. Its last lines state them: a
//! number, of a distribution the mean, or `-` where the engine does not publish it. All of them are
//! written into the data of one server, each as a namespace of its own. Texts recorded from real
//! engines stand beside the workspace, where they are at all. Texts in `fixtures/gateways` have a
//! gateway before the pods.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod grouped;
mod history;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pd_core::{
    PerRole, Role, Signals,
    signal::name::{SignalName, Slot},
};
use pd_runtime::prometheus::{Endpoint, Owner, QueryError, Servers};
use pd_signals::{
    Sample,
    decode::{self, Answers, Overrides, signals},
    engine::{Engine, VLLM},
    queries::{Scope, gateway::GatewayScope},
};
use pd_tests::prometheus::{Prometheus, PrometheusOptions};

use self::history::{Case, history};

/// Furthest that a number may be from the stated one: counters are extrapolated to the window.
const TOLERANCE: f64 = 0.03;

fn cases(of: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(of);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

/// The texts that were recorded from a real service of one prefill and one decode worker.
fn recorded() -> Option<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/expositions");
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let pods = [
        ("llama-p-0", read("vllm-0.32.0-prefill.txt")?),
        ("llama-d-0", read("vllm-0.32.0-decode.txt")?),
    ];
    Some(Case {
        name: "recorded".to_owned(),
        pods: pods.map(|(pod, text)| (pod.to_owned(), text)).to_vec(),
        reads: Vec::new(),
    })
}

/// A server whose data are ten minutes of `cases`.
async fn served(cases: &[Case]) -> Prometheus {
    let prometheus = Prometheus::start(&PrometheusOptions::default())
        .await
        .unwrap();
    let clock = prometheus.query("vector(time())").await.unwrap()[0].1;
    let file = prometheus.directory().join("history.txt");
    fs::write(&file, history(cases, clock)).unwrap();
    prometheus.kill().await.unwrap();
    let data = prometheus.directory().join("data");
    let (file, data) = (file.to_string_lossy(), data.to_string_lossy());
    let arguments = ["tsdb", "create-blocks-from", "openmetrics", &file, &data];
    prometheus.promtool(&arguments).await.unwrap();
    prometheus.restart().await.unwrap();
    prometheus
}

fn scope(namespace: &str, engine: &'static Engine) -> Scope {
    Scope {
        engine,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: namespace.into(),
        prefill_pods: "llama-p-[0-9]+".into(),
        decode_pods: "llama-d-[0-9]+".into(),
        selectors: vec![],
        window: Duration::from_mins(2),
        attainment_window: Duration::from_mins(10),
    }
}

/// The answer that the controller gets.
async fn answer(prometheus: &Prometheus, text: &str) -> Result<Vec<Sample>, QueryError> {
    let servers = Servers::new(Duration::from_secs(10), "pd-tests", "0");
    let endpoint = Endpoint::open(&prometheus.url(), Owner::Operator);
    let answer = servers.query(&endpoint, text).await?;
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    let (samples, _) = answer.into_parts();
    let plain = samples.into_iter().map(|sample| Sample {
        labels: sample.labels,
        value: sample.value,
    });
    Ok(plain.collect())
}

async fn answers(prometheus: &Prometheus, scope: &Scope) -> Answers<QueryError> {
    Answers {
        partial: false,
        state: answer(prometheus, &scope.state_query()).await,
        histograms: answer(prometheus, &scope.histogram_query()).await,
        wide: answer(prometheus, &scope.wide_query()).await,
        attainment: answer(prometheus, &scope.attainment_query()).await,
        overrides: Overrides::default(),
    }
}

/// The signals of a case as the controller finds them, and the name of the engine: it asks for
/// vLLM's and takes what is there.
async fn found(prometheus: &Prometheus, case: &str) -> (Signals, &'static str) {
    let mut scope = scope(case, &VLLM);
    let mut given = answers(prometheus, &scope).await;
    if let Some(found) = decode::another(&given, &scope, true) {
        scope = Scope {
            engine: found.engine,
            prefix: found.prefix,
            ..scope
        };
        given = answers(prometheus, &scope).await;
    }
    assert_eq!(given.first_error(), None, "{case}");
    let pods = PerRole {
        prefill: ["llama-p-0".to_owned()],
        decode: ["llama-d-0".to_owned()],
    };
    let ready = PerRole::from_fn(|role: Role| pods[role].as_slice());
    let signals = signals(&given, ready, &scope, Duration::from_mins(2));
    (signals, decode::engine(&given, &scope).unwrap_or_default())
}

/// A signal's number, of a distribution the mean.
fn number(signals: &Signals, name: SignalName) -> Option<f64> {
    match signals.slot(name) {
        Slot::Number(reading) => reading.known(),
        Slot::Distribution(recent, _) => recent.mean(),
        Slot::Attainment(reading) => reading.mean(),
    }
}

fn mistakes(case: &Case, signals: &Signals) -> Vec<String> {
    let names: BTreeMap<&str, SignalName> = SignalName::ALL
        .iter()
        .map(|name| (name.as_str(), *name))
        .collect();
    let differs = |(name, want): &(String, Option<f64>)| {
        let read = number(signals, names[name.as_str()]);
        let same = match (read, want) {
            (Some(read), Some(want)) => (read - want).abs() <= want.abs() * TOLERANCE + 1e-9,
            (None, None) => true,
            _ => false,
        };
        (!same).then(|| format!("{}: {name} is {read:?} and not {want:?}", case.name))
    };
    case.reads.iter().filter_map(differs).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_engine_and_version_is_found_and_read() {
    let (cases, gateways) = (cases("engines"), cases("gateways"));
    let recorded = recorded();
    if recorded.is_none() {
        eprintln!("skipped: no folder `expositions` with recorded texts beside the workspace");
    }
    let all = cases.iter().chain(&gateways).chain(&recorded);
    let all: Vec<Case> = all.cloned().collect();
    let prometheus = served(&all).await;
    let mut wrong = Vec::new();
    for case in &cases {
        let (signals, engine) = found(&prometheus, &case.name).await;
        let product = case.name.split('-').next().unwrap();
        if !engine.to_lowercase().starts_with(&product.to_lowercase()) {
            wrong.push(format!("{}: engine `{engine}`", case.name));
        }
        wrong.extend(mistakes(case, &signals));
        let doubts = signals.doubts();
        wrong.extend(
            doubts
                .iter()
                .map(|doubt| format!("{}: {}", case.name, doubt.message)),
        );
    }
    for case in &gateways {
        let (signals, gateway) = at_gateway(&prometheus, &case.name).await;
        if !case.name.starts_with(gateway) {
            wrong.push(format!("{}: gateway `{gateway}`", case.name));
        }
        wrong.extend(mistakes(case, &signals));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if let Some(case) = recorded {
        let (signals, engine) = found(&prometheus, &case.name).await;
        assert_eq!(engine, "VLLM");
        // Nine answers of 8 to 48 tokens; ten minutes of history are made of what was counted.
        for name in [
            SignalName::PromptTokens,
            SignalName::Tpot,
            SignalName::DecodeTtft,
        ] {
            assert!(number(&signals, name).is_some(), "{name:?}");
        }
        assert!(signals.doubts().is_empty(), "{:?}", signals.doubts());
    }
    names_are_reported_where_no_engine_is_found(&prometheus).await;
}

/// The counts of the gateway of a case, as the controller finds it, and its name: it looks for any
/// and reads the one that is there.
async fn at_gateway(prometheus: &Prometheus, case: &str) -> (Signals, &'static str) {
    let workers = scope(case, &VLLM);
    let given = answers(prometheus, &workers).await;
    let model = decode::model(&given, &workers).unwrap();
    assert_eq!(model, "Meta/Llama", "{case}");
    let mut asked = GatewayScope::of(&workers, None, model, &["elsewhere".to_owned()]);
    let there = answer(prometheus, &asked.query()).await;
    asked.gateway = decode::gateway_found(&there, None);
    let gateway = asked.gateway.unwrap();
    let given = answer(prometheus, &asked.query()).await;
    assert!(given.is_ok(), "{case}: {given:?}");
    let mut signals = Signals::default();
    decode::add_gateway(&given, gateway, &mut signals);
    assert!(
        signals.doubts().is_empty(),
        "{case}: {:?}",
        signals.doubts()
    );
    (signals, gateway.name)
}

/// A namespace without series, and one whose engine is not the stated one.
async fn names_are_reported_where_no_engine_is_found(prometheus: &Prometheus) {
    let nowhere = scope("nowhere", &VLLM);
    let given = answers(prometheus, &nowhere).await;
    assert!(decode::another(&given, &nowhere, true).is_none());
    let tried = decode::names_tried(&given, &nowhere, true).unwrap();
    for name in [
        "`vllm:kv_cache_usage_perc`",
        "`sglang:token_usage`",
        "`trtllm_kv_cache_utilization`",
    ] {
        assert!(tried.contains(name), "{tried}");
    }
    let other = scope("sglang-0.5.23", &VLLM);
    let given = answers(prometheus, &other).await;
    assert!(decode::another(&given, &other, false).is_none());
    let tried = decode::names_tried(&given, &other, false).unwrap();
    assert!(tried.contains("metrics of SGLang are there"), "{tried}");
    assert!(!tried.contains("trtllm"), "{tried}");
}
