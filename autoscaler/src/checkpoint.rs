//! Memory between processes: a checkpoint beside each object.
//!
//! It is read once, at the first decision of a process, and written at most once a minute. A memory
//! of another object of the same name, or about other workloads, is none. A memory that cannot be
//! read is no reason to forget: nothing is decided until it can be.

use std::io::{Read as _, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use kube::{
    Api, Resource as _,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
    runtime::reflector::ObjectRef,
};
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerCheckpoint, PDAutoscalerCheckpointSpec};
use pd_core::{
    PerRole, Role, RoleState,
    memory::{MEMORY_BYTES_MAX, Memory, Stored},
};
use serde_json::json;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    answer::within_limit,
    context::{CheckpointState, Context},
};

/// Why a stored memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It is no base64.
    #[error("it is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It does not decompress, or to more than memory may take.
    #[error("it does not decompress to at most {MEMORY_BYTES_MAX} bytes: {0}")]
    Compression(#[from] std::io::Error),
    /// It is no memory.
    #[error("it is no memory: {0}")]
    Json(#[from] serde_json::Error),
}

/// `memory` as text for a checkpoint.
fn encoded(memory: &Memory) -> Result<String, MemoryError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&serde_json::to_vec(memory)?)?;
    Ok(STANDARD.encode(encoder.finish()?))
}

/// The memory in `text`. Others may write checkpoints, so that no text may grow beyond bounds.
fn decoded(text: &str) -> Result<Memory, MemoryError> {
    let compressed = STANDARD.decode(text)?;
    let limit = MEMORY_BYTES_MAX as u64 + 1;
    let mut json = Vec::new();
    ZlibDecoder::new(compressed.as_slice())
        .take(limit)
        .read_to_end(&mut json)?;
    let Stored { memory, lost } = Stored::read(&serde_json::from_slice(&json)?);
    if !lost.is_empty() {
        warn!(
            ?lost,
            "parts of the checkpoint are of another version and were not read"
        );
    }
    Ok(memory)
}

/// The subject of memory: with another workload, size of a replica or engine, what was learnt of
/// the ones before holds no longer.
pub fn subject(
    object: &PDAutoscaler,
    roles: &PerRole<RoleState>,
    engine: Option<&'static str>,
) -> String {
    let of = |role: Role| {
        let (kind, name) = object.spec.role(role).target.replicas(role);
        let gpus = roles[role].gpus_per_replica;
        format!("{kind} {name} {gpus} GPUs")
    };
    let (prefill, decode) = (of(Role::Prefill), of(Role::Decode));
    format!("{prefill}, {decode}, {}", engine.unwrap_or("no engine"))
}

fn api(context: &Context, key: &ObjectRef<PDAutoscaler>) -> Api<PDAutoscalerCheckpoint> {
    let namespace = key.namespace.as_deref().unwrap_or_default();
    Api::namespaced(context.client.clone(), namespace)
}

/// The memory of the decision before, by whatever process, about `subject`; empty when there is
/// none. Fails when there may be one and it cannot be read.
pub async fn recall(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &PDAutoscaler,
    subject: &str,
) -> Result<Memory, kube::Error> {
    let uid = object.meta().uid.clone().unwrap_or_default();
    let kept = context.read(key, |state| state.memory.clone());
    let about = (uid, subject.to_owned());
    if let Some((_, memory)) = kept.as_ref().filter(|(known, _)| is_about(known, &about)) {
        return Ok(memory.clone());
    }
    if kept.is_some() {
        return Ok(Memory::default());
    }
    let Some(found) = within_limit(api(context, key).get_opt(&key.name)).await? else {
        return Ok(Memory::default());
    };
    let version = found.metadata.resource_version;
    context.update(key, |state| state.checkpoint.version = version);
    let PDAutoscalerCheckpointSpec {
        uid,
        subject,
        memory,
    } = found.spec;
    if !is_about(&(uid, subject), &about) {
        return Ok(Memory::default());
    }
    Ok(decoded(&memory).unwrap_or_else(|error| {
        warn!(%error, namespace = key.namespace, name = key.name, "the checkpoint cannot be used, starting without memory");
        Memory::default()
    }))
}

/// Whether memory about `known` is memory about `now`. An engine that is not found at the moment is
/// no other engine.
fn is_about(known: &(String, String), now: &(String, String)) -> bool {
    let workloads = |subject: &str| {
        let (workloads, engine) = subject.rsplit_once(", ").unwrap_or((subject, ""));
        let engine = Some(engine.to_owned()).filter(|engine| engine != "no engine");
        (workloads.to_owned(), engine)
    };
    let ((was, was_engine), (is, is_engine)) = (workloads(&known.1), workloads(&now.1));
    let same_engine = was_engine.zip(is_engine).is_none_or(|(was, is)| was == is);
    known.0 == now.0 && was == is && same_engine
}

