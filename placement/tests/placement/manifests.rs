//! Pods and nodes as Kubernetes has them, and what is refused by name.

use pd_placement::{
    manifest::{NodeManifest, PodManifest, VolumeRules},
    resources::{CPU, MEMORY, PODS},
    selector::NodeSelector,
};
use pd_tolerations::{ExtendedToleration, extension::NumericOperator};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{GPU, group, is_placed, placed, problem, role};

fn pod(spec: Value) -> PodManifest {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "llm" }
    });
    object["spec"] = spec;
    serde_json::from_value(object).unwrap()
}

fn faults(spec: Value) -> Vec<String> {
    let faults = pod(spec).shape(&[], &VolumeRules::new()).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pod_of_all_parts_is_read() {
    let pod = pod(json!({
        "initContainers": [
            { "name": "proxy", "restartPolicy": "Always",
              "resources": { "requests": { "cpu": "500m" } },
              "ports": [{ "containerPort": 9, "hostPort": 9, "protocol": "UDP" }] },
            { "name": "load", "resources": { "requests": { "cpu": 3, "memory": "1Gi" } } }
        ],
        "containers": [
            { "name": "engine",
              "resources": { "requests": { "cpu": "2" }, "limits": { GPU: 4, "memory": "512Mi" } },
              "ports": [{ "containerPort": 8000 }, { "containerPort": 1, "hostPort": 80,
                          "hostIP": "10.0.0.1" }] }
        ],
        "overhead": { "cpu": "250m" },
        "nodeSelector": { "pool": "gpu" },
        "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }] },
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": {} }]
        } },
        "tolerations": [{ "key": "sla", "operator": "Gt", "value": "900" }],
        "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" }],
        "volumes": [
            { "name": "weights", "persistentVolumeClaim": { "claimName": "weights" } },
            { "name": "scratch", "ephemeral": { "volumeClaimTemplate": {} } },
            { "name": "tmp", "emptyDir": {} }]
    }));
    let zone = NodeSelector::label_in("zone", ["a".to_owned()]);
    let volumes: VolumeRules = [
        ("weights".to_owned(), vec![zone]),
        ("p-scratch".to_owned(), Vec::new()),
    ]
    .into();
    let shape = pod.shape(&[], &volumes).unwrap();
    // The init container of 3 runs beside the sidecar; the overhead comes on top.
    assert_eq!(shape.requests.get(CPU), 3_750);
    assert_eq!(shape.requests.get(MEMORY), 1 << 30);
    assert_eq!((shape.requests.get(GPU), shape.requests.get(PODS)), (4, 1));
    let ports: Vec<u16> = shape.ports.iter().map(|port| port.port).collect();
    assert_eq!(ports, [80, 9]);
    assert_eq!((shape.volumes.len(), shape.tolerations.len()), (1, 1));
    assert!(shape.affinity.is_some() && shape.node_selector.len() == 1);
    assert_eq!(
        pod.unheard(),
        [
            "preferred node affinity",
            "topology spread with ScheduleAnyway"
        ]
    );
}

#[rstest]
#[case::claims(
    json!({ "resourceClaims": [{ "name": "gpu", "resourceClaimTemplateName": "h100" }] }),
    "spec.resourceClaims: claim `gpu`: dynamic resource allocation is not modelled"
)]
#[case::affinity(
    json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "zone", "labelSelector": {} }] } } }),
    "spec.affinity.podAffinity: `zone`"
)]
#[case::anti_affinity(
    json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname" }] } } }),
    "spec.affinity.podAntiAffinity: `kubernetes.io/hostname`"
)]
#[case::spread(
    json!({ "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule" }] }),
    "spec.topologySpreadConstraints: `zone`"
)]
#[case::spread_by_default(
    json!({ "topologySpreadConstraints": [{ "topologyKey": "rack" }] }),
    "spec.topologySpreadConstraints: `rack`"
)]
#[case::volume(
    json!({ "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": "weights" } }] }),
    "spec.volumes: claim `weights`: it is not known where it can be reached"
)]
#[case::quantity(
    json!({ "containers": [{ "resources": { "requests": { "cpu": "2 cores" } } }] }),
    "resources: quantity `2 cores` is not understood"
)]
fn hard_rules_that_are_not_modelled_are_refused_by_name(#[case] spec: Value, #[case] why: &str) {
    let faults = faults(spec);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with(why), "{}", faults[0]);
}

#[test]
fn all_faults_of_a_pod_are_named_at_once() {
    let faults = faults(json!({
        "resourceClaims": [{ "name": "a" }, { "name": "b" }],
        "volumes": [{ "name": "w", "persistentVolumeClaim": { "claimName": "weights" } }]
    }));
    assert_eq!(faults.len(), 3);
}

#[test]
fn on_the_nodes_network_every_port_is_one_of_the_node() {
    let pod = pod(json!({ "hostNetwork": true,
        "containers": [{ "ports": [{ "containerPort": 8000 }] }] }));
    assert_eq!(
        pod.shape(&[], &VolumeRules::new()).unwrap().ports[0].port,
        8_000
    );
}

#[test]
fn numbers_that_were_rewritten_are_read_from_beside_the_pod() {
    let pod = pod(json!({ "tolerations": [{ "key": "sla", "operator": "Exists" }] }));
    let number = ExtendedToleration {
        key: "sla".to_owned(),
        operator: NumericOperator::Ge,
        value: "950".to_owned(),
        effect: pd_tolerations::Effect::Unset,
        toleration_seconds: None,
        must_be_present: true,
        index: Some(0),
    };
    let shape = pod.shape(&[number], &VolumeRules::new()).unwrap();
    assert_eq!(shape.tolerations[0].numbers(), "at least 950");
    assert!(shape.tolerations[0].must_be_present);
}

#[test]
fn nodes_are_read_and_used() {
    let node = |ready: &str, taints: Value, unschedulable: bool| {
        let manifest: NodeManifest = serde_json::from_value(json!({
            "metadata": { "name": "n", "labels": { "block": "b", "rack": "r" } },
            "spec": { "taints": taints, "unschedulable": unschedulable },
            "status": {
                "allocatable": { GPU: "8", "pods": "110", "cpu": "95500m", "memory": "1Ti" },
                "conditions": [{ "type": "Ready", "status": ready }]
            }
        }))
        .unwrap();
        let other = json!({ "metadata": { "name": "o", "namespace": "x",
                "ownerReferences": [{ "kind": "DaemonSet", "name": "d" }] },
            "spec": { "containers": [{ "resources": { "limits": { GPU: "4" } } }] } });
        let other: PodManifest = serde_json::from_value(other).unwrap();
        let other = other.occupant().unwrap();
        assert!(other.stays && other.name == "x/o");
        manifest.node(vec![other]).unwrap()
    };
    let fits = |node, gpus| {
        let gang = group("g", &[role("p", gpus, 1, 1)]);
        is_placed(&placed(&problem(vec![node], vec![gang])), "g")
    };
    assert!(fits(node("True", json!([]), false), 4));
    assert!(!fits(node("True", json!([]), false), 5));
    assert!(!fits(node("Unknown", json!([]), false), 4));
    assert!(!fits(node("True", json!([]), true), 4));
    let taint = json!([{ "key": "a", "value": "b", "effect": "NoSchedule" }]);
    assert!(!fits(node("True", taint, false), 4));
}
