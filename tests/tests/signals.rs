//! Signals from a real Prometheus: a pair of servers, a counter that is reset, a target that is
//! gone.
//!
//! One worker with known rates answers as a vLLM server would and is scraped twice, under two
//! replica labels, as behind a highly available pair. The controller's own queries and parsing must
//! find its load once, whatever happens to the worker. Burstiness takes ten minutes to measure, so
//! its history is written into the server's data instead of waited for.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use pd_core::{PerRole, Reading, Signals};
use pd_runtime::prometheus::{Endpoint, Owner, QueryError, Servers};
use pd_signals::{
    Sample,
    decode::{Answers, Overrides, prefix, scraped_twice, signals},
    engine::VLLM,
    queries::Scope,
};
use pd_sim::{
    engine::{Profile, WorkerMetrics},
    exposition::{Dialect, render},
};
use pd_tests::{
    control_plane::eventually,
    prometheus::{Prometheus, PrometheusOptions},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::Mutex, time::Instant};

const DEADLINE: Duration = Duration::from_mins(1);

/// Requests per second that the worker finishes.
const RATE_RPS: f64 = 10.0;

/// A worker that finishes requests at a steady rate, each of 100 tokens at 20 ms.
#[derive(Clone)]
struct Worker {
    started: Arc<Mutex<Instant>>,
    stopped: Arc<AtomicBool>,
}

impl Worker {
    async fn serve() -> (Self, SocketAddr) {
        let worker = Self {
            started: Arc::new(Mutex::new(Instant::now())),
            stopped: Arc::default(),
        };
        let address = worker.serve_at_another().await;
        (worker, address)
    }

    /// The same engine's metrics at another port.
    async fn serve_at_another(&self) -> SocketAddr {
        let router = Router::new()
            .route("/metrics", get(Self::answer))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// Counters start again from zero, as after a restart of the container.
    async fn restart(&self) {
        *self.started.lock().await = Instant::now();
    }

    async fn answer(State(worker): State<Self>) -> Result<String, StatusCode> {
        if worker.stopped.load(Ordering::SeqCst) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let lived = worker.started.lock().await.elapsed().as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few minutes at ten a second"
        )]
        let finished = (lived * RATE_RPS) as u64;
        let mut metrics = WorkerMetrics {
            requests_running: 20,
            kv_cache_usage: 0.5,
            generation_tokens: finished * 100,
            prefix_cache_queries: finished * 1_000,
            prefix_cache_hits: finished * 250,
            finished_stop: finished,
            ..WorkerMetrics::default()
        };
        metrics
            .inter_token_latency
            .observe_many(0.02, finished * 100);
        metrics.time_to_first_token.observe_many(0.2, finished);
        Ok(render(
            &metrics,
            &Profile::default(),
            "llama",
            Dialect::Current,
        ))
    }
}

fn scope() -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "inference".into(),
        prefill_pods: "llama-[pd]-0".into(),
        decode_pods: "llama-[pd]-0".into(),
        selectors: vec![("model_name".into(), "llama".into())],
        window: Duration::from_secs(8),
        attainment_window: Duration::from_mins(1),
    }
}

/// The same target for both members of a pair, as pod `llama-p-0`.
async fn scraped_by_a_pair(address: SocketAddr) -> Prometheus {
    let group = |replica: &str| {
        json!({
            "targets": [address.to_string()],
            "labels": {
                "namespace": "inference", "pod": "llama-p-0", "prometheus_replica": replica,
            },
        })
    };
    Prometheus::start(&PrometheusOptions {
        scrape_configs: vec![json!({
            "job_name": "pair",
            "static_configs": [group("a"), group("b")],
        })],
        ..PrometheusOptions::default()
    })
    .await
    .unwrap()
}

