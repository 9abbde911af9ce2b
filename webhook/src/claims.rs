//! Which PDAutoscalers there are, from a watch: who scales a workload, what tolerations its pods
//! are to get, and which pods join the group of which PDAutoscaler.
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
use pd_api::v1alpha1::{NumericTolerationSpec, PDAutoscaler, placement::NAME_LENGTH_MAX};
use pd_core::Role;
use pd_systems::{
    member::{Controller, is_of},
    target::Target,
};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::admission::{Claimed, Defaults, Membership, Placing, Workload};

/// Namespace and name.
type ObjectKey = (String, String);
/// When it was created, and its name: the order in which PDAutoscalers count.
type Rank = (String, String);

/// The namespaces whose pods are to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those in which some role has tolerations to give.
    pub tolerations: BTreeSet<String>,
    /// Those in which some PDAutoscaler asks for placement.
    pub groups: BTreeSet<String>,
}

/// The PDAutoscalers of the cluster by the workloads that they name.
#[derive(Debug, Default)]
pub struct WorkloadIndex {
    workloads: HashMap<Workload, BTreeMap<Rank, Arc<Defaults>>>,
    objects: HashMap<ObjectKey, (Rank, [Workload; 2])>,
    /// How many roles have tolerations to give, by namespace.
    giving: BTreeMap<String, usize>,
    /// The targets of those that ask for placement, by namespace.
    placing: BTreeMap<String, BTreeMap<Rank, [Target; 2]>>,
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
        if object.spec.asks_for_placement() && name.len() <= NAME_LENGTH_MAX {
            let targets = Role::ALL.map(|role| object.spec.role(role).target.of_side(role));
            let of_namespace = self.placing.entry(namespace.clone()).or_default();
            of_namespace.insert(rank.clone(), targets);
        }
        self.objects.insert((namespace, name), (rank, workloads));
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            tolerations: self.giving.keys().cloned().collect(),
            groups: self.placing.keys().cloned().collect(),
        }
    }

    /// Takes that an object is gone.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some((rank, workloads)) = self.objects.remove(&key) else {
            return;
        };
        if let Some(placing) = self.placing.get_mut(namespace) {
            placing.remove(&rank);
            if placing.is_empty() {
                self.placing.remove(namespace);
            }
        }
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
    wanted: watch::Receiver<Option<Wanted>>,
}

/// The writer of [`Claims`], which fills them from a watch.
#[derive(Debug)]
pub struct IndexWriter {
    index: Arc<RwLock<WorkloadIndex>>,
    wanted: watch::Sender<Option<Wanted>>,
}

impl Claims {
    /// Nothing yet, and what fills it.
    pub fn new() -> (Self, IndexWriter) {
        let index = Arc::<RwLock<WorkloadIndex>>::default();
        let (sender, receiver) = watch::channel(None);
        let index_writer = IndexWriter {
            index: index.clone(),
            wanted: sender,
        };
        let claims = Self {
            index,
            wanted: receiver,
        };
        (claims, index_writer)
    }

    /// The namespaces whose pods are to be sent, and each change of them; nothing before the first
    /// list.
    pub fn wanted(&self) -> watch::Receiver<Option<Wanted>> {
        self.wanted.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, WorkloadIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims that will not change.
impl From<WorkloadIndex> for Claims {
    fn from(index: WorkloadIndex) -> Self {
        let (_, wanted) = watch::channel(Some(index.wanted()));
        Self {
            index: Arc::new(RwLock::new(WorkloadIndex {
                is_complete: true,
                ..index
            })),
            wanted,
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
            let now = index.wanted();
            self.wanted.send_if_modified(|sent| {
                let is_old = sent.as_ref() == Some(&now);
                if !is_old {
                    *sent = Some(now);
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

impl Placing for Claims {
    fn membership(
        &self,
        namespace: &str,
        controller: Option<Controller<'_>>,
        labels: &Map<String, Value>,
    ) -> Option<Membership> {
        let index = self.read();
        let mut placing = index.placing.get(namespace)?.iter();
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        placing.find_map(|((_, autoscaler), targets)| {
            let mut targets = targets.iter();
            let target = targets.find(|target| is_of(target, controller, label))?;
            Some(Membership {
                autoscaler: autoscaler.clone(),
                role: target.side,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use pd_api::v1alpha1::PlacementSpec;
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
        assert!(!claims.is_complete() && claims.wanted().borrow().is_none());
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
        let wanted = || claims.wanted().borrow().clone().unwrap();
        assert_eq!(wanted().tolerations, BTreeSet::from(["ns".to_owned()]));
        take(Event::Apply(object("young", young, "q", None)));
        assert_eq!(wanted(), Wanted::default());
        // A new list forgets what is not in it.
        take(Event::Init);
        take(Event::InitDone);
        assert_eq!(claims.claimant(&workload("q"), ""), None);
    }
    #[test]
    fn a_pod_joins_the_group_of_the_oldest_that_asks_for_it() {
        let (claims, index_writer) = Claims::new();
        let mut listing = WorkloadIndex::default();
        let mut take = |event| index_writer.take(event, &mut listing);
        let asking = |name: &str, created: &str, mode: &str| {
            let mut object = object(name, created, "p", None);
            object.spec.placement = Some(Box::new(PlacementSpec::default()));
            object.spec.mode = serde_json::from_value(json!(mode)).unwrap();
            object
        };
        let labels = json!({ "pod-template-hash": "7d9" });
        let joined = |namespace: &str, replica_set: &str| {
            let controller = Controller {
                api_version: "apps/v1",
                kind: "ReplicaSet",
                name: replica_set,
            };
            let labels = labels.as_object().unwrap();
            let found = claims.membership(namespace, Some(controller), labels);
            found.map(|found| format!("{}/{}", found.autoscaler, found.role))
        };
        let (young, old) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
        take(Event::Init);
        take(Event::InitDone);
        take(Event::Apply(object("plain", old, "p", None)));
        assert_eq!(joined("ns", "p-7d9"), None, "nobody asks");
        take(Event::Apply(asking("young", young, "Auto")));
        assert_eq!(joined("ns", "p-7d9").as_deref(), Some("young/prefill"));
        let decode = joined("ns", "young-decode-7d9");
        assert_eq!(decode.as_deref(), Some("young/decode"));
        assert_eq!(joined("other", "p-7d9"), None);
        assert_eq!(joined("ns", "q-7d9"), None);
        take(Event::Apply(asking("old", old, "Auto")));
        assert_eq!(joined("ns", "p-7d9").as_deref(), Some("old/prefill"));
        let wanted = || claims.wanted().borrow().clone().unwrap();
        assert_eq!(wanted().groups, BTreeSet::from(["ns".to_owned()]));
        // It acts in mode Auto alone.
        take(Event::Apply(asking("old", old, "Recommend")));
        take(Event::Apply(asking("young", young, "Off")));
        assert_eq!(joined("ns", "p-7d9"), None);
        assert_eq!(wanted(), Wanted::default());
        // A label cannot hold the name of its group.
        take(Event::Apply(asking(&"n".repeat(64), old, "Auto")));
        assert_eq!(joined("ns", "p-7d9"), None);
    }
}
