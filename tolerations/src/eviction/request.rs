//! Plain values that go into the eviction queue and come out of it: pods, changes of deadlines,
//! eviction requests and their outcomes. They decide nothing.

use jiff::Timestamp;

use super::{
    Pending,
    rate_limit::RateLimit,
    rules::{Because, TolerationRules},
};

/// Options beyond upstream, all off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictionOptions {
    /// A later evaluation with a shorter time brings a deadline forward, counted from where it
    /// began.
    pub shorten: bool,
    /// A later evaluation with a longer time puts a deadline off, counted from where it began.
    pub lengthen: bool,
    /// How fast a domain may lose pods.
    pub rate: Option<RateLimit>,
}

/// Which pod. A pod of the same name with another UID is another pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodId {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A pod that runs on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    /// Which.
    pub id: PodId,
    /// Its node.
    pub node: String,
    /// Its toleration rules; nothing if it is not rewritten, and only here for its group.
    pub rules: Option<TolerationRules>,
    /// Pods of a namespace that leave together.
    pub group: Option<String>,
    /// A deadline that an earlier process left. Read when the pod is first seen.
    pub persisted: Option<Pending>,
}

/// A deadline that began or was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadlineChange {
    /// The pod leaves at `pending.due`, unless something changes.
    Waits {
        /// Which.
        pod: PodId,
        /// Since when, and until when.
        pending: Pending,
        /// Why.
        because: Because,
        /// Who ends it.
        by: By,
    },
    /// The pod stays: its node's taints are gone or tolerated for ever.
    Cancelled {
        /// Which.
        pod: PodId,
        /// Who would have ended it.
        by: By,
    },
}

/// Who ends a pod's time on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever carries out eviction requests.
    Us,
    /// The cluster's own controller, by the stored list.
    Cluster,
}

/// A pod that leaves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionRequest {
    /// Which.
    pub pod: PodId,
    /// Its node.
    pub node: String,
    /// Why.
    pub because: Because,
    /// When it had to leave; the rate limit and failures may have kept it.
    pub due: Timestamp,
    /// How often it was tried before.
    pub attempt: u32,
}

/// The result of an eviction request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The pod is leaving, or gone already.
    Leaves,
    /// A disruption budget does not allow it yet.
    Refused,
    /// It did not work, or must not be done as things are.
    Failed,
}
