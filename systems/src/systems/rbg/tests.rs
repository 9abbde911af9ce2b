//! RoleBasedGroups and their scaling adapters.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{ADAPTER, ROLE_BASED_GROUP, ROLE_BASED_GROUP_V1ALPHA1};
use crate::{
    edit::Write,
    kind::Kind,
    refusal::Refusal,
    testing::{
        autoscaler, counts, differences, made_by, object, patched, place, pod, resolve, template,
        wanted,
    },
};

fn group(kind: &Kind, adapter: bool) -> Value {
    let mut roles = json!([
        { "name": "router", "replicas": 1, "standalonePattern": { "template": {} } },
        { "name": "prefill", "replicas": 2, "leaderWorkerPattern": { "size": 4, "template": template(1) } },
        { "name": "decode", "standalonePattern": { "template": template(8) } },
    ]);
    if adapter {
        roles[1]["scalingAdapter"] = json!({ "enable": true });
    }
    object(kind, "g", json!({ "roles": roles }))
}

fn adapter(phase: Option<&str>) -> Value {
    let spec = json!({ "replicas": 2, "scaleTargetRef": { "name": "g", "role": "prefill" } });
    let mut adapter = object(&ADAPTER, "g-prefill", spec);
    if let Some(phase) = phase {
        adapter["status"] = json!({ "phase": phase });
    }
    adapter
}

#[test]
fn both_roles_change_in_one_write_and_the_router_does_not() {
    let group = group(&ROLE_BASED_GROUP, false);
    let (p, d) = (
        place(&ROLE_BASED_GROUP, &group, "prefill"),
        place(&ROLE_BASED_GROUP, &group, "decode"),
    );
    assert_eq!((p.desired, p.unit.pods, p.gpus.clone()), (2, 4, Ok(4)));
    // An absent number means one, and is added.
    assert_eq!((d.desired, d.stated, d.gpus.clone()), (1, None, Ok(8)));
    let edits = wanted(&[(&p, 1), (&d, 3)]).unwrap();
    assert_eq!(edits.len(), 1);
    let mut changed = differences(&group, &patched(&group, &edits[0]));
    changed.sort_by_key(|(pointer, _)| pointer.clone());
    assert_eq!(
        changed,
        [
            ("/spec/roles/1/replicas".to_owned(), json!(1)),
            ("/spec/roles/2/replicas".to_owned(), json!(3)),
        ]
    );
}

#[test]
fn a_role_that_has_moved_in_the_list_is_not_written() {
    let before = group(&ROLE_BASED_GROUP, false);
    let edit = wanted(&[(&place(&ROLE_BASED_GROUP, &before, "prefill"), 5)])
        .unwrap()
        .remove(0);
    let Write::JsonPatch(operations) = &edit.write else {
        panic!()
    };
    for change in [
        |group: &mut Value| group["spec"]["roles"].as_array_mut().unwrap().swap(1, 2),
        |group: &mut Value| group["spec"]["roles"][1]["replicas"] = json!(9),
        |group: &mut Value| group["metadata"]["resourceVersion"] = json!("8"),
    ] {
        let mut now = before.clone();
        change(&mut now);
        let kept = now.clone();
        assert!(json_patch::patch(&mut now, operations).is_err());
        assert_eq!(now, kept);
    }
}

#[rstest]
#[case::not_bound(Some("NotBound"))]
#[case::no_status_yet(None)]
#[case::a_phase_of_the_future(Some("Binding"))]
fn an_adapter_that_is_not_bound_is_refused(#[case] phase: Option<&str>) {
    let group = group(&ROLE_BASED_GROUP, true);
    let related = [adapter(phase)];
    let by_group = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &related,
        Some("prefill"),
        Role::Prefill,
    );
    let by_adapter = resolve(&ADAPTER, &adapter(phase), &[group], None, Role::Prefill);
    for refusal in [by_group.unwrap_err(), by_adapter.unwrap_err()] {
        assert!(
            matches!(refusal, Refusal::AdapterNotBound { .. }),
            "{refusal}"
        );
    }
}

#[test]
fn a_role_with_a_bound_adapter_is_written_through_it() {
    let group = group(&ROLE_BASED_GROUP, true);
    let bound = adapter(Some("Bound"));
    let related = [bound.clone()];
    let by_group = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &related,
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap();
    let by_adapter = resolve(
        &ADAPTER,
        &bound,
        std::slice::from_ref(&group),
        None,
        Role::Prefill,
    )
    .unwrap();
    for place in [by_group, by_adapter] {
        assert_eq!(
            (place.object.kind.as_str(), place.unit.pods),
            ("RoleBasedGroupScalingAdapter", 4)
        );
        let edits = wanted(&[(&place, 3)]).unwrap();
        assert!(matches!(edits[0].write, Write::Scale { replicas: 3, .. }));
    }
    // Enabled, and nobody has made it.
    let lacks = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &[],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(
        lacks
            .to_string()
            .contains("RoleBasedGroupScalingAdapter `g-prefill`"),
        "{lacks}"
    );
    // The other role has none, and is written in the group.
    let decode = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &related,
        Some("decode"),
        Role::Decode,
    )
    .unwrap();
    assert_eq!(decode.object.kind, "RoleBasedGroup");
}

