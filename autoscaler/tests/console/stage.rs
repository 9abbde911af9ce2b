//! A console over objects that a test makes, with an hour of their history.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicI64, Ordering},
};

use axum::Router;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{
    reflector::{self, store::Writer},
    watcher::Event,
};
use pd_autoscaler::{
    Guarded,
    console::{
        source::{About, Need, Source},
        web,
    },
    selection::SelectionArgs,
};
use pd_core::PerRole;
use pd_runtime::leader::Leadership;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::Instant};

/// 2026-11-30T12:00:00Z, at which the samples' ages are those of an hour's work.
const NOW: i64 = 1_796_040_000;

/// Seconds since 1970. Tests share it, and none depends on it.
static CLOCK: AtomicI64 = AtomicI64::new(NOW);

fn clock() -> Timestamp {
    Timestamp::from_second(CLOCK.load(Ordering::Relaxed)).unwrap()
}

/// Objects as the controller leaves them; those of the kubectl plugin's documentation.
const SAMPLES: [&str; 5] = [
    include_str!("../../../kubectl-pd/fixtures/objects/limited.yaml"),
    include_str!("../../../kubectl-pd/fixtures/objects/steady.yaml"),
    include_str!("../../../kubectl-pd/fixtures/objects/recommended.yaml"),
    include_str!("../../../kubectl-pd/fixtures/objects/untargeted.yaml"),
    include_str!("../../../kubectl-pd/fixtures/objects/unmeasured.yaml"),
];

/// The sample of that number under another name, which is its UID too.
pub(crate) fn sample(number: usize, namespace: &str, name: &str) -> Value {
    static PARSED: LazyLock<[Value; SAMPLES.len()]> =
        LazyLock::new(|| SAMPLES.map(|text| serde_saphyr::from_str(text).unwrap()));
    let mut object = PARSED[number % SAMPLES.len()].clone();
    let metadata = &mut object["metadata"];
    (metadata["namespace"], metadata["name"]) = (namespace.into(), name.into());
    metadata["uid"] = format!("{namespace}/{name}").into();
    object
}

/// A console, and the hand that fills it.
pub(crate) struct Stage {
    pub(crate) source: Arc<Source>,
    writer: Writer<Guarded>,
    leadership: watch::Sender<Leadership>,
}

impl Stage {
    /// Without objects, which are listed.
    pub(crate) fn new() -> Self {
        Self::of(SelectionArgs::default())
    }

    /// With those that `selection` includes.
    pub(crate) fn of(selection: SelectionArgs) -> Self {
        let leading = Leadership::Leading {
            since: Instant::now(),
            until: None,
        };
        let (leadership, receiver) = watch::channel(leading);
        let (objects, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let about = About {
            identity: Some("pd-autoscaler-7d9c5b6f4-x2x8k".to_owned()),
            namespace: None,
            selection,
        };
        let source = Source::new(about, objects, receiver, clock);
        source.report(None);
        Self {
            source: Arc::new(source),
            writer,
            leadership,
        }
    }

    /// Another process leads from now on.
    pub(crate) fn follow(&self, leader: Option<&str>) {
        let leader = leader.map(str::to_owned);
        self.leadership
            .send_replace(Leadership::Following { leader });
    }

    /// The object is there as it is, or as it is now.
    pub(crate) fn put(&mut self, object: &Value) {
        let object: Guarded = serde_json::from_value(object.clone()).unwrap();
        self.writer.apply_watcher_event(&Event::Apply(object));
    }

    pub(crate) fn delete(&mut self, object: &Value) {
        let object: Guarded = serde_json::from_value(object.clone()).unwrap();
        self.writer.apply_watcher_event(&Event::Delete(object));
    }

    /// A point for every object, with a need of that many replicas of each role.
    pub(crate) fn tick(&self, need: Option<u32>) {
        let need: Option<Need> = need.map(|need| PerRole::from_fn(|_| Some(need)));
        self.source.sample(|_| need);
        CLOCK.fetch_add(30, Ordering::Relaxed);
    }

    /// Five objects in two namespaces, and an hour in which the work of the first rose.
    pub(crate) fn with_an_hour() -> Self {
        let mut stage = Self::new();
        let names = [
            ("inference", "llama-70b"),
            ("inference", "qwen-32b"),
            ("inference", "deepseek-r1"),
            ("research", "mixtral-8x7b"),
            ("research", "phi-4"),
        ];
        let mut objects: Vec<Value> = (names.into_iter().enumerate())
            .map(|(number, (namespace, name))| sample(number, namespace, name))
            .collect();
        for minute in 0..60_u32 {
            for object in objects.iter_mut().take(3) {
                work(object, minute);
                stage.put(object);
            }
            for object in &objects[3..] {
                stage.put(object);
            }
            // Nothing is decided at first: then the need is not known.
            let need = (minute > 5).then(|| 5 + minute / 5);
            stage.tick(need);
            stage.tick(need);
        }
        stage
    }

    pub(crate) fn router(&self) -> Router {
        web::router(Arc::clone(&self.source), &[])
    }

    /// Serves the console on a free port of this machine, and returns its address.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }
}

/// Status of `object` in that minute of an hour in which work rises.
fn work(object: &mut Value, minute: u32) {
    let status = &mut object["status"];
    let wave = [0, 1, 2, 2, 1, 0][(minute as usize / 4) % 6];
    let desired = 3 + minute / 8 + wave;
    let ready = desired.saturating_sub(u32::from(minute % 8 < 3));
    for role in ["prefill", "decode"] {
        let more = if role == "decode" { 2 } else { 0 };
        let role = &mut status[role];
        role["desiredReplicas"] = (desired + more).into();
        role["currentReplicas"] = (desired + more).into();
        role["readyReplicas"] = (ready + more).into();
        role["startingReplicas"] = (desired - ready).into();
    }
    let kept = 99.8 - f64::from(minute % 16) / 5.0;
    status["attainment"]["ttftPercent"] = json!(format!("{kept:.2}"));
    status["attainment"]["tpotPercent"] = json!("99.91");
}
