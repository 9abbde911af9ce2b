//! Reviews at a steady rate to the running webhook, and what both sides say of their time.
//!
//! The webhook is the real program as the chart installs it, with its own certificates, beside a
//! real API server. The calls go to it directly, over TLS through a few kept connections, for the
//! API server itself would be the slowest part. They are due at fixed times whatever became of
//! those before, and one that had to wait for its connection counts from when it was due. The
//! server's times are its own histogram, so each is the upper edge of a bucket.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use reqwest::Certificate;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    add_ons::{Webhook, start_webhook},
    control_plane::{ControlPlane, Options, eventually},
    meter::{Histogram, metrics, processor_ms, quantile},
};

/// The webhook's name, as the chart gives it here: its configuration's and its Service's.
const NAME: &str = "pd-system-pd-autoscaler-webhook";
const DURATION: &str = "pd_webhook_review_duration_seconds";
const SLA: &str = "node.kubernetes.io/sla";

/// The kind of review that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// A Deployment with numbers.
    Numeric,
    /// A pod of a role, whose PDAutoscaler gives it tolerations.
    OfRole,
    /// A Deployment that is not ours.
    Unmatched,
}

impl Sent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Numeric, Self::OfRole, Self::Unmatched];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "Deployment with numbers",
            Self::OfRole => "pod of a role",
            Self::Unmatched => "Deployment without",
        }
    }

    /// The body, of the size that workloads of inference servers have.
    fn review(self) -> Value {
        let tolerations = match self {
            Self::Numeric => json!([
                { "key": SLA, "operator": "Gt", "value": "950", "effect": "NoExecute", "tolerationSeconds": 30 },
                { "key": "cost", "operator": "Lt", "value": "7" },
            ]),
            _ => json!([{ "key": "nvidia.com/gpu", "operator": "Exists" }]),
        };
        let spec = json!({
            "containers": [{ "name": "engine", "image": "x", "args": vec!["--flag"; 300] }],
            "tolerations": tolerations,
        });
        let managed =
            json!({ "manager": "kubectl", "operation": "Apply", "fieldsV1": { "f:spec": {} } });
        let (group, kind, object) = if self == Self::OfRole {
            let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "prefill-6f4", "uid": "u", "controller": true });
            let labels = json!({ "pod-template-hash": "6f4" });
            let metadata = json!({ "generateName": "prefill-6f4-", "labels": labels, "ownerReferences": [owner] });
            ("", "Pod", json!({ "metadata": metadata, "spec": spec }))
        } else {
            let metadata = json!({ "name": "llama", "managedFields": vec![managed; 40] });
            let template = json!({ "metadata": { "labels": { "app": "llama" } }, "spec": spec });
            (
                "apps",
                "Deployment",
                json!({ "metadata": metadata, "spec": { "template": template } }),
            )
        };
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": { "group": group, "version": "v1", "kind": kind }, "namespace": "default",
            "operation": "CREATE", "object": object, "oldObject": null } })
    }
}

/// How much is sent.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct AdmissionOptions {
    /// Reviews a second.
    #[arg(long, default_value_t = 500)]
    pub rate: u32,
    /// How long each kind of review is sent, seconds.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    pub connections: u32,
    /// Most that the server's 99th percentile may be, milliseconds.
    #[arg(long, default_value_t = 1.0)]
    pub bar: f64,
    /// The same for a Deployment without numbers.
    #[arg(long, default_value_t = 0.2)]
    pub unmatched_bar: f64,
}

impl AdmissionOptions {
    /// The bar of what is sent, milliseconds.
    pub fn bar(&self, sent: Sent) -> f64 {
        match sent {
            Sent::Unmatched => self.unmatched_bar,
            _ => self.bar,
        }
    }
}

/// The result of one kind of review.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The kind of review.
    pub sent: Sent,
    /// Round trips, sorted.
    pub round_trips: Vec<Duration>,
    /// The server's own times.
    pub server: Histogram,
    /// Processor time of the server for each review, ms; absent where the system does not tell.
    pub processor_ms: Option<f64>,
}

impl Answered {
    /// The server's quantile (0 to 1), ms: the upper edge of its bucket.
    pub fn server_ms(&self, quantile: f64) -> f64 {
        self.server.quantile(quantile) * 1000.0
    }

    /// The client's quantile (0 to 1), ms.
    pub fn client_ms(&self, at: f64) -> f64 {
        quantile(&self.round_trips, at).as_secs_f64() * 1000.0
    }

    /// All of it as JSON.
    pub fn summary(&self, options: &AdmissionOptions) -> Value {
        json!({
            "sent": self.sent.name(), "reviews": self.round_trips.len(), "barMilliseconds": options.bar(self.sent),
            "serverMilliseconds": { "mean": self.server.mean() * 1000.0, "p50": self.server_ms(0.5), "p99": self.server_ms(0.99) },
            "clientMilliseconds": { "p50": self.client_ms(0.5), "p99": self.client_ms(0.99) },
            "processorMillisecondsPerReview": self.processor_ms,
        })
    }
}

/// The webhook under load, and the cluster it belongs to.
#[expect(missing_debug_implementations, reason = "a client shows nothing")]
pub struct AdmissionLoad {
    webhook: Webhook,
    clients: Vec<reqwest::Client>,
    url: String,
    options: AdmissionOptions,
    /// Goes last: its end is the webhook's too.
    _plane: ControlPlane,
}

