//! The cost of reading many objects together: queries of a round, processor, memory and bytes.
//!
//! `cargo bench -p pd-autoscaler --bench poller` reads 10 to 10,000 objects, five in a namespace
//! and each of six pods behind a gateway of its namespace, from a server in another process that
//! answers over HTTP as Prometheus would, with as many rows as the metrics of vLLM and of the
//! endpoint picker give. Each object's signals are decoded every 15 s, as in a pass. It prints a
//! line for each number of objects. The bars are those of the issue: 60 queries a round, one core,
//! 300 MiB.

#![expect(clippy::unwrap_used, reason = "a failed step of a measurement ends it")]

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
use futures::future::BoxFuture;
use kube::runtime::reflector::ObjectRef;
use pd_api::v1alpha1::PDAutoscaler;
use pd_autoscaler::{
    grouping::{Grouped, Join, Of, PART, WORKLOAD, gateway::of_gateway, split::Splitter},
    poller::{
        Ask, Poller, Settings, Taken,
        gateways::Sought,
        here::Here,
        read::{Place, Reader},
        round::Round,
        shape::{Kind, Shape},
    },
};
use pd_core::PerRole;
use pd_runtime::prometheus::{Endpoint, Owner, QueryError, Servers};
use pd_signals::{
    decode::{self, Answers, Overrides},
    engine::VLLM,
    gateway::EPP,
    queries::{Scope, gateway::GatewayScope},
};
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
    let mut output = BufReader::new(server.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let bytes = Arc::new(AtomicU64::new(0));
    let sent = Arc::clone(&bytes);
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            sent.fetch_add(line.parse().unwrap_or(0), Ordering::Relaxed);
        }
    });
    println!("objects  queries/round  served  round s  core %  peak MiB  MB/round");
    for count in [10, 100, 1_000, 10_000] {
        runtime.block_on(measure(count, line.trim(), &bytes));
    }
    server.kill().unwrap();
    server.wait().unwrap();
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

/// Decodes what a pass has taken, with the counts of the gateway `sought`.
fn read(poller: &Poller, key: &ObjectRef<PDAutoscaler>, sought: Sought, here: Here) -> bool {
    let scope = scope();
    let answers = Answers {
        partial: false,
        state: here.state,
        histograms: here.histograms,
        wide: here.wide,
        attainment: here
            .attainment
            .map_or_else(|| Ok(Vec::new()), |(answer, _)| answer),
        overrides: Overrides::default(),
    };
    let pods = |role: &str| -> Vec<String> {
        let name = |pod| format!("{}-{role}-7d9f8b6c5-abcd{pod}", key.name);
        (0..PODS).map(name).collect()
    };
    let (prefill, decode) = (pods("prefill"), pods("decode"));
    let ready = PerRole {
        prefill: prefill.as_slice(),
        decode: decode.as_slice(),
    };
    let mut signals = decode::signals(&answers, ready, &scope, Duration::from_mins(2));
    match poller.take_gateway(key, sought) {
        Taken::Here(counted) => decode::add_gateway(&counted.rows, &EPP, &mut signals).is_none(),
        Taken::Soon(_) | Taken::Apart => false,
    }
}

async fn measure(count: usize, address: &str, bytes: &AtomicU64) {
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
        let pause = INTERVAL / u32::try_from(count.min(100)).unwrap();
        let mut served = 0;
        let mut begun = (Instant::now(), processor_seconds(), 0);
        // Everybody is new in the first, and lacks attainment in the second.
        for turn in 0..5 {
            if turn == 3 {
                let bytes = bytes.load(Ordering::Relaxed);
                begun = (Instant::now(), processor_seconds(), bytes);
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
                        let is_read = read(&poller, key, sought(key), *here);
                        served += usize::from(is_read);
                    }
                }
                sleep(pause).await;
            }
        }
        let spent = begun.0.elapsed().as_secs_f64();
        let core = (processor_seconds() - begun.1) / spent;
        let bytes = u32::try_from((bytes.load(Ordering::Relaxed) - begun.2) / 1_000);
        let megabytes = f64::from(bytes.unwrap()) / 1_000.0;
        (served, core, megabytes * INTERVAL.as_secs_f64() / spent)
    };
    let (served, core, megabytes) = tokio::select! {
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
        "{count:>7} {most:>14} {served:>7} {:>8.1} {:>7.0} {:>9.0} {megabytes:>9.1}",
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

/// The gateway of `key`.
fn sought(key: &ObjectRef<PDAutoscaler>) -> Sought {
    let gateway = GatewayScope::of(&scope(), None, format!("Meta/{}", key.name), &[]);
    Sought::of(&gateway, &EPP).unwrap()
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

/// Queries as the server knows them.
struct Known {
    shape: Shape,
    gateways: Grouped,
}

/// Answers until it is killed, and prints the length of each answer.
async fn serve() {
    let gateway = GatewayScope::of(&scope(), None, "m".to_owned(), &[]);
    let known: &'static Known = Box::leak(Box::new(Known {
        shape: Shape::of(&scope()).unwrap(),
        gateways: of_gateway(&gateway, &EPP).unwrap(),
    }));
    let answer = move |body: Bytes| async move {
        let answer = answer(known, &body);
        println!("{}", answer.len());
        answer
    };
    let router = Router::new()
        .route("/api/v1/query", post(answer))
        .layer(DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    axum::serve(listener, router).await.unwrap();
}

