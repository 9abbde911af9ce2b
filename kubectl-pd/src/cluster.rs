//! The cluster: how it is reached, and what is read and changed there.
//!
//! The only file beside the probes of preflight that sends requests. Errors say what was wanted,
//! the API server's own words, and a remedy where there is one.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_runtime::kubernetes::{error_message, install_crypto_provider};
use serde_json::Value;

use crate::{
    args::{ClusterArgs, DryRun},
    controller::{Controller, LABELS, WithLease},
    exit::Exit,
};

/// How long a connection, and the silence of one, may take: somebody waits at a terminal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The name of this program in managed fields.
const FIELD_MANAGER: &str = "kubectl-pd";

/// Why the cluster gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no way to a cluster.
    #[error("no cluster is configured: give --kubeconfig and --context, or set KUBECONFIG ({0})")]
    Config(String),
    /// The configuration cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Client(String),
    /// There is no such object.
    #[error(
        "PDAutoscaler `{name}` is not in namespace `{namespace}`: kubectl pd status -A lists all"
    )]
    NotFound {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The API server does not serve the kind.
    #[error("the cluster does not serve {kind}: {remedy}")]
    NotServed {
        /// The kind.
        kind: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The API server refused, or did not answer.
    #[error("cannot {action}: {cause}")]
    Refused {
        /// The request that was wanted.
        action: String,
        /// The API server's words.
        cause: String,
    },
    /// Somebody changed the object in between.
    #[error("PDAutoscaler `{name}` was changed at the same time: run the command again")]
    Conflict {
        /// The name.
        name: String,
    },
}

impl ClusterError {
    /// How the command ends.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NotFound { .. } => Exit::NotFound,
            _ => Exit::Cluster,
        }
    }
}

/// A cluster, and the namespace that commands are about.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace of the flags or of the context.
    pub namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of the flags.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, ClusterError> {
        install_crypto_provider();
        let mut config = config(args).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // The client would try in silence for minutes; whoever waits would rather read why.
        config.default_retry = false;
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|error| ClusterError::Client(error_message(&error)))?;
        Ok(Self { client, namespace })
    }

    /// The PDAutoscaler `name`.
    pub async fn object(&self, name: &str) -> Result<PDAutoscaler, ClusterError> {
        let objects: Api<PDAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
        match objects.get(name).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if is_of_object(&status) => Err(ClusterError::NotFound {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
            }),
            Err(error) => Err(refused("get pdautoscalers", &error)),
        }
    }

    /// The PDAutoscalers of the namespace, or of all.
    pub async fn objects(
        &self,
        all: bool,
        selector: Option<&str>,
    ) -> Result<Vec<PDAutoscaler>, ClusterError> {
        let objects: Api<PDAutoscaler> = if all {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let params = match selector {
            Some(selector) => ListParams::default().labels(selector),
            None => ListParams::default(),
        };
        let listed = objects.list(&params).await;
        Ok(listed
            .map_err(|error| refused("list pdautoscalers", &error))?
            .items)
    }

    /// Changes the PDAutoscaler `name`; gives it as it is then.
    pub async fn patch(
        &self,
        name: &str,
        patch: &Value,
        dry_run: DryRun,
    ) -> Result<PDAutoscaler, ClusterError> {
        let objects: Api<PDAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PatchParams {
            dry_run: dry_run == DryRun::Server,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match objects.patch(name, &params, &Patch::Merge(patch)).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(ClusterError::Conflict {
                name: name.to_owned(),
            }),
            Err(error) => Err(refused("patch pdautoscalers", &error)),
        }
    }

    /// The objects of another kind in the namespace, as they are.
    pub async fn foreign(
        &self,
        (group, version, kind, plural): (&str, &str, &str, &str),
        remedy: &'static str,
    ) -> Result<Vec<Value>, ClusterError> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let params = ListParams::default();
        match values(&self.client, &self.namespace, &resource, &params).await {
            Ok(listed) => Ok(listed),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let kind = format!("{kind} of {group}/{version}");
                Err(ClusterError::NotServed { kind, remedy })
            }
            Err(error) => Err(refused(&format!("list {plural}"), &error)),
        }
    }

    /// Every controller of the chart, with its Lease where it can be read.
    pub async fn controllers(&self) -> Result<Vec<WithLease>, ClusterError> {
        let deployments: Api<Deployment> = Api::all(self.client.clone());
        let params = ListParams::default().labels(LABELS);
        let listed = deployments.list(&params).await;
        let listed =
            listed.map_err(|error| refused("list deployments in all namespaces", &error))?;
        let with_lease = async |controller: Controller| {
            let lease = match &controller.lease {
                Some((namespace, name)) => self.lease(namespace, name).await,
                None => Ok(None),
            };
            (controller, lease)
        };
        Ok(join_all(listed.items.iter().map(Controller::of).map(with_lease)).await)
    }

    async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        leases
            .get_opt(name)
            .await
            .map_err(|error| error_message(&error))
    }
}

/// The objects of a kind in `namespace`, as they are, each with its kind.
pub async fn values(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    params: &ListParams,
) -> Result<Vec<Value>, kube::Error> {
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let as_value = |object: DynamicObject| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        // Items of a list come without their kind.
        value["apiVersion"] = resource.api_version.as_str().into();
        value["kind"] = resource.kind.as_str().into();
        value
    };
    let listed = objects.list(params).await?;
    Ok(listed.items.into_iter().map(as_value).collect())
}

/// Whether an answer says that there is no such object, and not that the kind is unknown.
fn is_of_object(status: &Status) -> bool {
    status.code == 404 && status.message.contains('"')
}

fn refused(action: &str, error: &kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) if status.code == 404 => ClusterError::NotServed {
            kind: "PDAutoscaler of pdautoscaler.io/v1alpha1".to_owned(),
            remedy: "install the chart with crds.enabled=true, then kubectl pd preflight",
        },
        error => ClusterError::Refused {
            action: action.to_owned(),
            cause: error_message(error),
        },
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let unusable = |error: kube::config::KubeconfigError| ClusterError::Config(error.to_string());
    match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(unusable)
        }
        // In a pod there is no file; a context that is named needs one.
        None if args.context.is_none() => Config::infer()
            .await
            .map_err(|error| ClusterError::Config(error.to_string())),
        None => Config::from_kubeconfig(&options).await.map_err(unusable),
    }
}
