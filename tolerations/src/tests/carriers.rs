//! Which `Exists` carries which number: after edits, after Kubernetes' own merges, and in lists
//! that an earlier version stored.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{
    carrier::{find, follow},
    rewrite::{restore, rewrite},
};

/// A list out of `operator value/seconds` texts of one key and effect.
fn list(texts: &[&str]) -> Vec<Toleration> {
    texts
        .iter()
        .map(|text| {
            let (text, seconds) = text.split_once('/').unwrap_or((text, ""));
            let (operator, value) = text.split_once(' ').unwrap_or((text, ""));
            toleration("sla", operator, value, "NoExecute", seconds.parse().ok())
        })
        .collect()
}

/// A stored list of `was` after an edit to `is`, as meant.
fn edited(was: &[&str], is: &[&str]) -> Result<Vec<String>, String> {
    let (stored, originals) = rewrite(&list(was));
    let is = list(is);
    let found = follow(&is, &stored, &originals).map_err(|error| error.to_string())?;
    let meant = is.iter().enumerate().map(|(place, one)| {
        let carried = originals.iter().zip(&found);
        let mut carried = carried.filter(|(_, own)| own.is_some_and(|own| own.place == place));
        carried.next().map_or_else(
            || one.to_string(),
            |(original, _)| {
                let number = ExtendedToleration {
                    toleration_seconds: one.toleration_seconds,
                    ..original.clone()
                };
                number.to_string()
            },
        )
    });
    let short = |text: String| text.replace("sla ", "").replace(":NoExecute", "");
    Ok(meant.map(short).collect())
}

#[rstest]
#[case::another_number_first(&["Gt 900/60"], &["Gt 970", "Exists/60"], &["Gt 970", "Gt 900 for 60 s"])]
#[case::the_first_deleted(&["Gt 50", "Lt 901/60"], &["Exists/60"], &["Lt 901 for 60 s"])]
#[case::an_unrelated_first_deleted(&["Equal x", "Gt 50/60", "Lt 901/30"], &["Exists/60", "Exists/30"], &["Gt 50 for 60 s", "Lt 901 for 30 s"])]
#[case::turned_round(&["Gt 50/60", "Lt 901/30"], &["Exists/30", "Exists/60"], &["Lt 901 for 30 s", "Gt 50 for 60 s"])]
#[case::other_seconds(&["Gt 50/60"], &["Exists/90"], &["Gt 50 for 90 s"])]
#[case::other_seconds_of_the_second(&["Gt 50/60", "Lt 901/60"], &["Exists/60", "Exists/90"], &["Gt 50 for 60 s", "Lt 901 for 90 s"])]
#[case::other_seconds_of_the_first(&["Gt 50/60", "Lt 901/60"], &["Exists/90", "Exists/60"], &["Gt 50 for 90 s", "Lt 901 for 60 s"])]
#[case::a_plain_one_beside_it(&["Gt 50/60"], &["Exists/60", "Exists/30"], &["Gt 50 for 60 s", "Exists for 30 s"])]
#[case::the_manifest_again(&["Exists/60", "Gt 50/60"], &["Exists/60", "Gt 50/60"], &["Exists for 60 s", "Gt 50 for 60 s"])]
#[case::the_manifest_with_other_seconds(&["Exists", "Gt 50/60"], &["Exists", "Gt 50/10"], &["Exists", "Gt 50 for 10 s"])]
#[case::the_manifest_with_another_number(&["Exists", "Gt 50/60"], &["Exists", "Gt 70/60"], &["Exists", "Gt 70 for 60 s"])]
#[case::one_of_two_equal_ones(&["Gt 50/60", "Gt 50/60"], &["Exists/60"], &["Gt 50 for 60 s"])]
#[case::all_gone(&["Gt 50/60", "Lt 901/60"], &[], &[])]
fn numbers_stay_with_their_toleration(
    #[case] was: &[&str],
    #[case] is: &[&str],
    #[case] want: &[&str],
) {
    assert_eq!(edited(was, is).unwrap(), want);
}

#[rstest]
#[case::one_of_two_deleted(&["Gt 50/60", "Lt 901/60"], &["Exists/60"])]
#[case::one_of_two_replaced(&["Gt 50/60", "Lt 901/60"], &["Gt 40/60", "Exists/60"])]
#[case::number_or_plain(&["Exists/60", "Gt 50/60"], &["Exists/60"])]
#[case::one_deleted_and_one_changed(&["Gt 50/60", "Lt 901/30"], &["Exists/45"])]
#[case::one_added_and_one_changed(&["Gt 50/60"], &["Exists/45", "Exists/90"])]
fn an_edit_that_can_be_read_in_two_ways_is_refused(#[case] was: &[&str], #[case] is: &[&str]) {
    let words = edited(was, is).unwrap_err();
    assert!(
        words.contains("key `sla` and effect NoExecute") && words.contains("write numbers"),
        "{words}"
    );
}

fn numbers(spec: &[Toleration], json: &str) -> Vec<String> {
    let originals: Vec<ExtendedToleration> = serde_json::from_str(json).unwrap();
    let restored = restore(spec, &originals).unwrap();
    restored.iter().map(ToString::to_string).collect()
}

