//! Clients, flags, metrics, leadership and the clock that all reconciles share, and the memory of
//! every object.
//!
//! Memory is kept here between reconciles, and in checkpoints for the next leader.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::jiff;
use kube::{
    Client,
    runtime::{
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};
use pd_api::v1alpha1::{MetricsSource, PDAutoscaler, PDAutoscalerStatus};
use pd_core::{Memory, PerRole, Timestamp};
use pd_runtime::leader::Leadership;
use tokio::{sync::watch, time::Instant};

use crate::{
    args::{DecisionArgs, MetricsArgs},
    cluster::Cluster,
    grouping::split::Splitter,
    metrics::Metrics,
    observe::{attainment::KeptAttainment, drain::Longest, profile::Cache, series::Series},
    placement::http::ask,
    placement::question::Ask,
    poller::{Poller, Settings, read::Reader},
    prometheus::{Answer, Endpoint, QueryError, Sample, Servers},
    selection::SelectionArgs,
    share::Shares,
    tenancy::TenancyArgs,
};

/// Tells the time of day.
pub type Clock = fn() -> jiff::Timestamp;

/// State of an object between reconciles.
#[derive(Clone, Debug, Default)]
pub struct ObjectState {
    /// Memory of the decision core and what it is about, an object's UID and the subject; nothing
    /// before the first decision of this process.
    pub memory: Option<((String, String), Memory)>,
    /// The object that keeps memory for the next process.
    pub checkpoint: CheckpointState,
    /// Performance profiles as last read.
    pub profiles: Cache,
    /// The login for a server that the object names, as last read.
    pub login: Option<CachedLogin>,
    /// Distributions over the attainment window, as last read.
    pub attainment: Option<KeptAttainment>,
    /// How its series are spelt, and how often they come.
    pub series: Series,
    /// The longest answer of late.
    pub longest_answer: Option<Longest>,
    /// Why the pods that go first could not be marked, when that was tried last.
    pub unmarked: Option<String>,
    /// Why metrics were missing, as last logged.
    pub logged: Option<String>,
    /// Replicas that the objective needs, as decided last; nothing while nothing is decided.
    pub need: Option<PerRole<Option<u32>>>,
    /// Generation and annotations that the last reconcile saw.
    pub seen: Option<(Option<i64>, BTreeMap<String, String>)>,
    /// When the next reconcile is due, unless the object changes.
    pub due: Option<Instant>,
    /// When the next reconcile is expected to begin, unless the object changes.
    pub expected_at: Option<Instant>,
    /// The last reconcile that began late.
    pub late: Option<Lateness>,
    /// When status was last written.
    pub written_at: Option<Instant>,
    /// Status as last written, for an object that cannot be decoded and shows none.
    pub written: Option<PDAutoscalerStatus>,
    /// Reconciles in a row that failed.
    pub failures: u32,
}

/// A reconcile that began late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    /// When it began.
    pub at: Instant,
    /// How long after its time that was.
    pub by: Duration,
}

/// A checkpoint as last seen.
#[derive(Clone, Debug, Default)]
pub struct CheckpointState {
    /// Its version as last read or written; none when there was none.
    pub version: Option<String>,
    /// The text last written, and when.
    pub written: Option<(String, Instant)>,
}

/// The login for a server that an object names, as last read from its Secrets.
#[derive(Clone, Debug)]
pub struct CachedLogin {
    /// The part of the spec that it is for.
    pub source: MetricsSource,
    /// The server with the login.
    pub endpoint: Endpoint,
    /// When its Secrets were read.
    pub read_at: Instant,
}

