//! Entries that are written by hand and have to be right before a pod is made of them, terms of an
//! author that have to stay, and the labels that hold pods where they run.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

#[rstest]
#[case::effect_in_small_letters(json!({ "key": "sla", "operator": "Gt", "value": "5", "effect": "Noexecute" }), "entry 0: effect: Unsupported value: \"Noexecute\"")]
#[case::key_with_a_blank(json!({ "key": "sla value", "operator": "Gt", "value": "5" }), "entry 0: key: Invalid value: \"sla value\"")]
#[case::key_with_two_slashes(json!({ "key": "a/b/c", "operator": "Ge", "value": "5" }), "entry 0: key: Invalid value")]
#[case::seconds_for_every_effect(json!({ "key": "sla", "operator": "Gt", "value": "5", "tolerationSeconds": 30 }), "effect must be 'NoExecute' when `tolerationSeconds` is set")]
#[case::seconds_for_another_effect(json!({ "key": "sla", "operator": "Gt", "value": "5", "effect": "NoSchedule", "tolerationSeconds": 30 }), "effect must be 'NoExecute'")]
#[case::present_and_below_zero(json!({ "key": "sla", "operator": "Lt", "value": "0", "mustBePresent": true }), "no node can satisfy")]
#[case::present_and_above_all(json!({ "key": "sla", "operator": "Gt", "value": "9223372036854775807", "mustBePresent": true }), "no node can satisfy")]
#[case::present_and_negative(json!({ "key": "sla", "operator": "Range", "value": "-9..-1", "effect": "NoExecute", "mustBePresent": true }), "no node can satisfy")]
#[case::key_without_room(json!({ "key": format!("{}.example/sla", ["a"; 120].join(".")), "operator": "Gt", "value": "5" }), "cannot be mirrored")]
fn entries_that_no_pod_could_have_are_refused_in_the_template(
    #[case] entry: Value,
    #[case] says: &str,
) {
    for (_, kind, _) in KINDS {
        let object = object(kind, annotated(&json!([entry]), json!(null)));
        let words = admitted(kind, &object, None, Comparison::Off).unwrap_err();
        assert!(words.contains(says), "{kind}: {words}");
    }
}

#[test]
fn entries_that_exclude_each_other_are_refused_and_too_many_keys_too() {
    let present = |operator: &str, value: &str| json!({ "key": "sla", "operator": operator, "value": value, "effect": "NoExecute", "mustBePresent": true });
    for (entries, says) in [
        (
            json!([present("Gt", "950"), present("Lt", "900")]),
            "no node can satisfy",
        ),
        (json!([present("Gt", "950"), present("Lt", "952")]), ""),
        (
            (0..5)
                .map(|key| json!({ "key": format!("k{key}"), "operator": "Ge", "value": "1" }))
                .collect(),
            "more than 128 terms",
        ),
    ] {
        let object = object("Deployment", annotated(&entries, json!(null)));
        match admitted("Deployment", &object, None, Comparison::Off) {
            Ok((stored, _)) => assert!(says.is_empty() && stored == object, "{stored}"),
            Err(words) => assert!(!says.is_empty() && words.contains(says), "{words}"),
        }
    }
}

#[test]
fn a_bad_entry_that_is_stored_keeps_nobody_from_other_updates() {
    let bad = json!([{ "key": "sla", "operator": "Gt", "value": "5", "effect": "Noexecute" }]);
    let stored = object("Deployment", annotated(&bad, json!(null)));
    let mut scaled = stored.clone();
    scaled["spec"]["replicas"] = json!(3);
    assert!(admitted("Deployment", &scaled, Some(&stored), Comparison::Off).is_ok());
    scaled["spec"]["template"]["spec"]["image"] = json!("new");
    assert!(admitted("Deployment", &scaled, Some(&stored), Comparison::Off).is_err());
}

fn with_terms(terms: &Value, effect: &str) -> Value {
    let mut template =
        with(json!([{ "key": "sla", "operator": "Gt", "value": "5", "effect": effect }]));
    template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({ "nodeSelectorTerms": terms });
    template
}

