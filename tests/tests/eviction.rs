//! Evictions on a real control plane: to the second as Kubernetes itself does them where it
//! compares numbers, and what restarts, disruption budgets and pods of the same name make of them.
//!
//! One story is played twice: with the feature gate on and nobody but Kubernetes, and with the gate
//! off, our controller and pods written here as the webhook writes them. Times are taken from
//! before a value is written, so that early would show.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test ends it"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    events::v1::Event,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use pd_tests::{
    binaries::workspace_binary,
    control_plane::{Component, ControlPlane, NodeSpec, Options, eventually, throughout},
    meter,
    supervisor::{Process, ProcessSpec},
};
use pd_tolerations::{
    Effect, Rule, Toleration,
    mirror::{constraints, lower},
    rewrite::{ANNOTATION, Authored, restore, rewrite},
};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep_until};

const DEADLINE: Duration = Duration::from_mins(1);
/// How late an eviction may be seen: this machine may be busy with other tests.
const LATE: Duration = Duration::from_secs(2);
const GATE: &str = "TaintTolerationComparisonOperators";
const SLA: &str = "node.kubernetes.io/sla";
const MARK: &str = "Taint manager: deleting due to NoExecute taint (taint node.kubernetes.io/sla=700:NoExecute is not tolerated: its value is not at least 801)";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Kubernetes compares them.
    Native,
    /// They are rewritten, as the webhook does it.
    Rewritten,
}

fn toleration(operator: &str, value: &str, seconds: Option<i64>) -> Toleration {
    Toleration {
        key: SLA.to_owned(),
        operator: operator.into(),
        value: value.to_owned(),
        effect: Effect::NoExecute,
        toleration_seconds: seconds,
    }
}

