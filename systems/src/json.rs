//! Values inside objects of the API server, by JSON pointer. An absent value and one of another
//! type are the same: `None`.

use serde_json::Value;

/// The text at `pointer`.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str()
}

/// The count at `pointer`. Negative numbers are no counts.
pub(crate) fn count(object: &Value, pointer: &str) -> Option<u32> {
    u32::try_from(object.pointer(pointer)?.as_u64()?).ok()
}

/// The list at `pointer`; an empty one where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Whether the value at `pointer` is `true`.
pub(crate) fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// The object's name; empty where it has none.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name").unwrap_or_default()
}

/// Whether the condition `kind` of the object's status is true.
pub(crate) fn condition(object: &Value, kind: &str) -> bool {
    list(object, "/status/conditions").iter().any(|condition| {
        text(condition, "/type") == Some(kind) && text(condition, "/status") == Some("True")
    })
}

/// Whether the status at `pointer` counts fewer updated replicas than replicas: older ones exist.
pub(crate) fn has_older(object: &Value, pointer: &str) -> bool {
    let of = |field: &str| count(object, &format!("{pointer}/{field}")).unwrap_or(0);
    of("updatedReplicas") < of("replicas")
}

/// Whether the object's status counts so for its role `name`.
pub(crate) fn role_has_older(object: &Value, name: &str) -> bool {
    let mut statuses = list(object, "/status/roleStatuses").iter();
    statuses.any(|status| text(status, "/name") == Some(name) && has_older(status, ""))
}

/// The owner that controls the object.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    let mut owners = list(object, "/metadata/ownerReferences").iter();
    owners.find(|owner| owner["controller"] == true)
}

/// Whether the status is older than the spec, as far as the object says so.
pub(crate) fn is_behind(object: &Value) -> bool {
    let generation = |pointer| object.pointer(pointer).and_then(Value::as_i64);
    generation("/metadata/generation").unwrap_or(0)
        > generation("/status/observedGeneration").unwrap_or(0)
}

/// `segment` as a part of a JSON pointer.
pub(crate) fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}
