//! Admission: the same object, created without being stored, is accepted by both or refused for the
//! same causes.
//!
//! A cause is a field and the words about it, as the API server lists them. Objects are pods and
//! every kind with a pod template.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use pd_tolerations::Toleration;
use serde_json::{Value, json};

use crate::{
    difference::{Difference, Tally},
    generate::Generator,
    planes::{NAMESPACE, Planes},
};

/// Kinds, and where their tolerations are.
pub(crate) const KINDS: [(&str, &str); 9] = [
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "ReplicationController"),
    ("v1", "PodTemplate"),
];

pub(crate) const CONCURRENCY: usize = 16;

/// The answer of an API server: acceptance, or all its objections to an object.
pub(crate) type Refusal = BTreeSet<(String, String)>;

/// Puts `count` objects to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
    let mut generator = Generator::new(seed, 1);
    let cases: Vec<(usize, Vec<Toleration>)> = (0..count)
        .map(|_| {
            let kind = if generator.once_in(2) {
                0
            } else {
                generator.below(KINDS.len())
            };
            (kind, generator.odd())
        })
        .collect();
    let answers = stream::iter(cases)
        .map(|(kind, tolerations)| async move {
            let object = object(kind, &tolerations);
            let (native, ours) = tokio::join!(
                refusal(&planes.native.client, kind, &object),
                refusal(&planes.ours.client, kind, &object)
            );
            (kind, tolerations, native, ours)
        })
        .buffer_unordered(CONCURRENCY);
    let mut answers = std::pin::pin!(answers);
    let mut refused = 0;
    while let Some((kind, tolerations, native, ours)) = answers.next().await {
        tally.case("admission");
        refused += usize::from(!native.is_empty());
        if native == ours {
            continue;
        }
        let what = || {
            format!(
                "{}: {}\nnative: {native:#?}\nours: {ours:#?}",
                KINDS[kind].1,
                json!(tolerations)
            )
        };
        match Difference::of_admission(&tolerations, &native, &ours) {
            Some(difference) => tally.differs(difference),
            None => tally.fail(what()),
        }
    }
    eprintln!("admission: {count} objects, {refused} refused");
}

/// The objects of a kind.
pub(crate) fn api(client: &Client, kind: usize) -> Api<DynamicObject> {
    let (version, kind) = KINDS[kind];
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

async fn refusal(client: &Client, kind: usize, object: &Value) -> Refusal {
    let api = api(client, kind);
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    refusal_of(api.create(&dry_run, &object).await)
}

/// The objections of an answer to an object.
pub(crate) fn refusal_of<T>(answer: Result<T, kube::Error>) -> Refusal {
    let status = match answer {
        Ok(_) => return Refusal::new(),
        Err(kube::Error::Api(status)) => status,
        Err(error) => panic!("{error}"),
    };
    let causes = status
        .details
        .map(|details| details.causes)
        .unwrap_or_default();
    if causes.is_empty() {
        return Refusal::from([(format!("{} {}", status.code, status.reason), status.message)]);
    }
    causes
        .into_iter()
        .map(|cause| (cause.field, cause.message))
        .collect()
}

/// An object that nothing but its tolerations can be held against.
pub(crate) fn object(kind: usize, tolerations: &[Toleration]) -> Value {
    let (version, kind) = KINDS[kind];
    let mut spec =
        json!({ "containers": [{ "name": "c", "image": "x" }], "tolerations": tolerations });
    if kind.ends_with("Job") {
        spec["restartPolicy"] = json!("Never");
    }
    let labels = json!({ "app": "oracle" });
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    let mut object =
        json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "oracle" } });
    object["spec"] = match kind {
        "Pod" => spec,
        "PodTemplate" => {
            object["template"] = template;
            return object;
        }
        "Job" => json!({ "template": template }),
        "CronJob" => {
            json!({ "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": template } } })
        }
        "ReplicationController" => json!({ "selector": labels, "template": template }),
        "StatefulSet" => {
            json!({ "serviceName": "oracle", "selector": { "matchLabels": labels }, "template": template })
        }
        _ => json!({ "selector": { "matchLabels": labels }, "template": template }),
    };
    object
}
