//! The preference by margin: in new pods alone, beside an author's own terms, in as few operations
//! as it takes, and never in a template.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn preferred(pod: &Value) -> &Value {
    &pod["spec"]["affinity"]["nodeAffinity"][PREFERRED]
}

/// A template with a number, and these preferred terms.
fn preferring(terms: &Value) -> Value {
    let mut template = with(json!([toleration("Gt", "950")]));
    template["spec"]["affinity"]["nodeAffinity"][PREFERRED] = terms.clone();
    template
}

fn zone(weight: u8) -> Value {
    json!({ "weight": weight, "preference": { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] } })
}

fn margin(weight: u8, operator: &str, bound: &str) -> Value {
    json!({ "weight": weight, "preference": { "matchExpressions": [{ "key": "no-execute.taint.pdautoscaler.io/sla", "operator": operator, "values": [bound] }] } })
}

fn stored_pod(template: Value) -> Value {
    let pod = object("Pod", template);
    admitted("Pod", &pod, None, Comparison::Off).unwrap().0
}

/// The paths that an answer changes.
fn paths(kind: &str, object: &Value) -> Vec<String> {
    let response = answered(&review(kind, object, None), rewriting(Comparison::Off));
    if response["patch"].is_null() {
        return Vec::new();
    }
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch.0).unwrap();
    let place = |operation: &Value| operation["path"].as_str().unwrap().to_owned();
    patch.iter().map(place).collect()
}

#[test]
fn a_new_pod_prefers_nodes_by_margin_and_no_template_does() {
    for (_, kind, path) in KINDS {
        let object = object(kind, with(json!([toleration("Gt", "950")])));
        let (stored, _) = admitted(kind, &object, None, Comparison::Off).unwrap();
        let terms = preferred(stored.pointer(path).unwrap());
        if kind == "Pod" {
            assert_eq!(terms.as_array().unwrap().len(), 8);
            assert_eq!(terms[2], margin(1, "Gt", "993"));
        } else {
            assert!(terms.is_null(), "{kind}: {terms}");
        }
    }
}

#[test]
fn a_pod_of_a_rewritten_template_needs_nothing_but_the_preference() {
    let deployment = object("Deployment", with(json!([toleration("Gt", "950")])));
    let (stored, _) = admitted("Deployment", &deployment, None, Comparison::Off).unwrap();
    let pod = object("Pod", stored["spec"]["template"].clone());
    assert_eq!(
        paths("Pod", &pod),
        [format!("/spec/affinity/nodeAffinity/{PREFERRED}")]
    );
    let (pod, _) = admitted("Pod", &pod, None, Comparison::Off).unwrap();
    assert_eq!(paths("Pod", &pod), Vec::<String>::new());
    assert_eq!(
        preferred(&pod),
        preferred(&stored_pod(with(json!([toleration("Gt", "950")]))))
    );
}

#[rstest]
#[case::no_affinity(json!(null), &["/spec/affinity"])]
#[case::of_pods(json!({ "podAffinity": {} }), &["/spec/affinity/nodeAffinity"])]
#[case::of_nodes(json!({ "nodeAffinity": {} }), &["/spec/affinity/nodeAffinity/preferred", "/spec/affinity/nodeAffinity/required"])]
#[case::preferred(json!({ "nodeAffinity": { PREFERRED: [zone(100)] } }), &["/spec/affinity/nodeAffinity/preferred", "/spec/affinity/nodeAffinity/required"])]
#[case::null(json!({ "nodeAffinity": null, "podAffinity": {} }), &["/spec/affinity/nodeAffinity"])]
fn places_that_are_missing_are_made_once(#[case] affinity: Value, #[case] want: &[&str]) {
    let mut template = with(json!([toleration("Gt", "950")]));
    template["spec"]["affinity"] = affinity.clone();
    let pod = object("Pod", template.clone());
    let mut paths = paths("Pod", &pod);
    paths.retain(|path| path.contains("affinity"));
    assert_eq!(paths.len(), want.len(), "{paths:?}");
    assert!(
        paths
            .iter()
            .zip(want)
            .all(|(path, want)| path.starts_with(want)),
        "{paths:?}"
    );
    let stored = stored_pod(template);
    assert_eq!(
        stored["spec"]["affinity"]["podAffinity"],
        affinity["podAffinity"]
    );
    assert!(preferred(&stored).is_array() && terms(&stored).is_array());
}

