//! Which pods go when replicas are lowered, on a real control plane: the real ReplicaSet controller
//! removes those that have the least work, by the marks of the shipped controller; marks that
//! mislead are taken away; and without the right to mark, replicas are lowered all the same.
//!
//! The engines' numbers are stated, pod by pod, for what is under test is who goes and not how
//! many: a lower maximum says that.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_systems::victims::{DELETION_COST, MANAGER};
use pd_tests::{
    chart,
    control_plane::{Namespace, eventually, throughout},
    prometheus::{Prometheus, PrometheusOptions},
    stage::{DEADLINE, autoscaler, prepared_cluster, run_controller, workload},
    supervisor::Process,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// Pods of decode that serve.
const DECODE: &str = "llm-d.ai/role=decode";

/// Requests that run at each pod.
type Work = Arc<Mutex<BTreeMap<String, u32>>>;

/// Engines of one namespace with stated numbers, each a target of Prometheus.
struct Engines {
    work: Work,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Served {
    work: Work,
    namespace: String,
    address: SocketAddr,
}

async fn targets(State(served): State<Served>) -> Json<Value> {
    let work = served.work.lock().unwrap_or_else(PoisonError::into_inner);
    let target = |pod: &String| {
        json!({ "targets": [served.address.to_string()], "labels": {
            "__metrics_path__": format!("/pods/{pod}"), "namespace": served.namespace, "pod": pod } })
    };
    Json(work.keys().map(target).collect())
}

async fn metrics(State(served): State<Served>, Path(pod): Path<String>) -> String {
    let work = served.work.lock().unwrap_or_else(PoisonError::into_inner);
    let running = work.get(&pod).copied().unwrap_or_default();
    let labels = "{engine=\"0\",model_name=\"llama\"}";
    format!(
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {running}\n\
         # TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{labels} 0\n\
         # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{labels} 0.1\n"
    )
}

impl Engines {
    async fn start(namespace: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let work = Work::default();
        let served = Served {
            work: Arc::clone(&work),
            namespace: namespace.to_owned(),
            address,
        };
        let router = Router::new()
            .route("/sd", get(targets))
            .route("/pods/{pod}", get(metrics))
            .with_state(served);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            work,
            address,
            task,
        }
    }

    fn set(&self, pod: &str, requests: u32) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.insert(pod.to_owned(), requests);
    }
}

/// A service of one prefill and four decode pods, and a controller for it.
struct Scene {
    namespace: Namespace<'static>,
    engines: Engines,
    prometheus: Prometheus,
    pods: Api<Pod>,
    _controller: Process,
}

impl Scene {
    /// With `values` of the chart.
    async fn set(mut values: Value) -> Self {
        let plane = prepared_cluster().await.unwrap();
        let namespace = Namespace::create(plane, "drain").await.unwrap();
        for (role, replicas) in [("prefill", 1), ("decode", 4)] {
            let object = workload("Deployment", role, replicas).to_string();
            namespace.apply(&object).await.unwrap();
        }
        let engines = Engines::start(namespace.name()).await;
        let options = PrometheusOptions {
            http_sd_urls: vec![format!("http://{}/sd", engines.address)],
            ..PrometheusOptions::default()
        };
        let prometheus = Prometheus::start(&options).await.unwrap();
        values["watchNamespace"] = namespace.name().into();
        values["prometheus"] = json!({ "url": prometheus.url() });
        let installed = chart::install(plane, namespace.name(), &values);
        let installed = installed.await.unwrap();
        let controller = run_controller(plane, &installed, "one", &[]).await.unwrap();
        let pods = Api::default_namespaced(namespace.client().await.unwrap());
        Self {
            namespace,
            engines,
            prometheus,
            pods,
            _controller: controller,
        }
    }

    /// Ready decode pods that are not leaving, by name.
    async fn decode(&self) -> Vec<Pod> {
        let all = self.pods.list(&ListParams::default().labels(DECODE)).await;
        let ready = |pod: &Pod| {
            let status = pod.status.iter();
            let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
            pod.metadata.deletion_timestamp.is_none()
                && conditions.any(|c| c.type_ == "Ready" && c.status == "True")
        };
        all.unwrap().items.into_iter().filter(ready).collect()
    }

    async fn until_decode(&self, count: usize) -> Vec<String> {
        let what = format!("{count} decode pods");
        let found = eventually(&what, DEADLINE, async || {
            let pods = self.decode().await;
            if pods.len() == count {
                return Ok(pods.iter().map(Pod::name_any).collect());
            }
            Err(format!("{}, {:?}", pods.len(), self.conditions().await))
        });
        found.await.unwrap()
    }

    /// States the work of the four decode pods, two of which are idle, and waits until Prometheus
    /// has it. Gives the idle and the busy ones.
    async fn with_two_idle(&self) -> [BTreeSet<String>; 2] {
        let pods = self.until_decode(4).await;
        let idle: BTreeSet<String> = pods[1..3].iter().cloned().collect();
        for pod in &pods {
            let requests = if idle.contains(pod) { 0 } else { 7 };
            self.engines.set(pod, requests);
        }
        eventually("the numbers of four engines", DEADLINE, async || {
            let found = self.prometheus.query("vllm:num_requests_running").await;
            let found = found.map_err(|error| error.to_string())?;
            let running: f64 = found.iter().map(|(_, running)| running).sum();
            if found.len() == 4 && (running - 14.0).abs() < 0.5 {
                return Ok(());
            }
            Err(format!("{found:?}"))
        })
        .await
        .unwrap();
        let busy = pods.into_iter().filter(|pod| !idle.contains(pod)).collect();
        [idle, busy]
    }

