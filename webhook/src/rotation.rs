//! Keeps the certificate current: the own one through a Secret and the webhook configurations, another's from files.
//!
//! Every replica does the same at every interval: read the Secret, ask [`Chain::next`] what it must become, write that if
//! nobody else was faster, put the bundle into the configurations, and only then serve the certificate. There is no leader:
//! the Secret's resource version decides who renews. A replica that cannot reach the API server serves what it has.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use pd_runtime::readiness::ReadinessHandle;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    args::CertificateArgs,
    certificates::{CertificateError, Chain, Terms},
    metrics::Metrics,
    tls::{Certificates, TlsError},
};

/// Key of the Secret that holds the state.
const STATE: &str = "state.json";
/// Key of the Secret that holds the bundle, for people.
const BUNDLE: &str = "ca.crt";
/// Time to the next try after a failed one.
const RETRY: Duration = Duration::from_secs(1);
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// Why the certificate is not current.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The API server refused or was not reached.
    #[error("{what}: {source}")]
    Api {
        /// What was wanted.
        what: &'static str,
        /// What came.
        source: kube::Error,
    },
    /// A configuration is missing.
    #[error("{kind} `{name}` is not there: install it, or name it with --configuration")]
    NoConfiguration {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The API server takes too long.
    #[error("the API server did not answer in {} s", STEP_LIMIT.as_secs())]
    Slow,
}

/// Who keeps the certificate current, and where it goes.
pub struct Rotation {
    /// The cluster.
    pub client: Client,
    /// Flags.
    pub args: CertificateArgs,
    /// The webhook's namespace.
    pub namespace: String,
    /// Where the certificate goes.
    pub certificates: Certificates,
    /// What is told.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Rotation");
        shown
            .field("args", &self.args)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Rotation {
    /// Keeps the certificate current until the future is dropped.
    pub async fn keep(self, ready: ReadinessHandle) {
        let mut is_failing = false;
        loop {
            let step = match (&self.args.tls_certificate_file, &self.args.tls_key_file) {
                (Some(certificate), Some(key)) => self.read_files(certificate, key).await,
                _ => match timeout(STEP_LIMIT, self.own()).await {
                    Ok(step) => step,
                    Err(_) => Err(RotationError::Slow),
                },
            };
            let pause = match step {
                Ok(()) => {
                    is_failing = false;
                    ready.set_ready();
                    self.args.certificate_interval
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "the certificate cannot be kept current");
                    }
                    is_failing = true;
                    if !self.certificates.is_set() {
                        ready.set_waiting(format!("no certificate yet: {error}"));
                    }
                    RETRY.min(self.args.certificate_interval)
                }
            };
            sleep(pause).await;
        }
    }

    async fn read_files(&self, certificate: &Path, key: &Path) -> Result<(), RotationError> {
        let read = async |path: &Path| {
            tokio::fs::read(path)
                .await
                .map_err(|source| RotationError::File {
                    path: path.display().to_string(),
                    source,
                })
        };
        let (certificate, key) = (read(certificate).await?, read(key).await?);
        if self.certificates.set(&certificate, &key)? {
            tracing::info!("certificate read from file");
        }
        Ok(())
    }

    async fn own(&self) -> Result<(), RotationError> {
        let chain = self.current().await?;
        self.publish(&chain.bundle()).await?;
        let (certificate, key) = (&chain.serving.certificate, &chain.serving.key);
        if self
            .certificates
            .set(certificate.as_bytes(), key.as_bytes())?
        {
            tracing::info!(
                ends = chain.serving.ends,
                signed_by = chain.signed_by,
                authorities = chain.authorities.len(),
                "certificate served"
            );
        }
        self.metrics.certificate_ends(chain.serving.ends);
        Ok(())
    }

    fn terms(&self) -> Terms {
        let (service, namespace) = (&self.args.service, &self.namespace);
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Terms {
            names: vec![
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}"),
                service.clone(),
                format!("{service}.{namespace}.svc.cluster.local"),
            ],
            authority_seconds: seconds(self.args.authority_validity),
            certificate_seconds: seconds(self.args.certificate_validity),
            overlap_seconds: seconds(self.args.authority_overlap),
        }
    }

    /// The chain that is in the Secret now, renewed if it was due.
    async fn current(&self) -> Result<Chain, RotationError> {
        let api = |what| move |source| RotationError::Api { what, source };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let name = &self.args.certificate_secret;
        let secret = secrets
            .get_opt(name)
            .await
            .map_err(api("the Secret cannot be read"))?;
        let known = secret.as_ref().and_then(stored);
        let now = now();
        let next = match Chain::next(known.as_ref(), &self.terms(), now) {
            // A key that somebody broke: there is nothing to be kept.
            Err(CertificateError::Make(_)) => Some(Chain::new(&self.terms(), now)?),
            next => next?,
        };
        let Some(next) = next else {
            return match known {
                Some(known) => Ok(known),
                None => Ok(Chain::new(&self.terms(), now)?),
            };
        };
        let version = secret
            .as_ref()
            .and_then(|secret| secret.metadata.resource_version.clone());
        let wanted = self.secret(&next, secret);
        let written = match version {
            Some(_) => secrets.replace(name, &PostParams::default(), &wanted).await,
            None => secrets.create(&PostParams::default(), &wanted).await,
        };
        // A conflict means that another replica was faster: its chain is read at the next try.
        written.map_err(api("the Secret cannot be written"))?;
        tracing::info!(authorities = next.authorities.len(), "certificate renewed");
        Ok(next)
    }

    fn secret(&self, chain: &Chain, old: Option<Secret>) -> Secret {
        let mut secret = old.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.args.certificate_secret.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    crate::NAME.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        });
        // Texts and numbers alone: it cannot fail.
        let state = serde_json::to_vec(chain).unwrap_or_default();
        secret.data = Some(BTreeMap::from([
            (STATE.to_owned(), ByteString(state)),
            (BUNDLE.to_owned(), ByteString(chain.bundle().into_bytes())),
        ]));
        secret
    }

    /// Puts the bundle into both configurations, wherever it is not there yet.
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
        let name = &self.args.configuration;
        let api = |what| move |source| RotationError::Api { what, source };
        let configurations = Api::<K>::all(self.client.clone());
        let found = configurations
            .get_opt(name)
            .await
            .map_err(api("a webhook configuration cannot be read"))?
            .ok_or_else(|| RotationError::NoConfiguration {
                kind: K::KIND,
                name: name.clone(),
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

fn stored(secret: &Secret) -> Option<Chain> {
    let state = secret.data.as_ref()?.get(STATE)?;
    serde_json::from_slice(&state.0).ok()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
