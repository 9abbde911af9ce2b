//! Mirrored labels and the affinity on them: a table of shapes, and laws.
//!
//! The main law: whatever the tolerations and taints, a scheduler that reads labels and `Exists`
//! places the pod exactly where the numbers would. The reading of affinity here is written from
//! Kubernetes' rules for node selectors, where a bound must be a label value and numbers are read
//! as Go reads them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::super::{
    extension::ParsedTaint,
    mirror::{
        Constraints, MirrorError, Requirement, TERMS_MAX, Term, changes, constraints,
        hold_of_daemon_set, hold_of_pod, is_held, is_mirrored, label, label_value, labels, lower,
    },
    rewrite::{Authored, restore, rewrite},
};
use super::*;

/// Whether a node with these labels meets a requirement.
pub(super) fn holds(requirement: &Requirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let number = |text: &String| text.parse::<i64>().ok();
    assert!(
        requirement
            .values
            .iter()
            .all(|value| validation::label_value(value).is_empty()),
        "the API server's selector refuses {requirement:?}"
    );
    let bound = || requirement.values.first().and_then(number).unwrap();
    match requirement.operator.as_str() {
        "DoesNotExist" => value.is_none(),
        "Exists" => value.is_some(),
        "In" => value.is_some_and(|value| requirement.values.contains(value)),
        "Gt" => value.and_then(number).is_some_and(|value| value > bound()),
        "Lt" => value.and_then(number).is_some_and(|value| value < bound()),
        other => panic!("operator {other}"),
    }
}

fn selected(terms: &[Term], labels: &BTreeMap<String, String>) -> bool {
    let all = |term: &Term| {
        let mut expressions = term.match_expressions.iter();
        !term.match_expressions.is_empty() && expressions.all(|one| holds(one, labels))
    };
    terms.iter().any(all)
}

fn lowered(list: &[Toleration], terms: Option<&[Term]>) -> Option<Vec<Term>> {
    try_lowered(list, terms).unwrap()
}

/// The same, or the refusal of an affinity with too many terms.
fn try_lowered(
    list: &[Toleration],
    terms: Option<&[Term]>,
) -> Result<Option<Vec<Term>>, MirrorError> {
    let (spec, originals) = rewrite(list);
    let asked = restore(&spec, &originals).unwrap();
    let rules: Vec<Rule> = asked.iter().map(|one| one.rule().unwrap()).collect();
    lower(terms, &constraints(&rules).unwrap())
}

fn texts(terms: &[Term]) -> Vec<String> {
    let text = |one: &Requirement| {
        let key = one.key.replace(".taint.pdautoscaler.io/", "/");
        format!("{key} {} {}", one.operator, one.values.join(","))
            .trim_end()
            .to_owned()
    };
    let term = |term: &Term| {
        let all: Vec<String> = term.match_expressions.iter().map(text).collect();
        all.join(" & ")
    };
    terms.iter().map(term).collect()
}

#[rstest]
#[case::above("Gt", "950", &["DoesNotExist", "Gt 950"])]
#[case::below("Lt", "7", &["DoesNotExist", "Lt 7"])]
#[case::any_number("Gt", "-1", &["DoesNotExist", "In 0", "Gt 0"])]
#[case::any_number_by_far("Gt", "-9223372036854775808", &["DoesNotExist", "In 0", "Gt 0"])]
#[case::above_zero("Gt", "0", &["DoesNotExist", "Gt 0"])]
#[case::no_number("Lt", "0", &["DoesNotExist"])]
#[case::none_above_all("Gt", "9223372036854775807", &["DoesNotExist"])]
fn a_comparison_is_absence_or_the_number(
    #[case] operator: &str,
    #[case] value: &str,
    #[case] want: &[&str],
) {
    let list = [toleration("a/sla", operator, value, "NoExecute", None)];
    let terms = lowered(&list, None).unwrap();
    let want: Vec<String> = want
        .iter()
        .map(|one| format!("a.no-execute/sla {one}"))
        .collect();
    assert_eq!(texts(&terms), want);
}