#[test]
fn a_list_that_an_earlier_version_mixed_up_is_read_by_its_seconds() {
    // It kept the places of before the edit.
    let json = r#"[{"key":"sla","operator":"Gt","value":"900","effect":"NoExecute","tolerationSeconds":60,"index":0},
        {"key":"sla","operator":"Gt","value":"970","effect":"NoExecute","index":0}]"#;
    assert_eq!(
        numbers(&list(&["Exists", "Exists/60"]), json),
        ["sla Gt 970:NoExecute", "sla Gt 900:NoExecute for 60 s"]
    );
}

#[test]
fn seconds_of_the_spec_count_and_those_of_a_merged_toleration_are_its_own() {
    let json = r#"[{"key":"sla","operator":"Gt","value":"50","effect":"NoExecute","tolerationSeconds":60,"index":0},
        {"key":"sla","operator":"Lt","value":"40","effect":"NoExecute","tolerationSeconds":60,"index":1},
        {"key":"sla","operator":"Lt","value":"30","effect":"NoExecute","tolerationSeconds":30,"index":2}]"#;
    let both = |seconds: u8| {
        [
            format!("sla Gt 50:NoExecute for {seconds} s"),
            format!("sla Lt 40:NoExecute for {seconds} s"),
            "sla Lt 30:NoExecute for 30 s".to_owned(),
        ]
    };
    assert_eq!(numbers(&list(&["Exists/60"]), json), both(60));
    assert_eq!(numbers(&list(&["Exists/90"]), json), both(90));
}

/// Kubernetes' own `MergeTolerations` of a pod's list and a `RuntimeClass`'s.
fn merged(pod: &[Toleration], class: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<&Toleration> = pod.iter().chain(class).collect();
    let mut kept: Vec<Toleration> = Vec::new();
    for (place, one) in all.iter().enumerate() {
        let later = all.iter().skip(place + 1);
        let covered = kept.iter().any(|other| is_superset(other, one))
            || later
                .into_iter()
                .any(|other| other != one && is_superset(other, one));
        if !covered {
            kept.push((*one).clone());
        }
    }
    kept
}

/// `isSuperset` of kubernetes `pkg/util/tolerations`.
fn is_superset(ss: &Toleration, t: &Toleration) -> bool {
    if ss == t {
        return true;
    }
    if t.key != ss.key && (!ss.key.is_empty() || ss.operator != Operator::Exists) {
        return false;
    }
    if t.effect != ss.effect && !ss.effect.is_unset() {
        return false;
    }
    if ss.effect == Effect::NoExecute
        && let Some(seconds) = ss.toleration_seconds
        && t.toleration_seconds.is_none_or(|own| own > seconds)
    {
        return false;
    }
    match ss.operator {
        Operator::Equal | Operator::Unset => t.operator == Operator::Equal && t.value == ss.value,
        Operator::Exists => true,
        _ => false,
    }
}

fn arbitrary() -> impl Strategy<Value = Toleration> {
    let operator = prop::sample::select(vec!["Gt", "Lt", "Gt", "Lt", "Exists"]);
    let value = prop::sample::select(vec!["50", "901", "7"]);
    let effect = prop::sample::select(vec!["NoExecute", "NoExecute", "NoSchedule", ""]);
    let seconds = prop::sample::select(vec![None, Some(30), Some(60)]);
    (operator, value, effect, seconds).prop_map(|(operator, value, effect, seconds)| {
        let value = if operator == "Exists" { "" } else { value };
        let seconds = seconds.filter(|_| effect == "NoExecute");
        toleration("sla", operator, value, effect, seconds)
    })
}

fn numeric(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut numbers: Vec<String> = texts.filter(|text| !text.contains(" Exists")).collect();
    numbers.sort_unstable();
    numbers
}

proptest! {
    #[test]
    fn no_merge_of_kubernetes_loses_a_number_or_its_seconds(
        pod in prop::collection::vec(arbitrary(), 1..5),
        class in prop::collection::vec(arbitrary().prop_filter("plain", |one| !one.operator.is_numeric()), 0..3),
    ) {
        let once = merged(&pod, &class);
        let (stored, originals) = rewrite(&once);
        let twice = merged(&stored, &class);
        let restored = restore(&twice, &originals).unwrap();
        prop_assert_eq!(
            numeric(restored.iter().map(ToString::to_string)),
            numeric(once.iter().map(ToString::to_string))
        );
    }

    #[test]
    fn readers_find_every_number_wherever_others_are_put(
        pod in prop::collection::vec(arbitrary(), 1..5),
        places in prop::collection::vec(0..6_usize, 0..4),
    ) {
        let (mut stored, originals) = rewrite(&pod);
        for place in places {
            stored.insert(place.min(stored.len()), toleration("other", "Exists", "", "", None));
        }
        let restored = restore(&stored, &originals).unwrap();
        let found: Vec<String> = restored.iter().map(ToString::to_string).filter(|text| !text.starts_with("other")).collect();
        let mut want: Vec<String> = pod.iter().map(ToString::to_string).collect();
        let mut found_sorted = found;
        want.sort_unstable();
        found_sorted.sort_unstable();
        prop_assert_eq!(found_sorted, want);
    }

    #[test]
    fn nothing_is_carried_twice_while_something_is_free(
        pod in prop::collection::vec(arbitrary(), 1..6),
    ) {
        let (stored, originals) = rewrite(&pod);
        let mut places: Vec<usize> = find(&stored, &originals).iter().flatten().map(|own| own.place).collect();
        places.sort_unstable();
        let want: Vec<usize> = originals.iter().filter_map(|original| original.index).collect();
        prop_assert_eq!(places, want);
    }
}
