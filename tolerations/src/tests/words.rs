//! The API server's words: a table by shape, and a recording of Kubernetes 1.37.1's own functions.
//!
//! `tests/fixtures/upstream.jsonl` was written by `generate.go` beside it, which calls upstream's
//! matcher and validation on generated lists with odd keys, operators, effects and values. The
//! variable `PD_TOLERATION_VECTORS` names a larger recording.

use rstest::rstest;
use serde::Deserialize;

use super::*;
use crate::{
    node::{first_toleration, first_untolerated},
    validation::{self, comparison_for_update, pod_update},
};

const OFF: Comparison = Comparison::Off;
const ON: Comparison = Comparison::On;

#[rstest]
#[case::a_good_one(ON, toleration("sla", "Gt", "950", "", None), &[])]
#[case::a_negative_bound(ON, toleration("sla", "Gt", "-5", "", None), &[])]
#[case::gate_off(OFF, toleration("sla", "Gt", "950", "", None), &[
    r#"spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt""#])]
#[case::gate_off_hides_the_value(OFF, toleration("sla", "Lt", "abc", "", None), &[
    r#"spec.tolerations[0].operator: Unsupported value: "Lt": supported values: "Equal", "Exists", "Lt", "Gt""#])]
#[case::letters_have_two_faults(ON, toleration("sla", "Gt", "abc", "", None), &[
    r#"spec.tolerations[0].value: Invalid value: "abc": must be a valid decimal integer in canonical form"#,
    r#"spec.tolerations[0].value: Invalid value: "abc": strconv.ParseInt: parsing "abc": invalid syntax"#])]
#[case::leading_zeros_one(ON, toleration("sla", "Gt", "0100", "", None), &[
    r#"spec.tolerations[0].value: Invalid value: "0100": must be a valid decimal integer in canonical form"#])]
#[case::overflow(ON, toleration("sla", "Gt", "9223372036854775808", "", None), &[
    r#"spec.tolerations[0].value: Invalid value: "9223372036854775808": strconv.ParseInt: parsing "9223372036854775808": value out of range"#])]
#[case::empty_value(ON, toleration("sla", "Gt", "", "", None), &[
    r#"spec.tolerations[0].value: Invalid value: "": must be non-empty"#,
    r#"spec.tolerations[0].value: Invalid value: "": strconv.ParseInt: parsing "": invalid syntax"#])]
#[case::empty_key(ON, toleration("", "Gt", "5", "", None), &[
    "spec.tolerations[0].operator: Invalid value: \"Gt\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""])]
#[case::exists_with_value(ON, toleration("sla", "Exists", "5", "", None), &[
    "spec.tolerations[0].operator: Invalid value: \"5\": value must be empty when `operator` is 'Exists'"])]
#[case::seconds_without_effect(ON, toleration("sla", "Gt", "5", "", Some(3)), &[
    "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set"])]
#[case::unknown_operator(ON, toleration("sla", "Ge", "5", "", None), &[
    r#"spec.tolerations[0].operator: Unsupported value: "Ge": supported values: "Equal", "Exists""#])]
#[case::unknown_effect(ON, toleration("sla", "Exists", "", "Never", None), &[
    r#"spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#])]
fn shapes_are_judged_as_the_api_server_does(
    #[case] gate: Comparison,
    #[case] given: Toleration,
    #[case] want: &[&str],
) {
    let got = validation::tolerations(&[given], "spec.tolerations", gate);
    assert_eq!(texts(&got), want);
}

#[test]
fn an_update_of_a_spec_that_compares_is_let_through() {
    let old = [toleration("sla", "Gt", "950", "NoExecute", Some(30))];
    assert_eq!(comparison_for_update(OFF, &old), ON);
    assert_eq!(comparison_for_update(OFF, &[]), OFF);
    let mut new = old.to_vec();
    new[0].toleration_seconds = Some(5);
    new.push(toleration("cost", "Lt", "5", "", None));
    assert_eq!(pod_update(&new, &old, "spec.tolerations", OFF), []);
}

#[test]
fn a_live_pod_may_not_have_its_operator_changed() {
    let old = [toleration("sla", "Gt", "950", "", None)];
    let new = [toleration("sla", "Exists", "", "", None)];
    assert_eq!(
        texts(&pod_update(&new, &old, "spec.tolerations", ON)),
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

/// The words of upstream about one pair of lists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    tolerations: Vec<Toleration>,
    taints: Vec<Taint>,
    first_on: Vec<i64>,
    first_off: Vec<i64>,
    errors_on: Vec<String>,
    errors_off: Vec<String>,
    taint_errors: Vec<String>,
    untolerated_on: Option<Taint>,
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a larger recording is not compiled in"
)]
fn upstream_itself_agrees() {
    let recording = include_str!("../../tests/fixtures/upstream.jsonl");
    let larger =
        std::env::var("PD_TOLERATION_VECTORS").map(|path| std::fs::read_to_string(path).unwrap());
    let recording = larger.as_deref().unwrap_or(recording);
    for (number, line) in recording.lines().enumerate() {
        let case: Recorded = serde_json::from_str(line).unwrap();
        for (gate, first, errors) in [
            (ON, &case.first_on, &case.errors_on),
            (OFF, &case.first_off, &case.errors_off),
        ] {
            let got: Vec<i64> = case
                .taints
                .iter()
                .map(|taint| first_toleration(&case.tolerations, taint, gate))
                .map(|first| first.map_or(-1, |first| i64::try_from(first).unwrap()))
                .collect();
            assert_eq!(&got, first, "line {number}: {line}");
            let got = validation::tolerations(&case.tolerations, "spec.tolerations", gate);
            assert_eq!(&texts(&got), errors, "line {number}: {line}");
        }
        let refused = first_untolerated(&case.taints, &case.tolerations, ON);
        assert_eq!(
            refused,
            case.untolerated_on.as_ref(),
            "line {number}: {line}"
        );
        let got = validation::taints(&case.taints, "x.scheduler.alpha.kubernetes.io/taints");
        assert_eq!(texts(&got), case.taint_errors, "line {number}: {line}");
    }
}
