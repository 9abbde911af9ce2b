//! The rights that the chart gives to the controller and to people: exactly [`RIGHTS`], and no
//! cluster role where a role will do.

use std::collections::BTreeSet;

use pd_systems::{
    ALL,
    kind::{Form, Kind},
};
use serde_json::{Value, json};

use super::{of_kind, rendered};

/// Each right as `group/resource[/name] verb`, without the roles meant for people.
fn rights(objects: &[Value]) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for role in objects.iter().filter(|object| {
        object["kind"] == "Role"
            || object["metadata"]["name"] == "pd-pd-autoscaler" && object["kind"] == "ClusterRole"
    }) {
        for rule in role["rules"].as_array().unwrap() {
            let name = texts(&rule["resourceNames"])
                .iter()
                .fold(String::new(), |all, name| format!("{all}/{name}"));
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert(format!("{group}/{resource}{name} {verb}"));
                    }
                }
            }
        }
    }
    rights
}

/// All that the controller may do; a new right is a decision, made here too.
pub(crate) const RIGHTS: [&str; 34] = [
    "/configmaps get",
    "/namespaces list",
    "/namespaces watch",
    "/pods list",
    "/pods watch",
    "/resourcequotas list",
    "apps/deployments list",
    "apps/deployments watch",
    "apps/deployments/scale get",
    "apps/deployments/scale patch",
    "apps/statefulsets list",
    "apps/statefulsets watch",
    "apps/statefulsets/scale get",
    "apps/statefulsets/scale patch",
    "autoscaling/horizontalpodautoscalers list",
    "autoscaling/horizontalpodautoscalers watch",
    "coordination.k8s.io/leases create",
    "coordination.k8s.io/leases/pd-pd-autoscaler get",
    "coordination.k8s.io/leases/pd-pd-autoscaler update",
    "events.k8s.io/events create",
    "events.k8s.io/events patch",
    "keda.sh/scaledobjects list",
    "keda.sh/scaledobjects watch",
    "pdautoscaler.io/gpubudgets get",
    "pdautoscaler.io/gpubudgets list",
    "pdautoscaler.io/gpubudgets watch",
    "pdautoscaler.io/gpubudgets/status patch",
    "pdautoscaler.io/pdautoscalercheckpoints create",
    "pdautoscaler.io/pdautoscalercheckpoints get",
    "pdautoscaler.io/pdautoscalercheckpoints patch",
    "pdautoscaler.io/pdautoscalers get",
    "pdautoscaler.io/pdautoscalers list",
    "pdautoscaler.io/pdautoscalers watch",
    "pdautoscaler.io/pdautoscalers/status patch",
];

#[tokio::test]
async fn the_controller_gets_exactly_the_rights_it_uses() {
    let want: BTreeSet<String> = RIGHTS.iter().map(|&right| right.to_owned()).collect();
    let everywhere = rendered(json!({})).await;
    assert_eq!(rights(&everywhere), want);
    // Budgets and namespaces belong to the cluster.
    let of_cluster = |right: &String| right.contains("gpubudgets") || right.contains("/namespaces");
    let inside: BTreeSet<String> = want
        .iter()
        .filter(|right| !of_cluster(right))
        .cloned()
        .collect();
    let in_one_namespace = rendered(json!({ "watchNamespace": "inference" })).await;
    assert_eq!(rights(&in_one_namespace), inside);
    let secrets = json!({ "tenants": { "secretReferences": true } });
    let with_secrets = rights(&rendered(secrets).await);
    let added: Vec<&String> = with_secrets.difference(&want).collect();
    assert_eq!(added, ["/secrets get"]);
    let with_marks = rights(&rendered(json!({ "drain": { "enabled": true } })).await);
    let added: Vec<&String> = with_marks.difference(&want).collect();
    assert_eq!(added, ["/pods patch"]);
    for object in everywhere
        .iter()
        .filter(|object| object["rules"].is_array())
    {
        assert!(!object["rules"].to_string().contains('*'), "{object}");
    }
}

