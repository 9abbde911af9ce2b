//! The gate's actions as requests. Each names the object that was seen, by UID and version, so that
//! one that was changed meanwhile is left as it is.

use std::fmt::Debug;

use json_patch::{AddOperation, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, Patch, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use pd_api::v1alpha1::{
    PlacementGroup,
    placement_group::{GATE, NODE_ANNOTATION, PLACEMENT_CONDITION},
};
use pd_placement::gate::{GroupState, PodVersion, Record};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    objects::{PlacementPod, parts},
    pin::pinned,
    record,
};
use crate::control::{
    Context,
    write::{WriteError, WriteOutcome},
};

/// The reason on a pod whose group does not exist.
pub(super) const NO_GROUP: &str = "NoGroup";

/// Writes a group's record. The version after the write comes back.
pub(super) async fn write(
    context: &Context,
    group: &PlacementGroup,
    next: &Record,
) -> Result<(WriteOutcome, Option<String>), WriteError> {
    let groups: Api<PlacementGroup> = api(context, group.namespace());
    let now = Time(Timestamp::now());
    let generation = group.metadata.generation;
    let status = record::written(next, group.status.as_ref(), generation, &now);
    let version = group.resource_version().unwrap_or_default();
    let mut patch = Vec::from(as_seen(group.uid().unwrap_or_default(), version));
    patch.push(at(&["status"], json!(status)));
    let patch = Patch::Json::<()>(json_patch::Patch(patch));
    let (name, params) = (group.name_any(), context.patch_params());
    versioned(context, groups.patch_status(&name, &params, &patch)).await
}

/// Pins a pod to its node and takes our gate off, in one patch. The version after it comes back.
pub(super) async fn release(
    context: &Context,
    pod: &PlacementPod,
    node: &str,
) -> Result<(WriteOutcome, Option<String>), WriteError> {
    let pods: Api<PlacementPod> = api(context, pod.namespace());
    let Some(patch) = release_patch(pod, node) else {
        return Ok((WriteOutcome::Conflict, None));
    };
    let patch = Patch::Json::<()>(json_patch::Patch(patch));
    let (name, params) = (pod.name_any(), context.patch_params());
    versioned(context, pods.patch(&name, &params, &patch)).await
}

/// Makes a write. The version after it comes back.
async fn versioned<K: kube::Resource>(
    context: &Context,
    request: impl Future<Output = Result<K, kube::Error>>,
) -> Result<(WriteOutcome, Option<String>), WriteError> {
    let mut version = None;
    let outcome = context
        .write(async {
            let written = request.await?;
            version.clone_from(&written.meta().resource_version);
            Ok(written)
        })
        .await?;
    Ok((outcome, version))
}

/// The version of an object now, whose write was not answered: it may have been made all the same.
pub(super) async fn version_of<K>(context: &Context, object: &K) -> Option<String>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let objects: Api<K> = api(context, object.namespace());
    let now = objects.get_metadata(&object.name_any()).await;
    now.ok()?.resource_version()
}

fn release_patch(pod: &PlacementPod, node: &str) -> Option<Vec<PatchOperation>> {
    let gates = pod.spec["schedulingGates"].as_array()?;
    let gate = gates.iter().position(|gate| gate["name"] == GATE)?;
    let mut patch = Vec::from(as_seen(pod.uid()?, pod.resource_version()?));
    if pod.metadata.annotations.is_none() {
        patch.push(at(&["metadata", "annotations"], json!({})));
    }
    patch.push(at(
        &["metadata", "annotations", NODE_ANNOTATION],
        node.into(),
    ));
    patch.push(at(&["spec", "affinity"], pinned(&pod.spec, node)));
    patch.push(removed(&["spec", "schedulingGates", &gate.to_string()]));
    Some(patch)
}

