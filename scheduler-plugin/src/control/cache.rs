//! One watch of one kind of object, shared by all controllers: what there is, and what changed.
//!
//! [`Cache::store`] is the state, [`Cache::changes`] names what to look at again. A change is a
//! hint, not a history: a slow reader gets the hint to look at everything instead of being given
//! what it missed, and an object that is gone is named and not found. While the API server is away
//! the last known state stays, and [`Cache::failing_since`] says so: whoever acts on what is not
//! seen any more asks it first, or reads the object again.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use pd_runtime::{
    readiness::{Readiness, ReadinessHandle},
    shutdown::Shutdown,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

/// Changes that a reader may be behind before its hint is to look at everything.
const CHANGES_KEPT: usize = 4_096;

/// A kind of object that can be cached.
pub trait Cached:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Drops what no controller reads, before it is kept.
    fn prune(&mut self) {
        self.meta_mut().managed_fields = None;
        // The map stays if it was there: patches have to know whether it is.
        if let Some(annotations) = &mut self.meta_mut().annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
}

/// A hint: look at this again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CacheChange {
    /// This object, which may be gone.
    One {
        /// Its name.
        name: String,
        /// Its namespace, where the kind has them.
        namespace: Option<String>,
    },
    /// Everything: the list was made again, or changes were missed.
    All,
}

/// The objects of one kind. Clones share them.
#[derive(Debug, Clone)]
pub struct Cache<K: Cached> {
    store: Store<K>,
    changes: broadcast::Sender<CacheChange>,
    listed: watch::Receiver<bool>,
    failing_since: Arc<Mutex<Option<Instant>>>,
}

/// The writer of a [`Cache`], which fills it from a watch.
#[derive(Debug)]
pub struct CacheWriter<K: Cached> {
    writer: reflector::store::Writer<K>,
    changes: broadcast::Sender<CacheChange>,
    listed: watch::Sender<bool>,
    failing_since: Arc<Mutex<Option<Instant>>>,
}

/// Hints of one reader.
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<CacheChange>);

impl Changes {
    /// The next hint; pending for ever once the cache is no longer filled. Cancel-safe.
    pub async fn next(&mut self) -> CacheChange {
        match self.0.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.0 = self.0.resubscribe();
                CacheChange::All
            }
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl<K: Cached> Cache<K> {
    /// An empty cache, and what fills it.
    pub fn new() -> (Self, CacheWriter<K>) {
        let (store, writer) = reflector::store();
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (listing, listed) = watch::channel(false);
        let failing_since = Arc::<Mutex<Option<Instant>>>::default();
        let cache_writer = CacheWriter {
            writer,
            changes: changes.clone(),
            listed: listing,
            failing_since: failing_since.clone(),
        };
        let cache = Self {
            store,
            changes,
            listed,
            failing_since,
        };
        (cache, cache_writer)
    }

    /// A cache that follows the cluster from now on, with a readiness check called `name`.
    pub fn followed(
        client: &Client,
        shutdown: &Shutdown,
        readiness: &Readiness,
        name: &'static str,
    ) -> Self {
        let (cache, writer) = Self::new();
        let ready = readiness.register(name);
        shutdown.spawn_until_stopped(name, writer.follow(client.clone(), ready));
        cache
    }

    /// The objects as last seen.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// The object of a name, and of a namespace where the kind has them.
    pub fn get(&self, name: &str, namespace: Option<&str>) -> Option<Arc<K>> {
        let mut key = ObjectRef::new(name);
        if let Some(namespace) = namespace {
            key = key.within(namespace);
        }
        self.store.get(&key)
    }

    /// Hints from now on. Subscribe before the first look at the store, so that nothing falls
    /// between.
    pub fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }

