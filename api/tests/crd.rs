//! The CRD that the chart ships: up to date, documented and bounded, without floating-point
//! numbers.

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use pd_api::{Resource, crd::REGENERATE};
use serde_json::Value;

#[test]
fn the_chart_ships_the_crds_of_these_types() {
    for resource in Resource::ALL {
        let path = resource.chart_path();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&path);
        let shipped = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            shipped == resource.crd_yaml().unwrap(),
            "{path} differs from the types; run `{REGENERATE}` and commit the result"
        );
    }
}

#[test]
fn the_yaml_is_a_crd_that_says_the_same_as_the_types() {
    for resource in Resource::ALL {
        let yaml = resource.crd_yaml().unwrap();
        let read: CustomResourceDefinition = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, resource.crd().unwrap());
    }
}

#[test]
fn the_resources_are_named_as_documented() {
    for (resource, short, scope, has_status) in [
        (Resource::Autoscaler, Some("pda"), "Namespaced", true),
        (Resource::Checkpoint, Some("pdac"), "Namespaced", false),
        (Resource::Budget, None, "Cluster", true),
    ] {
        let crd = resource.crd().unwrap();
        let name = format!("{}.pdautoscaler.io", resource.plural());
        assert_eq!(crd.metadata.name, Some(name));
        assert_eq!(crd.spec.scope, scope);
        let short = short.map(|short| vec![short.to_owned()]);
        assert_eq!(crd.spec.names.short_names, short);
        let subresources = crd.spec.versions[0].subresources.as_ref();
        let status = subresources.is_some_and(|found| found.status.is_some());
        assert_eq!(status, has_status);
    }
    // `kubectl get pdautoscaler` lists what users write, and not what the controller keeps.
    let category = |resource: Resource| resource.crd().unwrap().spec.names.categories;
    let own = vec!["pdautoscaler".to_owned()];
    assert_eq!(category(Resource::Autoscaler), Some(own.clone()));
    assert_eq!(category(Resource::Budget), Some(own));
    assert_eq!(category(Resource::Checkpoint), None);
}

#[test]
fn every_field_is_documented_and_bounded() {
    for resource in Resource::ALL {
        let crd = serde_json::to_value(resource.crd().unwrap()).unwrap();
        let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut faults = Vec::new();
        for (name, schema) in root["properties"].as_object().unwrap() {
            check(name, schema, &mut faults);
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }
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
