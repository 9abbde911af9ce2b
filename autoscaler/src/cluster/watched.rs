//! One kind of object as watched, and how far what is known of it can be believed.
//!
//! The watch is made of the client's own list and watch requests, for the runtime's watcher hides
//! what freshness is known by: that a watch has begun, and that one still lives. A watch lasts a
//! minute, so that a connection that died in silence is noticed within it. After an error the
//! watch goes on from where it was; everything is listed again only when the server no longer
//! knows that moment.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
    core::Status,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::answer::within_limit;

/// How long a watch lasts before it is made again.
const WATCH: Duration = Duration::from_mins(1);
/// Silence after the end of a watch's time that means that its connection is dead.
const WATCH_GRACE: Duration = Duration::from_secs(5);
/// How long readers wait for a watch that has just broken: a restart of the API server's process
/// behind a load balancer takes less.
const RECOVERY: Duration = Duration::from_secs(5);
/// How long a watch is silent, and not broken, when it works.
const SETTLED: Duration = Duration::from_secs(1);
/// First pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after many failures in a row.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a kind that nobody reads is watched: many times the interval of reconciles.
const UNREAD_KEPT: Duration = Duration::from_mins(10);
/// Objects of one page of a list, as client-go's.
const PAGE: u32 = 500;

/// Why what is watched cannot be relied upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// The cluster serves no such kind.
    #[error("the cluster serves no {kind}: install the CustomResourceDefinition")]
    Absent {
        /// The kind, in plural.
        kind: String,
    },
    /// The controller has no right to see it.
    #[error("{kind} cannot be watched: {cause}; give the controller the rights list and watch")]
    Forbidden {
        /// The kind, in plural.
        kind: String,
        /// The API server's words.
        cause: String,
    },
    /// They were not listed yet.
    #[error("{kind} cannot be listed: {cause}")]
    Unlisted {
        /// The kind, in plural.
        kind: String,
        /// The fault.
        cause: String,
    },
    /// They were listed, and the watch is broken since.
    #[error("{kind} were last seen {} s ago, and the watch fails: {cause}", age.as_secs())]
    Stale {
        /// The kind, in plural.
        kind: String,
        /// Time since they were last known to be as they are.
        age: Duration,
        /// The fault.
        cause: String,
    },
}

/// The part of a kind that is kept.
pub(super) trait Store: Default + Send + Sync + 'static {
    /// Objects as the API server gives them.
    type Object: Resource + Clone + Debug + DeserializeOwned + Send + 'static;

    /// Keeps what matters of `object`, in place of what was kept of it.
    fn put(&mut self, object: Self::Object);

    /// Forgets `object`.
    fn remove(&mut self, object: &Self::Object);
}

/// Namespace and name of an object.
pub(super) type Key = (Box<str>, Box<str>);

/// The key of `object`.
pub(super) fn key<K: Resource>(object: &K) -> Key {
    let namespace = object.namespace().unwrap_or_default();
    (namespace.into(), object.name_any().into())
}

/// A store that a watch fills.
#[derive(Debug)]
pub(super) struct Watched<S> {
    kind: String,
    store: RwLock<S>,
    health: watch::Sender<Health>,
    read_at: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Health {
    is_listed: bool,
    /// When the server last showed that the store is as the cluster is.
    seen_at: Option<Instant>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    code: Option<u16>,
    cause: String,
}

impl<S: Default> Watched<S> {
    /// Nothing of `kind`, in plural, yet.
    pub(super) fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            store: RwLock::default(),
            health: watch::Sender::default(),
            read_at: Mutex::new(Instant::now()),
        }
    }
}

impl<S> Watched<S> {
    /// The finding of `read` in the store, once it has been seen. Waits for the first list, and a
    /// moment for a watch that has just broken.
    pub(super) async fn read<T>(&self, read: impl FnOnce(&S) -> T) -> Result<T, Unseen> {
        *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.seen().await?;
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(read(&store))
    }

    async fn seen(&self) -> Result<(), Unseen> {
        let mut health = self.health.subscribe();
        loop {
            let wait = self.judge(&health.borrow_and_update())?;
            let Some(wait) = wait else {
                return Ok(());
            };
            // Neither a timeout nor an end of the watch is an answer: look again.
            let _ = timeout(wait, health.changed()).await;
        }
    }

