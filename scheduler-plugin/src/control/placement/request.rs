//! One request of a step: what it is about, and how it is sent.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt as _;
use pd_api::v1alpha1::PlacementGroup;
use pd_placement::gate::{Action, GateSettings, GroupState, PodVersion, Record};

use super::{
    act,
    objects::{PlacementPod, key, parts},
};
use crate::control::{
    Context,
    write::{WriteError, WriteOutcome},
};

/// A request.
pub(super) enum Request {
    Write {
        group: Arc<PlacementGroup>,
        record: Box<Record>,
    },
    Release {
        pod: Arc<PlacementPod>,
        node: String,
    },
    Mark {
        group: String,
        pod: PodVersion,
        /// Nothing where the group does not exist.
        state: Option<GroupState>,
        /// The PDAutoscaler that the pod joined the group for, where it does not exist.
        autoscaler: Option<String>,
    },
    End {
        group: String,
        pod: PodVersion,
        is_bound: bool,
    },
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) outcome: Result<WriteOutcome, WriteError>,
    /// The version of the object that caches must show before the next step.
    pub(super) version: Option<String>,
}

impl Request {
    /// The request of an action; nothing where its object is not there any more.
    pub(super) fn of(
        action: Action,
        groups: &[Arc<PlacementGroup>],
        by_group: &BTreeMap<String, Vec<Arc<PlacementPod>>>,
    ) -> Option<Self> {
        match action {
            Action::Write { group, record } => {
                let found = groups.iter().find(|known| key(known) == group)?;
                Some(Self::Write {
                    group: found.clone(),
                    record,
                })
            }
            Action::Release {
                group, pod, node, ..
            } => {
                let mut pods = by_group.get(&group)?.iter();
                let pod = pods.find(|known| known.uid().as_deref() == Some(&pod.uid))?;
                Some(Self::Release {
                    pod: pod.clone(),
                    node,
                })
            }
            Action::Mark { group, pod, state } => Some(Self::Mark {
                group,
                pod,
                state: Some(state),
                autoscaler: None,
            }),
            Action::End {
                group,
                pod,
                is_bound,
            } => Some(Self::End {
                group,
                pod,
                is_bound,
            }),
        }
    }

    /// Says on a gated pod, at `now_seconds`, that its group does not exist; nothing if it says so
    /// already, is not held by us, or is so young that its group may be under way.
    pub(super) fn without_group(pod: &PlacementPod, now_seconds: u64) -> Option<Self> {
        let created = pod.creation_timestamp()?.0.as_second();
        let from = created.saturating_add_unsigned(GateSettings::default().mark_seconds);
        if now_seconds < u64::try_from(from).unwrap_or(0) {
            return None;
        }
        let is_held = pod.is_gated() && pod.metadata.deletion_timestamp.is_none();
        let is_known = pod.status.mark() == Some(act::NO_GROUP);
        let group = pod.group_key().filter(|_| is_held && !is_known)?;
        Some(Self::Mark {
            group,
            pod: PodVersion {
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
                resource_version: pod.resource_version().unwrap_or_default(),
            },
            state: None,
            autoscaler: pod.source().map(ToOwned::to_owned),
        })
    }

    /// Its word in metrics and logs.
    pub(super) const fn verb(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Release { .. } => "release",
            Self::Mark { .. } => "mark",
            Self::End { is_bound: true, .. } => "evict",
            Self::End { .. } => "delete",
        }
    }

    /// The kind, namespace and name of its object.
    pub(super) fn about(&self) -> (&'static str, String, String) {
        match self {
            Self::Write { group, .. } => (
                "placementgroups",
                group.namespace().unwrap_or_default(),
                group.name_any(),
            ),
            Self::Release { pod, .. } => {
                ("pods", pod.namespace().unwrap_or_default(), pod.name_any())
            }
            Self::Mark { group, pod, .. } | Self::End { group, pod, .. } => {
                ("pods", parts(group).0.to_owned(), pod.name.clone())
            }
        }
    }

    /// Sends it.
    pub(super) async fn send(&self, context: &Context) -> Answer {
        let answer = match self {
            Self::Write { group, record } => act::write(context, group, record).await,
            Self::Release { pod, node } => release(context, pod, node).await,
            Self::Mark {
                group,
                pod,
                state,
                autoscaler,
            } => {
                let marked = act::mark(context, group, pod, *state, autoscaler.as_deref()).await;
                marked.map(|outcome| (outcome, None))
            }
            Self::End {
                group,
                pod,
                is_bound,
            } => {
                let ended = act::end(context, group, pod, *is_bound).await;
                ended.map(|outcome| (outcome, None))
            }
        };
        match answer {
            Ok((outcome, version)) => Answer {
                outcome: Ok(outcome),
                version,
            },
            Err(error) => Answer {
                outcome: Err(error),
                version: self.version_now(context).await,
            },
        }
    }

    /// The version of its object after no answer, where the next step depends on that.
    async fn version_now(&self, context: &Context) -> Option<String> {
        match self {
            Self::Write { group, .. } => act::version_of(context, &**group).await,
            Self::Release { pod, .. } => act::version_of(context, &**pod).await,
            Self::Mark { .. } | Self::End { .. } => None,
        }
    }
}

async fn release(
    context: &Context,
    pod: &PlacementPod,
    node: &str,
) -> Result<(WriteOutcome, Option<String>), WriteError> {
    let mut pod = pod.clone();
    if context.args.placement.placement_nominate {
        match act::nominate(context, &pod, node).await {
            Ok(nominated) => pod = nominated,
            // The pin holds without it, too.
            Err(error) => tracing::debug!(%error, "the node is not kept for the pod"),
        }
    }
    let released = act::release(context, &pod, node).await;
    if matches!(released, Ok((WriteOutcome::Written, _))) {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        tracing::info!(namespace, name, node, "released");
    }
    released
}
