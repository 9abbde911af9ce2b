//! Which pods are sent here because of the roles they play: those of workloads, in namespaces where
//! some role has tolerations to give.
//!
//! Nobody can know from a pod alone whether a PDAutoscaler means it, and to be sent every pod of a
//! cluster would put this process in everybody's way. So the webhook of the roles is not in the
//! chart: it is added to the configuration when the first role states tolerations, is made for
//! exactly the namespaces of such roles, and goes with the last of them. It is a copy of the one
//! for pods, but that a failure of it is ignored, since not all pods of these namespaces are ours.
//!
//! Every replica does the same. Namespaces are added as soon as they are known, and taken out only
//! after another look at them, so that a replica whose watch is behind takes nothing from the
//! others.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use pd_api::v1alpha1::PDAutoscaler;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

/// The webhook that is copied.
const PODS: &str = "pods.webhook.pdautoscaler.io";
/// The webhook of the roles.
const ROLES: &str = "roles.webhook.pdautoscaler.io";
/// The condition of the one for pods, which says that a pod is sent there.
const NUMERIC: &str = "numeric-tolerations";
/// A pod that a workload's controller made.
const OF_A_WORKLOAD: &str = "object.?metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) \
     && o.apiVersion.startsWith('apps/') && o.kind in ['ReplicaSet', 'StatefulSet'])";
/// The label that every namespace has.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Time between two looks at the configuration, which others may have changed.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time to the next try after a failed one.
const RETRY: Duration = Duration::from_secs(1);
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// Why the configuration is not as it is to be.
#[derive(Debug, thiserror::Error)]
enum ScopeError {
    #[error("{what}: {source}")]
    Api {
        what: &'static str,
        source: kube::Error,
    },
    #[error(
        "MutatingWebhookConfiguration `{0}` has no webhook {PODS}: install the chart's, or name it with --configuration"
    )]
    NoPods(String),
    #[error("the API server did not answer in {} s", STEP_LIMIT.as_secs())]
    Slow,
}

/// Keeps the webhook of the roles as the PDAutoscalers need it, until the future is dropped.
/// `giving` has the namespaces with tolerations to give, once they are known; `configuration` is
/// the name of the configuration.
pub async fn keep(
    client: Client,
    configuration: String,
    mut giving: watch::Receiver<Option<BTreeSet<String>>>,
) {
    let scope = Scope {
        client,
        configuration,
    };
    let mut is_failing = false;
    loop {
        let wanted = giving.borrow_and_update().clone();
        let step = match wanted {
            None => Ok(()),
            Some(wanted) => timeout(STEP_LIMIT, scope.bring_to(wanted))
                .await
                .unwrap_or(Err(ScopeError::Slow)),
        };
        let pause = match step {
            Ok(()) => INTERVAL,
            Err(_) => RETRY,
        };
        if let Err(error) = &step
            && !is_failing
        {
            tracing::warn!(%error, "pods are not sent for the tolerations of their roles");
        }
        is_failing = step.is_err();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = giving.changed() => {
                if changed.is_err() {
                    // Whoever knew is gone with the process.
                    return;
                }
            }
        }
    }
}

struct Scope {
    client: Client,
    configuration: String,
}

impl Scope {
    async fn bring_to(&self, mut wanted: BTreeSet<String>) -> Result<(), ScopeError> {
        let api = |what| move |source| ScopeError::Api { what, source };
        let configurations = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let found = configurations
            .get(&self.configuration)
            .await
            .map_err(api("the webhook configuration cannot be read"))?;
        let webhooks = found.webhooks.unwrap_or_default();
        for namespace in sent(&webhooks).difference(&wanted.clone()) {
            if self.gives(namespace).await? {
                wanted.insert(namespace.clone());
            }
        }
        let pods = webhooks.iter().find(|one| one.name == PODS);
        let pods = pods.ok_or_else(|| ScopeError::NoPods(self.configuration.clone()))?;
        let is_there = webhooks.iter().find(|one| one.name == ROLES);
        let Some(change) = change(pods, is_there, &wanted) else {
            return Ok(());
        };
        let patch = Patch::Strategic(json!({ "webhooks": [change] }));
        configurations
            .patch(&self.configuration, &PatchParams::default(), &patch)
            .await
            .map_err(api("the webhook configuration cannot be patched"))?;
        tracing::info!(namespaces = ?wanted, "pods are sent for the tolerations of their roles");
        Ok(())
    }

    /// Whether a role in the namespace has tolerations to give, by the API server's newest
    /// knowledge.
    async fn gives(&self, namespace: &str) -> Result<bool, ScopeError> {
        let objects = Api::<PDAutoscaler>::namespaced(self.client.clone(), namespace);
        let listed = objects.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| ScopeError::Api {
            what: "PDAutoscalers cannot be listed",
            source,
        })?;
        Ok(listed.items.iter().any(|object| {
            let roles = [&object.spec.prefill, &object.spec.decode];
            roles
                .iter()
                .any(|role| !role.numeric_tolerations.is_empty())
        }))
    }
}

