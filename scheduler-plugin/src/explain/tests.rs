//! Explanations of files: answers, the API server's words, and what is said about files that are
//! wrong.

use std::path::PathBuf;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const SLA: &str = "node.kubernetes.io/sla";

struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn pod_with(tolerations: &Value) -> String {
    json!({ "kind": "Pod", "metadata": { "name": "p", "namespace": "n" }, "spec": { "tolerations": tolerations } })
        .to_string()
}

fn node_with(taints: &Value) -> String {
    json!({ "kind": "Node", "metadata": { "name": "n1" }, "spec": { "taints": taints } })
        .to_string()
}

/// The JSON answer for files with these texts.
fn answer(pod: &str, node: &str, gate: Gate) -> Result<Value, String> {
    let files = Files::new();
    let args = ExplainArgs {
        pod: files.write("pod.yaml", pod),
        node: vec![files.write("node.yaml", node)],
        output: Output::Json,
        gate,
    };
    let mut out = Vec::new();
    run(&args, &mut out).map_err(|error| error.to_string())?;
    Ok(serde_json::from_slice(&out).unwrap())
}

fn above(bound: &str) -> Value {
    json!([{ "key": SLA, "operator": "Gt", "value": bound, "effect": "NoExecute", "tolerationSeconds": 30 }])
}

fn at(value: &str) -> String {
    node_with(&json!([{ "key": SLA, "value": value, "effect": "NoExecute" }]))
}

#[test]
fn a_node_that_fits_is_explained() {
    let answer = answer(&pod_with(&above("900")), &at("950"), Gate::On).unwrap();
    assert_eq!(answer["fits"], true);
    assert_eq!(answer["pod"]["valid"], true);
    let node = &answer["nodes"][0];
    assert_eq!((&node["name"], &node["fits"]), (&json!("n1"), &json!(true)));
    assert_eq!(
        node["taints"][0],
        json!({
            "taint": "node.kubernetes.io/sla=950:NoExecute", "tolerated": true, "toleration": 0,
            "reason": "950 is above 900", "margin": 50,
            "answers": [{ "toleration": 0, "tolerates": true, "reason": "950 is above 900" }],
        })
    );
    assert_eq!(node["eviction"]["when"], "after");
    assert_eq!(node["eviction"]["seconds"], 30);
    let without = answer["pod"]["errorsWithoutGate"][0]["message"]
        .as_str()
        .unwrap();
    assert!(
        without.ends_with(
            r#"Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#
        )
    );
}

#[rstest]
#[case::too_low("900", "800", Gate::On, "800 is not above 900")]
#[case::equal("900", "900", Gate::On, "900 is not above itself: Gt is strict")]
#[case::bad_bound(
    "0900",
    "950",
    Gate::On,
    "the toleration's value is no whole number in canonical form"
)]
#[case::bad_taint(
    "900",
    "99.95",
    Gate::On,
    "the taint's value is no whole number in canonical form"
)]
#[case::gate_off(
    "900",
    "950",
    Gate::Off,
    "the feature gate TaintTolerationComparisonOperators is off"
)]
fn a_node_that_does_not_fit_is_explained(
    #[case] bound: &str,
    #[case] value: &str,
    #[case] gate: Gate,
    #[case] reason: &str,
) {
    let answer = answer(&pod_with(&above(bound)), &at(value), gate).unwrap();
    assert_eq!(answer["fits"], false);
    assert_eq!(answer["nodes"][0]["taints"][0]["reason"], reason);
    assert_eq!(answer["nodes"][0]["eviction"]["when"], "now");
}

