//! Deadlines in an annotation of the pod, so that they outlive the process; and the news of those
//! that are off.
//!
//! The text is an interval of ISO 8601, from the evaluation to the deadline. It is read once, when
//! a pod is first seen, and believed only if it can be this pod's: it begins after the pod was
//! created and not in the future, or else a template could carry it. One task writes, in the
//! request in which things happened. A text that cannot be written is in the log, and costs the
//! pod's clock at the next restart, nothing else.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::Patch};
use pd_tolerations::eviction::{Pending, request::PodId};
use serde_json::json;
use tokio::{sync::mpsc, time::sleep};

use super::{
    super::{Context, Term, objects::WatchedPod},
    attempt::publish,
};

/// The annotation of a pod that waits for its deadline.
pub const ANNOTATION: &str = "pdautoscaler.io/eviction-deadline";

const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// A pod's creation is written in whole seconds, and clocks differ.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(2);

/// News about a pod's deadline.
#[derive(Debug)]
pub enum Note {
    /// There is one.
    Waits {
        /// Whose.
        pod: PodId,
        /// From when to when.
        pending: Pending,
    },
    /// It is off.
    Cancelled {
        /// Whose.
        pod: PodId,
    },
}

/// The deadline that an earlier process left with a pod.
pub fn read(pod: &WatchedPod, now: Timestamp) -> Option<Pending> {
    let pending = parse(pod.annotations().get(ANNOTATION)?)?;
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let is_its_own = created.duration_since(pending.since) <= CLOCKS_DIFFER;
    let is_past = pending.since.duration_since(now) <= CLOCKS_DIFFER;
    (is_its_own && is_past).then_some(pending)
}

fn parse(text: &str) -> Option<Pending> {
    let (since, due) = text.split_once('/')?;
    let (since, due): (Timestamp, Timestamp) = (since.parse().ok()?, due.parse().ok()?);
    (since <= due).then_some(Pending { since, due })
}

fn text(pending: Pending) -> String {
    format!("{:.3}/{:.3}", pending.since, pending.due)
}

/// Writes what `notes` say until nobody sends any more.
pub(super) async fn write(
    context: &Context,
    term: &Term,
    mut notes: mpsc::UnboundedReceiver<Note>,
) {
    let persists = context.args.eviction.eviction_persist;
    while let Some(note) = notes.recv().await {
        let (pod, pending) = match note {
            Note::Waits { pod, pending } => (pod, Some(pending)),
            Note::Cancelled { pod } => {
                let (namespace, name) = (&pod.namespace, &pod.name);
                if term.may_write() && !context.args.control.dry_run {
                    let note = format!("Cancelling deletion of Pod {namespace}/{name}");
                    publish(context, &pod, note).await;
                }
                (pod, None)
            }
        };
        if persists {
            persist(context, term, &pod, pending).await;
        }
    }
}

async fn persist(context: &Context, term: &Term, pod: &PodId, pending: Option<Pending>) {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &pod.namespace);
    let patch = Patch::Merge(json!({
        "metadata": { "uid": pod.uid, "annotations": { ANNOTATION: pending.map(text) } },
    }));
    let params = context.patch_params();
    for pause in PAUSES {
        if !term.may_write() {
            return;
        }
        // Gone, or another pod of that name: there is nothing left to write.
        let Err(error) = context.write(pods.patch(&pod.name, &params, &patch)).await else {
            return;
        };
        tracing::warn!(
            namespace = pod.namespace,
            pod = pod.name,
            %error,
            "deadline cannot be persisted"
        );
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const CREATED: &str = "2026-11-21T06:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::its_own("2026-11-21T06:10:00.250Z/2026-11-21T06:11:00.250Z", true)]
    #[case::before_the_pod_was("2026-11-21T05:59:00Z/2026-11-21T06:11:00Z", false)]
    #[case::in_the_future("2026-11-21T08:00:00Z/2026-11-21T08:11:00Z", false)]
    #[case::the_wrong_way_round("2026-11-21T06:11:00Z/2026-11-21T06:10:00Z", false)]
    #[case::no_interval("2026-11-21T06:11:00Z", false)]
    #[case::no_times("a/b", false)]
    fn only_deadlines_of_the_pod_itself_are_believed(#[case] text: &str, #[case] is_read: bool) {
        let pod: WatchedPod = serde_json::from_value(json!({ "metadata": {
            "name": "p", "creationTimestamp": CREATED, "annotations": { ANNOTATION: text },
        } }))
        .unwrap();
        let read = read(&pod, at("2026-11-21T06:30:00Z"));
        assert_eq!(read.is_some(), is_read);
    }

    #[test]
    fn texts_are_read_as_they_were_written() {
        let pending = Pending {
            since: at("2026-11-21T06:10:00.007Z"),
            due: at("2026-11-21T06:11:00Z"),
        };
        let written = text(pending);
        assert_eq!(written, "2026-11-21T06:10:00.007Z/2026-11-21T06:11:00.000Z");
        assert_eq!(parse(&written), Some(pending));
    }
}
