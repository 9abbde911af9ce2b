//! Edits of stored objects: a number stays with its toleration, and what comes of an edit is what
//! would come of the author's own list.

use std::collections::BTreeSet;

use super::*;

/// A toleration as its author means it, and as the edited list says it.
#[derive(Clone, Debug)]
struct Line {
    meant: Toleration,
    said: Toleration,
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, Toleration),
    Remove(usize),
    Swap(usize, usize),
}

type Identity = (String, Effect, Option<i64>);

fn identity(one: &Toleration) -> Identity {
    (one.key.clone(), one.effect.clone(), one.toleration_seconds)
}

fn exists(one: &Toleration) -> bool {
    one.operator == Operator::Exists || one.operator.is_numeric()
}

fn number() -> impl Strategy<Value = Toleration> {
    let key = prop::sample::select(vec!["a/sla", "a/sla", "cost"]);
    let operator = prop::sample::select(vec!["Gt", "Lt", "Gt", "Lt", "Exists", "Equal"]);
    let value = prop::sample::select(vec!["50", "901", "7"]);
    let effect = prop::sample::select(vec!["NoExecute", "NoExecute", "NoSchedule"]);
    let seconds = prop::sample::select(vec![None, Some(30), Some(60), Some(90)]);
    (key, operator, value, effect, seconds).prop_map(|(key, operator, value, effect, seconds)| {
        Toleration {
            key: key.to_owned(),
            operator: operator.into(),
            value: if operator == "Exists" { "" } else { value }.to_owned(),
            effect: effect.into(),
            toleration_seconds: seconds.filter(|_| effect == "NoExecute"),
        }
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..9_usize, number()).prop_map(|(place, one)| Edit::Insert(place, one)),
        (0..9_usize).prop_map(Edit::Remove),
        (0..9_usize, 0..9_usize).prop_map(|(one, other)| Edit::Swap(one, other)),
    ]
}

/// The lines after `edits`, or nothing if the list then says what another edit says, too: a plain
/// `Exists` in place of one that carries a number.
fn edited(mut lines: Vec<Line>, edits: &[Edit]) -> Option<Vec<Line>> {
    let known: BTreeSet<Identity> = lines.iter().map(|line| identity(&line.said)).collect();
    let numbers: Vec<Toleration> = lines.iter().map(|line| line.meant.clone()).collect();
    let group = |one: &Toleration| (one.key.clone(), one.effect.clone());
    let of_group = |lines: &[Line], one: &Toleration| {
        let is_of_it = |line: &&Line| exists(&line.meant) && group(&line.meant) == group(one);
        lines.iter().filter(is_of_it).count()
    };
    let before = lines.clone();
    let mut added: Vec<Toleration> = Vec::new();
    for edit in edits {
        match edit {
            Edit::Insert(_, one)
                if one.operator == Operator::Exists && known.contains(&identity(one)) =>
            {
                return None;
            }
            // A number that is there already, as in the manifest.
            Edit::Insert(_, one)
                if numbers.iter().any(|number| {
                    (&number.key, &number.operator, &number.value, &number.effect)
                        == (&one.key, &one.operator, &one.value, &one.effect)
                }) =>
            {
                return None;
            }
            Edit::Insert(place, one) => {
                added.push(one.clone());
                let line = Line {
                    meant: one.clone(),
                    said: one.clone(),
                };
                lines.insert((*place).min(lines.len()), line);
            }
            Edit::Remove(place) if *place < lines.len() => drop(lines.remove(*place)),
            Edit::Swap(one, other) if (*one).max(*other) < lines.len() => lines.swap(*one, *other),
            Edit::Remove(_) | Edit::Swap(..) => {}
        }
    }
    // A plain one that comes while a number of its kind goes says that the number's seconds
    // changed.
    let is_swapped = |one: &Toleration| {
        let new = added
            .iter()
            .filter(|other| exists(other) && group(other) == group(one));
        of_group(&lines, one) < of_group(&before, one) + new.count()
    };
    let plain = |one: &&Toleration| one.operator == Operator::Exists;
    if added.iter().filter(plain).any(is_swapped) {
        return None;
    }
    Some(lines)
}

fn deployment(list: &[Toleration]) -> Value {
    object("Deployment", with(json!(list)))
}

fn created(list: &[Toleration]) -> Option<Value> {
    admitted("Deployment", &deployment(list), None, Comparison::Off)
        .ok()
        .map(|(stored, _)| stored)
}

