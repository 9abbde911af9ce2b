//! Pods that join late, leave, and those that are nobody's business.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::control::cache::Cached as _;

const OLD: &str = "2026-01-01T00:00:00Z";
const YOUNG: &str = "2026-01-02T00:00:00Z";

/// A PDAutoscaler whose roles are the Deployments `p` and `d`, after a change of its spec.
fn autoscaler(name: &str, created: &str, change: &Value) -> Arc<PlacingAutoscaler> {
    let role = |name: &str| json!({ "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name } });
    let mut object = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "creationTimestamp": created },
        "spec": { "mode": "Auto", "placement": {}, "prefill": role("p"), "decode": role("d") },
    });
    for (field, value) in change.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    let mut object: PlacingAutoscaler = serde_json::from_value(object).unwrap();
    object.prune();
    Arc::new(object)
}

fn asking() -> Asking {
    Asking::of(&[autoscaler("llama", OLD, &json!({}))])
}

/// A pod of the Deployment `of`, with further labels and annotations.
fn pod(of: &str, labels: &Value, annotations: &Value) -> Value {
    let mut pod = json!({ "metadata": {
        "name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "7",
        "labels": { "pod-template-hash": "7d9" }, "annotations": annotations,
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{of}-7d9"), "uid": "r", "controller": true }],
    } });
    for (label, value) in labels.as_object().unwrap() {
        pod["metadata"]["labels"][label] = value.clone();
    }
    pod
}

fn metadata(pod: &Value) -> ObjectMeta {
    serde_json::from_value(pod["metadata"].clone()).unwrap()
}

fn member(group: &str, role: &str) -> Value {
    pod(
        if role == "prefill" { "p" } else { "d" },
        &json!({ GROUP_LABEL: group, ROLE_LABEL: role }),
        &json!({ SOURCE_ANNOTATION: format!("{group}/{role}") }),
    )
}

fn joins(source: &str) -> PodChange {
    PodChange::Join(source.to_owned())
}

#[rstest]
#[case::of_before(pod("d", &json!({}), &json!({})), Some(joins("llama/decode")))]
#[case::of_the_other_role(pod("p", &json!({}), &json!({})), Some(joins("llama/prefill")))]
#[case::of_nobody(pod("other", &json!({}), &json!({})), None)]
#[case::labelled_by_hand(pod("d", &json!({ GROUP_LABEL: "mine" }), &json!({})), None)]
#[case::kept_out_by_hand(pod("d", &json!({ GROUP_LABEL: "" }), &json!({})), None)]
#[case::joined(member("llama", "decode"), None)]
#[case::joined_another_role(member("llama", "decode").tap_owner("p-7d9"), Some(joins("llama/prefill")))]
#[case::joined_one_that_is_gone(member("gone", "decode"), Some(joins("llama/decode")))]
#[case::of_a_target_of_before(member("llama", "decode").tap_owner("other-7d9"), Some(PodChange::Leave))]
#[case::that_lost_its_label(pod("d", &json!({}), &json!({ SOURCE_ANNOTATION: "llama/decode" })), Some(joins("llama/decode")))]
fn a_pod_is_a_member_as_long_as_it_is_asked_for(
    #[case] pod: Value,
    #[case] want: Option<PodChange>,
) {
    assert_eq!(change(&metadata(&pod), &asking()), want);
    let mut leaving = pod;
    leaving["metadata"]["deletionTimestamp"] = json!(OLD);
    assert_eq!(change(&metadata(&leaving), &asking()), None);
}

trait TapOwner {
    fn tap_owner(self, name: &str) -> Self;
}

impl TapOwner for Value {
    fn tap_owner(mut self, name: &str) -> Self {
        self["metadata"]["ownerReferences"][0]["name"] = json!(name);
        self
    }
}

