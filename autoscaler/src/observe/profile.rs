//! Profiles in `ConfigMap`s, read from the API server.
//!
//! A `ConfigMap` is looked at in every pass, by its metadata alone, and read again only when its
//! version has changed. While the API server does not answer, the version that was read last
//! counts. The texts and their joining with the coefficients of the spec are pd-signals'.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use pd_api::v1alpha1::{PDAutoscalerSpec, ProfileReference};
use pd_core::{PerRole, Policy, Role, capacity::Profile};
use pd_signals::{
    profile::{ProfileError, Wanted},
    stated::{ReadPart, Reference, Stated},
};
use tracing::debug;

use crate::context::{Context, ObjectKey};

/// A part as it was read, and what from.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPart {
    reference: ProfileReference,
    gpus_per_replica: u32,
    resource_version: Option<String>,
    part: Result<Profile, ProfileError>,
}

/// Reads what `spec` and `policy` state about replicas with so many GPUs each.
pub async fn stated(
    context: &Context,
    key: &ObjectKey,
    spec: &PDAutoscalerSpec,
    policy: &Policy,
    gpus_per_replica: PerRole<u32>,
) -> Stated {
    let mut parts = PerRole::default();
    for role in Role::ALL {
        if let Some(reference) = spec.profile_ref(role) {
            let part = read(context, key, role, reference, gpus_per_replica[role]).await;
            let reference = Reference {
                name: &reference.name,
                key: reference.key.as_deref(),
            };
            parts[role] = Some(ReadPart { reference, part });
        }
    }
    Stated::of(policy.coefficients, parts)
}

async fn read(
    context: &Context,
    key: &ObjectKey,
    role: Role,
    reference: &ProfileReference,
    gpus_per_replica: u32,
) -> Result<Profile, ProfileError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let name = reference.name.as_str();
    let cached = context
        .read(key, |state| state.profiles[role].clone())
        .filter(|cached| {
            cached.reference == *reference && cached.gpus_per_replica == gpus_per_replica
        });
    let absent = || ProfileError::NotFound {
        name: name.to_owned(),
        namespace: key.namespace.clone(),
    };
    let unread = |error: kube::Error| {
        debug!(%error, name, "ConfigMap cannot be read");
        match &cached {
            Some(cached) => cached.part.clone(),
            None => Err(ProfileError::Unreadable {
                name: name.to_owned(),
                cause: error.to_string(),
            }),
        }
    };
    let version = match config_maps.get_metadata_opt(name).await {
        Ok(Some(found)) => found.metadata.resource_version,
        Ok(None) => return Err(absent()),
        Err(error) => return unread(error),
    };
    if let Some(cached) = &cached
        && cached.resource_version == version
    {
        return cached.part.clone();
    }
    let found = match config_maps.get_opt(name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Err(absent()),
        Err(error) => return unread(error),
    };
    let part = Wanted {
        role,
        name,
        data: &found.data.unwrap_or_default(),
        key: reference.key.as_deref(),
        gpus_per_replica,
    }
    .part();
    let cached = CachedPart {
        reference: reference.clone(),
        gpus_per_replica,
        resource_version: found.metadata.resource_version,
        part: part.clone(),
    };
    context.update(key, |state| state.profiles[role] = Some(cached));
    part
}
