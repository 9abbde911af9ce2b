//! The chart in a real control plane, and the real controller under it ([`super::running`]).
//!
//! The API server itself enforces the restricted Pod Security Standard, KWOK plays the pods, and
//! RBAC answers for the service account. One test goes through the life of a release, because the
//! CRD is the whole cluster's.

use std::time::Duration;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authorization::v1::{ResourceAttributes, SelfSubjectAccessReview},
        core::v1::Namespace as KubernetesNamespace,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use pd_tests::{
    chart::{self, CRD, Installed},
    control_plane::{ControlPlane, Namespace, NodeSpec, config_from, eventually, shared},
};
use serde_json::json;

use super::{parsed, rights::RIGHTS, running::controls};

const DEADLINE: Duration = Duration::from_mins(1);

async fn restricted_namespace<'a>(plane: &'a ControlPlane, prefix: &str) -> Namespace<'a> {
    let namespace = Namespace::create(plane, prefix).await.unwrap();
    let namespaces = Api::<KubernetesNamespace>::all(plane.client().await.unwrap());
    let label =
        json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    namespaces
        .patch(
            namespace.name(),
            &PatchParams::default(),
            &Patch::Merge(&label),
        )
        .await
        .unwrap();
    namespace
}

async fn available(plane: &ControlPlane, installed: &Installed, replicas: i32) {
    let deployments =
        Api::<Deployment>::namespaced(plane.client().await.unwrap(), &installed.namespace);
    eventually(
        "the controller's Deployment to be available",
        DEADLINE,
        async || {
            let found = deployments
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let status = found
                .items
                .into_iter()
                .find_map(|deployment| deployment.status)
                .unwrap_or_default();
            let ready =
                status.available_replicas == Some(replicas) && status.replicas == Some(replicas);
            ready.then_some(()).ok_or_else(|| format!("{status:?}"))
        },
    )
    .await
    .unwrap();
}

/// Whether RBAC lets the client do `right`, which is in the form of [`RIGHTS`].
async fn may(client: &Client, namespace: Option<&str>, right: &str) -> bool {
    let (what, verb) = right.split_once(' ').unwrap();
    let mut parts = what.split('/').map(str::to_owned);
    let (group, resource, rest) = (parts.next(), parts.next(), parts.next());
    let (name, subresource) = match rest.as_deref() {
        Some("scale" | "status") | None => (None, rest),
        Some(_) => (rest, None),
    };
    let attributes = ResourceAttributes {
        group,
        resource,
        subresource,
        name,
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let mut review = SelfSubjectAccessReview::default();
    review.spec.resource_attributes = Some(attributes);
    let answer = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

async fn client_of(installed: &Installed) -> Client {
    let config = config_from(&installed.service_account_kubeconfig)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn an_installed_chart_runs_upgrades_and_leaves_the_crd() {
    let plane = shared().await.unwrap();
    let node = NodeSpec {
        prefix: "chart".to_owned(),
        ..NodeSpec::default()
    };
    plane.add_nodes(&node).await.unwrap();
    let home = restricted_namespace(plane, "chart").await;
    let with_crd = json!({ "crds": { "enabled": true } });
    let installed = chart::install(plane, home.name(), &with_crd).await.unwrap();
    available(plane, &installed, 2).await;
    parsed(&installed.args);
    home.kubectl(&["get", "pda"]).await.unwrap();
    check_rights_everywhere(&installed).await;
    let served = Namespace::create(plane, "served").await.unwrap();
    controls(plane, &installed, &served).await;
    check_rights_in_one_namespace(plane, &served).await;

    installed
        .upgrade(plane, &json!({ "replicas": 1 }))
        .await
        .unwrap();
    available(plane, &installed, 1).await;
    installed.uninstall(plane).await.unwrap();
    let kinds = "deployments,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings";
    let left = home
        .kubectl(&["get", kinds, "--output=name"])
        .await
        .unwrap();
    assert_eq!(left.trim(), "serviceaccount/default");
    let crds = Api::<CustomResourceDefinition>::all(plane.client().await.unwrap());
    assert!(
        crds.get_opt(CRD).await.unwrap().is_some(),
        "the CRD is kept"
    );

    let without_keep = json!({ "crds": { "enabled": true, "keep": false } });
    let again = chart::install(plane, home.name(), &without_keep)
        .await
        .unwrap();
    again.uninstall(plane).await.unwrap();
    assert!(
        crds.get_opt(CRD).await.unwrap().is_none(),
        "the CRD goes when told"
    );
}

async fn check_rights_everywhere(installed: &Installed) {
    let client = client_of(installed).await;
    let own = Some(installed.namespace.as_str());
    for right in &RIGHTS {
        // The lease is named after the release.
        let right = right.replace("/pd-pd-", &format!("/{}-pd-", installed.release));
        let right = right.as_str();
        assert!(may(&client, own, right).await, "{right}");
        let everywhere = may(&client, None, right).await;
        assert_eq!(
            everywhere,
            !right.contains("leases"),
            "{right} in all namespaces"
        );
    }
    let never = [
        "/secrets get",
        "/pods delete",
        "apps/deployments patch",
        "/nodes list",
        "coordination.k8s.io/leases/other update",
    ];
    for right in never {
        assert!(!may(&client, own, right).await, "{right}");
    }
}

/// Installs a second release, which handles the namespace `watched` alone.
async fn check_rights_in_one_namespace(plane: &ControlPlane, watched: &Namespace<'_>) {
    let own = restricted_namespace(plane, "chart").await;
    let values = json!({ "watchNamespace": watched.name() });
    let installed = chart::install(plane, own.name(), &values).await.unwrap();
    available(plane, &installed, 2).await;
    let client = client_of(&installed).await;
    let scale = "apps/deployments/scale patch";
    assert!(may(&client, Some(watched.name()), scale).await);
    assert!(!may(&client, Some(own.name()), scale).await);
    assert!(
        may(
            &client,
            Some(own.name()),
            "coordination.k8s.io/leases create"
        )
        .await
    );
    controls(plane, &installed, watched).await;
    installed.uninstall(plane).await.unwrap();
}
