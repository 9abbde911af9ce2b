//! The questions of preflight to a cluster. Nothing is changed: access reviews are answers, not
//! objects.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::{PerRole, Role};
use pd_runtime::{
    kubernetes::error_message,
    prometheus::{PrometheusArgs, Servers},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    judge::{Facts, Rights, Seen, VERSION, Workload, kinds},
    rights::{Right, of_controller, of_user},
    series::{Series, labels, query, service},
    workload::{Lists, workload},
};
use crate::{cluster::Cluster, controller::Controller};

/// Looks at everything; `all` looks at the PDAutoscalers of all namespaces.
pub async fn look(cluster: &Cluster, all: bool, prometheus: &PrometheusArgs) -> Facts {
    let objects = cluster
        .objects(all, None)
        .await
        .map_err(|error| error.to_string());
    let controllers = cluster
        .controllers()
        .await
        .map_err(|error| error.to_string());
    let found: Vec<&Controller> = controllers
        .iter()
        .flatten()
        .map(|(controller, _)| controller)
        .collect();
    let namespace = if all { "" } else { cluster.namespace.as_str() };
    let listed: Vec<&PDAutoscaler> = objects.iter().flatten().collect();
    let controller_rights = join_all(
        found
            .iter()
            .map(|controller| rights_of(&cluster.client, controller, &listed)),
    );
    let lists = Lists::default();
    let workloads = join_all(
        listed
            .iter()
            .map(|object| workloads(&cluster.client, &lists, object)),
    );
    let (served, own_rights, controller_rights, workloads, prometheus) = futures::join!(
        served(&cluster.client),
        own_rights(&cluster.client, of_user(namespace)),
        controller_rights,
        workloads,
        servers(&cluster.client, &found, prometheus),
    );
    Facts {
        served,
        controllers,
        own_rights,
        controller_rights,
        prometheus,
        objects,
        workloads,
    }
}

/// The resources of our group and version that the API server serves.
async fn served(client: &Client) -> Seen<Option<BTreeSet<String>>> {
    let version = format!("{}/{VERSION}", pd_api::v1alpha1::GROUP);
    match client.list_api_group_resources(&version).await {
        Ok(list) => Ok(Some(
            list.resources.into_iter().map(|one| one.name).collect(),
        )),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error_message(&error)),
    }
}

async fn own_rights(client: &Client, rights: Vec<Right>) -> Rights {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let ask = async |right: Right| {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes(&right)),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        (right, allowed(answer.map(|review| review.status)))
    };
    join_all(rights.into_iter().map(ask)).await
}

/// The rights of a controller's service account for the objects that it handles.
async fn rights_of(
    client: &Client,
    controller: &Controller,
    objects: &[&PDAutoscaler],
) -> (String, Rights) {
    let account = format!(
        "system:serviceaccount:{}:{}",
        controller.namespace, controller.service_account
    );
    let handled = objects
        .iter()
        .copied()
        .filter(|object| controller.handles(object));
    let namespace = controller.watch_namespace.clone().unwrap_or_default();
    let rights = of_controller(&namespace, &kinds(handled));
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let ask = async |right: Right| {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(account.clone()),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{}", controller.namespace),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(attributes(&right)),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        (right, allowed(answer.map(|review| review.status)))
    };
    let answers = join_all(rights.into_iter().map(ask)).await;
    (
        format!("{}/{}", controller.namespace, controller.service_account),
        answers,
    )
}

/// Whether a review allows it, or why that cannot be seen.
fn allowed(answer: Result<Option<SubjectAccessReviewStatus>, kube::Error>) -> Seen<bool> {
    match answer {
        Ok(status) => Ok(status.is_some_and(|status| status.allowed)),
        Err(error) => Err(error_message(&error)),
    }
}

fn attributes(right: &Right) -> ResourceAttributes {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(right.group.to_owned()),
        resource: Some(right.resource.to_owned()),
        subresource: some(right.subresource),
        namespace: some(&right.namespace),
        ..ResourceAttributes::default()
    }
}

async fn workloads(
    client: &Client,
    lists: &Lists,
    object: &PDAutoscaler,
) -> (String, String, PerRole<Workload>) {
    let namespace = object.namespace().unwrap_or_default();
    let of = |role: Role| {
        let target = &object.spec.role(role).target;
        workload(client, lists, &namespace, target, role)
    };
    let (prefill, decode) = futures::join!(of(Role::Prefill), of(Role::Decode));
    (namespace, object.name_any(), PerRole { prefill, decode })
}

/// The series at the server of the flags, or at those of the controllers.
async fn servers(
    client: &Client,
    controllers: &[&Controller],
    flags: &PrometheusArgs,
) -> Vec<(String, Seen<Series>)> {
    let labels = controllers.first().map_or(("namespace", "pod"), |first| {
        (first.namespace_label.as_str(), first.pod_label.as_str())
    });
    if let Some(endpoint) = flags.endpoint() {
        let servers = Servers::new(
            flags.prometheus_timeout,
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
        );
        let answer = servers.query(&endpoint, &query(labels.0, labels.1)).await;
        let series = answer.map(|answer| {
            let found = answer.values.iter().map(|sample| &sample.labels);
            Series::of(found, labels.0, labels.1)
        });
        return vec![(
            endpoint.url.clone(),
            series.map_err(|error| error.to_string()),
        )];
    }
    let addresses: BTreeMap<&str, (&str, &str)> = controllers
        .iter()
        .filter_map(|one| {
            let labels = (one.namespace_label.as_str(), one.pod_label.as_str());
            Some((one.prometheus_url.as_deref()?, labels))
        })
        .collect();
    let ask = async |(address, labels): (&str, (&str, &str))| {
        // An address may hold a login, which nobody shall see.
        let shown = address.rsplit('@').next().unwrap_or(address).to_owned();
        (shown, through_api_server(client, address, labels).await)
    };
    join_all(addresses.into_iter().map(ask)).await
}

/// Asks a server of the cluster through the API server's proxy for services.
async fn through_api_server(
    client: &Client,
    address: &str,
    (namespace_label, pod_label): (&str, &str),
) -> Seen<Series> {
    let Some((namespace, service, path)) = service(address) else {
        return Err("it is no Service of the cluster, and is not asked from here".to_owned());
    };
    let query =
        utf8_percent_encode(&query(namespace_label, pod_label), NON_ALPHANUMERIC).to_string();
    let path = format!(
        "/api/v1/namespaces/{namespace}/services/{service}/proxy{path}/api/v1/query?query={query}"
    );
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| error.to_string())?;
    let answer = client.request::<serde_json::Value>(request).await;
    let answer = answer.map_err(|error| error_message(&error))?;
    let found = labels(&answer)?;
    Ok(Series::of(&found, namespace_label, pod_label))
}
