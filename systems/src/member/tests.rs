//! Pods of every system, and pods that only look like them.

use std::collections::BTreeMap;

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Controller, Marks, ROWS, is_of, marks};
use crate::{
    ALL,
    kind::Kind,
    systems::{
        apps::{DEPLOYMENT, REPLICA_SET, STATEFUL_SET},
        disaggregated_set::DISAGGREGATED_SET,
        dynamo::{GRAPH, GRAPH_V1ALPHA1},
        grove::{POD_CLIQUE, SCALING_GROUP},
        kserve::LLM_INFERENCE_SERVICE,
        kthena::MODEL_SERVING,
        llmaz::PLAYGROUND,
        lws::LEADER_WORKER_SET,
        rbg::{ROLE_BASED_GROUP, ROLE_BASED_GROUP_V1ALPHA1},
        storm::STORM_SERVICE,
    },
    target::Target,
    testing::{made_by, object, resolve, target, template},
};

/// The labels of a pod, by name.
type Found<'a> = BTreeMap<&'a str, &'a str>;

fn is_one(target: &Target, controller: Option<Controller<'_>>, labels: &[(&str, &str)]) -> bool {
    let labels: Found<'_> = labels.iter().copied().collect();
    is_of(target, controller, |key| labels.get(key).copied())
}

fn by<'a>(kind: &'a str, name: &'a str) -> Controller<'a> {
    Controller {
        api_version: "apps/v1",
        kind,
        name,
    }
}

#[rstest]
#[case::deployment(Some(by("ReplicaSet", "llama-7d9")), "7d9", true)]
#[case::longer_name(Some(by("ReplicaSet", "llama-2-7d9")), "7d9", false)]
#[case::another_hash(Some(by("ReplicaSet", "llama-7d9")), "8c1", false)]
#[case::stateful_set(Some(by("StatefulSet", "llama")), "7d9", false)]
#[case::nobody(None, "7d9", false)]
#[case::of_another_group(Some(Controller { api_version: "example.com/v1", kind: "ReplicaSet", name: "llama-7d9" }), "7d9", false)]
fn a_pod_of_a_deployment_is_known_by_its_replica_set(
    #[case] controller: Option<Controller<'_>>,
    #[case] hash: &str,
    #[case] want: bool,
) {
    let target = target(&DEPLOYMENT, "llama", None, Role::Decode);
    let labels = [("pod-template-hash", hash), ("app", "llama")];
    assert_eq!(is_one(&target, controller, &labels), want);
    assert!(!is_one(&target, controller, &[("app", "llama")]));
}

#[rstest]
#[case::stateful_set(&STATEFUL_SET, Some(by("StatefulSet", "llama")), true)]
#[case::replica_set(&REPLICA_SET, Some(by("ReplicaSet", "llama")), true)]
#[case::of_a_deployment(&REPLICA_SET, Some(by("ReplicaSet", "llama-7d9")), false)]
#[case::of_another_kind(&STATEFUL_SET, Some(by("ReplicaSet", "llama")), false)]
#[case::nobody(&STATEFUL_SET, None, false)]
fn a_pod_of_a_set_is_known_by_its_controller(
    #[case] kind: &Kind,
    #[case] controller: Option<Controller<'_>>,
    #[case] want: bool,
) {
    let target = target(kind, "llama", None, Role::Prefill);
    let labels = [("pod-template-hash", "7d9")];
    assert_eq!(is_one(&target, controller, &labels), want);
}

/// Objects of two roles as small as they can be, with the pods' labels as each system writes them.
#[rstest]
#[case::lws(&LEADER_WORKER_SET, json!({ "leaderWorkerTemplate": { "size": 2, "workerTemplate": template(1) } }), None,
    &[("leaderworkerset.sigs.k8s.io/name", "o"), ("leaderworkerset.sigs.k8s.io/worker-index", "1")])]
#[case::disaggregated_set(&DISAGGREGATED_SET, json!({ "roles": [
    { "name": "prefill", "spec": { "leaderWorkerTemplate": { "workerTemplate": template(1) } } },
    { "name": "decode", "spec": { "leaderWorkerTemplate": { "workerTemplate": template(1) } } }] }), Some("decode"),
    &[("disaggregatedset.x-k8s.io/name", "o"), ("disaggregatedset.x-k8s.io/role", "decode"),
      ("leaderworkerset.sigs.k8s.io/name", "o-0-decode-5f")])]
#[case::rbg(&ROLE_BASED_GROUP, json!({ "roles": [
    { "name": "decode", "standalonePattern": { "template": template(8) } }] }), Some("decode"),
    &[("rbg.workloads.x-k8s.io/group-name", "o"), ("rbg.workloads.x-k8s.io/role-name", "decode"),
      ("rbg.workloads.x-k8s.io/role-instance-name", "o-decode-0")])]
#[case::older_rbg(&ROLE_BASED_GROUP_V1ALPHA1, json!({ "roles": [
    { "name": "decode", "template": template(8) }] }), Some("decode"),
    &[("rolebasedgroup.workloads.x-k8s.io/name", "o"), ("rolebasedgroup.workloads.x-k8s.io/role", "decode")])]
#[case::storm(&STORM_SERVICE, json!({ "updateStrategy": { "type": "InPlaceUpdate" }, "template": { "spec": { "roles": [
    { "name": "decode", "replicas": 1, "template": template(8) }] } } }), Some("decode"),
    &[("storm-service-name", "o"), ("role-name", "decode"), ("roleset-name", "o-x")])]
