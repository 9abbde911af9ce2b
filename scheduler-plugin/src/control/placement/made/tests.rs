//! Every state in which a PDAutoscaler and a group of its name can be.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::control::cache::Cached as _;

fn asking(change: impl FnOnce(&mut Value)) -> PlacingAutoscaler {
    let target =
        |name: &str| json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": name });
    let mut object = json!({
        "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PDAutoscaler",
        "metadata": { "name": "llama", "namespace": "ns", "uid": "u-1", "generation": 3 },
        "spec": {
            "mode": "Auto", "prefill": { "target": target("p") }, "decode": { "target": target("d") },
            "placement": { "requiredLevel": "rack", "decode": { "minReplicas": 2, "podsPerReplica": 4 } },
        },
    });
    change(&mut object);
    let mut object: PlacingAutoscaler = serde_json::from_value(object).unwrap();
    object.prune();
    object
}

/// The group that is made for it, as the API server has it then.
fn own() -> PlacementGroup {
    let object = asking(|_| {});
    let Some(GroupRequest::Create(group)) = decide(&object, None).request else {
        panic!("none is made")
    };
    let mut group = *group;
    group.metadata.uid = Some("g-1".to_owned());
    group.metadata.resource_version = Some("7".to_owned());
    group
}

fn word(request: Option<&GroupRequest>) -> &'static str {
    match request {
        None => "",
        Some(GroupRequest::Create(_)) => "create",
        Some(GroupRequest::Update(..)) => "update",
        Some(GroupRequest::Delete(_)) => "delete",
    }
}

fn decided(
    object: &PlacingAutoscaler,
    group: Option<PlacementGroup>,
) -> (&'static str, &'static str) {
    let made = decide(object, group.map(Arc::new).as_ref());
    let state = made.state.map_or("", |(reason, message)| {
        assert!(!message.is_empty());
        reason.as_str()
    });
    (word(made.request.as_ref()), state)
}

fn changed(change: impl FnOnce(&mut PlacementGroup)) -> PlacementGroup {
    let mut group = own();
    change(&mut group);
    group
}

#[test]
fn the_group_has_a_role_for_each_of_ours_and_goes_with_its_object() {
    let group = own();
    assert_eq!(group.metadata.name.as_deref(), Some("llama"));
    assert_eq!(group.metadata.namespace.as_deref(), Some("ns"));
    let owner = &group.metadata.owner_references.as_ref().unwrap()[0];
    let owner = (owner.kind.as_str(), owner.uid.as_str(), owner.controller);
    assert_eq!(owner, ("PDAutoscaler", "u-1", Some(true)));
    assert_eq!(group.spec.required_level.as_deref(), Some("rack"));
    let roles: Vec<_> = group.spec.roles.iter().collect();
    assert_eq!(
        (roles[0].name.as_str(), roles[1].name.as_str()),
        ("prefill", "decode")
    );
    assert_eq!((roles[0].min_replicas, roles[0].pods_per_replica), (1, 1));
    assert_eq!((roles[1].min_replicas, roles[1].pods_per_replica), (2, 4));
    assert_eq!(group.spec.traffic[0].from, "prefill");
}

#[rstest]
#[case::none(None, ("create", "GroupUnderWay"))]
#[case::as_asked_for(Some(changed(|_| {})), ("", "GroupMade"))]
#[case::edited_by_hand(Some(changed(|group| group.spec.required_level = None)), ("update", "GroupUnderWay"))]
#[case::more_added_by_hand(Some(changed(|group| group.spec.lockstep = true)), ("update", "GroupUnderWay"))]
#[case::labelled_by_hand(Some(changed(|group| group.metadata.labels = None)), ("", "GroupMade"))]
#[case::made_by_hand(Some(changed(|group| group.metadata.owner_references = None)), ("", "GroupForeign"))]
#[case::of_another_kind(Some(changed(|group| group.owner_references_mut()[0].kind = "Rollout".to_owned())), ("", "GroupForeign"))]
#[case::of_another_api(Some(changed(|group| group.owner_references_mut()[0].api_version = "a.io/v1".to_owned())), ("", "GroupForeign"))]
#[case::of_another_object(Some(changed(|group| group.owner_references_mut()[0].name = "other".to_owned())), ("", "GroupForeign"))]
#[case::owned_and_not_controlled(Some(changed(|group| group.owner_references_mut()[0].controller = None)), ("", "GroupForeign"))]
#[case::of_one_that_was_deleted(Some(changed(|group| group.owner_references_mut()[0].uid = "u-0".to_owned())), ("", "GroupUnderWay"))]
#[case::going(Some(changed(|group| group.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)))), ("", "GroupUnderWay"))]
fn a_group_is_made_kept_or_left_alone(
    #[case] group: Option<PlacementGroup>,
    #[case] want: (&str, &str),
) {
    assert_eq!(decided(&asking(|_| {}), group), want);
}

