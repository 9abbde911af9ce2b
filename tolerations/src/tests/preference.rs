//! Preferred terms on mirrored labels: a table of shapes, and laws.
//!
//! The main law: by the sum of weights that kube-scheduler makes, no node gets ahead of one with
//! more margin. The margin is the extender's: of each taint the best alternative, counted on the
//! taint itself.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::{
    super::{
        ExtendedToleration,
        extension::{NumericOperator, ParsedTaint},
        mirror::{
            AUTHOR_SHARE, Margin, PREFERRED_MAX, PreferredTerm, Requirement, Term, labels, prefer,
        },
    },
    mirroring::holds,
    *,
};

type Labels = BTreeMap<String, String>;

/// The sum of the weights that a node matches, as kube-scheduler's `NodeAffinity` plugin adds them.
fn sum(terms: &[PreferredTerm], labels: &Labels) -> i64 {
    let matches = |term: &&PreferredTerm| {
        let all = &term.preference.match_expressions;
        !all.is_empty() && all.iter().all(|one| holds(one, labels))
    };
    terms.iter().filter(matches).map(|term| term.weight).sum()
}

fn rule(key: &str, operator: NumericOperator, value: &str, effect: &str) -> Option<Rule> {
    let toleration = ExtendedToleration {
        key: key.to_owned(),
        operator,
        value: value.to_owned(),
        effect: effect.into(),
        toleration_seconds: None,
        must_be_present: false,
        index: None,
    };
    Rule::extended(&toleration).ok()
}

fn texts(terms: &[PreferredTerm]) -> Vec<String> {
    let text = |one: &Requirement| {
        let key = one.key.replace(".taint.pdautoscaler.io/", "/");
        let text = format!("{key} {} {}", one.operator, one.values.join(","));
        text.trim_end().to_owned()
    };
    let term = |term: &PreferredTerm| {
        let all: Vec<String> = term.preference.match_expressions.iter().map(text).collect();
        format!("{}: {}", term.weight, all.join(" & "))
    };
    terms.iter().map(term).collect()
}

#[rstest]
#[case::above_in_parts_of_1000(NumericOperator::Gt, "950", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla Gt 9999", "1: no-execute/sla Gt 993", "1: no-execute/sla Gt 987", "1: no-execute/sla Gt 975", "1: no-execute/sla Gt 963", "1: no-execute/sla Gt 957", "1: no-execute/sla Gt 950"])]
#[case::at_least_in_percent(NumericOperator::Ge, "92", "NoSchedule", Margin::Most, &["2: preference/none DoesNotExist", "1: no-schedule/sla Gt 999", "1: no-schedule/sla Gt 98", "1: no-schedule/sla Gt 97", "1: no-schedule/sla Gt 95", "1: no-schedule/sla Gt 93", "1: no-schedule/sla Gt 92", "1: no-schedule/sla Gt 91"])]
#[case::below_has_an_end(NumericOperator::Lt, "9", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla Lt 2", "1: no-execute/sla Lt 3", "1: no-execute/sla Lt 5", "1: no-execute/sla Lt 7", "1: no-execute/sla Lt 8", "1: no-execute/sla Lt 9"])]
#[case::both_ends(NumericOperator::Range, "900..990", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla Gt 939 & Lt 951", "1: no-execute/sla Gt 933 & Lt 957", "1: no-execute/sla Gt 922 & Lt 968", "1: no-execute/sla Gt 911 & Lt 979", "1: no-execute/sla Gt 905 & Lt 985", "1: no-execute/sla Gt 899 & Lt 991"])]
#[case::one_number_has_one_margin(NumericOperator::Range, "7..7", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla In 7"])]
#[case::any_number(NumericOperator::Gt, "-1", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla Gt 99", "1: no-execute/sla Gt 8", "1: no-execute/sla Gt 7", "1: no-execute/sla Gt 4", "1: no-execute/sla Gt 2", "1: no-execute/sla Gt 1", "1: no-execute/sla In 0", "1: no-execute/sla Gt 0"])]
#[case::least_of_below(NumericOperator::Lt, "9", "NoExecute", Margin::Least, &["2: preference/none DoesNotExist", "1: no-execute/sla In 8", "1: no-execute/sla Gt 6 & Lt 9", "1: no-execute/sla Gt 4 & Lt 9", "1: no-execute/sla Gt 2 & Lt 9", "1: no-execute/sla Gt 1 & Lt 9", "1: no-execute/sla Lt 9"])]
#[case::least_of_a_range_is_at_both_ends(NumericOperator::Range, "10..14", "NoExecute", Margin::Least, &["2: preference/none DoesNotExist", "1: no-execute/sla In 10", "1: no-execute/sla In 14", "1: no-execute/sla Gt 9 & Lt 12", "1: no-execute/sla Gt 12 & Lt 15", "1: no-execute/sla Gt 9 & Lt 15"])]
#[case::none_below_zero(NumericOperator::Lt, "0", "NoExecute", Margin::Most, &[])]
#[case::the_last_number(NumericOperator::Ge, "9223372036854775807", "NoExecute", Margin::Most, &["2: preference/none DoesNotExist", "1: no-execute/sla In 9223372036854775807"])]
#[case::a_preference_comes_before_margins(NumericOperator::Lt, "3", "PreferNoSchedule", Margin::Most, &["5: preference/none DoesNotExist", "4: prefer-no-schedule/sla DoesNotExist", "4: prefer-no-schedule/sla Lt 3", "1: prefer-no-schedule/sla In 0", "1: prefer-no-schedule/sla Lt 2", "1: prefer-no-schedule/sla Lt 3"])]
fn margins_become_terms(
    #[case] operator: NumericOperator,
    #[case] value: &str,
    #[case] effect: &str,
    #[case] margin: Margin,
    #[case] want: &[&str],
) {
    let rules = [rule("sla", operator, value, effect).unwrap()];
    let got = texts(&prefer(None, &rules, margin).unwrap_or_default());
    // A range of one label is written short.
    let want: Vec<String> = want
        .iter()
        .map(|one| match one.split_once(" & ") {
            Some((first, second)) if !second.contains('/') => {
                let label = first.split(' ').nth(1).unwrap();
                format!("{first} & {label} {second}")
            }
            _ => (*one).to_owned(),
        })
        .collect();
    assert_eq!(got, want);
}