    /// Whether the store can be relied upon, or how long to wait until it can.
    fn judge(&self, health: &Health) -> Result<Option<Duration>, Unseen> {
        let Some(failure) = &health.failure else {
            // A list is bounded by its own limits.
            return Ok((!health.is_listed).then_some(WATCH));
        };
        let (kind, cause) = (self.kind.clone(), failure.cause.clone());
        match failure.code {
            Some(404) => Err(Unseen::Absent { kind }),
            Some(401 | 403) => Err(Unseen::Forbidden { kind, cause }),
            _ if !health.is_listed => Err(Unseen::Unlisted { kind, cause }),
            _ => {
                let left = RECOVERY.checked_sub(failure.since.elapsed());
                let left = left.filter(|left| !left.is_zero());
                let age = health.seen_at.map_or(Duration::MAX, |at| at.elapsed());
                left.map(Some).ok_or(Unseen::Stale { kind, age, cause })
            }
        }
    }

    fn is_unread(&self) -> bool {
        let at = *self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.elapsed() >= UNREAD_KEPT
    }

    /// The server has just shown that the store is as the cluster is.
    fn was_seen(&self) {
        self.health.send_if_modified(|health| {
            health.seen_at = Some(Instant::now());
            let recovers = health.failure.is_some() || !health.is_listed;
            if recovers {
                info!(kind = self.kind, "watched");
            }
            (health.failure, health.is_listed) = (None, true);
            recovers
        });
    }

    fn failed(&self, fault: &Fault) {
        self.health.send_modify(|health| {
            let since = if let Some(failure) = &health.failure {
                failure.since
            } else {
                warn!(error = fault.cause, kind = self.kind, "cannot be watched");
                Instant::now()
            };
            health.failure = Some(Failure {
                since,
                code: fault.code,
                cause: fault.cause.clone(),
            });
        });
    }
}

impl<S: Store> Watched<S> {
    /// Lists everything, and gives the moment from which to watch.
    async fn list(&self, api: &Api<S::Object>) -> Result<String, Fault> {
        let mut store = S::default();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = within_limit(api.list(&params)).await?;
            for object in page.items {
                store.put(object);
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
                self.was_seen();
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Watches from `version` on, and moves it, until the watch ends.
    async fn watch(&self, api: &Api<S::Object>, version: &mut String) -> Result<(), Fault> {
        let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default().timeout(seconds);
        let changes = within_limit(api.watch(&params, version)).await?;
        let mut changes = std::pin::pin!(changes.peekable());
        // A server that cannot be relied upon may answer and then send what is no change.
        match timeout(SETTLED, changes.as_mut().peek()).await {
            Err(_) => self.was_seen(),
            Ok(None) => return Err(Fault::ended()),
            Ok(Some(_)) => {}
        }
        // A silent connection is as good as one that ended: the next watch shows whether it works.
        while let Ok(Some(change)) = timeout(WATCH + WATCH_GRACE, changes.next()).await {
            match change? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    self.change(|store| store.put(object));
                }
                WatchEvent::Deleted(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    self.change(|store| store.remove(&object));
                }
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    self.was_seen();
                }
                WatchEvent::Error(status) => return Err(Fault::of(&status)),
            }
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.store.write().unwrap_or_else(PoisonError::into_inner));
        self.was_seen();
    }
}

/// A request that failed.
#[derive(Debug)]
struct Fault {
    code: Option<u16>,
    cause: String,
}

impl Fault {
    fn ended() -> Self {
        Self {
            code: None,
            cause: "the API server ended the watch at once".to_owned(),
        }
    }

    fn of(status: &Status) -> Self {
        Self {
            code: Some(status.code),
            cause: format!("{} ({})", status.message, status.code),
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of(&status),
            // A group that is not there, or a kind that is not in it.
            kube::Error::Discovery(error) => Self {
                code: Some(404),
                cause: error.to_string(),
            },
            other => Self {
                code: None,
                cause: pd_runtime::kubernetes::error_message(&other),
            },
        }
    }
}

/// Fills `watched` from the objects of the API that `find` finds, until nobody reads them any more.
pub(super) async fn follow<S: Store, F>(watched: Arc<Watched<S>>, find: impl Fn() -> F)
where
    F: Future<Output = Result<Api<S::Object>, kube::Error>>,
{
    let mut version = None;
    let mut pause = PAUSE;
    while !watched.is_unread() {
        match pass(&watched, &find, &mut version).await {
            Ok(()) => pause = PAUSE,
            Err(fault) => {
                // The server no longer knows the moment from which to go on, or the kind is gone.
                if matches!(fault.code, Some(404 | 410)) {
                    version = None;
                }
                watched.failed(&fault);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// One watch, after a list where none says from when on.
async fn pass<S: Store, F>(
    watched: &Watched<S>,
    find: &impl Fn() -> F,
    version: &mut Option<String>,
) -> Result<(), Fault>
where
    F: Future<Output = Result<Api<S::Object>, kube::Error>>,
{
    let api = find().await?;
    let version = match version {
        Some(version) => version,
        None => version.insert(watched.list(&api).await?),
    };
    watched.watch(&api, version).await
}
