//! PodCliques and their scaling groups.

use pd_core::Role;
use serde_json::{Value, json};

use super::{POD_CLIQUE, SCALING_GROUP};
use crate::{
    edit::Write,
    refusal::Refusal,
    testing::{counts, made_by, object, pod, resolve, template, wanted},
};

fn set() -> Value {
    json!({ "apiVersion": "grove.io/v1alpha1", "kind": "PodCliqueSet", "metadata": { "name": "s" }, "spec": { "template": {
        "cliques": [
            { "name": "pworker", "spec": { "replicas": 3, "podSpec": template(8)["spec"] } },
            { "name": "pleader", "spec": { "replicas": 1, "podSpec": template(4)["spec"] } },
        ],
        "podCliqueScalingGroups": [{ "name": "prefill", "cliqueNames": ["pworker", "pleader"] }],
    } } })
}

fn group() -> Value {
    let spec = json!({ "replicas": 3, "minAvailable": 2, "cliqueNames": ["pworker", "pleader"] });
    made_by(
        object(&SCALING_GROUP, "s-0-prefill", spec),
        "PodCliqueSet",
        "s",
    )
}

fn clique(least: Option<u32>) -> Value {
    let mut spec = json!({ "replicas": 3, "podSpec": template(2)["spec"] });
    if let Some(least) = least {
        spec["minAvailable"] = json!(least);
    }
    made_by(object(&POD_CLIQUE, "s-0-decode", spec), "PodCliqueSet", "s")
}

#[test]
fn a_scaling_groups_replica_is_all_pods_of_its_cliques() {
    let place = resolve(&SCALING_GROUP, &group(), &[set()], None, Role::Prefill).unwrap();
    assert_eq!(
        (place.desired, place.unit.pods, place.gpus.clone()),
        (3, 4, Ok(28))
    );
    assert!(matches!(
        wanted(&[(&place, 5)]).unwrap()[0].write,
        Write::Scale { replicas: 5, .. }
    ));
    let of = |index: &str, clique: &str, n: u32, state: &str| {
        pod(
            &format!("{index}-{clique}-{n}"),
            state,
            &[
                ("grove.io/podcliquescalinggroup", "s-0-prefill"),
                ("grove.io/podcliquescalinggroup-replica-index", index),
                (
                    "grove.io/podclique",
                    &format!("s-0-prefill-{index}-{clique}"),
                ),
            ],
        )
    };
    let replica = |index: &str, last: &str| {
        vec![
            of(index, "pleader", 0, "ready"),
            of(index, "pworker", 0, "ready"),
            of(index, "pworker", 1, "ready"),
            of(index, "pworker", 2, last),
        ]
    };
    let pods = [replica("0", "ready"), replica("1", "starting")].concat();
    assert_eq!(
        counts(&place, &pods),
        (1, 1, 0, vec!["0-pleader-0".to_owned()])
    );
}

#[test]
fn a_clique_is_its_pods() {
    let place = resolve(&POD_CLIQUE, &clique(Some(1)), &[set()], None, Role::Decode).unwrap();
    assert_eq!(
        (place.desired, place.unit.pods, place.gpus.clone()),
        (3, 1, Ok(2))
    );
    let pods = [
        pod("x", "ready", &[("grove.io/podclique", "s-0-decode")]),
        pod("y", "ready", &[]),
    ];
    assert_eq!(counts(&place, &pods).0, 1);
}

#[test]
fn nothing_goes_below_min_available() {
    let group = resolve(&SCALING_GROUP, &group(), &[set()], None, Role::Prefill).unwrap();
    assert!(matches!(
        wanted(&[(&group, 1)]),
        Err(Refusal::BelowFloor { floor: 2, .. })
    ));
    assert!(wanted(&[(&group, 2)]).is_ok());
    // A clique without the field keeps all that it has.
    let clique = resolve(&POD_CLIQUE, &clique(None), &[set()], None, Role::Decode).unwrap();
    assert!(matches!(
        wanted(&[(&clique, 2)]),
        Err(Refusal::BelowFloor { floor: 3, .. })
    ));
}

#[test]
fn dynamo_groves_own_autoscalers_and_groups_are_named() {
    let of_dynamo = made_by(set(), "DynamoGraphDeployment", "d");
    let mut scaled = set();
    scaled["spec"]["template"]["podCliqueScalingGroups"][0]["scaleConfig"] =
        json!({ "maxReplicas": 4 });
    for (related, who) in [
        (of_dynamo, "DynamoGraphDeployment `d`"),
        (scaled, "PodCliqueScalingGroup `s-0-prefill`"),
    ] {
        let place = resolve(&SCALING_GROUP, &group(), &[related], None, Role::Prefill).unwrap();
        let text = wanted(&[(&place, 4)]).unwrap_err().to_string();
        assert!(text.contains(who), "{text}");
    }
    let mut own = clique(Some(1));
    own["spec"]["autoScalingConfig"] = json!({ "maxReplicas": 4 });
    let place = resolve(&POD_CLIQUE, &own, &[set()], None, Role::Decode).unwrap();
    assert!(wanted(&[(&place, 4)]).is_err());
    let part = made_by(clique(Some(1)), "PodCliqueScalingGroup", "s-0-prefill");
    let place = resolve(&POD_CLIQUE, &part, &[set()], None, Role::Decode).unwrap();
    let text = wanted(&[(&place, 4)]).unwrap_err().to_string();
    assert!(
        text.contains("PodCliqueScalingGroup `s-0-prefill`"),
        "{text}"
    );
}

#[test]
fn a_set_is_copies_of_all_roles() {
    let target = crate::target::Target {
        api_version: "grove.io/v1alpha1".into(),
        kind: "PodCliqueSet".into(),
        name: "s".into(),
        role: None,
        side: Role::Decode,
    };
    let near = crate::target::Near {
        object: &set(),
        scale: Some(&json!({})),
        related: &[],
    };
    let refusal = crate::system("grove.io/v1alpha1", "PodCliqueSet")
        .resolve(&target, &near)
        .unwrap_err();
    assert!(matches!(refusal, Refusal::NotATarget { .. }), "{refusal}");
}