#[rstest]
#[case::taken_away(asking(|object| object["spec"]["placement"] = Value::Null), ("delete", ""))]
#[case::recommended(asking(|object| object["spec"]["mode"] = json!("Recommend")), ("delete", "GroupIdle"))]
#[case::off(asking(|object| object["spec"]["mode"] = json!("Off")), ("delete", "GroupIdle"))]
// A spec that cannot be read takes nothing away.
#[case::of_another_version(asking(|object| object["spec"]["placement"]["onLoss"] = json!("Pray")), ("", "GroupRefused"))]
#[case::of_another_mode(asking(|object| object["spec"]["mode"] = json!("Dream")), ("", "GroupRefused"))]
#[case::going(asking(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")), ("", ""))]
fn a_group_goes_when_it_is_not_asked_for_any_more(
    #[case] object: PlacingAutoscaler,
    #[case] want: (&str, &str),
) {
    assert_eq!(decided(&object, Some(own())), want);
    // Nobody's else, whatever is asked.
    let mut foreign = own();
    foreign.metadata.owner_references = None;
    assert_eq!(decided(&object, Some(foreign)).0, "");
}

#[test]
fn a_name_that_no_label_holds_is_refused_with_the_remedy() {
    let object = asking(|object| object["metadata"]["name"] = json!("n".repeat(64)));
    let (reason, message) = decide(&object, None).state.unwrap();
    assert_eq!(reason, MadeReason::GroupRefused);
    assert!(message.contains("shorter name"), "{message}");
}

#[test]
fn a_foreign_group_is_named_with_whose_it_is() {
    let message = |group| {
        decide(&asking(|_| {}), Some(&Arc::new(group)))
            .state
            .unwrap()
            .1
    };
    let by_hand = message(changed(|group| group.metadata.owner_references = None));
    assert!(
        by_hand.contains("made by hand") && by_hand.contains("delete it"),
        "{by_hand}"
    );
    let other = message(changed(|group| {
        group.owner_references_mut()[0].name = "b".to_owned();
    }));
    assert!(other.contains("PDAutoscaler `b`"), "{other}");
}

#[test]
fn the_condition_is_written_once_and_goes_with_what_was_asked() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let state = Some((MadeReason::GroupMade, "m".to_owned()));
    let object = asking(|_| {});
    let first = conditions(&object, state.as_ref(), at(10)).unwrap();
    assert_eq!(
        (first[0].status.as_str(), first[0].observed_generation),
        ("True", Some(3))
    );
    let with = |conditions: &[Condition]| {
        let conditions = json!(conditions);
        asking(|object| object["status"] = json!({ "conditions": conditions, "bottleneck": "x" }))
    };
    let written = with(&first);
    assert_eq!(conditions(&written, state.as_ref(), at(20)), None);
    let other = Some((MadeReason::GroupForeign, "m".to_owned()));
    let changed = conditions(&written, other.as_ref(), at(30)).unwrap();
    assert_eq!(
        (changed[0].status.as_str(), &changed[0].last_transition_time),
        ("False", &Time(at(30)))
    );
    assert_eq!(conditions(&written, None, at(40)), Some(Vec::new()));
    assert_eq!(conditions(&object, None, at(40)), None);
}
