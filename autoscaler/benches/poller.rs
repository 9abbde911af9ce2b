//! The cost of reading many objects together: queries of a round, processor and memory.
//!
//! `cargo bench -p pd-autoscaler --bench poller` reads 10 to 10,000 objects, five in a namespace
//! and each of six pods, from a server in another process that answers over HTTP as Prometheus
//! would, with as many rows as vLLM's metrics give. It prints a line for each number of objects.
//! The bars are those of the issue: 60 queries a round, one core, 300 MiB.

#![expect(clippy::unwrap_used, reason = "a failed step of a measurement ends it")]

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
use futures::future::BoxFuture;
use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::PDAutoscaler;
use pd_autoscaler::{
    grouping::{Join, PART, WORKLOAD, split::Splitter},
    poller::{
        Ask, Poller, Settings, Taken,
        read::{Place, Reader},
        round::Round,
        shape::{Kind, Shape},
    },
};
use pd_core::PerRole;
use pd_runtime::prometheus::{Endpoint, Owner, QueryError, Servers};
use pd_signals::{engine::VLLM, queries::Scope};
use tokio::time::{Instant, sleep};

/// Set in the process that answers.
const SERVER: &str = "PD_BENCH_SERVER";
/// Objects of a namespace.
const IN_NAMESPACE: usize = 5;
/// Pods of a role.
const PODS: usize = 3;
/// Edges of a histogram, as vLLM's of TTFT.
const EDGES: usize = 22;
/// Time between rounds.
const INTERVAL: Duration = Duration::from_secs(15);

fn scope() -> Scope {
    Scope {
        engine: &VLLM,
        prefix: None,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        namespace: "n".into(),
        prefill_pods: "p".into(),
        decode_pods: "d".into(),
        selectors: Vec::new(),
        window: Duration::from_mins(2),
        attainment_window: Duration::from_hours(1),
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if env::var_os(SERVER).is_some() {
        runtime.block_on(serve());
        return;
    }
    let mut server = Command::new(env::current_exe().unwrap())
        .env(SERVER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = server.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    println!("objects  queries/round  served  round s  core %  peak MiB");
    for count in [10, 100, 1_000, 10_000] {
        runtime.block_on(measure(count, line.trim()));
    }
    server.kill().unwrap();
}

struct Client {
    servers: Servers,
    endpoint: Endpoint,
}

impl Reader for Client {
    fn read<'a>(
        &'a self,
        name: &'static str,
        query: &'a str,
        rows: &'a mut Splitter<'_>,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            self.servers
                .stream(&self.endpoint, (name, query), rows)
                .await
        })
    }
}

async fn measure(count: usize, address: &str) {
    let timeout = Duration::from_secs(10);
    let client = Client {
        servers: Servers::new(timeout, "bench", "0"),
        endpoint: Endpoint::open(address, Owner::Operator),
    };
    let poller = Poller::new(Settings {
        is_on: true,
        interval: INTERVAL,
        timeout,
        namespace_label: "namespace".into(),
        pod_label: "pod".into(),
        homes: Vec::new(),
    });
    let objects: Vec<_> = (0..count).map(object).collect();
    let scope = scope();
    let rounds = Mutex::new(Vec::<Round>::new());
    let report = |round| rounds.lock().unwrap().push(round);
    let passes = async {
        sleep(Duration::from_millis(100)).await;
        let mut served = 0;
        let mut begun = (Instant::now(), processor_seconds());
        // Everybody is new in the first, and lacks attainment in the second.
        for turn in 0..5 {
            if turn == 3 {
                begun = (Instant::now(), processor_seconds());
            }
            served = 0;
            for some in objects.chunks(count.div_ceil(100)) {
                for (key, place) in some {
                    let ask = Ask {
                        scope: &scope,
                        place: place.clone(),
                        needs_attainment: true,
                        attainment_kept: Duration::from_mins(1),
                    };
                    if let Taken::Here(here) = poller.take(key, ask) {
                        served += usize::from(here.state.is_ok_and(|rows| !rows.is_empty()));
                    }
                }
                sleep(INTERVAL / 100).await;
            }
        }
        let core = (processor_seconds() - begun.1) / begun.0.elapsed().as_secs_f64();
        (served, core)
    };
    let (served, core) = tokio::select! {
        () = poller.follow(&client, report) => return,
        measured = passes => measured,
    };
    let rounds = rounds.into_inner().unwrap();
    let most = rounds.iter().map(|round| round.queries).max().unwrap_or(0);
    let took = rounds
        .iter()
        .map(|round| round.took)
        .max()
        .unwrap_or_default();
    println!(
        "{count:>7} {most:>14} {served:>7} {:>8.1} {:>7.0} {:>9.0}",
        took.as_secs_f64(),
        core * 100.0,
        peak_mib(),
    );
}

