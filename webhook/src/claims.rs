//! Which PDAutoscalers there are, from a watch: who scales a workload, and what tolerations its
//! pods are to get.
//!
//! [`WorkloadIndex`] is the plain state: objects by the workloads they name, so that one look-up
//! answers however many there are. Of several objects that name one workload the oldest counts, as
//! for the controller. [`Claims`] shares it; [`IndexWriter`] keeps it as the cluster is. Only
//! newcomers are refused by it. Before the first list, and without the CRD, nothing is known,
//! nothing is refused and nothing is given.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use pd_api::v1alpha1::{NumericTolerationSpec, PDAutoscaler};
use pd_core::Role;
use tokio::sync::watch;

use crate::admission::{Claimed, Defaults, Workload};

/// Namespace and name.
type ObjectKey = (String, String);
/// When it was created, and its name: the order in which PDAutoscalers count.
type Rank = (String, String);

/// The PDAutoscalers of the cluster by the workloads that they name.
#[derive(Debug, Default)]
pub struct WorkloadIndex {
    workloads: HashMap<Workload, BTreeMap<Rank, Arc<Defaults>>>,
    objects: HashMap<ObjectKey, (Rank, [Workload; 2])>,
    /// How many roles have tolerations to give, by namespace.
    giving: BTreeMap<String, usize>,
    is_complete: bool,
}

impl WorkloadIndex {
    /// Takes an object as it is now.
    pub fn apply(&mut self, object: &PDAutoscaler) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        self.forget(&namespace, &name);
        let created = object.creation_timestamp();
        let rank = (
            // One form, so that texts sort as times do; an object without a time is the newest.
            created.map_or_else(|| "~".to_owned(), |time| time.0.to_string()),
            name.clone(),
        );
        let workloads = Role::ALL.map(|role| {
            let spec = object.spec.role(role);
            let (kind, target) = spec.target.replicas(role);
            let workload = Workload {
                namespace: namespace.clone(),
                kind,
                name: target,
            };
            let tolerations = spec.numeric_tolerations.iter();
            let defaults = Defaults {
                autoscaler: name.clone(),
                role,
                tolerations: tolerations.map(NumericTolerationSpec::toleration).collect(),
            };
            if !defaults.tolerations.is_empty() {
                *self.giving.entry(namespace.clone()).or_default() += 1;
            }
            let claims = self.workloads.entry(workload.clone()).or_default();
            claims.insert(rank.clone(), Arc::new(defaults));
            workload
        });
        self.objects.insert((namespace, name), (rank, workloads));
    }

    /// Takes that an object is gone.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some((rank, workloads)) = self.objects.remove(&key) else {
            return;
        };
        for workload in workloads {
            let Some(claims) = self.workloads.get_mut(&workload) else {
                continue;
            };
            let gone = claims.remove(&rank);
            if claims.is_empty() {
                self.workloads.remove(&workload);
            }
            if gone.is_some_and(|gone| !gone.tolerations.is_empty())
                && let Some(count) = self.giving.get_mut(namespace)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.giving.remove(namespace);
                }
            }
        }
    }
}

/// The PDAutoscalers of the cluster. Clones share them.
#[derive(Debug, Clone)]
pub struct Claims {
    index: Arc<RwLock<WorkloadIndex>>,
    giving: watch::Receiver<Option<BTreeSet<String>>>,
}

/// The writer of [`Claims`], which fills them from a watch.
#[derive(Debug)]
pub struct IndexWriter {
    index: Arc<RwLock<WorkloadIndex>>,
    giving: watch::Sender<Option<BTreeSet<String>>>,
}

impl Claims {
    /// Nothing yet, and what fills it.
    pub fn new() -> (Self, IndexWriter) {
        let index = Arc::<RwLock<WorkloadIndex>>::default();
        let (sender, receiver) = watch::channel(None);
        let index_writer = IndexWriter {
            index: index.clone(),
            giving: sender,
        };
        let claims = Self {
            index,
            giving: receiver,
        };
        (claims, index_writer)
    }

    /// The namespaces in which some role has tolerations to give, and each change of them; nothing
    /// before the first list.
    pub fn giving(&self) -> watch::Receiver<Option<BTreeSet<String>>> {
        self.giving.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, WorkloadIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims that will not change.
impl From<WorkloadIndex> for Claims {
    fn from(index: WorkloadIndex) -> Self {
        let (_, giving) = watch::channel(Some(index.giving.keys().cloned().collect()));
        Self {
            index: Arc::new(RwLock::new(WorkloadIndex {
                is_complete: true,
                ..index
            })),
            giving,
        }
    }
}

impl IndexWriter {
    /// Takes one event of the watch. `listing` is the state that a list in progress has come to.
    fn take(&self, event: Event<PDAutoscaler>, listing: &mut WorkloadIndex) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => *listing = WorkloadIndex::default(),
            Event::InitApply(object) => listing.apply(&object),
            Event::InitDone => {
                *index = std::mem::take(listing);
                index.is_complete = true;
            }
            Event::Apply(object) => index.apply(&object),
            Event::Delete(object) => {
                index.forget(&object.namespace().unwrap_or_default(), &object.name_any());
            }
        }
        if index.is_complete {
            self.giving.send_if_modified(|sent| {
                let is_old = sent
                    .as_ref()
                    .is_some_and(|sent| sent.iter().eq(index.giving.keys()));
                if !is_old {
                    *sent = Some(index.giving.keys().cloned().collect());
                }
                !is_old
            });
        }
    }