impl AdmissionLoad {
    /// Starts a control plane and the webhook, and returns when pods of roles get their
    /// tolerations.
    pub async fn start(options: AdmissionOptions) -> anyhow::Result<Self> {
        ensure!(
            options.rate > 0 && options.connections > 0,
            "rate and connections are at least 1"
        );
        let plane = ControlPlane::start(Options {
            kwok: false,
            scheduler: false,
            ..Options::default()
        })
        .await?;
        let webhook = start_webhook(&plane, &json!({})).await?;
        let role = |name: &str| {
            let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
            let number = json!({ "key": SLA, "operator": "Gt", "value": "950", "effect": "NoExecute", "tolerationSeconds": 30 });
            json!({ "maxReplicas": 4, "target": target, "numericTolerations": [number] })
        };
        let scaler = json!({ "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
            "metadata": { "name": "llama", "namespace": "default" },
            "spec": { "prefill": role("prefill"), "decode": role("decode"),
                "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } } });
        plane.apply(&scaler.to_string()).await?;
        let configurations = Api::<MutatingWebhookConfiguration>::all(plane.client().await?);
        let bundle = configurations.get(NAME).await?.webhooks.unwrap_or_default();
        let bundle = bundle
            .into_iter()
            .find_map(|one| one.client_config.ca_bundle);
        let bundle = bundle.context("the webhook configuration has no caBundle")?;
        let host = format!("{NAME}.pd-system.svc");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, webhook.port()));
        let client = || -> anyhow::Result<reqwest::Client> {
            let client = reqwest::Client::builder().no_proxy().http1_only();
            let client = client.tls_certs_only(Certificate::from_pem_bundle(&bundle.0)?);
            Ok(client.resolve(&host, address).tcp_nodelay(true).build()?)
        };
        let clients = (0..options.connections).map(|_| client());
        let load = Self {
            clients: clients.collect::<Result<_, _>>()?,
            url: format!("https://{host}:{}/mutate", webhook.port()),
            webhook,
            options,
            _plane: plane,
        };
        let [client, ..] = load.clients.as_slice() else {
            anyhow::bail!("there is no connection");
        };
        eventually(
            "a pod of a role to get its tolerations",
            Duration::from_secs(40),
            async || {
                let body = serde_json::to_vec(&Sent::OfRole.review()).unwrap_or_default();
                let answer = call(client, &load.url, body)
                    .await
                    .map_err(|error| error.to_string())?;
                if answer.contains("JSONPatch") {
                    Ok(())
                } else {
                    Err(answer)
                }
            },
        )
        .await?;
        Ok(load)
    }

    /// Sends one kind of review for the time asked for.
    pub async fn send(&self, sent: Sent) -> anyhow::Result<Answered> {
        let body = serde_json::to_vec(&sent.review())?;
        for client in &self.clients {
            // Connections are made before time counts.
            call(client, &self.url, body.clone()).await?;
        }
        let read = async || -> anyhow::Result<Histogram> {
            let page = metrics(&self.webhook.process).await?;
            Ok(page.histogram(DURATION, &[("webhook", "mutate")]))
        };
        let (before, processor) = (read().await?, processor_ms(&self.webhook.process));
        let started = Instant::now();
        let connections = self.clients.iter().zip(0..).map(|(client, index)| {
            let (client, url, body) = (client.clone(), self.url.clone(), body.clone());
            let pace = Pace::of(self.options, started, index);
            // Tasks of their own, so that all processors are used.
            tokio::spawn(async move { pace.calls(&client, &url, &body).await })
        });
        let round_trips = try_join_all(connections).await?;
        let round_trips: Vec<Vec<Duration>> = round_trips.into_iter().collect::<Result<_, _>>()?;
        let mut round_trips = round_trips.concat();
        round_trips.sort_unstable();
        let server = read().await?.since(&before);
        let processor = processor_ms(&self.webhook.process).zip(processor);
        Ok(Answered {
            sent,
            processor_ms: processor.map(|(after, before)| (after - before) / server.count()),
            round_trips,
            server,
        })
    }
}

/// When one connection's calls are due.
#[derive(Debug, Clone, Copy)]
struct Pace {
    first: Instant,
    gap: Duration,
    calls: u32,
}

impl Pace {
    fn of(options: AdmissionOptions, started: Instant, connection: u32) -> Self {
        let second = Duration::from_secs(1);
        Self {
            first: started + second * connection / options.rate,
            gap: second * options.connections / options.rate,
            calls: options.rate.saturating_mul(options.seconds) / options.connections,
        }
    }

    /// Makes the calls, and gives their times.
    async fn calls(
        self,
        client: &reqwest::Client,
        url: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for number in 0..self.calls {
            let due = self.first + self.gap * number;
            let body = body.to_vec();
            let from = if due > Instant::now() {
                sleep_until(due).await;
                // Timers are a millisecond coarse, which is not the webhook's doing.
                Instant::now()
            } else {
                due
            };
            let answer = call(client, url, body).await?;
            times.push(from.elapsed());
            ensure!(answer.contains("\"allowed\":true"), "refused: {answer}");
        }
        Ok(times)
    }
}

async fn call(client: &reqwest::Client, url: &str, body: Vec<u8>) -> anyhow::Result<String> {
    let request = client.post(url).header("content-type", "application/json");
    let answer = request.body(body).send().await?;
    Ok(answer.error_for_status()?.text().await?)
}
