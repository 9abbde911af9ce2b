//! How long the webhook takes: `cargo bench -p pd-webhook`.
//!
//! Times the pure calls, then puts the whole server under 500 requests a second over TLS on
//! loopback, through eight kept connections. The server's own time there is read from its metrics,
//! to a bucket's edge; the client's, which shares the machine and waits for its turn, is shown
//! beside it. Prints p50 and p99 with the bar of each and fails where the server side misses one. A
//! number after `--` changes how many calls are made.

#![expect(clippy::unwrap_used, reason = "a failed step of a benchmark ends it")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use pd_runtime::{
    certificates::{Chain, Terms},
    tls::{Certificates, TlsListener},
};
use pd_tolerations::{Comparison, mirror::Margin};
use pd_webhook::{
    admission::{Rewriting, mutate},
    claims::{Claims, WorkloadIndex},
    feature_gate::FeatureGate,
    metrics::Metrics,
    serve::router,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

/// Most that the 99th percentile may take, microseconds.
const BAR: u128 = 1_000;
/// The same for an object without numeric tolerations.
const UNMATCHED_BAR: u128 = 200;
const REWRITING: Rewriting = Rewriting {
    gate: Comparison::Off,
    preferred: Some(Margin::Most),
};
const RATE: u32 = 500;
const CONNECTIONS: u32 = 8;

fn main() -> ExitCode {
    let calls: usize = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(5_000);
    let claims = claims();
    let matched = review(MATCHED);
    let unmatched = review(UNMATCHED);
    let mut met = true;
    println!("{:<34}{:>10}{:>10}{:>10}", "call", "p50", "p99", "bar");
    let mut report = |what: &str, mut times: Vec<Duration>, bar: Option<u128>| {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
        let (p50, p99) = (at(50), at(99));
        let shown = [p50, p99].map(|micros| format!("{micros} us"));
        let bar_text = bar.map_or_else(|| "-".to_owned(), |bar| format!("{bar} us"));
        println!("{what:<34}{:>10}{:>10}{bar_text:>10}", shown[0], shown[1]);
        met &= bar.is_none_or(|bar| p99 <= bar);
    };
    let timed = |body: &[u8]| -> Vec<Duration> {
        let one = |_| {
            let started = Instant::now();
            std::hint::black_box(mutate(body, REWRITING, &claims).unwrap());
            started.elapsed()
        };
        (0..calls).map(one).collect()
    };
    report("numeric, pure", timed(&matched), Some(BAR));
    report("unmatched, pure", timed(&unmatched), Some(UNMATCHED_BAR));
    let (given, other) = (pod("llama-77-prefill"), pod("other"));
    report("pod of a role, pure", timed(&given), Some(BAR));
    report("pod of no role, pure", timed(&other), Some(UNMATCHED_BAR));
    for (what, body, bar) in [
        ("numeric", &matched, BAR),
        ("unmatched", &unmatched, UNMATCHED_BAR),
        ("pod of a role", &given, BAR),
        ("pod of no role", &other, UNMATCHED_BAR),
    ] {
        let (address, authority, metrics) = served(claims.clone());
        let round_trips = loaded(address, &authority, body, calls);
        report(
            &format!("{what}, 500/s, at the server"),
            at_server(&metrics),
            Some(bar),
        );
        report(&format!("{what}, 500/s, at the client"), round_trips, None);
    }
    if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

const MATCHED: &str = r#"[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/sla","operator":"Gt","value":"950","effect":"NoExecute","tolerationSeconds":30},{"key":"cost","operator":"Lt","value":"7"}]"#;
const UNMATCHED: &str = r#"[{"key":"nvidia.com/gpu","operator":"Exists"}]"#;

/// The index of 10,000 PDAutoscalers, each with tolerations for its prefill.
fn claims() -> Claims {
    let mut index = WorkloadIndex::default();
    for number in 0..10_000 {
        let role = |name: &str| {
            format!(
                r#"{{"maxReplicas":4,"target":{{"apiVersion":"apps/v1","kind":"Deployment","name":"llama-{number}-{name}"}},"numericTolerations":[{{"key":"node.kubernetes.io/sla","operator":"Gt","value":"950","effect":"NoExecute","tolerationSeconds":30}}]}}"#
            )
        };
        let object = format!(
            r#"{{"metadata":{{"name":"llama-{number}","namespace":"inference"}},"spec":{{"prefill":{},"decode":{},"objective":{{"ttft":{{"target":"500ms"}},"tpot":{{"target":"50ms"}}}}}}}}"#,
            role("prefill"),
            role("decode")
        );
        index.apply(&serde_json::from_str(&object).unwrap());
    }
    Claims::from(index)
}

/// A review of a pod that a Deployment's `ReplicaSet` makes.
fn pod(deployment: &str) -> Vec<u8> {
    let flags = "--flag ".repeat(300);
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"8f0c","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"inference","operation":"CREATE","dryRun":false,"oldObject":null,"object":{{"metadata":{{"generateName":"{deployment}-6f4-","labels":{{"pod-template-hash":"6f4"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"{deployment}-6f4","uid":"u","controller":true}}]}},"spec":{{"containers":[{{"name":"engine","image":"x","args":["{flags}"]}}],"tolerations":[{{"key":"nvidia.com/gpu","operator":"Exists"}}]}}}}}}}}"#
    )
    .into_bytes()
}

/// A review of a Deployment of a usual size.
fn review(tolerations: &str) -> Vec<u8> {
    let flags = "--flag ".repeat(300);
    let fields =
        r#"{"manager":"kubectl","operation":"Apply","fieldsV1":{"f:spec":{}}},"#.repeat(40);
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"8f0c","kind":{{"group":"apps","version":"v1","kind":"Deployment"}},"namespace":"inference","operation":"CREATE","dryRun":false,"oldObject":null,"object":{{"metadata":{{"name":"llama","managedFields":[{fields}{{}}]}},"spec":{{"replicas":4,"template":{{"metadata":{{"labels":{{"app":"llama"}},"annotations":{{"a":"b"}}}},"spec":{{"containers":[{{"name":"engine","image":"x","args":["{flags}"]}}],"tolerations":{tolerations}}}}}}}}}}}}}"#
    )
    .into_bytes()
}

