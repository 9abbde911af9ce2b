//! The judgement of a rewritten pod about a node, in words, and pods that cannot be read.

use rstest::rstest;

use super::*;
use crate::{
    eviction::rules::{Because, TolerationRules},
    rewrite::rewrite,
};

const AT_800: &[&str] = &["sla=800:NoExecute"];

fn sla(operator: &str, value: &str, seconds: impl Into<Option<i64>>) -> Toleration {
    toleration("sla", operator, value, "NoExecute", seconds.into())
}

fn rewritten(tolerations: &[Toleration]) -> TolerationRules {
    let (spec, originals) = rewrite(tolerations);
    TolerationRules::read(&spec, &originals).unwrap()
}

#[rstest]
#[case::below(&[sla("Gt", "900", None)], AT_800,
    "taint sla=800:NoExecute is not tolerated: its value is not at least 901")]
#[case::alternatives(&[sla("Gt", "900", None), sla("Lt", "500", 3)], AT_800,
    "taint sla=800:NoExecute is not tolerated: its value is not at least 901 or at most 499")]
#[case::another_key(&[sla("Gt", "700", None)], &["cost=1:NoExecute"], "taint cost=1:NoExecute is not tolerated")]
#[case::bounded(&[sla("Gt", "700", 60)], AT_800, "taint sla=800:NoExecute is tolerated for 60 s")]
#[case::at_once(&[sla("Gt", "700", -3)], AT_800, "taint sla=800:NoExecute is tolerated for no time")]
#[case::the_shortest(
    &[sla("Gt", "700", 60), toleration("cost", "Gt", "0", "", Some(5))],
    &["sla=800:NoExecute", "cost=1:NoExecute"], "taint cost=1:NoExecute is tolerated for 5 s")]
fn reasons_name_taint_and_number(
    #[case] tolerations: &[Toleration],
    #[case] node: &[&str],
    #[case] want: &str,
) {
    let because = rewritten(tolerations).judge(&taints(node)).because;
    assert_eq!(
        because.as_ref().map(Because::to_string).as_deref(),
        Some(want)
    );
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_wish() {
    let (spec, originals) = rewrite(&[sla("Gt", "900", None)]);
    assert!(TolerationRules::read(&[], &originals).is_err());
    let mut broken = originals;
    broken[0].value = "0900".to_owned();
    assert!(TolerationRules::read(&spec, &broken).is_err());
}
