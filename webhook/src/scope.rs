//! Which pods are sent here because of what PDAutoscalers say of them: those of workloads, in
//! namespaces where some role has tolerations to give, or some PDAutoscaler asks for placement.
//!
//! Nobody can know from a pod alone whether a PDAutoscaler means it, and to be sent every pod of a
//! cluster would put this process in everybody's way. So the webhooks of the roles and of the
//! groups are not in the chart: each is added to the configuration for the first PDAutoscaler that
//! needs it, is made for exactly the namespaces of such, and goes with the last of them. It is a
//! copy of one that the chart has, but that a failure of it is ignored, since not all pods of these
//! namespaces are ours.
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
use pd_api::v1alpha1::{PDAutoscaler, PDAutoscalerSpec, placement_group::GROUP_LABEL};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::claims::Wanted;

/// The webhook that is copied for roles.
const PODS: &str = "pods.webhook.pdautoscaler.io";
/// The webhook of the roles.
const ROLES: &str = "roles.webhook.pdautoscaler.io";
/// The webhook that is copied for groups: the chart has it where groups are placed.
const PLACEMENT: &str = "placement.webhook.pdautoscaler.io";
/// The webhook of the groups.
const GROUPS: &str = "groups.webhook.pdautoscaler.io";
/// The condition of the one for pods, which says that a pod is sent there.
const NUMERIC: &str = "numeric-tolerations";
/// A pod that a workload's controller made.
const OF_A_WORKLOAD: &str = "object.?metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false) \
     && o.apiVersion.startsWith('apps/') && o.kind in ['ReplicaSet', 'StatefulSet'])";
/// A pod that some controller made, of whatever system.
const OF_A_CONTROLLER: &str =
    "object.?metadata.?ownerReferences.orValue([]).exists(o, o.?controller.orValue(false))";
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

/// A webhook that is made as PDAutoscalers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// Gives pods the tolerations of their roles.
    Roles,
    /// Has pods join the groups of their PDAutoscalers.
    Groups,
}

impl Copied {
    const ALL: [Self; 2] = [Self::Roles, Self::Groups];

    const fn name(self) -> &'static str {
        match self {
            Self::Roles => ROLES,
            Self::Groups => GROUPS,
        }
    }

    /// The webhook that it is made from.
    const fn source(self) -> &'static str {
        match self {
            Self::Roles => PODS,
            Self::Groups => PLACEMENT,
        }
    }

    /// Its namespaces.
    fn of(self, wanted: &Wanted) -> &BTreeSet<String> {
        match self {
            Self::Roles => &wanted.tolerations,
            Self::Groups => &wanted.groups,
        }
    }

    /// Whether it is needed for a PDAutoscaler.
    fn is_for(self, spec: &PDAutoscalerSpec) -> bool {
        match self {
            Self::Roles => {
                let roles = [&spec.prefill, &spec.decode];
                roles
                    .iter()
                    .any(|role| !role.numeric_tolerations.is_empty())
            }
            Self::Groups => spec.asks_for_placement(),
        }
    }

    /// It, for `namespaces`.
    fn made(self, source: &MutatingWebhook, namespaces: &BTreeSet<String>) -> MutatingWebhook {
        let selector = source.namespace_selector.clone().unwrap_or_default();
        let mut rules = selector.match_expressions.unwrap_or_default();
        rules.push(LabelSelectorRequirement {
            key: NAMESPACE.to_owned(),
            operator: "In".to_owned(),
            values: Some(namespaces.iter().cloned().collect()),
        });
        MutatingWebhook {
            name: self.name().to_owned(),
            failure_policy: Some("Ignore".to_owned()),
            namespace_selector: Some(LabelSelector {
                match_expressions: Some(rules),
                ..selector
            }),
            object_selector: match self {
                Self::Roles => source.object_selector.clone(),
                // A pod with a label of its own is sent to the other one.
                Self::Groups => Some(LabelSelector {
                    match_expressions: Some(vec![LabelSelectorRequirement {
                        key: GROUP_LABEL.to_owned(),
                        operator: "DoesNotExist".to_owned(),
                        values: None,
                    }]),
                    match_labels: None,
                }),
            },
            match_conditions: Some(self.conditions(source)),
            rules: source.rules.as_ref().map(|rules| {
                let created = |rule: &RuleWithOperations| RuleWithOperations {
                    operations: Some(vec!["CREATE".to_owned()]),
                    ..rule.clone()
                };
                rules.iter().map(created).collect()
            }),
            ..source.clone()
        }
    }

    fn conditions(self, source: &MutatingWebhook) -> Vec<MatchCondition> {
        let condition = |name: &str, expression: String| MatchCondition {
            name: name.to_owned(),
            expression,
        };
        match self {
            Self::Roles => {
                let mut conditions = vec![condition("of-a-workload", OF_A_WORKLOAD.to_owned())];
                // A pod with numbers of its own is sent to the other one, which gives the same.
                let numeric = source.match_conditions.iter().flatten();
                conditions.extend(
                    numeric
                        .filter(|one| one.name == NUMERIC)
                        .map(|one| condition("not-numeric", format!("!({})", one.expression))),
                );
                conditions
            }
            Self::Groups => vec![condition("of-a-controller", OF_A_CONTROLLER.to_owned())],
        }
    }
}

