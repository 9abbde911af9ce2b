//! Asking a cluster who compares numbers, without changing anything in it.
//!
//! The API server is asked by the dry run of a pod, and everybody by `kubernetes_feature_enabled`
//! where it can be read: from the API server itself, from kubelets through it, from addresses that
//! the user names, from a Prometheus that scrapes them. Else command lines of pods in `kube-system`
//! and versions have to do. What is not allowed or not there is unknown, with the reason.

use std::{collections::BTreeMap, time::Duration};

use axum::http::Request;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_runtime::{
    feature_gate::{ProbeAnswer, probe},
    kubernetes::error_message,
    prometheus::{Endpoint, Sample, Servers},
};
use tokio::time::timeout;

use super::{
    command_line::{self, Line, default_of, instances},
    evidence::{self, GATE, Gate, Seen},
    judge::Component,
};
use crate::control::objects::WatchedNode;

/// How long each answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Kubelets asked at once.
const AT_ONCE: usize = 8;
/// Where control planes and autoscalers run.
const SYSTEM: &str = "kube-system";
/// Where an ordinary pod is probed, which every webhook sees.
const ORDINARY: &str = "default";
/// The cluster autoscaler writes it wherever it runs.
const AUTOSCALER_STATUS: &str = "cluster-autoscaler-status";
/// The names of the probes' pods begin so.
const PROBE_NAME: &str = "pd-preflight-";

/// The clients and limits of a look at the cluster.
pub struct Prober {
    /// The API server.
    pub client: Client,
    /// Namespace of the API server's probe, which webhooks leave alone.
    pub namespace: String,
    /// Metrics of components: a client for the address, and the path there.
    pub metrics: Vec<(Component, Client, String)>,
    /// A Prometheus that scrapes them.
    pub prometheus: Option<(Servers, Endpoint)>,
    /// Most kubelets to ask.
    pub kubelets_max: usize,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// The evidence about every component. Fails only if the API server does not answer at all.
    pub async fn look(&self) -> Result<AllSeen, kube::Error> {
        let version = self.client.apiserver_version().await?.git_version;
        let (pods, scraped) = tokio::join!(self.system_pods(), self.scraped());
        let mut seen = BTreeMap::new();
        for component in Component::ALL {
            let found = match component {
                Component::KubeApiserver => self.api_server(&version, &scraped).await,
                Component::PdWebhook => self.webhook().await,
                Component::Kubelet => self.kubelets(&scraped).await,
                Component::ClusterAutoscaler => self.autoscaler(&pods, &scraped).await,
                Component::KubeScheduler | Component::KubeControllerManager => {
                    match self.by_metrics(component, &scraped).await {
                        Some(seen) => seen,
                        None => command_line::seen(component, pods.as_deref(), &version),
                    }
                }
            };
            seen.insert(component, found);
        }
        Ok(seen)
    }

    async fn api_server(&self, version: &str, scraped: &Scraped) -> Seen {
        if evidence::is_too_old(version) {
            return Seen::new(false, format!("version {version} does not know the gate"));
        }
        let mut all = Vec::new();
        let why = match probe(&self.client, &self.namespace, PROBE_NAME).await {
            Ok(ProbeAnswer::Kept) => {
                all.push((
                    "probe".to_owned(),
                    Seen::new(true, format!("took a numeric pod, {version}")),
                ));
                String::new()
            }
            Ok(ProbeAnswer::Refused) => {
                let how = format!("refused a numeric pod, {version}");
                all.push(("probe".to_owned(), Seen::new(false, how)));
                String::new()
            }
            Ok(ProbeAnswer::Rewritten) => format!(
                "its answer is pd-webhook's: give --probe-namespace, one that pd-webhook leaves alone, in place of {}",
                self.namespace
            ),
            Ok(ProbeAnswer::Changed(operator)) => changed(operator.as_ref()),
            Err(error) => error.to_string(),
        };
        if let Ok(text) = text_of(&self.client, "/metrics").await
            && let Some(on) = evidence::from_metrics(&text)
        {
            all.push(("metrics".to_owned(), Seen::new(on, "its metrics")));
        }
        // Other instances than the one that answers.
        all.extend(scraped.of(Component::KubeApiserver));
        if all.is_empty() {
            let why = format!("neither a dry run nor its metrics say: {why}");
            return Seen::unknown(why);
        }
        let off = all.iter().find(|(_, seen)| seen.gate == Gate::Off);
        let (_, seen) = off.unwrap_or(&all[0]);
        seen.clone()
    }

