//! `kubectl pd explain placementgroup/NAME`: where the pods of a group are, and why those are not
//! that wait.
//!
//! The controller leaves the plan and its reason in status; here they stand beside the pods. It
//! adds no judgement. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt as _;
use pd_api::{
    age::age,
    v1alpha1::{
        PlacementGroup, PlacementGroupStatus,
        placement_group::{GATE, PlacementRoleSpec},
    },
    wording::sentence,
};

use crate::table::{NONE, table};

/// The words for the kind in front of a name.
const KINDS: [&str; 3] = ["placementgroup", "placementgroups", "pdpg"];

/// The name of a placement group in `argument`, if it is about one.
pub fn named(argument: &str) -> Option<&str> {
    let (kind, name) = argument.split_once('/')?;
    let kind = kind.to_ascii_lowercase();
    KINDS.contains(&kind.as_str()).then_some(name)
}

/// The group and its pods as prose.
pub fn prose(group: &PlacementGroup, pods: &[Pod], now: Timestamp) -> String {
    let name = group.name_any();
    let namespace = group.namespace().unwrap_or_default();
    let Some(status) = &group.status else {
        return format!(
            "{name} in namespace {namespace}: no controller has looked at it yet.\n\n\
             What to do: install the chart with control.enabled=true and \
             control.placement.enabled=true\n"
        );
    };
    let since = status.since.as_ref();
    let since = since.map_or_else(String::new, |since| format!(", for {}", age(since, now)));
    let domain = match status.domain.as_str() {
        "" => String::new(),
        domain => format!(" in {domain}"),
    };
    let mut text = format!(
        "{name} in namespace {namespace} is {}{domain}{since}.\n",
        status.state
    );
    if !status.message.is_empty() {
        text.extend(["\n  ", &sentence(&status.message), "\n"]);
    }
    text.push_str(&remarks(status, now));
    text.push('\n');
    text.push_str(&table(
        &["Role", "Least", "Most", "On nodes", "Pods"],
        &group
            .spec
            .roles
            .iter()
            .map(|role| of_role(role, group, pods))
            .collect::<Vec<_>>(),
    ));
    text.push('\n');
    text.push_str(&table(
        &["Pod", "Role", "Node", "State"],
        &self::pods(group, pods),
    ));
    text
}

/// All that is under way, or left out.
fn remarks(status: &PlacementGroupStatus, now: Timestamp) -> String {
    let mut lines = Vec::new();
    if let Some(deadline) = &status.deadline {
        let seconds = deadline
            .0
            .as_second()
            .saturating_sub(now.as_second())
            .max(0);
        let count = status.planned.len();
        lines.push(format!(
            "Plan {}: {count} pods have {seconds} s left to get their nodes",
            status.plan
        ));
    }
    if let Some(retry) = &status.retry_at {
        let seconds = retry.0.as_second().saturating_sub(now.as_second()).max(0);
        let failures = status.failures;
        lines.push(format!(
            "{failures} plans failed one after another; the next is made in {seconds} s"
        ));
    }
    if !status.excluded_nodes.is_empty() {
        let nodes = status.excluded_nodes.iter().map(|node| node.node.as_str());
        let nodes: Vec<&str> = nodes.collect();
        lines.push(format!("Left out for a while: {}", nodes.join(", ")));
    }
    if !status.held_nodes.is_empty() {
        let nodes = status.held_nodes.join(", ");
        lines.push(format!("Later groups are kept out of {nodes}"));
    }
    lines
        .into_iter()
        .fold(String::new(), |text, line| text + "\n  " + &line + ".\n")
}

fn of_role(role: &PlacementRoleSpec, group: &PlacementGroup, pods: &[Pod]) -> Vec<String> {
    let of_it: Vec<&Pod> = pods
        .iter()
        .filter(|pod| role_of(group, pod) == Some(role.name.as_str()))
        .collect();
    let on_nodes = of_it.iter().filter(|pod| node(pod).is_some()).count();
    vec![
        role.name.clone(),
        role.min_replicas.to_string(),
        role.max_replicas
            .map_or_else(|| NONE.to_owned(), |most| most.to_string()),
        on_nodes.to_string(),
        of_it.len().to_string(),
    ]
}

fn role_of<'a>(group: &'a PlacementGroup, pod: &Pod) -> Option<&'a str> {
    let role = group.spec.role_of(pod.labels())?;
    Some(&role.name)
}