/// Keeps the node's room for a pod that is still gated: the scheduler counts it there.
pub(super) async fn nominate(
    context: &Context,
    pod: &PlacementPod,
    node: &str,
) -> Result<PlacementPod, WriteError> {
    let pods: Api<PlacementPod> = api(context, pod.namespace());
    let patch = json!({
        "metadata": { "uid": pod.uid(), "resourceVersion": pod.resource_version() },
        "status": { "nominatedNodeName": node },
    });
    let mut nominated = pod.clone();
    let name = pod.name_any();
    context
        .write(async {
            let patch = Patch::Merge(&patch);
            let written = pods
                .patch_status(&name, &context.patch_params(), &patch)
                .await?;
            nominated.metadata = written.metadata.clone();
            Ok(written)
        })
        .await?;
    Ok(nominated)
}

/// Says on a pod how its group is, or that there is none, such as for the PDAutoscaler that it
/// joined one for.
pub(super) async fn mark(
    context: &Context,
    group: &str,
    pod: &PodVersion,
    state: Option<GroupState>,
    autoscaler: Option<&str>,
) -> Result<WriteOutcome, WriteError> {
    let (namespace, name) = parts(group);
    let pods: Api<PlacementPod> = api(context, Some(namespace.to_owned()));
    let is_placed = state.and_then(GroupState::is_placed) == Some(true);
    let (reason, message) = match state {
        Some(state) => {
            let word = state.as_str();
            (
                word,
                format!("PlacementGroup `{name}` is {word}; its status says why"),
            )
        }
        None => (NO_GROUP, without_group(name, autoscaler)),
    };
    let patch = json!({
        "metadata": { "uid": pod.uid },
        "status": { "conditions": [{
            "type": PLACEMENT_CONDITION,
            "status": if is_placed { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "lastTransitionTime": Time(Timestamp::now()),
        }] },
    });
    let patch = Patch::Strategic(&patch);
    let params = context.patch_params();
    context
        .write(pods.patch_status(&pod.name, &params, &patch))
        .await
}

fn without_group(name: &str, autoscaler: Option<&str>) -> String {
    match autoscaler {
        None => format!(
            "PlacementGroup `{name}` does not exist: create it, or create the pod without its label"
        ),
        Some(autoscaler) => format!(
            "PDAutoscaler `{autoscaler}` has no PlacementGroup yet: its condition PlacementGroup says why"
        ),
    }
}

/// Ends a pod: one that has a node by an eviction, so that disruption budgets are kept to.
pub(super) async fn end(
    context: &Context,
    group: &str,
    pod: &PodVersion,
    is_bound: bool,
) -> Result<WriteOutcome, WriteError> {
    let (namespace, _) = parts(group);
    let pods: Api<Pod> = api(context, Some(namespace.to_owned()));
    let delete = DeleteParams {
        dry_run: context.args.control.dry_run,
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            // One that has just got a node has another version, and is not deleted.
            resource_version: (!is_bound).then(|| pod.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    if is_bound {
        let evict = EvictParams {
            delete_options: Some(delete),
            post_options: PostParams {
                dry_run: context.args.control.dry_run,
                ..PostParams::default()
            },
        };
        return context.write(pods.evict(&pod.name, &evict)).await;
    }
    context.write(pods.delete(&pod.name, &delete)).await
}

/// The objects of a kind in a namespace.
pub(super) fn api<K>(context: &Context, namespace: Option<String>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(context.client.clone(), &namespace.unwrap_or_default())
}

/// Has the API server refuse a patch unless its object is still that of `uid` at `version`.
pub(super) fn as_seen(uid: String, version: String) -> [PatchOperation; 2] {
    [
        at(&["metadata", "uid"], uid.into()),
        at(&["metadata", "resourceVersion"], version.into()),
    ]
}

/// Puts `value` at `path`.
pub(super) fn at(path: &[&str], value: Value) -> PatchOperation {
    let path = pointer(path);
    PatchOperation::Add(AddOperation { path, value })
}

/// Takes away what is at `path`.
pub(super) fn removed(path: &[&str]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation {
        path: pointer(path),
    })
}

fn pointer(parts: &[&str]) -> PointerBuf {
    let mut path = PointerBuf::new();
    for part in parts {
        path.push_back(*part);
    }
    path
}
