//! Two control planes that are asked the same: one with the gate on and without us, one with the
//! gate off and with us.
//!
//! Nodes are posted as ready and nobody plays them, so that nothing but the taints of a case
//! decides. What becomes of pods is followed by a watch on each plane, for a pod that is bound and
//! deleted a moment later has to be seen.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use pd_tests::{
    add_ons::{ExtenderPort, GATE, Webhook, start_control, start_webhook},
    control_plane::{Component, ControlPlane, NodeSpec, Options, eventually},
    supervisor::Process,
};
use pd_tolerations::{Taint, mirror};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "default";
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// The scheduler profile that scores by taints alone.
pub(crate) const PREFERENCE: &str = "preference";
/// Calls under way at once to one plane.
const CONCURRENCY: usize = 16;

/// A pod as a watch has seen it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Where it was bound.
    pub(crate) node: Option<String>,
    /// Why it could not be.
    pub(crate) unschedulable: Option<String>,
    /// When it was gone or going.
    pub(crate) deleted: Option<Instant>,
}

/// One control plane, and what its pods do.
pub(crate) struct Plane {
    pub(crate) name: &'static str,
    pub(crate) cluster: ControlPlane,
    pub(crate) client: Client,
    pods: Arc<Mutex<HashMap<String, Seen>>>,
    watching: tokio::task::JoinHandle<()>,
}

/// Both.
pub(crate) struct Planes {
    /// Kubernetes itself: the gate is on.
    pub(crate) native: Plane,
    /// The gate is off, and we stand in.
    pub(crate) ours: Plane,
    _webhook: Webhook,
    _extender: Process,
    /// Our controllers.
    pub(crate) control: Process,
    _port: ExtenderPort,
}

fn options(gate: bool) -> Options {
    let preference = json!({
        "schedulerName": PREFERENCE,
        "plugins": { "score": { "disabled": [{ "name": "*" }], "enabled": [{ "name": "TaintToleration", "weight": 3 }] } },
    });
    Options {
        kwok: false,
        feature_gates: BTreeMap::from([(GATE.to_owned(), gate)]),
        // Nobody sends heartbeats, so nobody must miss them.
        api_server_arguments: vec!["--disable-admission-plugins=TaintNodesByCondition".to_owned()],
        controller_manager_arguments: vec![
            // The controller of evictions finds a node's pods by an index that only its neighbours
            // make, such as the one of DaemonSets; alone it evicts nobody when a node changes.
            "--controllers=serviceaccount-controller,serviceaccount-token-controller,taint-eviction-controller,daemonset-controller".to_owned(),
            "--vmodule=taint_eviction=4".to_owned(),
        ],
        // Scores can be seen nowhere else.
        scheduler_arguments: vec!["--vmodule=schedule_one=10".to_owned()],
        scheduler_profiles: vec![json!({ "schedulerName": "default-scheduler" }), preference],
        ..Options::default()
    }
}

impl Planes {
    pub(crate) async fn start() -> Self {
        let port = ExtenderPort::reserve().unwrap();
        let native = async { Plane::start("native", options(true)).await };
        let ours = async {
            let mut options = options(false);
            options.scheduler_extenders = vec![port.configuration()];
            let plane = Plane::start("ours", options).await;
            let extender = port.start(&plane.cluster).await.unwrap();
            let control = start_control(&plane.cluster, &[]).await.unwrap();
            eventually("the controllers to lead", DEADLINE, async || {
                let log = control.log();
                if log.contains("\"leading\"") {
                    Ok(())
                } else {
                    Err(log)
                }
            })
            .await
            .unwrap();
            let webhook = start_webhook(&plane.cluster, &json!({})).await.unwrap();
            (plane, extender, control, webhook)
        };
        let (native, (ours, extender, control, webhook)) = tokio::join!(native, ours);
        Self {
            native,
            ours,
            _webhook: webhook,
            _extender: extender,
            control,
            _port: port,
        }
    }

    /// Has our scheduler go on without the extender.
    pub(crate) async fn without_extender(&mut self) {
        let cluster = &mut self.ours.cluster;
        let profiles = cluster.options().scheduler_profiles.clone();
        cluster.set_scheduler(Vec::new(), profiles).unwrap();
        cluster.restart(Component::Scheduler).await.unwrap();
    }

    pub(crate) fn both(&self) -> [&Plane; 2] {
        [&self.native, &self.ours]
    }

