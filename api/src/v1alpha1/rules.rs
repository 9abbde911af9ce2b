//! CEL rules of the CRD, built from the same bounds as the validation in Rust.
//!
//! The API server names the field's path; each rule adds the field's name, the value it holds and
//! what to write instead. Values are put in backticks, as in every message of the product. Whole
//! numbers are put in with `format`: the API server takes `string(number)` for a text without
//! bound, and refuses a CRD that adds it to another.

use kube::core::{Message, Reason, Rule};

use super::duration::{DURATION_REGEX, DurationRange, DurationText};

/// A rule with a fixed message.
pub(super) fn rule(cel: &str, message: &str) -> Rule {
    Rule::new(cel).message(message)
}

/// A rule whose message is itself CEL, to name the value.
pub(super) fn rule_naming_value(cel: &str, message_expression: &str) -> Rule {
    Rule::new(cel).message(Message::Expression(message_expression.to_owned()))
}

/// A string field called `name` must match `regex`.
pub(super) fn matching(name: &str, regex: &str, remedy: &str) -> Rule {
    rule_naming_value(
        &format!("self.matches('{regex}')"),
        &format!("'{name} `' + self + '` {remedy}'"),
    )
}

/// A duration field called `name` must lie in `range`.
pub(super) fn duration_within(name: &str, range: &DurationRange) -> Rule {
    let (least, most) = (
        DurationText::from(range.least),
        DurationText::from(range.most),
    );
    rule_naming_value(
        &format!(
            "self.matches('{DURATION_REGEX}') && duration(self) >= duration('{least}') && \
             duration(self) <= duration('{most}')"
        ),
        &format!("'{name} `' + self + '` {}'", range.remedy()),
    )
}

/// The field called `name` is known, but this version would ignore it.
pub(super) fn refused(name: &str, remedy: &str) -> Rule {
    Rule::new("false")
        .message(Message::Message(refusal(name, remedy)))
        .reason(Reason::FieldValueForbidden)
}

/// The message of a refused field.
pub(super) fn refusal(name: &str, remedy: &str) -> String {
    format!("{name} is not supported by this version; {remedy}")
}