    /// The PDAutoscaler with at most `most` decode replicas.
    async fn autoscale(&self, most: u32) {
        let change = json!({
            "decode": { "maxReplicas": most },
            "behavior": { "scaleDown": {
                "policies": [{ "type": "Pods", "value": 12, "periodSeconds": 1 }],
                "drain": {},
            } },
        });
        let object = autoscaler("llama", "Deployment", &change).to_string();
        self.namespace.apply(&object).await.unwrap();
    }

    async fn conditions(&self) -> Vec<(String, String, String)> {
        let client = self.namespace.client().await.unwrap();
        let found = Api::<PDAutoscaler>::default_namespaced(client)
            .get("llama")
            .await;
        let status = found.ok().and_then(|found| found.status);
        let conditions = status.map(|status| status.conditions).unwrap_or_default();
        let shown = conditions
            .into_iter()
            .map(|c| (c.type_, c.reason, c.message));
        shown.collect()
    }

    async fn until_drain_safe_says(&self, reason: &str) -> String {
        let what = format!("DrainSafe with {reason}");
        let found = eventually(&what, DEADLINE, async || {
            let conditions = self.conditions().await;
            let mut found = conditions.iter();
            let found = found.find(|(kind, of, _)| kind == "DrainSafe" && of == reason);
            let found = found.map(|(_, _, message)| message.clone());
            found.ok_or_else(|| format!("{conditions:?}"))
        });
        found.await.unwrap()
    }

    /// Gives a pod a deletion cost, as `manager` would.
    async fn annotate(&self, pod: &str, cost: &str, manager: &str) {
        let patch = json!({ "metadata": { "annotations": { DELETION_COST: cost } } });
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let patched = self.pods.patch(pod, &params, &Patch::Merge(patch)).await;
        patched.unwrap();
    }

    async fn cost(&self, pod: &str) -> Option<String> {
        let pod = self.pods.get(pod).await.unwrap();
        pod.annotations().get(DELETION_COST).cloned()
    }
}

/// Every deletion cost that pods of a namespace ever had.
struct Marks {
    seen: Arc<Mutex<BTreeMap<String, String>>>,
    task: JoinHandle<()>,
}

impl Marks {
    fn follow(pods: Api<Pod>) -> Self {
        let seen = Arc::default();
        let kept: Arc<Mutex<BTreeMap<String, String>>> = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let stream = pods.watch(&WatchParams::default(), "0").await.unwrap();
            let mut stream = std::pin::pin!(stream);
            while let Ok(Some(event)) = stream.try_next().await {
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else {
                    continue;
                };
                if let Some(cost) = pod.annotations().get(DELETION_COST) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.insert(pod.name_any(), cost.clone());
                }
            }
        });
        Self { seen, task }
    }

    fn seen(&self) -> BTreeMap<String, String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pods_with_the_least_work_go_and_old_marks_with_them() {
    let scene = Scene::set(json!({ "drain": { "enabled": true } })).await;
    scene.autoscale(4).await;
    let marks = Marks::follow(scene.pods.clone());
    let [idle, busy] = scene.with_two_idle().await;
    scene.autoscale(2).await;
    let left = scene.until_decode(2).await;
    assert_eq!(left.iter().cloned().collect::<BTreeSet<_>>(), busy);
    eventually("the marks of those that went", DEADLINE, async || {
        let seen = marks.seen();
        let marked: BTreeSet<String> = seen.keys().cloned().collect();
        if marked == idle {
            return Ok(());
        }
        Err(format!("{seen:?}"))
    })
    .await
    .unwrap();
    scene.until_drain_safe_says("DrainSafe").await;

    // A mark of ours that is left over goes; one of somebody else does not.
    scene.annotate(&left[0], "-9", MANAGER).await;
    scene.annotate(&left[1], "3", "kubectl").await;
    eventually("the old mark to go", DEADLINE, async || {
        match scene.cost(&left[0]).await {
            None => Ok(()),
            Some(cost) => Err(cost),
        }
    })
    .await
    .unwrap();
    throughout(
        "the mark of somebody else",
        Duration::from_secs(5),
        async || match scene.cost(&left[1]).await.as_deref() {
            Some("3") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_mark_replicas_are_lowered_and_it_is_said() {
    let scene = Scene::set(json!({})).await;
    scene.autoscale(4).await;
    let marks = Marks::follow(scene.pods.clone());
    scene.with_two_idle().await;
    scene.autoscale(2).await;
    scene.until_decode(2).await;
    let message = scene.until_drain_safe_says("VictimsUnmarked").await;
    assert!(
        message.contains("forbidden") && message.contains("`drain.enabled`"),
        "{message}"
    );
    assert_eq!(marks.seen(), BTreeMap::new());
}