    /// Follows the cluster until the future is dropped.
    pub async fn follow(self, client: Client) {
        let events =
            watcher(Api::<PDAutoscaler>::all(client), watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listing = WorkloadIndex::default();
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    is_failing = false;
                    self.take(event, &mut listing);
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "PDAutoscalers cannot be watched, they are not compared and give no tolerations");
                    }
                    is_failing = true;
                }
            }
        }
    }
}

impl Claimed for Claims {
    fn claimant(&self, workload: &Workload, except: &str) -> Option<String> {
        let index = self.read();
        let claims = index.workloads.get(workload)?;
        let other = claims.values().find(|one| one.autoscaler != except)?;
        Some(other.autoscaler.clone())
    }

    fn defaults(&self, workload: &Workload) -> Option<Arc<Defaults>> {
        let index = self.read();
        let (_, first) = index.workloads.get(workload)?.first_key_value()?;
        (!first.tolerations.is_empty()).then(|| first.clone())
    }

    fn is_complete(&self) -> bool {
        self.read().is_complete
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, created: &str, prefill: &str, value: Option<&str>) -> PDAutoscaler {
        let list: Vec<_> = value
            .into_iter()
            .map(|value| json!({ "key": "sla", "operator": "Gt", "value": value }))
            .collect();
        let role = |target: &str| json!({ "maxReplicas": 4, "numericTolerations": list, "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": target } });
        serde_json::from_value(json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
            "metadata": { "name": name, "namespace": "ns", "creationTimestamp": created },
            "spec": { "prefill": role(prefill), "decode": role(&format!("{name}-decode")),
                "objective": { "ttft": { "target": "500ms" }, "tpot": { "target": "50ms" } } },
        }))
        .unwrap()
    }

    fn workload(name: &str) -> Workload {
        Workload {
            namespace: "ns".to_owned(),
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
        }
    }

    fn value(claims: &Claims, name: &str) -> Option<String> {
        let defaults = claims.defaults(&workload(name))?;
        Some(format!(
            "{}/{} {}",
            defaults.autoscaler, defaults.role, defaults.tolerations[0].value
        ))
    }

    #[test]
    fn the_oldest_that_names_a_workload_gives_its_tolerations() {
        let (claims, index_writer) = Claims::new();
        let mut listing = WorkloadIndex::default();
        let mut take = |event| index_writer.take(event, &mut listing);
        let (young, old) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
        take(Event::Init);
        take(Event::InitApply(object("young", young, "p", Some("900"))));
        assert_eq!(value(&claims, "p"), None, "not before all are known");
        assert!(!claims.is_complete() && claims.giving().borrow().is_none());
        take(Event::InitDone);
        assert!(claims.is_complete());
        assert_eq!(value(&claims, "p").unwrap(), "young/prefill 900");
        assert_eq!(value(&claims, "young-decode").unwrap(), "young/decode 900");
        take(Event::Apply(object("old", old, "p", Some("950"))));
        assert_eq!(value(&claims, "p").unwrap(), "old/prefill 950");
        assert_eq!(
            claims.claimant(&workload("p"), "old").as_deref(),
            Some("young")
        );
        // It gives none now, and is still the one that counts.
        take(Event::Apply(object("old", old, "p", None)));
        assert_eq!(value(&claims, "p"), None);
        take(Event::Delete(object("old", old, "p", None)));
        assert_eq!(value(&claims, "p").unwrap(), "young/prefill 900");
        // Another target: the former is free.
        take(Event::Apply(object("young", young, "q", Some("900"))));
        assert_eq!(claims.claimant(&workload("p"), ""), None);
        assert_eq!(
            claims.giving().borrow().clone(),
            Some(BTreeSet::from(["ns".to_owned()]))
        );
        take(Event::Apply(object("young", young, "q", None)));
        assert_eq!(claims.giving().borrow().clone(), Some(BTreeSet::new()));
        // A new list forgets what is not in it.
        take(Event::Init);
        take(Event::InitDone);
        assert_eq!(claims.claimant(&workload("q"), ""), None);
    }
}
