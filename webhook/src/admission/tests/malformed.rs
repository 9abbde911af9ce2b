//! Malformed input, and the words it is refused with: bodies, objects, annotations, numbers.
//!
//! A body that is no review gets an error, which the server makes a status 400; an object that
//! cannot be judged is answered with 422 and a message that names the place. Nothing is let through
//! because it could not be read.

use serde_json::{Value, json};

use super::*;

#[rstest]
#[case::empty(b"", "EOF")]
#[case::no_json(b"x", "line 1 column 1")]
#[case::yaml(b"apiVersion: admission.k8s.io/v1", "line 1 column 1")]
#[case::null(b"null", "null")]
#[case::a_list(b"[]", "invalid type: sequence")]
#[case::a_list_of_members(br#"["admission.k8s.io/v1",{"uid":"u"}]"#, "invalid type: sequence")]
#[case::a_text(b"\"AdmissionReview\"", "invalid type: string")]
#[case::cut_off(br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","#, "EOF")]
#[case::more_behind_it(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}{}"#,
    "trailing"
)]
#[case::asked_twice(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"},"request":{"uid":"v"}}"#,
    "duplicate field `request`"
)]
#[case::no_unicode(
    b"{\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{\"uid\":\"\xff\"}}",
    "unicode"
)]
#[case::control_character(
    b"{\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{\"uid\":\"\0\"}}",
    "control character"
)]
#[case::another_version(
    br#"{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#,
    "`admission.k8s.io/v1beta1`"
)]
#[case::no_version(br#"{"request":{"uid":"u"}}"#, "apiVersion")]
#[case::no_request(br#"{"apiVersion":"admission.k8s.io/v1"}"#, "`request` is missing")]
#[case::null_request(
    br#"{"apiVersion":"admission.k8s.io/v1","request":null}"#,
    "`request` is missing"
)]
#[case::request_is_a_text(
    br#"{"apiVersion":"admission.k8s.io/v1","request":"u"}"#,
    "invalid type: string"
)]
#[case::no_uid(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{}}"#,
    "missing field `uid`"
)]
#[case::uid_is_a_number(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":1}}"#,
    "expected a string"
)]
#[case::kind_is_a_text(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":"Pod"}}"#,
    "invalid type: string"
)]
#[case::operation_is_a_list(
    br#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","operation":["CREATE"]}}"#,
    "expected a string"
)]
fn what_is_no_review_is_told_so(#[case] body: &[u8], #[case] says: &str) {
    for error in [
        mutate(body, rewriting(Comparison::Off), &Known::default()).unwrap_err(),
        validate(body, &Known::default()).unwrap_err(),
    ] {
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// The message of a refusal, whose status is the one of an invalid object.
fn refused(kind: &str, object: &Value) -> String {
    let response = answered(&review(kind, object, None), rewriting(Comparison::Off));
    assert_eq!(response["allowed"], false, "{kind} {object}");
    assert!(response["patch"].is_null() && response["patchType"].is_null());
    let status = &response["status"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    status["message"].as_str().unwrap().to_owned()
}

#[rstest]
#[case::pod_is_a_text(json!("pod"), "invalid type: string")]
#[case::pod_is_a_number(json!(7), "invalid type: integer")]
#[case::metadata_is_a_text(json!({ "metadata": "m", "spec": {} }), "invalid type: string")]
#[case::annotations_are_a_list(json!({ "metadata": { "annotations": ["a"] } }), "expected a map")]
#[case::annotation_is_a_list(json!({ "metadata": { "annotations": { "pdautoscaler.io/numeric-tolerations": [] } } }), "expected a string")]
#[case::labels_are_numbers(json!({ "metadata": { "labels": { "a": 1 } } }), "expected a string")]
#[case::spec_is_a_text(json!({ "spec": "s" }), "invalid type: string")]
#[case::tolerations_are_a_number(json!({ "spec": { "tolerations": 3 } }), "expected a sequence")]
#[case::tolerations_are_an_object(json!({ "spec": { "tolerations": { "key": "sla" } } }), "expected a sequence")]
#[case::toleration_is_a_text(json!({ "spec": { "tolerations": ["sla"] } }), "invalid type: string")]
#[case::toleration_is_null(json!({ "spec": { "tolerations": [null] } }), "invalid type: null")]
#[case::key_is_a_number(json!({ "spec": { "tolerations": [{ "key": 1 }] } }), "expected a string")]
#[case::value_is_a_number(json!({ "spec": { "tolerations": [{ "key": "sla", "operator": "Gt", "value": 950 }] } }), "expected a string")]
#[case::toleration_is_a_list(json!({ "spec": { "tolerations": [["sla", "Gt", "1"]] } }), "invalid type: sequence")]
#[case::seconds_are_a_text(json!({ "spec": { "tolerations": [{ "tolerationSeconds": "30" }] } }), "expected i64")]
#[case::seconds_are_a_fraction(json!({ "spec": { "tolerations": [{ "tolerationSeconds": 0.5 }] } }), "expected i64")]
#[case::seconds_are_beyond_all(json!({ "spec": { "tolerations": [{ "tolerationSeconds": u64::MAX }] } }), "expected i64")]
#[case::spec_is_a_list(json!({ "spec": [[{ "key": "sla", "operator": "Gt", "value": "1" }]] }), "invalid type: sequence")]
#[case::metadata_are_a_list(json!({ "metadata": [{ "a": "b" }], "spec": {} }), "invalid type: sequence")]
#[case::affinity_is_a_list(json!({ "spec": { "affinity": [{}] } }), "invalid type: sequence")]
#[case::node_affinity_is_a_list(json!({ "spec": { "affinity": { "nodeAffinity": [] } } }), "invalid type: sequence")]
#[case::term_is_a_list(json!({ "spec": { "affinity": { "nodeAffinity": {
    "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [[]] } } } } }), "invalid type: sequence")]
#[case::terms_are_an_object(json!({ "spec": { "affinity": { "nodeAffinity": {
    "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": { "a": 1 } } } } } }), "expected a sequence")]
