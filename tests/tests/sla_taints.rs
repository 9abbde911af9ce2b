//! The whole of numeric tolerations, as its users meet it: prefill that wants nodes above 950,
//! decode that is content above 800, nodes whose value changes, real scheduler and controllers.
//!
//! One story is played in two worlds at once: where Kubernetes compares numbers by itself, and
//! where it does not and the chart's webhook, extender (over TLS, with certificates that are
//! replaced meanwhile) and controllers stand in. At the end the first world loses the feature, and
//! is rescued. Times are between two things seen through one watch.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use pd_tests::{
    add_ons::{Everything, GATE},
    control_plane::{Component, ControlPlane, NodeSpec, Options, eventually, throughout},
    dashboards,
    prometheus::{Prometheus, PrometheusOptions},
    scrape::{Scrape, until_shown},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

const DEADLINE: Duration = Duration::from_secs(90);
/// How late an eviction may be seen: this machine may be busy with other tests.
const LATE: Duration = Duration::from_millis(2500);
const SLA: &str = "node.kubernetes.io/sla";
const LABEL: &str = "node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla";
/// Groups of nodes, and the values of their taints at first; a node is named `GROUP-VALUE-0`.
const NODES: [(&str, &[&str]); 6] = [
    ("seeds", &["800", "950", "951"]),
    ("near", &["990"]),
    ("deep", &["990"]),
    ("rise", &["990"]),
    ("daemons", &["990"]),
    ("again", &["990"]),
];
const PREFILL_SECONDS: u64 = 30;
const DECODE_SECONDS: u64 = 60;
const AGAIN_SECONDS: u64 = 12;

fn above(value: &str, seconds: Option<u64>) -> Value {
    let mut toleration =
        json!({ "key": SLA, "operator": "Gt", "value": value, "effect": "NoExecute" });
    if let Some(seconds) = seconds {
        toleration["tolerationSeconds"] = json!(seconds);
    }
    toleration
}

/// Stays for ever above `value`, and `seconds` below it.
fn patient(value: &str, seconds: u64) -> Value {
    json!([above(value, None), above("-1", Some(seconds))])
}

fn template(app: &str, group: &str, tolerations: &Value) -> Value {
    json!({ "metadata": { "labels": { "app": app } }, "spec": {
        "containers": [{ "name": "c", "image": "x" }], "terminationGracePeriodSeconds": 0,
        "nodeSelector": { "group": group }, "tolerations": tolerations } })
}

fn deployment(app: &str, group: &str, replicas: usize, tolerations: &Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": app, "namespace": "default" }, "spec": {
        "replicas": replicas, "selector": { "matchLabels": { "app": app } }, "template": template(app, group, tolerations) } })
}

/// A pod as it was seen.
#[derive(Debug, Clone)]
struct Seen {
    app: String,
    node: String,
    bound: Instant,
    gone: Option<Instant>,
}

/// All pods that were ever bound, by name.
type Pods = Arc<Mutex<BTreeMap<String, Seen>>>;

async fn watch(api: Api<Pod>, pods: Pods) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let (pod, is_deleted) = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, false),
            Ok(Event::Delete(pod)) => (pod, true),
            Ok(Event::Init | Event::InitDone) | Err(_) => continue,
        };
        let Some(node) = pod.spec.and_then(|spec| spec.node_name) else {
            continue;
        };
        let (now, mut labels) = (Instant::now(), pod.metadata.labels.unwrap_or_default());
        let is_gone = is_deleted || pod.metadata.deletion_timestamp.is_some();
        let mut pods = pods.lock().unwrap();
        let seen = pods
            .entry(pod.metadata.name.unwrap())
            .or_insert_with(|| Seen {
                app: labels.remove("app").unwrap_or_default(),
                node,
                bound: now,
                gone: None,
            });
        if is_gone {
            seen.gone.get_or_insert(now);
        }
    }
}