/// Rows of an answer.
struct Rows {
    text: String,
    number: usize,
}

impl Rows {
    fn add(&mut self, namespace: &str, labels: &str) {
        let comma = if self.text.ends_with('[') { "" } else { "," };
        let number = self.number;
        write!(
            self.text,
            "{comma}{{\"metric\":{{{labels},\"namespace\":\"{namespace}\",\"{PART}\":\"{number}\"}},\"value\":[1733000000.123,\"123.4567890123\"]}}"
        )
        .unwrap();
    }
}

fn answer(known: &Known, body: &[u8]) -> String {
    let query = decoded(body);
    let (_, rest) = query.split_once("namespace=~\"").unwrap();
    let (namespaces, _) = rest.split_once('"').unwrap();
    let namespaces: Vec<&str> = namespaces.split('|').collect();
    let mut rows = Rows {
        text: String::from(
            "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[",
        ),
        number: 0,
    };
    // The search for gateways has its name without a selector of its own.
    if query.contains("llm_d_epp_request_total{") {
        add_gateways(&mut rows, known, &namespaces);
    } else {
        add_objects(&mut rows, known, &query, &namespaces);
    }
    rows.text.push_str("]}}");
    rows.text
}

fn add_gateways(rows: &mut Rows, known: &Known, namespaces: &[&str]) {
    for (number, part) in known.gateways.parts.iter().enumerate() {
        rows.number = number;
        let (tag, _) = &part.tags[0];
        for namespace in namespaces {
            for name in 0..IN_NAMESPACE {
                let model = format!("\"model_name\":\"Meta/llama-{name}\"");
                if tag.ends_with("_buckets") {
                    (0..EDGES).for_each(|edge| {
                        rows.add(namespace, &format!("\"edge\":\"0.{edge}\",{model}"));
                    });
                } else {
                    rows.add(namespace, &model);
                }
            }
        }
    }
}

fn add_objects(rows: &mut Rows, known: &Known, query: &str, namespaces: &[&str]) {
    let kind = if query.contains("count by (__name__") {
        Kind::State
    } else if query.contains("[1h]") {
        Kind::Attainment
    } else if query.contains("[10m]") {
        Kind::Wide
    } else {
        Kind::Histograms
    };
    let (_, parts) = known.shape.query(kind);
    for (number, part) in parts.iter().enumerate() {
        rows.number = number;
        let (tag, _) = &part.tags[0];
        if tag.ends_with("_native") || part.of == Of::Namespaces {
            continue;
        }
        for namespace in namespaces {
            let names = (0..IN_NAMESPACE)
                .flat_map(|name| ["prefill", "decode"].map(|role| format!("llama-{name}-{role}")));
            for workload in names {
                let of_workload = format!("\"{WORKLOAD}\":\"{workload}/\"");
                match part.join {
                    Join::Apart => (0..PODS).for_each(|pod| {
                        rows.add(
                            namespace,
                            &format!("\"pod\":\"{workload}-7d9f8b6c5-abcd{pod}\""),
                        );
                    }),
                    _ if tag.ends_with("_buckets") => (0..EDGES).for_each(|edge| {
                        rows.add(namespace, &format!("\"edge\":\"0.{edge}\",{of_workload}"));
                    }),
                    _ => rows.add(namespace, &of_workload),
                }
            }
        }
    }
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
