//! The numeric tolerations of a role: each by itself, and whether all of them together can be kept.

use pd_core::Role;
use pd_tolerations::{
    ExtendedToleration, Rule,
    mirror::{constraints, lower},
    validation::label_key,
};

use super::Errors;
use crate::v1alpha1::{
    NumericTolerationSpec, RoleSpec, TaintEffect,
    toleration::{
        KEY_LENGTH_MAX, KEY_REMEDY, MAX, SECONDS_MAX, SECONDS_REMEDY, VALUE_LENGTH_MAX,
        VALUE_REMEDY,
    },
};

/// Adds an error for everything that is wrong with the tolerations of a role.
pub(super) fn check(spec: &RoleSpec, role: Role, errors: &mut Errors) {
    let path = format!("{role}.numericTolerations");
    let list = &spec.numeric_tolerations;
    if list.len() > MAX {
        let count = format!("{} tolerations", list.len());
        errors.push(&path, count, format!("must be at most {MAX}"));
        return;
    }
    let known = errors.0.len();
    for (index, one) in list.iter().enumerate() {
        entry(one, &format!("{path}[{index}]"), errors);
    }
    if errors.0.len() > known || list.is_empty() {
        return;
    }
    let tolerations: Vec<ExtendedToleration> =
        list.iter().map(NumericTolerationSpec::toleration).collect();
    // Their affinity alone must be one that a pod can carry; a pod's own may still be too much.
    let rules: Vec<Rule> = tolerations
        .iter()
        .filter_map(|one| Rule::extended(one).ok())
        .collect();
    let lowered = constraints(&rules).and_then(|constraints| lower(None, &constraints));
    if let Err(error) = lowered {
        let count = format!("{} tolerations", list.len());
        errors.push(&path, count, format!("cannot be kept: {error}"));
    }
}

fn entry(one: &NumericTolerationSpec, path: &str, errors: &mut Errors) {
    if one.key.len() > KEY_LENGTH_MAX || !label_key(&one.key).is_empty() {
        errors.push(&format!("{path}.key"), &one.key, KEY_REMEDY);
    }
    let toleration = one.toleration();
    let digits = |part: &str| part.bytes().filter(u8::is_ascii_digit).count();
    let is_short =
        one.value.len() <= VALUE_LENGTH_MAX && one.value.split("..").all(|part| digits(part) <= 18);
    // A wrong key has its own message.
    let keyed = ExtendedToleration {
        key: "key".to_owned(),
        ..toleration
    };
    if !is_short || keyed.interval().is_err() {
        let remedy = format!("of operator {} {VALUE_REMEDY}", keyed.operator.as_str());
        errors.push(&format!("{path}.value"), &one.value, remedy);
    }
    let Some(seconds) = one.toleration_seconds else {
        return;
    };
    let path = format!("{path}.tolerationSeconds");
    if !(0..=SECONDS_MAX).contains(&seconds) {
        let remedy = format!("must be a whole number from 0 to {SECONDS_MAX}");
        errors.push(&path, seconds, remedy);
    }
    if one.effect != Some(TaintEffect::NoExecute) {
        errors.push(&path, seconds, SECONDS_REMEDY);
    }
}
