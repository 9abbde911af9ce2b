//! What one replica can do, where the user says so: coefficients of the spec, or a profile in a
//! `ConfigMap`.
//!
//! A `ConfigMap` is looked at in every pass, by its metadata alone, and read again only when its version
//! has changed. Whatever is wrong with it never stops a decision: the role is learnt from metrics then,
//! and status says what to mend. While the API server does not answer, what was read last counts.

pub mod parse;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use pd_api::v1alpha1::{PDAutoscalerSpec, ProfileReference};
use pd_core::{
    PerRole, Policy, Role,
    capacity::{DecodeModel, PrefillModel, Profile},
};
use tracing::debug;

pub use self::parse::ProfileError;
use self::parse::Wanted;
use crate::context::{Context, ObjectKey};

/// What is stated about replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// For the core: the parts that could be had.
    pub profile: Option<Profile>,
    /// Where each role's part comes from, whether it could be had or not.
    pub origin: PerRole<Origin>,
    /// What is wrong, by role.
    pub errors: Vec<(Role, ProfileError)>,
}

/// Where one role's part of a profile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nothing is stated: it is learnt.
    #[default]
    Learnt,
    /// Coefficients in the spec.
    Coefficients,
    /// The `ConfigMap` of this name.
    ConfigMap(String),
}

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
        if let Some(reference) = reference(spec, role) {
            let gpus = *gpus_per_replica.get(role);
            *parts.get_mut(role) = Some(read(context, key, role, reference, gpus).await);
        }
    }
    joined(spec, policy, parts)
}

/// The same where the data of `ConfigMap`s is at hand, by name, and no API server is asked.
pub fn stated_in(
    config_maps: &BTreeMap<String, BTreeMap<String, String>>,
    key: &ObjectKey,
    spec: &PDAutoscalerSpec,
    policy: &Policy,
    gpus_per_replica: PerRole<u32>,
) -> Stated {
    let part = |role: Role| {
        let reference = reference(spec, role)?;
        let name = reference.name.as_str();
        Some(match config_maps.get(name) {
            Some(data) => Wanted {
                role,
                name,
                data,
                key: reference.key.as_deref(),
                gpus_per_replica: *gpus_per_replica.get(role),
            }
            .part(),
            None => Err(ProfileError::NotFound {
                name: name.to_owned(),
                namespace: key.namespace.clone(),
            }),
        })
    };
    joined(spec, policy, PerRole::from_fn(part))
}

/// One profile of the coefficients of the spec and what came of each role's reference.
fn joined(
    spec: &PDAutoscalerSpec,
    policy: &Policy,
    parts: PerRole<Option<Result<Profile, ProfileError>>>,
) -> Stated {
    let mut stated = Stated::default();
    let mut profile = of_coefficients(policy);
    let PerRole { prefill, decode } = parts;
    for (role, part) in [(Role::Prefill, prefill), (Role::Decode, decode)] {
        if let Some(reference) = reference(spec, role) {
            *stated.origin.get_mut(role) = Origin::ConfigMap(reference.name.clone());
        } else if role_is_stated(&profile, role) {
            *stated.origin.get_mut(role) = Origin::Coefficients;
        }
        match part {
            Some(Ok(part)) => add(&mut profile, part),
            Some(Err(error)) => stated.errors.push((role, error)),
            None => {}
        }
    }
    stated.profile = (profile != Profile::default()).then_some(profile);
    stated
}

fn reference(spec: &PDAutoscalerSpec, role: Role) -> Option<&ProfileReference> {
    let capacity = spec.capacity.as_ref()?;
    match role {
        Role::Prefill => capacity.prefill.as_ref()?.profile_ref.as_ref(),
        Role::Decode => capacity.decode.as_ref()?.profile_ref.as_ref(),
    }
}

const fn role_is_stated(profile: &Profile, role: Role) -> bool {
    match role {
        Role::Prefill => profile.prefill.is_some(),
        Role::Decode => profile.decode.is_some(),
    }
}

/// Adds the one role that `part` has. Its limits are decode's.
fn add(profile: &mut Profile, part: Profile) {
    if part.prefill.is_some() {
        profile.prefill = part.prefill;
    }
    if part.decode.is_some() {
        profile.decode = part.decode;
        profile.kv_capacity_tokens = part.kv_capacity_tokens;
        profile.batch_max = part.batch_max;
    }
}

fn of_coefficients(policy: &Policy) -> Profile {
    let stated = policy.coefficients;
    let decode = stated.decode;
    Profile {
        prefill: stated
            .prefill
            .map(|prefill| PrefillModel::Coefficients(prefill.into())),
        decode: decode.map(|decode| DecodeModel::Coefficients(decode.into())),
        kv_capacity_tokens: decode.and_then(|decode| decode.kv_capacity_tokens.map(f64::from)),
        batch_max: decode.and_then(|decode| decode.batch_max),
    }
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
        .read(key, |state| state.profiles.get(role).clone())
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
    context.update(key, |state| *state.profiles.get_mut(role) = Some(cached));
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_two_sources_become_one_profile() {
        let text = "decode: { baseMilliseconds: 8, millisecondsPerRequest: 0.05 }\nbatchMax: 64";
        let decode = pd_core::capacity::import::inline::profile(text).unwrap();
        let text = "prefill: { baseMilliseconds: 1, millisecondsPerKilotoken: 40 }";
        let prefill = pd_core::capacity::import::inline::profile(text).unwrap();
        let mut both = Profile::default();
        add(&mut both, decode.clone());
        add(&mut both, prefill.clone());
        assert_eq!(
            (both.prefill, both.decode),
            (prefill.prefill, decode.decode)
        );
        assert_eq!(both.batch_max, Some(64));
    }
}