/// Writes memory, unless that was done a moment ago or nothing changed.
pub async fn keep(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &PDAutoscaler,
    subject: &str,
    memory: &Memory,
) -> Result<(), kube::Error> {
    let state = context.read(key, |state| Some(state.checkpoint.clone()));
    let state = state.unwrap_or_default();
    let interval = context.decision_args.checkpoint_interval;
    if (state.written.as_ref()).is_some_and(|(_, at)| at.elapsed() < interval) {
        return Ok(());
    }
    let text = match encoded(memory) {
        Ok(text) => text,
        Err(error) => {
            warn!(%error, namespace = key.namespace, name = key.name, "memory cannot be kept");
            return Ok(());
        }
    };
    if (state.written.as_ref()).is_some_and(|(written, _)| *written == text) {
        return Ok(());
    }
    let spec = PDAutoscalerCheckpointSpec {
        uid: object.meta().uid.clone().unwrap_or_default(),
        subject: subject.to_owned(),
        memory: text.clone(),
    };
    let written = within_limit(write(context, key, object, state.version, spec)).await?;
    context.update(key, |state| {
        state.checkpoint = CheckpointState {
            version: written.metadata.resource_version,
            written: Some((text, Instant::now())),
        };
    });
    Ok(())
}

/// Creates or replaces a checkpoint, if it is still as it was last seen: a process that led before
/// must not put older memory over newer.
async fn write(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    object: &PDAutoscaler,
    version: Option<String>,
    spec: PDAutoscalerCheckpointSpec,
) -> Result<PDAutoscalerCheckpoint, kube::Error> {
    let api = api(context, key);
    let params = PostParams {
        field_manager: Some(crate::NAME.to_owned()),
        ..PostParams::default()
    };
    let Some(version) = version else {
        let metadata = ObjectMeta {
            name: Some(key.name.clone()),
            namespace: key.namespace.clone(),
            owner_references: object.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let checkpoint = PDAutoscalerCheckpoint { metadata, spec };
        return match api.create(&params, &checkpoint).await {
            // Somebody else's: learn its version, and write over it next time if we still lead.
            Err(kube::Error::Api(answer)) if answer.code == 409 => adopt(context, key, &api).await,
            created => created,
        };
    };
    // The owner too: the object may be another of the same name.
    let patch = Patch::Merge(json!({
        "metadata": {
            "resourceVersion": version,
            "ownerReferences": object.owner_ref(&()).map(|owner| vec![owner]),
        },
        "spec": spec,
    }));
    let params = PatchParams {
        field_manager: Some(crate::NAME.to_owned()),
        ..PatchParams::default()
    };
    match api.patch(&key.name, &params, &patch).await {
        Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => {
            adopt(context, key, &api).await
        }
        written => written,
    }
}

/// Takes a checkpoint's version as it is now, and fails as the write did.
async fn adopt(
    context: &Context,
    key: &ObjectRef<PDAutoscaler>,
    api: &Api<PDAutoscalerCheckpoint>,
) -> Result<PDAutoscalerCheckpoint, kube::Error> {
    let found = api.get_opt(&key.name).await?;
    let version = found.and_then(|found| found.metadata.resource_version);
    context.update(key, |state| state.checkpoint.version = version);
    let conflict = kube::core::Status::failure("the checkpoint was changed meanwhile", "Conflict");
    Err(kube::Error::Api(conflict.with_code(409).boxed()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn memory_survives_its_text() {
        let memory = Memory::default();
        assert_eq!(decoded(&encoded(&memory).unwrap()).unwrap(), memory);
    }

    #[test]
    fn a_text_that_grows_without_bound_is_refused() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 64 << 20]).unwrap();
        let bomb = STANDARD.encode(encoder.finish().unwrap());
        assert!(bomb.len() < 1 << 20);
        assert!(decoded(&bomb).is_err());
    }

    #[rstest]
    #[case("uid", "Deployment p 1 GPUs, Deployment d 1 GPUs, vLLM", true)]
    #[case("uid", "Deployment p 1 GPUs, Deployment d 1 GPUs, no engine", true)]
    #[case("other", "Deployment p 1 GPUs, Deployment d 1 GPUs, vLLM", false)]
    #[case("uid", "Deployment q 1 GPUs, Deployment d 1 GPUs, vLLM", false)]
    #[case("uid", "Deployment p 2 GPUs, Deployment d 1 GPUs, vLLM", false)]
    #[case("uid", "Deployment p 1 GPUs, Deployment d 1 GPUs, SGLang", false)]
    fn memory_is_about_one_object_its_workloads_and_engine(
        #[case] uid: &str,
        #[case] subject: &str,
        #[case] same: bool,
    ) {
        let known = "Deployment p 1 GPUs, Deployment d 1 GPUs, vLLM";
        let pair = |uid: &str, subject: &str| (uid.to_owned(), subject.to_owned());
        assert_eq!(is_about(&pair("uid", known), &pair(uid, subject)), same);
    }
}
