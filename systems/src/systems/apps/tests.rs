//! Deployments, StatefulSets and ReplicaSets.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{DEPLOYMENT, REPLICA_SET, STATEFUL_SET};
use crate::{
    edit::Write,
    kind::{Kind, Victim},
    pod::PodFacts,
    refusal::Refusal,
    testing::{counts, made_by, object, resolve, template, wanted},
};

fn workload(kind: &Kind, status: Value) -> Value {
    let spec = json!({ "replicas": 4, "selector": { "matchLabels": { "app": "llama" } }, "template": template(2) });
    let mut workload = object(kind, "llama", spec);
    workload["metadata"]["generation"] = json!(3);
    workload["status"] = status;
    workload
}

#[rstest]
#[case::deployment(DEPLOYMENT, Victim::DeletionCost)]
#[case::stateful_set(STATEFUL_SET, Victim::HighestOrdinal)]
#[case::replica_set(REPLICA_SET, Victim::DeletionCost)]
fn a_plain_workload_is_written_through_scale(#[case] kind: Kind, #[case] victim: Victim) {
    let place = resolve(
        &kind,
        &workload(&kind, Value::Null),
        &[],
        None,
        Role::Prefill,
    )
    .unwrap();
    assert_eq!(
        (place.desired, place.gpus.clone(), place.victim),
        (4, Ok(2), victim)
    );
    let edits = wanted(&[(&place, 6)]).unwrap();
    let version = Some("7".to_owned());
    assert_eq!(
        edits[0].write,
        Write::Scale {
            replicas: 6,
            resource_version: version
        }
    );
    assert_eq!(edits[0].object.plural, kind.plural);
}

#[test]
fn replicas_that_are_not_stated_are_one() {
    let mut deployment = workload(&DEPLOYMENT, Value::Null);
    deployment["spec"]
        .as_object_mut()
        .unwrap()
        .remove("replicas");
    let place = resolve(&DEPLOYMENT, &deployment, &[], None, Role::Decode).unwrap();
    assert_eq!((place.desired, place.stated), (1, None));
}

#[test]
fn pods_belong_by_owner_and_not_by_label_alone() {
    let place = resolve(
        &DEPLOYMENT,
        &workload(&DEPLOYMENT, Value::Null),
        &[],
        None,
        Role::Decode,
    )
    .unwrap();
    let pod = |kind: &str, owner: &str, uid: &str| {
        PodFacts::of(&json!({
            "metadata": { "name": owner, "labels": { "app": "llama" }, "ownerReferences": [
                { "kind": kind, "name": owner, "uid": uid, "controller": true }] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
    };
    let pods = [
        pod("ReplicaSet", "llama-7d9f8b", "9"),
        pod("Deployment", "llama", "uid-llama"),
        pod("ReplicaSet", "llama-decode-7d9f8b", "9"),
        pod("StatefulSet", "llama", "2"),
    ];
    let serving = vec!["llama".to_owned(), "llama-7d9f8b".to_owned()];
    assert_eq!(counts(&place, &pods), (2, 0, 0, serving));
}

#[rstest]
#[case::steady(json!({ "observedGeneration": 3, "replicas": 4, "updatedReplicas": 4 }), false)]
#[case::scaling_up(json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2 }), false)]
#[case::surge(json!({ "observedGeneration": 3, "replicas": 5, "updatedReplicas": 1 }), true)]
#[case::old_ones_left(json!({ "observedGeneration": 3, "replicas": 4, "updatedReplicas": 3 }), true)]
#[case::not_seen_yet(json!({ "observedGeneration": 2, "replicas": 4, "updatedReplicas": 4 }), true)]
#[case::at_zero(json!({ "observedGeneration": 3 }), false)]
#[case::without_a_status(Value::Null, false)]
fn a_deployment_rolls_out_while_it_has_older_pods(#[case] status: Value, #[case] want: bool) {
    let deployment = workload(&DEPLOYMENT, status);
    let place = resolve(&DEPLOYMENT, &deployment, &[], None, Role::Decode).unwrap();
    assert_eq!(place.rolling_out, want);
}

#[rstest]
#[case::steady("a", "a", json!({}), 4, false)]
#[case::rolling("a", "b", json!({}), 2, true)]
#[case::last_one_starts("a", "b", json!({}), 4, true)]
#[case::held_by_a_partition("a", "b", json!({ "rollingUpdate": { "partition": 3 } }), 1, false)]
#[case::on_the_way_to_a_partition("a", "b", json!({ "rollingUpdate": { "partition": 2 } }), 1, true)]
#[case::by_hand("a", "b", json!({ "type": "OnDelete" }), 1, false)]
fn a_stateful_set_rolls_out_between_two_revisions(
    #[case] current: &str,
    #[case] update: &str,
    #[case] strategy: Value,
    #[case] updated: i32,
    #[case] want: bool,
) {
    let mut set = workload(
        &STATEFUL_SET,
        json!({ "observedGeneration": 3, "replicas": 4, "updatedReplicas": updated,
            "currentRevision": current, "updateRevision": update }),
    );
    set["spec"]["updateStrategy"] = strategy;
    let place = resolve(&STATEFUL_SET, &set, &[], None, Role::Decode).unwrap();
    assert_eq!(place.rolling_out, want);
}

#[test]
fn pods_that_cannot_be_created_are_the_workloads_condition() {
    let status = json!({ "conditions": [
        { "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus" }] });
    let deployment = workload(&DEPLOYMENT, status);
    let place = resolve(&DEPLOYMENT, &deployment, &[], None, Role::Decode).unwrap();
    assert_eq!(
        place.create_failure.as_deref(),
        Some("exceeded quota: gpus")
    );
}

#[rstest]
#[case("LLMInferenceService")]
#[case("VLLMRuntime")]
#[case("RoleBasedGroup")]
#[case("DynamoComponentDeployment")]
#[case("ModelBooster")]
#[case("SomethingNobodyKnows")]
fn what_another_object_made_is_its_to_scale(#[case] owner: &str) {
    let deployment = made_by(workload(&DEPLOYMENT, Value::Null), owner, "boss");
    let place = resolve(&DEPLOYMENT, &deployment, &[], None, Role::Decode).unwrap();
    let refusal = wanted(&[(&place, 5)]).unwrap_err();
    let text = refusal.to_string();
    assert!(matches!(refusal, Refusal::Contended(_)), "{text}");
    assert!(text.contains(&format!("{owner} `boss`")), "{text}");
}

#[test]
fn a_plain_workload_has_no_roles_inside() {
    let deployment = workload(&DEPLOYMENT, Value::Null);
    let refusal = resolve(&DEPLOYMENT, &deployment, &[], Some("decode"), Role::Decode).unwrap_err();
    assert!(
        matches!(refusal, Refusal::RoleNotApplicable { .. }),
        "{refusal}"
    );
}