/// The server's times as its histogram has them: each the upper edge of its bucket.
fn at_server(metrics: &Metrics) -> Vec<Duration> {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let (mut times, mut before) = (Vec::new(), 0);
    for line in text
        .lines()
        .filter(|line| line.contains("duration_seconds_bucket"))
    {
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let edge = labels
            .split("le=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let edge = edge.parse::<f64>().unwrap_or(f64::INFINITY).min(60.0);
        let count: usize = count.parse().unwrap();
        times.resize(times.len() + count - before, Duration::from_secs_f64(edge));
        before = count;
    }
    times
}

/// Serves the webhook, and gives its address, its authority and its metrics.
fn served(claims: Claims) -> (SocketAddr, String, Arc<Metrics>) {
    let terms = Terms {
        owner: "bench".to_owned(),
        names: vec!["localhost".to_owned()],
        authority_seconds: 86_400,
        certificate_seconds: 86_400,
        overlap_seconds: 60,
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let chain = Chain::new(&terms, i64::try_from(now).unwrap()).unwrap();
    let certificates = Certificates::default();
    let serving = &chain.serving;
    certificates
        .set(serving.certificate.as_bytes(), serving.key.as_bytes())
        .unwrap();
    let metrics = Arc::new(Metrics::default());
    let kept = metrics.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let listener = TlsListener::new(listener, &certificates).unwrap();
            let gate = FeatureGate::fixed(Comparison::Off);
            let app = router(gate, REWRITING.preferred, claims, metrics);
            axum::serve(listener, app).await.unwrap();
        });
    });
    (receiver.recv().unwrap(), chain.bundle(), kept)
}

/// The times of `calls` calls at the rate, through all connections.
fn loaded(address: SocketAddr, authority: &str, body: &[u8], calls: usize) -> Vec<Duration> {
    let started = Instant::now();
    let pause = Duration::from_secs(1) * CONNECTIONS / RATE;
    thread::scope(|scope| {
        let one = |index: u32| {
            scope.spawn(move || {
                let mut connection = connect(address, authority);
                let first = started + Duration::from_secs(1) * index / RATE;
                let count = u32::try_from(calls).unwrap() / CONNECTIONS;
                let call = |number: u32| {
                    let due = first + pause * number;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    ask(&mut connection, body)
                };
                (0..count).map(call).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(one).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn connect(address: SocketAddr, authority: &str) -> Connection {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(StreamOwned::new(session, stream))
}

fn ask(connection: &mut Connection, body: &[u8]) -> Duration {
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let started = Instant::now();
    let stream = connection.get_mut();
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream.flush().unwrap();
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
    assert!(answer.windows(14).any(|part| part == b"\"allowed\":true"));
    started.elapsed()
}