    /// Adds nodes with taints to both, by name.
    pub(crate) async fn add_nodes(&self, nodes: &[(String, BTreeMap<String, String>, Vec<Taint>)]) {
        futures::future::join_all(self.both().map(|plane| async move {
            stream::iter(nodes)
                .for_each_concurrent(CONCURRENCY, |(prefix, labels, taints)| async move {
                    let spec = NodeSpec {
                        prefix: prefix.clone(),
                        labels: labels.clone(),
                        ..NodeSpec::default()
                    };
                    let names = plane.cluster.add_nodes(&spec).await.unwrap();
                    plane.taint(&names[0], taints).await;
                })
                .await;
        }))
        .await;
    }
}

impl Plane {
    async fn start(name: &'static str, options: Options) -> Self {
        let cluster = ControlPlane::start(options).await.unwrap();
        let client = cluster.client().await.unwrap();
        let pods = Arc::<Mutex<HashMap<String, Seen>>>::default();
        let watching = tokio::spawn(watch(
            Api::namespaced(client.clone(), NAMESPACE),
            pods.clone(),
        ));
        Self {
            name,
            cluster,
            client,
            pods,
            watching,
        }
    }

    /// The pod `name` as seen so far.
    pub(crate) fn seen(&self, name: &str) -> Seen {
        self.pods
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    /// Creates pods, as fast as the plane takes them; refused ones are an error here.
    pub(crate) async fn create(&self, pods: &[Value]) {
        let api = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        stream::iter(pods)
            .map(|pod| {
                let (api, pod) = (
                    api.clone(),
                    serde_json::from_value::<Pod>(pod.clone()).unwrap(),
                );
                async move {
                    let made = api.create(&PostParams::default(), &pod).await;
                    made.map_err(|error| format!("{}: {error}: {pod:?}", self.name))
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .unwrap();
    }

    /// Waits until `done` holds for what is seen of every pod.
    pub(crate) async fn until(
        &self,
        awaited: &str,
        names: &[String],
        done: impl Fn(&Seen) -> bool,
    ) {
        eventually(&format!("{}: {awaited}", self.name), DEADLINE, async || {
            let waits = names.iter().filter(|name| !done(&self.seen(name)));
            let waits: Vec<&String> = waits.collect();
            match waits.first() {
                None => Ok(()),
                Some(first) => Err(format!(
                    "{} do not, such as {first}: {:?}",
                    waits.len(),
                    self.seen(first)
                )),
            }
        })
        .await
        .unwrap();
    }

    /// Waits until the labels of nodes are what their taints are.
    pub(crate) async fn until_mirrored(&self, nodes: &[(String, &[Taint])]) {
        let api = Api::<Node>::all(self.client.clone());
        eventually("labels to mirror taints", DEADLINE, async || {
            let all = api.list_metadata(&ListParams::default()).await;
            let all = all.map_err(|error| error.to_string())?.items;
            let late = nodes.iter().find(|(name, taints)| {
                let node = all
                    .iter()
                    .find(|node| node.metadata.name.as_ref() == Some(name));
                let labels = node.unwrap().metadata.labels.clone().unwrap_or_default();
                // Labels of holds come beside them, and are another matter.
                let due = mirror::labels(taints);
                let missing = due
                    .iter()
                    .any(|(label, value)| labels.get(label) != Some(value));
                missing
                    || !mirror::changes(&labels, &due)
                        .iter()
                        .all(|(label, _)| label.contains("held."))
            });
            late.map_or(Ok(()), |(name, _)| Err(name.clone()))
        })
        .await
        .unwrap();
    }

    /// Replaces a node's taints.
    pub(crate) async fn taint(&self, node: &str, taints: &[Taint]) {
        let nodes = Api::<Node>::all(self.client.clone());
        let patch = json!({ "spec": { "taints": taints } });
        nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap_or_else(|error| panic!("{}: {taints:?}: {error}", self.name));
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch(api: Api<Pod>, pods: Arc<Mutex<HashMap<String, Seen>>>) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let (pod, is_gone) = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, false),
            Ok(Event::Delete(pod)) => (pod, true),
            Ok(Event::Init | Event::InitDone) | Err(_) => continue,
        };
        let mut pods = pods.lock().unwrap();
        let seen = pods.entry(pod.metadata.name.unwrap()).or_default();
        if is_gone || pod.metadata.deletion_timestamp.is_some() {
            seen.deleted.get_or_insert_with(Instant::now);
        }
        seen.node = pod
            .spec
            .and_then(|spec| spec.node_name)
            .or(seen.node.take());
        let conditions = pod.status.and_then(|status| status.conditions);
        let refused = conditions
            .into_iter()
            .flatten()
            .find(|one| one.type_ == "PodScheduled" && one.status == "False");
        if let Some(condition) =
            refused.filter(|one| one.reason.as_deref() == Some("Unschedulable"))
        {
            seen.unschedulable = condition.message;
        }
    }
}
