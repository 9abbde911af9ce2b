//! The profile of both roles' replicas, from coefficients and from profiles in `ConfigMap`s.
//!
//! A role that nothing is stated about is learnt. Whatever is wrong with a profile never stops a
//! decision: the role is learnt then too, and the error says what to fix.

use std::collections::BTreeMap;

use pd_core::{
    PerRole, Role,
    capacity::{DecodeModel, PrefillModel, Profile},
    policy::Coefficients,
};

use crate::profile::{ProfileError, Wanted};

/// The profile that is stated, and its sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stated {
    /// For the core: the parts that could be had.
    pub profile: Option<Profile>,
    /// Where each role's part comes from, whether it could be had or not.
    pub origin: PerRole<Origin>,
    /// The faults, by role.
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

/// A key of a `ConfigMap` that holds a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Name of the `ConfigMap`.
    pub name: &'a str,
    /// The key, if one is named.
    pub key: Option<&'a str>,
}

/// The part that was read for the reference of a role.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadPart<'a> {
    /// The reference.
    pub reference: Reference<'a>,
    /// The role's part, or why there is none.
    pub part: Result<Profile, ProfileError>,
}

impl Stated {
    /// One profile of `coefficients` and what was read for each role's reference.
    pub fn of(coefficients: Coefficients, parts: PerRole<Option<ReadPart<'_>>>) -> Self {
        let mut stated = Self::default();
        let mut profile = of_coefficients(coefficients);
        let PerRole { prefill, decode } = parts;
        for (role, read) in [(Role::Prefill, prefill), (Role::Decode, decode)] {
            // Stated even if the ConfigMap cannot be read: the error beside it says why the role is
            // learnt.
            if let Some(read) = &read {
                stated.origin[role] = Origin::ConfigMap(read.reference.name.to_owned());
            } else if role_is_stated(&profile, role) {
                stated.origin[role] = Origin::Coefficients;
            }
            match read.map(|read| read.part) {
                Some(Ok(part)) => add(&mut profile, part),
                Some(Err(error)) => stated.errors.push((role, error)),
                None => {}
            }
        }
        stated.profile = (profile != Profile::default()).then_some(profile);
        stated
    }

    /// The same where the data of the `ConfigMap`s of `namespace` is at hand, by name.
    pub fn in_config_maps(
        config_maps: &BTreeMap<String, BTreeMap<String, String>>,
        namespace: &str,
        coefficients: Coefficients,
        references: PerRole<Option<Reference<'_>>>,
        gpus_per_replica: PerRole<u32>,
    ) -> Self {
        let parts = PerRole::from_fn(|role| {
            let reference = references[role]?;
            let Reference { name, key } = reference;
            let part = match config_maps.get(name) {
                Some(data) => Wanted {
                    role,
                    name,
                    data,
                    key,
                    gpus_per_replica: gpus_per_replica[role],
                }
                .part(),
                None => Err(ProfileError::NotFound {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                }),
            };
            Some(ReadPart { reference, part })
        });
        Self::of(coefficients, parts)
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

fn of_coefficients(coefficients: Coefficients) -> Profile {
    let decode = coefficients.decode;
    Profile {
        prefill: coefficients
            .prefill
            .map(|prefill| PrefillModel::Coefficients(prefill.into())),
        decode: decode.map(|decode| DecodeModel::Coefficients(decode.into())),
        kv_capacity_tokens: decode.and_then(|decode| decode.kv_capacity_tokens.map(f64::from)),
        batch_max: decode.and_then(|decode| decode.batch_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_two_sources_become_one_profile() {
        let text = "decode: { baseMilliseconds: 8, millisecondsPerRequest: 0.05 }\nbatchMax: 64";
        let decode = crate::import::inline::profile(text).unwrap();
        let text = "prefill: { baseMilliseconds: 1, millisecondsPerKilotoken: 40 }";
        let prefill = crate::import::inline::profile(text).unwrap();
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
