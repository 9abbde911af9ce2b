//! The rights that the chart gives to the controller and to people: exactly [`RIGHTS`], and no
//! cluster role where a role will do.

use std::collections::BTreeSet;

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
pub(crate) const RIGHTS: [&str; 27] = [
    "/configmaps get",
    "/pods list",
    "/pods watch",
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
    let in_one_namespace = rendered(json!({ "watchNamespace": "inference" })).await;
    assert_eq!(rights(&in_one_namespace), want);
    let secrets = json!({ "tenants": { "secretReferences": true } });
    let with_secrets = rights(&rendered(secrets).await);
    let added: Vec<&String> = with_secrets.difference(&want).collect();
    assert_eq!(added, ["/secrets get"]);
    for object in everywhere
        .iter()
        .filter(|object| object["rules"].is_array())
    {
        assert!(!object["rules"].to_string().contains('*'), "{object}");
    }
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
