//! Profiles in `ConfigMap`s, read from the API server.
//!
//! Once a minute a reconcile looks at a `ConfigMap`'s metadata alone, and reads it again only when
//! its version has changed. While the API server does not answer, the version that was read last
//! counts. The texts and their joining with the coefficients of the spec are pd-signals'.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use pd_api::v1alpha1::{PDAutoscalerSpec, ProfileReference};
use pd_core::{PerRole, Policy, Role, capacity::Profile};
use pd_signals::{
    profile::{ProfileError, Wanted},
    stated::{ReadPart, Reference, Stated},
};
use tokio::time::Instant;
use tracing::debug;

use crate::answer::within_limit;

/// How long a part counts before its `ConfigMap`'s version is looked at again.
const KEPT: Duration = Duration::from_mins(1);

/// A part as it was read, and what from.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPart {
    reference: ProfileReference,
    gpus_per_replica: u32,
    resource_version: Option<String>,
    looked_at: Instant,
    part: Result<Profile, ProfileError>,
}

/// The parts of both roles as last read.
pub type Cache = PerRole<Option<CachedPart>>;

/// Reads the profiles that `spec` names, for replicas with so many GPUs each, and gives the next
/// cache.
pub async fn stated(
    client: &Client,
    namespace: &str,
    spec: &PDAutoscalerSpec,
    policy: &Policy,
    gpus_per_replica: PerRole<u32>,
    cache: Cache,
) -> (Stated, Cache) {
    let mut parts = PerRole::default();
    let mut next = Cache::default();
    let PerRole { prefill, decode } = cache;
    for (role, cached) in [(Role::Prefill, prefill), (Role::Decode, decode)] {
        let Some(reference) = spec.profile_ref(role) else {
            continue;
        };
        let gpus = gpus_per_replica[role];
        let cached = cached
            .filter(|cached| cached.reference == *reference && cached.gpus_per_replica == gpus);
        let (part, cached) = read(client, namespace, role, reference, gpus, cached).await;
        next[role] = cached;
        let reference = Reference {
            name: &reference.name,
            key: reference.key.as_deref(),
        };
        parts[role] = Some(ReadPart { reference, part });
    }
    (Stated::of(policy.coefficients, parts), next)
}

/// One role's part, and the cache for the next reconcile.
async fn read(
    client: &Client,
    namespace: &str,
    role: Role,
    reference: &ProfileReference,
    gpus_per_replica: u32,
    cached: Option<CachedPart>,
) -> (Result<Profile, ProfileError>, Option<CachedPart>) {
    if let Some(recent) = cached
        .as_ref()
        .filter(|cached| cached.looked_at.elapsed() < KEPT)
    {
        return (recent.part.clone(), cached);
    }
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let name = reference.name.as_str();
    let absent = || ProfileError::NotFound {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    };
    let unread = |error: kube::Error, cached: Option<CachedPart>| {
        debug!(%error, name, "ConfigMap cannot be read");
        let part = match &cached {
            Some(cached) => cached.part.clone(),
            None => Err(ProfileError::Unreadable {
                name: name.to_owned(),
                cause: error.to_string(),
            }),
        };
        (part, cached)
    };
    let version = match within_limit(config_maps.get_metadata_opt(name)).await {
        Ok(Some(found)) => found.metadata.resource_version,
        Ok(None) => return (Err(absent()), cached),
        Err(error) => return unread(error, cached),
    };
    if let Some(same) = cached
        .clone()
        .filter(|cached| cached.resource_version == version)
    {
        let looked_at = Instant::now();
        return (same.part.clone(), Some(CachedPart { looked_at, ..same }));
    }
    let found = match within_limit(config_maps.get_opt(name)).await {
        Ok(Some(found)) => found,
        Ok(None) => return (Err(absent()), cached),
        Err(error) => return unread(error, cached),
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
        looked_at: Instant::now(),
        part: part.clone(),
    };
    (part, Some(cached))
}
