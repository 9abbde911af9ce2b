//! JSON Patch (RFC 6902), as far as admission needs it: add, replace, remove.
//!
//! A path is built from its parts, which are escaped here and nowhere else.

use serde::Serialize;
use serde_json::Value;

/// One change of one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Operation {
    /// Adds a member, appends to a list (`-`), or replaces a member that is there.
    Add {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Replaces what is there.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Removes what is there.
    Remove {
        /// Where.
        path: String,
    },
}

/// `base` with `parts` below it.
pub(super) fn below(base: &str, parts: &[&str]) -> String {
    let mut path = base.to_owned();
    for part in parts {
        path.push('/');
        path.push_str(&part.replace('~', "~0").replace('/', "~1"));
    }
    path
}