struct World {
    name: &'static str,
    plane: ControlPlane,
    client: Client,
    pods: Pods,
    watching: tokio::task::JoinHandle<()>,
    ours: Option<Everything>,
    /// The Prometheus that scrapes our programs.
    scraped: Option<(Scrape, Prometheus)>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl World {
    async fn start(name: &'static str, gate: bool) -> Self {
        let mut options = Options::default();
        options.feature_gates.insert(GATE.to_owned(), gate);
        for (group, values) in NODES {
            options.nodes.extend(values.iter().map(|value| NodeSpec {
                prefix: format!("{group}-{value}"),
                labels: BTreeMap::from([("group".to_owned(), group.to_owned())]),
                ..NodeSpec::default()
            }));
        }
        let mut plane = ControlPlane::start(options).await.unwrap();
        let client = plane.client().await.unwrap();
        let ours = if gate {
            None
        } else {
            Some(
                Everything::start(&mut plane, &short_certificates())
                    .await
                    .unwrap(),
            )
        };
        let scraped = match &ours {
            Some(ours) => Some(scraped(ours).await),
            None => None,
        };
        let pods = Pods::default();
        let api = Api::namespaced(client.clone(), "default");
        let watching = tokio::spawn(watch(api, pods.clone()));
        let world = Self {
            name,
            plane,
            client,
            pods,
            watching,
            ours,
            scraped,
        };
        for (group, values) in NODES {
            for value in values {
                world.set(&format!("{group}-{value}-0"), value).await;
            }
        }
        world
    }

    /// Gives a node its value, and returns when that was done and, with us, mirrored for schedulers
    /// to see.
    async fn set(&self, node: &str, value: &str) -> Moment {
        let nodes = Api::<Node>::all(self.client.clone());
        let taint = json!({ "key": SLA, "value": value, "effect": "NoExecute" });
        let patch = Patch::Merge(json!({ "spec": { "taints": [taint] } }));
        let before = Instant::now();
        nodes
            .patch(node, &PatchParams::default(), &patch)
            .await
            .unwrap();
        let after = Instant::now();
        if self.ours.is_some() {
            eventually("the value to be mirrored", DEADLINE, async || {
                let labels = nodes
                    .get(node)
                    .await
                    .unwrap()
                    .metadata
                    .labels
                    .unwrap_or_default();
                let found = labels.get(LABEL);
                (found.map(String::as_str) == Some(value))
                    .then_some(())
                    .ok_or_else(|| format!("{found:?}"))
            })
            .await
            .unwrap();
        }
        Moment { before, after }
    }

    async fn apply(&self, object: &Value) {
        self.plane.apply(&object.to_string()).await.unwrap();
    }

    /// The pods of `app` that are on a node now, by name.
    fn running(&self, app: &str) -> BTreeMap<String, Seen> {
        let pods = self.pods.lock().unwrap();
        let running = pods
            .iter()
            .filter(|(_, seen)| seen.app == app && seen.gone.is_none());
        running
            .map(|(name, seen)| (name.clone(), seen.clone()))
            .collect()
    }

    /// Waits until the only pod of `app` runs; gives its name.
    async fn until_one_runs(&self, app: &str) -> String {
        let pods = self.until_running(app, 1).await;
        pods.into_keys().next().unwrap()
    }

    async fn until_running(&self, app: &str, count: usize) -> BTreeMap<String, Seen> {
        let awaited = format!("{}: {count} pods of {app} to run", self.name);
        eventually(&awaited, DEADLINE, async || {
            let running = self.running(app);
            if running.len() == count {
                Ok(running)
            } else {
                Err(format!("{running:?}"))
            }
        })
        .await
        .unwrap()
    }

    /// When a pod went.
    async fn until_gone(&self, pod: &str) -> Instant {
        eventually(
            &format!("{}: {pod} to go", self.name),
            DEADLINE,
            async || {
                let gone = self.pods.lock().unwrap()[pod].gone;
                gone.ok_or_else(|| "it stays".to_owned())
            },
        )
        .await
        .unwrap()
    }

    fn stays(&self, pod: &str) {
        let seen = self.pods.lock().unwrap()[pod].clone();
        assert!(seen.gone.is_none(), "{}: {pod} went: {seen:?}", self.name);
    }
}

/// When something was done: not before, and not after.
#[derive(Clone, Copy)]
struct Moment {
    before: Instant,
    after: Instant,
}

impl Moment {
    /// Checks that a pod went `seconds` later, as exactly as can be told.
    fn check(self, world: &World, pod: &str, gone: Instant, seconds: u64) {
        let due = Duration::from_secs(seconds);
        let (most, least) = (
            gone - self.before,
            gone.saturating_duration_since(self.after),
        );
        assert!(
            most >= due && least < due + LATE,
            "{}: {pod} went after {least:?} to {most:?}, not {due:?}",
            world.name
        );
    }
}

/// A Prometheus that scrapes our programs.
async fn scraped(ours: &Everything) -> (Scrape, Prometheus) {
    let scrape = Scrape::new().unwrap();
    let prometheus = Prometheus::start(&PrometheusOptions {
        scrape_configs: vec![scrape.config()],
        ..PrometheusOptions::default()
    })
    .await
    .unwrap();
    for (name, process) in [
        ("webhook", &ours.webhook.process),
        ("extender", &ours.extender),
        ("control", &ours.control),
    ] {
        scrape.add(name, process).await.unwrap();
    }
    (scrape, prometheus)
}

/// Every panel about numeric tolerations has data; those of publishers are another test's.
async fn dashboards_show(prometheus: &Prometheus) {
    let all = dashboards::all();
    let placement = all.iter().find(|one| one.uid == "pd-placement").unwrap();
    let of_publishers = |panel: &&dashboards::Panel| {
        let mut queries = panel.queries.iter();
        queries.any(|query| query.expression.contains("publisher"))
    };
    let panels: Vec<_> = placement
        .panels()
        .filter(|panel| !of_publishers(panel))
        .collect();
    assert!(panels.len() > 10);
    until_shown(prometheus, &panels, &[]).await.unwrap();
}

fn short_certificates() -> Value {
    json!({ "extender": { "tls": { "interval": "500ms", "validity": "24s" } } })
}

/// Prefill above 950 for 30 s, decode above 800 for 60 s: where they may be, and for how long. The
/// taint is there before them, so that their time begins when they are bound.
async fn the_seeds(world: &World) {
    let seconds = BTreeMap::from([("prefill", PREFILL_SECONDS), ("decode", DECODE_SECONDS)]);
    for (app, bound) in [("prefill", "950"), ("decode", "800")] {
        let tolerations = json!([above(bound, Some(seconds[app]))]);
        world
            .apply(&deployment(app, "seeds", 2, &tolerations))
            .await;
    }
    for (app, nodes) in [
        ("prefill", &["seeds-951-0"][..]),
        ("decode", &["seeds-951-0", "seeds-950-0"]),
    ] {
        for (pod, seen) in world.until_running(app, 2).await {
            assert!(
                nodes.contains(&seen.node.as_str()),
                "{}: {pod}: {seen:?}",
                world.name
            );
            let bound = Moment {
                before: seen.bound - Duration::from_millis(500),
                after: seen.bound,
            };
            let gone = world.until_gone(&pod).await;
            bound.check(world, &pod, gone, seconds[app]);
        }
        // Another one comes for it, for the value has not changed.
        world.until_running(app, 2).await;
    }
}

/// Values fall, and one rises in time.
async fn values_fall(world: &World) {
    let (mut pods, mut apps) = (BTreeMap::new(), Vec::new());
    for group in ["near", "deep", "rise"] {
        for (role, bound, seconds) in [
            ("prefill", "950", PREFILL_SECONDS),
            ("decode", "800", DECODE_SECONDS),
        ] {
            let app = format!("{role}-{group}");
            world
                .apply(&deployment(&app, group, 1, &patient(bound, seconds)))
                .await;
            apps.push(app);
        }
    }
    for app in apps {
        let running = world.until_running(&app, 1).await;
        pods.insert(app, running.into_keys().next().unwrap());
    }
    let near = world.set("near-990-0", "900").await;
    let deep = world.set("deep-990-0", "700").await;
    let rise = world.set("rise-990-0", "700").await;
    sleep_until(rise.before + Duration::from_secs(PREFILL_SECONDS - 8)).await;
    world.set("rise-990-0", "990").await;
    for (app, from, seconds) in [
        ("prefill-near", near, PREFILL_SECONDS),
        ("prefill-deep", deep, PREFILL_SECONDS),
        ("decode-deep", deep, DECODE_SECONDS),
    ] {
        let pod = &pods[app];
        from.check(world, pod, world.until_gone(pod).await, seconds);
    }
    sleep_until(rise.after + Duration::from_secs(DECODE_SECONDS) + LATE).await;
    for app in ["decode-near", "prefill-rise", "decode-rise"] {
        world.stays(&pods[app]);
    }
}

/// A `DaemonSet`'s pod leaves when the value falls, stays away, and is back when it rises.
async fn daemons(world: &World) {
    let template = template("daemon", "daemons", &json!([above("800", None)]));
    world.apply(&json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "daemon", "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": "daemon" } }, "template": template } })).await;
    let pod = world.until_one_runs("daemon").await;
    let fallen = world.set("daemons-990-0", "800").await;
    fallen.check(world, &pod, world.until_gone(&pod).await, 0);
    let stays_away = throughout(
        "no pod of the DaemonSet",
        Duration::from_secs(5),
        async || {
            let running = world.running("daemon").len();
            (running == 0)
                .then_some(())
                .ok_or_else(|| format!("{running} in {}", world.name))
        },
    );
    stays_away.await.unwrap();
    world.set("daemons-990-0", "801").await;
    world.until_running("daemon", 1).await;
}