#[test]
fn an_autoscaler_on_the_adapter_is_named() {
    let group = group(&ROLE_BASED_GROUP, true);
    let hpa = autoscaler(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "h",
        "scaleTargetRef",
        json!({
        "apiVersion": "workloads.x-k8s.io/v1alpha2", "kind": "RoleBasedGroupScalingAdapter", "name": "g-prefill" }),
    );
    let related = [adapter(Some("Bound")), hpa];
    let place = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &related,
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap();
    let text = wanted(&[(&place, 3)]).unwrap_err().to_string();
    assert!(text.contains("HorizontalPodAutoscaler `h`"), "{text}");
}

#[test]
fn a_group_of_a_set_is_the_sets() {
    let group = made_by(group(&ROLE_BASED_GROUP, false), "RoleBasedGroupSet", "s");
    let place = place(&ROLE_BASED_GROUP, &group, "prefill");
    assert!(
        wanted(&[(&place, 3)])
            .unwrap_err()
            .to_string()
            .contains("RoleBasedGroupSet `s`")
    );
}

#[test]
fn an_instance_serves_by_its_leader_when_all_its_pods_are_ready() {
    let group = group(&ROLE_BASED_GROUP, false);
    let place = place(&ROLE_BASED_GROUP, &group, "prefill");
    let instance = |instance: &str, states: [&str; 4]| {
        let pods = states.iter().enumerate();
        pods.map(|(index, state)| {
            pod(
                &format!("{instance}-{index}"),
                state,
                &[
                    ("rbg.workloads.x-k8s.io/group-name", "g"),
                    ("rbg.workloads.x-k8s.io/role-name", "prefill"),
                    ("rbg.workloads.x-k8s.io/role-instance-name", instance),
                    ("rbg.workloads.x-k8s.io/component-index", &index.to_string()),
                ],
            )
        })
        .collect::<Vec<_>>()
    };
    let pods = [
        instance("g-prefill-0", ["ready"; 4]),
        instance("g-prefill-1", ["ready", "ready", "ready", "starting"]),
    ]
    .concat();
    assert_eq!(
        counts(&place, &pods),
        (1, 1, 0, vec!["g-prefill-0-0".to_owned()])
    );
}

#[test]
fn components_add_up() {
    let mut group = group(&ROLE_BASED_GROUP, false);
    group["spec"]["roles"][1] = json!({ "name": "prefill", "replicas": 1, "customComponentsPattern": { "components": [
        { "name": "head", "size": 1, "template": template(1) }, { "name": "rest", "size": 3, "template": template(8) }] } });
    let place = place(&ROLE_BASED_GROUP, &group, "prefill");
    assert_eq!((place.unit.pods, place.gpus.clone()), (4, Ok(25)));
}

#[test]
fn the_older_version_has_other_fields_and_labels() {
    let mut group = group(&ROLE_BASED_GROUP_V1ALPHA1, false);
    group["spec"]["roles"] = json!([
        { "name": "prefill", "replicas": 2, "template": template(2) },
        { "name": "decode", "replicas": 1, "workload": { "kind": "LeaderWorkerSet" },
          "leaderWorkerSet": { "size": 2 }, "template": template(4) },
    ]);
    let p = place(&ROLE_BASED_GROUP_V1ALPHA1, &group, "prefill");
    let d = place(&ROLE_BASED_GROUP_V1ALPHA1, &group, "decode");
    assert_eq!((p.gpus.clone(), d.gpus.clone()), (Ok(2), Ok(8)));
    assert!(
        p.pods
            .labels
            .to_string()
            .contains("rolebasedgroup.workloads.x-k8s.io/role=prefill")
    );
    assert_eq!(
        wanted(&[(&p, 3)]).unwrap()[0].object.api_version,
        "workloads.x-k8s.io/v1alpha1"
    );
}

#[test]
fn a_role_is_named_or_has_the_name_of_its_side() {
    let group = group(&ROLE_BASED_GROUP, false);
    let place = resolve(&ROLE_BASED_GROUP, &group, &[], None, Role::Prefill).unwrap();
    assert_eq!(place.role.as_deref(), Some("prefill"));
    let unknown = resolve(
        &ROLE_BASED_GROUP,
        &group,
        &[],
        Some("encode"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("`router`, `prefill`, `decode`"),
        "{unknown}"
    );
    let mut odd = group.clone();
    odd["spec"]["roles"][1]["name"] = json!("p");
    let missing = resolve(&ROLE_BASED_GROUP, &odd, &[], None, Role::Prefill).unwrap_err();
    assert!(matches!(missing, Refusal::RoleMissing { .. }), "{missing}");
}