/// The answers that the controller gets.
async fn answers(prometheus: &Prometheus, scope: &Scope) -> Answers<QueryError> {
    // Sets up the process for TLS clients.
    prometheus.query("up").await.unwrap();
    let servers = Servers::new(Duration::from_secs(10), "pd-tests", "0");
    let endpoint = Endpoint::open(&prometheus.url(), Owner::Operator);
    let ask = |text: String| {
        let (servers, endpoint) = (&servers, &endpoint);
        async move {
            let mut answer = servers.query(endpoint, &text).await?;
            assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
            let histograms = std::mem::take(&mut answer.histograms);
            let native = histograms.iter().flat_map(|histogram| {
                let (count, sum) = (histogram.count, histogram.sum);
                Sample::of_native(&histogram.labels, count, sum, &histogram.buckets)
            });
            let (samples, _) = answer.into_parts();
            let plain = samples.into_iter().map(|sample| Sample {
                labels: sample.labels,
                value: sample.value,
            });
            Ok::<_, QueryError>(plain.chain(native).collect())
        }
    };
    Answers {
        partial: false,
        state: ask(scope.state_query()).await,
        histograms: ask(scope.histogram_query()).await,
        wide: ask(scope.wide_query()).await,
        attainment: ask(scope.attainment_query()).await,
        overrides: Overrides::default(),
    }
}

/// The signals that the controller reads; the one worker is ready in both roles.
async fn read(prometheus: &Prometheus, scope: &Scope) -> Signals {
    of(&answers(prometheus, scope).await, scope)
}

fn of(answers: &Answers<QueryError>, scope: &Scope) -> Signals {
    let pods = ["llama-p-0".to_owned()];
    let ready = PerRole {
        prefill: pods.as_slice(),
        decode: pods.as_slice(),
    };
    assert_eq!(answers.first_error(), None);
    signals(answers, ready, scope, Duration::from_secs(5))
}

/// No rate is ever above the true one by more than the beat of scrapes, nor below zero.
fn assert_no_spike(signals: &Signals) {
    let rates = [
        (signals.prefill_completion_rate_rps, RATE_RPS),
        (signals.output_token_rate_tps, RATE_RPS * 100.0),
    ];
    for (reading, truth) in rates {
        if let Some(rate) = reading.known() {
            assert!(rate <= truth * 1.35, "{rate} instead of {truth}");
        }
    }
    if let Ok(itl) = signals.recent.inter_token_latency.with_samples(1.0) {
        let most = RATE_RPS * 100.0 * 8.0 * 1.35;
        assert!(itl.count() <= most, "{} observations", itl.count());
    }
    let running = signals.running_requests.decode;
    assert!(running.known().is_none_or(|running| running <= 20.0));
}

fn close(reading: Reading, truth: f64) -> Result<(), String> {
    match reading.known() {
        Some(number) if (number / truth - 1.0).abs() < 0.2 => Ok(()),
        _ => Err(format!("{reading:?} instead of {truth}")),
    }
}