fn objects_that_cannot_be_read_are_refused(#[case] template: Value, #[case] says: &str) {
    for (_, kind, path) in KINDS {
        let mut whole = template.clone();
        for part in path.rsplit('/').filter(|part| !part.is_empty()) {
            whole = json!({ part: whole });
        }
        let message = refused(kind, &whole);
        assert!(
            message.starts_with(&format!("{kind} cannot be read: ")) && message.contains(says),
            "{message}"
        );
    }
}

#[test]
fn places_on_the_way_to_a_template_that_cannot_be_read_are_refused() {
    for object in [
        json!("d"),
        json!({ "spec": 3 }),
        json!({ "spec": { "template": "t" } }),
    ] {
        let message = refused("Deployment", &object);
        assert!(
            message.starts_with("Deployment cannot be read: "),
            "{message}"
        );
    }
    let owners = json!({ "metadata": { "ownerReferences": "nobody" }, "spec": {} });
    assert!(refused("Pod", &owners).contains("cannot be read"));
    assert!(refused("Pod", &Value::Null).contains("`request.object` is missing"));
}

#[test]
fn a_template_without_a_spec_is_left_to_the_api_server() {
    let entries = r#"[{"key":"sla","operator":"Ge","value":"1"}]"#;
    for spec in [json!({}), json!({ "spec": null })] {
        for (_, kind, _) in KINDS {
            let mut template = spec.clone();
            template["metadata"] = json!({ "annotations": { ANNOTATION: entries } });
            let object = object(kind, template);
            let left = admitted(kind, &object, None, Comparison::Off).unwrap();
            assert_eq!(left, (object, Vec::new()), "{kind}");
        }
    }
}