    /// Whether an ordinary pod with a number is rewritten on its way in.
    async fn webhook(&self) -> Seen {
        match probe(&self.client, ORDINARY, PROBE_NAME).await {
            Ok(ProbeAnswer::Rewritten) => Seen::new(true, "rewrites a numeric pod"),
            Ok(ProbeAnswer::Refused) => Seen::new(false, "a numeric pod is refused, not rewritten"),
            Ok(ProbeAnswer::Kept) => Seen::new(Gate::Absent, "numeric pods pass as they are"),
            Ok(ProbeAnswer::Changed(operator)) => Seen::unknown(changed(operator.as_ref())),
            Err(error) => Seen::unknown(error.to_string()),
        }
    }

    /// The evidence of addresses that the user named, or of Prometheus.
    async fn by_metrics(&self, component: Component, scraped: &Scraped) -> Option<Seen> {
        let mut all = Vec::new();
        let named = self.metrics.iter().filter(|(one, ..)| *one == component);
        for (_, client, path) in named {
            let seen = by_text(text_of(client, path).await);
            all.push(("--metrics-url".to_owned(), seen));
        }
        if all.is_empty() {
            all = scraped.of(component);
        }
        (!all.is_empty()).then(|| evidence::all(&all))
    }

    async fn kubelets(&self, scraped: &Scraped) -> Seen {
        let nodes = match Api::<WatchedNode>::all(self.client.clone())
            .list(&ListParams::default())
            .await
        {
            Ok(list) => list.items,
            Err(error) => return Seen::unknown(error_message(&error)),
        };
        let is_old = |node: &&WatchedNode| evidence::is_too_old(node.kubelet_version());
        let old = nodes.iter().filter(is_old).map(|node| {
            let how = format!("{} does not know the gate", node.kubelet_version());
            (node.name_any(), Seen::new(false, how))
        });
        let old: Vec<_> = old.collect();
        if !old.is_empty() {
            return named_total(&evidence::all(&old), nodes.len());
        }
        let scraped = scraped.of(Component::Kubelet);
        if !scraped.is_empty() {
            return evidence::all(&scraped);
        }
        let asked = sample(&nodes, self.kubelets_max);
        let asked: Vec<_> = stream::iter(asked)
            .map(|name| async move {
                let path = format!("/api/v1/nodes/{name}/proxy/metrics");
                let seen = by_text(text_of(&self.client, &path).await);
                (name, seen)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        if asked.is_empty() {
            return Seen::new(Gate::Absent, "there are no nodes");
        }
        named_total(&evidence::all(&asked), nodes.len())
    }

    async fn autoscaler(&self, pods: &Result<Vec<Pod>, LookError>, scraped: &Scraped) -> Seen {
        let component = Component::ClusterAutoscaler;
        if let Some(seen) = self.by_metrics(component, scraped).await {
            return seen;
        }
        let running = match pods {
            Ok(pods) => instances(component, pods),
            Err(why) => return Seen::unknown(why.to_string()),
        };
        if !running.is_empty() {
            // Its own default is not the API server's: it has its own releases.
            let of = |(name, line): (String, Line)| match line.gate {
                Some(on) => (name, Seen::new(on, "its command line")),
                None if line.version.is_empty() => (name, Seen::unknown("version not known")),
                None => (name, default_of(&line.version)),
            };
            return evidence::all(&running.into_iter().map(of).collect::<Vec<_>>());
        }
        let status = Api::<ConfigMap>::namespaced(self.client.clone(), SYSTEM);
        match status.get_opt(AUTOSCALER_STATUS).await {
            Ok(None) => Seen::new(
                Gate::Absent,
                "none runs in kube-system, and none left its status",
            ),
            Ok(Some(_)) => {
                Seen::unknown("it runs where it cannot be seen: only its status is in kube-system")
            }
            Err(error) => Seen::unknown(error_message(&error)),
        }
    }

    async fn system_pods(&self) -> Result<Vec<Pod>, LookError> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), SYSTEM);
        match pods.list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            Err(error) => Err(LookError::Pods(error)),
        }
    }

    async fn scraped(&self) -> Scraped {
        let Some((servers, server)) = &self.prometheus else {
            return Scraped::default();
        };
        let query = format!("kubernetes_feature_enabled{{name=\"{GATE}\"}}");
        match servers.query(server, &query).await {
            Ok(answer) => Scraped(answer.into_parts().0),
            Err(error) => {
                tracing::warn!(%error, "prometheus says nothing about gates");
                Scraped::default()
            }
        }
    }
}