#[test]
fn many_labels_have_fewer_thresholds_each_and_too_many_have_none() {
    let of = |effect: &str, keys: usize| {
        let rules: Vec<Rule> = (0..keys)
            .map(|key| rule(&format!("k{key}"), NumericOperator::Gt, "900", effect).unwrap())
            .collect();
        prefer(None, &rules, Margin::Most).unwrap_or_default().len()
    };
    assert_eq!([of("NoExecute", 1), of("NoExecute", 2)], [8, 15]);
    assert_eq!([of("NoExecute", 3), of("NoExecute", 14)], [13, 15]);
    assert_eq!(of("NoExecute", 15), 0);
    // Three labels, and two ways to be without a `PreferNoSchedule` taint.
    assert_eq!([of("", 1), of("", 2)], [15, 11]);
}

#[test]
fn a_number_that_is_tolerated_anyway_is_not_avoided_and_texts_count_once() {
    let plain = |operator: &str, value: &str| {
        Rule::plain(
            &toleration("sla", operator, value, "PreferNoSchedule", None),
            Comparison::On,
        )
    };
    let number = plain("Gt", "5");
    let avoided = |rules: &[Rule]| {
        let terms = prefer(None, rules, Margin::Most).unwrap_or_default();
        let mut texts = texts(&terms);
        texts.retain(|text| !text.starts_with("1:") && !text.contains("preference/none"));
        texts
    };
    assert!(avoided(&[number.clone(), plain("Exists", "")]).is_empty());
    let texts = avoided(&[
        number,
        plain("Equal", "9"),
        plain("Equal", "low"),
        plain("Equal", "low"),
        plain("Equal", "05"),
    ]);
    assert_eq!(
        texts,
        [
            "7: prefer-no-schedule/sla DoesNotExist",
            "7: prefer-no-schedule/sla Gt 5",
            "7: prefer-no-schedule/sla In low",
            "7: prefer-no-schedule/sla In NaN-1-5",
        ]
    );
}

fn zone(weight: i64, value: &str) -> PreferredTerm {
    let requirement = Requirement::new("zone", "In", &[value.to_owned()]);
    PreferredTerm {
        weight,
        preference: Term {
            match_expressions: vec![requirement],
            ..Term::default()
        },
        ..PreferredTerm::default()
    }
}

#[rstest]
#[case::none(&[], 8)]
#[case::all_of_one(&[100], 8)]
#[case::a_little_of_less(&[60], 5)]
#[case::several(&[100, 40], 0)]
#[case::several_with_larger_steps(&[80, 40], 3)]
#[case::steps_too_small(&[9], 0)]
#[case::steps_too_small_of_two(&[50, 51], 0)]
fn beside_an_authors_terms_ours_are_a_tenth_of_a_step(
    #[case] weights: &[i64],
    #[case] count: usize,
) {
    let authored: Vec<PreferredTerm> = weights
        .iter()
        .zip(["a", "b", "c"])
        .map(|(weight, value)| zone(*weight, value))
        .collect();
    let rules = [rule("sla", NumericOperator::Gt, "950", "NoExecute").unwrap()];
    let all = prefer(Some(&authored), &rules, Margin::Most).unwrap();
    assert_eq!(all[..authored.len()], authored);
    assert_eq!(all.len() - authored.len(), count);
}

