//! How a controller does with thousands of objects on a real control plane, a real Prometheus and
//! emulated engines. A measurement, which CI does not run:
//!
//! ```sh
//! cargo build --release -p pd-autoscaler
//! export PD_MEASURED=$PWD/target/release/pd-autoscaler
//! cargo test -p pd-tests --test many_objects -- --ignored --nocapture
//! ```
//!
//! `PD_OBJECTS` states how many (2,000). Each is in a namespace of its own, with a Deployment of
//! one pod for each role under an even load, and its workers are scraped every 30 s. The load of
//! the cluster without the controller is measured first and taken off.

#![expect(clippy::unwrap_used, reason = "a failed step of a measurement ends it")]

use std::{env, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace as KubernetesNamespace, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_tests::{
    chart,
    control_plane::{
        Component, ControlPlane, GPU_RESOURCE, Namespace, NodeSpec, Options, eventually,
    },
    emulator::{Emulator, EmulatorOptions, LoadChange},
    meter::{self, Page, processor_ms, resident_mib},
    prometheus::{Prometheus, PrometheusOptions},
    stage::install_crd,
    supervisor::{Process, ProcessSpec},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Pods of a node.
const PODS_OF_NODE: usize = 200;
/// Objects that are made at once.
const CONCURRENCY: usize = 24;
/// Time in which objects settle before they are measured: the first decisions, and the windows.
const SETTLED_AFTER: Duration = Duration::from_mins(2);
/// Time after which every worker was scraped.
const SCRAPED_AFTER: Duration = Duration::from_mins(1);
/// Time that is measured.
const SPAN: Duration = Duration::from_mins(1);
/// Time between decisions about an object.
const TICK_S: f64 = 15.0;

fn deployment(role: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": format!("llama-{role}") },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "llm-d.ai/role": role } },
            "template": {
                "metadata": { "labels": { "llm-d.ai/role": role, "model": "llama" } },
                "spec": { "containers": [{
                    "name": "engine", "image": "vllm/vllm-openai",
                    "resources": { "limits": { GPU_RESOURCE: "1" } },
                }] },
            },
        },
    })
}

fn object() -> Value {
    let role = |role: &str| {
        json!({
            "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("llama-{role}") },
            "minReplicas": 1, "maxReplicas": 1,
        })
    };
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama" },
        "spec": {
            "prefill": role("prefill"), "decode": role("decode"),
            "objective": { "ttft": { "target": "1s" }, "tpot": { "target": "50ms" } },
        },
    })
}

async fn add(client: &Client, number: usize) {
    let name = format!("team-{number:05}");
    let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    let made = PostParams::default();
    let namespaces: Api<KubernetesNamespace> = Api::all(client.clone());
    namespaces.create(&made, &namespace).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &name);
    for role in ["prefill", "decode"] {
        let deployment = serde_json::from_value(deployment(role)).unwrap();
        deployments.create(&made, &deployment).await.unwrap();
    }
    let objects: Api<PDAutoscaler> = Api::namespaced(client.clone(), &name);
    let object = serde_json::from_value(object()).unwrap();
    objects.create(&made, &object).await.unwrap();
}

/// A control plane with `count` objects whose pods are all ready.
async fn cluster(count: usize) -> ControlPlane {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let nodes = NodeSpec {
        count: (2 * count).div_ceil(PODS_OF_NODE) + 1,
        gpus: 256,
        cpu: "512".to_owned(),
        ..NodeSpec::default()
    };
    plane.add_nodes(&nodes).await.unwrap();
    install_crd(&plane).await.unwrap();
    let client = plane.client().await.unwrap();
    let made = stream::iter(0..count).map(|number| add(&client, number));
    made.buffer_unordered(CONCURRENCY).collect::<()>().await;
    eventually("ready pods", Duration::from_mins(15), async || {
        let pods: Api<Pod> = Api::all(client.clone());
        let running = ListParams::default().fields("status.phase=Running");
        let pods = pods
            .list_metadata(&running)
            .await
            .map_err(|e| e.to_string())?;
        let found = pods.items.len();
        (found >= 2 * count).then_some(()).ok_or(format!("{found}"))
    })
    .await
    .unwrap();
    plane
}

/// Numbers of the control plane that only grow.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    wal_bytes: f64,
    reads: f64,
    writes: f64,
}

/// The sum of all series of `name` on `page` that `counts` picks by their labels.
fn sum(page: &str, name: &str, counts: impl Fn(&str) -> bool) -> f64 {
    let lines = page.lines().filter_map(|line| line.strip_prefix(name));
    let lines = lines.filter(|rest| rest.starts_with(['{', ' ']));
    let lines = lines.filter_map(|rest| rest.rsplit_once(' '));
    let numbers = lines.filter(|(labels, _)| counts(labels));
    numbers
        .filter_map(|(_, number)| number.parse::<f64>().ok())
        .sum()
}

impl Reading {
    async fn of(plane: &ControlPlane, client: &Client) -> Self {
        let get = axum::http::Request::get("/metrics")
            .body(Vec::new())
            .unwrap();
        let api_server = client.request_text(get).await.unwrap();
        let etcd = reqwest::get(plane.metrics_url(Component::Etcd))
            .await
            .unwrap();
        let etcd = etcd.text().await.unwrap();
        let requests = |verbs: &[&str]| {
            sum(&api_server, "apiserver_request_total", |labels| {
                verbs
                    .iter()
                    .any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
            })
        };
        Self {
            at: Instant::now(),
            wal_bytes: sum(&etcd, "etcd_disk_wal_write_bytes_total", |_| true),
            reads: requests(&["GET", "LIST"]),
            writes: requests(&["POST", "PUT", "PATCH", "DELETE"]),
        }
    }

