//! The extender's answers, byte by byte where the scheduler depends on it, and against the plain
//! rules elsewhere.

use std::collections::BTreeMap;

use pd_tolerations::{Comparison, Effect, Taint, Toleration, node, rewrite};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::nodes::Nodes;

const SLA: &str = "node.kubernetes.io/sla";

/// Key, value and effect of a taint.
type Short<'a> = (&'a str, &'a str, Effect);

fn cluster(nodes: &[(&str, &[Short<'_>])]) -> Nodes {
    let mut cluster = Nodes::default();
    for (name, taints) in nodes {
        let taints = taints
            .iter()
            .map(|(key, value, effect)| Taint::new(*key, *value, effect.clone()));
        cluster.set((*name).to_owned(), taints.collect());
    }
    cluster
}

fn three_nodes() -> Nodes {
    cluster(&[
        ("high", &[(SLA, "990", Effect::NoExecute)]),
        ("low", &[(SLA, "800", Effect::NoExecute)]),
        ("odd", &[(SLA, "high", Effect::NoExecute)]),
        ("mid", &[(SLA, "960", Effect::NoExecute)]),
        ("plain", &[]),
    ])
}

/// A pod as the webhook leaves it: rewritten tolerations and the annotation.
fn rewritten(tolerations: &Value) -> Value {
    let list: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
    let (list, originals) = rewrite::rewrite(&list);
    pod(&json!(list), &json!(originals))
}

fn pod(tolerations: &Value, annotation: &Value) -> Value {
    json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u",
            "annotations": { rewrite::ANNOTATION: annotation.to_string(), "other": "x" },
        },
        "spec": { "tolerations": tolerations, "containers": [{ "name": "c" }] },
    })
}

fn above(bound: &str) -> Value {
    rewritten(&json!([{ "key": SLA, "operator": "Gt", "value": bound, "effect": "NoExecute" }]))
}

fn call(pod: &Value, names: &Value) -> Vec<u8> {
    json!({ "Pod": pod, "Nodes": null, "NodeNames": names })
        .to_string()
        .into_bytes()
}

fn ask(body: &[u8], nodes: &Nodes) -> Value {
    serde_json::from_slice(&filter(body, nodes).unwrap().body).unwrap()
}

#[test]
fn an_answer_has_every_field_in_gos_names() {
    let body = call(&above("950"), &json!(["mid", "low", "odd", "new", "plain"]));
    let answered = filter(&body, &three_nodes()).unwrap();
    assert_eq!(answered.kind, Kind::Managed);
    assert_eq!(
        String::from_utf8(answered.body).unwrap(),
        concat!(
            r#"{"Nodes":null,"NodeNames":["mid","plain"],"#,
            r#""FailedNodes":{"new":"node(s) not yet known to pd-scheduler-plugin"},"#,
            r#""FailedAndUnresolvableNodes":{"#,
            r#""low":"node(s) had a value of taint node.kubernetes.io/sla that is not at least 951","#,
            r#""odd":"node(s) had a value of taint node.kubernetes.io/sla that is no whole number"},"#,
            r#""Error":""}"#,
        )
    );
}

#[test]
fn an_unmanaged_pod_gets_all_names_back_as_they_came() {
    let pod = json!({ "metadata": { "annotations": null }, "spec": { "tolerations": null } });
    let body = call(&pod, &json!(["unknown", "low", "a\"b"]));
    let answered = filter(&body, &three_nodes()).unwrap();
    assert_eq!(answered.kind, Kind::Unmanaged);
    assert_eq!(
        String::from_utf8(answered.body).unwrap(),
        r#"{"Nodes":null,"NodeNames":["unknown","low","a\"b"],"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}"#
    );
    assert_eq!(
        prioritize(&body, &three_nodes(), Margin::Most)
            .unwrap()
            .body,
        b"[]"
    );
}

#[rstest]
#[case::capitalised("Pod", "NodeNames")]
#[case::as_in_the_kep("pod", "nodenames")]
#[case::camel_case("pod", "nodeNames")]
fn field_names_are_read_in_any_case(#[case] pod: &str, #[case] names: &str) {
    let body = json!({ pod: above("950"), names: ["low", "mid"] }).to_string();
    assert_eq!(
        ask(body.as_bytes(), &three_nodes())["NodeNames"],
        json!(["mid"])
    );
}

