//! The chart's webhook: off unless asked for, every flag with a value, exactly the rights it uses,
//! configurations that touch nothing they need not.

use std::collections::{BTreeMap, BTreeSet};

use clap::{CommandFactory as _, Parser as _};
use pd_webhook::args::Args;
use serde_json::{Value, json};

use super::{of_kind, parts::Part, rendered};

const NAME: &str = "pd-pd-autoscaler-webhook";
const PROGRAM: &str = "pd-webhook";

async fn webhook(changes: Value) -> Part {
    Part::enabled("webhook", changes, json!({})).await
}

fn parsed(command: &[String]) -> Args {
    Args::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let objects = rendered(json!({})).await;
    assert!(of_kind(&objects, "MutatingWebhookConfiguration").is_empty());
    let on = webhook(json!({})).await;
    let want = [
        "ClusterRole",
        "ClusterRoleBinding",
        "Deployment",
        "MutatingWebhookConfiguration",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "ValidatingWebhookConfiguration",
    ];
    assert_eq!(on.kinds(), want.map(|kind| (kind, 1)).into());
}

#[tokio::test]
async fn as_policies_it_runs_nothing_and_needs_no_rights() {
    let before = rendered(json!({})).await;
    // Policies have names of their own.
    let kinds = async |values: Value| {
        let mut kinds = BTreeMap::<String, usize>::new();
        for object in rendered(json!({ "webhook": values })).await {
            if !before.contains(&object) {
                let kind = object["kind"].as_str().unwrap().to_owned();
                *kinds.entry(kind).or_default() += 1;
            }
        }
        kinds
    };
    let both = |mutating: usize| {
        BTreeMap::from([
            ("MutatingAdmissionPolicy".to_owned(), mutating),
            ("MutatingAdmissionPolicyBinding".to_owned(), mutating),
            ("ValidatingAdmissionPolicy".to_owned(), 4),
            ("ValidatingAdmissionPolicyBinding".to_owned(), 4),
        ])
    };
    let policy = json!({ "enabled": true, "edition": "policy" });
    assert_eq!(kinds(policy).await, both(5));
    // Where the API server compares numbers, only what roles give is left to do.
    let native = json!({ "enabled": true, "edition": "policy", "gate": "native" });
    assert_eq!(kinds(native).await, both(1));
}

#[tokio::test]
async fn every_flag_has_a_value_and_defaults_agree() {
    let own = webhook(json!({})).await;
    let managed = webhook(json!({ "certManager": { "enabled": true, "issuerRef": { "name": "i", "kind": "Issuer" } } })).await;
    let (own_command, managed) = (own.command(PROGRAM), managed.command(PROGRAM));
    parsed(&own_command);
    parsed(&managed);
    let all: BTreeSet<String> = own_command[1..]
        .iter()
        .chain(&managed[1..])
        .cloned()
        .collect();
    assert!(all.iter().all(|arg| arg.contains('=')), "{all:?}");
    let left_out = ["help", "version", "kubeconfig", "log-filter", "namespace"];
    Part::flags_have_values(&Args::command(), &all, &left_out);
    let default = parsed(&[PROGRAM.to_owned()]);
    let chart = parsed(&own_command);
    assert_eq!(
        chart.certificates.certificate_validity,
        default.certificates.certificate_validity
    );
    assert_eq!(
        chart.certificates.authority_validity,
        default.certificates.authority_validity
    );
    assert_eq!(
        chart.certificates.authority_overlap,
        default.certificates.authority_overlap
    );
    assert_eq!(chart.webhook.linger, default.webhook.linger);
    assert_eq!(chart.webhook.prefer_margin, default.webhook.prefer_margin);
    assert_eq!(
        chart.webhook.webhook_address,
        default.webhook.webhook_address
    );
    assert!(chart.webhook.linger < chart.process.shutdown.shutdown_grace_period);
    assert_eq!(own.container()["env"][0]["name"], "POD_NAMESPACE");
}

#[tokio::test]
async fn configurations_are_narrow_and_lead_to_the_pods() {
    let objects = webhook(json!({ "excludedNamespaces": ["kube-system", "other"] })).await;
    objects.is_wired();
    let service = objects.one("Service");
    let mutating = objects.one("MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    let validating = objects.one("ValidatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    let mut resources = BTreeSet::new();
    for hook in mutating {
        assert_eq!(hook["failurePolicy"], "Fail");
        let condition = hook["matchConditions"][0]["expression"].as_str().unwrap();
        assert!(
            condition.contains("['Gt', 'Lt']") && condition.contains("numeric-tolerations"),
            "{condition}"
        );
        for rule in hook["rules"].as_array().unwrap() {
            resources.extend(
                rule["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one.as_str().unwrap()),
            );
        }
    }
    let want = [
        "cronjobs",
        "daemonsets",
        "deployments",
        "jobs",
        "pods",
        "podtemplates",
        "replicasets",
        "replicationcontrollers",
        "statefulsets",
    ];
    assert_eq!(resources, BTreeSet::from(want));
    assert_eq!(validating[0]["failurePolicy"], "Ignore");
    for hook in mutating.iter().chain(validating) {
        assert_eq!(hook["timeoutSeconds"], 2);
        assert_eq!(hook["sideEffects"], "None");
        assert_eq!(hook["clientConfig"]["service"]["name"], NAME);
        assert_eq!(
            hook["clientConfig"]["service"]["port"],
            service["spec"]["ports"][0]["port"]
        );
        let left_out = json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["system", "kube-system", "other"] });
        assert_eq!(
            hook["namespaceSelector"]["matchExpressions"],
            json!([left_out])
        );
    }
}

#[tokio::test]
async fn it_gets_exactly_the_rights_it_uses() {
    let want = [
        "mutatingwebhookconfigurations/pd-pd-autoscaler-webhook get",
        "mutatingwebhookconfigurations/pd-pd-autoscaler-webhook patch",
        "pdautoscalers list",
        "pdautoscalers watch",
        "pods create",
        "secrets create",
        "secrets/pd-pd-autoscaler-webhook-certificates get",
        "secrets/pd-pd-autoscaler-webhook-certificates update",
        "validatingwebhookconfigurations/pd-pd-autoscaler-webhook get",
        "validatingwebhookconfigurations/pd-pd-autoscaler-webhook patch",
    ];
    assert_eq!(
        webhook(json!({})).await.rights(),
        want.map(str::to_owned).into()
    );
    let managed =
        webhook(json!({ "certManager": { "enabled": true, "issuerRef": { "name": "i" } } })).await;
    assert_eq!(
        managed.rights(),
        [
            "mutatingwebhookconfigurations/pd-pd-autoscaler-webhook get",
            "mutatingwebhookconfigurations/pd-pd-autoscaler-webhook patch",
            "pdautoscalers list",
            "pdautoscalers watch",
            "pods create"
        ]
        .map(str::to_owned)
        .into()
    );
    let name = format!("system/{NAME}");
    let injected = &managed.one("MutatingWebhookConfiguration")["metadata"]["annotations"];
    assert_eq!(injected["cert-manager.io/inject-ca-from"], name.as_str());
    assert_eq!(
        managed.one("Certificate")["spec"]["secretName"],
        format!("{NAME}-certificates")
    );
}

#[tokio::test]
async fn cert_manager_without_an_issuer_is_refused() {
    let values = json!({ "webhook": { "enabled": true, "certManager": { "enabled": true } } });
    let error = pd_tests::chart::render(&values)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("webhook.certManager.issuerRef"), "{error}");
}
