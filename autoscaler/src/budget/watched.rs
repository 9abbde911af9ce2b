//! The GPUBudgets there are, and the labels of namespaces, from watches.
//!
//! Where none can be listed because there is no such resource, there are none. Where they cannot be
//! listed for another reason, it is not known whether there are any, and nothing grows until it is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use pd_api::v1alpha1::{GPUBudget, GPUBudgetSpec};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::members::Labels;
use crate::lock::locked;

/// All budgets by name, or why they are not known.
pub type Listed = Result<BTreeMap<String, Arc<GPUBudget>>, String>;

/// Budgets and namespaces as last watched.
#[derive(Debug)]
pub struct Watched {
    budgets: Mutex<Listed>,
    labels: Mutex<Option<Arc<Labels>>>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            budgets: Mutex::new(Err("not listed yet".to_owned())),
            labels: Mutex::default(),
        }
    }
}

/// Lists that failed one after the other. The watcher's own backoff begins again with
/// each of them.
#[derive(Clone, Copy, Debug, Default)]
struct Failures(u32);

impl Failures {
    /// Longest pause: a resource that is installed later is seen so soon.
    const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// Waits, twice as long as after the failure before.
    async fn pause(&mut self) {
        let seconds = 1_u64.checked_shl(self.0).unwrap_or(u64::MAX);
        self.0 = self.0.saturating_add(1);
        sleep(Duration::from_secs(seconds).min(Self::PAUSE_MAX)).await;
    }
}

fn needs_labels(spec: &GPUBudgetSpec) -> bool {
    spec.members
        .iter()
        .any(|entry| entry.namespace_labels.is_some())
}

impl Watched {
    /// The budgets.
    pub fn budgets(&self) -> Listed {
        locked(&self.budgets).clone()
    }

    /// Labels of the namespaces, as far as `spec` needs any; nothing while they are not known.
    pub fn labels(&self, spec: &GPUBudgetSpec) -> Option<Arc<Labels>> {
        if needs_labels(spec) {
            locked(&self.labels).clone()
        } else {
            Some(Arc::default())
        }
    }

    /// There are none, for this process or at all.
    pub fn none(&self) {
        *locked(&self.budgets) = Ok(BTreeMap::new());
    }

    /// Follows the budgets, for ever.
    pub async fn follow(&self, client: &Client) {
        let api: Api<GPUBudget> = Api::all(client.clone());
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        let (mut init, mut failures) = (BTreeMap::new(), Failures::default());
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => init.clear(),
                Ok(Event::InitApply(budget)) => {
                    init.insert(budget.name_any(), Arc::new(budget));
                }
                Ok(Event::InitDone) => {
                    failures = Failures::default();
                    *locked(&self.budgets) = Ok(std::mem::take(&mut init));
                }
                Ok(Event::Apply(budget)) => self.change(|known| {
                    known.insert(budget.name_any(), Arc::new(budget));
                }),
                Ok(Event::Delete(budget)) => self.change(|known| {
                    known.remove(&budget.name_any());
                }),
                Err(error) => {
                    self.failed(&error);
                    failures.pause().await;
                }
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<GPUBudget>>)) {
        if let Ok(known) = &mut *locked(&self.budgets) {
            change(known);
        }
    }

    /// A watch that breaks is made again, and until then the budgets are those last known.
    fn failed(&self, error: &watcher::Error) {
        let answer = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(answer)) => Some(answer.code),
            _ => None,
        };
        if answer == Some(404) {
            debug!("there is no resource gpubudgets, and so no budget");
            self.none();
            return;
        }
        warn!(%error, "GPUBudgets cannot be watched, trying again");
        let mut known = locked(&self.budgets);
        if known.is_err() {
            *known = Err(error.to_string());
        }
    }

    /// Follows the labels of namespaces, for ever, from when a budget needs them. Whether one does
    /// is looked up every `interval`.
    pub async fn follow_namespaces(&self, client: &Client, interval: Duration) {
        let needed = || {
            self.budgets()
                .is_ok_and(|all| all.values().any(|b| needs_labels(&b.spec)))
        };
        while !needed() {
            sleep(interval).await;
        }
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        self.take_labels(stream).await;
    }

    async fn take_labels(
        &self,
        stream: impl Stream<Item = Result<Event<PartialObjectMeta<Namespace>>, watcher::Error>>,
    ) {
        let mut stream = std::pin::pin!(stream);
        let (mut init, mut failures): (Labels, _) = (HashMap::new(), Failures::default());
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => init.clear(),
                Ok(Event::InitApply(found)) => {
                    init.insert(found.name_any(), found.labels().clone());
                }
                Ok(Event::InitDone) => {
                    failures = Failures::default();
                    *locked(&self.labels) = Some(Arc::new(std::mem::take(&mut init)));
                }
                Ok(Event::Apply(found)) => {
                    let mut labels = locked(&self.labels);
                    let labels = Arc::make_mut(labels.get_or_insert_default());
                    labels.insert(found.name_any(), found.labels().clone());
                }
                Ok(Event::Delete(found)) => {
                    let mut labels = locked(&self.labels);
                    Arc::make_mut(labels.get_or_insert_default()).remove(&found.name_any());
                }
                Err(error) => {
                    warn!(%error, "namespaces cannot be watched, trying again");
                    failures.pause().await;
                }
            }
        }
    }
}
