//! Which PDAutoscalers there are, from a watch, so that no two of them take one workload.
//!
//! Only refuses newcomers: what is stored is the controller's to judge, which lets the older one act. Before the first
//! list, and without the CRD, nothing is known and nothing is refused.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher::{self, Event, watcher},
    },
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::Role;

use crate::admission::Claimed;

/// The PDAutoscalers of the cluster.
#[derive(Debug, Clone)]
pub struct Claims {
    store: Store<PDAutoscaler>,
    is_listed: Arc<AtomicBool>,
}

/// What fills [`Claims`].
#[derive(Debug)]
pub struct Filler {
    writer: reflector::store::Writer<PDAutoscaler>,
    is_listed: Arc<AtomicBool>,
}

impl Claims {
    /// Nothing yet, and what fills it.
    pub fn new() -> (Self, Filler) {
        let (store, writer) = reflector::store();
        let is_listed = Arc::<AtomicBool>::default();
        let filler = Filler {
            writer,
            is_listed: is_listed.clone(),
        };
        (Self { store, is_listed }, filler)
    }
}

impl Filler {
    /// Follows the cluster until the future is dropped.
    pub async fn follow(self, client: Client) {
        let events = watcher(Api::<PDAutoscaler>::all(client), watcher::Config::default())
            .default_backoff()
            .reflect(self.writer);
        let mut events = std::pin::pin!(events);
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    is_failing = false;
                    if matches!(event, Event::InitDone) {
                        self.is_listed.store(true, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "PDAutoscalers cannot be watched, they are not compared with each other");
                    }
                    is_failing = true;
                }
            }
        }
    }
}

impl Claimed for Claims {
    fn claimant(&self, namespace: &str, name: &str, workload: &ObjectReference) -> Option<String> {
        let takes = |other: &PDAutoscaler| {
            Role::ALL.iter().any(|role| {
                let target = &other.spec.role(*role).target;
                Some(&target.kind) == workload.kind.as_ref()
                    && Some(&target.name) == workload.name.as_ref()
            })
        };
        let mut others = self.store.state().into_iter();
        others
            .find(|other| {
                other.namespace().as_deref() == Some(namespace)
                    && other.name_any() != name
                    && takes(other)
            })
            .map(|other| other.name_any())
    }

    fn is_complete(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }
}