fn object(number: usize) -> (ObjectRef<PDAutoscaler>, Place) {
    let (namespace, name) = (number / IN_NAMESPACE, number % IN_NAMESPACE);
    let namespace = format!("team-{namespace:05}");
    let key = ObjectRef::new(&format!("llama-{name}")).within(&namespace);
    let keys = PerRole {
        prefill: format!("llama-{name}-prefill/"),
        decode: format!("llama-{name}-decode/"),
    };
    (key, Place { namespace, keys })
}

fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<f64> = rest
        .split_whitespace()
        .map(|n| n.parse().unwrap_or(0.0))
        .collect();
    // Fields 14 and 15 of all, in the usual hundredths of a second.
    (fields[11] + fields[12]) / 100.0
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024.0
}

/// Answers until it is killed.
async fn serve() {
    let shape: &'static Shape = Box::leak(Box::new(Shape::of(&scope()).unwrap()));
    let answer = move |body: Bytes| async move { answer(shape, &body) };
    let router = Router::new()
        .route("/api/v1/query", post(answer))
        .layer(DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    axum::serve(listener, router).await.unwrap();
}

fn answer(shape: &Shape, body: &[u8]) -> String {
    let query = decoded(body);
    let kind = if query.contains("count by (__name__") {
        Kind::State
    } else if query.contains("[1h]") {
        Kind::Attainment
    } else if query.contains("[10m]") {
        Kind::Wide
    } else {
        Kind::Histograms
    };
    let (_, rest) = query.split_once("namespace=~\"").unwrap();
    let (namespaces, _) = rest.split_once('"').unwrap();
    let mut text =
        String::from("{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[");
    let (_, parts) = shape.query(kind);
    for (number, part) in parts.iter().enumerate() {
        let (tag, _) = &part.tags[0];
        if tag.ends_with("_native") || part.is_of_namespaces {
            continue;
        }
        for namespace in namespaces.split('|') {
            for workload in (0..IN_NAMESPACE)
                .flat_map(|name| ["prefill", "decode"].map(|role| format!("llama-{name}-{role}")))
            {
                let mut row = |more: String| {
                    let comma = if text.ends_with('[') { "" } else { "," };
                    write!(
                        text,
                        "{comma}{{\"metric\":{{{more},\"namespace\":\"{namespace}\",\"{PART}\":\"{number}\"}},\"value\":[1733000000.123,\"123.4567890123\"]}}"
                    )
                    .unwrap();
                };
                match part.join {
                    Join::Apart => (0..PODS).for_each(|pod| {
                        row(format!("\"pod\":\"{workload}-7d9f8b6c5-abcd{pod}\""));
                    }),
                    _ if tag.ends_with("_buckets") => (0..EDGES).for_each(|edge| {
                        row(format!(
                            "\"edge\":\"0.{edge}\",\"{WORKLOAD}\":\"{workload}/\""
                        ));
                    }),
                    _ => row(format!("\"{WORKLOAD}\":\"{workload}/\"")),
                }
            }
        }
    }
    text.push_str("]}}");
    text
}

/// A form as text.
fn decoded(body: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.iter();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<&u8>| char::from(*byte.unwrap_or(&b'0')).to_digit(16).unwrap_or(0);
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = hex(rest.next());
                u8::try_from(high * 16 + hex(rest.next())).unwrap_or(b'?')
            }
            other => *other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