/// The object without the empty places that a removal leaves.
fn tidied(mut deployment: Value) -> Value {
    let template = &mut deployment["spec"]["template"];
    for (place, name) in [
        ("/metadata", "annotations"),
        ("/spec/affinity", "nodeAffinity"),
        ("/spec", "affinity"),
    ] {
        let Some(object) = template.pointer_mut(place).and_then(Value::as_object_mut) else {
            continue;
        };
        if object.get(name) == Some(&json!({})) {
            object.remove(name);
        }
    }
    deployment
}

/// Stores `list`, then has `said` in its place.
fn updated(stored: &Value, said: &[Toleration]) -> Result<Value, String> {
    let mut new = stored.clone();
    new["spec"]["template"]["spec"]["tolerations"] = json!(said);
    admitted("Deployment", &new, Some(stored), Comparison::Off).map(|(stored, _)| stored)
}

fn meanings(deployment: &Value) -> Vec<String> {
    let template = &deployment["spec"]["template"];
    let spec: Vec<Toleration> =
        serde_json::from_value(template["spec"]["tolerations"].clone()).unwrap_or_default();
    let entries = template["metadata"]["annotations"][ANNOTATION].as_str();
    let entries: Vec<ExtendedToleration> = serde_json::from_str(entries.unwrap_or("[]")).unwrap();
    let restored = restore(&spec, &entries).unwrap();
    let mut texts: Vec<String> = restored.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts
}

/// The preferred terms of the pods that are made of a template, in no order.
fn preferences(deployment: &Value) -> BTreeSet<String> {
    let pod = object("Pod", deployment["spec"]["template"].clone());
    let (pod, _) = admitted("Pod", &pod, None, Comparison::Off).unwrap();
    let place = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    let terms = pod.pointer(place).and_then(Value::as_array);
    let terms = terms.map(Vec::as_slice).unwrap_or_default();
    terms.iter().map(ToString::to_string).collect()
}

fn stored_form(stored: &Value) -> Vec<Toleration> {
    serde_json::from_value(stored["spec"]["template"]["spec"]["tolerations"].clone()).unwrap()
}

fn lines_of(list: &[Toleration], stored: &Value) -> Vec<Line> {
    let said = stored_form(stored).into_iter();
    let pairs = list.iter().cloned().zip(said);
    pairs.map(|(meant, said)| Line { meant, said }).collect()
}

proptest! {
    #[test]
    fn an_edit_of_what_is_stored_is_the_edit_of_what_was_written(
        list in prop::collection::vec(number(), 1..5),
        edits in prop::collection::vec(edit(), 0..4),
    ) {
        let Some(stored) = created(&list) else { return Ok(()); };
        let Some(lines) = edited(lines_of(&list, &stored), &edits) else { return Ok(()); };
        let meant: Vec<Toleration> = lines.iter().map(|line| line.meant.clone()).collect();
        let said: Vec<Toleration> = lines.iter().map(|line| line.said.clone()).collect();
        let Some(want) = created(&meant) else { return Ok(()); };
        let before: Vec<Identity> = list.iter().filter(|one| exists(one)).map(identity).collect();
        let after: Vec<Identity> = meant.iter().filter(|one| exists(one)).map(identity).collect();
        let is_unique = |all: &[Identity]| all.iter().collect::<BTreeSet<_>>().len() == all.len();
        let got = updated(&stored, &said);
        if let Ok(got) = &got {
            prop_assert_eq!(preferences(got), preferences(&want));
        }
        match got {
            Ok(got) if is_unique(&before) && is_unique(&after) => prop_assert_eq!(tidied(got), want),
            Ok(got) => {
                prop_assert_eq!(meanings(&got), meanings(&want));
                let again = admitted("Deployment", &got, Some(&stored), Comparison::Off).unwrap().0;
                prop_assert_eq!(again, got);
            }
            Err(reason) => {
                prop_assert!(!is_unique(&before), "{}", reason);
                prop_assert!(reason.contains("cannot be known"), "{}", reason);
            }
        }
    }

    #[test]
    fn the_manifest_in_place_of_what_is_stored_is_the_manifest(
        list in prop::collection::vec(number(), 1..5),
        edits in prop::collection::vec(edit(), 0..4),
    ) {
        let Some(stored) = created(&list) else { return Ok(()); };
        let authored: Vec<Line> = list.iter().map(|one| Line { meant: one.clone(), said: one.clone() }).collect();
        let Some(lines) = edited(authored, &edits) else { return Ok(()); };
        let manifest: Vec<Toleration> = lines.into_iter().map(|line| line.meant).collect();
        // A plain one that takes a number's place is read as that number's.
        let is_plain = |one: &&Toleration| one.operator == Operator::Exists;
        let known = list.iter().filter(is_plain).count();
        prop_assume!(manifest.iter().filter(is_plain).count() <= known);
        prop_assume!(list.iter().filter(is_plain).all(|one| manifest.contains(one)));
        let Some(want) = created(&manifest) else { return Ok(()); };
        match updated(&stored, &manifest) {
            Ok(got) => prop_assert_eq!(tidied(got), want),
            Err(reason) => prop_assert!(
                list.iter().any(|one| one.operator == Operator::Exists) && reason.contains("cannot be known"),
                "{}", reason
            ),
        }
    }

    #[test]
    fn other_seconds_keep_their_numbers(
        list in prop::collection::vec(number(), 1..5),
        changed in prop::collection::vec(0..5_usize, 0..4),
    ) {
        let Some(stored) = created(&list) else { return Ok(()); };
        let mut lines = lines_of(&list, &stored);
        for place in changed.into_iter().filter(|place| *place < list.len()) {
            if lines[place].meant.effect == Effect::NoExecute {
                // As nobody else has them.
                let seconds = Some(1000 + i64::try_from(place).unwrap());
                lines[place].meant.toleration_seconds = seconds;
                lines[place].said.toleration_seconds = seconds;
            }
        }
        let meant: Vec<Toleration> = lines.iter().map(|line| line.meant.clone()).collect();
        let said: Vec<Toleration> = lines.iter().map(|line| line.said.clone()).collect();
        let want = created(&meant).unwrap();
        prop_assert_eq!(meanings(&updated(&stored, &said).unwrap()), meanings(&want));
    }
}

