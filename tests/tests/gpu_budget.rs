//! GPUs shared by three PDAutoscalers of two namespaces, on a real control plane: through opposed
//! peaks, with the leader killed in between, the sum never exceeds the budget.
//!
//! The observer does not sample. It keeps every event of Deployments and pods, puts them in the
//! order in which etcd made them, and adds up after each.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{WatchEvent, WatchParams},
};
use pd_api::v1alpha1::{GPUBudget, PDAutoscaler};
use pd_tests::{
    chart,
    control_plane::{ControlPlane, Namespace, eventually},
    emulator::{Emulator, EmulatorOptions, LoadChange},
    prometheus::{Prometheus, PrometheusOptions},
    stage::{DEADLINE, autoscaler, merge, prepared_cluster, run_controller, workload},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// GPUs that the services share: less than two of them need at their peaks together.
const GPUS: i32 = 12;

/// One workload or pod as an event left it.
#[derive(Clone, Debug)]
enum Held {
    /// Replicas of a Deployment.
    Requested(i32),
    /// A pod of it, and whether it is on its way out.
    Pod { leaving: bool },
    /// Nothing any more.
    Gone,
}

/// Every event, with its place in etcd's order, its Deployment (`namespace/name`) and its object.
type Events = Arc<Mutex<Vec<(u64, String, String, Held)>>>;

#[derive(Debug)]
struct Observer {
    events: Events,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The Deployment of a pod, by the name of its ReplicaSet.
fn deployment_of(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().first()?;
    let (name, _hash) = owner.name.rsplit_once('-')?;
    Some(format!("{}/{name}", pod.namespace()?))
}

fn version(version: Option<String>) -> u64 {
    version.unwrap_or_default().parse().unwrap_or(0)
}

/// Follows all objects of `api` into `events`, each as `seen` sees it: the Deployment, the pod if it
/// is one, and the GPUs held.
fn follow<K>(
    api: Api<K>,
    events: Events,
    seen: impl Fn(&K) -> Option<(String, String, Held)> + Send + 'static,
) -> JoinHandle<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    tokio::spawn(async move {
        let stream = api.watch(&WatchParams::default(), "0").await.unwrap();
        let mut stream = std::pin::pin!(stream);
        while let Ok(Some(event)) = stream.try_next().await {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
            };
            let Some((key, name, held)) = seen(&object) else {
                continue;
            };
            let held = if gone { Held::Gone } else { held };
            let at = version(object.resource_version());
            let mut kept = events.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push((at, key, name, held));
        }
    })
}

fn requested(deployment: &Deployment) -> Option<(String, String, Held)> {
    let key = format!("{}/{}", deployment.namespace()?, deployment.name_any());
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    Some((key, String::new(), Held::Requested(replicas.unwrap_or(1))))
}

fn existing(pod: &Pod) -> Option<(String, String, Held)> {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    Some((deployment_of(pod)?, pod.name_any(), Held::Pod { leaving }))
}

impl Observer {
    fn start(client: &Client, namespaces: &[&str]) -> Self {
        let events = Events::default();
        let mut tasks = Vec::new();
        for &namespace in namespaces {
            let deployments = Api::namespaced(client.clone(), namespace);
            let pods = Api::namespaced(client.clone(), namespace);
            tasks.push(follow(deployments, Arc::clone(&events), requested));
            tasks.push(follow(pods, Arc::clone(&events), existing));
        }
        Self { events, tasks }
    }