#[rstest]
#[case::twice(json!([{ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }, { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }]), 2)]
#[case::three_times_with_another_between(json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }, { "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }, { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }]), 4)]
#[case::one_that_matches_nothing_twice(json!([{}, {}, { "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }]), 3)]
fn a_term_that_is_written_twice_rolls_nothing_out(#[case] terms: Value, #[case] count: usize) {
    let object = object("Deployment", with_terms(&terms, "NoExecute"));
    let (once, _) = admitted("Deployment", &object, None, Comparison::Off).unwrap();
    let written = super::terms(&once["spec"]["template"])
        .as_array()
        .unwrap()
        .len();
    assert_eq!(written, count);
    let (twice, _) = admitted("Deployment", &once, None, Comparison::Off).unwrap();
    assert_eq!(twice, once);
    let mut touched = once.clone();
    touched["spec"]["template"]["metadata"]["labels"]["touched"] = json!("yes");
    let (stored, _) = admitted("Deployment", &touched, Some(&once), Comparison::Off).unwrap();
    assert_eq!(stored, touched);
}

#[test]
fn fields_that_only_a_newer_api_server_knows_are_kept() {
    let terms = json!([{ "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"], "ignoreCase": true }], "weighs": { "more": [1] } }]);
    let mut template = with_terms(&terms, "NoExecute");
    template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["evaluate"] = json!("Always");
    let object = object("Pod", template);
    let (stored, _) = admitted("Pod", &object, None, Comparison::Off).unwrap();
    let required = &stored["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(required["evaluate"], "Always");
    for term in required["nodeSelectorTerms"].as_array().unwrap() {
        assert_eq!(term["weighs"], terms[0]["weighs"]);
        assert_eq!(term["matchExpressions"][0], terms[0]["matchExpressions"][0]);
    }
    // A term that has nothing but such a field is not one that matches nothing.
    let only = with_terms(&json!([{ "weighs": 1 }]), "NoExecute");
    let (stored, _) = admitted("Pod", &super::object("Pod", only), None, Comparison::Off).unwrap();
    assert_eq!(super::terms(&stored).as_array().unwrap().len(), 2);
}

fn number(effect: &str) -> Value {
    json!([{ "key": "sla", "operator": "Gt", "value": "950", "effect": effect }])
}

#[test]
fn a_new_pod_can_be_held_where_it_runs_if_its_numbers_are_about_placing() {
    let (held, _) = admitted(
        "Pod",
        &object("Pod", with(number("NoSchedule"))),
        None,
        Comparison::Off,
    )
    .unwrap();
    assert_eq!(
        held["metadata"]["annotations"]["pdautoscaler.io/hold"],
        "u-1"
    );
    let last = terms(&held).as_array().unwrap().last().unwrap();
    assert_eq!(
        last["matchExpressions"],
        json!([{ "key": "held.taint.pdautoscaler.io/u-1", "operator": "Exists" }])
    );
    assert_eq!(
        admitted("Pod", &held, None, Comparison::Off).unwrap().0,
        held,
        "twice"
    );
    let (free, _) = admitted(
        "Pod",
        &object("Pod", with(number("NoExecute"))),
        None,
        Comparison::Off,
    )
    .unwrap();
    assert!(free["metadata"]["annotations"]["pdautoscaler.io/hold"].is_null());
    // With both effects the other number holds all the same.
    let (both, _) = admitted(
        "Pod",
        &object("Pod", with(number(""))),
        None,
        Comparison::Off,
    )
    .unwrap();
    let texts: Vec<String> = terms(&both)
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let held: Vec<&String> = texts.iter().filter(|text| text.contains("held.")).collect();
    assert_eq!((texts.len(), held.len()), (6, 2));
    assert!(
        held.iter()
            .all(|text| text.contains("no-execute") && !text.contains("no-schedule"))
    );
}

#[test]
fn templates_name_no_hold_but_that_of_a_daemon_set_is_its_own() {
    let deployment = object("Deployment", with(number("NoSchedule")));
    let (stored, _) = admitted("Deployment", &deployment, None, Comparison::Off).unwrap();
    assert!(!stored.to_string().contains("held."), "{stored}");
    let mut review: Value = serde_json::from_slice(&review(
        "DaemonSet",
        &object("DaemonSet", with(number("NoSchedule"))),
        None,
    ))
    .unwrap();
    review["request"]["name"] = json!("watcher");
    let response = answered(
        &serde_json::to_vec(&review).unwrap(),
        rewriting(Comparison::Off),
    );
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch = String::from_utf8(patch.0).unwrap();
    assert!(
        patch.contains("ns.held.taint.pdautoscaler.io/watcher"),
        "{patch}"
    );
    assert!(!patch.contains("pdautoscaler.io~1hold"), "{patch}");
}
