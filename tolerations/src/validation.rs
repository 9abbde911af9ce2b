//! The faults of taints and tolerations, in the words of the API server and with its field paths.
//!
//! The same checks in the same order as Kubernetes 1.36 and 1.37, for pods and for every pod
//! template: each fault is a [`FieldError`] whose text is what `kubectl` would print. With the gate
//! off `Gt` and `Lt` are refused, not dropped, by a message whose list of supported values
//! contradicts itself; that is upstream's, and kept. An update whose old spec already compares is
//! let through ([`comparison_for_update`]); a new pod from an old template is not.
//!
//! Sources: kubernetes `pkg/apis/core/validation/validation.go`, `pkg/api/pod/util.go`;
//! kubernetes/apimachinery `pkg/api/validate/content` and `pkg/util/validation/field`.

use std::{collections::BTreeSet, fmt};

use super::{
    Comparison, Effect, NotANumber, Operator, Taint, Toleration, canonical_int64,
    format::{is_dns_label, is_label_name},
    go_text,
};

/// Longest label value and longest name part of a label key, bytes.
const LABEL_MAX: usize = 63;
/// Longest prefix of a label key, bytes.
const PREFIX_MAX: usize = 253;

const KEY_CHARACTERS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_CHARACTERS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PREFIX_CHARACTERS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The class of a fault, a cause in the API server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueForbidden`.
    Forbidden,
}

/// One fault, which displays as the API server writes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FieldError {
    /// Path of the field, such as `spec.tolerations[0].value`.
    pub field: String,
    /// The kind of fault.
    pub fault: Fault,
    /// The value, already quoted; empty where the API server names none.
    pub value: String,
    /// The right form; may be empty.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Invalid => "Invalid value",
            Fault::NotSupported => "Unsupported value",
            Fault::Required => "Required value",
            Fault::Duplicate => "Duplicate value",
            Fault::Forbidden => "Forbidden",
        };
        write!(f, "{}: {fault}", self.field)?;
        for part in [&self.value, &self.detail] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

/// Whether the API server's validation compares, given its gate and the pod spec that an update
/// replaces.
pub fn comparison_for_update(gate: Comparison, old: &[Toleration]) -> Comparison {
    if old
        .iter()
        .any(|toleration| toleration.operator.is_numeric())
    {
        Comparison::On
    } else {
        gate
    }
}

/// The faults of the list at `path`, such as `spec.tolerations` or
/// `spec.template.spec.tolerations`.
pub fn tolerations(list: &[Toleration], path: &str, comparison: Comparison) -> Vec<FieldError> {
    let mut faults = Faults::default();
    for (index, toleration) in list.iter().enumerate() {
        faults.path = format!("{path}[{index}]");
        check_toleration(toleration, comparison, &mut faults);
    }
    faults.found
}

/// The faults of an update of a pod's tolerations: a live pod may only gain some, or change their
/// seconds.
pub fn pod_update(
    new: &[Toleration],
    old: &[Toleration],
    path: &str,
    gate: Comparison,
) -> Vec<FieldError> {
    let kept = |old: &Toleration| {
        new.iter().any(|new| {
            (&old.key, &old.operator, &old.value, &old.effect)
                == (&new.key, &new.operator, &new.value, &new.effect)
        })
    };
    if old.iter().all(kept) {
        return tolerations(new, path, comparison_for_update(gate, old));
    }
    vec![changed_toleration(path)]
}

/// The fault of an update that takes a toleration from a live pod or changes more than its seconds.
pub fn changed_toleration(path: &str) -> FieldError {
    FieldError {
        field: path.to_owned(),
        fault: Fault::Forbidden,
        value: String::new(),
        detail: "existing toleration can not be modified except its tolerationSeconds".to_owned(),
    }
}

/// The faults of a node's taints at `path`, such as `spec.taints`.
pub fn taints(list: &[Taint], path: &str) -> Vec<FieldError> {
    let mut faults = Faults::default();
    let mut seen = BTreeSet::new();
    for (index, taint) in list.iter().enumerate() {
        faults.path = format!("{path}[{index}]");
        faults.key(&taint.key);
        let value = label_value(&taint.value);
        if !value.is_empty() {
            faults.invalid("value", go_text::quoted(&taint.value), &value.join(";"));
        }
        if taint.effect.is_unset() {
            faults.add("effect", Fault::Required, String::new(), "");
        } else {
            faults.effect(&taint.effect);
        }
        if !seen.insert((taint.key.as_str(), taint.effect.as_str())) {
            let detail = "taints must be unique by key and effect pair";
            faults.add("", Fault::Duplicate, internal(taint), detail);
        }
    }
    faults.found
}

/// A taint as Go writes its internal type: without the names of the API.
fn internal(taint: &Taint) -> String {
    let added = taint.time_added.as_deref();
    format!(
        r#"{{"Key":{},"Value":{},"Effect":{},"TimeAdded":{}}}"#,
        go_text::json(&taint.key),
        go_text::json(&taint.value),
        go_text::json(taint.effect.as_str()),
        added.map_or_else(|| "null".to_owned(), go_text::json),
    )
}

fn check_toleration(toleration: &Toleration, comparison: Comparison, faults: &mut Faults) {
    let operator = toleration.operator.as_str();
    if !toleration.key.is_empty() {
        faults.key(&toleration.key);
    } else if toleration.operator != Operator::Exists {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        faults.invalid("operator", go_text::json(operator), detail);
    }
    if toleration.toleration_seconds.is_some() && toleration.effect != Effect::NoExecute {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        faults.invalid("effect", go_text::json(toleration.effect.as_str()), detail);
    }
    check_value(toleration, comparison, faults);
    if !toleration.effect.is_unset() {
        faults.effect(&toleration.effect);
    }
}

fn check_value(toleration: &Toleration, comparison: Comparison, faults: &mut Faults) {
    let value = go_text::quoted(&toleration.value);
    let operator = toleration.operator.as_str();
    let unsupported = |faults: &mut Faults, supported: &str| {
        faults.add(
            "operator",
            Fault::NotSupported,
            go_text::json(operator),
            supported,
        );
    };
    match &toleration.operator {
        Operator::Unset | Operator::Equal => {
            let wrong = label_value(&toleration.value);
            if !wrong.is_empty() {
                faults.invalid("operator", value, &wrong.join(";"));
            }
        }
        Operator::Exists => {
            if !toleration.value.is_empty() {
                faults.invalid(
                    "operator",
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
        }
        // The list names what has just been refused: upstream's words.
        Operator::Gt | Operator::Lt if comparison == Comparison::Off => {
            unsupported(faults, r#"supported values: "Equal", "Exists", "Lt", "Gt""#);
        }
        Operator::Gt | Operator::Lt => check_number(&toleration.value, faults),
        Operator::Other(_) => unsupported(faults, r#"supported values: "Equal", "Exists""#),
    }
}

/// The grammar and Go's parser are asked one after the other, so that `abc` has two faults and
/// `0100` one.
fn check_number(text: &str, faults: &mut Faults) {
    let value = go_text::quoted(text);
    let grammar = match canonical_int64(text) {
        Err(NotANumber::Empty) => Some("must be non-empty"),
        Err(NotANumber::NotCanonical) => Some("must be a valid decimal integer in canonical form"),
        Ok(_) | Err(NotANumber::OutOfRange) => None,
    };
    if let Some(detail) = grammar {
        faults.invalid("value", value.clone(), detail);
    }
    if let Some(fault) = go_parse_fault(text) {
        let detail = format!("strconv.ParseInt: parsing {value}: {fault}");
        faults.invalid("value", value, &detail);
    }
}

/// The fault that Go's `strconv.ParseInt` in base 10 finds in `text`: it takes signs and leading
/// zeros.
fn go_parse_fault(text: &str) -> Option<&'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("invalid syntax");
    }
    text.parse::<i64>().is_err().then_some("value out of range")
}

/// The faults of a label key, in the API server's words.
pub fn label_key(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            let wrong = prefix_faults(prefix);
            faults.extend(
                wrong
                    .into_iter()
                    .map(|fault| format!("prefix part {fault}")),
            );
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {KEY_CHARACTERS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_label_name(name) {
        faults.push(format!("name part {KEY_CHARACTERS}"));
    }
    faults
}

fn prefix_faults(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["must be non-empty".to_owned()];
    }
    let mut faults = Vec::new();
    if prefix.len() > PREFIX_MAX {
        faults.push(format!("must be no more than {PREFIX_MAX} bytes"));
    }
    if !prefix.split('.').all(is_dns_label) {
        faults.push(PREFIX_CHARACTERS.to_owned());
    }
    faults
}

/// The faults of a label value, in the API server's words.
pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > LABEL_MAX {
        faults.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    if !value.is_empty() && !is_label_name(value) {
        faults.push(VALUE_CHARACTERS.to_owned());
    }
    faults
}

/// The faults found so far, and the entry that is looked at.
#[derive(Default)]
struct Faults {
    path: String,
    found: Vec<FieldError>,
}

impl Faults {
    fn add(&mut self, field: &str, fault: Fault, value: String, detail: &str) {
        let separator = if field.is_empty() { "" } else { "." };
        self.found.push(FieldError {
            field: format!("{}{separator}{field}", self.path),
            fault,
            value,
            detail: detail.to_owned(),
        });
    }

    fn invalid(&mut self, field: &str, value: String, detail: &str) {
        self.add(field, Fault::Invalid, value, detail);
    }

    fn key(&mut self, key: &str) {
        for detail in label_key(key) {
            self.invalid("key", go_text::quoted(key), &detail);
        }
    }

    fn effect(&mut self, effect: &Effect) {
        if let Effect::Other(text) = effect {
            let supported = r#"supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#;
            self.add(
                "effect",
                Fault::NotSupported,
                go_text::json(text),
                supported,
            );
        }
    }
}