    /// The sums after all events, in etcd's order. One GPU is a replica.
    fn sums(&self) -> Vec<(u64, i64)> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = events.clone();
        events.sort_by_key(|(at, ..)| *at);
        let mut now: BTreeMap<String, (i64, BTreeMap<String, bool>)> = BTreeMap::new();
        let sum = |now: &BTreeMap<String, (i64, BTreeMap<String, bool>)>| -> i64 {
            let of = |(requested, pods): &(i64, BTreeMap<String, bool>)| {
                let leaving = pods.values().filter(|leaving| **leaving).count();
                let existing = i64::try_from(pods.len() - leaving).unwrap();
                existing.max(*requested) + i64::try_from(leaving).unwrap()
            };
            now.values().map(of).sum()
        };
        let mut sums = Vec::new();
        // The controller is installed into one of the namespaces, and has no GPU.
        let is_worker = |key: &str| key.ends_with("-prefill") || key.ends_with("-decode");
        for (at, key, object, held) in events {
            if !is_worker(&key) {
                continue;
            }
            let (requested, pods) = now.entry(key).or_default();
            match held {
                Held::Requested(replicas) => *requested = replicas.into(),
                Held::Pod { leaving } => drop(pods.insert(object, leaving)),
                Held::Gone if object.is_empty() => *requested = 0,
                Held::Gone => drop(pods.remove(&object)),
            }
            sums.push((at, sum(&now)));
        }
        sums
    }

    fn check(&self, when: &str, gpus: i32) -> (usize, i64) {
        let sums = self.sums();
        let most = sums.iter().map(|(_, sum)| *sum).max().unwrap_or(0);
        assert!(
            most <= gpus.into(),
            "{when}: {most} GPUs of {gpus}: {sums:?}"
        );
        (sums.len(), most)
    }
}

/// A service that gives GPUs back has to work off its queue first.
const PATIENCE: Duration = DEADLINE.saturating_mul(4);

/// One service `app` in a namespace, with an emulator of its own.
struct Service<'a> {
    namespace: &'a Namespace<'static>,
    app: &'static str,
    emulator: Emulator,
}

impl<'a> Service<'a> {
    async fn deploy(namespace: &'a Namespace<'static>, app: &'static str) -> Self {
        for role in ["prefill", "decode"] {
            let labels = json!({ "app": app, "llm-d.ai/role": role, "model": app });
            let mut object = workload("Deployment", role, 1);
            object["metadata"]["name"] = format!("{app}-{role}").into();
            object["spec"]["selector"]["matchLabels"] = labels.clone();
            object["spec"]["template"]["metadata"]["labels"] = labels;
            // Where all GPUs are taken a surge finds none.
            object["spec"]["strategy"] =
                json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
            namespace.apply(&object.to_string()).await.unwrap();
        }
        let options = EmulatorOptions {
            namespace: Some(namespace.name().to_owned()),
            selector: Some(format!("app={app}")),
            ..EmulatorOptions::default()
        };
        let client = namespace.client().await.unwrap();
        let emulator = Emulator::start(client, options).await.unwrap();
        Self {
            namespace,
            app,
            emulator,
        }
    }

    fn load(&self, input_tokens: f64) {
        self.load_of(4.0, input_tokens, 60.0);
    }

    fn load_of(&self, requests_per_second: f64, input_tokens: f64, output_tokens: f64) {
        let change = LoadChange {
            namespace: Some(self.namespace.name().to_owned()),
            requests_per_second: Some(requests_per_second),
            input_tokens_mean: Some(input_tokens),
            input_tokens_cv: Some(0.3),
            output_tokens_mean: Some(output_tokens),
            output_tokens_cv: Some(0.3),
            ..LoadChange::default()
        };
        self.emulator.set_load(&change).unwrap();
    }