/// Whoever evicts is restarted while a deadline runs, and the time begins again.
async fn restarts(world: &mut World) {
    world
        .apply(&deployment(
            "again",
            "again",
            1,
            &patient("950", AGAIN_SECONDS),
        ))
        .await;
    let pod = world.until_one_runs("again").await;
    let fallen = world.set("again-990-0", "900").await;
    sleep_until(fallen.before + Duration::from_secs(4)).await;
    let before = Instant::now();
    match &mut world.ours {
        Some(ours) => {
            ours.restart_control(&world.plane).await.unwrap();
            let (scrape, _) = world.scraped.as_ref().unwrap();
            scrape.add("control", &ours.control).await.unwrap();
        }
        None => world
            .plane
            .restart(Component::ControllerManager)
            .await
            .unwrap(),
    }
    let restarted = Moment {
        before,
        after: Instant::now(),
    };
    restarted.check(world, &pod, world.until_gone(&pod).await, AGAIN_SECONDS);
}

async fn story(mut world: World) -> World {
    tokio::join!(the_seeds(&world), values_fall(&world), daemons(&world));
    restarts(&mut world).await;
    if let Some((_, prometheus)) = &world.scraped {
        dashboards_show(prometheus).await;
    }
    world
}

/// The feature goes, and the service with it, until our programs come.
async fn rolled_back(mut world: World) {
    world.plane.set_feature_gate(GATE, false);
    for component in [
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
    ] {
        world.plane.restart(component).await.unwrap();
    }
    let pods = Api::<Pod>::namespaced(world.client.clone(), "default");
    let events = [
        "get",
        "events",
        "--field-selector=reason=FailedCreate",
        "--output=jsonpath={.items[*].message}",
    ];
    eventually(
        "no pod to be left, and none to be made",
        DEADLINE,
        async || {
            let left = pods
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let told = world
                .plane
                .kubectl(&events)
                .await
                .map_err(|error| error.to_string())?;
            if left.items.is_empty() && told.contains("Unsupported value: \"Gt\"") {
                Ok(())
            } else {
                Err(format!("{} left; {told}", left.items.len()))
            }
        },
    )
    .await
    .unwrap();
    let _ours = Everything::start(&mut world.plane, &json!({}))
        .await
        .unwrap();
    // The templates keep their numbers. Their controller waits longer after each failure, unless it
    // is told something.
    for (app, nodes) in [
        ("prefill", &["seeds-951-0"][..]),
        ("decode", &["seeds-951-0", "seeds-950-0"]),
    ] {
        let scaled = ["scale", "deployment", app, "--replicas=3"];
        world.plane.kubectl(&scaled).await.unwrap();
        for (pod, seen) in world.until_running(app, 3).await {
            assert!(nodes.contains(&seen.node.as_str()), "{pod}: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefill_and_decode_keep_to_their_nodes_with_the_feature_and_with_us() {
    let worlds = tokio::join!(World::start("native", true), World::start("ours", false));
    let (native, ours) = (Box::pin(story(worlds.0)), Box::pin(story(worlds.1)));
    let (native, ours) = tokio::join!(native, ours);
    let programs = ours.ours.as_ref().unwrap();
    let served = programs
        .extender
        .log()
        .matches("certificate served")
        .count();
    assert!(
        served >= 3,
        "the scheduler was to see several certificates: {served}"
    );
    for process in [
        &programs.webhook.process,
        &programs.extender,
        &programs.control,
    ] {
        let log = process.log();
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
    let scheduler = ours.plane.process(Component::Scheduler).unwrap().log();
    assert!(!scheduler.contains("x509"), "{scheduler}");
    drop(ours);
    rolled_back(native).await;
}