#[test]
fn the_api_servers_words_are_given_in_full() {
    let pod = pod_with(&json!([{ "key": "sla", "operator": "Gt", "value": "abc" }]));
    let node = node_with(&json!([{ "key": "sla", "value": "-5", "effect": "Never" }]));
    let answer = answer(&pod, &node, Gate::On).unwrap();
    assert_eq!(answer["pod"]["valid"], false);
    let messages: Vec<&str> = answer["pod"]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            r#"spec.tolerations[0].value: Invalid value: "abc": must be a valid decimal integer in canonical form"#,
            r#"spec.tolerations[0].value: Invalid value: "abc": strconv.ParseInt: parsing "abc": invalid syntax"#,
        ]
    );
    assert_eq!(answer["nodes"][0]["valid"], false);
    assert_eq!(
        answer["nodes"][0]["errors"][0]["field"],
        "spec.taints[0].value"
    );
}

#[test]
fn a_rewritten_pod_is_judged_by_its_annotation() {
    let asked = json!([
        { "key": SLA, "operator": "Range", "value": "900..970", "effect": "NoExecute", "mustBePresent": true }
    ]);
    let pod = json!({
        "kind": "Pod",
        "metadata": { "name": "p", "annotations": { ANNOTATION: asked.to_string() } },
        "spec": { "tolerations": [{ "key": SLA, "operator": "Exists", "effect": "NoExecute" }] },
    })
    .to_string();
    let high = answer(&pod, &at("990"), Gate::Off).unwrap();
    assert_eq!(high["fits"], false);
    assert_eq!(
        high["nodes"][0]["taints"][0]["reason"],
        "990 is not 900 to 970"
    );
    assert_eq!(answer(&pod, &at("950"), Gate::Off).unwrap()["fits"], true);
    let bare = answer(&pod, &node_with(&json!(null)), Gate::Off).unwrap();
    assert_eq!(
        bare["nodes"][0]["missing"][0],
        "no taint node.kubernetes.io/sla whose value is 900 to 970"
    );
    assert_eq!(bare["fits"], false);
    let broken = answer(&pod.replace("Exists", "Equal"), &at("950"), Gate::Off).unwrap();
    assert_eq!(broken["fits"], false);
    assert!(
        broken["pod"]["annotationError"]
            .as_str()
            .unwrap()
            .contains("entry 0")
    );
}

#[test]
fn templates_lists_and_several_documents_are_read() {
    let pod = "kind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {spec: {tolerations: [{key: sla, operator: Gt, value: '5'}]}}}}}\n";
    let nodes = "kind: NodeList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n---\nkind: Node\nmetadata: {name: c}\nspec: {taints: [{key: sla, value: '4', effect: NoSchedule}]}\n";
    let answer = answer(pod, nodes, Gate::Off).unwrap();
    let fits: Vec<&Value> = answer["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["fits"])
        .collect();
    assert_eq!(fits, [true, true, false]);
    assert_eq!(answer["fits"], true);
    let field = "spec.jobTemplate.spec.template.spec.tolerations[0].operator";
    assert_eq!(answer["pod"]["errors"][0]["field"], field);
}

#[rstest]
#[case::number_without_quotes(
    "kind: Pod\nspec: {tolerations: [{key: sla, operator: Gt, value: 950}]}",
    "spec.tolerations[0].value is the number `950`, and Kubernetes takes only a text: write it in quotes, \"950\""
)]
#[case::seconds_as_text(
    "kind: Pod\nspec: {tolerations: [{key: sla, tolerationSeconds: '30'}]}",
    "spec.tolerations[0].tolerationSeconds must be a whole number of seconds, and is the text `30`"
)]
#[case::half_a_second(
    "kind: Pod\nspec: {tolerations: [{key: sla, tolerationSeconds: 0.5}]}",
    "must be a whole number of seconds, and is the number `0.5`"
)]
#[case::unknown_field(
    "kind: Pod\nspec: {tolerations: [{key: sla, toleration_seconds: 3}]}",
    "spec.tolerations[0].toleration_seconds is no field of Kubernetes: use one of key,"
)]
#[case::a_map(
    "kind: Pod\nspec: {tolerations: {key: sla}}",
    "spec.tolerations must be a list, and is an object"
)]
#[case::an_entry_is_a_text(
    "kind: Pod\nspec: {tolerations: [sla]}",
    "spec.tolerations[0] must be an object, and is the text `sla`"
)]
#[case::no_spec("kind: Pod", "spec must be an object, and is missing")]
#[case::another_kind("kind: Service", "kind `Service` has no pod")]
#[case::nothing("", "holds 0 objects")]
#[case::two_pods("kind: Pod\n---\nkind: Pod", "holds 2 objects")]
#[case::a_text("hello", "holds the text `hello`")]
#[case::no_yaml("kind: [", "is no valid YAML")]
#[case::no_json("{\"kind\": ", "is no valid JSON")]
#[case::no_template("kind: Deployment\nspec: {}", "spec.template is missing")]
fn wrong_files_are_named_with_field_value_and_remedy(#[case] pod: &str, #[case] says: &str) {
    let error = answer(pod, &at("950"), Gate::On).unwrap_err();
    assert!(
        error.contains("pod.yaml: ") && error.contains(says),
        "{error}"
    );
}