fn steady(signals: &Signals) -> Result<(), String> {
    assert_no_spike(signals);
    close(signals.prefill_completion_rate_rps, RATE_RPS)?;
    close(signals.decode_completion_rate_rps, RATE_RPS)?;
    close(signals.output_token_rate_tps, RATE_RPS * 100.0)?;
    close(signals.running_requests.decode, 20.0)?;
    close(signals.requests_peak.decode, 20.0)?;
    close(signals.prefix_hit_share, 0.25)?;
    close(signals.decode_kv_usage, 0.5)?;
    let capacity = Profile::default().kv_capacity_tokens as f64;
    close(signals.decode_kv_capacity_tokens, capacity)?;
    let mean = signals.recent.inter_token_latency.mean();
    close(mean.map_or(Reading::default(), Reading::of), 0.02)?;
    let mean = signals.wide.prefill_ttft.mean();
    close(mean.map_or(Reading::default(), Reading::of), 0.2)?;
    match signals.doubts().first() {
        Some(doubt) => Err(doubt.message.clone()),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_of_servers_a_reset_and_a_dead_target_leave_the_load_as_it_is() {
    let (worker, address) = Worker::serve().await;
    let prometheus = scraped_by_a_pair(address).await;
    let scope = scope();
    eventually("the load, counted once", DEADLINE, async || {
        steady(&read(&prometheus, &scope).await)
    })
    .await
    .unwrap();
    let twice = prometheus.query("count(vllm:num_requests_running)").await;
    assert_eq!(twice.unwrap()[0].1.to_string(), "2", "scraped by both");

    worker.restart().await;
    let resets = "min(resets(vllm:generation_tokens_total[8s])) > 0";
    eventually("the reset in the window", DEADLINE, async || {
        assert_no_spike(&read(&prometheus, &scope).await);
        let found = prometheus.query(resets).await.unwrap();
        (!found.is_empty())
            .then_some(())
            .ok_or("no reset yet".to_owned())
    })
    .await
    .unwrap();
    eventually("the reset out of the window", DEADLINE, async || {
        let signals = read(&prometheus, &scope).await;
        assert_no_spike(&signals);
        let found = prometheus.query(resets).await.unwrap();
        if found.is_empty() {
            steady(&signals)
        } else {
            Err("still in the window".to_owned())
        }
    })
    .await
    .unwrap();

    worker.stopped.store(true, Ordering::SeqCst);
    eventually("nothing known", DEADLINE, async || {
        let signals = read(&prometheus, &scope).await;
        assert_no_spike(&signals);
        let unknown = signals.running_requests.decode.known().is_none()
            && signals.coverage.decode.scraped == 0;
        unknown.then_some(signals).ok_or("still scraped".to_owned())
    })
    .await
    .map(|signals| {
        assert_eq!(signals.coverage.decode.seen, 1, "it has been scraped");
        let judged = signals.judged(PerRole::from_fn(|_| 1));
        assert_eq!(judged.output_token_rate_tps.known(), None);
        assert_eq!(judged.prefill_completion_rate_rps.known(), None);
    })
    .unwrap();
}

/// A job that scrapes one worker as pod `llama-p-0`, with rules for what it stores.
fn job(name: &str, address: SocketAddr, relabelled: &serde_json::Value) -> serde_json::Value {
    json!({
        "job_name": name,
        "static_configs": [{
            "targets": [address.to_string()],
            "labels": { "namespace": "inference", "pod": "llama-p-0" },
        }],
        "metric_relabel_configs": relabelled,
    })
}

async fn scraped_by(jobs: Vec<serde_json::Value>) -> Prometheus {
    Prometheus::start(&PrometheusOptions {
        scrape_configs: jobs,
        ..PrometheusOptions::default()
    })
    .await
    .unwrap()
}

/// Whether every token came within 25 ms, as it did.
fn within_limits(signals: &Signals) -> Result<(), String> {
    let share = signals
        .recent
        .inter_token_latency
        .with_samples(1.0)
        .ok()
        .and_then(|latencies| latencies.share_at_or_below(0.025));
    match share {
        Some(share) if share > 0.99 => Ok(()),
        share => Err(format!("{share:?} of the tokens came within 25 ms")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_engine_at_two_ports_with_bounds_spelt_differently_counts_once() {
    let (worker, address) = Worker::serve().await;
    let other = worker.serve_at_another().await;
    // `1` where the other job has `1.0`, and `2.5e0` where it has `2.5`.
    let spelt = json!([
        { "source_labels": ["le"], "regex": "([0-9]+)\\.0", "target_label": "le", "replacement": "$1" },
        { "source_labels": ["le"], "regex": "([0-9]+\\.[0-9]*[1-9])", "target_label": "le", "replacement": "${1}e0" },
    ]);
    let jobs = vec![
        job("pods", address, &json!([])),
        job("services", other, &spelt),
    ];
    let prometheus = scraped_by(jobs).await;
    let scope = scope();
    eventually("the load, counted once", DEADLINE, async || {
        let answers = answers(&prometheus, &scope).await;
        let signals = of(&answers, &scope);
        steady(&signals)?;
        within_limits(&signals)?;
        let twice = scraped_twice(&answers).ok_or("not seen twice")?;
        assert!(twice.contains("`llama-p-0`"), "{twice}");
        Ok::<(), String>(())
    })
    .await
    .unwrap();
    let spellings = "count(count by (le) (vllm:inter_token_latency_seconds_bucket))";
    let spellings = prometheus.query(spellings).await.unwrap()[0].1;
    let bounds = "count(vllm:inter_token_latency_seconds_bucket{job=\"pods\"})";
    let bounds = prometheus.query(bounds).await.unwrap()[0].1;
    assert!(spellings > bounds, "two spellings: {spellings}, {bounds}");
}

#[rstest::rstest]
#[case::of_an_operator("kserve_vllm:")]
#[case::of_opentelemetry("vllm_")]
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_another_beginning_are_found(#[case] beginning: &str) {
    let (_worker, address) = Worker::serve().await;
    let renamed = json!([{
        "source_labels": ["__name__"], "regex": "vllm:(.+)", "target_label": "__name__",
        "replacement": format!("{beginning}$1"),
    }]);
    let prometheus = scraped_by(vec![job("pods", address, &renamed)]).await;
    let usual = scope();
    eventually("the load under another beginning", DEADLINE, async || {
        let found = prefix(&answers(&prometheus, &usual).await, &usual);
        let found = found.ok_or("no beginning is found")?;
        assert_eq!(found, beginning);
        let scope = Scope {
            prefix: Some(found),
            ..usual.clone()
        };
        let answers = answers(&prometheus, &scope).await;
        assert_eq!(prefix(&answers, &scope), None);
        steady(&of(&answers, &scope))
    })
    .await
    .unwrap();
}

/// Cumulative counts at a sample every `interval` seconds, ending now: requests come one by one
/// (`burst` 1) or in bursts, on average ten a second.
fn history(now: f64, interval: u32, burst: u64) -> String {
    let mut text = "# TYPE vllm:request_success counter\n".to_owned();
    let (mut state, mut total) = (7_u64, 0_u64);
    let mut at = now - 780.0;
    while at < now {
        // Poisson bursts, by a hundred coin tosses a second.
        for _ in 0..100 * interval {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            if (state >> 33) % (10 * burst) == 0 {
                total += burst;
            }
        }
        at += f64::from(interval);
        for replica in ["a", "b"] {
            let labels = format!(
                "namespace=\"inference\",pod=\"llama-p-0\",model_name=\"llama\",\
                 prometheus_replica=\"{replica}\""
            );
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "vllm:request_success_total{{{labels}}} {total} {at:.3}"
            );
        }
    }
    text.push_str("# EOF\n");
    text
}

#[rstest::rstest]
#[case::one_by_one(15, 1, 1.0)]
#[case::scraped_off_the_beat(20, 1, 1.0)]
#[case::in_bursts_of_eight(15, 8, 8.0)]
#[tokio::test(flavor = "multi_thread")]
async fn burstiness_is_seen_over_ten_minutes(
    #[case] interval: u32,
    #[case] burst: u64,
    #[case] truth: f64,
) {
    let prometheus = Prometheus::start(&PrometheusOptions::default())
        .await
        .unwrap();
    let clock = prometheus.query("vector(time())").await.unwrap()[0].1;
    let file = prometheus.directory().join("history.txt");
    std::fs::write(&file, history(clock, interval, burst)).unwrap();
    prometheus.kill().await.unwrap();
    let data = prometheus.directory().join("data");
    let arguments = ["tsdb", "create-blocks-from", "openmetrics"];
    let paths = [file.to_string_lossy(), data.to_string_lossy()];
    let arguments: Vec<&str> = arguments
        .into_iter()
        .chain(paths.iter().map(AsRef::as_ref))
        .collect();
    prometheus.promtool(&arguments).await.unwrap();
    prometheus.restart().await.unwrap();
    let scope = Scope {
        window: Duration::from_mins(2),
        ..scope()
    };
    let signals = read(&prometheus, &scope).await;
    let dispersion = signals.arrival_dispersion.known().unwrap();
    let off = dispersion / truth;
    assert!(
        (0.4..=2.2).contains(&off),
        "{dispersion} instead of {truth}"
    );
    let rate = signals.prefill_completion_rate_rps.known().unwrap();
    assert!((rate / 10.0 - 1.0).abs() < 0.35, "{rate}");
}
