//! Graph deployments of Dynamo in both versions, and their adapters.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{ADAPTER, ADAPTER_V1ALPHA1, GRAPH, GRAPH_V1ALPHA1};
use crate::{
    edit::Write,
    refusal::Refusal,
    testing::{counts, differences, object, patched, place, pod, resolve, template, wanted},
};

fn graph() -> Value {
    object(
        &GRAPH,
        "g",
        json!({ "components": [
        { "name": "Frontend", "type": "frontend", "replicas": 1 },
        { "name": "VllmPrefillWorker", "type": "prefill", "replicas": 2, "multinode": { "nodeCount": 2 }, "podTemplate": template(4) },
        { "name": "VllmDecodeWorker", "type": "decode", "podTemplate": template(8) },
    ] }),
    )
}

fn older() -> Value {
    object(
        &GRAPH_V1ALPHA1,
        "g",
        json!({ "services": {
        "Frontend": { "componentType": "frontend", "replicas": 1 },
        "prefill/a": { "componentType": "worker", "subComponentType": "prefill", "replicas": 3,
            "resources": { "limits": { "gpu": "2" } } },
        "decode": { "componentType": "worker", "subComponentType": "decode", "resources": { "limits": { "gpu": "4" } },
            "multinode": { "nodeCount": 2 } },
    } }),
    )
}

#[test]
fn components_change_in_one_write_and_nothing_else_does() {
    let graph = graph();
    let of = |side| resolve(&GRAPH, &graph, &[], None, side).unwrap();
    let (p, d) = (of(Role::Prefill), of(Role::Decode));
    assert_eq!(
        (p.role.as_deref(), p.unit.pods, p.gpus.clone()),
        (Some("VllmPrefillWorker"), 2, Ok(8))
    );
    assert_eq!((d.desired, d.stated, d.gpus.clone()), (1, None, Ok(8)));
    let edits = wanted(&[(&p, 3), (&d, 4)]).unwrap();
    let changed = differences(&graph, &patched(&graph, &edits[0]));
    let at = |index: u32| format!("/spec/components/{index}/replicas");
    assert_eq!(
        (edits.len(), changed),
        (1, vec![(at(1), json!(3)), (at(2), json!(4))])
    );
}

#[test]
fn services_of_the_older_version_are_a_map() {
    let graph = older();
    let of = |side| resolve(&GRAPH_V1ALPHA1, &graph, &[], None, side).unwrap();
    let (p, d) = (of(Role::Prefill), of(Role::Decode));
    assert_eq!(
        (p.role.as_deref(), p.desired, p.gpus.clone()),
        (Some("prefill/a"), 3, Ok(2))
    );
    assert_eq!((d.desired, d.gpus.clone()), (1, Ok(8)));
    let edits = wanted(&[(&p, 2), (&d, 2)]).unwrap();
    let mut changed = differences(&graph, &patched(&graph, &edits[0]));
    changed.sort_by_key(|(pointer, _)| pointer.clone());
    assert_eq!(
        changed,
        [
            ("/spec/services/decode/replicas".to_owned(), json!(2)),
            ("/spec/services/prefill~1a/replicas".to_owned(), json!(2)),
        ]
    );
}

#[rstest]
#[case::empty(json!({}), true)]
#[case::switched_on(json!({ "enabled": true }), true)]
#[case::switched_off(json!({ "enabled": false }), false)]
#[case::absent(Value::Null, false)]
fn a_component_with_an_adapter_is_the_adapters(#[case] adapter: Value, #[case] refused: bool) {
    let mut graph = graph();
    graph["spec"]["components"][1]["scalingAdapter"] = adapter.clone();
    let result = resolve(
        &GRAPH,
        &graph,
        &[],
        Some("VllmPrefillWorker"),
        Role::Prefill,
    );
    assert_eq!(
        matches!(result, Err(Refusal::ByAdapter { .. })),
        refused,
        "{result:?}"
    );
    let mut older = older();
    older["spec"]["services"]["decode"]["scalingAdapter"] = adapter;
    let result = resolve(&GRAPH_V1ALPHA1, &older, &[], None, Role::Decode);
    assert_eq!(
        matches!(result, Err(Refusal::ByAdapter { .. })),
        refused,
        "{result:?}"
    );
}

#[test]
fn the_remedy_names_the_adapter() {
    let mut graph = graph();
    graph["spec"]["components"][1]["scalingAdapter"] = json!({});
    let text = resolve(&GRAPH, &graph, &[], None, Role::Prefill)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("DynamoGraphDeploymentScalingAdapter `g-vllmprefillworker`"),
        "{text}"
    );
}

