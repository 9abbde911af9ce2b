//! Extensions beyond Kubernetes: inclusive bounds, ranges, presence, margins, and the way to
//! `Exists` and back.

use rstest::rstest;

use super::*;
use crate::{
    extension::{BoundError, NumericOperator},
    rewrite::{Authored, Disagreement, ORIGINALS_MAX, restore, rewrite},
};

fn extended(json: &str) -> ExtendedToleration {
    serde_json::from_str(json).unwrap()
}

#[rstest]
#[case::gt("Gt", "950", &[951, i64::MAX], &[950, 949, i64::MIN])]
#[case::lt("Lt", "950", &[949, i64::MIN], &[950, 951, i64::MAX])]
#[case::ge("Ge", "950", &[950, 951], &[949])]
#[case::le("Le", "950", &[950, 949], &[951])]
#[case::range("Range", "900..990", &[900, 950, 990], &[899, 991])]
#[case::one_number("Range", "5..5", &[5], &[4, 6])]
#[case::negative_range("Range", "-5..-1", &[-5, -1], &[-6, 0])]
#[case::above_the_largest("Gt", "9223372036854775807", &[], &[i64::MAX, i64::MIN, 0])]
#[case::below_the_least("Lt", "-9223372036854775808", &[], &[i64::MAX, i64::MIN, 0])]
#[case::all_numbers("Ge", "-9223372036854775808", &[i64::MAX, i64::MIN, 0], &[])]
fn intervals_hold_what_the_operator_says(
    #[case] operator: &str,
    #[case] value: &str,
    #[case] inside: &[i64],
    #[case] outside: &[i64],
) {
    let json = format!(r#"{{"key":"sla","operator":"{operator}","value":"{value}"}}"#);
    let interval = extended(&json).interval().unwrap();
    assert!(inside.iter().all(|number| interval.contains(*number)));
    assert!(!outside.iter().any(|number| interval.contains(*number)));
    assert!(
        outside
            .iter()
            .all(|number| interval.margin(*number).is_none())
    );
    assert!(
        inside
            .iter()
            .all(|number| interval.margin(*number) >= Some(1))
    );
}

#[rstest]
#[case::just_above(Interval::above(950), 951, Some(1))]
#[case::well_above(Interval::above(950), 999, Some(49))]
#[case::at_an_inclusive_bound(Interval::at_least(950), 950, Some(1))]
#[case::below(Interval::below(10), 7, Some(3))]
#[case::the_nearer_end(Interval { least: Some(900), most: Some(990) }, 985, Some(6))]
#[case::outside(Interval::above(950), 950, None)]
#[case::no_ends(Interval { least: None, most: None }, 1, None)]
#[case::the_whole_width(Interval::at_least(i64::MIN), i64::MAX, Some(u64::MAX))]
fn margins_count_to_the_first_number_outside(
    #[case] interval: Interval,
    #[case] number: i64,
    #[case] want: Option<u64>,
) {
    assert_eq!(interval.margin(number), want);
}

#[rstest]
#[case::no_key(r#"{"key":"","operator":"Gt","value":"1"}"#, "key is empty")]
#[case::fraction(r#"{"key":"sla","operator":"Ge","value":"99.95"}"#, "`99.95`")]
#[case::half_a_range(r#"{"key":"sla","operator":"Range","value":"5"}"#, "`..`")]
#[case::open_range(r#"{"key":"sla","operator":"Range","value":"5.."}"#, "empty")]
#[case::turned_range(r#"{"key":"sla","operator":"Range","value":"9..5"}"#, "swap")]
fn bounds_without_a_meaning_are_refused(#[case] json: &str, #[case] says: &str) {
    let error = extended(json).interval().unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn unknown_fields_and_operators_are_refused() {
    for json in [
        r#"{"key":"sla","operator":"Gt","value":"1","mustBePresnt":true}"#,
        r#"{"key":"sla","operator":"gt","value":"1"}"#,
        r#"{"key":"sla","operator":"Gt","value":1}"#,
    ] {
        serde_json::from_str::<ExtendedToleration>(json).unwrap_err();
    }
}

#[test]
fn rewriting_keeps_order_effects_and_seconds() {
    let pod = [
        toleration("a", "Exists", "", "NoExecute", Some(300)),
        toleration("a", "Gt", "900", "NoExecute", Some(60)),
        toleration("b", "Lt", "5", "", None),
    ];
    let (rewritten, originals) = rewrite(&pod);
    assert_eq!(rewritten[0], pod[0]);
    assert_eq!(
        rewritten[1],
        toleration("a", "Exists", "", "NoExecute", Some(60))
    );
    assert_eq!(rewritten[2], toleration("b", "Exists", "", "", None));
    let json = serde_json::to_string(&originals).unwrap();
    assert_eq!(
        json,
        r#"[{"key":"a","operator":"Gt","value":"900","effect":"NoExecute","tolerationSeconds":60,"index":1},{"key":"b","operator":"Lt","value":"5","index":2}]"#
    );
}

#[test]
fn entries_inserted_since_do_not_confuse() {
    let pod = [toleration("a", "Gt", "900", "NoExecute", Some(60))];
    let (mut rewritten, originals) = rewrite(&pod);
    rewritten.insert(0, toleration("x", "Exists", "", "", None));
    rewritten[1].toleration_seconds = Some(90);
    let restored = restore(&rewritten, &originals).unwrap();
    assert!(matches!(restored[0], Authored::Plain(_)));
    assert!(
        matches!(restored[1], Authored::Rewritten { original, .. } if original.operator == NumericOperator::Gt)
    );
    assert_eq!(restored[1].toleration_seconds(), Some(90));
}

#[test]
fn what_the_api_server_would_refuse_anyhow_is_not_rewritten() {
    let pod = [
        toleration("", "Gt", "5", "", None),
        toleration("a", "Gt", "high", "", None),
        toleration("a", "Gt", "9223372036854775808", "", None),
    ];
    assert_eq!(rewrite(&pod), (pod.to_vec(), vec![]));
}

#[test]
fn an_annotation_that_the_list_does_not_bear_out_is_refused() {
    let claim = [extended(r#"{"key":"a","operator":"Gt","value":"5"}"#)];
    let spec = [toleration("a", "Exists", "", "NoExecute", None)];
    let error = restore(&spec, &claim).unwrap_err();
    assert!(
        matches!(&error, Disagreement::NotInSpec { entry: 0, .. }),
        "{error}"
    );
    let bad = [extended(
        r#"{"key":"a","operator":"Gt","value":"x","effect":"NoExecute"}"#,
    )];
    let error = restore(&spec, &bad).unwrap_err();
    assert!(
        matches!(
            &error,
            Disagreement::Bound {
                source: BoundError::NoNumber { .. },
                ..
            }
        ),
        "{error}"
    );
    let many = vec![bad[0].clone(); ORIGINALS_MAX + 1];
    assert_eq!(
        restore(&spec, &many),
        Err(Disagreement::TooMany(ORIGINALS_MAX + 1))
    );
}