/// Shared by all reconciles.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Workloads, pods and other autoscalers, as watched.
    pub cluster: Cluster,
    /// When to decide.
    pub decision_args: DecisionArgs,
    /// Which objects are handled.
    pub selection: SelectionArgs,
    /// Where metrics come from.
    pub metrics_args: MetricsArgs,
    /// The requests that owners of objects may make.
    pub tenancy: TenancyArgs,
    /// The controller's own Prometheus server, if it has one.
    pub own_server: Option<Endpoint>,
    /// Reads objects that use that server together.
    pub poller: Poller,
    /// Prometheus clients.
    pub servers: Servers,
    /// Who says whether more replicas of a placement group have places, if anybody does.
    pub room: Option<Ask>,
    /// Own metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process may write.
    pub leadership: watch::Receiver<Leadership>,
    /// Writes events.
    pub events: Recorder,
    /// Each namespace's share of the reconciles that run at once.
    pub shares: Shares,
    /// The time of day, for decisions and status.
    pub clock: Clock,
    objects: Mutex<HashMap<ObjectRef<PDAutoscaler>, ObjectState>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context without any object.
    pub fn new(
        client: Client,
        decision_args: DecisionArgs,
        selection: SelectionArgs,
        metrics_args: MetricsArgs,
        tenancy: TenancyArgs,
        metrics: Arc<Metrics>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        let reporter = Reporter {
            controller: crate::NAME.to_owned(),
            instance: None,
        };
        let events = Recorder::new(client.clone(), reporter);
        let objects = Mutex::default();
        let server = &metrics_args.server;
        let room = decision_args.placement_url.clone();
        let room = room.map(ask);
        let servers = Servers::new(server.prometheus_timeout, crate::NAME, crate::VERSION);
        // Who watches one namespace has none to be fair to.
        let most = match decision_args.watch_namespace {
            Some(_) => decision_args.concurrency,
            None => decision_args.namespace_concurrency,
        };
        let own_server = server.endpoint();
        let settings = Settings {
            is_on: metrics_args.grouped_queries && own_server.is_some(),
            interval: decision_args.interval,
            timeout: server.prometheus_timeout,
            namespace_label: metrics_args.namespace_label.clone(),
            pod_label: metrics_args.pod_label.clone(),
            homes: metrics_args.gateway_namespaces.clone(),
        };
        Self {
            shares: Shares::new(most),
            tenancy,
            poller: Poller::new(settings),
            own_server,
            cluster: Cluster::new(client.clone(), decision_args.watch_namespace.clone()),
            client,
            decision_args,
            selection,
            metrics_args,
            servers,
            room,
            metrics,
            leadership,
            events,
            clock: jiff::Timestamp::now,
            objects,
        }
    }

    /// The time of day, as decisions take it.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis((self.clock)().as_millisecond())
    }

    /// The answer of `endpoint` to `query`, whose time is counted.
    pub async fn query(
        &self,
        endpoint: &Endpoint,
        query: &str,
    ) -> Result<Answer<Sample>, QueryError> {
        let started = Instant::now();
        let answer = self.servers.query(endpoint, query).await;
        self.metrics.query_took(started.elapsed());
        answer
    }

    /// Whether this process may write now.
    pub fn is_leader(&self) -> bool {
        self.leadership.borrow().is_leader()
    }

    /// Applies `read` to the state of `key`; nothing without a state.
    pub fn read<T>(
        &self,
        key: &ObjectRef<PDAutoscaler>,
        read: impl FnOnce(&ObjectState) -> Option<T>,
    ) -> Option<T> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).and_then(read)
    }

    /// Changes the state of `key`.
    pub fn update(&self, key: &ObjectRef<PDAutoscaler>, change: impl FnOnce(&mut ObjectState)) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        change(objects.entry(key.clone()).or_default());
    }

    /// Forgets `key`, which is gone, and its metrics.
    pub fn forget(&self, key: &ObjectRef<PDAutoscaler>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.remove(key);
        self.poller.forget(key);
        self.metrics.forget(key);
    }

    /// Forgets everything: another process leads now, and goes on from the checkpoints.
    pub fn forget_all(&self) {
        self.cluster.stop();
        self.poller.forget_all();
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        for key in std::mem::take(&mut *objects).keys() {
            self.metrics.forget(key);
        }
    }
}

/// Asks the controller's own server.
impl Reader for Context {
    fn read<'a>(
        &'a self,
        name: &'static str,
        query: &'a str,
        rows: &'a mut Splitter<'_>,
    ) -> BoxFuture<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let endpoint = self.own_server.as_ref().ok_or(NO_SERVER)?;
            let started = Instant::now();
            let answer = self.servers.stream(endpoint, (name, query), rows).await;
            self.metrics.query_took(started.elapsed());
            if let Err(error) = &answer {
                self.metrics.query_failed(error);
            }
            answer
        })
    }
}

/// Where to name a server.
pub const NO_SERVER: QueryError = QueryError::NoServer {
    remedy: "set `spec.metrics.source.serverUrl`, or start the controller with `--prometheus-url`",
};