/// Why something could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The control plane's pods cannot be listed.
    #[error("pods in {SYSTEM} cannot be listed: {}", error_message(.0))]
    Pods(kube::Error),
    /// The right to read metrics is missing.
    #[error("this account may not read its metrics")]
    Forbidden,
    /// The metrics cannot be read.
    #[error("{}", error_message(.0))]
    Api(kube::Error),
    /// The address of the metrics cannot be asked.
    #[error(transparent)]
    Address(#[from] axum::http::Error),
    /// The answer takes too long.
    #[error("no answer in {} s", ANSWER_LIMIT.as_secs())]
    NoAnswer,
}

/// The evidence about each component.
pub type AllSeen = BTreeMap<Component, Seen>;

/// The series of Prometheus, by the job that it scrapes.
#[derive(Debug, Default)]
struct Scraped(Vec<Sample>);

impl Scraped {
    fn of(&self, component: Component) -> Vec<(String, Seen)> {
        let word = match component {
            Component::KubeApiserver => "apiserver",
            Component::KubeScheduler => "scheduler",
            Component::KubeControllerManager => "controller-manager",
            Component::Kubelet => "kubelet",
            Component::ClusterAutoscaler => "cluster-autoscaler",
            Component::PdWebhook => return Vec::new(),
        };
        let ours = self.0.iter().filter(|one| one.label("job").contains(word));
        ours.map(|one| {
            let instance = ["node", "instance", "job"].map(|label| one.label(label));
            let name = instance.into_iter().find(|text| !text.is_empty());
            let how = "its metrics in Prometheus";
            (
                name.unwrap_or(word).to_owned(),
                Seen::new(one.value > 0.0, how),
            )
        })
        .collect()
    }
}

/// At most `count` nodes, of every kubelet version in turn.
fn sample(nodes: &[WatchedNode], count: usize) -> Vec<String> {
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let names = by_version.entry(node.kubelet_version()).or_default();
        names.push(node.name_any());
    }
    let mut names = Vec::new();
    let longest = by_version.values().map(Vec::len).max().unwrap_or(0);
    for place in 0..longest {
        names.extend(
            by_version
                .values()
                .filter_map(|all| all.get(place).cloned()),
        );
    }
    names.truncate(count);
    names
}

fn named_total(seen: &Seen, total: usize) -> Seen {
    let nodes = if total == 1 { "node" } else { "nodes" };
    Seen::new(seen.gate, format!("{}; {total} {nodes}", seen.how))
}

fn by_text(text: Result<String, LookError>) -> Seen {
    match text.map(|text| evidence::from_metrics(&text)) {
        Ok(Some(on)) => Seen::new(on, "its metrics"),
        Ok(None) => Seen::unknown("its metrics do not list gates"),
        Err(why) => Seen::unknown(why.to_string()),
    }
}

fn changed(operator: Option<&String>) -> String {
    format!("somebody made the toleration {operator:?}")
}

async fn text_of(client: &Client, path: &str) -> Result<String, LookError> {
    let request = Request::get(path).body(Vec::new())?;
    match timeout(ANSWER_LIMIT, client.request_text(request)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(LookError::Forbidden),
        Ok(Err(error)) => Err(LookError::Api(error)),
        Err(_) => Err(LookError::NoAnswer),
    }
}
