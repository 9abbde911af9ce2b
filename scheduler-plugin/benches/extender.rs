//! How long the extender takes: `cargo bench -p pd-scheduler-plugin`.
//!
//! Times the pure calls, and the same calls over HTTP on loopback through one kept connection, at
//! 8, 500, 5,000 and 15,000 names in a cluster of 15,000 nodes. Prints p50 and p99 with the bar of
//! each and fails where the server side misses one. A number after `--` changes how often each call
//! is made.

#![expect(clippy::unwrap_used, reason = "a failed step of a benchmark ends it")]

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use pd_scheduler_plugin::{
    extender::{Margin, filter, prioritize},
    metrics::Metrics,
    nodes::{NodeCache, Nodes},
    serve::router,
};
use pd_tolerations::{Effect, Taint};

const CLUSTER: usize = 15_000;
/// Names in a call, and the most that the 99th percentile of a filter call may take, microseconds.
const BARS: [(usize, u128); 4] = [(8, 200), (500, 1_000), (5_000, 5_000), (15_000, 15_000)];
/// The same for a pod without numeric tolerations, at 500 names.
const UNMANAGED_BAR: u128 = 100;

fn main() -> ExitCode {
    let repeats: usize = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_000);
    let nodes = cluster();
    let mut met = true;
    println!("{:<34}{:>10}{:>10}{:>10}", "call", "p50", "p99", "bar");
    let mut report = |what: &str, times: Vec<Duration>, bar: Option<u128>| {
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        let bar_text = bar.map_or_else(|| "-".to_owned(), |bar| format!("{bar} us"));
        println!(
            "{what:<34}{:>10}{:>10}{bar_text:>10}",
            format!("{p50} us"),
            format!("{p99} us")
        );
        met &= bar.is_none_or(|bar| p99 <= bar);
    };
    for (count, bar) in BARS {
        let call = body(MANAGED, count);
        let filtered = timed(repeats, || filter(&call, &nodes).unwrap());
        report(&format!("filter, {count} names"), filtered, Some(bar));
        let scored = timed(repeats, || prioritize(&call, &nodes, Margin::Most).unwrap());
        report(&format!("prioritize, {count} names"), scored, Some(bar));
        let call = body(UNMANAGED, count);
        let passed = timed(repeats, || filter(&call, &nodes).unwrap());
        let bar = (count <= 500).then_some(UNMANAGED_BAR);
        report(&format!("filter, unmanaged, {count} names"), passed, bar);
    }
    over_http(repeats, &mut report);
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

const MANAGED: &str = r#"[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/sla","operator":"Exists","effect":"NoExecute","tolerationSeconds":30},{"key":"nvidia.com/gpu","operator":"Exists"}]},"metadata":{"name":"llama-prefill-0","namespace":"inference","annotations":{"pdautoscaler.io/numeric-tolerations":"[{\"key\":\"node.kubernetes.io/sla\",\"operator\":\"Gt\",\"value\":\"950\",\"effect\":\"NoExecute\",\"tolerationSeconds\":30,\"index\":1}]"}"#;
const UNMANAGED: &str = r#"[{"key":"nvidia.com/gpu","operator":"Exists"}]},"metadata":{"name":"web-0","namespace":"default","annotations":{}"#;

fn name(index: usize) -> String {
    format!("gke-inference-h200-pool-7f3c2a91-node-{index:05}")
}

fn cluster() -> Nodes {
    let mut nodes = Nodes::default();
    for index in 0..CLUSTER {
        let sla = (900 + index % 100).to_string();
        let taints = vec![
            Taint::new("nvidia.com/gpu", "present", Effect::NoSchedule),
            Taint::new("node.kubernetes.io/sla", sla, Effect::NoExecute),
        ];
        nodes.set(name(index), taints);
    }
    nodes
}

/// A call as kube-scheduler writes it, with a pod of a usual size.
fn body(tolerations: &str, count: usize) -> Vec<u8> {
    let mut call = format!(
        r#"{{"Pod":{{"spec":{{"containers":[{{"name":"engine","image":"x","args":["{}"]}}],"tolerations":{tolerations}}},"status":{{}}}},"Nodes":null,"NodeNames":["#,
        "--flag ".repeat(300)
    );
    for index in 0..count {
        let separator = if index == 0 { "" } else { "," };
        write!(call, r#"{separator}"{}""#, name(index * CLUSTER / count)).unwrap();
    }
    call.push_str("]}");
    call.into_bytes()
}

fn timed<T>(repeats: usize, mut call: impl FnMut() -> T) -> Vec<Duration> {
    let one = |_| {
        let started = Instant::now();
        std::hint::black_box(call());
        started.elapsed()
    };
    let mut times: Vec<Duration> = (0..repeats).map(one).collect();
    times.sort_unstable();
    times
}

fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .map_or(0, Duration::as_micros)
}

fn over_http(repeats: usize, report: &mut impl FnMut(&str, Vec<Duration>, Option<u128>)) {
    let cache = NodeCache::default();
    cache.replace(cluster());
    let router = router(cache, Margin::Most, Arc::new(Metrics::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
    connection.get_ref().set_nodelay(true).unwrap();
    for (what, tolerations) in [("filter", MANAGED), ("filter, unmanaged", UNMANAGED)] {
        for (count, _) in BARS {
            let call = body(tolerations, count);
            let times = timed(repeats, || post(&mut connection, &call));
            report(&format!("http {what}, {count} names"), times, None);
        }
    }
}

/// One call on a kept connection, whose answer must say how long it is.
fn post(connection: &mut BufReader<TcpStream>, body: &[u8]) -> usize {
    let head = format!(
        "POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection
        .get_mut()
        .write_all(&[head.as_bytes(), body].concat())
        .unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    assert!(length > 0, "the answer has no Content-Length");
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
    length
}