#[test]
fn an_adapter_is_scaled_with_the_floor_of_its_component() {
    let spec =
        json!({ "replicas": 2, "dgdRef": { "name": "g", "componentName": "VllmPrefillWorker" } });
    let adapter = object(&ADAPTER, "g-vllmprefillworker", spec);
    let mut graph = graph();
    graph["spec"]["components"][1]["minAvailable"] = json!(2);
    let place = resolve(&ADAPTER, &adapter, &[graph], None, Role::Prefill).unwrap();
    assert_eq!(
        (place.desired, place.unit.pods, place.floor.replicas),
        (2, 2, 2)
    );
    assert!(matches!(
        wanted(&[(&place, 4)]).unwrap()[0].write,
        Write::Scale { replicas: 4, .. }
    ));
    assert!(matches!(
        wanted(&[(&place, 1)]),
        Err(Refusal::BelowFloor { .. })
    ));
    let lacks = resolve(&ADAPTER, &adapter, &[], None, Role::Prefill).unwrap_err();
    assert!(matches!(lacks, Refusal::Lacks { .. }), "{lacks}");
    // The older version names a service.
    let spec = json!({ "replicas": 1, "dgdRef": { "name": "g", "serviceName": "decode" } });
    let adapter = object(&ADAPTER_V1ALPHA1, "g-decode", spec);
    let place = resolve(&ADAPTER_V1ALPHA1, &adapter, &[older()], None, Role::Decode).unwrap();
    assert_eq!(place.gpus, Ok(8));
}

#[rstest]
#[case::min_available(Some(2), 1, true)]
#[case::at_min_available(Some(2), 2, false)]
#[case::zero(None, 0, true)]
#[case::one(None, 1, false)]
fn a_component_keeps_what_its_gang_and_frontend_need(
    #[case] least: Option<u32>,
    #[case] to: u32,
    #[case] refused: bool,
) {
    let mut graph = graph();
    graph["spec"]["components"][1]["replicas"] = json!(4);
    if let Some(least) = least {
        graph["spec"]["components"][1]["minAvailable"] = json!(least);
    }
    let place = place(&GRAPH, &graph, "VllmPrefillWorker");
    assert_eq!(
        matches!(wanted(&[(&place, to)]), Err(Refusal::BelowFloor { .. })),
        refused
    );
}

#[test]
fn a_planner_in_the_graph_is_named() {
    let mut graph = graph();
    graph["spec"]["components"][0] = json!({ "name": "Planner", "type": "planner" });
    let text = wanted(&[(&place(&GRAPH, &graph, "VllmDecodeWorker"), 3)])
        .unwrap_err()
        .to_string();
    assert!(text.contains("Dynamo planner `Planner`"), "{text}");
    let mut older = older();
    older["spec"]["services"]["Planner"] = json!({ "componentType": "planner" });
    let place = resolve(&GRAPH_V1ALPHA1, &older, &[], None, Role::Decode).unwrap();
    assert!(wanted(&[(&place, 3)]).is_err());
    // Its adapter is no way around it.
    let spec =
        json!({ "replicas": 2, "dgdRef": { "name": "g", "componentName": "VllmDecodeWorker" } });
    let adapter = object(&ADAPTER, "g-vllmdecodeworker", spec);
    let place = resolve(&ADAPTER, &adapter, &[graph], None, Role::Decode).unwrap();
    assert!(wanted(&[(&place, 3)]).is_err());
}

#[rstest]
#[case::grove("grove.io/podcliquescalinggroup-replica-index", "grove.io/podclique", ["g-0-p-0-p-ldr", "g-0-p-0-p-wkr"])]
#[case::lws("leaderworkerset.sigs.k8s.io/group-index", "leaderworkerset.sigs.k8s.io/worker-index", ["0", "1"])]
fn a_replica_of_two_nodes_serves_by_its_leader(
    #[case] group: &str,
    #[case] which: &str,
    #[case] values: [&str; 2],
) {
    let place = place(&GRAPH, &graph(), "VllmPrefillWorker");
    let of = |index: &str, value: &str, state: &str| {
        pod(
            &format!("{index}-{value}"),
            state,
            &[
                ("nvidia.com/dynamo-graph-deployment-name", "g"),
                ("nvidia.com/dynamo-component", "VllmPrefillWorker"),
                (group, index),
                (which, value),
            ],
        )
    };
    let pods = [
        of("0", values[0], "ready"),
        of("0", values[1], "ready"),
        of("1", values[0], "ready"),
        of("1", values[1], "unschedulable"),
    ];
    assert_eq!(
        counts(&place, &pods),
        (1, 1, 0, vec![format!("0-{}", values[0])])
    );
}
