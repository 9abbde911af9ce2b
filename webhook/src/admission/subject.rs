//! The subject of an admission, besides the object itself: its kind, the stored object, and the
//! state of the cluster.

use pd_tolerations::Comparison;

use super::{
    defaults::Defaults,
    template::{Holder, Kind, PodTemplate},
};

/// The subject of an admission, besides the object itself.
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) is_update: bool,
    /// The stored object, on an update.
    pub(super) old: Option<&'a Holder<'a>>,
    /// Whether the API server compares numbers by itself.
    pub(super) gate: Comparison,
    /// The tolerations that a new pod gets from the role it plays.
    pub(super) defaults: Option<&'a Defaults>,
}

impl Subject<'_> {
    pub(super) fn is_pod(&self) -> bool {
        self.kind == Kind::Pod
    }

    pub(super) fn old_pod(&self) -> Option<&PodTemplate> {
        self.old.map(|old| &old.pod)
    }

    /// Whether hand-written entries become tolerations here.
    pub(super) fn expands(&self) -> bool {
        matches!(self.kind, Kind::Pod | Kind::DaemonSet)
    }
}