#[test]
fn numbers_of_a_live_pod_follow_its_edits_too() {
    let number = |value: &str, seconds: Value| json!({ "key": "sla", "operator": "Gt", "value": value, "effect": "NoExecute", "tolerationSeconds": seconds });
    let object = object("Pod", with(json!([number("900", json!(60))])));
    let (old, _) = admitted("Pod", &object, None, Comparison::Off).unwrap();
    let mut new = old.clone();
    let list = new["spec"]["tolerations"].as_array_mut().unwrap();
    list.insert(0, number("970", json!(null)));
    let (stored, _) = admitted("Pod", &new, Some(&old), Comparison::Off).unwrap();
    let entries = stored["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .unwrap();
    assert_eq!(
        entries,
        r#"[{"key":"sla","operator":"Gt","value":"970","effect":"NoExecute","index":0},{"key":"sla","operator":"Gt","value":"900","effect":"NoExecute","tolerationSeconds":60,"index":1}]"#
    );
}

#[test]
fn two_numbers_survive_the_merge_that_comes_after_admission() {
    // A RuntimeClass with `scheduling` leaves one of two equal ones, and of two that differ by
    // seconds the longer.
    for seconds in [(60, 60), (60, 30), (30, 60)] {
        let number = |operator: &str, value: &str, seconds: i64| json!({ "key": "sla", "operator": operator, "value": value, "effect": "NoExecute", "tolerationSeconds": seconds });
        let list = json!([
            number("Gt", "950", seconds.0),
            number("Lt", "50", seconds.1)
        ]);
        let pod = object("Pod", with(list));
        let (first, _) = admitted("Pod", &pod, None, Comparison::Off).unwrap();
        let mut merged = first.clone();
        merged["spec"]["tolerations"] = json!([{ "key": "gpu", "operator": "Exists" },
            { "key": "sla", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds.0.max(seconds.1) }]);
        let (stored, _) = admitted("Pod", &merged, None, Comparison::Off).unwrap();
        assert_eq!(stored["spec"], merged["spec"], "{seconds:?}");
        let entries: Vec<ExtendedToleration> = serde_json::from_str(
            stored["metadata"]["annotations"][ANNOTATION]
                .as_str()
                .unwrap(),
        )
        .unwrap();
        let kept: Vec<_> = entries
            .iter()
            .map(|entry| (entry.value.as_str(), entry.index, entry.toleration_seconds))
            .collect();
        assert_eq!(
            kept,
            [
                ("950", Some(1), Some(seconds.0)),
                ("50", Some(1), Some(seconds.1))
            ]
        );
        let again = admitted("Pod", &stored, None, Comparison::Off).unwrap().0;
        assert_eq!(again, stored, "twice");
    }
}