    async fn autoscale(&self, more: &Value) {
        let target = |role: &str| json!({ "target": { "name": format!("{}-{role}", self.app) } });
        let change = json!({
            "prefill": target("prefill"),
            "decode": target("decode"),
            "metrics": { "selectors": { "model_name": self.app } },
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": 3,
                    "policies": [{ "type": "Pods", "value": 12, "periodSeconds": 1 }],
                },
                "lead": { "assumed": "2s" },
            },
        });
        let mut object = autoscaler(self.app, "Deployment", &json!({}));
        merge(&mut object["spec"], &change);
        merge(&mut object["spec"], more);
        self.namespace.apply(&object.to_string()).await.unwrap();
    }

    async fn replicas(&self, role: &str) -> i32 {
        let deployments =
            Api::<Deployment>::default_namespaced(self.namespace.client().await.unwrap());
        let found = deployments
            .get(&format!("{}-{role}", self.app))
            .await
            .unwrap();
        found.spec.unwrap().replicas.unwrap()
    }

    /// The conditions of its PDAutoscaler, for a failure.
    async fn seen(&self) -> String {
        let client = self.namespace.client().await.unwrap();
        let objects = Api::<PDAutoscaler>::default_namespaced(client);
        let status = objects.get(self.app).await.map(|found| found.status);
        let conditions = status.ok().flatten().map(|status| status.conditions);
        format!("{conditions:?}")
    }

    async fn until_prefill(&self, least: i32, budget: &Api<GPUBudget>) {
        let what = format!("{least} prefill replicas of {}", self.app);
        eventually(&what, PATIENCE, async || {
            let replicas = self.replicas("prefill").await;
            if replicas >= least {
                return Ok(());
            }
            let status = budget.get("shared").await.map(|found| found.status);
            Err(format!("{replicas}, {status:?}"))
        })
        .await
        .unwrap();
    }
}

fn budget(namespaces: &[&str]) -> Value {
    json!({
        "apiVersion": "pdautoscaler.io/v1alpha1",
        "kind": "GPUBudget",
        "metadata": { "name": "shared" },
        "spec": { "gpus": GPUS, "members": [{ "namespaces": namespaces, "floorGpus": 2 }] },
    })
}

