//! Writing replicas of workloads of any system.
//!
//! Each write is made of a fresh read, and against its version and the replicas that the decision
//! saw. Where both roles are in one object they are written at once. Where only something else of
//! an object changed, the write is made again; where its replicas did, the next reconcile decides.

use kube::{
    Client, Resource as _,
    api::{DynamicObject, Patch, PatchParams},
    core::Request,
};
use pd_core::Role;
use pd_systems::{
    edit::{Change, Edit, Write, edits},
    place::Place,
    target::{ObjectRef, Target},
};
use serde_json::{Value, json};

use super::{
    WorkloadError,
    read::{place, resource},
};
use crate::answer::{ending, within_limit};

/// How often a write is tried again when only the object's version, not its replicas, had changed.
pub const VERSION_RETRIES: usize = 3;

/// One role's workload and its replicas.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The workload.
    pub target: Target,
    /// Replicas that the decision saw.
    pub from: u32,
    /// Replicas wanted.
    pub to: u32,
}

/// Writes all of `wanted`, those that grow first. Gives the roles written.
pub async fn write(
    client: &Client,
    namespace: &str,
    wanted: &[Wanted],
    is_leader: impl Fn() -> bool,
) -> (Vec<Role>, Result<(), WorkloadError>) {
    let mut written = Vec::new();
    let mut failures = 0;
    loop {
        let rest: Vec<&Wanted> = wanted
            .iter()
            .filter(|wanted| !written.contains(&wanted.target.side))
            .collect();
        let next = match next(client, namespace, &rest).await {
            Ok(None) => return (written, Ok(())),
            Ok(Some(next)) => next,
            Err(error) => return (written, Err(error)),
        };
        // Right before the write: the reads may have taken longer than a term lasts.
        if !is_leader() {
            return (written, Err(WorkloadError::NotLeading));
        }
        match put(client, namespace, &next).await {
            Ok(()) => {
                failures = 0;
                written.extend(next.changes.iter().map(|&index| rest[index].target.side));
            }
            Err(error) => {
                failures += 1;
                let again = status(&error).is_some_and(|code| code == 409 || code == 422);
                if !again || failures == VERSION_RETRIES {
                    return (written, Err(failed(&next.object, error)));
                }
            }
        }
    }
}

/// The first write that is still to be made, of a fresh read.
async fn next(
    client: &Client,
    namespace: &str,
    rest: &[&Wanted],
) -> Result<Option<Edit>, WorkloadError> {
    let mut places: Vec<Place> = Vec::new();
    for wanted in rest {
        places.push(place(client, namespace, &wanted.target).await?);
    }
    let changes = rest.iter().zip(&places).map(|(wanted, place)| Change {
        place,
        from: wanted.from,
        to: wanted.to,
    });
    let changes: Vec<Change<'_>> = changes.collect();
    Ok(edits(&changes)?.into_iter().next())
}

async fn put(client: &Client, namespace: &str, edit: &Edit) -> Result<(), kube::Error> {
    let object = &edit.object;
    let of = resource(&object.api_version, &object.kind, &object.plural);
    let request = Request::new(DynamicObject::url_path(&of, Some(namespace)));
    let params = PatchParams {
        field_manager: Some(crate::NAME.to_owned()),
        ..PatchParams::default()
    };
    let request = match &edit.write {
        Write::Scale {
            replicas,
            resource_version,
        } => {
            let body = json!({
                "metadata": { "resourceVersion": resource_version },
                "spec": { "replicas": replicas },
            });
            request.patch_subresource("scale", &object.name, &params, &Patch::Merge(body))
        }
        Write::JsonPatch(operations) => {
            // The client's own JSON patch needs another feature of it; the form of the request is
            // the same as a merge patch's but for its type.
            let request = request.patch(&object.name, &params, &Patch::Merge(operations));
            request.map(|mut request| {
                if let Ok(kind) = "application/json-patch+json".parse() {
                    request.headers_mut().insert("content-type", kind);
                }
                request
            })
        }
    };
    let request = ending(request.map_err(kube::Error::BuildRequest)?)?;
    within_limit(client.request::<Value>(request))
        .await
        .map(drop)
}

fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn failed(object: &ObjectRef, source: kube::Error) -> WorkloadError {
    let (kind, name) = (object.kind.clone(), object.name.clone());
    if status(&source) == Some(409) {
        return WorkloadError::VersionConflict { kind, name };
    }
    WorkloadError::Unwritable { kind, name, source }
}