#[rstest]
#[case::all(&[100], 8)]
#[case::some(&[50], 4)]
#[case::none(&[7], 0)]
fn an_authors_terms_come_first_and_are_not_outweighed(#[case] weights: &[u8], #[case] ours: usize) {
    let authored: Vec<Value> = weights.iter().map(|weight| zone(*weight)).collect();
    let stored = stored_pod(preferring(&json!(authored)));
    let all = preferred(&stored).as_array().unwrap();
    assert_eq!(all[..authored.len()], authored);
    assert_eq!(all.len() - authored.len(), ours);
    let sum = |terms: &[Value]| -> u64 {
        let weights = terms.iter().map(|term| term["weight"].as_u64().unwrap());
        weights.sum()
    };
    assert!(sum(&all[authored.len()..]) * 10 <= u64::from(weights[0]));
}

#[test]
fn a_pod_that_was_copied_from_another_prefers_by_its_own_number() {
    let mut copied = stored_pod(with(json!([toleration("Gt", "950")])));
    let want = stored_pod(with(json!([toleration("Gt", "900")])));
    copied["spec"]["tolerations"] = json!([toleration("Gt", "900")]);
    copied["metadata"]["annotations"] = json!({});
    let (stored, _) = admitted("Pod", &copied, None, Comparison::Off).unwrap();
    assert_eq!(preferred(&stored), preferred(&want));
}

#[rstest]
#[case::it_names_its_node(json!({ "spec": { "nodeName": "n" } }), false)]
#[case::it_names_no_node(json!({ "spec": { "nodeName": "" } }), true)]
#[case::it_is_of_a_daemon_set(json!({ "metadata": { "ownerReferences": [{ "kind": "DaemonSet", "name": "d", "controller": true }] } }), false)]
#[case::it_is_of_a_job(json!({ "metadata": { "ownerReferences": [{ "kind": "Job", "name": "j", "controller": true }] } }), true)]
fn a_pod_whose_node_is_known_prefers_none(#[case] has: Value, #[case] prefers: bool) {
    let mut template = with(json!([toleration("Gt", "950")]));
    json_patch::merge(&mut template, &has);
    let stored = stored_pod(template);
    assert!(terms(&stored).is_array());
    assert_eq!(preferred(&stored).is_array(), prefers, "{stored}");
}

#[test]
fn a_live_pod_keeps_its_affinity_and_so_does_everything_when_it_is_off() {
    let old = stored_pod(with(json!([toleration("Gt", "950")])));
    let mut new = old.clone();
    new["spec"]["tolerations"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "key": "cost", "operator": "Lt", "value": "5", "effect": "NoExecute" }));
    let (stored, _) = admitted("Pod", &new, Some(&old), Comparison::Off).unwrap();
    assert_eq!(stored["spec"]["affinity"], old["spec"]["affinity"]);
    let off = Rewriting {
        gate: Comparison::Off,
        preferred: None,
    };
    for terms in [json!(null), json!([margin(30, "Gt", "990"), zone(1)])] {
        let pod = object("Pod", preferring(&terms));
        let (stored, _) = admitted_as("Pod", &pod, None, off).unwrap();
        assert_eq!(preferred(&stored), &terms);
    }
}

#[test]
fn with_least_the_nodes_that_are_just_good_enough_are_preferred() {
    let least = Rewriting {
        gate: Comparison::Off,
        preferred: Some(Margin::Least),
    };
    let pod = object("Pod", with(json!([toleration("Lt", "9")])));
    let (stored, _) = admitted_as("Pod", &pod, None, least).unwrap();
    let second = json!([
        { "key": "no-execute.taint.pdautoscaler.io/sla", "operator": "Gt", "values": ["6"] },
        { "key": "no-execute.taint.pdautoscaler.io/sla", "operator": "Lt", "values": ["9"] },
    ]);
    assert_eq!(
        preferred(&stored)[2]["preference"]["matchExpressions"],
        second
    );
}