#[test]
fn terms_of_an_author_about_our_labels_and_others_stay_and_those_about_ours_alone_are_replaced() {
    let rules = [rule("sla", NumericOperator::Gt, "950", "NoExecute").unwrap()];
    let ours = prefer(None, &rules, Margin::Most).unwrap();
    let mut mixed = zone(100, "a");
    let on_ours = ours[1].preference.match_expressions[0].clone();
    mixed.preference.match_expressions.push(on_ours);
    let mut stale = ours[1].clone();
    stale.weight = 33;
    let before = [stale, mixed.clone()];
    let all = prefer(Some(&before), &rules, Margin::Most).unwrap();
    assert_eq!(all[0], mixed);
    assert_eq!(all[1..], ours);
    // A pod without numbers has nothing of ours, and an empty list of an author stays one.
    assert_eq!(prefer(Some(&ours), &[], Margin::Most), None);
    assert_eq!(prefer(Some(&[]), &[], Margin::Most), Some(Vec::new()));
    assert_eq!(prefer(None, &[], Margin::Most), None);
}

#[test]
fn unknown_fields_and_nulls_are_kept_apart() {
    let text = r#"[{"weight":40,"preference":{"matchExpressions":[{"key":"zone","operator":"Exists"}]},"share":2},{"weight":1,"preference":null}]"#;
    let terms: Vec<PreferredTerm> = serde_json::from_str(text).unwrap();
    assert_eq!(terms[0].unknown["share"], 2);
    assert_eq!(terms[1].preference, Term::default());
    let all = prefer(Some(&terms), &[], Margin::Most).unwrap();
    assert_eq!(all, terms);
}

const BOUNDS: [&str; 11] = [
    "-9223372036854775808",
    "-7",
    "-1",
    "0",
    "1",
    "9",
    "950",
    "951",
    "9999",
    "9223372036854775806",
    "9223372036854775807",
];

fn any_rule(keys: &'static [&'static str]) -> impl Strategy<Value = Rule> {
    let operators = [
        NumericOperator::Gt,
        NumericOperator::Lt,
        NumericOperator::Ge,
        NumericOperator::Le,
        NumericOperator::Range,
    ];
    let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
    (
        prop::sample::select(keys.to_vec()),
        prop::sample::select(operators.to_vec()),
        prop::sample::select(BOUNDS.to_vec()),
        prop::sample::select(BOUNDS.to_vec()),
        prop::sample::select(effects.to_vec()),
    )
        .prop_filter_map(
            "no number satisfies it",
            |(key, operator, one, other, effect)| {
                let value = match operator {
                    NumericOperator::Range => format!("{one}..{other}"),
                    _ => one.to_owned(),
                };
                rule(key, operator, &value, effect)
            },
        )
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..12_i64,
        940..1010_i64,
        0..20_000_i64,
        prop::sample::select(vec![i64::MAX, i64::MAX - 1, 1 << 53]),
        0..i64::MAX,
    ]
}

/// The margin at one taint: the best alternative, as the extender has it.
fn margin(rules: &[Rule], taint: &Taint) -> Option<u64> {
    let parsed = ParsedTaint::from(taint.clone());
    rules.iter().filter_map(|rule| rule.margin(&parsed)).max()
}

/// The labels of a node and its author's zone.
fn node(taints: &[Taint], zone: &str) -> Labels {
    let mut labels = labels(taints);
    labels.insert("zone".to_owned(), zone.to_owned());
    labels
}

fn effects() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![Effect::NoSchedule, Effect::NoExecute])
}

