//! ModelServings and their policies.

use pd_core::Role;
use serde_json::{Value, json};

use super::MODEL_SERVING;
use crate::{
    refusal::Refusal,
    testing::{
        autoscaler, counts, differences, made_by, object, patched, place, pod, resolve, template,
        wanted,
    },
};

fn serving(groups: u32) -> Value {
    object(
        &MODEL_SERVING,
        "m",
        json!({ "replicas": groups, "template": { "roles": [
        { "name": "prefill", "replicas": 2, "entryTemplate": template(2), "workerReplicas": 1, "workerTemplate": template(4) },
        { "name": "decode", "entryTemplate": template(8), "workerReplicas": 0 },
    ] } }),
    )
}

#[test]
fn both_roles_change_in_one_write_and_nothing_else_does() {
    let serving = serving(1);
    let (p, d) = (
        place(&MODEL_SERVING, &serving, "prefill"),
        place(&MODEL_SERVING, &serving, "decode"),
    );
    assert_eq!((p.desired, p.unit.pods, p.gpus.clone()), (2, 2, Ok(6)));
    assert_eq!((d.desired, d.stated, d.gpus.clone()), (1, None, Ok(8)));
    let edits = wanted(&[(&p, 4), (&d, 2)]).unwrap();
    let changed = differences(&serving, &patched(&serving, &edits[0]));
    let at = |index: u32| format!("/spec/template/roles/{index}/replicas");
    assert_eq!(
        (edits.len(), changed),
        (1, vec![(at(0), json!(4)), (at(1), json!(2))])
    );
}

#[test]
fn groups_multiply() {
    let serving = serving(3);
    let p = place(&MODEL_SERVING, &serving, "prefill");
    assert_eq!(p.desired, 6);
    let edits = wanted(&[(&p, 7)]).unwrap();
    let changed = differences(&serving, &patched(&serving, &edits[0]));
    assert_eq!(changed[0].1, json!(3));
}

#[test]
fn a_service_without_groups_has_nothing_to_scale() {
    let refusal = resolve(
        &MODEL_SERVING,
        &serving(0),
        &[],
        Some("decode"),
        Role::Decode,
    )
    .unwrap_err();
    assert!(refusal.to_string().contains("ServingGroup"), "{refusal}");
}

#[test]
fn the_gang_is_the_floor_in_every_group() {
    let mut serving = serving(2);
    serving["spec"]["template"]["gangPolicy"] =
        json!({ "minRoleReplicas": { "prefill": 2, "decode": 1 } });
    let p = place(&MODEL_SERVING, &serving, "prefill");
    assert_eq!(p.floor.replicas, 4);
    assert!(matches!(
        wanted(&[(&p, 2)]),
        Err(Refusal::BelowFloor { floor: 4, .. })
    ));
    let d = place(&MODEL_SERVING, &serving, "decode");
    assert_eq!(d.floor.replicas, 2);
}

#[test]
fn kthenas_own_autoscalers_and_boosters_are_named() {
    let to = json!({ "roles": {}, "targetRef": {
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "name": "m" } });
    for field in ["disaggregatedTarget", "homogeneousTarget"] {
        let nested = if field == "disaggregatedTarget" {
            to.clone()
        } else {
            json!({ "target": to })
        };
        let policy = autoscaler(
            "workload.serving.volcano.sh/v1alpha1",
            "AutoscalingPolicy",
            "p",
            field,
            nested,
        );
        let place = resolve(
            &MODEL_SERVING,
            &serving(1),
            &[policy],
            Some("prefill"),
            Role::Prefill,
        )
        .unwrap();
        let text = wanted(&[(&place, 4)]).unwrap_err().to_string();
        assert!(
            text.contains("AutoscalingPolicy `p`") && text.contains("ModelServing `m`"),
            "{text}"
        );
    }
    let boosted = made_by(serving(1), "ModelBooster", "b");
    let text = wanted(&[(&place(&MODEL_SERVING, &boosted, "prefill"), 4)])
        .unwrap_err()
        .to_string();
    assert!(text.contains("ModelBooster `b`"), "{text}");
}

#[test]
fn an_entry_serves_when_its_workers_are_ready_too() {
    let serving = serving(2);
    let place = place(&MODEL_SERVING, &serving, "prefill");
    let of = |group: &str, id: &str, entry: &str, state: &str| {
        pod(
            &format!("{group}-{id}-{entry}"),
            state,
            &[
                ("modelserving.volcano.sh/name", "m"),
                ("modelserving.volcano.sh/role", "prefill"),
                ("modelserving.volcano.sh/group-name", group),
                ("modelserving.volcano.sh/role-id", id),
                ("modelserving.volcano.sh/entry", entry),
            ],
        )
    };
    // Groups count apart, though their roles have the same ids.
    let pods = [
        of("m-0", "prefill-0", "true", "ready"),
        of("m-0", "prefill-0", "false", "ready"),
        of("m-1", "prefill-0", "true", "ready"),
        of("m-1", "prefill-0", "false", "starting"),
        of("m-1", "prefill-1", "true", "leaving"),
        of("m-1", "prefill-1", "false", "ready"),
    ];
    assert_eq!(
        counts(&place, &pods),
        (1, 1, 1, vec!["m-0-prefill-0-true".to_owned()])
    );
}

#[test]
fn another_revision_is_a_rollout() {
    let mut serving = serving(1);
    assert!(!place(&MODEL_SERVING, &serving, "prefill").rolling_out);
    serving["status"] = json!({ "currentRevision": "a", "updateRevision": "b" });
    assert!(place(&MODEL_SERVING, &serving, "prefill").rolling_out);
}
