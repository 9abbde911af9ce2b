//! The CRD that the chart ships: up to date, documented and bounded, without floating-point
//! numbers.

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use pd_api::crd::{CHART_PATH, REGENERATE, crd, crd_yaml};
use serde_json::Value;

#[test]
fn the_chart_ships_the_crd_of_these_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(CHART_PATH);
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == crd_yaml().unwrap(),
        "{CHART_PATH} differs from the types in api/src/v1alpha1.rs; run `{REGENERATE}` and commit the result"
    );
}

#[test]
fn the_yaml_is_a_crd_that_says_the_same_as_the_types() {
    let read: CustomResourceDefinition = serde_saphyr::from_str(&crd_yaml().unwrap()).unwrap();
    assert_eq!(read, crd().unwrap());
}

#[test]
fn the_resource_is_named_as_documented() {
    let crd = crd().unwrap();
    assert_eq!(
        crd.metadata.name.as_deref(),
        Some("pdautoscalers.pdautoscaler.io")
    );
    assert_eq!(crd.spec.scope, "Namespaced");
    assert_eq!(crd.spec.names.short_names, Some(vec!["pda".to_owned()]));
    assert_eq!(
        crd.spec.names.categories,
        Some(vec!["pdautoscaler".to_owned()])
    );
    assert!(
        crd.spec.versions[0]
            .subresources
            .as_ref()
            .is_some_and(|s| s.status.is_some())
    );
}

#[test]
fn every_field_is_documented_and_bounded() {
    let crd = serde_json::to_value(crd().unwrap()).unwrap();
    let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut faults = Vec::new();
    for (name, schema) in root["properties"].as_object().unwrap() {
        check(name, schema, &mut faults);
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Adds what is missing in a field and in those below it.
fn check(path: &str, schema: &Value, faults: &mut Vec<String>) {
    let mut need = |has: bool, what: &str| {
        if !has {
            faults.push(format!("{path} has no {what}"));
        }
    };
    let has = |keyword: &str| !schema[keyword].is_null();
    need(has("description") || path.ends_with("[]"), "description");
    match schema["type"].as_str().unwrap_or_default() {
        "string" => need(
            has("maxLength") || has("enum") || has("format"),
            "maxLength",
        ),
        "array" => need(has("maxItems"), "maxItems"),
        "object" => need(has("properties") || has("maxProperties"), "maxProperties"),
        "integer" | "boolean" => {}
        // A quantity: a text or a number, each with its bound.
        "" if has("pattern") => need(has("maxLength") && has("minimum"), "maxLength and minimum"),
        other => need(false, &format!("known type but `{other}`")),
    }
    if has("items") {
        check(&format!("{path}[]"), &schema["items"], faults);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        check(&format!("{path}.{name}"), below, faults);
    }
}
