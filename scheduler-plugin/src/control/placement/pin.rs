//! The pin: required node affinity that lets a released pod go to one node and no other.
//!
//! A gated pod's affinity may only become narrower (KEP-3838): a pod without terms may get some,
//! one that has terms may get further requirements in each. So the node's name is added to every
//! term. It is one name, for the API server takes no more in a field requirement, and because a
//! spare node could be the planned one of another pod of the group.

use serde_json::{Value, json};

/// Where required node affinity is in a pod's spec.
const REQUIRED: &str = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";

fn requirement(node: &str) -> Value {
    json!({ "key": "metadata.name", "operator": "In", "values": [node] })
}

fn terms(spec: &Value) -> Option<&Vec<Value>> {
    spec.pointer(REQUIRED)?["nodeSelectorTerms"].as_array()
}

/// The affinity of a pod with this spec, pinned to `node`.
pub(super) fn pinned(spec: &Value, node: &str) -> Value {
    let mut terms = terms(spec).cloned().unwrap_or_default();
    if terms.is_empty() {
        terms.push(json!({}));
    }
    for term in &mut terms {
        let mut fields = term["matchFields"].as_array().cloned().unwrap_or_default();
        fields.push(requirement(node));
        term["matchFields"] = Value::Array(fields);
    }
    let mut affinity = spec["affinity"].clone();
    if !affinity.is_object() {
        affinity = json!({});
    }
    affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
        Value::Array(terms);
    affinity
}

/// The spec without the pin to `node`: what its author wrote. Nothing if it has no such pin.
pub(super) fn unpinned(spec: &Value, node: &str) -> Option<Value> {
    let pin = requirement(node);
    let mut left = Vec::new();
    for term in terms(spec)? {
        let mut term = term.clone();
        let fields = term["matchFields"].as_array_mut()?;
        let before = fields.len();
        fields.retain(|field| *field != pin);
        if fields.len() == before {
            return None;
        }
        let has_fields = !fields.is_empty();
        let has_labels = term["matchExpressions"]
            .as_array()
            .is_some_and(|expressions| !expressions.is_empty());
        if has_fields || has_labels {
            left.push(term);
        }
    }
    let mut spec = spec.clone();
    let required = spec.pointer_mut(REQUIRED)?;
    if left.is_empty() {
        *required = Value::Null;
    } else {
        required["nodeSelectorTerms"] = Value::Array(left);
    }
    Some(spec)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn with_terms(terms: &Value) -> Value {
        json!({ "affinity": {
            "podAffinity": { "kept": true },
            "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } },
        } })
    }

    #[rstest]
    #[case::labels(json!([{ "matchExpressions": [{ "key": "a", "operator": "Exists" }] }]))]
    #[case::alternatives(json!([
        { "matchExpressions": [{ "key": "a", "operator": "Exists" }] },
        { "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["bad"] }] },
    ]))]
    fn a_pin_is_in_every_term_and_comes_off_again(#[case] alternatives: Value) {
        let spec = with_terms(&alternatives);
        let pinned = json!({ "affinity": pinned(&spec, "n1") });
        let of_pin = terms(&pinned).unwrap();
        assert_eq!(of_pin.len(), alternatives.as_array().unwrap().len());
        for term in of_pin {
            assert!(
                term["matchFields"]
                    .as_array()
                    .unwrap()
                    .contains(&requirement("n1"))
            );
        }
        assert_eq!(pinned["affinity"]["podAffinity"]["kept"], true);
        assert_eq!(unpinned(&pinned, "n2"), None, "pinned to another node");
        let back = unpinned(&pinned, "n1").unwrap();
        for (now, before) in terms(&back)
            .unwrap()
            .iter()
            .zip(alternatives.as_array().unwrap())
        {
            assert_eq!(now["matchExpressions"], before["matchExpressions"]);
        }
    }

    #[test]
    fn a_pod_without_affinity_gets_a_term_of_its_own() {
        let pinned = json!({ "affinity": pinned(&json!({}), "n1") });
        assert_eq!(terms(&pinned).unwrap().len(), 1);
        let back = unpinned(&pinned, "n1").unwrap();
        assert!(terms(&back).is_none());
    }
}
