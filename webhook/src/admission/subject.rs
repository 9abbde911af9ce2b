//! What is admitted, besides the object itself: its kind, what is stored, and what is known of the
//! cluster.

use pd_tolerations::Comparison;

use super::{
    defaults::Defaults,
    template::{Holder, Kind, PodTemplate},
};

/// What is admitted, besides the object itself.
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) is_update: bool,
    /// What is stored, on an update.
    pub(super) old: Option<&'a Holder<'a>>,
    /// What the API server does by itself.
    pub(super) gate: Comparison,
    /// What the role that a new pod plays gives it.
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