/// A pod's or template's metadata and spec.
fn body(numbers: Numbers, app: &str, tolerations: &[Toleration]) -> Value {
    let mut metadata = json!({ "labels": { "app": app } });
    let mut spec = json!({ "containers": [{ "name": "c", "image": "x" }], "terminationGracePeriodSeconds": 0, "tolerations": tolerations });
    let (rewritten, originals) = rewrite(tolerations);
    if numbers == Numbers::Rewritten && !originals.is_empty() {
        metadata["annotations"] = json!({ ANNOTATION: serde_json::to_string(&originals).unwrap() });
        spec["tolerations"] = json!(rewritten);
        let asked = restore(&rewritten, &originals).unwrap();
        let rules: Vec<Rule> = asked
            .iter()
            .map(|asked| Authored::rule(asked).unwrap())
            .collect();
        let terms = lower(None, &constraints(&rules).unwrap()).unwrap();
        spec["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
    }
    json!({ "metadata": metadata, "spec": spec })
}

/// When something was done: not before, and not after.
#[derive(Clone, Copy)]
struct Moment {
    before: Instant,
    after: Instant,
}

impl Moment {
    /// Checks that something else was seen `seconds` later, as exactly as can be told.
    fn check(self, what: &str, seen: Instant, seconds: u64) {
        let due = Duration::from_secs(seconds);
        let (least, most) = (
            seen.duration_since(self.after),
            seen.duration_since(self.before),
        );
        assert!(
            most >= due && least < due + LATE,
            "{what} after {least:?} to {most:?}, not {due:?}"
        );
    }
}

struct World {
    plane: ControlPlane,
    client: Client,
    numbers: Numbers,
}

impl World {
    async fn start(numbers: Numbers, nodes: &[&str]) -> Self {
        let mut options = Options::default();
        for prefix in nodes {
            options.nodes.push(NodeSpec {
                prefix: (*prefix).to_owned(),
                ..NodeSpec::default()
            });
        }
        let on = numbers == Numbers::Native;
        options.feature_gates.insert(GATE.to_owned(), on);
        let plane = ControlPlane::start(options).await.unwrap();
        let client = plane.client().await.unwrap();
        Self {
            plane,
            client,
            numbers,
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn pod(&self, name: &str, node: &str, tolerations: &[Toleration]) {
        self.pod_with(name, node, tolerations, &json!({})).await;
    }

    async fn pod_with(&self, name: &str, node: &str, tolerations: &[Toleration], metadata: &Value) {
        let mut pod = body(self.numbers, name, tolerations);
        pod["metadata"]["name"] = json!(name);
        json_patch::merge(&mut pod["metadata"], metadata);
        pod["spec"]["nodeName"] = json!(format!("{node}-0"));
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
    }

    /// Gives a node its only taint, and returns the moments before and after.
    async fn value(&self, node: &str, value: Option<&str>) -> Moment {
        let before = Instant::now();
        let taint = |value| json!([{ "key": SLA, "value": value, "effect": "NoExecute" }]);
        let patch = json!({ "spec": { "taints": value.map(taint) } });
        let (nodes, node) = (Api::<Node>::all(self.client.clone()), format!("{node}-0"));
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        nodes.patch(&node, &params, &patch).await.unwrap();
        Moment {
            before,
            after: Instant::now(),
        }
    }

    async fn control(&self, name: &str, flags: &[&str]) -> Process {
        let program = tokio::task::spawn_blocking(|| workspace_binary("pd-scheduler-plugin"))
            .await
            .unwrap()
            .unwrap();
        let kubeconfig = self.plane.kubeconfig().to_string_lossy().into_owned();
        let fixed = "control --admin-address=127.0.0.1:0 --leader-elect=false --kubeconfig";
        let arguments = fixed.split(' ').chain([kubeconfig.as_str()]);
        let arguments = arguments.chain(flags.iter().copied());
        let spec = ProcessSpec {
            name: name.to_owned(),
            program,
            arguments: arguments.map(str::to_owned).collect(),
            environment: Vec::new(),
            log: None,
        };
        let process = self.plane.spawn(spec).await.unwrap();
        eventually("the controllers to lead", DEADLINE, async || {
            let log = process.log();
            if log.contains("\"leading\"") {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await
        .unwrap();
        process
    }

    /// Checks the condition and the event of pod `mark`, in Kubernetes' words.
    async fn marked_and_told(&self) {
        let marked = self.pods().get("mark").await.unwrap();
        let conditions = marked.status.unwrap().conditions.unwrap();
        let mark = conditions
            .iter()
            .find(|one| one.type_ == "DisruptionTarget")
            .unwrap();
        assert_eq!(mark.reason.as_deref(), Some("DeletionByTaintManager"));
        assert_eq!(mark.message.as_deref(), Some(MARK));
        eventually("the event", DEADLINE, async || {
            let events = Api::<Event>::namespaced(self.client.clone(), "default");
            let events = events.list(&ListParams::default()).await.unwrap();
            let told = events.iter().any(|event| {
                event.reason.as_deref() == Some("TaintManagerEviction")
                    && event.note.as_deref().is_some_and(|note| {
                        note.starts_with("Marking for deletion Pod default/mark: taint")
                    })
            });
            if told { Ok(()) } else { Err("none".to_owned()) }
        })
        .await
        .unwrap();
    }

    /// Whether a pod runs and is not terminating.
    async fn stays(&self, name: &str) -> bool {
        let pod = self.pods().get_opt(name).await.unwrap();
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    async fn until_gone(&self, name: &str) {
        eventually(&format!("{name} to go"), DEADLINE, async || {
            if self.stays(name).await {
                Err("it stays".to_owned())
            } else {
                Ok(())
            }
        })
        .await
        .unwrap();
    }

    async fn stays_for(&self, name: &str, span: Duration) {
        throughout(&format!("{name} stays"), span, async || {
            let stays = self.stays(name).await;
            stays.then_some(()).ok_or_else(|| "it went".to_owned())
        })
        .await
        .unwrap();
    }

    /// Notes when pods go, of those that are there now or come later.
    async fn watch_pods(&self) -> Arc<Mutex<BTreeMap<String, Instant>>> {
        let gone = Arc::<Mutex<BTreeMap<String, Instant>>>::default();
        let (pods, noted) = (self.pods(), Arc::downgrade(&gone));
        let there = pods.list(&ListParams::default()).await.unwrap();
        let mut seen: Vec<String> = there.iter().map(kube::ResourceExt::name_any).collect();
        tokio::spawn(async move {
            let mut looks = interval(Duration::from_millis(40));
            while let Some(noted) = noted.upgrade() {
                looks.tick().await;
                if let Ok(list) = pods.list(&ListParams::default()).await {
                    let now = Instant::now();
                    let there: Vec<String> = list
                        .iter()
                        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                        .map(kube::ResourceExt::name_any)
                        .collect();
                    let mut noted = noted.lock().unwrap();
                    for name in seen.iter().filter(|name| !there.contains(name)) {
                        noted.entry(name.clone()).or_insert(now);
                    }
                    drop(noted);
                    seen.extend(there);
                }
            }
        });
        gone
    }
}

/// The story: pods, values, and when who is to go.
async fn play(world: &World) {
    let high = |seconds| toleration("Gt", "950", seconds);
    let low = |seconds| toleration("Gt", "800", seconds);
    world.pod("prefill", "calm", &[high(Some(3))]).await;
    world.pod("decode", "calm", &[low(Some(7))]).await;
    world.pod("prefill-drop", "drop", &[high(Some(9))]).await;
    world.pod("decode-drop", "drop", &[low(Some(9))]).await;
    for node in ["rise", "fall", "clear"] {
        world.pod(node, node, &[high(None), low(Some(6))]).await;
    }
    world
        .pod("stranger", "drop", &[toleration("Exists", "", None)])
        .await;
    world.pod("odd", "odd", &[low(None)]).await;
    let gone = world.watch_pods().await;
    let calm = world.value("calm", Some("960")).await;
    let drop = world.value("drop", Some("960")).await;
    let rise = world.value("rise", Some("900")).await;
    let clear = world.value("clear", Some("900")).await;
    world.value("fall", Some("960")).await;
    world.value("odd", Some("900")).await;
    sleep_until(rise.before + Duration::from_secs(2)).await;
    let dropped = world.value("drop", Some("900")).await;
    let fell = world.value("fall", Some("900")).await;
    sleep_until(clear.before + Duration::from_secs(3)).await;
    world.value("rise", Some("960")).await;
    world.value("clear", None).await;
    // Not a number: no toleration is about it.
    let odd = world.value("odd", Some("0900")).await;
    sleep_until(drop.before + Duration::from_secs(13)).await;

    let gone = gone.lock().unwrap().clone();
    let want = [
        ("prefill", Some((calm, 3))),
        ("decode", Some((calm, 7))),
        ("prefill-drop", Some((dropped, 0))),
        ("decode-drop", Some((drop, 9))),
        ("fall", Some((fell, 6))),
        ("odd", Some((odd, 0))),
        ("rise", None),
        ("clear", None),
        ("stranger", None),
    ];
    for (name, want) in want {
        let at = gone.get(name);
        match want {
            None => assert_eq!(at, None, "{name} went"),
            Some((from, seconds)) => {
                let at = at.unwrap_or_else(|| panic!("{name} stays: {gone:?}"));
                from.check(name, *at, seconds);
            }
        }
    }
}

/// A `DaemonSet`'s pod leaves when the value falls, stays away, and is back when it rises.
async fn play_daemons(world: &World) {
    let mut template = body(world.numbers, "daemon", &[toleration("Gt", "800", None)]);
    template["spec"]["nodeSelector"] = json!({ "kubernetes.io/hostname": "calm-0" });
    let daemons = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "daemon", "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": "daemon" } }, "template": template } });
    world.plane.apply(&daemons.to_string()).await.unwrap();
    let counted = async |want: usize| {
        let labelled = ListParams::default().labels("app=daemon");
        let pods = world.pods().list(&labelled).await.unwrap().items;
        let met = pods.len() == want;
        met.then_some(()).ok_or_else(|| format!("{pods:?}"))
    };
    let count = async |want: usize| {
        let awaited = format!("{want} pods of the DaemonSet");
        let reached = eventually(&awaited, DEADLINE, async || counted(want).await);
        reached.await.unwrap();
    };
    world.value("calm", Some("960")).await;
    count(1).await;
    world.value("calm", Some("700")).await;
    count(0).await;
    let stays_away = throughout(
        "no pod of the DaemonSet",
        Duration::from_secs(3),
        async || counted(0).await,
    );
    stays_away.await.unwrap();
    world.value("calm", Some("960")).await;
    count(1).await;
}

const NODES: [&str; 6] = ["calm", "drop", "rise", "fall", "clear", "odd"];

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_with_the_gate_evicts_at_these_seconds() {
    let world = World::start(Numbers::Native, &NODES).await;
    play(&world).await;
    play_daemons(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_gate_the_controller_evicts_at_the_same_seconds() {
    let world = World::start(Numbers::Rewritten, &NODES).await;
    let control = world.control("control", &[]).await;
    play(&world).await;
    play_daemons(&world).await;
    let log = control.log();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_start_clocks_again_unless_deadlines_are_persisted() {
    let world = World::start(Numbers::Rewritten, &["again", "kept"]).await;
    let tolerations = [
        toleration("Gt", "950", None),
        toleration("Gt", "800", Some(12)),
    ];
    for (node, flags) in [("again", &[][..]), ("kept", &["--eviction-persist"])] {
        world.pod(node, node, &tolerations).await;
        let control = world.control(&format!("{node}-a"), flags).await;
        let gone = world.watch_pods().await;
        let from = world.value(node, Some("900")).await;
        sleep_until(from.before + Duration::from_secs(4)).await;
        control.kill().await.unwrap();
        let before = Instant::now();
        let control = world.control(&format!("{node}-b"), flags).await;
        let restarted = Moment {
            before,
            after: Instant::now(),
        };
        let at = eventually(&format!("{node} to go"), DEADLINE, async || {
            let noted = gone.lock().unwrap().get(node).copied();
            noted.ok_or_else(|| "it stays".to_owned())
        })
        .await
        .unwrap();
        let base = if flags.is_empty() { restarted } else { from };
        base.check(node, at, 12);
        control.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_pods_are_marked_and_told_and_only_they_are_touched() {
    let world = World::start(Numbers::Rewritten, &["mark", "name", "away"]).await;
    let control = world.control("control", &[]).await;
    let (pods, low) = (world.pods(), toleration("Gt", "800", None));
    // A finalizer keeps the pod to be looked at.
    let held = json!({ "finalizers": ["pdautoscaler.io/test"] });
    world
        .pod_with("mark", "mark", std::slice::from_ref(&low), &held)
        .await;
    world.value("mark", Some("700")).await;
    world.until_gone("mark").await;
    world.marked_and_told().await;
    let unheld = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    pods.patch("mark", &PatchParams::default(), &unheld)
        .await
        .unwrap();

    // The deadline finds another pod of that name, while the controller was asleep. The emulated
    // kubelet deletes by name alone what it sees terminating, so it must leave the first pod alone:
    // its late request would take the second one.
    let spared = json!({ "annotations": { "tests.pdautoscaler.io/delete-after": "1h" } });
    world
        .pod_with(
            "name",
            "name",
            &[
                toleration("Gt", "950", None),
                toleration("Gt", "800", Some(3)),
            ],
            &spared,
        )
        .await;
    let lowered = world.value("name", Some("900")).await;
    eventually("a deadline", DEADLINE, async || {
        let page = meter::metrics(&control)
            .await
            .map_err(|error| error.to_string())?;
        let pending = page.value("pd_scheduler_plugin_evictions_pending", &[]);
        (pending == Some(1.0))
            .then_some(())
            .ok_or_else(|| format!("{pending:?}"))
    })
    .await
    .unwrap();
    control.pause().await.unwrap();
    pods.delete("name", &DeleteParams::default()).await.unwrap();
    world.pod("name", "name", std::slice::from_ref(&low)).await;
    let again = pods.get("name").await.unwrap().uid();
    sleep_until(lowered.after + Duration::from_secs(4)).await;
    control.resume().await.unwrap();
    world.stays_for("name", Duration::from_secs(3)).await;
    assert_eq!(pods.get("name").await.unwrap().uid(), again);

    // The API server is away when a pod is due, and the pod goes when it is back.
    world
        .pod(
            "away",
            "away",
            &[
                toleration("Gt", "950", None),
                toleration("Gt", "800", Some(3)),
            ],
        )
        .await;
    let lowered = world.value("away", Some("900")).await;
    world.plane.kill(Component::ApiServer).await.unwrap();
    sleep_until(lowered.after + Duration::from_secs(4)).await;
    world.plane.restart(Component::ApiServer).await.unwrap();
    world.until_gone("away").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disruption_budgets_and_groups_count_where_asked_for() {
    let world = World::start(Numbers::Rewritten, &["budget", "group", "other"]).await;
    let flags = ["--eviction-method=evict", "--eviction-group-label=group"];
    let _control = world.control("control", &flags).await;
    let low = [toleration("Gt", "800", None)];
    world.pod("budget", "budget", &low).await;
    let budget = json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "all", "namespace": "default" },
        "spec": { "maxUnavailable": 0, "selector": { "matchLabels": { "app": "budget" } } } });
    world.plane.apply(&budget.to_string()).await.unwrap();
    let budgets = Api::<PodDisruptionBudget>::default_namespaced(world.client.clone());
    eventually(
        "the disruption budget to count the pod",
        DEADLINE,
        async || {
            let status = budgets.get_status("all").await.unwrap().status;
            // A pod without a controller is healthy, and none is expected.
            let healthy = status.as_ref().map_or(0, |status| status.current_healthy);
            (healthy == 1)
                .then_some(())
                .ok_or_else(|| format!("{status:?}"))
        },
    )
    .await
    .unwrap();
    world.value("budget", Some("700")).await;
    world.stays_for("budget", Duration::from_secs(4)).await;
    let delete = ["delete", "poddisruptionbudget", "all"];
    world.plane.kubectl(&delete).await.unwrap();
    world.until_gone("budget").await;

    let member = json!({ "labels": { "group": "g" } });
    world.pod_with("first", "group", &low, &member).await;
    world.pod_with("second", "other", &low, &member).await;
    world
        .pod_with(
            "alone",
            "other",
            &low,
            &json!({ "labels": { "group": "h" } }),
        )
        .await;
    world.value("group", Some("700")).await;
    world.until_gone("first").await;
    world.until_gone("second").await;
    assert!(world.stays("alone").await);
}
