//! A namespace of its own for each test on a shared cluster.
//!
//! Deleting it at the end is a courtesy to the tests that follow (its pods give their GPUs back);
//! the cluster's end removes it in any case. So failing to delete it fails no test.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace as KubernetesNamespace, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use tokio::{runtime::Builder, time::timeout};

use super::{ControlPlane, error::ControlPlaneError, readiness::eventually};
use crate::supervisor::keeps_files;

/// A fresh namespace, deleted when dropped (unless `PD_KEEP` is set).
#[derive(Debug)]
pub struct Namespace<'a> {
    plane: &'a ControlPlane,
    name: String,
}

impl<'a> Namespace<'a> {
    /// Makes a namespace whose name begins with `prefix`, ready for pods (its default service
    /// account is there).
    pub async fn create(plane: &'a ControlPlane, prefix: &str) -> Result<Self, ControlPlaneError> {
        let client = plane.client().await?;
        let wanted = KubernetesNamespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..ObjectMeta::default()
            },
            ..KubernetesNamespace::default()
        };
        let namespaces = Api::<KubernetesNamespace>::all(client.clone());
        let made = namespaces.create(&PostParams::default(), &wanted).await?;
        let namespace = Self {
            plane,
            name: made.metadata.name.unwrap_or_default(),
        };
        if plane.options().controller_manager {
            let accounts = Api::<ServiceAccount>::namespaced(client, &namespace.name);
            let deadline = Duration::from_secs(30);
            eventually("the default service account", deadline, async || {
                accounts
                    .get("default")
                    .await
                    .map_err(|error| error.to_string())
            })
            .await?;
        }
        Ok(namespace)
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn plane(&self) -> &'a ControlPlane {
        self.plane
    }

    /// A new administrator's client whose default namespace is this one.
    pub async fn client(&self) -> Result<Client, ControlPlaneError> {
        self.plane.client_in(&self.name).await
    }

    /// Runs kubectl in this namespace and gives its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, ControlPlaneError> {
        let arguments: Vec<&str> = ["--namespace", &self.name]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        self.plane.kubectl(&arguments).await
    }

    /// Applies manifests (YAML or JSON) in this namespace.
    pub async fn apply(&self, manifests: &str) -> Result<String, ControlPlaneError> {
        let arguments = [
            "--namespace",
            &self.name,
            "apply",
            "--server-side",
            "--filename=-",
        ];
        self.plane.kubectl_with_input(&arguments, manifests).await
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if keeps_files() {
            return;
        }
        // The runtime of the test is ending, so the request gets one of its own.
        let (plane, name) = (self.plane, &self.name);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                    let limit = Duration::from_secs(5);
                    let _ = runtime.block_on(async { timeout(limit, delete(plane, name)).await });
                }
            });
        });
    }
}

async fn delete(plane: &ControlPlane, name: &str) -> Result<(), ControlPlaneError> {
    let namespaces = Api::<KubernetesNamespace>::all(plane.client().await?);
    namespaces.delete(name, &DeleteParams::background()).await?;
    Ok(())
}