#[test]
fn a_missing_file_and_a_wrong_node_are_named() {
    let files = Files::new();
    let error = nodes(&[files.directory.path().join("nowhere.yaml")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("nowhere.yaml: cannot be read"), "{error}");
    let error = nodes(&[files.write("n.yaml", &pod_with(&json!([])))])
        .unwrap_err()
        .to_string();
    assert!(error.contains("kind `Pod` is no Node"), "{error}");
}

#[test]
fn people_get_the_verdict_first() {
    let files = Files::new();
    let pod = pod(&files.write("p", &pod_with(&above("900")))).unwrap();
    let nodes = nodes(&[files.write("a", &at("950")), files.write("b", &at("800"))]).unwrap();
    let text = explain(&pod, &nodes, Gate::On).to_string();
    assert_eq!(
        text,
        "\
Pod n/p
  toleration 0: node.kubernetes.io/sla Gt 900:NoExecute for 30 s

Node n1: fits
  + node.kubernetes.io/sla=950:NoExecute is tolerated by toleration 0: 950 is above 900 (margin 50)
  a running pod is evicted 30 s after the taints are seen: the least tolerationSeconds of the tolerations that answer

Node n1: does not fit
  - node.kubernetes.io/sla=800:NoExecute is not tolerated: 800 is not above 900
  a running pod is evicted at once: node.kubernetes.io/sla=800:NoExecute is not tolerated

An API server without the feature gate TaintTolerationComparisonOperators refuses this Pod, unless the webhook of this project rewrites it:
    spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"
"
    );
}

#[test]
fn the_seconds_of_the_spec_are_shown_and_those_of_a_merged_toleration() {
    let entries = json!([
        { "key": SLA, "operator": "Gt", "value": "950", "effect": "NoExecute", "tolerationSeconds": 30, "index": 0 },
        { "key": SLA, "operator": "Lt", "value": "50", "effect": "NoExecute", "tolerationSeconds": 10, "index": 0 },
    ]);
    let pod = json!({ "kind": "Pod", "metadata": { "name": "p", "annotations": { "pdautoscaler.io/numeric-tolerations": entries.to_string() } },
        "spec": { "tolerations": [{ "key": SLA, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 90 }] } });
    let said = answer(&pod.to_string(), &at("970"), Gate::Off).unwrap();
    assert_eq!(
        said["pod"]["tolerations"],
        json!([
            format!("{SLA} Gt 950:NoExecute for 90 s"),
            format!("{SLA} Lt 50:NoExecute for 10 s")
        ])
    );
    assert_eq!(said["nodes"][0]["eviction"]["seconds"], 90);
    let said = answer(&pod.to_string(), &at("7"), Gate::Off).unwrap();
    assert_eq!(said["nodes"][0]["eviction"]["seconds"], 10);
}