#[rstest]
#[case::nothing("", "EOF")]
#[case::no_json("hello", "line 1 column 1")]
#[case::a_list("[]", "an object with Pod")]
#[case::cut_off(r#"{"Pod":{"#, "EOF")]
#[case::no_pod(r#"{"NodeNames":["a"]}"#, "`Pod` is missing")]
#[case::null_pod(r#"{"Pod":null,"NodeNames":["a"]}"#, "`Pod` is missing")]
#[case::pod_is_a_text(r#"{"Pod":"p","NodeNames":["a"]}"#, "Pod: ")]
#[case::names_are_numbers(r#"{"Pod":{},"NodeNames":[1]}"#, "NodeNames: ")]
#[case::names_are_a_text(r#"{"Pod":{},"NodeNames":"a"}"#, "NodeNames: ")]
#[case::whole_nodes(
    r#"{"Pod":{},"Nodes":{"items":[]},"NodeNames":null}"#,
    "nodeCacheCapable: true"
)]
#[case::control_character("{\"Pod\":{},\"NodeNames\":[\"\u{0}\"]}", "control character")]
fn bad_calls_say_what_is_wrong(#[case] body: &str, #[case] says: &str) {
    for error in [
        filter(body.as_bytes(), &three_nodes()).unwrap_err(),
        prioritize(body.as_bytes(), &three_nodes(), Margin::Most).unwrap_err(),
    ] {
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[rstest]
#[case::no_list("{", "expected a sequence")]
#[case::unknown_operator(r#"[{"key":"k","operator":"Gq","value":"5"}]"#, "unknown variant")]
#[case::not_in_the_spec(r#"[{"key":"k","operator":"Gt","value":"5"}]"#, "entry 0 `k Gt 5`")]
fn a_pod_with_a_false_annotation_fits_nowhere(#[case] annotation: &str, #[case] says: &str) {
    let mut pod = pod(&json!([{ "key": SLA, "operator": "Exists" }]), &json!([]));
    pod["metadata"]["annotations"][rewrite::ANNOTATION] = json!(annotation);
    let answer = ask(&call(&pod, &json!(["mid", "plain"])), &three_nodes());
    assert_eq!(answer["NodeNames"], json!([]));
    let reasons = answer["FailedAndUnresolvableNodes"].as_object().unwrap();
    assert_eq!(reasons.len(), 2);
    assert!(reasons["mid"].as_str().unwrap().contains(says), "{answer}");
}

#[test]
fn taints_that_the_scheduler_judges_itself_are_left_to_it() {
    let nodes = cluster(&[(
        "n",
        &[
            ("other", "x", Effect::NoSchedule),
            (SLA, "960", Effect::NoExecute),
        ],
    )]);
    assert_eq!(
        ask(&call(&above("950"), &json!(["n"])), &nodes)["NodeNames"],
        json!(["n"])
    );
}

#[test]
fn a_required_taint_must_be_there() {
    let spec = json!([{ "key": SLA, "operator": "Exists" }]);
    let asked =
        json!([{ "key": SLA, "operator": "Range", "value": "900..970", "mustBePresent": true }]);
    let answer = ask(
        &call(&pod(&spec, &asked), &json!(["high", "mid", "plain"])),
        &three_nodes(),
    );
    assert_eq!(answer["NodeNames"], json!(["mid"]));
    let reasons = &answer["FailedAndUnresolvableNodes"];
    assert_eq!(
        reasons["plain"],
        "node(s) had no taint node.kubernetes.io/sla whose value is 900 to 970"
    );
    assert_eq!(
        reasons["high"],
        "node(s) had a value of taint node.kubernetes.io/sla that is not 900 to 970"
    );
}

fn scores_of(pod: &Value, names: &[&str], nodes: &Nodes, prefer: Margin) -> BTreeMap<String, i64> {
    points(&call(pod, &json!(names)), names, nodes, prefer)
}

/// The scores as the scheduler adds them: a host that the answer does not name gets none.
fn points(call: &[u8], names: &[&str], nodes: &Nodes, prefer: Margin) -> BTreeMap<String, i64> {
    let answered = prioritize(call, nodes, prefer).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&answered.body).unwrap();
    let mut points: BTreeMap<String, i64> =
        names.iter().map(|name| ((*name).to_owned(), 0)).collect();
    for entry in list {
        let score = points.get_mut(entry["Host"].as_str().unwrap()).unwrap();
        assert_eq!(*score, 0, "{entry} is named twice");
        *score = entry["Score"].as_i64().unwrap();
        assert_ne!(*score, 0, "{entry} adds nothing");
    }
    points
}

#[test]
fn equal_scores_are_left_unsaid() {
    let nodes = cluster(&[
        ("a", &[(SLA, "950", Effect::NoExecute)]),
        ("b", &[(SLA, "950", Effect::NoExecute)]),
    ]);
    let body = call(&above("900"), &json!(["a", "b"]));
    assert_eq!(prioritize(&body, &nodes, Margin::Most).unwrap().body, b"[]");
}

#[rstest]
#[case::most(Margin::Most, [10, 4, 0])]
#[case::least(Margin::Least, [0, 5, 10])]
fn nodes_score_by_margin(#[case] prefer: Margin, #[case] want: [i64; 3]) {
    let nodes = cluster(&[
        ("a", &[(SLA, "1000", Effect::NoExecute)]),
        ("b", &[(SLA, "950", Effect::NoExecute)]),
        ("c", &[(SLA, "910", Effect::NoExecute)]),
        ("none", &[]),
    ]);
    let got = scores_of(&above("900"), &["a", "b", "c", "none"], &nodes, prefer);
    assert_eq!([got["a"], got["b"], got["c"]], want);
    assert_eq!(got["none"], 0);
}

#[test]
fn nodes_with_hidden_preferences_score_below_all_others() {
    let soft = Effect::PreferNoSchedule;
    let nodes = cluster(&[
        ("best", &[(SLA, "990", soft.clone())]),
        ("good", &[(SLA, "910", soft.clone())]),
        ("avoided", &[(SLA, "800", soft)]),
    ]);
    let pod = rewritten(&json!([{ "key": SLA, "operator": "Gt", "value": "900" }]));
    let got = scores_of(&pod, &["best", "good", "avoided"], &nodes, Margin::Most);
    assert_eq!([got["best"], got["good"], got["avoided"]], [10, 6, 0]);
}

#[test]
fn margins_stay_below_the_steps_of_preferences_that_the_scheduler_sees() {
    let nodes = cluster(&[
        ("clean", &[(SLA, "910", Effect::NoSchedule)]),
        (
            "avoided",
            &[
                (SLA, "990", Effect::NoSchedule),
                ("old", "", Effect::PreferNoSchedule),
            ],
        ),
    ]);
    let pod = rewritten(&json!([{ "key": SLA, "operator": "Gt", "value": "900" }]));
    let got = scores_of(&pod, &["clean", "avoided"], &nodes, Margin::Most);
    // The scheduler gives the clean node 10 points more.
    assert_eq!([got["clean"], got["avoided"]], [0, 9]);
}

#[test]
fn extreme_margins_neither_overflow_nor_round() {
    let nodes = cluster(&[
        ("max", &[("k", "9223372036854775807", Effect::NoSchedule)]),
        ("mid", &[("k", "0", Effect::NoSchedule)]),
        ("min", &[("k", "-9223372036854775807", Effect::NoSchedule)]),
    ]);
    let pod =
        rewritten(&json!([{ "key": "k", "operator": "Gt", "value": "-9223372036854775808" }]));
    let got = scores_of(&pod, &["max", "mid", "min"], &nodes, Margin::Most);
    assert_eq!([got["max"], got["mid"], got["min"]], [10, 5, 0]);
}

proptest! {
    /// The stock scheduler sees `Exists`, then the extender filters: together they are upstream
    /// with its gate on.
    #[test]
    fn scheduler_and_extender_are_the_gate_together(
        tolerations in prop::collection::vec(toleration(), 0..4),
        taints in prop::collection::vec(taint(), 0..4),
    ) {
        let (list, originals) = rewrite::rewrite(&tolerations);
        let by_scheduler = node::first_untolerated(&taints, &list, Comparison::Off).is_none();
        let mut nodes = Nodes::default();
        nodes.set("n".to_owned(), taints.clone());
        let body = call(&pod(&json!(list), &json!(originals)), &json!(["n"]));
        let by_extender = ask(&body, &nodes)["NodeNames"] == json!(["n"]);
        let want = node::first_untolerated(&taints, &tolerations, Comparison::On).is_none();
        prop_assert_eq!(by_scheduler && by_extender, want);
    }

    /// The scores of the stock scheduler for the taints it sees, with the extender's points at the
    /// same weight, orders nodes as upstream with its gate on.
    #[test]
    fn scheduler_and_extender_order_preferences_as_the_gate(
        tolerations in prop::collection::vec(toleration(), 1..4),
        clusters in prop::collection::vec(prop::collection::vec(preference(), 0..4), 2..6),
    ) {
        let (list, originals) = rewrite::rewrite(&tolerations);
        let names: Vec<String> = (0..clusters.len()).map(|index| format!("n{index}")).collect();
        let mut nodes = Nodes::default();
        for (name, taints) in names.iter().zip(&clusters) {
            nodes.set(name.clone(), taints.clone());
        }
        let counts = |list: &[Toleration], comparison| -> Vec<u32> {
            let count = |taints: &Vec<Taint>| node::untolerated_preferences(taints, list, comparison);
            clusters.iter().map(count).collect()
        };
        let by_scheduler = node::normalized(&counts(&list, Comparison::Off));
        let want = counts(&tolerations, Comparison::On);
        let body = call(&pod(&json!(list), &json!(originals)), &json!(names));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let points = points(&body, &names, &nodes, Margin::Most);
        let total: Vec<i64> = by_scheduler.iter().zip(&names)
            .map(|(score, name)| i64::from(*score) + points[*name] * 10).collect();
        for one in 0..total.len() {
            for other in 0..total.len() {
                if want[one] < want[other] {
                    prop_assert!(total[one] > total[other], "{want:?} {by_scheduler:?} {total:?}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_answered_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = filter(&body, &three_nodes());
        let _ = prioritize(&body, &three_nodes(), Margin::Most);
    }

    #[test]
    fn any_text_of_the_right_shape_is_answered_or_refused(
        annotation in "\\PC{0,40}", key in "\\PC{0,10}", name in "\\PC{0,10}",
    ) {
        let spec = json!([{ "key": key, "operator": "Gt", "value": "5" }]);
        let mut pod = pod(&spec, &json!([]));
        pod["metadata"]["annotations"][rewrite::ANNOTATION] = json!(annotation);
        let answer = ask(&call(&pod, &json!([name, "mid"])), &three_nodes());
        let failed = answer["FailedNodes"].as_object().unwrap().len()
            + answer["FailedAndUnresolvableNodes"].as_object().unwrap().len();
        prop_assert!(failed + answer["NodeNames"].as_array().unwrap().len() >= 1);
    }
}

fn text(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from)
}

prop_compose! {
    /// A toleration that the API server would take: what it refuses is not rewritten, and never
    /// reaches the scheduler.
    fn toleration()(
        key in text(&["sla", "cost"]),
        operator in text(&["Equal", "Exists", "Gt", "Gt", "Lt", "Lt"]),
        value in text(&["5", "6", "7", "-1", "0"]),
        effect in text(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"]),
    ) -> Toleration {
        Toleration {
            key: key.to_owned(),
            operator: operator.into(),
            value: if operator == "Exists" { String::new() } else { value.to_owned() },
            effect: effect.into(),
            toleration_seconds: None,
        }
    }
}

prop_compose! {
    fn preference()(taint in taint()) -> Taint {
        Taint { effect: Effect::PreferNoSchedule, ..taint }
    }
}

prop_compose! {
    fn taint()(
        key in text(&["sla", "cost", "x"]),
        value in text(&["4", "5", "6", "7", "8", "05", "", "high"]),
        effect in text(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    ) -> Taint {
        Taint::new(key, value, effect.into())
    }
}
