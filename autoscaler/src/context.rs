//! What every pass shares: clients, flags, metrics, leadership, and the memory of every object.
//!
//! Memory is kept here between passes and in status for the next leader; after a start it is read
//! from status once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use pd_core::{Memory, PerRole};
use pd_runtime::leader::Leadership;
use tokio::sync::watch;

use crate::{
    args::{DecisionArgs, PrometheusArgs},
    metrics::Metrics,
    observe::profile::CachedPart,
    prometheus::Servers,
};

/// Namespace and name of a PDAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is kept of an object between passes.
#[derive(Clone, Debug, Default)]
pub struct ObjectState {
    /// Memory of the decision core; nothing before the first decision of this process.
    pub memory: Option<Memory>,
    /// Performance profiles as last read.
    pub profiles: PerRole<Option<CachedPart>>,
    /// Generation and annotations that the last pass saw.
    pub seen: Option<(Option<i64>, BTreeMap<String, String>)>,
    /// When the last pass ended.
    pub passed_at: Option<Instant>,
    /// When status was last written.
    pub written_at: Option<Instant>,
}

/// Shared by all passes.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// When to decide.
    pub decision_args: DecisionArgs,
    /// Where metrics come from.
    pub prometheus_args: PrometheusArgs,
    /// Prometheus clients.
    pub servers: Servers,
    /// Own metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process may write.
    pub leadership: watch::Receiver<Leadership>,
    /// Writes events.
    pub events: Recorder,
    objects: Mutex<BTreeMap<ObjectKey, ObjectState>>,
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
        prometheus_args: PrometheusArgs,
        servers: Servers,
        metrics: Arc<Metrics>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        let reporter = Reporter {
            controller: crate::NAME.to_owned(),
            instance: None,
        };
        let events = Recorder::new(client.clone(), reporter);
        let objects = Mutex::default();
        Self {
            client,
            decision_args,
            prometheus_args,
            servers,
            metrics,
            leadership,
            events,
            objects,
        }
    }

    /// Whether this process may write now.
    pub fn is_leader(&self) -> bool {
        self.leadership.borrow().is_leader()
    }

    /// What `read` makes of what is kept of `key`; nothing if nothing is kept.
    pub fn read<T>(
        &self,
        key: &ObjectKey,
        read: impl FnOnce(&ObjectState) -> Option<T>,
    ) -> Option<T> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).and_then(read)
    }

    /// Changes what is kept of `key`.
    pub fn update(&self, key: &ObjectKey, change: impl FnOnce(&mut ObjectState)) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        change(objects.entry(key.clone()).or_default());
    }

    /// Forgets `key`, which is gone, and its metrics.
    pub fn forget(&self, key: &ObjectKey) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.remove(key);
        self.metrics.forget(key);
    }

    /// Forgets everything: another process leads now, and status will have its memory.
    pub fn forget_all(&self) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        for key in std::mem::take(&mut *objects).keys() {
            self.metrics.forget(key);
        }
    }
}
