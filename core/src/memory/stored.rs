//! Memory as another version of the program wrote it, read as far as it can be.
//!
//! A controller that is rolled back finds memory of the newer one. Fields that it does not know are
//! passed over, fields that are missing or hold something else get their first value, and
//! everything around them is kept: a value that nobody can read costs itself and no more.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Memory;

/// Memory that was read, and the parts that could not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The memory.
    pub memory: Memory,
    /// JSON pointers of the parts that got their first value instead.
    pub lost: Vec<String>,
}

impl Stored {
    /// Reads memory from its JSON.
    pub fn read(stored: &Value) -> Self {
        if let Some(memory) = decoded(stored) {
            return Self {
                memory,
                lost: Vec::new(),
            };
        }
        let fresh = Memory::default();
        let mut lost = Vec::new();
        // Plain data: it cannot fail.
        let mut kept = serde_json::to_value(&fresh).unwrap_or_default();
        if let Some(stored) = stored.as_object() {
            lay_over(&mut kept, "", stored, &mut lost);
        } else {
            lost.push(String::new());
        }
        Self {
            memory: decoded(&kept).unwrap_or(fresh),
            lost,
        }
    }
}

fn decoded(stored: &Value) -> Option<Memory> {
    Memory::deserialize(stored).ok()
}

/// Puts what is `stored` at `pointer` into `kept`, as far as memory can be read with it.
fn lay_over(kept: &mut Value, pointer: &str, stored: &Map<String, Value>, lost: &mut Vec<String>) {
    for (key, value) in stored {
        let at = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        let Some(place) = kept.pointer_mut(pointer).and_then(Value::as_object_mut) else {
            return;
        };
        let before = place.insert(key.clone(), value.clone());
        if decoded(kept).is_some() {
            continue;
        }
        let is_object = before.as_ref().is_some_and(Value::is_object);
        if let Some(place) = kept.pointer_mut(pointer).and_then(Value::as_object_mut) {
            match before {
                Some(before) => place.insert(key.clone(), before),
                None => place.remove(key),
            };
        }
        match value {
            Value::Object(inner) if is_object => lay_over(kept, &at, inner, lost),
            _ => lost.push(at),
        }
    }
}