/// The annotation's text around one entry.
fn entry(fields: &str) -> String {
    format!(r#"[{{"key":"sla","operator":"Gt","value":"1",{fields}}}]"#)
}

#[rstest]
#[case::empty("", "no JSON list")]
#[case::no_json("[", "no JSON list")]
#[case::no_list("{}", "no JSON list")]
#[case::null("null", "no JSON list")]
#[case::yaml("- key: sla", "no JSON list")]
#[case::more_behind_it("[] []", "trailing")]
#[case::numbers("[1]", "no JSON list")]
#[case::lists(r#"[["sla","Gt","1"]]"#, "invalid type: sequence")]
#[case::no_key(r#"[{"operator":"Gt","value":"1"}]"#, "missing field `key`")]
#[case::no_operator(r#"[{"key":"sla","value":"1"}]"#, "missing field `operator`")]
#[case::no_value(r#"[{"key":"sla","operator":"Gt"}]"#, "missing field `value`")]
#[case::value_is_a_number(r#"[{"key":"sla","operator":"Gt","value":1}]"#, "expected a string")]
#[case::unknown_field(&entry(r#""grace":3"#), "grace")]
#[case::index_is_negative(&entry(r#""index":-1"#), "expected usize")]
#[case::seconds_are_a_text(&entry(r#""tolerationSeconds":"5""#), "expected i64")]
#[case::presence_is_a_text(&entry(r#""mustBePresent":"yes""#), "expected a boolean")]
#[case::unknown_operator(r#"[{"key":"sla","operator":"Above","value":"1"}]"#, "Above")]
#[case::no_number(r#"[{"key":"sla","operator":"Gt","value":"01"}]"#, "`01`")]
#[case::a_fraction(r#"[{"key":"sla","operator":"Ge","value":"99.95"}]"#, "`99.95`")]
#[case::beyond_int64(
    r#"[{"key":"sla","operator":"Lt","value":"9223372036854775808"}]"#,
    "`9223372036854775808`"
)]
#[case::empty_range(r#"[{"key":"sla","operator":"Range","value":"9..1"}]"#, "`9..1`")]
#[case::open_range(r#"[{"key":"sla","operator":"Range","value":"9.."}]"#, "``")]
#[case::claims_what_is_not_there(
    r#"[{"key":"other","operator":"Gt","value":"1","index":0}]"#,
    "no toleration with the same key"
)]
#[case::another_effect(
    r#"[{"key":"sla","operator":"Gt","value":"1","effect":"NoSchedule","index":0}]"#,
    "no toleration with the same key"
)]
fn annotations_that_cannot_be_used_are_refused_in_every_kind(
    #[case] text: &str,
    #[case] says: &str,
) {
    for (_, kind, _) in KINDS {
        let mut template =
            with(json!([{ "key": "sla", "operator": "Exists", "effect": "NoExecute" }]));
        template["metadata"]["annotations"] = json!({ ANNOTATION: text });
        let message = refused(kind, &object(kind, template));
        assert!(
            message.contains(says) && message.contains(ANNOTATION),
            "{kind}: {message}"
        );
    }
}

#[rstest]
#[case::no_value("")]
#[case::leading_zero("0950")]
#[case::plus("+5")]
#[case::minus_zero("-0")]
#[case::a_fraction("99.95")]
#[case::an_exponent("1e3")]
#[case::hexadecimal("0x10")]
#[case::a_space(" 5")]
#[case::other_digits("\u{669}")]
#[case::beyond_int64("9223372036854775808")]
#[case::below_int64("-9223372036854775809")]
fn numbers_that_are_none_are_refused_where_they_stand(#[case] value: &str) {
    for (_, kind, path) in KINDS {
        let list = json!([{ "key": "gpu", "operator": "Exists" }, toleration("Lt", value)]);
        let message = refused(kind, &object(kind, with(list)));
        let field = format!("{path}/spec/tolerations[1].value")[1..].replace('/', ".");
        assert!(
            message.contains(&field) && message.contains(&format!("{value:?}")),
            "{message}"
        );
    }
}

#[rstest]
#[case::a_text(json!("scaler"), "invalid type: string")]
#[case::no_spec(json!({ "metadata": { "name": "s" } }), "missing field `spec`")]
#[case::spec_is_a_list(json!({ "spec": [] }), "cannot be read")]
#[case::no_decode(json!({ "spec": { "prefill": {} } }), "missing field")]
#[case::kind_of_target(json!({ "spec": { "prefill": { "maxReplicas": 4,
    "target": { "apiVersion": "apps/v1", "kind": 7, "name": "p" } } } }), "cannot be read")]
fn pdautoscalers_that_cannot_be_read_are_refused(#[case] object: Value, #[case] says: &str) {
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "u-1", "kind": { "group": "pdautoscaler.io", "version": "v1alpha1", "kind": "PDAutoscaler" },
        "namespace": "ns", "operation": "CREATE", "object": object } });
    let body = serde_json::to_vec(&review).unwrap();
    let answer: Value =
        serde_json::from_slice(&validate(&body, &Known::default()).unwrap().body).unwrap();
    let status = &answer["response"]["status"];
    assert_eq!(status["code"], 422);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("PDAutoscaler cannot be read: ") && message.contains(says),
        "{message}"
    );
}