#[rstest]
#[case::both_hard_effects(&[("sla", "Gt", "9", "")], &[
    "no-schedule/sla DoesNotExist & no-execute/sla DoesNotExist",
    "no-schedule/sla DoesNotExist & no-execute/sla Gt 9",
    "no-schedule/sla Gt 9 & no-execute/sla DoesNotExist",
    "no-schedule/sla Gt 9 & no-execute/sla Gt 9",
])]
#[case::alternatives(&[("sla", "Gt", "9", "NoSchedule"), ("sla", "Lt", "3", "NoSchedule"), ("sla", "Equal", "x", "")], &[
    "no-schedule/sla DoesNotExist", "no-schedule/sla Gt 9", "no-schedule/sla Lt 3", "no-schedule/sla In x",
])]
#[case::everything_is_tolerated(&[("sla", "Gt", "9", "NoSchedule"), ("", "Exists", "", "")], &[])]
#[case::a_preference(&[("sla", "Gt", "9", "PreferNoSchedule")], &[])]
#[case::no_number(&[("sla", "Equal", "9", "")], &[])]
fn tolerations_become_terms(#[case] list: &[(&str, &str, &str, &str)], #[case] want: &[&str]) {
    let list: Vec<Toleration> = list
        .iter()
        .map(|(key, operator, value, effect)| toleration(key, operator, value, effect, None))
        .collect();
    assert_eq!(texts(&lowered(&list, None).unwrap_or_default()), want);
}

#[rstest]
#[case(
    "node.kubernetes.io/sla",
    "NoExecute",
    Some("node.kubernetes.io.no-execute.taint.pdautoscaler.io/sla")
)]
#[case("sla", "NoSchedule", Some("no-schedule.taint.pdautoscaler.io/sla"))]
#[case("sla", "", None)]
#[case("sla", "Sometimes", None)]
fn labels_are_named_after_key_and_effect(
    #[case] key: &str,
    #[case] effect: &str,
    #[case] want: Option<&str>,
) {
    assert_eq!(label(key, &effect.into()).as_deref(), want);
    assert_eq!(
        label(&format!("{}/x", "a".repeat(230)), &Effect::NoSchedule),
        None
    );
}

#[test]
fn leading_zeros_are_no_number_to_affinity_either() {
    for (taint, want) in [
        ("950", "950"),
        ("0950", "NaN-1-950"),
        ("0951", "NaN-1-951"),
        ("00950", "NaN-2-950"),
        ("00", "NaN-1-0"),
        ("0000", "NaN-3-0"),
        ("NaN-1-950", "NaN-x-NaN-1-950"),
        ("09223372036854775808", "NaN-1-9223372036854775808"),
        ("0", "0"),
        ("high", "high"),
        ("", ""),
    ] {
        assert_eq!(label_value(taint), want);
    }
}

#[test]
fn a_term_that_matches_nothing_stays_so_and_fields_are_kept() {
    let list = [toleration("sla", "Gt", "9", "NoSchedule", None)];
    let empty = [Term::default()];
    assert_eq!(lowered(&list, Some(&empty)), Some(empty.to_vec()));
    let field = Requirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: vec!["n".to_owned()],
        ..Requirement::default()
    };
    let daemon = [Term {
        match_fields: vec![field.clone()],
        ..Term::default()
    }];
    let terms = lowered(&list, Some(&daemon)).unwrap();
    assert_eq!(terms.len(), 2);
    assert!(
        terms
            .iter()
            .all(|term| term.match_fields == [field.clone()])
    );
}

