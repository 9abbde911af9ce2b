//! The subject of an admission, besides the object itself: its kind, the stored object, and the
//! state of the cluster.

use pd_tolerations::{
    Comparison,
    mirror::{Margin, hold_of_daemon_set, hold_of_pod},
};

use super::{
    defaults::Defaults,
    template::{Holder, Kind, PodTemplate},
    wire::Request,
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
    /// The hold of its pods where they run.
    pub(super) hold: Hold,
    /// The nodes that its pods prefer by margin; nothing if no preference is written.
    pub(super) preferred: Option<Margin>,
}

/// The label that a node gets while it holds a pod in spite of its numbers.
#[derive(Default)]
pub(super) struct Hold {
    /// The label; nothing for templates whose pods get one each.
    pub(super) label: Option<String>,
    /// The token of a new pod, which its annotation keeps.
    pub(super) token: Option<String>,
}

impl Hold {
    /// The hold of what a request is about. A review's `uid` is used once, so it can name a pod
    /// that has no name yet; a pod that was reviewed before has its token already.
    pub(super) fn of(kind: Kind, request: &Request<'_>, pod: &PodTemplate) -> Self {
        let namespace = request.namespace.as_deref().unwrap_or_default();
        match kind {
            Kind::Pod if request.operation == "CREATE" => {
                let token = pod.hold().unwrap_or(&request.uid);
                let label = hold_of_pod(token);
                Self {
                    token: label.as_ref().map(|_| token.to_owned()),
                    label,
                }
            }
            Kind::DaemonSet => Self {
                label: hold_of_daemon_set(namespace, &request.name),
                token: None,
            },
            _ => Self::default(),
        }
    }
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
