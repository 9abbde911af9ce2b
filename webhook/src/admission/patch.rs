//! The JSON Patch (RFC 6902) that admission answers with: operations of `json-patch`, at pointers
//! of `jsonptr`, which escapes the parts of a path.

use json_patch::{
    AddOperation, PatchOperation, RemoveOperation, ReplaceOperation,
    jsonptr::{Pointer, PointerBuf},
};
use serde_json::Value;

/// Adds a member, appends to a list (`-`), or replaces a member that is there.
pub(super) fn add(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value })
}

/// Replaces what is there.
pub(super) fn replace(path: PointerBuf, value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path, value })
}

/// Removes what is there.
pub(super) fn remove(path: PointerBuf) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path })
}

/// `base` with `parts` below it.
pub(super) fn below(base: &Pointer, parts: &[&str]) -> PointerBuf {
    let mut path = base.to_buf();
    for part in parts {
        path.push_back(*part);
    }
    path
}
