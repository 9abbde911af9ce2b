//! The cluster as watched: workloads, their pods, and other autoscalers, without a request.
//!
//! Reconciles read here; nothing here is written. A kind is watched from the first object that
//! names it, and no longer once none did for a while. The one idea is that a watch that is broken
//! is no answer: who reads what has not been seen, or not lately, is given an [`Unseen`] with its
//! age and cause, and nothing is decided on it. A kind that the cluster does not serve is no
//! fault of the others, and may come later.

pub mod objects;
pub mod pod_cause;
pub mod pod_phase;
pub mod pods;
pub mod scalers;
mod watched;

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::{Arc, Mutex},
};

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    discovery::pinned_kind,
};
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

pub use self::watched::Unseen;
use self::{
    objects::Objects,
    pods::{PodFacts, Pods},
    scalers::Scalers,
    watched::{Store, Watched, follow},
};
use crate::{answer::within_limit, lock::locked};

/// The objects of a cluster, as watched.
pub struct Cluster {
    client: Client,
    /// The namespace that is watched; all of them without one.
    namespace: Option<String>,
    objects: Mutex<HashMap<GroupVersionKind, Running<Objects>>>,
    pods: Mutex<Option<Running<Pods>>>,
    horizontal: Mutex<Option<Running<Scalers>>>,
    scaled_objects: Mutex<Option<Running<Scalers>>>,
}

impl Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// A store with the task that fills it.
struct Running<S> {
    watched: Arc<Watched<S>>,
    task: AbortOnDropHandle<()>,
}

/// Why an object is not there to be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Its kind was not seen.
    #[error(transparent)]
    Unseen(#[from] Unseen),
    /// It does not decode.
    #[error("it does not decode: {0}")]
    Undecodable(#[from] serde_json::Error),
}

impl Cluster {
    /// The cluster behind `client`, or its `namespace` alone. Nothing is watched yet.
    pub fn new(client: Client, namespace: Option<String>) -> Self {
        Self {
            client,
            namespace,
            objects: Mutex::default(),
            pods: Mutex::default(),
            horizontal: Mutex::default(),
            scaled_objects: Mutex::default(),
        }
    }

    /// The object `name` of `kind` in `namespace`, as `T`; nothing if there is none. It holds the
    /// fields that [`objects`] keeps.
    pub async fn object<T: DeserializeOwned>(
        &self,
        kind: &GroupVersionKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, ObjectError> {
        let watched = {
            let mut kinds = locked(&self.objects);
            kinds.retain(|_, running| !running.task.is_finished());
            let running = kinds.entry(kind.clone());
            let running = running.or_insert_with(|| self.watch_kind(kind));
            Arc::clone(&running.watched)
        };
        let found = watched.read(|objects| objects.get(namespace, name)).await?;
        Ok(match found {
            Some(text) => Some(serde_json::from_slice(&text)?),
            None => None,
        })
    }

    /// The pods in `namespace` whose names begin with `prefix` and that are `wanted`, by name.
    pub async fn pods(
        &self,
        namespace: &str,
        prefix: &str,
        wanted: impl Fn(&PodFacts) -> bool,
    ) -> Result<Vec<PodFacts>, Unseen> {
        let watched = current(&self.pods, || {
            self.run("pods", |client, namespace| async move {
                Ok(match namespace {
                    Some(namespace) => Api::<Pod>::namespaced(client, &namespace),
                    None => Api::<Pod>::all(client),
                })
            })
        });
        watched
            .read(|pods| pods.find(namespace, prefix, wanted))
            .await
    }

    /// The autoscaler of Kubernetes that scales the workload `name` of `kind` in `namespace`.
    pub async fn horizontal_autoscaler(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, Unseen> {
        let watched = current(&self.horizontal, || {
            let kind = ApiResource::erase::<HorizontalPodAutoscaler>(&());
            self.watch_scalers("HorizontalPodAutoscalers", kind)
        });
        watched
            .read(|scalers| scalers.of(namespace, kind, name))
            .await
    }

    /// KEDA's object that scales the workload `name` of `kind` in `namespace`. Without KEDA, or
    /// without the right to look, there is none to see: KEDA scales by an autoscaler of Kubernetes,
    /// which is seen all the same.
    pub async fn scaled_object(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, Unseen> {
        let watched = current(&self.scaled_objects, || {
            let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
            let kind = ApiResource::from_gvk_with_plural(&kind, "scaledobjects");
            self.watch_scalers("ScaledObjects", kind)
        });
        let found = watched.read(|scalers| scalers.of(namespace, kind, name));
        match found.await {
            Err(Unseen::Absent { .. } | Unseen::Forbidden { .. }) => Ok(None),
            found => found,
        }
    }

    /// Ends every watch and forgets what was seen.
    pub fn stop(&self) {
        locked(&self.objects).clear();
        *locked(&self.pods) = None;
        *locked(&self.horizontal) = None;
        *locked(&self.scaled_objects) = None;
    }

    fn watch_kind(&self, kind: &GroupVersionKind) -> Running<Objects> {
        let plural = format!("{}s", kind.kind);
        let kind = kind.clone();
        self.run(&plural, move |client, namespace| {
            let kind = kind.clone();
            async move {
                let resource = match well_known(&kind) {
                    Some(resource) => resource,
                    None => within_limit(pinned_kind(&client, &kind)).await?.0,
                };
                Ok(api(client, namespace.as_deref(), &resource))
            }
        })
    }

    fn watch_scalers(&self, plural: &str, kind: ApiResource) -> Running<Scalers> {
        self.run(plural, move |client, namespace| {
            let found = api(client, namespace.as_deref(), &kind);
            std::future::ready(Ok(found))
        })
    }

    /// Begins to watch the objects of the API that `find` finds.
    fn run<S: Store, F>(
        &self,
        plural: &str,
        find: impl Fn(Client, Option<String>) -> F + Send + Sync + 'static,
    ) -> Running<S>
    where
        F: Future<Output = Result<Api<S::Object>, kube::Error>> + Send + 'static,
    {
        let watched = Arc::new(Watched::new(plural));
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let task = tokio::spawn(follow(Arc::clone(&watched), move || {
            find(client.clone(), namespace.clone())
        }));
        let task = AbortOnDropHandle::new(task);
        Running { watched, task }
    }
}

/// The store in `slot`, begun by `start` when there is none or nobody had used it for long.
fn current<S>(
    slot: &Mutex<Option<Running<S>>>,
    start: impl FnOnce() -> Running<S>,
) -> Arc<Watched<S>> {
    let mut slot = locked(slot);
    if slot
        .as_ref()
        .is_some_and(|running| running.task.is_finished())
    {
        *slot = None;
    }
    Arc::clone(&slot.get_or_insert_with(start).watched)
}

fn api(client: Client, namespace: Option<&str>, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    }
}

/// The resource of a kind that every cluster serves, without asking for it.
fn well_known(kind: &GroupVersionKind) -> Option<ApiResource> {
    let known = [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ];
    known.into_iter().find(|resource| {
        (&resource.group, &resource.version, &resource.kind)
            == (&kind.group, &kind.version, &kind.kind)
    })
}