/// The namespaces whose pods are sent now.
fn sent(webhooks: &[MutatingWebhook]) -> BTreeSet<String> {
    let roles = webhooks.iter().find(|one| one.name == ROLES);
    let selector = roles.and_then(|one| one.namespace_selector.as_ref());
    selector
        .and_then(|selector| selector.match_expressions.as_ref())
        .into_iter()
        .flatten()
        .filter(|rule| rule.key == NAMESPACE && rule.operator == "In")
        .flat_map(|rule| rule.values.clone().unwrap_or_default())
        .collect()
}

/// The patch of the list of webhooks that is needed; nothing if all is as it is to be.
fn change(
    pods: &MutatingWebhook,
    is_there: Option<&MutatingWebhook>,
    namespaces: &BTreeSet<String>,
) -> Option<Value> {
    if namespaces.is_empty() {
        return is_there.map(|_| json!({ "name": ROLES, "$patch": "delete" }));
    }
    let wanted = roles(pods, namespaces);
    (is_there != Some(&wanted)).then(|| json!(wanted))
}

/// The webhook of the roles, made from that of the pods.
fn roles(pods: &MutatingWebhook, namespaces: &BTreeSet<String>) -> MutatingWebhook {
    let selector = pods.namespace_selector.clone().unwrap_or_default();
    let mut rules = selector.match_expressions.unwrap_or_default();
    rules.push(LabelSelectorRequirement {
        key: NAMESPACE.to_owned(),
        operator: "In".to_owned(),
        values: Some(namespaces.iter().cloned().collect()),
    });
    let condition = |name: &str, expression: String| MatchCondition {
        name: name.to_owned(),
        expression,
    };
    let mut conditions = vec![condition("of-a-workload", OF_A_WORKLOAD.to_owned())];
    // A pod with numbers of its own is sent to the other one, which gives the same.
    let numeric = pods.match_conditions.iter().flatten();
    conditions.extend(
        numeric
            .filter(|one| one.name == NUMERIC)
            .map(|one| condition("not-numeric", format!("!({})", one.expression))),
    );
    MutatingWebhook {
        name: ROLES.to_owned(),
        failure_policy: Some("Ignore".to_owned()),
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(rules),
            ..selector
        }),
        match_conditions: Some(conditions),
        rules: pods.rules.as_ref().map(|rules| {
            let created = |rule: &RuleWithOperations| RuleWithOperations {
                operations: Some(vec!["CREATE".to_owned()]),
                ..rule.clone()
            };
            rules.iter().map(created).collect()
        }),
        ..pods.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> MutatingWebhook {
        serde_json::from_value(json!({
            "name": PODS, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 2,
            "clientConfig": { "service": { "name": "w", "namespace": "n", "path": "/mutate" }, "caBundle": "eA==" },
            "namespaceSelector": { "matchExpressions": [{ "key": NAMESPACE, "operator": "NotIn", "values": ["n"] }] },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE", "UPDATE"] }],
            "matchConditions": [{ "name": NUMERIC, "expression": "a || b" }, { "name": "changed", "expression": "c" }],
        }))
        .unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn pods_are_sent_from_exactly_the_namespaces_that_give() {
        assert_eq!(change(&pods(), None, &names(&[])), None);
        let made = change(&pods(), None, &names(&["b", "a"])).unwrap();
        let made: MutatingWebhook = serde_json::from_value(made).unwrap();
        assert_eq!(made.name, ROLES);
        assert_eq!(made.failure_policy.as_deref(), Some("Ignore"));
        assert_eq!(made.client_config, pods().client_config);
        let all = [pods(), made.clone()];
        assert_eq!(sent(&all), names(&["a", "b"]));
        assert_eq!(sent(&all[..1]), names(&[]));
        let selector = made.namespace_selector.clone().unwrap();
        assert_eq!(selector.match_expressions.unwrap()[0].operator, "NotIn");
        assert_eq!(
            made.rules.as_ref().unwrap()[0].operations,
            Some(vec!["CREATE".to_owned()])
        );
        let conditions = made.match_conditions.clone().unwrap();
        assert_eq!(conditions[1].expression, "!(a || b)");
        assert_eq!(
            change(&pods(), Some(&made), &names(&["a", "b"])),
            None,
            "twice"
        );
        assert!(change(&pods(), Some(&made), &names(&["a"])).is_some());
        let gone = change(&pods(), Some(&made), &names(&[])).unwrap();
        assert_eq!(gone["$patch"], "delete");
        assert_eq!(gone["name"], ROLES);
    }
}
