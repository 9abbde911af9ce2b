//! Live pods: an update may add tolerations and change the seconds of those that are there, as on a
//! cluster with the feature.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const REFUSED: &str = "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds";

fn live(list: Value) -> Value {
    let object = object("Pod", with(list));
    admitted("Pod", &object, None, Comparison::Off).unwrap().0
}

fn updated(old: &Value, list: Value) -> Result<Value, String> {
    let mut new = old.clone();
    new["spec"]["tolerations"] = list;
    admitted("Pod", &new, Some(old), Comparison::Off).map(|(stored, _)| stored)
}

fn plain(value: &str) -> Value {
    json!({ "key": "cost", "operator": "Equal", "value": value, "effect": "NoExecute" })
}

fn for_seconds(mut toleration: Value, seconds: i64) -> Value {
    toleration["tolerationSeconds"] = json!(seconds);
    toleration
}

#[rstest]
#[case::as_it_is(json!([toleration("Gt", "950"), plain("a")]), true)]
#[case::in_another_order(json!([plain("a"), toleration("Gt", "950")]), true)]
#[case::one_more(json!([toleration("Gt", "950"), plain("a"), toleration("Lt", "5")]), true)]
#[case::other_seconds(json!([for_seconds(toleration("Gt", "950"), 7), plain("a")]), true)]
#[case::another_number(json!([toleration("Gt", "900"), plain("a")]), false)]
#[case::another_operator(json!([toleration("Lt", "950"), plain("a")]), false)]
#[case::no_number(json!([plain("a")]), false)]
#[case::a_plain_one_changed(json!([toleration("Gt", "950"), plain("b")]), false)]
fn numbers_are_added_and_never_changed(#[case] list: Value, #[case] is_fine: bool) {
    let old = live(json!([toleration("Gt", "950"), plain("a")]));
    match updated(&old, list) {
        Ok(stored) => {
            assert!(is_fine, "{stored}");
            let texts = stored["spec"]["tolerations"].to_string();
            assert!(
                !texts.contains("\"Gt\"") && !texts.contains("\"Lt\""),
                "{texts}"
            );
        }
        Err(reason) => assert!(!is_fine && reason.ends_with(REFUSED), "{reason}"),
    }
}

#[test]
fn the_annotation_of_a_live_pod_changes_no_numbers_either() {
    let old = live(json!([toleration("Gt", "950")]));
    let mut new = old.clone();
    let entry = json!([{ "key": "sla", "operator": "Gt", "value": "1", "effect": "NoExecute" }]);
    new["metadata"]["annotations"][ANNOTATION] = json!(entry.to_string());
    let reason = admitted("Pod", &new, Some(&old), Comparison::Off).unwrap_err();
    assert!(reason.ends_with(REFUSED), "{reason}");
}

#[test]
fn every_fault_is_told_at_once() {
    let old = live(json!([toleration("Gt", "950")]));
    let reason = updated(&old, json!([toleration("Gt", "0900")])).unwrap_err();
    assert!(
        reason.contains("spec.tolerations[0].value: Invalid value") && reason.contains(REFUSED),
        "{reason}"
    );
}

#[test]
fn an_exists_beside_a_number_stays_one_when_the_manifest_is_applied_again() {
    let exists = json!({ "key": "sla", "operator": "Exists", "effect": "NoExecute" });
    let list = json!([exists, toleration("Gt", "950")]);
    for kind in ["Pod", "Deployment"] {
        let object = object(kind, with(list.clone()));
        let stored = admitted(kind, &object, None, Comparison::Off).unwrap().0;
        let mut again = stored.clone();
        let spec = if kind == "Pod" {
            "/spec"
        } else {
            "/spec/template/spec"
        };
        again.pointer_mut(spec).unwrap()["tolerations"] = list.clone();
        let again = admitted(kind, &again, Some(&stored), Comparison::Off)
            .unwrap()
            .0;
        assert_eq!(again, stored, "{kind}");
    }
}