#[test]
fn what_grows_without_bound_or_fits_nowhere_is_refused() {
    let keys: Vec<Toleration> = (0..5)
        .map(|index| toleration(&format!("k{index}"), "Gt", "9", "", None))
        .collect();
    let asked: Vec<Rule> = keys
        .iter()
        .map(|one| Rule::plain(one, Comparison::On))
        .collect();
    let error = lower(None, &constraints(&asked).unwrap()).unwrap_err();
    assert!(
        error.to_string().contains(&TERMS_MAX.to_string()),
        "{error}"
    );
    let mut rule = Rule::plain(
        &toleration("k", "Gt", "9223372036854775807", "NoSchedule", None),
        Comparison::On,
    );
    rule.must_be_present = true;
    let error = lower(None, &constraints(&[rule]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("no node"), "{error}");
}

#[test]
fn a_taint_that_must_be_present_is_required() {
    let mut rule = Rule::plain(
        &toleration("k", "Gt", "9", "NoSchedule", None),
        Comparison::On,
    );
    rule.must_be_present = true;
    let terms = lower(None, &constraints(&[rule.clone()]).unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(texts(&terms), ["no-schedule/k Gt 9"]);
    rule.effect = Effect::Unset;
    let terms = lower(None, &constraints(&[rule]).unwrap())
        .unwrap()
        .unwrap();
    let places = |taint_text: &str| selected(&terms, &labels(&taints(&[taint_text])));
    assert!(
        places("k=10:NoSchedule") && places("k=10:NoExecute") && places("k=10:PreferNoSchedule")
    );
    assert!(
        !places("other=10:NoSchedule")
            && !places("k=9:NoExecute")
            && !selected(&terms, &labels(&[]))
    );
}

fn arbitrary_toleration() -> impl Strategy<Value = Toleration> {
    let operator = prop::sample::select(vec!["Gt", "Lt", "Gt", "Lt", "Equal", "Exists"]);
    let value = prop::sample::select(vec![
        "-2",
        "-1",
        "0",
        "1",
        "5",
        "9",
        "9223372036854775807",
        "text",
    ]);
    let key = prop::sample::select(vec!["a/sla", "cost"]);
    let effect = prop::sample::select(vec!["", "NoSchedule", "NoExecute", "PreferNoSchedule"]);
    (key, operator, value, effect).prop_map(|(key, operator, value, effect)| {
        let value = if operator == "Exists" { "" } else { value };
        toleration(key, operator, value, effect, None)
    })
}

fn arbitrary_taints() -> impl Strategy<Value = Vec<Taint>> {
    let value = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "5",
        "6",
        "9",
        "10",
        "05",
        "text",
        "",
        "9223372036854775807",
        "9223372036854775808",
    ]);
    let slots = [
        ("a/sla", "NoSchedule"),
        ("a/sla", "NoExecute"),
        ("a/sla", "PreferNoSchedule"),
        ("cost", "NoSchedule"),
        ("cost", "NoExecute"),
    ];
    prop::collection::vec(prop::option::of(value), slots.len()).prop_map(move |values| {
        let taint = |(slot, value): ((&str, &str), Option<&str>)| {
            value.map(|value| Taint::new(slot.0, value, slot.1.into()))
        };
        slots.into_iter().zip(values).filter_map(taint).collect()
    })
}

fn arbitrary_terms() -> impl Strategy<Value = Option<Vec<Term>>> {
    let term = |zone: String| Term {
        match_expressions: vec![Requirement {
            key: "zone".to_owned(),
            operator: "In".to_owned(),
            values: vec![zone],
            ..Requirement::default()
        }],
        ..Term::default()
    };
    prop::option::of(
        prop::collection::btree_set("[a-c]", 1..3)
            .prop_map(move |zones| zones.into_iter().map(term).collect()),
    )
}

/// Labels of a node: foreign ones, some that look alike, and leftovers of the mirror.
fn arbitrary_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        "[a-c]",
        "topology.kubernetes.io/[a-c]",
        Just("nottaint.pdautoscaler.io/x".to_owned()),
        Just("taint.pdautoscaler.io.example.com/x".to_owned()),
        Just("no-schedule.taint.pdautoscaler.io/sla".to_owned()),
        Just("no-execute.taint.pdautoscaler.io/gone".to_owned()),
        Just("taint.pdautoscaler.io/x".to_owned()),
    ];
    prop::collection::btree_map(key, "[0-9a-c]{0,3}", 0..8)
}

/// Applies a JSON merge patch.
fn patched(
    labels: &BTreeMap<String, String>,
    changes: BTreeMap<String, Option<String>>,
) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    for (key, value) in changes {
        match value {
            Some(value) => labels.insert(key, value),
            None => labels.remove(&key),
        };
    }
    labels
}