proptest! {
    #[test]
    fn more_margin_is_never_a_worse_class(
        rules in prop::collection::vec(any_rule(&["sla"]), 1..4),
        effect in effects(),
        values in (any_number(), any_number()),
    ) {
        let taint = |value: i64| Taint::new("sla", value.to_string(), effect.clone());
        let (one, other) = (taint(values.0), taint(values.1));
        let absent = Labels::new();
        for prefer_margin in [Margin::Most, Margin::Least] {
            let terms = prefer(None, &rules, prefer_margin).unwrap_or_default();
            // Neither node has a taint to avoid.
            let base = sum(&terms, &absent);
            let class = |taint: &Taint| sum(&terms, &labels(std::slice::from_ref(taint))) - base;
            match (margin(&rules, &one), margin(&rules, &other)) {
                (Some(more), Some(less)) if more >= less => match prefer_margin {
                    Margin::Most => prop_assert!(class(&one) >= class(&other)),
                    Margin::Least => prop_assert!(class(&one) <= class(&other)),
                },
                (None, _) => prop_assert_eq!(class(&one), 0),
                _ => prop_assert!(class(&one) >= 0),
            }
        }
    }

    #[test]
    fn a_node_with_more_margin_at_every_key_is_not_behind(
        rules in prop::collection::vec(any_rule(&["sla", "cost"]), 1..5),
        effect in effects(),
        values in prop::array::uniform4(any_number()),
    ) {
        let taint = |key: &str, value: i64| Taint::new(key, value.to_string(), effect.clone());
        let one = [taint("sla", values[0]), taint("cost", values[1])];
        let other = [taint("sla", values[2]), taint("cost", values[3])];
        let margins = |taints: &[Taint; 2]| {
            taints.each_ref().map(|taint| {
                let own: Vec<Rule> = rules.iter().filter(|rule| rule.key == taint.key).cloned().collect();
                margin(&own, taint)
            })
        };
        let mut pairs = margins(&one).into_iter().zip(margins(&other));
        if pairs.all(|(one, other)| one >= other) {
            let terms = prefer(None, &rules, Margin::Most).unwrap_or_default();
            prop_assert!(sum(&terms, &labels(&one)) >= sum(&terms, &labels(&other)));
        }
    }

    #[test]
    fn a_number_to_avoid_counts_more_than_all_margins(
        rules in prop::collection::vec(any_rule(&["sla"]), 1..4),
        values in prop::array::uniform4(any_number()),
        effect in effects(),
    ) {
        let soft = |value: i64| Taint::new("sla", value.to_string(), Effect::PreferNoSchedule);
        let hard = |value: i64| Taint::new("sla", value.to_string(), effect.clone());
        let is_hidden = |taint: &Taint| {
            let concerned = |rule: &Rule| rule.concerns(taint);
            let parsed = ParsedTaint::from(taint.clone());
            rules.iter().any(concerned) && !rules.iter().any(|rule| rule.tolerates(&parsed))
        };
        let avoided = [soft(values[0]), hard(values[1])];
        let others = [vec![hard(values[2])], vec![soft(values[3]), hard(values[2])], Vec::new()];
        let terms = prefer(None, &rules, Margin::Most).unwrap_or_default();
        for other in others {
            let is_better = other.iter().all(|taint| taint.effect != Effect::PreferNoSchedule || !is_hidden(taint));
            if is_hidden(&avoided[0]) && is_better && !terms.is_empty() {
                prop_assert!(sum(&terms, &labels(&other)) > sum(&terms, &labels(&avoided)));
            }
        }
    }

    #[test]
    fn writing_twice_is_once_and_an_authors_order_stands(
        rules in prop::collection::vec(any_rule(&["sla", "cost", "a/sla"]), 0..6),
        before in prop::collection::vec(any_rule(&["sla", "cost"]), 0..4),
        weights in prop::collection::vec(prop_oneof![1..=100_i64, prop::sample::select(vec![10, 20, 50, 100])], 0..3),
        is_least in any::<bool>(),
        values in prop::array::uniform4(any_number()),
    ) {
        let margin = if is_least { Margin::Least } else { Margin::Most };
        let authored: Vec<PreferredTerm> = weights.iter().zip(["a", "b", "c"]).map(|(weight, value)| zone(*weight, value)).collect();
        let authored = (!authored.is_empty()).then_some(authored);
        let once = prefer(authored.as_deref(), &rules, margin);
        prop_assert_eq!(&prefer(once.as_deref(), &rules, margin), &once);
        let others = prefer(authored.as_deref(), &before, Margin::Most);
        prop_assert_eq!(&prefer(others.as_deref(), &rules, margin), &once);
        prop_assert_eq!(&prefer(once.as_deref(), &[], margin), &authored);
        let (all, authored) = (once.unwrap_or_default(), authored.unwrap_or_default());
        let ours = &all[authored.len()..];
        prop_assert_eq!(&all[..authored.len()], &authored[..]);
        prop_assert!(ours.len() <= PREFERRED_MAX && ours.iter().all(|term| (1..=100).contains(&term.weight)));
        if let Some((heaviest, others)) = ours.split_first() {
            // Karpenter requires it.
            prop_assert!(others.iter().all(|term| term.weight < heaviest.weight));
            prop_assert_eq!(sum(std::slice::from_ref(heaviest), &Labels::new()), heaviest.weight);
        }
        let effects = [Effect::NoSchedule, Effect::PreferNoSchedule];
        let nodes: Vec<Labels> = ["a", "b", "c", ""].iter().zip(values).map(|(zone, value)| {
            let taints = ["sla", "cost"].map(|key| effects.clone().map(|effect| Taint::new(key, value.to_string(), effect)));
            node(taints.as_flattened(), zone)
        }).collect();
        for one in &nodes {
            for other in &nodes {
                let step = sum(&authored, one) - sum(&authored, other);
                let own = sum(ours, other) - sum(ours, one);
                prop_assert!(step <= 0 || own * AUTHOR_SHARE <= step);
            }
        }
    }
}