#[case::kthena(&MODEL_SERVING, json!({ "template": { "roles": [
    { "name": "decode", "entryTemplate": template(8) }] } }), Some("decode"),
    &[("modelserving.volcano.sh/name", "o"), ("modelserving.volcano.sh/role", "decode"), ("modelserving.volcano.sh/role-id", "decode-0")])]
#[case::dynamo(&GRAPH, json!({ "components": [
    { "name": "VllmDecode", "type": "decode", "podTemplate": template(8) }] }), Some("VllmDecode"),
    &[("nvidia.com/dynamo-graph-deployment-name", "o"), ("nvidia.com/dynamo-component", "VllmDecode")])]
#[case::older_dynamo(&GRAPH_V1ALPHA1, json!({ "services": {
    "VllmDecode": { "componentType": "worker", "subComponentType": "decode" } } }), Some("VllmDecode"),
    &[("nvidia.com/dynamo-graph-deployment-name", "o"), ("nvidia.com/dynamo-component", "VllmDecode")])]
#[case::grove_clique(&POD_CLIQUE, json!({ "replicas": 1, "podSpec": template(8)["spec"] }), None,
    &[("grove.io/podclique", "o"), ("grove.io/podgang", "o-0")])]
#[case::grove_group(&SCALING_GROUP, json!({ "replicas": 1, "cliqueNames": ["worker"] }), None,
    &[("grove.io/podcliquescalinggroup", "o"), ("grove.io/podclique", "o-0-worker")])]
#[case::kserve(&LLM_INFERENCE_SERVICE, json!({ "replicas": 1, "template": template(8)["spec"] }), None,
    &[("app.kubernetes.io/name", "o"), ("app.kubernetes.io/part-of", "llminferenceservice"),
      ("kserve.io/component", "workload"), ("llm-d.ai/role", "decode")])]
#[case::kserve_without_prefill(&LLM_INFERENCE_SERVICE, json!({ "replicas": 1, "template": template(8)["spec"] }), None,
    &[("app.kubernetes.io/name", "o"), ("app.kubernetes.io/part-of", "llminferenceservice"),
      ("kserve.io/component", "workload"), ("llm-d.ai/role", "both")])]
#[case::llmaz(&PLAYGROUND, json!({ "replicas": 1 }), None,
    &[("leaderworkerset.sigs.k8s.io/name", "o"), ("leaderworkerset.sigs.k8s.io/group-index", "0")])]
fn a_pod_is_known_as_the_one_that_the_target_scales(
    #[case] kind: &Kind,
    #[case] spec: Value,
    #[case] role: Option<&str>,
    #[case] labels: &[(&str, &str)],
) {
    let of = |name: &str, role: Option<&str>, side| target(kind, name, role, side);
    let found = |target: &Target, labels: &[(&str, &str)]| is_one(target, None, labels);
    let ours = of("o", role, Role::Decode);
    assert!(found(&ours, labels));
    assert!(!found(&of("p", role, Role::Decode), labels), "another name");
    if role.is_some() || kind.kind == LLM_INFERENCE_SERVICE.kind {
        let other = role.map(|_| "other");
        assert!(
            !found(&of("o", other, Role::Prefill), labels),
            "another role"
        );
    }
    // Each of the labels that the selector of what is scaled asks for is needed, and no other.
    let maker = made_by(object(kind, "o", spec), "PodCliqueSet", "o");
    let object = if kind.group == "grove.io" {
        maker
    } else {
        let mut object = maker;
        object["metadata"]["ownerReferences"] = json!([]);
        object
    };
    let place = resolve(kind, &object, &[], role, Role::Decode);
    let place = place.unwrap_or_else(|refusal| panic!("{}: {refusal}", kind.kind));
    for gone in 0..labels.len() {
        let mut fewer = labels.to_vec();
        fewer.remove(gone);
        let owned = fewer
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let scaled = place.pods.labels.matches(&owned.collect());
        assert_eq!(
            found(&ours, &fewer),
            scaled,
            "{} without {}",
            kind.kind,
            labels[gone].0
        );
    }
}

#[test]
fn every_kind_is_known_by_its_pods_or_refers_to_what_is() {
    // A target of these names an object that names another, and no pod says so.
    const INDIRECT: [&str; 3] = [
        "DisaggregatedSetRoleScaler",
        "DynamoGraphDeploymentScalingAdapter",
        "RoleBasedGroupScalingAdapter",
    ];
    for kind in ALL.into_iter().flat_map(crate::system::System::kinds) {
        let is_known = marks(&kind.api_version(), kind.kind).is_some();
        assert_ne!(is_known, INDIRECT.contains(&kind.kind), "{}", kind.kind);
    }
    assert_eq!(marks("example.com/v1", "Deployment"), None);
    assert_eq!(marks("apps/v1", "DaemonSet"), None);
}

#[test]
fn no_two_rows_are_of_one_kind() {
    for (index, row) in ROWS.iter().enumerate() {
        let twin = ROWS[..index].iter().find(|other| {
            other.kind == row.kind
                && (other.api_version.starts_with(row.api_version)
                    || row.api_version.starts_with(other.api_version))
        });
        assert_eq!(twin, None, "{}", row.kind);
        if let Marks::Labels { alias, role, .. } = row.marks {
            assert!(alias.is_none() || role.is_some(), "{}", row.kind);
        }
    }
}
