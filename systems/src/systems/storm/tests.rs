//! StormServices of AIBrix.

use rstest::rstest;
use serde_json::{Value, json};

use pd_core::Role;

use super::STORM_SERVICE;
use crate::{
    refusal::Refusal,
    testing::{
        autoscaler, counts, differences, object, patched, place, pod, resolve, template, wanted,
    },
};

fn service() -> Value {
    let roles = json!([
        { "name": "prefill", "replicas": 5, "template": template(1) },
        { "name": "decode", "replicas": 3, "podGroupSize": 2, "template": template(4) },
    ]);
    object(
        &STORM_SERVICE,
        "s",
        json!({
        "replicas": 1, "updateStrategy": { "type": "InPlaceUpdate" }, "template": { "spec": { "roles": roles } } }),
    )
}

#[test]
fn both_roles_change_in_one_write_and_nothing_else_does() {
    let service = service();
    let (p, d) = (
        place(&STORM_SERVICE, &service, "prefill"),
        place(&STORM_SERVICE, &service, "decode"),
    );
    assert_eq!((p.desired, p.gpus.clone()), (5, Ok(1)));
    assert_eq!((d.desired, d.gpus.clone()), (3, Ok(8)));
    let edits = wanted(&[(&p, 6), (&d, 2)]).unwrap();
    assert_eq!(edits.len(), 1);
    let at = |index: u32| format!("/spec/template/spec/roles/{index}/replicas");
    let changed = differences(&service, &patched(&service, &edits[0]));
    assert_eq!(changed, [(at(0), json!(6)), (at(1), json!(2))]);
}

#[rstest]
#[case::rolling_update(json!({ "type": "RollingUpdate" }))]
#[case::by_default(json!({ "maxSurge": 1 }))]
#[case::nothing_stated(Value::Null)]
#[case::of_the_future(json!({ "type": "BlueGreen" }))]
fn a_service_that_would_replace_its_pods_is_refused(#[case] strategy: Value) {
    let mut service = service();
    service["spec"]["updateStrategy"] = strategy;
    let refusal = resolve(
        &STORM_SERVICE,
        &service,
        &[],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(matches!(refusal, Refusal::ReplacesPods { .. }), "{refusal}");
    assert!(refusal.to_string().contains("InPlaceUpdate"), "{refusal}");
}

#[rstest]
#[case(3)]
#[case(0)]
fn several_role_sets_are_refused(#[case] copies: u32) {
    let mut service = service();
    service["spec"]["replicas"] = json!(copies);
    let refusal = resolve(
        &STORM_SERVICE,
        &service,
        &[],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(matches!(refusal, Refusal::Copies { .. }), "{refusal}");
}

#[test]
fn a_pod_autoscaler_on_any_role_is_named_because_it_writes_the_whole_list() {
    let to = json!({ "apiVersion": "orchestration.aibrix.ai/v1alpha1", "kind": "StormService", "name": "s" });
    let mut scaler = autoscaler(
        "autoscaling.aibrix.ai/v1alpha1",
        "PodAutoscaler",
        "a",
        "scaleTargetRef",
        to,
    );
    scaler["spec"]["subTargetSelector"] = json!({ "roleName": "decode" });
    let place = resolve(
        &STORM_SERVICE,
        &service(),
        &[scaler],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap();
    let text = wanted(&[(&place, 6)]).unwrap_err().to_string();
    assert!(text.contains("PodAutoscaler `a`"), "{text}");
}

#[test]
fn a_roles_gang_is_its_floor() {
    let mut service = service();
    service["spec"]["template"]["spec"]["roles"][1]["schedulingStrategy"] =
        json!({ "volcanoSchedulingStrategy": { "minMember": 3 } });
    let d = place(&STORM_SERVICE, &service, "decode");
    assert_eq!(d.floor.replicas, 2);
    assert!(matches!(
        wanted(&[(&d, 1)]),
        Err(Refusal::BelowFloor { floor: 2, .. })
    ));
    assert!(wanted(&[(&d, 2)]).is_ok());
}

#[test]
fn the_gang_of_all_roles_holds_for_both_together() {
    let mut service = service();
    // Five and two times three pods are eleven.
    service["spec"]["template"]["spec"]["schedulingStrategy"] =
        json!({ "coschedulingSchedulingStrategy": { "minMember": 8 } });
    let (p, d) = (
        place(&STORM_SERVICE, &service, "prefill"),
        place(&STORM_SERVICE, &service, "decode"),
    );
    assert!(wanted(&[(&p, 4), (&d, 2)]).is_ok());
    assert!(matches!(
        wanted(&[(&p, 3), (&d, 2)]),
        Err(Refusal::BelowGang {
            floor: 8,
            to: 7,
            ..
        })
    ));
    assert!(wanted(&[(&p, 3), (&d, 3)]).is_ok());
    // One that has too few already may grow.
    service["spec"]["template"]["spec"]["schedulingStrategy"]["coschedulingSchedulingStrategy"]["minMember"] =
        json!(99);
    assert!(wanted(&[(&place(&STORM_SERVICE, &service, "prefill"), 6)]).is_ok());
}

#[test]
fn a_pod_set_serves_by_its_first_pod() {
    let service = service();
    let place = place(&STORM_SERVICE, &service, "decode");
    let of = |name: &str, set: &str, index: &str, state: &str| {
        pod(
            name,
            state,
            &[
                ("storm-service-name", "s"),
                ("role-name", "decode"),
                ("roleset-name", "s-0"),
                ("stormservice.orchestration.aibrix.ai/podset-name", set),
                (
                    "stormservice.orchestration.aibrix.ai/pod-group-index",
                    index,
                ),
            ],
        )
    };
    let pods = [
        of("a-0", "a", "0", "ready"),
        of("a-1", "a", "1", "ready"),
        of("b-0", "b", "0", "ready"),
        of("b-1", "b", "1", "unschedulable"),
    ];
    assert_eq!(counts(&place, &pods), (1, 1, 0, vec!["a-0".to_owned()]));
}