async fn prometheus(services: &[&Service<'_>]) -> Prometheus {
    let urls = services
        .iter()
        .map(|service| service.emulator.service_discovery_url());
    let options = PrometheusOptions {
        http_sd_urls: urls.collect(),
        ..PrometheusOptions::default()
    };
    Prometheus::start(&options).await.unwrap()
}

async fn release(
    plane: &'static ControlPlane,
    url: &str,
) -> (Namespace<'static>, chart::Installed) {
    let home = Namespace::create(plane, "budget-home").await.unwrap();
    let values = json!({ "prometheus": { "url": url } });
    let installed = chart::install(plane, home.name(), &values).await.unwrap();
    (home, installed)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_services_never_exceed_their_budget_through_opposed_peaks() {
    let plane = prepared_cluster().await.unwrap();
    let (one, two) = tokio::join!(
        Namespace::create(plane, "tenant-one"),
        Namespace::create(plane, "tenant-two"),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let (chat, code, batch) = tokio::join!(
        Service::deploy(&one, "chat"),
        Service::deploy(&two, "code"),
        Service::deploy(&two, "batch"),
    );
    let prometheus = prometheus(&[&chat, &code, &batch]).await;
    let client = plane.client().await.unwrap();
    let observer = Observer::start(&client, &[one.name(), two.name()]);
    chat.load(40_000.0);
    code.load(500.0);
    batch.load(500.0);
    plane
        .apply(&budget(&[one.name(), two.name()]).to_string())
        .await
        .unwrap();
    let plain = json!({});
    tokio::join!(
        chat.autoscale(&plain),
        code.autoscale(&plain),
        batch.autoscale(&plain)
    );
    let (_home, release) = release(plane, &prometheus.url()).await;
    let first = run_controller(plane, &release, "first", &[]).await.unwrap();
    let budgets = Api::<GPUBudget>::all(client.clone());
    let started = Instant::now();
    // All that the others do not hold: borrowed.
    chat.until_prefill(6, &budgets).await;
    observer.check("the first peak", GPUS);
    // The peak moves to the other namespace, and the leader dies while it does.
    let _second = run_controller(plane, &release, "second", &[])
        .await
        .unwrap();
    chat.load(500.0);
    code.load(40_000.0);
    batch.load(12_000.0);
    first.kill().await.unwrap();
    code.until_prefill(4, &budgets).await;
    let (events, most) = observer.check("the second peak", GPUS);
    assert!(most >= 10, "the budget was hardly used: {most}");
    // Each account of the ledger says how it stands.
    let status = budgets.get("shared").await.unwrap().status.unwrap();
    assert_eq!(status.accounts.len(), 3);
    assert!(status.granted_gpus <= GPUS, "{status:?}");
    assert!(
        status.accounts.iter().all(|row| !row.message.is_empty()),
        "{status:?}"
    );
    writeln!(
        std::io::stderr(),
        "{events} events, at most {most} of {GPUS} GPUs, in {:.0} s",
        started.elapsed().as_secs_f64()
    )
    .unwrap();
}

/// GPUs of a service that has a budget of its own.
const OWN_GPUS: i32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_budget_moves_from_role_to_role_and_back_and_is_never_exceeded() {
    let plane = prepared_cluster().await.unwrap();
    let namespace = Namespace::create(plane, "rebalance").await.unwrap();
    let service = Service::deploy(&namespace, "chat").await;
    let prometheus = prometheus(&[&service]).await;
    let client = plane.client().await.unwrap();
    let observer = Observer::start(&client, &[namespace.name()]);
    // Many prompts and short answers, then the other way round.
    let prefill_heavy = || service.load_of(50.0, 2_000.0, 20.0);
    prefill_heavy();
    let own = json!({
        "budget": { "gpus": OWN_GPUS },
        "objective": { "tpot": { "target": "15ms" } },
    });
    service.autoscale(&own).await;
    let values =
        json!({ "prometheus": { "url": prometheus.url() }, "watchNamespace": namespace.name() });
    let release = chart::install(plane, namespace.name(), &values)
        .await
        .unwrap();
    let _controller = run_controller(plane, &release, "one", &[]).await.unwrap();
    let until = async |role: &str, least: i32| {
        eventually(&format!("{least} {role} replicas"), PATIENCE, async || {
            let replicas = service.replicas(role).await;
            if replicas >= least {
                return Ok(());
            }
            Err(format!("{replicas}, {}", service.seen().await))
        })
        .await
        .unwrap();
    };
    until("prefill", 4).await;
    service.load_of(24.0, 800.0, 1_000.0);
    until("decode", 3).await;
    prefill_heavy();
    until("prefill", 4).await;
    let (events, most) = observer.check("both directions", OWN_GPUS);
    assert!(most >= 5, "the budget was hardly used: {most}");
    writeln!(
        std::io::stderr(),
        "{events} events, at most {most} of {OWN_GPUS} GPUs"
    )
    .unwrap();
}

#[tokio::test]
async fn the_api_server_takes_the_example_and_refuses_members_without_namespaces() {
    let plane = prepared_cluster().await.unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gpubudget.yaml");
    let example = std::fs::read_to_string(path).unwrap();
    let dry = ["apply", "--server-side", "--dry-run=server", "--filename=-"];
    plane.kubectl_with_input(&dry, &example).await.unwrap();
    let wrong = [
        (
            json!({ "members": [{}] }),
            "either namespaces or namespaceLabels",
        ),
        (
            json!({ "members": [{ "namespaces": ["a"], "namespaceLabels": { "b": "c" } }] }),
            "either namespaces or namespaceLabels",
        ),
        (
            json!({ "members": [{ "namespaces": ["a"], "floorGpus": 8, "mostGpus": 4 }] }),
            "mostGpus `4` must be at least floorGpus (8)",
        ),
        (json!({ "members": [] }), "spec.members"),
        (json!({ "gpus": -1 }), "spec.gpus"),
        (
            json!({ "members": [{ "namespaces": ["a"], "priority": 0 }] }),
            "priority",
        ),
    ];
    for (change, want) in wrong {
        let mut object = budget(&["a"]);
        merge(&mut object["spec"], &change);
        let refused = plane.kubectl_with_input(&dry, &object.to_string()).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(want), "{change}: {error}");
    }
}