/// Rights that a kind's place and hazards are read by, besides those on the kind itself.
const READ_BESIDE: [(&str, &[&str]); 6] = [
    (
        "roleBasedGroups",
        &["workloads.x-k8s.io/rolebasedgroupscalingadapters list"],
    ),
    (
        "stormServices",
        &["autoscaling.aibrix.ai/podautoscalers list"],
    ),
    (
        "modelServings",
        &["workload.serving.volcano.sh/autoscalingpolicies list"],
    ),
    ("grove", &["grove.io/podcliquesets get"]),
    (
        "llmInferenceServices",
        &[
            "apps/deployments list",
            "leaderworkerset.x-k8s.io/leaderworkersets list",
            "leaderworkerset.x-k8s.io/leaderworkersets/scale get",
            "leaderworkerset.x-k8s.io/leaderworkersets/scale patch",
        ],
    ),
    ("llmaz", &["leaderworkerset.x-k8s.io/leaderworkersets get"]),
];

#[tokio::test]
async fn a_switch_grants_what_its_kinds_are_scaled_by_and_no_more() {
    let kinds: Vec<&Kind> = ALL
        .into_iter()
        .flat_map(pd_systems::system::System::kinds)
        .filter(|kind| !kind.switch.is_empty())
        .collect();
    let switches: BTreeSet<&str> = kinds.iter().map(|kind| kind.switch).collect();
    let always: BTreeSet<String> = RIGHTS.iter().map(|&right| right.to_owned()).collect();
    for switch in switches {
        let mut want = always.clone();
        for kind in kinds.iter().filter(|kind| kind.switch == switch) {
            let resource = format!("{}/{}", kind.group, kind.plural);
            want.insert(format!("{resource} get"));
            match kind.form {
                Form::JsonPatch => {
                    want.insert(format!("{resource} patch"));
                }
                Form::Scale => {
                    want.extend(["get", "patch"].map(|verb| format!("{resource}/scale {verb}")));
                }
            }
        }
        let beside = READ_BESIDE.iter().filter(|(of, _)| *of == switch);
        want.extend(beside.flat_map(|(_, rights)| rights.iter().map(|&right| right.to_owned())));
        let objects = rendered(json!({ "targets": { switch: { "enabled": true } } })).await;
        assert_eq!(rights(&objects), want, "{switch}");
    }
    let own = json!({ "targets": { "scale": [{ "group": "example.com", "resource": "pools" }] } });
    let more: BTreeSet<String> = rights(&rendered(own).await)
        .difference(&always)
        .cloned()
        .collect();
    let want = [
        "example.com/pools get",
        "example.com/pools/scale get",
        "example.com/pools/scale patch",
    ];
    assert_eq!(more, want.map(str::to_owned).into());
}

#[tokio::test]
async fn a_namespaced_controller_needs_no_cluster_role() {
    let objects = rendered(json!({ "watchNamespace": "inference" })).await;
    assert!(of_kind(&objects, "ClusterRole").is_empty());
    assert!(of_kind(&objects, "ClusterRoleBinding").is_empty());
    let spaces = |kind| -> BTreeSet<&str> {
        of_kind(&objects, kind)
            .iter()
            .map(|role| role["metadata"]["namespace"].as_str().unwrap())
            .collect()
    };
    assert_eq!(spaces("Role"), BTreeSet::from(["inference", "system"]));
    assert_eq!(
        spaces("RoleBinding"),
        BTreeSet::from(["inference", "system"])
    );
}

#[tokio::test]
async fn who_views_or_edits_workloads_views_or_edits_pdautoscalers() {
    let objects = rendered(json!({})).await;
    for (role, into) in [
        ("view", ["view", "edit", "admin"].as_slice()),
        ("edit", &["edit", "admin"]),
    ] {
        let name = format!("pd-pd-autoscaler-{role}");
        let roles = of_kind(&objects, "ClusterRole");
        let role = roles
            .iter()
            .find(|found| found["metadata"]["name"] == name.as_str())
            .unwrap();
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let aggregated: BTreeSet<&str> = labels
            .keys()
            .filter_map(|key| key.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"))
            .collect();
        assert_eq!(aggregated, into.iter().copied().collect());
    }
    let without = rendered(json!({ "rbac": { "aggregate": false } })).await;
    assert_eq!(of_kind(&without, "ClusterRole").len(), 1);
    let none = rendered(json!({ "rbac": { "create": false } })).await;
    assert!(rights(&none).is_empty());
}