/// Keeps these webhooks as the PDAutoscalers need them, until the future is dropped. `wanted` has
/// the namespaces, once they are known; `configuration` is the name of the configuration.
pub async fn keep(
    client: Client,
    configuration: String,
    mut wanted: watch::Receiver<Option<Wanted>>,
) {
    let scope = Scope {
        client,
        configuration,
    };
    let mut is_failing = false;
    loop {
        let now = wanted.borrow_and_update().clone();
        let step = match now {
            None => Ok(()),
            Some(now) => timeout(STEP_LIMIT, scope.bring_to(&now))
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
            tracing::warn!(%error, "pods are not sent for what PDAutoscalers say of them");
        }
        is_failing = step.is_err();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = wanted.changed() => {
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
    async fn bring_to(&self, wanted: &Wanted) -> Result<(), ScopeError> {
        let api = |what| move |source| ScopeError::Api { what, source };
        let configurations = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let found = configurations
            .get(&self.configuration)
            .await
            .map_err(api("the webhook configuration cannot be read"))?;
        let webhooks = found.webhooks.unwrap_or_default();
        if !webhooks.iter().any(|one| one.name == PODS) {
            return Err(ScopeError::NoPods(self.configuration.clone()));
        }
        let mut changes = Vec::new();
        for copied in Copied::ALL {
            let mut namespaces = copied.of(wanted).clone();
            for namespace in sent(&webhooks, copied).difference(&namespaces.clone()) {
                if self.needs(copied, namespace).await? {
                    namespaces.insert(namespace.clone());
                }
            }
            changes.extend(change(&webhooks, copied, &namespaces));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({ "webhooks": changes }));
        configurations
            .patch(&self.configuration, &PatchParams::default(), &patch)
            .await
            .map_err(api("the webhook configuration cannot be patched"))?;
        tracing::info!(?wanted, "pods are sent for what PDAutoscalers say of them");
        Ok(())
    }

    /// Whether a PDAutoscaler in the namespace needs it, by the API server's newest knowledge.
    async fn needs(&self, copied: Copied, namespace: &str) -> Result<bool, ScopeError> {
        let objects = Api::<PDAutoscaler>::namespaced(self.client.clone(), namespace);
        let listed = objects.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| ScopeError::Api {
            what: "PDAutoscalers cannot be listed",
            source,
        })?;
        Ok(listed
            .items
            .iter()
            .any(|object| copied.is_for(&object.spec)))
    }
}

/// The namespaces whose pods are sent now.
fn sent(webhooks: &[MutatingWebhook], copied: Copied) -> BTreeSet<String> {
    let found = webhooks.iter().find(|one| one.name == copied.name());
    let selector = found.and_then(|one| one.namespace_selector.as_ref());
    selector
        .and_then(|selector| selector.match_expressions.as_ref())
        .into_iter()
        .flatten()
        .filter(|rule| rule.key == NAMESPACE && rule.operator == "In")
        .flat_map(|rule| rule.values.clone().unwrap_or_default())
        .collect()
}

/// The patch of the list of webhooks that is needed; nothing if all is as it is to be. Without the
/// webhook that is copied, such as where groups are not placed, there is none to make.
fn change(
    webhooks: &[MutatingWebhook],
    copied: Copied,
    namespaces: &BTreeSet<String>,
) -> Option<Value> {
    let named = |name: &str| webhooks.iter().find(|one| one.name == name);
    let is_there = named(copied.name());
    let source = named(copied.source()).filter(|_| !namespaces.is_empty());
    let Some(source) = source else {
        return is_there.map(|_| json!({ "name": copied.name(), "$patch": "delete" }));
    };
    let wanted = copied.made(source, namespaces);
    (is_there != Some(&wanted)).then(|| json!(wanted))
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

    /// As the chart has it where groups are placed.
    fn placement() -> MutatingWebhook {
        let labelled = json!([{ "key": GROUP_LABEL, "operator": "Exists" }]);
        let mut placement = json!(pods());
        placement["name"] = json!(PLACEMENT);
        placement["clientConfig"]["service"]["path"] = json!("/hold");
        placement["objectSelector"] = json!({ "matchExpressions": labelled });
        placement["matchConditions"] = Value::Null;
        serde_json::from_value(placement).unwrap()
    }

    fn made(
        webhooks: &[MutatingWebhook],
        copied: Copied,
        namespaces: &[&str],
    ) -> Option<MutatingWebhook> {
        let made = change(webhooks, copied, &names(namespaces))?;
        Some(serde_json::from_value(made).unwrap())
    }

    #[test]
    fn pods_are_sent_from_exactly_the_namespaces_that_give() {
        for copied in Copied::ALL {
            let mut all = vec![pods(), placement()];
            assert_eq!(change(&all, copied, &names(&[])), None);
            let made = made(&all, copied, &["b", "a"]).unwrap();
            assert_eq!(made.name, copied.name());
            assert_eq!(made.failure_policy.as_deref(), Some("Ignore"));
            let source = all.iter().find(|one| one.name == copied.source()).unwrap();
            assert_eq!(made.client_config, source.client_config);
            let selector = made.namespace_selector.clone().unwrap();
            assert_eq!(selector.match_expressions.unwrap()[0].operator, "NotIn");
            assert_eq!(
                made.rules.as_ref().unwrap()[0].operations,
                Some(vec!["CREATE".to_owned()])
            );
            assert_eq!(sent(&all, copied), names(&[]));
            all.push(made);
            assert_eq!(sent(&all, copied), names(&["a", "b"]));
            assert_eq!(change(&all, copied, &names(&["a", "b"])), None, "twice");
            assert!(change(&all, copied, &names(&["a"])).is_some());
            let gone = change(&all, copied, &names(&[])).unwrap();
            assert_eq!(gone["$patch"], "delete");
            assert_eq!(gone["name"], copied.name());
        }
    }

    #[test]
    fn a_pod_goes_to_one_of_two_webhooks() {
        let all = [pods(), placement()];
        let roles = made(&all, Copied::Roles, &["a"]).unwrap();
        let conditions = roles.match_conditions.unwrap();
        assert_eq!(conditions[1].expression, "!(a || b)");
        let groups = made(&all, Copied::Groups, &["a"]).unwrap();
        let selector = groups.object_selector.unwrap().match_expressions.unwrap();
        assert_eq!(selector[0].operator, "DoesNotExist");
        assert_eq!(groups.match_conditions.unwrap().len(), 1);
    }

    #[test]
    fn where_groups_are_not_placed_no_pod_is_sent_to_join_one() {
        let all = [pods()];
        assert_eq!(change(&all, Copied::Groups, &names(&["a"])), None);
        let left = made(&[pods(), placement()], Copied::Groups, &["a"]).unwrap();
        let gone = change(&[pods(), left], Copied::Groups, &names(&["a"])).unwrap();
        assert_eq!(gone["$patch"], "delete");
    }
}