#[rstest]
#[case::off(json!({ "mode": "Off" }), Some(PodChange::Leave))]
#[case::recommended(json!({ "mode": "Recommend" }), Some(PodChange::Leave))]
#[case::without_placement(json!({ "placement": null }), Some(PodChange::Leave))]
// A spec that cannot be read takes nothing away.
#[case::unreadable(json!({ "placement": { "onLoss": "Pray" } }), None)]
fn a_pod_leaves_when_its_autoscaler_does_not_ask_any_more(
    #[case] spec: Value,
    #[case] want: Option<PodChange>,
) {
    let asking = Asking::of(&[autoscaler("llama", OLD, &spec)]);
    assert_eq!(change(&metadata(&member("llama", "decode")), &asking), want);
    let by_hand = pod("d", &json!({ GROUP_LABEL: "llama" }), &json!({}));
    assert_eq!(change(&metadata(&by_hand), &asking), None);
}

#[test]
fn of_several_the_oldest_counts_and_each_in_its_namespace_alone() {
    let both = [
        autoscaler("young", YOUNG, &json!({})),
        autoscaler("old", OLD, &json!({})),
    ];
    let of = pod("d", &json!({}), &json!({}));
    assert_eq!(
        change(&metadata(&of), &Asking::of(&both)),
        Some(joins("old/decode"))
    );
    let mut elsewhere = of;
    elsewhere["metadata"]["namespace"] = json!("other");
    assert_eq!(change(&metadata(&elsewhere), &Asking::of(&both)), None);
}

/// The pod after its change.
fn after(pod: &Value, change: &PodChange) -> Value {
    let gates: Vec<Value> = pod["spec"]["schedulingGates"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let patch = patch(&metadata(pod), &gates, change).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[test]
fn a_pod_that_leaves_waits_for_nobody_and_keeps_what_others_gave_it() {
    let mut held = member("llama", "decode");
    held["spec"] = json!({ "schedulingGates": [{ "name": "a/b" }, { "name": GATE }] });
    held["metadata"]["annotations"]["kept"] = json!("a");
    let free = after(&held, &PodChange::Leave);
    assert_eq!(free["spec"]["schedulingGates"], json!([{ "name": "a/b" }]));
    assert_eq!(free["metadata"]["annotations"], json!({ "kept": "a" }));
    assert_eq!(
        free["metadata"]["labels"],
        json!({ "pod-template-hash": "7d9" })
    );
    let bare = json!({ "metadata": { "uid": "u", "resourceVersion": "7" } });
    let joined = after(&bare, &PodChange::Join("llama/prefill".to_owned()));
    assert_eq!(joined["metadata"]["labels"][GROUP_LABEL], "llama");
}

proptest! {
    /// One change is enough, whatever the pod was, and none touches the labels of people.
    #[test]
    fn a_changed_pod_needs_no_other_change(
        of in prop::sample::select(vec!["p", "d", "other"]),
        group in prop::option::of(prop::sample::select(vec!["", "llama", "mine"])),
        role in prop::option::of(prop::sample::select(vec!["prefill", "decode"])),
        source in prop::option::of(prop::sample::select(vec!["llama/prefill", "llama/decode", "gone/decode", "bad"])),
        asks in any::<bool>(),
    ) {
        let mut labels = json!({});
        let mut annotations = json!({});
        if let Some(group) = group {
            labels[GROUP_LABEL] = json!(group);
        }
        if let Some(role) = role {
            labels[ROLE_LABEL] = json!(role);
        }
        if let Some(source) = source {
            annotations[SOURCE_ANNOTATION] = json!(source);
        }
        let mode = if asks { "Auto" } else { "Off" };
        let asking = Asking::of(&[autoscaler("llama", OLD, &json!({ "mode": mode }))]);
        let pod = pod(of, &labels, &annotations);
        let needed = change(&metadata(&pod), &asking);
        if group.is_some() && source.is_none() {
            prop_assert_eq!(&needed, &None);
        }
        if let Some(needed) = needed {
            let after = after(&pod, &needed);
            prop_assert_eq!(change(&metadata(&after), &asking), None);
        }
    }
}