fn pods(group: &PlacementGroup, pods: &[Pod]) -> Vec<Vec<String>> {
    let planned = group.status.iter().flat_map(|status| &status.planned);
    let planned: BTreeMap<&str, &str> = planned
        .map(|planned| (planned.uid.as_str(), planned.node.as_str()))
        .collect();
    let mut rows: Vec<Vec<String>> = pods
        .iter()
        .map(|pod| {
            let uid = pod.uid().unwrap_or_default();
            let (node, state) = match (node(pod), planned.get(uid.as_str())) {
                _ if pod.metadata.deletion_timestamp.is_some() => (node(pod), "ending"),
                (Some(node), _) => (Some(node), "on its node"),
                (None, Some(node)) => (Some(*node), "on its way"),
                (None, None) if is_gated(pod) => (None, "waits"),
                (None, None) => (None, "not held by this group"),
            };
            vec![
                pod.name_any(),
                role_of(group, pod).unwrap_or(NONE).to_owned(),
                node.unwrap_or(NONE).to_owned(),
                state.to_owned(),
            ]
        })
        .collect();
    rows.sort();
    rows
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| &spec.scheduling_gates);
    gates.flatten().any(|gate| gate.name == GATE)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use pd_api::v1alpha1::placement_group::ROLE_LABEL;

    use super::*;
    use crate::tests::samples::NOW;

    fn group(status: &serde_json::Value) -> PlacementGroup {
        serde_json::from_value(json!({
            "apiVersion": "pdautoscaler.io/v1alpha1", "kind": "PlacementGroup",
            "metadata": { "name": "llama", "namespace": "inference" },
            "spec": { "roles": [
                { "name": "prefill", "minReplicas": 1 },
                { "name": "decode", "minReplicas": 2, "maxReplicas": 4, "podLabels": { "app": "d" } },
            ] },
            "status": status,
        }))
        .unwrap()
    }

    fn pod(name: &str, labels: &serde_json::Value, spec: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "uid": format!("uid-{name}"), "labels": labels }, "spec": spec,
        }))
        .unwrap()
    }

    #[rstest]
    #[case("placementgroup/a", Some("a"))]
    #[case("PlacementGroups/a", Some("a"))]
    #[case("pdpg/a", Some("a"))]
    #[case("pdautoscaler/a", None)]
    #[case("a", None)]
    fn a_kind_in_front_says_what_is_meant(#[case] argument: &str, #[case] want: Option<&str>) {
        assert_eq!(named(argument), want);
    }

    #[test]
    fn a_group_is_explained_with_its_pods() {
        let status = json!({
            "state": "Placing", "message": "2 pods go to nodes of rack r1", "domain": "rack r1", "plan": 3,
            "since": "2026-11-30T11:58:00Z", "deadline": "2026-11-30T12:00:40Z",
            "planned": [{ "pod": "d1", "uid": "uid-d1", "node": "n2" }],
            "excludedNodes": [{ "node": "bad", "until": "2026-11-30T12:05:00Z" }],
            "wasPlaced": false, "failures": 0,
        });
        let gated = json!({ "containers": [], "schedulingGates": [{ "name": GATE }] });
        let pods = [
            pod(
                "p1",
                &json!({ ROLE_LABEL: "prefill" }),
                &json!({ "containers": [], "nodeName": "n1" }),
            ),
            pod("d1", &json!({ "app": "d" }), &gated),
            pod("d2", &json!({ "app": "d" }), &gated),
        ];
        let text = prose(&group(&status), &pods, NOW);
        assert_eq!(
            text,
            "llama in namespace inference is Placing in rack r1, for 2m.\n\
             \n  2 pods go to nodes of rack r1.\n\
             \n  Plan 3: 1 pods have 40 s left to get their nodes.\n\
             \n  Left out for a while: bad.\n\
             \n\
             ROLE      LEAST   MOST   ON NODES   PODS\n\
             prefill   1       -      1          1\n\
             decode    2       4      0          2\n\
             \n\
             POD   ROLE      NODE   STATE\n\
             d1    decode    n2     on its way\n\
             d2    decode    -      waits\n\
             p1    prefill   n1     on its node\n"
        );
    }

    #[test]
    fn a_group_that_nobody_looks_at_says_what_is_missing() {
        let text = prose(&group(&serde_json::Value::Null), &[], NOW);
        assert!(text.contains("control.placement.enabled=true"), "{text}");
    }
}
