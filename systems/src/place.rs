//! Where one role's replicas are: the object and field that hold them, the pods that are theirs,
//! and everything that decides whether they may be written.
//!
//! A place is data. Systems differ in how a place is found and not in what is done with it, so that
//! counting and writing are written once, in [`observe`](crate::observe) and [`edit`](crate::edit).

use serde_json::Value;

use crate::{
    drain::Leaving,
    gpus::GpusUnknown,
    kind::Victim,
    owner::Owner,
    pod::{PodFacts, PodOwner},
    selector::Selector,
    target::ObjectRef,
};

/// Where one role's replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object that is written: not always the one that the target names.
    pub object: ObjectRef,
    /// The role inside it.
    pub role: Option<String>,
    /// The field that holds the replicas.
    pub field: Field,
    /// The object's version as read.
    pub resource_version: Option<String>,
    /// The field's value; nothing where it is absent.
    pub stated: Option<u32>,
    /// Replicas for each one that the field counts: the copies of the role (slices, groups).
    pub copies: u32,
    /// Replicas requested, of all copies.
    pub desired: u32,
    /// Fewest replicas that the system keeps alive.
    pub floor: Floor,
    /// Pods that the object needs of all roles together.
    pub gang: Option<Gang>,
    /// Other roles of the object that may be at zero only together with this one: their JSON
    /// pointers and replicas.
    pub zero_together: Vec<(String, u32)>,
    /// The role's pods.
    pub pods: PodSelector,
    /// How pods make up replicas.
    pub unit: Unit,
    /// GPUs of one replica, as far as the object says.
    pub gpus: Result<u32, GpusUnknown>,
    /// Pods are being replaced.
    pub rolling_out: bool,
    /// Why pods cannot be created: the API server's answer.
    pub create_failure: Option<String>,
    /// Who else sets the replicas.
    pub owners: Vec<Owner>,
    /// How its pods leave when replicas are lowered.
    pub leaving: Leaving,
    /// Which replica goes first.
    pub victim: Victim,
    /// RE2 of the names of the serving pods, past ones too, where the system names them by a rule.
    pub past_pods: Option<String>,
}

/// The field that holds the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `scale`.
    Scale,
    /// A field of the object.
    Path {
        /// JSON pointer of the field.
        pointer: String,
        /// Everything that must be so for the pointer to mean the same: JSON pointers and values.
        tests: Vec<(String, Value)>,
    },
}

/// Fewest replicas that the system keeps alive, and the field that says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Replicas.
    pub replicas: u32,
    /// The field, or the reason; empty for a floor of 0.
    pub cause: &'static str,
}

/// Pods that a gang of several roles needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gang {
    /// Fewest pods of all roles together.
    pub pods_min: u32,
    /// Pods requested by the object now, of all roles.
    pub pods_now: u32,
    /// The field that says so.
    pub cause: &'static str,
}

/// The role's pods among those of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSelector {
    /// Labels that they have.
    pub labels: Selector,
    /// The workload that owns them, where labels of two workloads may overlap.
    pub owner: Option<OwnedBy>,
}

/// The workload that owns pods, directly or through a ReplicaSet named after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedBy {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
}

impl PodSelector {
    /// Pods by labels alone.
    pub fn labelled(labels: Selector) -> Self {
        Self {
            labels,
            owner: None,
        }
    }

    /// Whether `pod` is one of them.
    pub fn has(&self, pod: &PodFacts) -> bool {
        let is_owned = |by: &OwnedBy| pod.owner.as_ref().is_some_and(|owner| by.owns(owner));
        self.labels.matches(&pod.labels) && self.owner.as_ref().is_none_or(is_owned)
    }
}

impl OwnedBy {
    /// Whether pods of `owner` are the workload's.
    pub fn owns(&self, owner: &PodOwner) -> bool {
        owner.uid == self.uid
            || (owner.kind == "ReplicaSet" && is_replica_set_of(&owner.name, &self.name))
    }
}

/// Whether a ReplicaSet is named as those of the Deployment `deployment` are.
pub fn is_replica_set_of(replica_set: &str, deployment: &str) -> bool {
    let rest = replica_set.strip_prefix(deployment);
    let hash = rest.and_then(|rest| rest.strip_prefix('-'));
    hash.is_some_and(|hash| !hash.contains('-'))
}

/// How pods make up replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Pods of one replica, 1 or more.
    pub pods: u32,
    /// Labels that all pods of one replica have in common: of each list the first that the pod has,
    /// or its own name.
    pub key: &'static [&'static [&'static str]],
    /// Which of a replica's pods serve metrics.
    pub serving: Serving,
}

/// Which of a replica's pods serve metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Every one.
    Every,
    /// Those whose label has the value.
    Label(&'static str, &'static str),
    /// Those whose label ends so.
    Suffix(&'static str, String),
    /// Those of any of these.
    Any(Vec<Self>),
}

impl Unit {
    /// One pod is one replica.
    pub const POD: Self = Self {
        pods: 1,
        key: &[&[]],
        serving: Serving::Every,
    };
}

impl Serving {
    /// Whether `pod` serves metrics.
    pub fn has(&self, pod: &PodFacts) -> bool {
        let label = |label: &str| pod.labels.get(label).map(String::as_str);
        match self {
            Self::Every => true,
            Self::Label(name, value) => label(name) == Some(value),
            Self::Suffix(name, end) => {
                label(name).is_some_and(|value| value.ends_with(end.as_str()))
            }
            Self::Any(of) => of.iter().any(|one| one.has(pod)),
        }
    }
}
