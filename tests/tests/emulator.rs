//! The engine emulator against real parts: pods of a real control plane become workers, a real
//! Prometheus discovers and scrapes them, and replicas change what users see.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{process::Stdio, time::Duration};

use pd_tests::{
    control_plane::{ControlPlane, Namespace, NodeSpec, Options, eventually},
    emulator::{Emulator, EmulatorOptions, LoadChange, NamespaceState, State},
    prometheus::{Prometheus, PrometheusOptions},
};
use tokio::io::{AsyncBufReadExt, BufReader};

const DEADLINE: Duration = Duration::from_mins(2);

async fn plane() -> ControlPlane {
    let nodes = vec![NodeSpec {
        count: 1,
        ..NodeSpec::default()
    }];
    let options = Options {
        nodes,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

fn deployment(role: &str, replicas: u32) -> String {
    serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": role },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "llm-d.ai/role": role } },
            "template": {
                "metadata": { "labels": { "llm-d.ai/role": role, "model": "llama" } },
                "spec": { "containers": [{ "name": "engine", "image": "vllm/vllm-openai" }] },
            },
        },
    })
    .to_string()
}

fn load(namespace: &str) -> LoadChange {
    LoadChange {
        namespace: Some(namespace.to_owned()),
        requests_per_second: Some(14.0),
        input_tokens_mean: Some(1500.0),
        input_tokens_cv: Some(0.5),
        output_tokens_mean: Some(50.0),
        ..LoadChange::default()
    }
}

async fn until<T>(
    emulator: &Emulator,
    namespace: &str,
    awaited: &str,
    read: impl Fn(&NamespaceState) -> Option<T>,
) -> T {
    eventually(awaited, DEADLINE, async || {
        let state = emulator.state();
        let service = state.namespaces.get(namespace);
        service.and_then(&read).ok_or_else(|| format!("{state:?}"))
    })
    .await
    .unwrap()
}

async fn series(prometheus: &Prometheus, query: &str, wanted: usize) -> Vec<f64> {
    eventually(query, DEADLINE, async || {
        let found = prometheus
            .query(query)
            .await
            .map_err(|error| error.to_string())?;
        let values: Vec<f64> = found.iter().map(|(_, value)| *value).collect();
        if values.len() == wanted {
            Ok(values)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_prefill_pods_shorten_ttft_and_prometheus_sees_it() {
    let plane = plane().await;
    let namespace = Namespace::create(&plane, "emulator").await.unwrap();
    let name = namespace.name();
    let client = plane.client().await.unwrap();
    let emulator = Emulator::start(client, EmulatorOptions::default())
        .await
        .unwrap();
    emulator.set_load(&load(name)).unwrap();
    let prometheus = Prometheus::start(&PrometheusOptions {
        http_sd_urls: vec![emulator.service_discovery_url()],
        ..PrometheusOptions::default()
    })
    .await
    .unwrap();
    for role in ["prefill", "decode"] {
        namespace.apply(&deployment(role, 1)).await.unwrap();
    }
    until(&emulator, name, "a queue at the one prefill pod", |state| {
        (state.prefill.ready == 1 && state.prefill.waiting > 20).then_some(())
    })
    .await;
    let selector = format!("namespace=\"{name}\",model_name=\"llama\"");
    let waiting = format!("vllm:num_requests_waiting{{{selector},role=\"prefill\"}} > 20");
    series(&prometheus, &waiting, 1).await;

    namespace
        .kubectl(&["scale", "deployment/prefill", "--replicas=4"])
        .await
        .unwrap();
    until(
        &emulator,
        name,
        "four prefill pods without a queue",
        |state| (state.prefill.ready == 4 && state.prefill.waiting < 4).then_some(()),
    )
    .await;
    let count = format!("vllm:time_to_first_token_seconds_count{{{selector}}} > 0");
    series(&prometheus, &count, 5).await;
    series(&prometheus, "up == 1", 5).await;

    namespace
        .kubectl(&["scale", "deployment/prefill", "--replicas=2"])
        .await
        .unwrap();
    series(&prometheus, "up == 1", 3).await;
    until(&emulator, name, "two prefill pods", |state| {
        (state.prefill.ready == 2 && state.prefill.draining == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_takes_load_over_http_and_says_where_it_listens() {
    let plane = plane().await;
    let namespace = Namespace::create(&plane, "emulator").await.unwrap();
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_pd-engine-emulator"))
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .args(["--namespace", namespace.name(), "--dialect", "0.8.5"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = line["url"].as_str().unwrap().to_owned();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();

    let impossible = serde_json::json!({ "requestsPerSecond": -1.0 });
    let put = |body: &serde_json::Value| http.put(format!("{url}/load")).json(body).send();
    let refused = put(&impossible).await.unwrap();
    assert_eq!(refused.status(), 422);
    assert!(
        refused
            .text()
            .await
            .unwrap()
            .contains("`requestsPerSecond` is `-1`")
    );
    let stated = serde_json::json!({ "requestsPerSecond": 5.0, "outputTokensMean": 20.0 });
    assert_eq!(put(&stated).await.unwrap().status(), 204);

    for role in ["prefill", "decode"] {
        namespace.apply(&deployment(role, 1)).await.unwrap();
    }
    let get = async |path: &str| {
        let response = http.get(format!("{url}{path}")).send().await;
        response.unwrap().text().await.unwrap()
    };
    eventually("requests that end", DEADLINE, async || {
        let state: State = serde_json::from_str(&get("/state").await).unwrap();
        let service = state.namespaces.get(namespace.name());
        match service {
            Some(service) if service.recently_ended > 10 => Ok(()),
            _ => Err(format!("{state:?}")),
        }
    })
    .await
    .unwrap();
    let targets: serde_json::Value = serde_json::from_str(&get("/sd").await).unwrap();
    let targets = targets.as_array().unwrap();
    assert_eq!(targets.len(), 2);
    for target in targets {
        let path = target["labels"]["__metrics_path__"].as_str().unwrap();
        let text = get(path).await;
        assert!(text.contains("vllm:gpu_cache_usage_perc{engine=\"0\",model_name=\"llama\"}"));
    }
}