#[test]
fn changes_set_replace_and_remove() {
    let before = BTreeMap::from(
        [
            ("zone", "a"),
            ("no-schedule.taint.pdautoscaler.io/sla", "900"),
            ("no-execute.taint.pdautoscaler.io/sla", "900"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let taints = taints(&["sla=950:NoSchedule", "cost=0100:PreferNoSchedule"]);
    let changed: Vec<String> = changes(&before, &labels(&taints))
        .into_iter()
        .map(|(key, value)| format!("{key} {value:?}"))
        .collect();
    assert_eq!(
        changed,
        [
            "no-execute.taint.pdautoscaler.io/sla None",
            "no-schedule.taint.pdautoscaler.io/sla Some(\"950\")",
            "prefer-no-schedule.taint.pdautoscaler.io/cost Some(\"NaN-1-100\")",
        ]
    );
}

proptest! {
    #[test]
    fn changes_make_the_mirror_true_once_and_touch_nothing_else(
        before in arbitrary_labels(),
        taints in arbitrary_taints(),
    ) {
        let due = labels(&taints);
        let changed = changes(&before, &due);
        prop_assert!(changed.keys().all(|key| is_mirrored(key)));
        let after = patched(&before, changed);
        prop_assert!(changes(&after, &due).is_empty());
        let (ours, foreign): (BTreeMap<_, _>, BTreeMap<_, _>) =
            after.into_iter().partition(|(key, _)| is_mirrored(key));
        prop_assert_eq!(ours, due);
        let mut kept = before;
        kept.retain(|key, _| !is_mirrored(key));
        prop_assert_eq!(foreign, kept);
    }

    #[test]
    fn labels_and_exists_place_a_pod_where_its_numbers_do(
        list in prop::collection::vec(arbitrary_toleration(), 0..4),
        taints in arbitrary_taints(),
    ) {
        let (spec, _) = rewrite(&list);
        let by_labels = lowered(&list, None).is_none_or(|terms| selected(&terms, &labels(&taints)))
            && node::first_untolerated(&taints, &spec, Comparison::Off).is_none();
        let by_numbers = node::first_untolerated(&taints, &list, Comparison::On).is_none();
        prop_assert_eq!(by_labels, by_numbers);
    }

    #[test]
    fn lowering_twice_is_once_and_lowering_for_nothing_restores(
        list in prop::collection::vec(arbitrary_toleration(), 0..4),
        other in prop::collection::vec(arbitrary_toleration(), 0..3),
        terms in arbitrary_terms(),
    ) {
        // Terms multiply by key and effect, and lists that give too many are refused.
        let fits = |list: &[Toleration]| try_lowered(list, terms.as_deref()).is_ok();
        prop_assume!(fits(&list) && fits(&other));
        let once = lowered(&list, terms.as_deref());
        prop_assert_eq!(&lowered(&list, once.as_deref()), &once);
        prop_assert_eq!(lower(once.as_deref(), &Constraints::default()).unwrap(), terms.clone());
        prop_assert_eq!(lowered(&other, once.as_deref()), lowered(&other, terms.as_deref()));
    }
}

/// The affinity of a rewritten pod that `hold` holds, and its rules.
fn held_by(list: &[Toleration], hold: Option<String>) -> Option<(Option<Vec<Term>>, Vec<Rule>)> {
    let (spec, originals) = rewrite(list);
    let asked = restore(&spec, &originals).unwrap();
    let rules: Vec<Rule> = asked.iter().map(|one| one.rule().unwrap()).collect();
    let terms = lower(None, &constraints(&rules).unwrap().unless(hold)).ok()?;
    Some((terms, rules))
}

/// Whether node affinity and `NoExecute` taints let a pod be: the rule by which a kubelet admits
/// pods when it starts (`generalFilter` in `pkg/kubelet/lifecycle/predicate.go`), and by which the
/// controller of `DaemonSets` lets one run on (`nodeShouldRunDaemonPod` in
/// `pkg/controller/daemon`).
fn may_run_on(
    terms: Option<&[Term]>,
    node: &BTreeMap<String, String>,
    spec: &[Toleration],
    taints: &[Taint],
    gate: Comparison,
) -> bool {
    let hard: Vec<Taint> = taints
        .iter()
        .filter(|taint| taint.effect == Effect::NoExecute)
        .cloned()
        .collect();
    terms.is_none_or(|terms| selected(terms, node))
        && node::first_untolerated(&hard, spec, gate).is_none()
}

fn parsed(taints: &[Taint]) -> Vec<ParsedTaint> {
    taints.iter().cloned().map(ParsedTaint::from).collect()
}

#[test]
fn a_running_pod_is_illegal_without_its_hold_and_legal_with_it() {
    let list = [toleration("sla", "Gt", "950", "NoSchedule", None)];
    let (terms, rules) = held_by(&list, hold_of_pod("t")).unwrap();
    let weak = taints(&["sla=900:NoSchedule"]);
    let (spec, _) = rewrite(&list);
    let (without, _) = held_by(&list, None).unwrap();
    let mut node = labels(&weak);
    assert!(!may_run_on(
        without.as_deref(),
        &node,
        &spec,
        &weak,
        Comparison::Off
    ));
    assert!(!may_run_on(
        terms.as_deref(),
        &node,
        &spec,
        &weak,
        Comparison::Off
    ));
    assert!(
        is_held(&rules, &parsed(&weak))
            && !is_held(&rules, &parsed(&taints(&["sla=951:NoSchedule"])))
    );
    node.insert(hold_of_pod("t").unwrap(), String::new());
    assert!(may_run_on(
        terms.as_deref(),
        &node,
        &spec,
        &weak,
        Comparison::Off
    ));
    assert_eq!(
        hold_of_daemon_set("ns", "d").as_deref(),
        Some("ns.held.taint.pdautoscaler.io/d")
    );
    assert_eq!(hold_of_daemon_set("ns", &"d".repeat(64)), None);
    assert_eq!(hold_of_pod(""), None);
}

#[test]
fn what_must_be_present_evicts_nobody_when_it_is_gone() {
    let mut rule = Rule::plain(
        &toleration("sla", "Gt", "950", "NoExecute", None),
        Comparison::On,
    );
    rule.must_be_present = true;
    let rules = [rule];
    let hold = hold_of_pod("t");
    let terms = lower(None, &constraints(&rules).unwrap().unless(hold.clone()))
        .unwrap()
        .unwrap();
    let on = |taint_texts: &[&str]| {
        let there = taints(taint_texts);
        let mut node = labels(&there);
        node.extend(
            hold.clone()
                .filter(|_| is_held(&rules, &parsed(&there)))
                .map(|hold| (hold, String::new())),
        );
        selected(&terms, &node)
    };
    assert!(on(&["sla=951:NoExecute"]) && on(&[]), "the taint is gone");
    assert!(!on(&["sla=900:NoExecute"]), "its number is bad");
    assert!(
        !selected(&terms, &BTreeMap::new()),
        "nobody is placed there"
    );
}

proptest! {
    #[test]
    fn no_two_values_of_taints_share_a_label(
        one in "(0{0,3}[0-9]{0,3}|NaN-[0-9x]-[0-9]{1,3}|[a-z]{0,2})",
        other in "(0{0,3}[0-9]{0,3}|NaN-[0-9x]-[0-9]{1,3}|[a-z]{0,2})",
    ) {
        prop_assert_eq!(label_value(&one) == label_value(&other), one == other);
    }

    #[test]
    fn label_values_are_valid_and_numbers_only_if_the_taints_are(value in "[0-9]{1,63}|NaN-[0-9a-z]{1,59}") {
        let label = label_value(&value);
        prop_assert!(validation::label_value(&label).is_empty(), "{}", label);
        let number = label.parse::<i64>().ok();
        prop_assert_eq!(number, canonical_int64(&value).ok());
    }

    #[test]
    fn a_pod_that_runs_is_left_alone_exactly_where_kubernetes_leaves_it(
        list in prop::collection::vec(arbitrary_toleration(), 0..4),
        taints in arbitrary_taints(),
    ) {
        let hold = hold_of_pod("t");
        let Some((terms, rules)) = held_by(&list, hold.clone()) else { return Ok(()); };
        let (spec, _) = rewrite(&list);
        let mut node = labels(&taints);
        if is_held(&rules, &parsed(&taints)) {
            node.insert(hold.unwrap(), String::new());
        }
        let ours = may_run_on(terms.as_deref(), &node, &spec, &taints, Comparison::Off);
        let native = may_run_on(None, &node, &list, &taints, Comparison::On);
        prop_assert_eq!(ours, native);
    }

    #[test]
    fn holds_of_others_place_nobody(
        list in prop::collection::vec(arbitrary_toleration(), 0..4),
        taints in arbitrary_taints(),
    ) {
        let Some((terms, _)) = held_by(&list, hold_of_pod("own")) else { return Ok(()); };
        let mut node = labels(&taints);
        node.insert(hold_of_pod("other").unwrap(), String::new());
        let (spec, _) = rewrite(&list);
        let by_labels = terms.is_none_or(|terms| selected(&terms, &node))
            && node::first_untolerated(&taints, &spec, Comparison::Off).is_none();
        let by_numbers = node::first_untolerated(&taints, &list, Comparison::On).is_none();
        prop_assert_eq!(by_labels, by_numbers);
    }
}

#[test]
fn rules_that_are_no_longer_numeric_leave_no_trace() {
    let list = [toleration("sla", "Gt", "9", "NoSchedule", None)];
    let once = lowered(&list, None);
    assert!(once.is_some());
    let asked = [Authored::Plain(&list[0])];
    assert!(asked[0].rule().unwrap().is_numeric);
    assert_eq!(lowered(&[], once.as_deref()), None);
}
