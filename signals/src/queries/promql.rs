//! The grammar of PromQL as far as it is needed: unions, labels, durations, quotes, and the names
//! of parts.

use std::time::Duration;

use crate::tag::{TAG, TERM, Tag};

/// The series of each part that no part before it has.
pub(super) fn united(parts: &[String]) -> String {
    parts.join(" or ")
}

/// `expression` with the value of the label `from` under the label `to` as well.
pub(super) fn relabelled(expression: &str, to: &str, from: &str) -> String {
    format!("label_replace({expression}, \"{to}\", \"$1\", \"{from}\", \"(.*)\")")
}

/// Endings of a number that change nothing of it, as patterns whose first group is the rest: an
/// exponent of zero, a fraction of zeros, and zeros at the end of a fraction.
const IDLE_ENDINGS: [&str; 3] = [
    "([0-9.]+)[eE][+-]?0+",
    "([0-9]+)\\\\.0*",
    "([0-9]+\\\\.[0-9]*[1-9])0+",
];

/// `expression` with the number in the label `from` in its shortest spelling under the label `to`.
/// `from` stays, so that series which differ in its spelling alone stay apart.
pub(super) fn shortened(expression: &str, to: &str, from: &str) -> String {
    let mut text = relabelled(expression, to, from);
    for ending in IDLE_ENDINGS {
        text = format!("label_replace({text}, \"{to}\", \"$1\", \"{to}\", \"{ending}\")");
    }
    text
}

/// A PromQL duration. Milliseconds are exact and always accepted.
pub(super) fn duration(span: Duration) -> String {
    format!("{}ms", span.as_millis().max(1))
}

/// A value inside a double-quoted PromQL string.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Expressions that are added up where each may lack series that the others have.
pub(super) fn terms(expressions: impl Iterator<Item = String>) -> String {
    let term = |(number, expression): (usize, String)| {
        format!("label_replace({expression}, \"{TERM}\", \"{number}\", \"\", \"\")")
    };
    united(&expressions.enumerate().map(term).collect::<Vec<_>>())
}

/// `expression` under the label that says which part of an answer it is.
pub(super) fn tagged(tag: Tag, expression: &str) -> String {
    format!("label_replace({expression}, \"{TAG}\", \"{tag}\", \"\", \"\")")
}
