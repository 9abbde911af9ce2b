//! Bad specs and good ones. `refusals.yaml` lists what must be refused and with which words; here
//! the CEL rules are evaluated locally and the validation in Rust is asked, so that the two cannot
//! drift apart. The same list is run against a real API server by the cross-component tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::{collections::BTreeSet, fs, path::Path};

use kube_cel::Validator;
use pd_api::v1alpha1::PDAutoscaler;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct Refusal {
    name: String,
    patch: Value,
    by: By,
    path: String,
    #[serde(default)]
    says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum By {
    Schema,
    Rule,
}

fn refusals() -> Vec<Refusal> {
    serde_saphyr::from_str(include_str!("refusals.yaml")).unwrap()
}

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("pdautoscaler-"));
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let fields = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn patched(refusal: &Refusal) -> Value {
    let mut object = example("pdautoscaler-full.yaml");
    merge(&mut object["spec"], &refusal.patch);
    object
}

fn decode(refusal: &Refusal) -> PDAutoscaler {
    serde_json::from_value(patched(refusal))
        .unwrap_or_else(|error| panic!("{}: {error}", refusal.name))
}

/// Messages of the CEL rules that refuse `object`, after the defaults of the schema.
fn cel_messages(object: &Value) -> Vec<String> {
    let crd = serde_json::to_value(pd_api::Resource::Autoscaler.crd().unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    match Validator::new().validate(schema, object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.as_slice().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn rules_of_the_crd_refuse_bad_specs_and_say_why() {
    for refusal in refusals().iter().filter(|refusal| refusal.by == By::Rule) {
        let messages = cel_messages(&patched(refusal));
        assert!(
            messages
                .iter()
                .any(|message| message.contains(&refusal.says)),
            "{}: wanted `{}` in {messages:#?}",
            refusal.name,
            refusal.says
        );
    }
}

#[test]
fn validation_refuses_bad_specs_even_without_the_crd() {
    for refusal in refusals() {
        let errors = decode(&refusal).spec.policy().expect_err(&refusal.name);
        let hit = errors.iter().any(|error| {
            error.path.starts_with(&refusal.path) && error.to_string().contains(&refusal.says)
        });
        assert!(
            hit,
            "{}: wanted {} `{}` in {errors:#?}",
            refusal.name, refusal.path, refusal.says
        );
    }
}

#[test]
fn all_errors_are_found_at_once() {
    let mut object = example("pdautoscaler-full.yaml");
    for refusal in refusals()
        .iter()
        .filter(|refusal| refusal.path.starts_with("spec.objective"))
    {
        merge(&mut object["spec"], &refusal.patch);
    }
    let object: PDAutoscaler = serde_json::from_value(object).unwrap();
    let paths: BTreeSet<String> = object
        .spec
        .policy()
        .unwrap_err()
        .into_iter()
        .map(|error| error.path)
        .collect();
    let wanted = [
        "spec.objective.attainment.percent",
        "spec.objective.attainment.window",
        "spec.objective.tpot.target",
        "spec.objective.ttft.percentile",
        "spec.objective.ttft.target",
    ];
    assert_eq!(paths, wanted.map(str::to_owned).into());
}

#[test]
fn examples_pass_the_rules_and_become_policies() {
    for name in examples() {
        let written = example(&name);
        assert_eq!(cel_messages(&written), Vec::<String>::new(), "{name}");
        let object: PDAutoscaler = serde_json::from_value(written).unwrap();
        if let Err(errors) = object.spec.policy() {
            panic!("{name}: {errors:#?}");
        }
    }
}

#[test]
fn examples_hold_no_field_that_the_types_do_not_know() {
    for name in examples() {
        let written = example(&name);
        let object: PDAutoscaler = serde_json::from_value(written.clone()).unwrap();
        let mut merged = serde_json::to_value(object).unwrap();
        let known = merged.clone();
        merge(&mut merged, &written);
        assert_eq!(merged, known, "{name}");
    }
}
