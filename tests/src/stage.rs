//! A stage for end-to-end tests: a namespace of the shared cluster with a prefill and a decode
//! workload, emulated engines, a real Prometheus, and the shipped controller as a process.
//!
//! Each test sets its own stage, so tests run side by side and break only what is theirs. Waiting
//! is always for a condition with a deadline; what happened in between is kept by a [`Watch`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{apps::v1::Deployment, events::v1::Event};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use pd_api::v1alpha1::PDAutoscaler;
use serde_json::{Value, json};
use tokio::{sync::OnceCell, task::JoinHandle};

use crate::{
    binaries::workspace_binary,
    chart::{self, Installed},
    control_plane::{
        ControlPlane, GPU_RESOURCE, Namespace, NodeSpec, eventually, shared, until_served,
    },
    emulator::{Emulator, EmulatorOptions, LoadChange},
    prometheus::{Prometheus, PrometheusOptions},
    scrape::Scrape,
    supervisor::{Process, ProcessSpec},
};

/// How long a test waits for anything.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Stabilization window of scale-down on a stage.
pub const WINDOW: Duration = Duration::from_secs(20);

/// Anything that can go wrong on a stage; tests end on it.
pub type StageError = Box<dyn std::error::Error + Send + Sync>;

static PREPARED: OnceCell<Result<(), String>> = OnceCell::const_new();

/// The shared cluster with GPU nodes and the CRD.
pub async fn prepared_cluster() -> Result<&'static ControlPlane, StageError> {
    let plane = shared().await.map_err(ToString::to_string)?;
    let prepared = PREPARED.get_or_init(async || {
        let nodes = NodeSpec {
            count: 8,
            gpus: 8,
            ..NodeSpec::default()
        };
        plane
            .add_nodes(&nodes)
            .await
            .map_err(|error| error.to_string())?;
        install_crd(plane).await.map_err(|error| error.to_string())
    });
    prepared.await.clone()?;
    Ok(plane)
}

/// Installs the CRDs and waits until they are served.
pub async fn install_crd(plane: &ControlPlane) -> Result<(), StageError> {
    for resource in pd_api::Resource::ALL {
        plane.apply(&resource.crd_yaml()?).await?;
        until_served(plane, &format!("{}.pdautoscaler.io", resource.plural())).await?;
    }
    Ok(())
}

/// A namespace with everything a PDAutoscaler needs.
pub struct Stage {
    /// The namespace.
    pub namespace: Namespace<'static>,
    /// Plays the pods.
    pub emulator: Emulator,
    /// Scrapes the emulator.
    pub prometheus: Prometheus,
    /// Our programs that it scrapes too.
    pub scrape: Scrape,
    /// An administrator's client.
    pub client: Client,
    release: OnceCell<Installed>,
}

/// Flags that make a controller quick enough for a test.
const QUICK: [(&str, &str); 9] = [
    ("--interval", "1s"),
    ("--status-interval", "2s"),
    ("--checkpoint-interval", "2s"),
    ("--metrics-window", "15s"),
    ("--metrics-age-max", "10s"),
    ("--prometheus-timeout", "2s"),
    ("--leader-election-lease-duration", "3s"),
    ("--leader-election-renew-deadline", "2s"),
    ("--leader-election-retry-period", "500ms"),
];

