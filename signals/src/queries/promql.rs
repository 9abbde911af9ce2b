//! The grammar of PromQL as far as it is needed: unions, labels, durations, quotes.

use std::time::Duration;

/// The series of each part that no part before it has.
pub(super) fn united(parts: &[String]) -> String {
    parts.join(" or ")
}

/// `expression` with the value of the label `from` under the label `to` as well.
pub(super) fn relabelled(expression: &str, to: &str, from: &str) -> String {
    format!("label_replace({expression}, \"{to}\", \"$1\", \"{from}\", \"(.*)\")")
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