    /// Bytes, reads and writes a second since `before`.
    fn rates(&self, before: &Self) -> [f64; 3] {
        let seconds = (self.at - before.at).as_secs_f64();
        [
            (self.wal_bytes - before.wal_bytes) / seconds,
            (self.reads - before.reads) / seconds,
            (self.writes - before.writes) / seconds,
        ]
    }
}

async fn rates(plane: &ControlPlane, client: &Client) -> [f64; 3] {
    let before = Reading::of(plane, client).await;
    sleep(SPAN).await;
    Reading::of(plane, client).await.rates(&before)
}

/// The controller, in `namespace`.
async fn controller(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    prometheus: &Prometheus,
) -> Process {
    let values = json!({ "prometheus": { "url": prometheus.url() } });
    let release = chart::install(plane, namespace.name(), &values)
        .await
        .unwrap();
    // The controller's program.
    let program = env::var_os("PD_MEASURED").unwrap();
    let spec = ProcessSpec {
        name: "measured".to_owned(),
        program: std::path::absolute(program).unwrap(),
        arguments: release.command_line(&[("--leader-election-identity", "measured")]),
        environment: vec![],
        log: None,
    };
    plane.spawn(spec).await.unwrap()
}

/// The controller's own numbers.
struct Numbers {
    page: Page,
    processor_ms: f64,
}

impl Numbers {
    async fn of(process: &Process) -> Self {
        Self {
            page: meter::metrics(process).await.unwrap(),
            processor_ms: processor_ms(process).unwrap(),
        }
    }

    /// Prints what came since `before`.
    fn print_since(&self, before: &Self) {
        let spent = SPAN.as_secs_f64();
        let of = |name: &str| {
            let earlier = before.page.histogram(name, &[]);
            self.page.histogram(name, &[]).since(&earlier)
        };
        let late = of("pd_autoscaler_reconcile_lateness_seconds");
        let pass = of("pd_autoscaler_reconcile_duration_seconds");
        let queries = of("pd_autoscaler_prometheus_query_duration_seconds");
        let gauge = |page: &Page, name: &str| {
            let name = format!("pd_autoscaler_grouped_{name}");
            page.value(&name, &[]).unwrap_or(f64::NAN)
        };
        let grouped = gauge(&self.page, "queries_total") - gauge(&before.page, "queries_total");
        println!(
            "passes/s {:.1}, lag p50 {} s, p99 {} s; pass p50 {} s, p99 {} s",
            pass.count() / spent,
            late.quantile(0.5),
            late.quantile(0.99),
            pass.quantile(0.5),
            pass.quantile(0.99),
        );
        println!(
            "queries in 15 s {:.1}, of them about many {:.1}; p99 of a query {} s",
            queries.count() / spent * TICK_S,
            grouped / spent * TICK_S,
            queries.quantile(0.99),
        );
        println!(
            "round of {:.1} s with {} objects, {} troubled",
            gauge(&self.page, "round_duration_seconds"),
            gauge(&self.page, "round_objects"),
            gauge(&self.page, "round_troubled_objects"),
        );
        let core = (self.processor_ms - before.processor_ms) / 10.0 / spent;
        println!("core {core:.0} %");
        assert!(pass.count() > 0.0, "no pass was measured");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of ten minutes, for a machine without other work"]
async fn many_objects_are_decided_about_in_time() {
    let count = env::var("PD_OBJECTS").map_or(2_000, |count| count.parse().unwrap());
    let started = Instant::now();
    let plane = cluster(count).await;
    let client = plane.client().await.unwrap();
    println!(
        "{count} objects after {:.0} s",
        started.elapsed().as_secs_f64()
    );
    let emulator = Emulator::start(client.clone(), EmulatorOptions::default())
        .await
        .unwrap();
    let load = LoadChange {
        requests_per_second: Some(0.5),
        input_tokens_mean: Some(1_500.0),
        output_tokens_mean: Some(100.0),
        ..LoadChange::default()
    };
    emulator.set_load(&load).unwrap();
    let prometheus = Prometheus::start(&PrometheusOptions {
        scrape_interval: Duration::from_secs(30),
        http_sd_urls: vec![emulator.service_discovery_url()],
        ..PrometheusOptions::default()
    })
    .await
    .unwrap();
    sleep(SCRAPED_AFTER).await;
    let [idle_bytes, idle_reads, idle_writes] = rates(&plane, &client).await;

    let namespace = Namespace::create(&plane, "system").await.unwrap();
    let process = controller(&plane, &namespace, &prometheus).await;
    sleep(SETTLED_AFTER).await;
    let before = Numbers::of(&process).await;
    let [bytes, reads, writes] = rates(&plane, &client).await;
    Numbers::of(&process).await.print_since(&before);
    let (now, most) = resident_mib(&process).unwrap();
    println!("RSS {now:.0} MiB, at most {most:.0} MiB");
    println!(
        "API server: {:.1} reads/s and {:.1} writes/s more than without",
        reads - idle_reads,
        writes - idle_writes
    );
    println!(
        "etcd: {:.1} MB/h of its log more than the {:.1} MB/h without",
        (bytes - idle_bytes) * 3_600.0 / 1e6,
        idle_bytes * 3_600.0 / 1e6
    );
}