/// Runs the shipped controller as `release` would, named `name`, with `changes` to its flags.
pub async fn run_controller(
    plane: &ControlPlane,
    release: &Installed,
    name: &str,
    changes: &[(&str, &str)],
) -> Result<Process, StageError> {
    let program = tokio::task::spawn_blocking(|| workspace_binary("pd-autoscaler")).await??;
    let mut flags = QUICK.to_vec();
    flags.push(("--leader-election-identity", name));
    flags.extend(changes);
    let spec = ProcessSpec {
        name: format!("{}-{name}", release.namespace),
        program,
        arguments: release.command_line(&flags),
        environment: vec![],
        log: None,
    };
    Ok(plane.spawn(spec).await?)
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// Sets a stage with a namespace named after `prefix`.
    pub async fn set(prefix: &str) -> Result<Self, StageError> {
        let plane = prepared_cluster().await?;
        let namespace = Namespace::create(plane, prefix).await?;
        let client = namespace.client().await?;
        let options = EmulatorOptions {
            namespace: Some(namespace.name().to_owned()),
            ..EmulatorOptions::default()
        };
        let emulator = Emulator::start(client.clone(), options).await?;
        let scrape = Scrape::new()?;
        let prometheus = Prometheus::start(&PrometheusOptions {
            http_sd_urls: vec![emulator.service_discovery_url()],
            scrape_configs: vec![scrape.config()],
            ..PrometheusOptions::default()
        })
        .await?;
        let release = OnceCell::new();
        Ok(Self {
            namespace,
            emulator,
            prometheus,
            scrape,
            client,
            release,
        })
    }

    /// Makes Deployments `llama-prefill` and `llama-decode` with one GPU a pod.
    pub async fn deploy(&self, prefill: u32, decode: u32) -> Result<(), StageError> {
        for (role, replicas) in [("prefill", prefill), ("decode", decode)] {
            self.namespace
                .apply(&workload("Deployment", role, replicas).to_string())
                .await?;
        }
        Ok(())
    }

    /// Puts a load on the service.
    pub fn load(
        &self,
        requests_per_second: f64,
        input: f64,
        output: f64,
    ) -> Result<(), StageError> {
        self.emulator.set_load(&LoadChange {
            namespace: Some(self.namespace.name().to_owned()),
            requests_per_second: Some(requests_per_second),
            input_tokens_mean: Some(input),
            input_tokens_cv: Some(0.3),
            output_tokens_mean: Some(output),
            output_tokens_cv: Some(0.3),
            ..LoadChange::default()
        })?;
        Ok(())
    }

    /// Starts a controller named `name` for this namespace: the chart's release in it, with the
    /// arguments that it renders and the rights of its service account, only quicker.
    pub async fn controller(&self, name: &str) -> Result<Process, StageError> {
        self.controller_asking(name, &self.prometheus.url()).await
    }

    /// The same, with the server at `url` for its Prometheus. The first of a stage decides for all.
    pub async fn controller_asking(&self, name: &str, url: &str) -> Result<Process, StageError> {
        let namespace = self.namespace.name();
        let plane = self.namespace.plane();
        let values = json!({ "watchNamespace": namespace, "prometheus": { "url": url } });
        let release = self
            .release
            .get_or_try_init(|| chart::install(plane, namespace, &values));
        let release = release.await?;
        run_controller(plane, release, name, &[]).await
    }

    /// Makes a PDAutoscaler `llama` for the Deployments, `change` merged into its spec.
    pub async fn autoscale(&self, change: &Value) -> Result<(), StageError> {
        let object = autoscaler("llama", "Deployment", change);
        self.namespace.apply(&object.to_string()).await?;
        Ok(())
    }

    /// The PDAutoscaler `name`.
    pub async fn object(&self, name: &str) -> Result<PDAutoscaler, kube::Error> {
        Api::default_namespaced(self.client.clone()).get(name).await
    }

    /// Replicas asked for: prefill and decode.
    pub async fn replicas(&self) -> Result<(i32, i32), kube::Error> {
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let of = |deployment: Deployment| deployment.spec.and_then(|s| s.replicas).unwrap_or(1);
        let (prefill, decode) = tokio::try_join!(
            deployments.get("llama-prefill"),
            deployments.get("llama-decode")
        )?;
        Ok((of(prefill), of(decode)))
    }

    /// Waits until `wanted` holds for the replicas; gives them.
    pub async fn until_replicas(
        &self,
        what: &str,
        wanted: impl Fn(i32, i32) -> bool,
    ) -> Result<(i32, i32), StageError> {
        let seen = eventually(what, DEADLINE, async || {
            let (prefill, decode) = self.replicas().await.map_err(|error| error.to_string())?;
            if wanted(prefill, decode) {
                return Ok((prefill, decode));
            }
            Err(format!(
                "{prefill}:{decode}, {}",
                self.last_decision().await
            ))
        })
        .await?;
        Ok(seen)
    }

    /// Waits until the condition `kind` of `name` has `status` and one of `reasons`; gives its
    /// message.
    pub async fn until_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reasons: &[&str],
    ) -> Result<String, StageError> {
        let what = format!("condition {kind}={status} {reasons:?} of {name}");
        let message = eventually(&what, DEADLINE, async || {
            let object = self.object(name).await.map_err(|error| error.to_string())?;
            let conditions = object
                .status
                .map(|status| status.conditions)
                .unwrap_or_default();
            let found = conditions.iter().find(|c| c.type_ == kind);
            match found {
                Some(c) if c.status == status && reasons.contains(&c.reason.as_str()) => {
                    Ok(c.message.clone())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(message)
    }

    /// Waits for an event with `reason` about the PDAutoscaler `name`; gives its note.
    pub async fn until_event(&self, name: &str, reason: &str) -> Result<String, StageError> {
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let note = eventually(&format!("event {reason} of {name}"), DEADLINE, async || {
            let all = events
                .list(&ListParams::default())
                .await
                .map_err(|e| e.to_string())?
                .items;
            let ours = |event: &&Event| {
                event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name)
            };
            let reasons: Vec<_> = all
                .iter()
                .filter(ours)
                .filter_map(|e| e.reason.clone())
                .collect();
            all.iter()
                .filter(ours)
                .find(|event| event.reason.as_deref() == Some(reason))
                .map(|event| event.note.clone().unwrap_or_default())
                .ok_or_else(|| format!("{reasons:?}"))
        })
        .await?;
        Ok(note)
    }

    /// Waits until metrics are there and replicas have stayed the same for `span`; gives them.
    pub async fn settled(&self, span: Duration) -> Result<(i32, i32), StageError> {
        self.until_condition("llama", "Ready", "True", &["Ready"])
            .await?;
        let watch = self.watch();
        let seen = eventually("replicas that stay", DEADLINE, async || {
            let pairs = watch.pairs();
            match pairs.last() {
                Some(&(since, prefill, decode)) if since.elapsed() >= span => Ok((prefill, decode)),
                _ => Err(format!("{pairs:?}, {}", self.last_decision().await)),
            }
        })
        .await?;
        Ok(seen)
    }

    /// The last decision, for messages of failed tests.
    pub async fn last_decision(&self) -> String {
        match self.object("llama").await {
            Ok(object) => {
                let status = object.status.unwrap_or_default();
                format!("{:?} {:?}", status.last_decision, status.latency)
            }
            Err(error) => error.to_string(),
        }
    }

    /// Keeps every pair of replicas from now on.
    pub fn watch(&self) -> Watch {
        Watch::start(self.client.clone())
    }
}

/// Every pair of replicas that the two Deployments had, with the time it was first seen.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Vec<(Instant, i32, i32)>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(client: Client) -> Self {
        use futures::TryStreamExt as _;
        use kube::runtime::{WatchStreamExt as _, watcher};
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let deployments: Api<Deployment> = Api::default_namespaced(client);
        let mut now: BTreeMap<String, i32> = BTreeMap::new();
        let task = tokio::spawn(async move {
            let stream = watcher(deployments, watcher::Config::default()).applied_objects();
            let mut stream = std::pin::pin!(stream);
            loop {
                let Ok(Some(deployment)) = stream.try_next().await else {
                    continue;
                };
                let replicas = deployment
                    .spec
                    .as_ref()
                    .and_then(|s| s.replicas)
                    .unwrap_or(1);
                now.insert(deployment.name_any(), replicas);
                let of = |name: &str| now.get(name).copied();
                let (Some(prefill), Some(decode)) = (of("llama-prefill"), of("llama-decode"))
                else {
                    continue;
                };
                let mut seen: std::sync::MutexGuard<'_, Vec<(Instant, i32, i32)>> =
                    kept.lock().unwrap_or_else(PoisonError::into_inner);
                if seen
                    .last()
                    .is_none_or(|last| (last.1, last.2) != (prefill, decode))
                {
                    seen.push((Instant::now(), prefill, decode));
                }
            }
        });
        Self { seen, task }
    }

    /// The pairs so far.
    pub fn pairs(&self) -> Vec<(Instant, i32, i32)> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Times at which replicas of either role fell.
    pub fn falls(&self) -> Vec<Instant> {
        self.falls_where(|was, is| is.1 < was.1 || is.2 < was.2)
    }

    /// When prefill replicas first fell; waited for, because a watch may lag behind a read.
    pub async fn first_prefill_fall(&self) -> Result<Instant, StageError> {
        self.first_prefill_fall_below(i32::MAX).await
    }

    /// When prefill replicas first fell to fewer than `replicas`; waited for, too.
    pub async fn first_prefill_fall_below(&self, replicas: i32) -> Result<Instant, StageError> {
        let fall = eventually("a fall of prefill replicas", DEADLINE, async || {
            let falls = self.falls_where(|was, is| is.1 < was.1 && is.1 < replicas);
            falls
                .first()
                .copied()
                .ok_or_else(|| format!("{:?}", self.pairs()))
        });
        Ok(fall.await?)
    }

    fn falls_where(
        &self,
        fell: impl Fn(&(Instant, i32, i32), &(Instant, i32, i32)) -> bool,
    ) -> Vec<Instant> {
        let pairs = self.pairs();
        let steps = pairs.iter().zip(pairs.iter().skip(1));
        steps
            .filter(|(was, is)| fell(was, is))
            .map(|(_, is)| is.0)
            .collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A workload `llama-ROLE` of `kind` whose pods want a GPU each.
pub fn workload(kind: &str, role: &str, replicas: u32) -> Value {
    let labels = json!({ "app": "llama", "llm-d.ai/role": role, "model": "llama" });
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": format!("llama-{role}") },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "llm-d.ai/role": role } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "engine",
                    "image": "vllm/vllm-openai",
                    "resources": { "limits": { GPU_RESOURCE: "1" } },
                }] },
            },
        },
    })
}

/// A PDAutoscaler for the workloads of `kind`, `change` merged into its spec.
pub fn autoscaler(name: &str, kind: &str, change: &Value) -> Value {
    let role = |role: &str| {
        json!({
            "target": { "apiVersion": "apps/v1", "kind": kind, "name": format!("llama-{role}") },
            "minReplicas": 1,
            "maxReplicas": 12,
        })
    };
    let mut spec = json!({
        "prefill": role("prefill"),
        "decode": role("decode"),
        "objective": {
            "ttft": { "target": "1s", "percentile": 95 },
            "tpot": { "target": "50ms", "percentile": 95 },
            "attainment": { "percent": 90, "window": "1m" },
        },
        "ratio": { "policy": "Range", "range": { "lowest": "1:6", "highest": "6:1" }, "tolerancePercent": 0 },
        "metrics": { "selectors": { "model_name": "llama" } },
        "behavior": { "scaleDown": { "stabilizationWindowSeconds": WINDOW.as_secs() } },
    });
    merge(&mut spec, change);
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1",
        "kind": "PDAutoscaler",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// JSON merge patch (RFC 7386).
pub fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, change) => *target = change.clone(),
    }
}
