//! Capacity: for each role one source, a profile or coefficients in range.
//!
//! The profile itself is read by the controller; here only the reference is checked.

use pd_core::{
    Role,
    policy::{Coefficients, DecodeCoefficients, PrefillCoefficients},
};

use super::{Errors, refused::is_object_name};
use crate::v1alpha1::{
    self as api,
    capacity::{
        BASE_MICROS_MAX, BATCH_MAX, EMPTY_REMEDY, FLAT_REMEDY, KEY_REMEDY, KV_CAPACITY_TOKENS_MAX,
        ONE_SOURCE_REMEDY, PART_MAX,
    },
    target::NAME_REMEDY,
};

/// The coefficients that are stated.
pub(super) fn coefficients(spec: Option<&api::CapacitySpec>, errors: &mut Errors) -> Coefficients {
    let Some(spec) = spec else {
        return Coefficients::default();
    };
    if spec.prefill.is_none() && spec.decode.is_none() {
        errors.push("capacity", "empty", format!("says nothing: {EMPTY_REMEDY}"));
    }
    let (mut prefill, mut decode) = (None, None);
    if let Some(spec) = &spec.prefill {
        let (profile, stated) = (spec.profile_ref.as_ref(), spec.coefficients);
        one_source(Role::Prefill, profile, stated.is_some(), errors);
        prefill = stated.map(|stated| self::prefill(stated, errors));
    }
    if let Some(spec) = &spec.decode {
        let (profile, stated) = (spec.profile_ref.as_ref(), spec.coefficients);
        one_source(Role::Decode, profile, stated.is_some(), errors);
        decode = stated.map(|stated| self::decode(stated, errors));
    }
    Coefficients { prefill, decode }
}

fn one_source(
    role: Role,
    profile: Option<&api::ProfileReference>,
    stated: bool,
    errors: &mut Errors,
) {
    let path = format!("capacity.{role}");
    if profile.is_some() == stated {
        let value = if stated { "both" } else { "empty" };
        let remedy = format!("has the wrong number of sources: {role} {ONE_SOURCE_REMEDY}");
        errors.push(&path, value, remedy);
    }
    let Some(profile) = profile else { return };
    if !is_object_name(&profile.name) {
        errors.push(
            &format!("{path}.profileRef.name"),
            &profile.name,
            NAME_REMEDY,
        );
    }
    if let Some(key) = &profile.key
        && !is_key(key)
    {
        errors.push(&format!("{path}.profileRef.key"), key, KEY_REMEDY);
    }
}

/// Whether `key` can be a key of a `ConfigMap`.
fn is_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn prefill(spec: api::PrefillCoefficientsSpec, errors: &mut Errors) -> PrefillCoefficients {
    let mut whole = |field: &str, value, least, most| {
        let path = format!("capacity.prefill.coefficients.{field}");
        errors.whole(&path, value, least, most)
    };
    PrefillCoefficients {
        base_micros: whole("baseMicros", spec.base_micros, 0, BASE_MICROS_MAX),
        per_token_nanos: whole("perTokenNanos", spec.per_token_nanos, 1, PART_MAX),
        per_token_squared_picos: whole(
            "perTokenSquaredPicos",
            spec.per_token_squared_picos,
            0,
            PART_MAX,
        ),
    }
}

fn decode(spec: api::DecodeCoefficientsSpec, errors: &mut Errors) -> DecodeCoefficients {
    let path = "capacity.decode.coefficients";
    if spec.per_request_nanos == 0 && spec.per_context_token_picos == 0 {
        errors.push(path, "flat", format!("does not grow: {FLAT_REMEDY}"));
    }
    let mut whole = |field: &str, value, least, most| {
        errors.whole(&format!("{path}.{field}"), value, least, most)
    };
    DecodeCoefficients {
        base_micros: whole("baseMicros", spec.base_micros, 1, BASE_MICROS_MAX),
        per_request_nanos: whole("perRequestNanos", spec.per_request_nanos, 0, PART_MAX),
        per_context_token_picos: whole(
            "perContextTokenPicos",
            spec.per_context_token_picos,
            0,
            PART_MAX,
        ),
        kv_capacity_tokens: spec
            .kv_capacity_tokens
            .map(|tokens| whole("kvCapacityTokens", tokens, 1, KV_CAPACITY_TOKENS_MAX)),
        batch_max: spec
            .batch_max
            .map(|requests| whole("batchMax", requests, 1, BATCH_MAX)),
    }
}
