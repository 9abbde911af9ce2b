//! Documents as JSON that is the same whenever it is written: keys in their order.
//!
//! The maps of the OCI specification's types have no order of their own.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// The document in one line.
pub fn bytes(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&sorted(serde_json::to_value(document)?))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map.into_iter().collect();
            let map = map.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(map.collect::<Map<String, Value>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_are_in_their_order_at_every_depth() {
        let names = ["c", "a", "b", "d", "f", "e"];
        let map: HashMap<&str, HashMap<&str, u8>> = names
            .into_iter()
            .map(|name| (name, HashMap::from([("z", 1), ("y", 2), ("x", 3)])))
            .collect();
        let inner = r#"{"x":3,"y":2,"z":1}"#;
        let want = ["a", "b", "c", "d", "e", "f"].map(|name| format!("\"{name}\":{inner}"));
        let text = String::from_utf8(bytes(&[map]).unwrap()).unwrap();
        assert_eq!(text, format!("[{{{}}}]", want.join(",")));
    }
}
