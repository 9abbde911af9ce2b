//! The webhook configurations: where the API server learns which authority the webhook has.
//!
//! The bundle is written wherever it is not there yet, and nothing else of a configuration is ever
//! changed.

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use pd_runtime::rotation::{Publish, RotationError};
use serde_json::{Value, json};

/// The mutating and the validating webhook configuration, both of one name.
#[derive(Clone)]
pub struct Configurations {
    /// The cluster.
    pub client: Client,
    /// The name of both.
    pub name: String,
}

impl std::fmt::Debug for Configurations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configurations")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Publish for Configurations {
    async fn publish(&self, bundle: &str) -> Result<(), RotationError> {
        self.publish_to(bundle, |found: MutatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            webhooks.map(|one| (one.name, one.client_config)).collect()
        })
        .await?;
        self.publish_to(bundle, |found: ValidatingWebhookConfiguration| {
            let webhooks = found.webhooks.unwrap_or_default().into_iter();
            webhooks.map(|one| (one.name, one.client_config)).collect()
        })
        .await
    }
}

impl Configurations {
    async fn publish_to<K>(
        &self,
        bundle: &str,
        webhooks: fn(K) -> Vec<(String, WebhookClientConfig)>,
    ) -> Result<(), RotationError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + k8s_openapi::Resource
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let name = &self.name;
        let api = |what| move |source| RotationError::Api { what, source };
        let configurations = Api::<K>::all(self.client.clone());
        let found = configurations
            .get_opt(name)
            .await
            .map_err(api("a webhook configuration cannot be read"))?
            .ok_or_else(|| {
                RotationError::Publish(format!(
                    "{} `{name}` is not there: install it, or name it with --configuration",
                    K::KIND
                ))
            })?;
        if let Some(patch) = stale(&webhooks(found), bundle) {
            configurations
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
                .map_err(api("a webhook configuration cannot be patched"))?;
        }
        Ok(())
    }
}

/// The patch that gives every webhook the bundle; nothing if all have it.
fn stale(webhooks: &[(String, WebhookClientConfig)], bundle: &str) -> Option<Value> {
    let wanted = ByteString(bundle.as_bytes().to_vec());
    let patches: Vec<Value> = webhooks
        .iter()
        .filter(|(_, config)| config.ca_bundle.as_ref() != Some(&wanted))
        .map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": wanted } }))
        .collect();
    (!patches.is_empty()).then(|| json!({ "webhooks": patches }))
}