#[test]
fn where_the_api_server_compares_numbers_only_extensions_have_a_preference() {
    let native = object("Pod", preferring(&json!([zone(100)])));
    let (stored, _) = admitted("Pod", &native, None, Comparison::On).unwrap();
    assert_eq!(stored, native);
    let entries =
        json!([{ "key": "sla", "operator": "Ge", "value": "950", "effect": "NoExecute" }]);
    let extended = object("Pod", annotated(&entries, json!(null)));
    for gate in [Comparison::Off, Comparison::On] {
        let (stored, _) = admitted("Pod", &extended, None, gate).unwrap();
        assert!(preferred(&stored).is_array(), "{gate:?}");
    }
}

#[test]
fn templates_of_the_version_before_are_left_alone_and_their_pods_prefer() {
    let deployment = object("Deployment", with(json!([toleration("Gt", "950")])));
    let (before, _) = admitted("Deployment", &deployment, None, Comparison::Off).unwrap();
    let mut touched = before.clone();
    touched["spec"]["template"]["metadata"]["labels"]["touched"] = json!("yes");
    let (stored, warnings) =
        admitted("Deployment", &touched, Some(&before), Comparison::Off).unwrap();
    assert_eq!((stored, warnings), (touched.clone(), Vec::new()));
    let pod = stored_pod(touched["spec"]["template"].clone());
    assert!(preferred(&pod).is_array());
}

#[test]
fn a_preference_number_is_not_lost_with_the_taint_that_exists_hides() {
    let soft =
        json!({ "key": "sla", "operator": "Gt", "value": "950", "effect": "PreferNoSchedule" });
    let stored = stored_pod(with(json!([soft])));
    let label = "prefer-no-schedule.taint.pdautoscaler.io/sla";
    let absent = json!({ "key": label, "operator": "DoesNotExist" });
    assert_eq!(
        preferred(&stored)[1]["preference"]["matchExpressions"],
        json!([absent])
    );
    assert_eq!(preferred(&stored)[1]["weight"], 8);
    assert!(terms(&stored).is_null());
}

fn any_term() -> impl Strategy<Value = Value> {
    let weight = prop::sample::select(vec![1_u8, 10, 40, 100]);
    (weight, any::<bool>(), any::<bool>()).prop_map(|(weight, on_ours, on_others)| {
        let mut term = zone(weight);
        let place = &mut term["preference"]["matchExpressions"];
        if on_ours {
            let own = margin(1, "Gt", "7")["preference"]["matchExpressions"][0].clone();
            place.as_array_mut().unwrap().push(own);
        }
        if on_ours && !on_others {
            place.as_array_mut().unwrap().remove(0);
        }
        term
    })
}

proptest! {
    #[test]
    fn pods_keep_what_authors_wrote_and_templates_keep_everything(
        list in prop::collection::vec(arbitrary_toleration(), 0..4),
        authored in prop::option::of(prop::collection::vec(any_term(), 0..3)),
        kind in prop::sample::select(KINDS.to_vec()),
        is_least in any::<bool>(),
    ) {
        let (_, kind, path) = kind;
        let mut template = with(json!(list));
        if let Some(terms) = &authored {
            template["spec"]["affinity"]["nodeAffinity"][PREFERRED] = json!(terms);
        }
        let setting = Rewriting {
            gate: Comparison::Off,
            preferred: Some(if is_least { Margin::Least } else { Margin::Most }),
        };
        let before = object(kind, template.clone());
        let Ok((once, _)) = admitted_as(kind, &before, None, setting) else { return Ok(()); };
        let (twice, _) = admitted_as(kind, &once, None, setting).unwrap();
        prop_assert_eq!(&twice, &once);
        let stored = once.pointer(path).unwrap();
        if kind == "Pod" {
            let was = |term: &Value| term.to_string().contains("zone");
            let kept: Vec<Value> = authored.clone().unwrap_or_default().into_iter().filter(was).collect();
            let now = preferred(stored).as_array().cloned().unwrap_or_default();
            let now: Vec<Value> = now.into_iter().filter(was).collect();
            prop_assert_eq!(now, kept);
        } else {
            prop_assert_eq!(preferred(stored), preferred(&template));
        }
    }
}
