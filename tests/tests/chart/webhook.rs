//! The chart's webhook: off unless asked for, every flag with a value, exactly the rights it uses, configurations that
//! touch nothing they need not.

use std::collections::{BTreeMap, BTreeSet};

use clap::{CommandFactory as _, Parser as _};
use pd_webhook::args::Args;
use serde_json::{Value, json};

use super::{of_kind, rendered};

const NAME: &str = "pd-pd-autoscaler-webhook";

async fn webhook(changes: Value) -> Vec<Value> {
    let mut webhook = json!({ "enabled": true });
    webhook
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    let all = rendered(json!({ "webhook": webhook })).await;
    let of_webhook = |object: &Value| object["metadata"]["name"] == NAME;
    all.into_iter().filter(of_webhook).collect()
}

fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "one {kind}");
    found[0]
}

fn container(objects: &[Value]) -> &Value {
    &one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

fn arguments(objects: &[Value]) -> Vec<String> {
    serde_json::from_value(container(objects)["args"].clone()).unwrap()
}

fn parsed(arguments: &[String]) -> Args {
    let command = std::iter::once("pd-webhook".to_owned()).chain(arguments.iter().cloned());
    Args::try_parse_from(command).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let objects = rendered(json!({})).await;
    assert!(of_kind(&objects, "MutatingWebhookConfiguration").is_empty());
    let mut kinds = BTreeMap::<String, usize>::new();
    for object in webhook(json!({})).await {
        *kinds
            .entry(object["kind"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
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
    assert_eq!(kinds, want.map(|kind| (kind.to_owned(), 1)).into());
}

#[tokio::test]
async fn every_flag_has_a_value_and_defaults_agree() {
    let own = webhook(json!({})).await;
    let managed = webhook(json!({ "certManager": { "enabled": true, "issuerRef": { "name": "i", "kind": "Issuer" } } })).await;
    let all: BTreeSet<String> = arguments(&own)
        .into_iter()
        .chain(arguments(&managed))
        .collect();
    parsed(&arguments(&own));
    parsed(&arguments(&managed));
    let command = Args::command();
    let known = ["help", "version", "kubeconfig", "log-filter", "namespace"];
    for flag in command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|flag| !known.contains(flag))
    {
        assert!(
            all.iter().any(|arg| arg.starts_with(&format!("--{flag}="))),
            "give --{flag} a value in the chart"
        );
    }
    let default = parsed(&[]);
    let chart = parsed(&arguments(&own));
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
    assert_eq!(
        chart.webhook.webhook_address,
        default.webhook.webhook_address
    );
    assert!(chart.webhook.linger < chart.shutdown.shutdown_grace_period);
    assert_eq!(container(&own)["env"][0]["name"], "POD_NAMESPACE");
}

#[tokio::test]
async fn configurations_are_narrow_and_lead_to_the_pods() {
    let objects = webhook(json!({ "excludedNamespaces": ["kube-system", "other"] })).await;
    let service = one(&objects, "Service");
    let labels = &one(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    for (key, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&labels[key], value);
    }
    assert_ne!(
        labels["app.kubernetes.io/component"], "autoscaler",
        "the controller's selectors must not find it"
    );
    assert!(
        container(&objects)["ports"]
            .as_array()
            .unwrap()
            .iter()
            .any(|port| port["name"] == service["spec"]["ports"][0]["targetPort"])
    );
    let mutating = one(&objects, "MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    let validating = one(&objects, "ValidatingWebhookConfiguration")["webhooks"]
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
    let rights = |objects: &[Value]| -> BTreeSet<String> {
        let texts = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        let roles = objects.iter().filter(|object| object["rules"].is_array());
        let mut rights = BTreeSet::new();
        for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
            let name = texts(&rule["resourceNames"])
                .iter()
                .fold(String::new(), |all, name| format!("{all}/{name}"));
            for resource in texts(&rule["resources"]) {
                rights.extend(
                    texts(&rule["verbs"])
                        .iter()
                        .map(|verb| format!("{resource}{name} {verb}")),
                );
            }
        }
        rights
    };
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
        rights(&webhook(json!({})).await),
        want.map(str::to_owned).into()
    );
    let managed =
        webhook(json!({ "certManager": { "enabled": true, "issuerRef": { "name": "i" } } })).await;
    assert_eq!(
        rights(&managed),
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
    let injected = &one(&managed, "MutatingWebhookConfiguration")["metadata"]["annotations"];
    assert_eq!(injected["cert-manager.io/inject-ca-from"], name.as_str());
    assert_eq!(
        one(&managed, "Certificate")["spec"]["secretName"],
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
