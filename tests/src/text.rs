//! Text for people: a line past the test harness, and the end of a log.

use std::io::{self, Write as _};

/// Writes one line to standard error, not captured by the test harness.
pub(crate) fn say(message: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "pd-cluster: {message}");
}

/// The last `count` lines of `text`.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