    /// Completes once everything was listed. Pending for ever if that never happens.
    pub async fn listed(&self) {
        let mut listed = self.listed.clone();
        if listed.wait_for(|listed| *listed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether everything was listed.
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Since when the watch fails; nothing while it works.
    pub fn failing_since(&self) -> Option<Instant> {
        *self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Cached> CacheWriter<K> {
    /// Follows the cluster until the future is dropped, and reports through `ready` when everything
    /// is listed.
    pub async fn follow(self, client: Client, ready: ReadinessHandle) {
        let kind = K::plural(&());
        ready.set_waiting(format!("the {kind} are not listed yet"));
        // A watch that goes on after an error says nothing until something changes, and till then
        // nobody knows that it works again. A list says so at once.
        let watches = stream::unfold(None, move |watch| {
            let api = Api::<K>::all(client.clone());
            async move {
                let mut watch =
                    watch.unwrap_or_else(|| Box::pin(watcher(api, watcher::Config::default())));
                let event = watch.next().await?;
                let goes_on = event.is_ok();
                Some((event, goes_on.then_some(watch)))
            }
        });
        let events = watches.default_backoff().modify(K::prune);
        self.apply(events, &ready).await;
    }

    async fn apply(
        self,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
        ready: &ReadinessHandle,
    ) {
        let kind = K::plural(&());
        let mut events = std::pin::pin!(events.reflect(self.writer));
        while let Some(event) = events.next().await {
            let change = match event {
                // A list that begins shows nothing: each try begins one, whether it comes to
                // anything or not.
                Ok(Event::Init | Event::InitApply(_)) => continue,
                Ok(Event::Apply(object) | Event::Delete(object)) => CacheChange::One {
                    name: object.name_any(),
                    namespace: object.namespace(),
                },
                Ok(Event::InitDone) => CacheChange::All,
                Err(error) => {
                    if set(&self.failing_since, true) {
                        tracing::warn!(%error, kind = %kind, "cannot be watched, the last known state is used");
                    }
                    if !*self.listed.borrow() {
                        ready.set_waiting(format!("the {kind} cannot be listed: {error}"));
                    }
                    continue;
                }
            };
            set(&self.failing_since, false);
            if change == CacheChange::All {
                tracing::info!(kind = %kind, "listed");
                self.listed.send_replace(true);
                ready.set_ready();
            }
            // Nobody has to listen.
            let _ = self.changes.send(change);
        }
    }
}

/// Notes whether the watch fails, and returns whether that has just begun.
fn set(since: &Mutex<Option<Instant>>, fails: bool) -> bool {
    let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
    let begins = fails && since.is_none();
    *since = if fails {
        since.or_else(|| Some(Instant::now()))
    } else {
        None
    };
    begins
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pd_runtime::{
        readiness::{Check, Readiness},
        shutdown::Shutdown,
    };
    use serde_json::json;

    use super::*;
    use crate::control::objects::WatchedNode;

    fn node(name: &str, value: &str) -> WatchedNode {
        let taint = json!({ "key": "sla", "value": value, "effect": "NoExecute" });
        serde_json::from_value(
            json!({ "metadata": { "name": name, "managedFields": [] }, "spec": { "taints": [taint] } }),
        )
        .unwrap()
    }

    fn one(name: &str) -> CacheChange {
        CacheChange::One {
            name: name.to_owned(),
            namespace: None,
        }
    }

    fn filled(names: &[&str]) -> Vec<Event<WatchedNode>> {
        let mut events = vec![Event::Init];
        events.extend(names.iter().map(|name| Event::InitApply(node(name, "1"))));
        events.push(Event::InitDone);
        events
    }

    async fn fill(
        events: Vec<Result<Event<WatchedNode>, watcher::Error>>,
    ) -> (Cache<WatchedNode>, Changes, Check) {
        let readiness = Readiness::new(Shutdown::new(Duration::ZERO).stopping());
        let ready = readiness.register("nodes");
        let (cache, cache_writer) = Cache::new();
        let changes = cache.changes();
        cache_writer.apply(stream::iter(events), &ready).await;
        (cache, changes, readiness.report().checks["nodes"].clone())
    }

    #[tokio::test]
    async fn changes_are_named_after_the_store_has_them() {
        let mut events = filled(&["a", "b"]);
        events.push(Event::Apply(node("a", "2")));
        events.push(Event::Delete(node("b", "1")));
        let (cache, mut changes, check) = fill(events.into_iter().map(Ok).collect()).await;
        assert_eq!(check, Check::Ready);
        assert_eq!(changes.next().await, CacheChange::All);
        assert_eq!(changes.next().await, one("a"));
        assert_eq!(changes.next().await, one("b"));
        assert_eq!(cache.get("a", None).unwrap().taints()[0].value, "2");
        assert!(cache.get("b", None).is_none());
        cache.listed().await;
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_to_look_at_everything() {
        let mut events = filled(&["a"]);
        events.extend((0..=CHANGES_KEPT).map(|_| Event::Apply(node("a", "2"))));
        let (_cache, mut changes, _) = fill(events.into_iter().map(Ok).collect()).await;
        assert_eq!(changes.next().await, CacheChange::All);
    }

    #[tokio::test]
    async fn a_failing_watch_is_known_and_before_the_first_list_nothing_is_ready() {
        let failure = || Err(watcher::Error::NoResourceVersion);
        let (cache, _, check) = fill(vec![failure()]).await;
        assert!(matches!(check, Check::Waiting { reason } if reason.contains("cannot be listed")));
        assert!(cache.failing_since().is_some());
        let mut events: Vec<_> = filled(&["a"]).into_iter().map(Ok).collect();
        events.push(failure());
        let (cache, _, check) = fill(events.clone_events()).await;
        assert_eq!(check, Check::Ready);
        assert!(cache.failing_since().is_some() && cache.get("a", None).is_some());
        let mut seen_again = events.clone_events();
        seen_again.push(Ok(Event::Apply(node("a", "3"))));
        let (cache, _, _) = fill(seen_again).await;
        assert!(cache.failing_since().is_none());
        // A try to list that is under way, or has failed.
        events.extend([Ok(Event::Init), Ok(Event::InitApply(node("a", "1")))]);
        let (cache, _, _) = fill(events.clone_events()).await;
        assert!(cache.failing_since().is_some());
        events.push(Ok(Event::InitDone));
        let (cache, _, _) = fill(events).await;
        assert!(cache.failing_since().is_none());
    }

    trait CloneEvents {
        fn clone_events(&self) -> Self;
    }

    impl CloneEvents for Vec<Result<Event<WatchedNode>, watcher::Error>> {
        fn clone_events(&self) -> Self {
            self.iter()
                .map(|event| match event {
                    Ok(event) => Ok(event.clone()),
                    Err(_) => Err(watcher::Error::NoResourceVersion),
                })
                .collect()
        }
    }
}
